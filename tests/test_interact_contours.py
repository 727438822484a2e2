"The robot's contours: what it circles, and what it makes of masks that nobody can circle."

import cv2
import numpy as np
import pytest
import torch

from seglab.core import IGNORE, ConfigError
from seglab.interact.contours import (
    ContourConfig,
    draw_contours,
    find_worst,
    first_contour,
    next_contour,
    shrink,
    training_contours,
)
from seglab.interact.data import draw_masks


def disc(side: int, radius: int, place: tuple[int, int] | None = None) -> np.ndarray:
    centre = place or (side // 2, side // 2)
    return cv2.circle(np.zeros((side, side), np.uint8), centre[::-1], radius, 1, -1)


def fresh(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def overlap(line, mask: np.ndarray) -> float:
    filled = draw_masks([line], mask.shape, "contour").amax(dim=0).bool().numpy()
    return (filled & (mask > 0)).sum() / (filled | (mask > 0)).sum()


def test_lines_follow_the_object_and_the_generator():
    mask = disc(120, 40)
    lines = [first_contour(mask, fresh(seed)) for seed in range(20)]
    assert np.mean([overlap(line, mask) for line in lines]) > 0.6
    assert all(line.positive for line in lines)
    assert len({len(line.points) for line in lines}) > 5
    again = first_contour(torch.from_numpy(mask)[None], fresh(3))
    assert np.array_equal(again.points, lines[3].points)


def test_only_the_object_is_circled():
    target = disc(120, 30, (40, 40))
    target[80:, 80:] = IGNORE
    line = first_contour(target, fresh())
    assert line.points.max() < 80 and first_contour(np.full((9, 9), IGNORE), fresh()) is None


@pytest.mark.parametrize("side", [0, 64])
@pytest.mark.parametrize("place", [(0, 0), (199, 100), (100, 0), (199, 199)])
def test_lines_stay_in_the_picture(side, place):
    mask = disc(200, 90, place)
    for seed in range(5):
        for positive in (True, False):
            for line in draw_contours(mask, fresh(seed), positive, ContourConfig(side=side)):
                assert line.points.min() >= 0 and line.points.max() <= 199


def test_masks_too_small_to_circle():
    dot = np.zeros((50, 50), np.uint8)
    dot[20, 20] = 1
    for seed in range(10):
        line = first_contour(dot, fresh(seed))
        assert line is None or np.abs(line.points - 20).max() < 10
    assert first_contour(np.ones((1, 1), bool), fresh()) is None
    assert first_contour(np.ones((40, 40), bool), fresh()) is not None
    assert first_contour(np.zeros((40, 40), bool), fresh()) is None


def test_large_objects_are_shrunk_and_thin_ones_are_not():
    assert shrink(disc(900, 400)[50:851, 50:851], 256)[1] == 3
    wire = cv2.line(np.zeros((801, 801), np.uint8), (0, 0), (800, 800), 1, 2)
    assert shrink(wire, 256)[1] == 1
    bridge = np.zeros((801, 801), np.uint8)
    bridge[:, :300] = bridge[:, 500:] = bridge[400:402] = 1
    assert shrink(bridge, 200)[1] < 4, "two halves and a bridge stay one part"
    assert shrink(disc(900, 400), 0)[1] == 1


def test_shrunk_lines_lie_where_the_others_lie():
    y, x = np.mgrid[:900, :700]
    mask = ((y - 500) / 330) ** 2 + ((x - 300) / 260) ** 2 < 1 + 0.2 * np.sin(x / 60)
    found = []
    for seed in range(8):
        large, small = (
            draw_contours(mask, fresh(seed), True, ContourConfig(side=side))[0] for side in (0, 200)
        )
        found.append(overlap(small, draw_masks([large], mask.shape, "contour")[0].numpy()))
        steps = np.abs(np.diff(small.points, axis=0)).max(axis=1)
        assert (steps <= 1).all(), "every pixel along the edge"
    # where the two boxes need different numbers of waves, random numbers part company
    assert sorted(found)[1] > 0.97


def test_negative_lines_never_grow():
    mask = disc(300, 100)
    area = mask.sum()
    sizes = []
    for seed in range(20):
        line = draw_contours(mask, fresh(seed), positive=False)[0]
        assert not line.positive
        sizes.append(draw_masks([line], mask.shape, "contour").sum().item() / area)
    assert np.mean(sizes) < 1


def test_several_parts():
    mask = disc(200, 40, (60, 60)) | disc(200, 35, (140, 140))
    one = ContourConfig(hull=0)
    both = ContourConfig(one=False, hull=0)
    assert len(draw_contours(mask, fresh(), True, one)) == 1
    assert len(draw_contours(mask, fresh(), False, both)) == 2


def test_the_deepest_error_is_circled():
    target = disc(200, 60)
    wrong = target.astype(bool)
    wrong[60:140, 60:110] = False  # 50 wide
    wrong[:20, :20] = True  # 20 wide
    line = next_contour(wrong, target, fresh())
    assert line.positive and overlap(line, target.astype(bool) & ~wrong) > 0.1
    target[60:140, 60:110] = IGNORE
    line = next_contour(wrong, target, fresh())
    assert not line.positive and line.points.max() < 60


def test_distances_are_those_of_the_whole_picture():
    "Errors at the picture's edge: what is outside counts as no edge."
    missed = np.zeros((60, 60), bool)
    missed[:20] = True
    region, positive = find_worst(missed, np.zeros_like(missed), fresh())
    assert positive and region[0].any() and not region[20:].any()
    everything = np.ones((30, 30), bool)
    assert find_worst(everything, ~everything, fresh())[0].any()
    assert find_worst(~everything, ~everything, fresh()) == (None, False)


def test_perfect_and_empty_predictions():
    target = disc(100, 30)
    mask = target.astype(bool)
    assert next_contour(mask, target, fresh()) is None
    assert not next_contour(mask, target, fresh(), protocol="paper").positive
    assert next_contour(np.zeros_like(mask), target, fresh()).positive
    nothing = np.zeros_like(target)
    assert next_contour(np.zeros_like(mask), nothing, fresh()) is None
    assert next_contour(mask, nothing, fresh()).positive is False
    assert next_contour(mask, np.full_like(target, IGNORE), fresh()) is None


def test_the_papers_first_line_moves_less():
    mask = disc(300, 100)
    free = [first_contour(mask, fresh(s)).points.mean(0) for s in range(40)]
    calm = [first_contour(mask, fresh(s), protocol="paper").points.mean(0) for s in range(40)]
    difference = np.abs(np.subtract(free, calm)).max(axis=1)
    assert 1 < difference.max() < 20


def test_training_ignores_what_is_ignored():
    target = disc(90, 30).astype(np.uint8)
    probs = np.where(target == 1, 0.9, 0.1)
    probs[:20, :20] = 0.8
    lines, region, positive = training_contours(torch.from_numpy(probs), target, fresh())
    assert not positive and region[:20, :20].any() and not region[25:].any()
    target[:20, :20] = IGNORE
    lines, region, positive = training_contours(probs[None], target[None], fresh())
    assert lines == [] and region.shape == (90, 90) and not region.any()


def test_clear_errors():
    mask = disc(30, 10)
    with pytest.raises(ValueError, match=r"region: need axes \(H W\)"):
        draw_contours(np.zeros((2, 30, 30), bool), fresh())
    with pytest.raises(ValueError, match=r"region: need axes"):
        draw_contours(np.zeros((0, 30), bool), fresh())
    with pytest.raises(ValueError, match="target: need whole numbers or bool, got float64"):
        first_contour(mask / 2, fresh())
    with pytest.raises(ValueError, match="mask: need bool, got uint8; threshold it first"):
        next_contour(mask, mask, fresh())
    with pytest.raises(ValueError, match=r"as large as target \(30, 30\), got \(20, 30\)"):
        next_contour(mask[:20] > 0, mask, fresh())
    with pytest.raises(ValueError, match="probs: must be as large"):
        training_contours(np.zeros((8, 8)), mask, fresh())
    with pytest.raises(ConfigError, match="unknown protocol 'best'"):
        first_contour(mask, fresh(), protocol="best")
