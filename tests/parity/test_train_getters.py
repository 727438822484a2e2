"The next click and the next stroke of a training step, against the original program."

import numpy as np
import pytest
import torch

from seglab.interact.data import draw_masks
from seglab.interact.first import aimed_click
from seglab.interact.robot import put_click
from seglab.interact.strokes import TRAINING, training_stroke

from .draws import Draws


@pytest.fixture(scope="module")
def getters(parity):
    return np.load(parity / "aggregators" / "train_getters.npz")


def names(arrays) -> list[str]:
    found = sorted({key.split("_")[0] for key in arrays.files})
    assert found
    return found


def batch(arrays, name: str) -> list:
    "Probabilities and labels of each picture."
    probs = torch.from_numpy(arrays[f"{name}_pred"])
    return list(zip(probs, torch.from_numpy(arrays[f"{name}_gt"]), strict=True))


def test_next_strokes_are_the_originals(getters):
    for name in names(getters):
        draws = Draws(int(getters[f"{name}_np_seed"]))
        for i, (probs, target) in enumerate(batch(getters, name)):
            drawn = training_stroke(probs, target, draws, TRAINING, protocol="paper")
            ends = np.full((4, 3), -1)
            strokes = []
            if drawn is not None:
                first = 0 if drawn[0].positive else 2
                ends[first : first + 2] = np.c_[drawn[1], [0, 0]]
                strokes = [drawn[0]]
            np.testing.assert_array_equal(ends, getters[f"{name}_stroke_ends"][i], f"{name} {i}")
            masks = draw_masks(strokes, target.shape[1:], "stroke")
            np.testing.assert_array_equal(masks, getters[f"{name}_stroke"][i], f"{name} {i}")


def test_next_clicks_are_the_originals(getters):
    for name in names(getters):
        draws = Draws(int(getters[f"{name}_np_seed"]))
        points, expected = (getters[f"{name}_points{end}"] for end in ("", "_out"))
        number = int(expected[..., 2][expected[..., 2] != points[..., 2]].max(initial=1))
        for i, (probs, target) in enumerate(batch(getters, name)):
            click = aimed_click(probs, target, draws, protocol="paper")
            found = put_click(torch.from_numpy(points[i]), click, number)
            np.testing.assert_array_equal(found, expected[i], f"{name} {i}")
