"Guards of seglab.walls.repaint: shading kept, nothing outside touched, paints of every kind."

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from seglab.walls.repaint import repaint, shade

PAINTS = [(0.93, 0.92, 0.9), (0.45, 0.62, 0.45), (0.42, 0.12, 0.12), (0.1, 0.1, 0.5), (1, 1, 0)]


def wall(brightness: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    "A lit wall with noise, and a mask of most of it."
    y, x = torch.meshgrid(torch.linspace(0, 1, 60), torch.linspace(0, 1, 80), indexing="ij")
    light = 0.55 + 0.45 * x - 0.2 * y * (x < 0.4)
    noise = 0.01 * torch.randn(3, 60, 80, generator=torch.Generator().manual_seed(0))
    image = (brightness * light * torch.tensor([1, 0.95, 0.9])[:, None, None] + noise).clamp(0, 1)
    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[:, 5:50, 8:70] = True
    return image, mask


def lab(image, mask):
    return rgb2lab(image.permute(1, 2, 0).numpy())[mask[0].numpy()]


@pytest.mark.parametrize("paint", PAINTS)
@pytest.mark.parametrize("brightness", [0.25, 0.7, 1.0])
def test_shading_stays_and_the_colour_comes(paint, brightness):
    image, mask = wall(brightness)
    painted = repaint(image, mask, paint)
    before, after = lab(image, mask), lab(painted, mask)
    assert np.corrcoef(before[:, 0], after[:, 0])[0, 1] >= 0.95
    wanted = rgb2lab(np.array(paint, float)[None, None])[0, 0]
    assert abs(after[:, 0].mean() - wanted[0]) < (2 if wanted[0] < 80 else 12)  # room for shading
    hue = np.arctan2(*after[:, :0:-1].mean(axis=0)), np.arctan2(wanted[2], wanted[1])
    if np.hypot(*wanted[1:]) > 10:
        assert abs(np.angle(np.exp(1j * (hue[0] - hue[1])))) < 0.15
    assert torch.equal(painted[:, ~mask[0]], image[:, ~mask[0]]), "0 pixels outside"
    assert 0 <= painted.min() and painted.max() <= 1


def test_the_soft_rim_lies_inside():
    image, mask = wall()
    hard, soft = (
        repaint(image, mask, (0.1, 0.1, 0.5)),
        repaint(image, mask, (0.1, 0.1, 0.5), soft=3),
    )
    assert torch.equal(soft[:, ~mask[0]], image[:, ~mask[0]])
    assert torch.equal(soft[:, 20, 30], hard[:, 20, 30]), "far from the rim nothing is mixed"
    share = ((soft - image) / (hard - image))[2, 20, 8:12]
    assert (share.diff() > 0).all() and 0.2 < share[0] < 0.3


def test_a_wallpaper_keeps_its_pattern_and_takes_the_light():
    image, mask = wall()
    stripes = (torch.arange(80) // 4 % 2).float().expand(3, 60, 80) * 0.3 + 0.4
    painted = repaint(image, mask, stripes)
    row = lab(painted, mask)[:, 0].reshape(45, 62)
    light = (stripes[0] > 0.5)[5:50, 8:70].numpy()
    assert row[light].mean() > row[~light].mean() + 15
    assert row[:, -20:].mean() > row[:, :20].mean() + 3, "brighter where the lamp is"


def test_shade_by_hand():
    assert shade(np.array([30.0, 40.0, 50.0]), wanted=60).tolist() == [45, 60, 75]
    flat = shade(np.full(5, 40.0), wanted=70)
    assert np.abs(flat - 70).max() < 1e-9
    dark = shade(np.array([0.0, 50.0, 100.0]), wanted=10)
    assert dark.min() > 0 and (np.diff(dark) > 0).all()


def test_an_empty_mask_and_other_number_types():
    image, mask = wall()
    assert torch.equal(repaint(image, mask & False, (0, 0, 1)), image)
    half = repaint(image.half(), mask, (0.2, 0.4, 0.3))
    assert half.dtype == torch.float16 and torch.equal(half[:, ~mask[0]], image.half()[:, ~mask[0]])


def test_bad_input_is_named():
    image, mask = wall()
    with pytest.raises(ValueError, match="mask: must be bool"):
        repaint(image, mask.float(), (0, 0, 1))
    with pytest.raises(ValueError, match="paint: must be RGB in .* .* from 120 to 160"):
        repaint(image, mask, (120, 160, 120))
    with pytest.raises(ValueError, match="paint: must be RGB in .* or a picture \\(3, 60, 80\\)"):
        repaint(image, mask, torch.zeros(3, 5, 5))
    with pytest.raises(ValueError, match="mask: axis W must be 80"):
        repaint(image, mask[..., :7], (0, 0, 1))
