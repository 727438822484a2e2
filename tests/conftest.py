"Fixtures every test may use, and the two switches that keep libraries off the network."

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
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


@pytest.fixture
def cpu_seconds() -> Iterator[Callable[[Callable[[int], object], Iterable[int]], float]]:
    "Processor time of one core for one of several `act(seed)`, on average; the best of five rounds."

    def measure(act: Callable[[int], object], seeds: Iterable[int]) -> float:
        seeds = list(seeds)
        act(seeds[0])  # reads what is read once
        rounds = []
        for _ in range(5):  # what others do on this machine is in the worse ones
            start = time.process_time()
            for seed in seeds:
                act(seed)
            rounds.append(time.process_time() - start)
        return min(rounds) / len(seeds)

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield measure
    cv2.setNumThreads(threads)
