"What settings.ini declares is what gets installed, and what gets installed is seglab alone."

import shutil
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser
from email import message_from_bytes
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import seglab


@pytest.fixture(scope="module")
def settings(repository: Path) -> dict[str, str]:
    "settings.ini as nbdev and setup.py read it."
    parser = ConfigParser(delimiters=["="])
    parser.read(repository / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    "A wheel made from the source archive of a copy of the checkout, so that both are proven."
    folder = tmp_path_factory.mktemp("packaging")
    unwanted = shutil.ignore_patterns(
        ".git", ".venv*", "data", "outputs", "*.egg-info", "__pycache__"
    )
    shutil.copytree(repository, folder / "seglab", ignore=unwanted)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist")]
    result = subprocess.run([*command, str(folder / "seglab")], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(list((folder / "dist").glob("seglab-*.tar.gz"))) == 1
    (file,) = (folder / "dist").glob("seglab-*.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> dict[str, list[str]]:
    "METADATA of the wheel: every field with its values."
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    message = message_from_bytes(wheel.read(name))
    return {key: message.get_all(key) for key in set(message.keys())}


def test_a_wheel_holds_every_module_and_nothing_else(
    wheel: zipfile.ZipFile, repository: Path
) -> None:
    code = [*(repository / "seglab").rglob("*.py"), *(repository / "seglab").glob("*/static/*")]
    held = {n for n in wheel.namelist() if ".dist-info/" not in n}
    assert held == {str(path.relative_to(repository)) for path in code}


def test_a_wheel_requires_what_settings_ask_for(metadata: dict, settings: dict[str, str]) -> None:
    required = [Requirement(text) for text in metadata["Requires-Dist"]]
    always = {r.name for r in required if r.marker is None}
    dev = {r.name for r in required if r.marker and r.marker.evaluate({"extra": "dev"})}
    assert always == {Requirement(word).name for word in settings["requirements"].split()}
    assert dev == {Requirement(word).name for word in settings["dev_requirements"].split()}
    extras = {
        key.removesuffix("_requirements") for key in settings if key.endswith("_requirements")
    }
    assert set(metadata["Provides-Extra"]) == extras


def test_version_and_python_come_from_settings(metadata: dict, settings: dict[str, str]) -> None:
    assert metadata["Version"] == [settings["version"]] == [seglab.__version__]
    assert metadata["Requires-Python"] == [">=" + settings["min_python"]]


def test_the_environment_can_start_the_console_script(settings: dict[str, str]) -> None:
    (script,) = entry_points(group="console_scripts", name="seglab")
    assert settings["console_scripts"].split() == [f"seglab={script.value}"]
    assert callable(script.load())


def test_ruff_checks_for_the_oldest_python_we_allow(
    repository: Path, settings: dict[str, str]
) -> None:
    style = tomllib.loads((repository / "ruff.toml").read_text(encoding="utf-8"))
    assert style["target-version"] == "py" + settings["min_python"].replace(".", "")
