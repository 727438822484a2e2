"Better edges from the photograph."

import pytest
import torch
import torch.nn.functional as F

from seglab.core import ConfigError
from seglab.walls.refine import REFINEMENTS, clean, refine_mask


def scene(size: tuple[int, int] = (96, 128)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    "A wall with a slanted edge, its true mask, and what a network knows of it."
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    true = (rows + 0.4 * columns < 80)[None]
    grain = 0.02 * torch.randn(3, *size, generator=torch.manual_seed(0))
    image = (torch.where(true, 0.7, 0.3) * torch.tensor([1, 0.9, 0.8]).view(3, 1, 1) + grain).clamp(
        0, 1
    )
    small = F.avg_pool2d(true.float()[None], 8)
    probs = F.interpolate(small, size, mode="bilinear", align_corners=False)[0]
    return image, true, probs


@pytest.mark.parametrize("way", ["guided", "grab_cut"])
def test_the_edge_moves_to_where_colours_change(way: str) -> None:
    image, true, probs = scene()
    before, after = (
        (mask != true).sum() for mask in (probs >= 0.5, refine_mask(image, probs, way))
    )
    assert after < 0.5 * before


def test_cleaning_removes_specks_and_fills_pinholes() -> None:
    image, _, _ = scene()
    probs = torch.zeros(1, 96, 128)
    probs[:, 20:80, 20:100] = 1
    whole = probs > 0.5
    probs[:, 50:53, 50:53] = 0
    probs[:, 2:5, 2:5] = 1
    assert (clean(image, probs, smallest=0.002) == whole).all()
    assert (clean(image, probs, smallest=0.0) == (probs > 0.5)).all()


@pytest.mark.parametrize("way", REFINEMENTS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_and_everything_stay_what_they_are(way: str, value: float) -> None:
    image, _, _ = scene((40, 700))
    mask = refine_mask(image, torch.full((1, 40, 700), value), way)
    assert mask.shape == (1, 40, 700) and mask.dtype == torch.bool and (mask == bool(value)).all()


def test_bad_requests_are_named() -> None:
    image, _, probs = scene()
    with pytest.raises(ConfigError, match="did you mean 'guided'"):
        refine_mask(image, probs, "guidded")
    with pytest.raises(ValueError, match="probs: axis H must be 96"):
        refine_mask(image, probs[:, :50], "clean")
