"The steps that make a mask sloppy, and the waves that stand for blurred noise."

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from seglab.interact import elastic
from seglab.interact.deform import (
    Bounds,
    cut,
    draw_width,
    fill_holes,
    find_bounds,
    is_compact,
    keep_regions,
    paste,
    resize_edge,
    shift,
    smooth,
    smooth_randomly,
    stretch,
)
from seglab.interact.elastic import bend, count_waves, measure_waves

STEPS = (resize_edge, bend, smooth_randomly)


def disc(side: int, radius: int, place: tuple[int, int] | None = None) -> np.ndarray:
    centre = place or (side // 2, side // 2)
    return cv2.circle(np.zeros((side, side), np.uint8), centre[::-1], radius, 1, -1)


@pytest.mark.parametrize("width", [6.0, 40.0, 130.0])
def test_waves_are_the_blur(width):
    "Also where the kernel is wider than the picture, and where hardly anything is blurred away."
    generator = np.random.default_rng(0)
    noise = generator.uniform(-1, 1, (70, 110))
    counts = tuple(count_waves(length, width) for length in noise.shape)
    down, across = (elastic._blurred_waves(length, width, length) for length in noise.shape)
    field = down @ measure_waves(noise, counts) @ across.T
    blurred = gaussian_filter(noise, width)
    assert np.abs(field - blurred).max() < 1e-3 * np.sqrt((blurred**2).mean())


def test_drawn_fields_have_the_spread_of_blurred_noise():
    generator = np.random.default_rng(1)
    drawn = [elastic._draw_field((40, 60), 8.0, 1.0, generator) for _ in range(200)]
    blurred = [gaussian_filter(generator.uniform(-1, 1, (40, 60)), 8.0) for _ in range(200)]
    for place in [(0, 0), (20, 30), (39, 2)]:  # mirrored corners wobble more than the middle
        ours, theirs = (np.std([one[place] for one in many]) for many in (drawn, blurred))
        assert abs(ours / theirs - 1) < 0.25
    assert np.std([one[0, 0] for one in drawn]) > 1.3 * np.std([one[20, 30] for one in drawn])


def test_a_box_is_cut_and_pasted():
    mask = np.zeros((20, 30), np.uint8)
    mask[3:6, 25:30] = 1
    area, bounds = cut(mask, padding=4)
    assert bounds == Bounds(-2, 10, 20, 33) and area.shape == (13, 14)
    assert np.array_equal(paste(mask.shape, area, bounds), mask)
    area, bounds = cut(mask, padding=2, whole=True)
    assert bounds == Bounds(-2, 21, -2, 31)
    assert np.array_equal(paste(mask.shape, area, bounds), mask)


def test_holes_and_small_regions_go():
    mask = disc(60, 20)
    mask[28:33, 28:33] = 0
    mask[0, 0] = mask[1, 1] = 1  # touching at a corner: one region of two pixels
    mask[50:58, 50:58] = 1
    full = fill_holes(mask)
    assert full[30, 30] and full.sum() == mask.sum() + 25
    assert not keep_regions(full)[0, 0] and not keep_regions(full)[55, 55]
    assert not keep_regions(full, 0.02)[0, 0] and keep_regions(full, 0.02)[55, 55]
    assert is_compact(keep_regions(full))


def test_edges_move_by_shares_of_the_side():
    mask = disc(400, 100)  # 200 from the first pixel to the last
    for seed in range(10):
        generator = np.random.default_rng(seed)
        for chance, (least, most) in {1: (6, 13), 0: (-9, -3)}.items():
            moved = find_bounds(resize_edge(mask, generator, chance))
            assert least <= (moved.side - 200) / 2 <= most


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_steps_survive_tiny_masks(step, scale):
    for size in ((1, 1), (1, 9), (2, 2), (7, 5)):
        for seed in range(3):
            mask = np.ones(size, np.uint8)
            result = step(mask, np.random.default_rng(seed), scale=scale)
            assert result.shape == size and set(np.unique(result)) <= {0, 1}
    for operation in (bend, smooth_randomly):
        assert not operation(np.zeros((8, 8), np.uint8), np.random.default_rng(0)).any()


def test_stretching_keeps_the_middle_and_the_picture():
    mask = disc(100, 20)
    larger = find_bounds(stretch(mask, 1.5))
    assert larger.side in (58, 59, 60) and abs(larger.top + larger.bottom - 100) <= 2
    beside = stretch(disc(100, 20, (5, 50)), 1.5)
    assert beside.shape == mask.shape and find_bounds(beside).top == 0
    empty, dot = np.zeros_like(mask), np.zeros_like(mask)
    dot[3, 3] = 1
    assert not stretch(empty, 2).any() and np.array_equal(stretch(dot, 2), dot)


def test_shifting_is_bounded():
    mask = disc(200, 64)
    steps = set()
    for seed in range(60):
        moved = find_bounds(shift(mask, np.random.default_rng(seed), (100, 3)))
        steps.add((moved.top - 36, moved.left - 36))
    down, across = (set(one) for one in zip(*steps, strict=True))
    assert down == set(range(-7, 8)) and across == {-2, -1, 0, 1, 2}
    assert not shift(np.zeros((9, 9), np.uint8), np.random.default_rng(0), (3, 3)).any()


def test_kernels_are_odd_and_fit():
    widths = {draw_width(1280, np.random.default_rng(seed)) for seed in range(300)}
    assert min(widths) == 21 and max(widths) == 159 and all(width % 2 for width in widths)
    assert draw_width(3, np.random.default_rng(0)) == 3
    assert smooth(disc(20, 9), 9).sum() > 200
    assert not smooth(disc(20, 3), 199).any(), "blurred away, and no error"
