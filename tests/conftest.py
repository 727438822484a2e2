"Fixtures every test may use, and the two switches that keep libraries off the network."

import os
from pathlib import Path

import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    "The checkout."
    return REPOSITORY


@pytest.fixture(scope="session")
def parity() -> Path:
    "The folder of fixtures made by running the original programs; tests skip where it is absent."
    folder = Path(os.environ.get("SEGLAB_PARITY", REPOSITORY.parent / "shared" / "parity"))
    if not folder.is_dir():
        pytest.skip(
            f"no parity fixtures at {folder}; set SEGLAB_PARITY to the folder that holds them"
        )
    return folder
