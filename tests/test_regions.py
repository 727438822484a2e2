"Scores of label maps: against scikit-learn's definitions by hand, and in the corners."

import pytest
import torch

from seglab.regions import boundary_f, class_iou, confusion, mean_iou, pixel_accuracy


def test_the_table_equals_counting_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    labels, target = torch.randint(5, (2, 3, 20, 30), generator=generator)
    target[0, :4] = 255
    counts = confusion(labels, target, classes=5)
    for picture in range(3):
        for true in range(5):
            for decided in range(5):
                by_hand = ((target[picture] == true) & (labels[picture] == decided)).sum()
                assert counts[picture, true, decided] == by_hand


def test_scores_of_a_known_table() -> None:
    counts = torch.tensor([[[6, 2, 0], [1, 11, 0], [0, 0, 0]]])
    assert class_iou(counts)[0, :2].tolist() == pytest.approx([6 / 9, 11 / 14])
    assert class_iou(counts)[0, 2].isnan()
    assert mean_iou(counts).item() == pytest.approx((6 / 9 + 11 / 14) / 2)
    assert pixel_accuracy(counts).item() == pytest.approx(17 / 20)


def test_nothing_counted_is_nan() -> None:
    labels, target = torch.zeros(1, 4, 4, dtype=torch.int64), torch.full((1, 4, 4), 255)
    counts = confusion(labels, target, classes=2)
    assert counts.sum() == 0 and mean_iou(counts).isnan() and pixel_accuracy(counts).isnan()


@pytest.mark.parametrize("which", ["labels", "target"])
def test_an_unknown_class_is_named(which: str) -> None:
    maps = dict(labels=torch.zeros(1, 4, 4, dtype=torch.int64))
    maps["target"] = maps["labels"].clone()
    maps[which][0, 1, 1] = 9
    with pytest.raises(ValueError, match=f"{which}: class 9 is not one of the 3 classes"):
        confusion(**maps, classes=3)


def test_maps_of_two_sizes_are_refused() -> None:
    flat = torch.zeros(1, 4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="target: axis W must be 4"):
        confusion(flat, flat[:, :, :3], classes=2)


def square(top: int, left: int, side: int = 20) -> torch.Tensor:
    mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    mask[..., top : top + side, left : left + side] = True
    return mask


def test_an_outline_may_be_off_by_the_radius_and_no_more() -> None:
    assert boundary_f(square(20, 22), square(20, 20)) == 1
    # moved by 3: of 76 outline pixels, those of the upper and lower edge still lie on each other
    f = boundary_f(square(20, 23), square(20, 20)).item()
    assert 0.45 < f < 0.65


def test_the_picture_s_border_is_no_outline() -> None:
    full = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    assert boundary_f(full, full).isnan()
    half = full.clone()
    half[..., 32:] = False
    assert boundary_f(full, half) == 0 and boundary_f(half, half) == 1


def test_what_nobody_labelled_has_no_outline() -> None:
    target, ignore = square(20, 20), torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    ignore[..., 32:] = True
    spoilt = target.clone()
    spoilt[..., 36:, 36:] ^= True
    assert boundary_f(spoilt, target) < 1 and boundary_f(spoilt, target, ignore=ignore) == 1
