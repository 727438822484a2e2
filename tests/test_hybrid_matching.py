"What only guards: assignments against brute force, prices against losses, and what breaks trainings."

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seglab.core import IGNORE
from seglab.hybrid.matching import (
    LOSSES,
    fixed_loss,
    mask_losses,
    match,
    matched_loss,
    prices,
    semantic_loss,
)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    "Two pictures of 32 pixels: one with three rectangles of two classes, one with nothing."
    objects = torch.zeros(2, 4, 32, 32, dtype=torch.bool)
    objects[0, 0, 2:12, 3:9] = objects[0, 1, 15:30, 10:20] = objects[0, 3, 4:9, 20:31] = True
    classes = torch.tensor([[0, 1, -1, 0], [-1, -1, -1, -1]])
    labels = (objects * (classes + 1)[..., None, None]).amax(dim=1)
    labels[:, :, 31] = IGNORE
    return dict(objects=objects, classes=classes, labels=labels)


def answers(
    seed: int, layers: int = 3, classes: int = 2, semantic: bool = True
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(layers, 2, 6, classes + 1, generator=generator, requires_grad=True)
    masks = torch.randn(layers, 2, 6, 8, 8, generator=generator, requires_grad=True)
    out = dict(deep_logits=logits, deep_masks=masks, pred_logits=logits[-1], pred_masks=masks[-1])
    if semantic:
        out["semantic"] = torch.randn(2, classes, 32, 32, generator=generator, requires_grad=True)
    return out


@pytest.mark.parametrize("seed", range(5))
def test_no_other_assignment_is_cheaper(seed: int) -> None:
    price = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(seed))
    _, query, slot = match(price, torch.zeros(1, 3, dtype=torch.int64))
    cheapest = min(
        sum(price[0, q, n] for n, q in enumerate(chosen)) for chosen in permutations(range(5), 3)
    )
    assert sorted(slot.tolist()) == [0, 1, 2]
    assert price[0, query, slot].sum() == pytest.approx(cheapest.item(), abs=1e-6)


def test_empty_slots_are_matched_with_nothing() -> None:
    classes = torch.tensor([[-1, 0, -1], [-1, -1, -1]])
    picture, query, slot = match(torch.rand(2, 5, 3), classes)
    assert (picture.tolist(), slot.tolist(), len(query)) == ([0], [1], 1)


def test_prices_are_the_losses_of_pairs_where_pixels_are_ignored(batch: dict) -> None:
    out = answers(0)
    objects = F.adaptive_avg_pool2d(batch["objects"].float(), 8) > 0.5
    valid = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    valid[..., :3] = False
    logits, masks = out["pred_logits"], out["pred_masks"]
    price = prices(logits, masks, objects, batch["classes"], valid)
    for n, kind in enumerate(batch["classes"][0].tolist()):
        entropy, dice = mask_losses(
            masks[0], objects[0, n].expand(6, 8, 8), valid[0].expand(6, 8, 8)
        )
        wanted = -2 * logits[0].softmax(-1)[:, kind] + 5 * entropy + 5 * dice
        assert kind < 0 or torch.allclose(price[0, :, n], wanted, atol=1e-4)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_query_is_nobodys_choice(batch: dict, broken: float) -> None:
    out = answers(1)
    masks = out["pred_masks"].detach().clone()
    masks[0, 2] = broken
    objects = F.adaptive_avg_pool2d(batch["objects"].float(), 8) > 0.5
    price = prices(
        out["pred_logits"], masks, objects, batch["classes"], torch.ones(2, 1, 8, 8).bool()
    )
    assert price.isfinite().all()
    assert 2 not in match(price, batch["classes"])[1][:3].tolist()


def test_more_objects_than_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="holds 3 objects, the network has 2 queries.*`queries`"):
        match(torch.rand(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64))


def test_fixed_loss_is_the_straightforward_one(batch: dict) -> None:
    out = answers(2)
    losses = fixed_loss(out, batch)
    masks = F.interpolate(out["pred_masks"], (32, 32), mode="bilinear", align_corners=False)
    target = torch.zeros_like(masks)
    target[:, 0] = (batch["labels"] > 0) & (batch["labels"] < IGNORE)
    wrong = F.binary_cross_entropy_with_logits(masks, target, reduction="none")[..., :31]
    assert losses["mask"].item() == pytest.approx(wrong.mean().item(), rel=1e-5)
    classes = torch.full((2, 6), 2)
    classes[0, 0] = 0  # the second picture is empty: its query 0 is nothing as well
    wanted = F.cross_entropy(out["pred_logits"].transpose(1, 2), classes)
    assert losses["class"].item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("rule", LOSSES)
def test_ignored_pixels_teach_nothing(batch: dict, rule: str) -> None:
    out = answers(3)
    before = LOSSES[rule](out, batch)
    changed = batch["objects"].clone()
    changed[0, 1, :, 31] = True  # where labels say ignore
    after = LOSSES[rule](out, batch | dict(objects=changed))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_batch_without_objects_has_no_mask_loss_and_a_gradient(batch: dict) -> None:
    empty = dict(
        objects=torch.zeros(2, 4, 32, 32, dtype=torch.bool),
        classes=torch.full((2, 4), -1),
        labels=torch.zeros(2, 32, 32, dtype=torch.int64),
    )
    out = answers(4)
    losses = matched_loss(out, empty)
    assert losses["mask"] == 0 and losses["dice"] == 0
    sum(losses.values()).backward()
    assert out["deep_logits"].grad.abs().sum() > 0 and out["deep_logits"].grad.isfinite().all()


def test_every_layer_is_taught(batch: dict) -> None:
    out = answers(5)
    sum(matched_loss(out, batch).values()).backward()
    assert (out["deep_masks"].grad.flatten(1).abs().sum(dim=1) > 0).all()
    assert (out["deep_logits"].grad.flatten(1).abs().sum(dim=1) > 0).all()
    assert out["semantic"].grad[..., 31].abs().sum() == 0, "ignored"


def test_one_layer_alone_is_enough(batch: dict) -> None:
    out = answers(6, layers=1)
    single = {name: value for name, value in out.items() if not name.startswith("deep")}
    assert matched_loss(out, batch) == matched_loss(single, batch)


def test_semantic_loss_by_hand() -> None:
    # one picture, two classes, two pixels; undecided everywhere: log 2, and Dice 1 - 2 / (1 + 1 + 1)
    labels = torch.tensor([[[1, 2]]])
    loss = semantic_loss(torch.zeros(1, 2, 1, 2), labels)["semantic"]
    assert loss.item() == pytest.approx(5 * (0.693147 + 1 - (2 * 0.5 + 1) / 3), rel=1e-5)
