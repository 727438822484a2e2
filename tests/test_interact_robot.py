"The robot's clicks: exact against a plain formulation, fast, and random where they should be."

import time

import cv2
import numpy as np
import pytest
import torch

from seglab.core import IGNORE, ConfigError, data_dir
from seglab.interact.data import Click
from seglab.interact.depth import find_deepest
from seglab.interact.first import (
    SAIC,
    FirstClicks,
    aimed_click,
    count_probs,
    draw_clicks,
    find_rim,
    first_clicks,
    random_click,
    shave,
)
from seglab.interact.pictures import open_folder
from seglab.interact.robot import find_errors, next_click, put_click, training_click, worst_region


def plain_click(
    mask: np.ndarray, target: np.ndarray, clicked: list[Click], exact: bool = True
) -> Click | None:
    "The original's way: exact distances at every pixel of the picture, twice."
    truth, counted, free = target == 1, target != IGNORE, np.ones(target.shape, bool)
    for click in clicked:
        free[click.y, click.x] = False
    depths = []
    for region in (~truth & mask & counted, truth & ~mask & counted):
        padded = np.pad(region, 1).astype(np.uint8)
        depth = cv2.distanceTransform(padded, cv2.DIST_L2, 0)[1:-1, 1:-1]
        if exact:  # the original keeps OpenCV's last bit
            depth = np.rint(depth.astype(float) ** 2)
        depths.append(depth * free)
    positive = bool(depths[1].max() > depths[0].max())
    depth = depths[positive]
    if not depth.max():
        return None
    y, x = divmod(int(depth.argmax()), depth.shape[1])
    return Click(y, x, positive)


def noise(generator: np.random.Generator, size, blur: float) -> np.ndarray:
    "A random mask whose blobs are about as large as the blur."
    values = generator.standard_normal(size).astype(np.float32)
    values = cv2.GaussianBlur(values, (0, 0), blur) if blur else values
    return values > np.quantile(values, generator.random())


@pytest.mark.parametrize("blur", [0, 1, 3, 8, 20])
def test_equal_to_the_plain_way_on_random_masks(blur):
    generator = np.random.default_rng(int(10 * blur))
    for number in range(40):
        size = tuple(generator.integers(1, 240, 2))
        target = noise(generator, size, blur).astype(np.uint8)
        mask = noise(generator, size, blur)
        if number % 3 == 0:
            mask = (target == 1) ^ (mask & noise(generator, size, blur))
        if number % 4 == 0:
            target[noise(generator, size, blur) & noise(generator, size, blur)] = IGNORE
        if number % 7 == 0:
            mask[:] = False
        clicks = []
        for _ in range(5):
            found, expected = next_click(mask, target, clicks), plain_click(mask, target, clicks)
            assert found == expected, (size, number, clicks)
            if found is None:
                break
            clicks.append(found)


@pytest.mark.parametrize("radius", [90, 260, 300])
def test_equal_to_the_plain_way_on_large_regions(radius):
    "Where few pixels are looked at in a wide window; holes, clicks and two regions included."
    y, x = np.mgrid[:700, :800]
    target = ((y - 330) ** 2 + (x - 390.3) ** 2 < radius**2).astype(np.uint8)
    target[200, 300] = IGNORE
    mask, clicks = (y - 350) ** 2 + (x - 700) ** 2 < (radius * 0.9) ** 2, []
    for _ in range(4):
        found = next_click(mask, target, clicks)
        assert found == plain_click(mask, target, clicks)
        clicks.append(found)


def test_one_pixel_no_object_all_ignored_and_all_clicked():
    one = np.zeros((7, 5), np.uint8)
    one[6, 4] = 1
    nothing = np.zeros((7, 5), bool)
    assert next_click(nothing, one) == Click(6, 4, True)
    assert next_click(nothing, one, [Click(6, 4)]) is None
    assert next_click(nothing, one * 0) is None and next_click(~nothing, one * 0 + IGNORE) is None
    assert next_click(nothing, one, [Click(-3.4, 99.0)]) == Click(6, 4, True), "far outside"
    assert find_deepest([np.ones((1, 1), np.uint8)]) == (0, 0, 0, 1)


def test_tensors_arrays_and_layouts_give_the_same_click():
    generator = np.random.default_rng(0)
    mask, target = noise(generator, (90, 70), 5), noise(generator, (90, 70), 5).astype(np.uint8)
    expected = next_click(mask, target)
    assert next_click(torch.from_numpy(mask), torch.from_numpy(target)) == expected
    assert next_click(np.asfortranarray(mask), target[:, :]) == expected
    twice = np.repeat(np.repeat(mask, 2, 0), 2, 1)
    assert next_click(twice[::2, ::2], np.asfortranarray(target)) == expected


def test_bad_input_is_named():
    target = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"mask: must be \(H, W\) bool, got \(4, 4\) uint8"):
        next_click(target, target)
    with pytest.raises(ValueError, match=r"target: must be \(H, W\) uint8, got \(1, 4, 4\)"):
        find_errors(target == 1, target[None])
    with pytest.raises(ValueError, match="as large as the mask"):
        find_errors(target[:2] == 1, target)
    with pytest.raises(ConfigError, match="protocol"):
        next_click(target == 1, target, protocol="theirs")
    with pytest.raises(ValueError, match="number: must be 1 to 3"):
        put_click(torch.zeros(6, 3), Click(0, 0), 4)
    with pytest.raises(ValueError, match="at least one number"):
        count_probs(0, 0.8)


