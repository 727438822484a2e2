"Guards of seglab.walls.fill: gains on periodic walls, nothing lost on plain ones, odd holes, refusals."

import cv2
import numpy as np
import pytest
import torch

from seglab.walls.fill import carry_inwards, fill_wall, find_steps, self_similarity


def draw(kind: str, seed: int, size: int = 160) -> torch.Tensor:
    "A wall lit from one side, with noise."
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    light, dark = random.uniform(0.6, 0.9, 3), random.uniform(0.2, 0.5, 3)
    high, wide = random.integers(9, 17), random.integers(14, 25)
    pattern = dict(
        plain=0 * y,
        stripes=x // wide % 2,
        checks=(x // wide + y // high) % 2,
        bricks=(y % high < 2) | ((x + y // high % 2 * wide) % (2 * wide) < 2),
    )[kind]
    wall = np.where(pattern[..., None], dark, light)
    wall = wall * (0.6 + 0.4 * (x / size + 0.4 * (y / size) ** 2) / 1.4)[..., None]
    wall = cv2.GaussianBlur(wall, (0, 0), 0.6) + random.normal(0, 0.01, wall.shape)
    return torch.from_numpy(wall.clip(0, 1).astype(np.float32)).permute(2, 0, 1)


def punch(size=160, top=60, bottom=110, left=50, right=115) -> torch.Tensor:
    hole = torch.zeros(1, size, size, dtype=torch.bool)
    hole[:, top:bottom, left:right] = True
    return hole


def psnr(image, wall, region) -> float:
    return -10 * (image - wall)[:, region[0]].square().mean().log10().item()


def telea(image, hole):
    pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
    filled = cv2.inpaint(pixels, hole[0].byte().numpy(), 3, cv2.INPAINT_TELEA)
    return torch.from_numpy(filled).permute(2, 0, 1) / 255


@pytest.mark.parametrize("kind", ["stripes", "checks", "bricks", "plain"])
def test_periodic_walls_gain_and_plain_ones_lose_nothing(kind):
    gains, hole = [], punch()
    for seed in range(4):
        wall = draw(kind, seed)
        image = wall.where(~hole, 0.5)
        gains.append(
            psnr(fill_wall(image, hole), wall, hole) - psnr(telea(image, hole), wall, hole)
        )
    # the targets are +6 and -1
    assert np.mean(gains) > (6 if kind != "plain" else 0), gains


def test_a_hole_at_the_border_and_one_without_wall_on_three_sides():
    wall = draw("checks", 1)
    for hole in (punch(top=0), punch(left=0, top=100, bottom=160), punch(left=0, right=160)):
        filled = fill_wall(wall.where(~hole, 0.5), hole)
        assert psnr(filled, wall, hole) > 25


def test_what_is_not_wall_is_not_learned_from():
    wall = draw("stripes", 0)
    hole, image = punch(), draw("stripes", 0)
    image[:, 115:] = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)  # a red floor, right below
    image = image.where(~hole, 0.5)
    not_floor = torch.ones_like(hole)
    not_floor[:, 115:] = False
    knowing = psnr(fill_wall(image, hole, wall=not_floor), wall, hole)
    assert knowing > 30 and knowing > psnr(fill_wall(image, hole), wall, hole) + 3


def test_a_picture_on_the_wall_does_not_disturb():
    wall = draw("checks", 2)
    image, hole = wall.clone(), punch()
    image[:, 10:35, 10:50] = 0.0
    image = image.where(~hole, 0.5)
    assert psnr(fill_wall(image, hole), wall, hole) > 28


@pytest.mark.parametrize("kind", ["checks", "plain"])
def test_outside_the_hole_nothing_changes_and_the_input_stays(kind):
    wall, hole = draw(kind, 3), punch()
    before = wall.clone()
    filled = fill_wall(wall, hole[0])
    assert torch.equal(wall, before)
    assert torch.equal(filled[:, ~hole[0]], wall[:, ~hole[0]])
    assert filled.dtype == wall.dtype and 0 <= filled.min() and filled.max() <= 1
    assert torch.equal(fill_wall(wall, hole), filled), "the same answer twice"
    half = fill_wall(wall.half(), hole)
    assert half.dtype == torch.float16 and (half - filled).abs().max() < 0.05


def test_no_hole_is_no_work():
    wall = draw("plain", 0)
    assert torch.equal(fill_wall(wall, torch.zeros(160, 160, dtype=torch.bool)), wall)


def test_noise_has_no_steps_and_stripes_have_theirs():
    random = np.random.default_rng(0)
    known, hole = np.ones((90, 90), bool), punch(90, 30, 60, 30, 60)[0].numpy()
    steps, strength = find_steps(random.normal(size=(90, 90, 3)), known & ~hole, hole)
    assert len(steps) == 0 == len(strength)
    stripes = np.where(np.arange(90) % 12 < 6, 1.0, -1.0)[None, :, None] * np.ones((90, 1, 3))
    steps, strength = find_steps(stripes, known & ~hole, hole)
    assert len(steps) and strength[0] > 0.99 and (steps[strength > 0.99][:, 1] % 12 == 0).all()


def test_similarity_equals_its_definition():
    random = np.random.default_rng(1)
    detail, known = random.normal(size=(14, 11, 3)), random.uniform(size=(14, 11)) < 0.8
    similarity = self_similarity(detail, known)
    for down, along in ((3, 2), (0, 5), (4, -3)):
        here = (slice(0, 14 - down), slice(max(0, -along), 11 - max(0, along)))
        there = (slice(down, 14), slice(max(0, along), 11 - max(0, -along)))
        both = (known[here] & known[there])[..., None]
        difference = ((detail[here] - detail[there]) ** 2 * both).sum()
        square = ((detail[here] ** 2 + detail[there] ** 2) * both).sum() / 2
        expected = 1 - difference / (2 * square)
        assert similarity[13 + down, 10 + along] == pytest.approx(expected, abs=1e-4)
        assert similarity[13 - down, 10 - along] == pytest.approx(expected, abs=1e-4)


def test_errors_are_carried_without_overshoot():
    known = ~punch(64, 20, 44, 20, 44)[0].numpy()
    error = np.where(np.arange(64)[None, :, None] < 32, -0.1, 0.2) * np.ones((64, 1, 3))
    carried = carry_inwards(error.astype(np.float32), known)
    assert carried.min() >= -0.1 - 1e-5 and carried.max() <= 0.2 + 1e-5
    assert carried[32, 21, 0] < 0 < carried[32, 42, 0]


def test_bad_input_is_named():
    wall, hole = draw("plain", 0), punch()
    with pytest.raises(ValueError, match="hole: must be bool, got torch.float32"):
        fill_wall(wall, hole.float())
    with pytest.raises(ValueError, match="hole: axis H must be 160"):
        fill_wall(wall, hole[:, :100])
    with pytest.raises(ValueError, match="wall: axis W must be 160"):
        fill_wall(wall, hole, wall=hole[..., :20])
    with pytest.raises(ValueError, match="1 values are NaN"):
        fill_wall(wall.index_put((torch.tensor(0),) * 3, torch.tensor(torch.nan)), hole)
    with pytest.raises(ValueError, match="only 0 pixels of wall lie within 24 pixels"):
        fill_wall(wall, hole, wall=hole)


def test_a_large_wall_takes_seconds():
    import time

    wall = draw("bricks", 2).repeat(1, 10, 13)[:, :1500, :2000]
    hole = torch.zeros(1500, 2000, dtype=torch.bool)
    hole[600:900, 700:1200] = True
    start = time.perf_counter()
    fill_wall(wall, hole)
    assert time.perf_counter() - start < 20  # 2 seconds on a quiet core
