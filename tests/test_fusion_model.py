"Fusion networks: sets of slots, empty slots, sizes, gradients, costs, refusals."

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode

from seglab import checkpoints
from seglab.core import ConfigError
from seglab.fusion.data import dataset
from seglab.fusion.encdec import AmodalFusionTransformer, EncoderDecoderConfig
from seglab.fusion.model import FusionConfig, SlotFusionTransformer, preset
from seglab.fusion.slots import FusionInput, FusionOutput, count_copies, stack_logits

NAMES = FusionInput._fields
SLOTS = ("completions", "alphas", "valid")
SEED = EncoderDecoderConfig(4, True, 16, 4, 2, 2, hidden=32)


@pytest.fixture(scope="module")
def batch() -> dict[str, Tensor]:
    "Two drawn scenes, one of them with an empty slot."
    samples = dataset("val", "drawn", side=32, slots=4)
    batch = default_collate([samples[0], samples[1]])
    batch["valid"][1, 3] = False
    return batch


@pytest.fixture(scope="module")
def slots() -> SlotFusionTransformer:
    torch.manual_seed(0)
    return SlotFusionTransformer(preset("tiny")).eval()


@pytest.fixture(scope="module")
def seeds() -> AmodalFusionTransformer:
    torch.manual_seed(0)
    return AmodalFusionTransformer(SEED).eval()


@torch.no_grad()
def ask(network: torch.nn.Module, batch: dict[str, Tensor], **changed: Tensor) -> FusionOutput:
    return network(*[changed.get(name, batch[name]) for name in NAMES])


def pick(batch: dict[str, Tensor], numbers: list[int]) -> dict[str, Tensor]:
    return {name: batch[name][:, numbers] for name in SLOTS}


def test_slots_that_change_places_take_their_answers_along(slots, batch) -> None:
    turn = [3, 1, 0, 2]
    one, other = ask(slots, batch), ask(slots, batch, **pick(batch, turn))
    assert (other.weights[:, :4] - one.weights[:, turn]).abs().max() < 1e-5
    assert (other.order - one.order[:, turn][:, :, turn]).abs().max() < 1e-5
    assert (other.fused - one.fused).abs().max() < 1e-5


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_any_number_of_slots_is_welcome(slots, batch, count: int) -> None:
    out = ask(slots, batch, **pick(batch, [i % 4 for i in range(count)]))
    assert out.weights.shape[1] == count + 1 and out.order.shape[1:] == (count, count)
    assert torch.allclose(out.weights.sum(1), torch.ones(2, 32, 32), atol=1e-5)


def test_a_copy_shares_its_weight_and_changes_nothing_else(slots, batch) -> None:
    one, twice = ask(slots, batch), ask(slots, batch, **pick(batch, [0, 1, 2, 3, 0]))
    assert (twice.fused - one.fused).abs().max() < 1e-4
    assert (twice.weights[:, 0] - one.weights[:, 0] / 2).abs().max() < 1e-4
    assert (twice.order[:, :4, :4] - one.order).abs().max() < 1e-4


def test_copies_are_counted_among_valid_slots_only() -> None:
    completions = torch.rand(1, 3, 3, 8, 8)
    completions[:, 2] = completions[:, 0]
    same, votes = count_copies(completions, torch.tensor([[True, True, True]]))
    assert votes.tolist() == [[0.5, 1.0, 0.5]] and same[0, 0].tolist() == [True, False, True]
    votes = count_copies(completions, torch.tensor([[True, True, False]]))[1]
    assert votes.tolist() == [[1.0, 1.0, 0.0]]


@pytest.mark.parametrize("kind", ["slots", "seeds"])
def test_an_empty_slot_weighs_nothing_whatever_it_holds(kind, batch, request) -> None:
    network = request.getfixturevalue(kind)
    noise, opacity = batch["completions"].clone(), batch["alphas"].clone()
    noise[1, 3], opacity[1, 3] = torch.nan, 1
    one, other = ask(network, batch), ask(network, batch, completions=noise, alphas=opacity)
    assert (one.weights[1, 3] == 0).all()
    assert torch.equal(one.fused, other.fused) and torch.equal(one.weights, other.weights)


@pytest.mark.parametrize("kind", ["slots", "seeds"])
def test_without_any_object_the_background_fills_the_hole(kind, batch, request) -> None:
    nobody = torch.zeros_like(batch["valid"])
    out = ask(request.getfixturevalue(kind), batch, valid=nobody)
    assert torch.equal(out.fused, batch["backdrop"]) and torch.equal(
        out.residual_mask, batch["mask"]
    )


def test_the_seeds_network_without_background_still_answers_where_all_is_empty(batch) -> None:
    network = AmodalFusionTransformer(replace(SEED, background=False)).eval()
    assert (ask(network, batch).weights[:, -1] == 0).all()
    out = ask(network, batch, valid=torch.zeros_like(batch["valid"]))
    assert torch.equal(out.fused, batch["backdrop"])


