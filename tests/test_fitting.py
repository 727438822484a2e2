"What every system's `fit` shares; the rest is tested with the systems."

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from seglab.core import ConfigError
from seglab.fitting import choose_precision, fit_network
from seglab.train import TrainConfig


def test_half_precision_stays_off_without_a_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.warns(UserWarning, match="fp16 needs a GPU, computing in float32"):
        assert choose_precision("fp16") == "no"
    assert choose_precision("no") == "no"


def test_nothing_is_learnt_without_a_place_to_write() -> None:
    @dataclass(frozen=True)
    class Asked:
        run_folder: str = ""

    def step(network: nn.Module, batch: dict) -> dict:
        raise AssertionError("it started")

    loaders = DataLoader([1]), DataLoader([1])
    with pytest.raises(ConfigError, match="run_folder: say where to write"):
        fit_network(nn.Linear(1, 1), step, loaders, TrainConfig(), Asked(), step)
