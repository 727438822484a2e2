"Guards of seglab.walls.corruptions: determinism, ranges, sizes, refusals, and growing damage."

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seglab.backdrops import sample_photographs
from seglab.core import ConfigError
from seglab.walls import corruptions
from seglab.walls.corruptions import CORRUPTIONS, SEVERITIES, corrupt, retention

NAMES = list(CORRUPTIONS)


@pytest.fixture(scope="module")
def photo():
    "A piece of the astronaut, (3, 96, 96)."
    picture = torch.from_numpy(sample_photographs()[0][:384, :384].copy()).permute(2, 0, 1) / 255
    return F.interpolate(picture[None], scale_factor=0.25, mode="area")[0]


def test_all_eleven_are_there():
    assert (
        NAMES
        == (
            "gaussian_noise shot_noise impulse_noise defocus_blur motion_blur brightness contrast fog "
            "jpeg pixelate snow"
        ).split()
    )
    assert all(len(rows) == len(SEVERITIES) for rows in corruptions._CONSTANTS.values())


@pytest.mark.parametrize("name", NAMES)
def test_damage_grows_and_stays_in_range(photo, name):
    change = []
    for severity in SEVERITIES:
        spoiled = corrupt(photo, name, severity, seed=3)
        assert spoiled.shape == photo.shape and spoiled.dtype == torch.float32
        assert spoiled.min() >= 0 and spoiled.max() <= 1 and spoiled.isfinite().all()
        change.append((spoiled - photo).square().mean().item())
    assert change[0] > 1e-4 and (np.diff(change) > 0).all(), change


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_the_seed_decides(photo, name):
    before = photo.clone()
    first = corrupt(photo, name, 3, seed=1)
    np.random.rand(7), torch.rand(7)  # the global generators don't matter
    assert torch.equal(first, corrupt(photo, name, 3, seed=1))
    assert torch.equal(photo, before), "the caller's picture stays as it is"
    chance = name not in ("defocus_blur", "brightness", "contrast", "jpeg", "pixelate")
    assert torch.equal(first, corrupt(photo, name, 3, seed=2)) != chance


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (5, 40), (40, 5), (33, 97)])
def test_any_size_and_degenerate_pictures(name, size):
    for value in (0.0, 0.5, 1.0):
        spoiled = corrupt(torch.full((3, *size), value), name, 5)
        assert spoiled.shape == (3, *size) and spoiled.isfinite().all()


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "fog"])
def test_sizes_go_with_the_side_of_the_picture(name):
    "Spoiled at 384 and made small looks like made small and spoiled at 96."
    large = torch.from_numpy(sample_photographs()[0][:384, :384].copy()).permute(2, 0, 1) / 255
    small = F.interpolate(large[None], scale_factor=0.25, mode="area")[0]
    after = F.interpolate(corrupt(large, name, 4)[None], scale_factor=0.25, mode="area")[0]
    before = corrupt(small, name, 4)
    damage = (before - small).square().mean()
    assert (before - after).square().mean() < 0.1 * damage


def test_motion_does_not_move_the_picture():
    "Labels stay as they are, so a spot's centre must stay where it was."
    spot = torch.zeros(3, 120, 120)
    spot[:, 60, 60] = 1
    rows = torch.arange(120.0)
    for severity in SEVERITIES:
        blurred = corrupt(spot, "motion_blur", severity, seed=severity)[0]
        for axis in (0, 1):
            assert abs((blurred.sum(dim=axis) * rows).sum() / blurred.sum() - 60) < 0.1


def test_colours_keep_their_order():
    "OpenCV's files are blue, green, red: a red picture stays red."
    red = torch.zeros(3, 32, 32)
    red[0] = 0.8
    spoiled = corrupt(red, "jpeg", 5).mean(dim=(1, 2))
    assert spoiled[0] > 0.7 and spoiled[1:].max() < 0.1


@pytest.mark.parametrize("severity", [0, 6, -1, "3", 2.5, None])
def test_unknown_severity(photo, severity):
    with pytest.raises(ConfigError, match="severity: must be one of 1, 2, 3, 4, 5, got"):
        corrupt(photo, "fog", severity)


def test_unknown_name(photo):
    with pytest.raises(ConfigError, match="unknown corruption 'frost': .*known are brightness"):
        corrupt(photo, "frost", 1)


@pytest.mark.parametrize(
    "image, message",
    [
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "must be float"),
        (torch.full((3, 8, 8), torch.nan), "192 values are NaN"),
        (torch.zeros(1, 8, 8), "axis 3 must be 3"),
        (torch.full((3, 8, 8), 7.0), "must lie in"),
    ],
)
def test_bad_pictures(image, message):
    with pytest.raises(ValueError, match=message):
        corrupt(image, "fog", 1)


def test_retention():
    assert retention(0.5, np.full((11, 5), 0.4)).item() == pytest.approx(0.8)
    assert retention(0.5, np.array([[0.4, np.nan]])).isnan()
    with pytest.raises(ValueError, match=r"corrupted: .* got shape \(4, 5\)"):
        retention(torch.ones(2), torch.ones(4, 5))


def test_confusion_of_all_cells_leaves_ignored_pixels_out(photo):
    target = torch.zeros(96, 96, dtype=torch.int64)
    target[:, 50:] = 255

    def always_one(images):
        return torch.ones(len(images), 96, 96, dtype=torch.int64)

    counts = corruptions.corrupted_confusion(always_one, photo, target, 3, names=("fog", "jpeg"))
    assert counts.shape == (11, 3, 3)
    assert (counts[:, 0, 1] == 96 * 50).all() and (counts.sum(dim=(1, 2)) == 96 * 50).all()


def test_a_sheet_has_a_picture_for_each_cell(photo):
    figure = corruptions.corruption_sheet(photo, names=("fog", "snow"), severities=(1, 3, 5))
    assert len(figure.axes) == 6
