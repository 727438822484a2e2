"Codes of places: all different, the same spot at any size, halves that swap with the axes."

import pytest
import torch

from seglab.positions import SinePositions


@pytest.mark.parametrize("size", [(64, 64), (3, 100), (1, 1)])
def test_every_place_has_a_code_of_its_own(size: tuple[int, int]) -> None:
    codes = SinePositions(64)(torch.zeros(1, 64, *size))
    assert codes.shape == (size[0] * size[1], 64)
    assert len(codes) == 1 or torch.pdist(codes.double()).min() > 1e-3


def test_the_two_halves_are_the_two_axes() -> None:
    upright = SinePositions(32)(torch.zeros(1, 32, 5, 7)).view(5, 7, 32)
    lying = SinePositions(32)(torch.zeros(1, 32, 7, 5)).view(7, 5, 32)
    assert torch.equal(upright.transpose(0, 1), lying.roll(16, dims=-1))
    assert (upright[:, 0, 16:] == upright[0, 0, 16:]).all(), "columns don't know their row"
