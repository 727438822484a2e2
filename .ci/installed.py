"""Exit with 0 if this interpreter's environment holds this checkout and all that settings.ini asks for.

Lets `make` accept an environment somebody else made, without asking the network.
"""

import sys
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]


def settings() -> dict[str, str]:
    "The DEFAULT section of settings.ini."
    parser = ConfigParser(delimiters=["="])
    parser.read(HERE / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def installed() -> bool:
    "Whether seglab is imported from this checkout and every requirement is met."
    from packaging.requirements import Requirement

    sys.path = [p for p in sys.path if Path(p or ".").resolve() not in (HERE, HERE / ".ci")]
    found = find_spec("seglab")
    if found is None or Path(found.origin or "").resolve().parents[1] != HERE:
        return False
    asked = settings()
    if distribution("seglab").version != asked["version"]:
        return False
    wanted = map(Requirement, (asked["requirements"] + " " + asked["dev_requirements"]).split())
    return all(version(r.name) in r.specifier for r in wanted)


if __name__ == "__main__":
    try:
        sys.exit(not installed())
    except (ImportError, PackageNotFoundError):
        sys.exit(1)
