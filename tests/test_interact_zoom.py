"Boxes that follow an object, and resizing that reads only what it needs."

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seglab.core import ConfigError
from seglab.interact.data import Click, Contour, Stroke
from seglab.interact.patch import Patch, paint, sample, tight_box, whole_picture
from seglab.interact.zoom import (
    Box,
    Zoom,
    claim,
    clip_box,
    crop_size,
    inside,
    look_again,
    mirror,
    next_box,
    shrunk_size,
    to_crop,
)


def test_zoom_refuses_nonsense():
    with pytest.raises(ConfigError, match="unknown program 'ritm'"):
        Zoom(program="ritm")
    with pytest.raises(ConfigError, match="unknown kind of interaction 'point'"):
        Zoom(skip=dict(point=1))
    with pytest.raises(ConfigError, match="must not shrink: expansion 0.5"):
        Zoom(expansion=0.5)


def test_interactions_beyond_the_border_claim_pixels_of_the_picture():
    assert claim(Click(-3, 500), (100, 200)) == Box(0, 199, 1, 1)
    line = np.array([(-10.0, 50.0), (20.0, 300.0)])
    assert claim(Contour(line), (100, 200)) == Box(0, 50, 21, 150)
    assert claim(Stroke(line[:1]), (100, 200)) is None, "a dot has no direction"
    assert clip_box(Box(150, -20, 10, 10), (100, 200)) == Box(99, 0, 1, 1)


def test_saic_counts_answers_and_simpleclick_interactions():
    size, found, clicks = (300, 300), Box(100, 100, 50, 50), [Click(120, 120)]
    assert next_box(Zoom(skip=1), size, found, clicks, None, calls=5) is None
    assert next_box(Zoom(skip=1, program="saic"), size, found, clicks, None, calls=5)
    patience = Zoom(skip=dict(click=3, stroke=-1), program="saic")
    stroke = Stroke(np.array([(110.0, 110.0), (140.0, 120.0)]))
    assert next_box(patience, size, found, clicks, None, 1) is None
    assert next_box(patience, size, found, [*clicks, stroke], None, 1)
    nothing = next_box(Zoom(skip=-1, least=50, program="saic"), size, None, [])
    assert nothing == Box(0, 0, 26, 26), "the box of the corner, as in the program"


def test_a_box_stays_until_it_is_left():
    size, zoom, old = (300, 300), Zoom(skip=-1, least=20), Box(50, 50, 100, 100)
    within = [Click(100, 100)]
    assert next_box(zoom, size, Box(70, 70, 60, 60), within, old) == old
    moved = next_box(zoom, size, Box(10, 10, 20, 20), within, old)
    assert moved != old and inside(moved, within[0])
    assert next_box(zoom, size, None, within, old) == Box(0, 0, 300, 300), "nothing was found"
    assert look_again(Zoom(skip=0), size, Box(0, 0, 10, 10), None)


def test_sizes_and_mirror():
    assert crop_size((0, 0), (7, 9)) == (7, 9) and crop_size(10, (5, 2)) == (10, 4)
    assert shrunk_size(100, (333, 77)) == (100, 23)
    contour = Contour(np.array([(1.0, 0.0), (2.0, 9.0)]))
    assert mirror(contour, 10).points[:, 1].tolist() == [9, 0]
    moved = to_crop(contour, Box(0, 0, 10, 10), (20, 5))
    assert moved.points.tolist() == [[2, 0], [4, 4.5]]


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (64, 64), (90, 3)])
def test_sampling_is_bilinear_interpolation(size):
    generator = torch.Generator().manual_seed(1)
    picture = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8, generator=generator)
    box = Box(3, 20, 41, 33)
    crop = picture[..., *box.slices][None].float() / 255
    wanted = F.interpolate(crop, size, mode="bilinear", align_corners=True)[0]
    assert torch.allclose(sample(picture, box, size), wanted, atol=1e-6)


@pytest.mark.parametrize("small", [(1, 1), (4, 30), (80, 80)])
def test_patch_is_the_enlarged_picture(small):
    probs = torch.rand(small, generator=torch.Generator().manual_seed(2))
    box, size = Box(5, 11, 40, 50), (60, 70)
    patch = Patch(probs.numpy(), box, size)
    wanted = torch.zeros(size)
    enlarged = F.interpolate(probs[None, None], box[2:], mode="bilinear", align_corners=True)
    wanted[box.slices] = enlarged[0, 0]
    assert torch.allclose(whole_picture(patch)[0], wanted, atol=1e-6)
    view = Box(0, 0, 50, 70)
    seen = F.interpolate(wanted[None, None, :50], (20, 33), mode="bilinear", align_corners=True)
    assert torch.allclose(patch.sample(view, (20, 33)), seen[0], atol=1e-6)
    threshold = 0.7
    mask = np.zeros(size, bool)
    region = paint(patch, threshold, mask)
    true = (wanted > threshold).numpy()
    assert (mask == true).mean() > 0.999 and (region is not None or not true.any())
    box = tight_box(patch, threshold)
    if true.any():
        rows, columns = np.flatnonzero(true.any(1)), np.flatnonzero(true.any(0))
        assert box[:2] == (rows[0], columns[0])
        assert box[2:] == (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    else:
        assert box is None
