"Schedules against PyTorch's own; groups that forget nothing."

import pytest
import torch
from torch import nn

from seglab.core import ConfigError
from seglab.rates import SCHEDULES, parameter_groups, plateau_factor, rate_factor


def rates(schedule):
    result = []
    for _ in range(100):
        result.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return torch.tensor(result, dtype=torch.float64)


def test_schedules_equal_those_of_pytorch():
    def sgd():
        return torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)

    references = {
        ("cosine", 0): torch.optim.lr_scheduler.CosineAnnealingLR(sgd(), 100),
        ("linear", 0): torch.optim.lr_scheduler.LinearLR(sgd(), 1.0, 0.0, 100),
        ("milestones", 0): torch.optim.lr_scheduler.MultiStepLR(sgd(), [30, 70], 0.1),
        ("constant", 10): torch.optim.lr_scheduler.LinearLR(sgd(), 0.1, 1.0, 9),
    }
    for (name, warmup), reference in references.items():
        factor = rate_factor(name, 100, warmup, (30, 70))
        ours = torch.tensor([factor(step) for step in range(100)], dtype=torch.float64)
        assert torch.allclose(ours, rates(reference), atol=1e-9), name


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 1, 5, 50, 500])
def test_factors_stay_in_range_beyond_the_end(name, warmup):
    factor = rate_factor(name, 50, warmup, (10,), 0.5)
    assert all(0 <= factor(step) <= 1 for step in range(700))
    assert warmup == 0 or factor(0) == pytest.approx(1 / warmup)


def test_a_plateau_is_left_downwards():
    assert plateau_factor([]) == plateau_factor([1.0] + 5 * [2.0]) == 1
    assert plateau_factor([1.0] + 6 * [2.0]) == 0.5, "the sixth epoch in vain is one too many"
    assert plateau_factor([1.0] + 6 * [1.0 - 1e-6]) == 0.5, "hardly better is no better"
    assert plateau_factor([1.0] + 5 * [2.0] + [0.9] + 5 * [2.0]) == 1, "a better one starts anew"
    assert plateau_factor([1.0] + 4 * [float("nan")], patience=1, gamma=0.1) == pytest.approx(0.01)
    assert plateau_factor([1.0, 2.0, 3.0], patience=0, higher_is_better=True) == 1
    assert plateau_factor([1.0, 2.0, 3.0], patience=0) == 0.25


def model():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MultiheadAttention(4, 2))
    net.codes = nn.Parameter(torch.zeros(1, 5, 4))
    return net


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_every_trainable_parameter_is_in_one_group(layer_decay):
    net = model()
    net[0].bias.requires_grad_(False)
    groups = parameter_groups(
        net.named_parameters(), 0.1, 0.3, layer_decay, lambda name: len(name) % 3
    )
    grouped = [p for group in groups for p in group["params"]]
    wanted = [p for p in net.parameters() if p.requires_grad]
    assert len(grouped) == len(wanted) and {id(p) for p in grouped} == {id(p) for p in wanted}
    torch.optim.AdamW(groups)  # accepts them


def test_only_matrices_decay():
    groups = parameter_groups(model().named_parameters(), 0.1, 0.3)
    decay = {name: group["weight_decay"] for group in groups for name in group["names"]}
    assert {name for name, value in decay.items() if value} == {
        "0.weight",
        "2.in_proj_weight",
        "2.out_proj.weight",
    }


def test_parts_may_learn_at_a_share_of_their_layer_s_rate():
    def layer_of(name):
        return 1 if name.startswith("2.") else 0

    groups = parameter_groups(
        model().named_parameters(), 0.1, 0.0, 0.5, layer_of, lambda n: 0.1 if "bias" in n else 1.0
    )
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    for name, rate in rates.items():
        share = 0.1 if "bias" in name else 1.0
        assert rate == pytest.approx(0.1 * share * (1.0 if name.startswith("2.") else 0.5)), name


@pytest.mark.parametrize("layer", [None, -1, "0", 1.5])
def test_an_unknown_layer_is_named(layer):
    with pytest.raises(ConfigError, match="no layer for codes"):
        parameter_groups(
            model().named_parameters(),
            0.1,
            layer_decay=0.5,
            layer_of=lambda name: layer if name == "codes" else 0,
        )


def test_refusals():
    with pytest.raises(ConfigError, match="layer_of"):
        parameter_groups(model().named_parameters(), 0.1, layer_decay=0.5)
    with pytest.raises(ConfigError, match="no trainable"):
        parameter_groups(model().requires_grad_(False).named_parameters(), 0.1)
    with pytest.raises(ConfigError, match="unknown schedule 'step'"):
        rate_factor("step", 10)