@pytest.mark.parametrize("kind", ["slots", "seeds"])
def test_every_weight_learns(kind, batch, request) -> None:
    network = request.getfixturevalue(kind).train()
    network.zero_grad()
    out = network(*[batch[name] for name in NAMES])
    loss = (out.input_image - batch["target"]).abs().mean() + out.weights.square().mean()
    (
        loss if out.order_logits is None else loss + out.order_logits.sigmoid()[:, 0, 1].mean()
    ).backward()
    network.eval()
    idle = [
        name
        for name, each in network.named_parameters()
        if each.grad is None or not each.grad.any()
    ]
    assert not idle


@pytest.mark.parametrize("kind", ["slots", "seeds"])
@pytest.mark.parametrize("size", [(27, 31), (8, 9)])
def test_every_size_is_answered_at_its_own_size(kind, size, batch, request) -> None:
    cut = {
        name: batch[name][..., : size[0], : size[1]] for name in NAMES if name != "valid"
    } | dict(valid=batch["valid"])
    out = request.getfixturevalue(kind)(*[cut[name] for name in NAMES])
    assert out.weights.shape[-2:] == size and torch.isfinite(out.fused).all()


@pytest.mark.parametrize("size", [(16, 16), (27, 31)])
def test_without_any_slot_the_backdrop_fills_the_hole(slots, batch, size) -> None:
    none = batch | pick(batch, [])
    cut = {name: x[..., : size[0], : size[1]] for name, x in none.items() if name in NAMES}
    out = ask(slots, cut, valid=none["valid"])
    assert torch.equal(out.fused, cut["backdrop"])


def test_pictures_of_a_batch_do_not_see_each_other(slots, batch) -> None:
    alone = ask(slots, {name: batch[name][1:] for name in NAMES})
    assert (alone.weights[0] - ask(slots, batch).weights[1]).abs().max() < 1e-5


def test_a_hole_that_is_everything_is_allowed(slots, batch) -> None:
    whole = ask(slots, batch, mask=torch.ones_like(batch["mask"]))
    assert torch.isfinite(whole.weights).all() and torch.isfinite(whole.order).all()


def test_a_certain_order_hides_what_is_behind() -> None:
    alphas = torch.ones(1, 2, 1, 4, 4)
    logits = stack_logits(
        alphas,
        torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]),
        torch.eye(2).bool()[None],
        torch.ones(1, 2),
    )
    assert logits.softmax(1)[0, :, 0, 0].tolist() == pytest.approx([1, 0.001, 0], abs=2e-3)


def test_order_is_antisymmetric(slots, batch) -> None:
    order = ask(slots, batch).order
    assert torch.allclose(order + order.mT, torch.ones_like(order), atol=1e-5)


def count_work(network: torch.nn.Module, slots: int, side: int) -> float:
    "10⁹ operations for one picture."
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            network.to("meta").eval().requires_grad_(False)(
                torch.empty(1, 3, side, side),
                torch.empty(1, 1, side, side, dtype=torch.bool),
                torch.empty(1, slots, 3, side, side),
                torch.empty(1, slots, 1, side, side),
                torch.empty(1, slots, dtype=torch.bool),
                torch.empty(1, 3, side, side),
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return counter.get_total_flops() / 1e9


def test_costs_are_those_of_the_specification() -> None:
    ours, theirs = (
        SlotFusionTransformer(preset("small")),
        AmodalFusionTransformer(EncoderDecoderConfig()),
    )
    assert sum(x.numel() for x in ours.parameters()) <= 0.21e6
    assert sum(x.numel() for x in theirs.parameters()) / 1e6 == pytest.approx(11.6, abs=0.05)
    assert count_work(ours, 5, 256) <= 25
    assert count_work(theirs, 5, 256) == pytest.approx(155.9, rel=0.02)


@pytest.mark.parametrize("kind", ["slots", "seeds"])
def test_it_comes_back_from_disk(kind, batch, request, tmp_path) -> None:
    network = request.getfixturevalue(kind)
    again = checkpoints.load(checkpoints.save(network, tmp_path / "net.safetensors")).eval()
    assert again.config == network.config
    assert torch.equal(ask(again, batch).weights, ask(network, batch).weights)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FusionConfig(widths=(8, 8)), "three multiples of 4"),
        (lambda: FusionConfig(widths=(8, 8, 18)), "three multiples of 4"),
        (lambda: FusionConfig(heads=5), "heads: 5"),
        (lambda: preset("smal"), "small"),
        (lambda: EncoderDecoderConfig(width=30), "width: 30"),
        (lambda: EncoderDecoderConfig(slots=0), "at least 1"),
    ],
)
def test_impossible_sizes_are_refused(make: Callable, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_bad_input_is_refused(slots, seeds, batch) -> None:
    with pytest.raises(ValueError, match="alphas"):
        ask(slots, batch, alphas=batch["alphas"][:, :3])
    with pytest.raises(ValueError, match="must be bool"):
        ask(slots, batch, mask=batch["mask"].float())
    with pytest.raises(ConfigError, match="made for 4, got 3"):
        ask(seeds, batch, **pick(batch, [0, 1, 2]))
