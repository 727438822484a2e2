"Guards of seglab.trimap.threshold: padding, one vote a picture, bins, and bad wishes."

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from seglab.core import IGNORE, seed_everything
from seglab.trimap import threshold
from seglab.trimap.data import TrimapSamples
from seglab.trimap.pictures import DrawnMattes


class Knows(torch.nn.Module):
    "Tells the truth that was painted into the picture, with the given sureness."

    def __init__(self, sureness=4.0):
        super().__init__()
        self.sureness = torch.nn.Parameter(torch.tensor(sureness))

    def forward(self, image, mask):
        return self.sureness * (image - 1 / 3)


def painted(count=6, side=32, ignored=0):
    "Samples whose colours are their codes."
    seed_everything(0)
    items = []
    for number in range(count):
        trimap = torch.randint(0, 3, (1, side, side), dtype=torch.uint8)
        image = torch.nn.functional.one_hot(trimap[0].long(), 3).permute(2, 0, 1).float()
        trimap[:, :, :ignored] = IGNORE
        items.append(dict(name=str(number), image=image, mask=trimap == 2, trimap=trimap))
    return DataLoader(items, batch_size=4)


def test_curve_of_who_knows():
    curve = threshold.threshold_curve(Knows(50.0), painted(), thresholds=(0.2, 0.8))
    assert (curve["unknown_recall"] == 1).all() and (curve["certain_error"] == 0).all()
    assert np.allclose(curve["unknown_area"], 1 / 3, atol=0.03)


def test_padding_is_never_sampled():
    logits, codes = threshold.sample_pixels(Knows(), painted(ignored=10), per_picture=10_000)
    assert len(codes) == len(logits) == 6 * 32 * 22 and codes.max() <= 2


def test_pixels_are_sampled_alike_with_one_seed():
    first, second = (threshold.sample_pixels(Knows(), painted(), 50, seed=3)[1] for _ in range(2))
    other = threshold.sample_pixels(Knows(), painted(), 50, seed=4)[1]
    assert torch.equal(first, second) and not torch.equal(first, other)


@pytest.mark.parametrize("bins", [1, 3, 10])
def test_bins_hold_everything(bins):
    probs = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    table = threshold.reliability(probs, torch.tensor([0, 2, 0]), bins)
    assert table["share"].sum() == pytest.approx(1)
    assert (table["share"] * table["frequency"]).sum() == pytest.approx(1 / 3)


def test_always_wrong_and_sure_is_the_worst():
    wrong = threshold.reliability(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([1]))
    assert threshold.calibration_error(wrong) == pytest.approx(2 / 3), "two of three codes off by 1"


def test_highest_threshold_that_is_enough():
    curve = pd.DataFrame(dict(unknown_recall=[1.0, 0.9, 0.5]), index=[0.1, 0.3, 0.6])
    assert threshold.threshold_for(curve, 0.9) == 0.3
    with pytest.raises(ValueError, match="out of reach, the lowest threshold gives 1.000"):
        threshold.threshold_for(curve, 1.1)


def test_logits_of_another_size_are_resized():
    class Half(Knows):
        def forward(self, image, mask):
            return super().forward(image, mask)[..., ::2, ::2]

    curve = threshold.threshold_curve(Half(), painted(), thresholds=(0.5,))
    assert curve["unknown_area"].between(0, 1).all()
    loader = DataLoader(TrimapSamples(DrawnMattes(2, side=48), side=48), batch_size=2)
    assert len(threshold.sample_pixels(Half(), loader, per_picture=7)[1]) == 14
