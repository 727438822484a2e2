"Guards of seglab.trimap.refine: weights, seams, sizes, and what a picture of 24 megapixels costs."

import subprocess
import sys

import pytest
import torch

from seglab.trimap.refine import levels, refine, tiles


@pytest.mark.parametrize("length", [1, 5, 96, 97, 180, 448, 1000, 1639])
@pytest.mark.parametrize("side", [1, 8, 96, 448])
def test_weights_sum_to_one(length, side):
    sums = torch.zeros(length)
    for place, weights in tiles(length, side, side // 4):
        sums[place] += weights
    assert torch.allclose(sums, torch.ones(length))


@pytest.mark.parametrize("size", [(449, 448), (1000, 30), (4000, 6000), (7, 20000)])
def test_levels_end_at_the_picture(size):
    steps = levels(size, side=448)
    assert steps[-1] == size
    sides = [448, *(max(step) for step in steps)]
    assert all(b <= 4.02 * a for a, b in zip(sides, sides[1:], strict=False))


def unsure(image, mask):
    "Says of every pixel what its colour says: red is background, blue foreground, green neither."
    return image


def test_what_is_certain_is_never_asked_again():
    image, asked = torch.rand(1, 3, 300, 300), []
    probs = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).repeat(1, 1, 100, 100)
    probs[..., 60:70, 60:70] = 1 / 3

    def ask(tile, mask):
        asked.append(tile)
        return torch.full_like(tile, 1 / 3)

    refined, count = refine(ask, image, torch.ones(1, 1, 300, 300, dtype=torch.bool), probs, 100)
    assert count == len(asked) == 4, "the four tiles that touch the square"
    assert (refined[:, 0, :150] == 1).all()
    assert refined.shape == (1, 3, 300, 300)


def test_there_are_no_seams():
    image = torch.full((1, 3, 250, 350), 1 / 3)
    probs = torch.full((1, 3, 71, 100), 1 / 3)
    refined, count = refine(unsure, image, image[:, :1] > 1, probs, 100)
    assert count > 10 and torch.allclose(refined, image, atol=1e-6)


def test_opinions_are_averaged():
    blue = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 200, 200)
    probs = torch.full((1, 3, 100, 100), 1 / 3)
    refined, _ = refine(unsure, blue, blue[:, :1] > 1, probs, 100)
    assert torch.allclose(refined[0, :, 100, 100], torch.tensor([1 / 6, 1 / 6, 2 / 3]), atol=1e-6)


CODE = """
import torch
from seglab.trimap import task

class Edges(torch.nn.Module):
    "As sure as one can be away from the edge of the mask."
    class config:
        side = 448
    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))
    def round_up_side(self, side):
        return side
    def forward(self, image, mask):
        inside = torch.nn.functional.avg_pool2d(mask.float(), 9, 1, 4, count_include_pad=False)
        return 20 * torch.cat([0.5 - inside, -(inside - 0.5).abs(), inside - 0.5], dim=1)

image = torch.zeros(3, 4000, 6000)
mask = torch.zeros(1, 4000, 6000, dtype=torch.bool)
mask[:, 1000:3000, 2000:4000] = True
answer = task.predict(Edges(), image, mask)
assert answer["trimap"].shape == (1, 4000, 6000) and answer["probs"].shape == (3, 4000, 6000)
print((answer["trimap"] == 1).float().mean().item(), (answer["trimap"] == 2).float().mean().item())
# getrusage would begin with the peak of the process that started this one
print(*(int(x.split()[1]) / 2**20 for x in open("/proc/self/status") if x.startswith("VmHWM")))
"""


def test_twenty_four_megapixels_fit_in_two_gib():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shares, gib = done.stdout.splitlines()
    unknown, foreground = map(float, shares.split())
    assert foreground == pytest.approx(1 / 6, abs=0.01)
    assert 0 < unknown < 0.005, "narrower than one pixel of the first look, which is 13 of these"
    assert float(gib) < 2
