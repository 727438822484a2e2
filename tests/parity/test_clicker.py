"The robot's clicks, of the evaluation and of the training, against those of the original programs."

import json

import numpy as np
import pytest
import torch

from seglab.core import IGNORE
from seglab.interact.data import Click
from seglab.interact.robot import find_candidates, next_click, put_click, training_click

from .draws import Draws


def as_target(array: np.ndarray) -> np.ndarray:
    "Our codes for the original's, where -1 is ignored."
    return np.where(array < 0, IGNORE, array).astype(np.uint8)


def test_evaluation_clicks_are_the_originals(parity):
    arrays = np.load(parity / "clicker" / "clicker.npz")
    cases = json.loads((parity / "clicker" / "clicker.json").read_text())
    assert cases
    for case in cases:
        name = f"m{case['mask']}"
        target, clicks = as_target(arrays[f"{name}_gt"]), []
        steps = zip(arrays[f"{name}_preds"], arrays[f"{name}_clicks"], strict=True)
        for packed, (positive, y, x, number) in steps:
            mask = np.unpackbits(packed)[: target.size].reshape(target.shape).astype(bool)
            found = next_click(mask, target, clicks, protocol="paper")
            assert found == Click(y, x, bool(positive)), (case, number)
            if ((mask != target) & (target != IGNORE)).any():
                assert next_click(mask, target, clicks) == found
            clicks.append(found)


def training_cases(parity):
    "Every picture of every recorded training step."
    arrays = np.load(parity / "clicker" / "train_next_points.npz")
    names = sorted({key.split("_")[0] for key in arrays.files})
    for name in names:
        case = {key: arrays[f"{name}_{key}"] for key in ("pred", "gt", "points", "out")}
        case["number"], case["seed"] = (
            int(arrays[f"{name}_{k}"]) for k in ("click_indx", "np_seed")
        )
        case["candidates"] = arrays[f"{name}_candidates"]
        yield name, case


def test_training_clicks_are_the_originals(parity):
    seen = 0
    for name, case in training_cases(parity):
        draws = Draws(case["seed"])  # one stream for the pictures of a batch
        pictures = zip(
            *(case[k] for k in ("pred", "gt", "points", "out", "candidates")), strict=True
        )
        for pred, gt, points, out, expected in pictures:
            probs, target = torch.from_numpy(pred), torch.from_numpy(as_target(gt))
            candidates, _ = find_candidates(probs, target, protocol="paper")
            np.testing.assert_array_equal(candidates, expected, err_msg=name)
            click = training_click(probs, target, draws, protocol="paper")
            found = put_click(torch.from_numpy(points), click, case["number"])
            np.testing.assert_array_equal(found, out, err_msg=name)
            seen += 1
    assert seen


def test_ignored_pixels_are_never_candidates_of_ours(parity):
    for name, case in training_cases(parity):
        for pred, gt in zip(case["pred"], case["gt"], strict=True):
            target = as_target(gt)
            found, _ = find_candidates(torch.from_numpy(pred), torch.from_numpy(target))
            assert not (found & (target[0] == IGNORE)).any(), name


@pytest.mark.parametrize("protocol", ["ours", "paper"])
def test_perfect_masks_end_the_episode_or_not(protocol):
    target = np.eye(8, dtype=np.uint8)
    found = next_click(target == 1, target, protocol=protocol)
    assert found == (None if protocol == "ours" else Click(0, 0, False))
