"What every system's `fit` shares; the rest is tested with the systems."

from dataclasses import dataclass
from pathlib import Path

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


@pytest.mark.parametrize("score", [0.5, torch.nan])
def test_the_best_network_is_written_if_any_epoch_has_a_score(score: float, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Asked:
        run_folder: str = str(tmp_path)

    class Line(nn.Linear):
        config = Asked()

    def step(network: nn.Module, batch: torch.Tensor) -> dict:
        return dict(error=network(batch).square().mean())

    def measure(network: nn.Module, batch: torch.Tensor) -> dict:
        return dict(skill=torch.full((len(batch),), score))

    loaders = DataLoader(torch.ones(2, 1)), DataLoader(torch.ones(2, 1))
    plan = TrainConfig(epochs=1, best="skill", higher_is_better=True)
    fit_network(Line(1, 1), step, loaders, plan, Asked(), measure)
    assert (tmp_path / "last.safetensors").exists()
    assert (tmp_path / "best.safetensors").exists() == (score == score)


def test_nothing_is_learnt_without_a_place_to_write() -> None:
    @dataclass(frozen=True)
    class Asked:
        run_folder: str = ""

    def step(network: nn.Module, batch: dict) -> dict:
        raise AssertionError("it started")

    loaders = DataLoader([1]), DataLoader([1])
    with pytest.raises(ConfigError, match="run_folder: say where to write"):
        fit_network(nn.Linear(1, 1), step, loaders, TrainConfig(), Asked(), step)