def test_at_least_four_times_as_fast_as_the_plain_way():
    "At 8 megapixels, where the gain is smaller than at 17; the better of two runs each."
    y, x = np.mgrid[:2400, :3300].astype(np.float32)
    target = ((((y - 1100) / 800) ** 2 + ((x - 1500) / 950) ** 2) < 1).astype(np.uint8)
    mask = (((y - 1130) / 800) ** 2 + ((x - 1530) / 940) ** 2) < 1

    def seconds(click, *more) -> float:
        times = []
        for _ in range(2):
            start = time.process_time()
            click(mask, target, [], *more)
            times.append(time.process_time() - start)
        return min(times)

    assert next_click(mask, target) == plain_click(mask, target, [])
    assert seconds(next_click) * 4 < seconds(plain_click, False)


def test_training_clicks_lie_in_the_worst_error_and_never_on_ignored_pixels():
    generator = np.random.default_rng(0)
    target = torch.zeros(1, 60, 80, dtype=torch.uint8)
    target[:, 10:50, 10:40] = 1
    target[:, :, 60:] = IGNORE
    probs = torch.zeros(1, 60, 80)
    probs[:, :, 60:] = 1  # painted where nothing is known
    for draw in (training_click, aimed_click):
        clicks = [draw(probs, target, generator) for _ in range(50)]
        assert all(c.positive and target[0, c.y, c.x] == 1 for c in clicks)
    assert training_click((target == 1).float(), target, generator) is None
    assert aimed_click((target == 1).float(), target, generator) is None
    assert not training_click(probs * 0, target * 0, generator, protocol="paper")


def test_put_click_counts_from_the_end_of_its_half():
    points = torch.full((8, 3), -1.0)
    points = put_click(points, Click(2, 3), 1)
    points = put_click(points, Click(4, 5, False), 2)
    assert points[3].tolist() == [2, 3, 1] and points[6].tolist() == [4, 5, 2]
    assert (points == -1).all(dim=1).sum() == 6
    assert torch.equal(put_click(points, None, 1), points)


def test_first_clicks_keep_their_promises():
    target = np.zeros((80, 90), np.uint8)
    target[10:40, 10:40], target[60:70, 5:30] = 1, 1
    target[:, 80:] = IGNORE
    regions = [(target == 1) & (np.arange(80) < 50)[:, None], target == 1]
    regions[1] = regions[1] & ~regions[0]
    others = np.zeros(target.shape, bool)
    others[20:30, 50:70] = True
    for plan in (FirstClicks(), SAIC, FirstClicks(most=2, most_negative=2)):
        for seed in range(60):
            generator = np.random.default_rng(seed)
            clicks = first_clicks(regions, target, generator, others, [others], plan=plan)
            again = first_clicks(
                regions, target, np.random.default_rng(seed), others, [others], plan=plan
            )
            assert clicks == again, "the same seed, the same clicks"
            positive = [c for c in clicks if c.positive]
            negative = [c for c in clicks if not c.positive]
            assert all(any(region[c.y, c.x] for c in positive) for region in regions)
            assert all(target[c.y, c.x] == c.positive for c in clicks)
            assert max(len(positive), len(negative)) <= plan.most
            assert not negative or any(others[c.y, c.x] for c in negative)


def test_first_clicks_without_an_object_are_negative():
    target = np.zeros((20, 20), np.uint8)
    target[:5] = IGNORE
    drawn = [first_clicks([target == 1], target, np.random.default_rng(seed)) for seed in range(30)]
    assert any(drawn) and not any(c.positive or c.y < 5 for own in drawn for c in own)


def test_rims_and_borders_by_hand():
    square = np.zeros((30, 30), bool)
    square[10:20, 10:20] = True
    assert find_rim(square, 0.1).sum() == 12 * 12 - 100  # one pixel: a tenth of ten
    assert find_rim(square, 0.1, relative=False).sum() == 20 * 20 - 100  # 5 of 42.4
    inner, corner = shave(square, 0.1)  # 4 pixels of 42.4
    assert inner.sum() == 4 and corner == (10, 10) and not find_rim(square & False, 1).any()


def test_random_clicks_end_with_the_errors():
    target = np.zeros((40, 40), np.uint8)
    target[5:30, 5:30] = 1
    generator, mask = np.random.default_rng(1), np.zeros((40, 40), bool)
    click = random_click(mask, target, generator)
    assert click.positive and target[click.y, click.x] == 1
    assert random_click(target == 1, target, generator) is None
    for protocol in ("ours", "paper"):
        negative = random_click(~mask, target, generator, protocol=protocol)
        region, positive = worst_region(~mask, target)
        assert not negative.positive and not positive and region[negative.y, negative.x]
    everywhere = draw_clicks(target == 1, generator, count=200, aim=None)
    assert len({(c.y, c.x) for c in everywhere}) > 100


def test_an_episode_on_a_photograph_ends():
    "Each click repairs a disc around it; the robot must come to an end."
    if not (data_dir() / "people" / "images").is_dir():
        pytest.skip("no photographs")
    target = open_folder(data_dir() / "people", split="val")[0].mask(0).astype(np.uint8)
    mask, clicks = np.zeros(target.shape, bool), []
    y, x = np.ogrid[: target.shape[0], : target.shape[1]]
    while (click := next_click(mask, target, clicks)) is not None:
        clicks.append(click)
        near = (y - click.y) ** 2 + (x - click.x) ** 2 < (max(target.shape) / 6) ** 2
        mask = np.where(near, target == 1, mask)
        assert len(clicks) < 400
    assert not (find_errors(mask, target)[0] | find_errors(mask, target)[1]).any()
