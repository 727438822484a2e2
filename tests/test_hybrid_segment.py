"What only guards: classes, ties, thresholds and shapes on the way from queries to masks."

from pathlib import Path

import pytest
import torch
from torch import Tensor

from seglab.hybrid.segment import (
    find_instances,
    number_map,
    save_segmented_image,
    segment_class_on_image,
)
from seglab.io import read_alpha, read_image


def box(top: int, left: int, bottom: int, right: int, logit: float = 4.0) -> Tensor:
    mask = torch.full((24, 24), -logit)
    mask[top:bottom, left:right] = logit
    return mask


def test_two_classes_in_one_place_are_two_objects() -> None:
    masks = torch.stack([box(2, 2, 12, 12), box(2, 2, 12, 12), box(3, 2, 12, 12)])
    logits = torch.tensor([[5.0, 0, 0], [0, 4.0, 0], [3.0, 0, 0]])
    found = find_instances(logits, masks)
    assert [(each.number, each.label) for each in found] == [(0, 0), (1, 1)]


def test_nothing_at_all_is_an_answer() -> None:
    found = find_instances(torch.tensor([[0.0, 5.0]]), torch.zeros(1, 24, 24))
    assert found == [] and not number_map(found, (24, 24)).any()


@pytest.mark.parametrize("logits", [torch.full((1, 2), torch.nan), torch.tensor([[9.0, 0.0]])])
def test_an_answer_that_is_no_number_finds_nothing(logits: Tensor) -> None:
    assert find_instances(logits, torch.full((1, 24, 24), torch.nan)) == []


def test_specks_are_left_out() -> None:
    logits = torch.tensor([[5.0, 0.0]])
    assert find_instances(logits, box(0, 0, 2, 4)[None]) == []
    assert find_instances(logits, box(0, 0, 2, 4)[None], smallest=8)[0].box == (0, 0, 2, 4)


def test_a_crisp_mask_ranks_before_a_vague_one() -> None:
    masks = torch.stack([box(0, 0, 6, 6, 0.5), box(10, 10, 20, 20, 6)])
    found = find_instances(torch.tensor([[5.0, 0.0], [4.0, 0.0]]), masks)
    assert [each.number for each in found] == [1, 0] and found[0].score > found[1].score


@pytest.mark.parametrize("combine", ["max", "mean"])
def test_a_class_is_cut_out_as_the_seed_did(combine: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(1, 9, 4, generator=generator)
    masks = torch.randn(1, 9, 16, 20, generator=generator)
    image = torch.rand(3, 16, 20, generator=generator)
    probs = logits[0].softmax(-1)[:, :-1]  # the seed's lines, written down again
    kept = masks[0, probs[:, 1] > 0.3].sigmoid()
    wanted = (kept.amax(0) if combine == "max" else kept.mean(0)) > 0.5
    outputs = dict(pred_logits=logits, pred_masks=masks)
    found, mask = segment_class_on_image(outputs, image[None], 1, 0.3, combine=combine)
    assert torch.equal(mask, wanted) and torch.equal(found, image * wanted)
    inverted = segment_class_on_image(outputs, image, 1, 0.3, invert=True, combine=combine)
    assert torch.equal(inverted.mask, ~wanted)


@pytest.mark.parametrize("class_id", [-1, 3])
def test_a_class_that_is_not_there_is_named(class_id: int) -> None:
    outputs = dict(pred_logits=torch.zeros(1, 2, 4), pred_masks=torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match=f"class_id: must be 0 to 2, got {class_id}"):
        segment_class_on_image(outputs, torch.zeros(3, 8, 8), class_id)


def test_masks_of_another_size_are_refused() -> None:
    outputs = dict(pred_logits=torch.zeros(1, 2, 2), pred_masks=torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match="pred_masks: axis H must be 9"):
        segment_class_on_image(outputs, torch.zeros(3, 9, 8))


def test_nobody_found_is_empty_also_when_inverted() -> None:
    outputs = dict(pred_logits=torch.tensor([[[0.0, 9.0]]]), pred_masks=torch.ones(1, 1, 8, 8))
    found = segment_class_on_image(outputs, torch.ones(3, 8, 8), invert=True)
    assert not found.found and not found.image.any()


@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 3, 6, 5), (6, 5)])
def test_any_usual_shape_is_saved(shape: tuple[int, ...], tmp_path: Path) -> None:
    image = torch.full(shape, 1.5)
    image[..., 0, 0] = -1
    save_segmented_image(image, tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").flatten(1).aminmax().min == 0
    mask = torch.zeros(6, 5, dtype=torch.bool)
    mask[2:4, 1:3] = True
    save_segmented_image(image, tmp_path / "b.png", mask)
    assert torch.equal(read_alpha(tmp_path / "b.png")[0] == 1, mask)
