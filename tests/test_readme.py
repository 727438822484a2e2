"README.md says what nbs/index.ipynb says, and every page is listed and linked where it lies."

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import nbformat
import pytest


@pytest.fixture(scope="module")
def maker(repository: Path) -> ModuleType:
    "The script that makes the README."
    spec = importlib.util.spec_from_file_location("readme", repository / ".ci" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_has_not_drifted_from_the_index(maker: ModuleType, repository: Path) -> None:
    text, pictures = maker.readme(repository / "nbs" / "index.ipynb")
    assert (repository / "README.md").read_text(encoding="utf-8") == text, "call `make readme`"
    for name, content in pictures.items():
        assert (repository / name).read_bytes() == content, f"{name}: call `make readme`"
    stored = {str(p.relative_to(repository)) for p in (repository / "nbs/index_files").glob("*")}
    assert stored == set(pictures), "a picture nobody shows, or one that is missing"


def test_a_changed_index_changes_the_readme(
    maker: ModuleType, repository: Path, tmp_path: Path
) -> None:
    notebook = nbformat.read(repository / "nbs" / "index.ipynb", as_version=4)
    notebook.cells[0].source += "\n\nSee [core](00_core.ipynb) and [it](https://x.org/a.ipynb)."
    notebook.cells.append(nbformat.v4.new_code_cell("#| hide\nsecret = 1"))
    notebook.cells.append(nbformat.v4.new_code_cell("#| echo: false\nquiet = 2"))
    notebook.cells.append(nbformat.v4.new_code_cell("#| eval: false\nloud = 3"))
    (tmp_path / "nbs").mkdir()
    nbformat.write(notebook, tmp_path / "nbs" / "index.ipynb")
    text, _ = maker.readme(tmp_path / "nbs" / "index.ipynb")
    assert "[core](nbs/00_core.ipynb)" in text and "[it](https://x.org/a.ipynb)" in text
    assert "```python\nloud = 3\n```" in text
    assert "secret" not in text and "quiet" not in text and "#|" not in text


def test_the_commands_come_first_and_exist(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"^(\w+):", (repository / "Makefile").read_text(encoding="utf-8"), re.M)
    named = re.findall(r"^ +make (\w+)", text, re.M)
    assert named[:2] == ["demo", "lab"] and set(named) <= set(targets)
    assert text.index("make demo") < text.index("pip install") < text.index("\n## ")


def test_every_page_is_linked(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    pages = [p.relative_to(repository).as_posix() for p in (repository / "nbs").rglob("*.ipynb")]
    pages = [p for p in pages if "/." not in p and "/_" not in p]
    missing = [page for page in pages if f"]({page})" not in text]
    assert not missing, f"run nbs/index.ipynb again, then `make readme`: {missing}"
