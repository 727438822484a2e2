"Seeds that repeat, and guards that let only sound numbers through."

import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

from seglab.core import ConfigError
from seglab.guards import (
    checked_sum,
    demand_columns,
    demand_finite,
    demand_gradients,
    mix_seeds,
    seed_epoch,
)


def test_shuffling_depends_on_seed_and_epoch_not_on_process():
    orders = set()
    for epoch in (1, 2):
        for process in (0, 1):
            loader = DataLoader(range(20), batch_size=20, shuffle=True)
            seed_epoch(loader, 5, epoch, process)
            orders.add(tuple(next(iter(loader)).tolist()))
    assert len(orders) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_global_generators_and_workers_repeat(workers):
    class Drawn:
        def __len__(self):
            return 6

        def __getitem__(self, index):
            return torch.rand(1) + np.random.rand() * 10

    def draw(epoch, process=0):
        loader = DataLoader(Drawn(), batch_size=3, num_workers=workers)
        seed_epoch(loader, 0, epoch, process)
        return torch.cat(list(loader)).flatten().tolist()

    assert draw(1) == draw(1) and draw(1) != draw(2) and draw(1) != draw(1, process=1)


@pytest.mark.parametrize(
    ("losses", "scores", "named"),
    [(["l1", "front"], ["iou", "l1"], "l1"), (["loss"], [], "loss"), ([], ["lr", "iou"], "lr")],
)
def test_columns_of_one_name_are_refused(losses, scores, named):
    with pytest.raises(ConfigError, match=f"^{named}: would be two columns of the history"):
        demand_columns(losses, scores)


def test_a_weighted_sampler_without_generator_is_seeded():
    def order():
        sampler = WeightedRandomSampler(torch.arange(1.0, 30), 20)
        seed_epoch(DataLoader(range(29), sampler=sampler), 0, 3)
        return list(sampler)

    assert order() == order()


def test_mixed_seeds_do_not_collide():
    assert (
        len({mix_seeds(a, b, c) for a in range(10) for b in range(10) for c in range(10)}) == 1000
    )


def test_sum_of_losses_is_float32_and_has_a_gradient():
    weight = torch.tensor(2.0, requires_grad=True)
    total = checked_sum(dict(a=weight.bfloat16() * 3, b=weight))
    total.backward()
    assert total.dtype == torch.float32 and total.item() == 8 and weight.grad.item() == 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_named(tmp_path, value):
    values = {"loss 'a'": torch.tensor(1.0), "loss 'b'": torch.tensor(value)}
    batch = dict(image=torch.ones(1, requires_grad=True), name=["x"])
    with pytest.raises(
        FloatingPointError, match=r"^loss 'b' is -?(nan|inf) in here: give the run a folder"
    ):
        demand_finite(values, batch, "here")
    with pytest.raises(FloatingPointError, match="nan_batch_2.pt"):
        demand_finite(values, batch, "here", tmp_path, process=2)
    assert torch.load(tmp_path / "nan_batch_2.pt", weights_only=True)["name"] == ["x"]
    demand_finite(dict(a=torch.tensor(1.0)), batch, "here", tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_frozen_parameters_need_no_gradient():
    net = torch.nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    net.weight.grad = torch.zeros(2, 2)
    demand_gradients(net)
    net.bias.requires_grad_(True)
    with pytest.raises(ValueError, match="no gradient reaches bias:"):
        demand_gradients(net)
