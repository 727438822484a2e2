"BIoU and IoU equal those of the original programs on their own fixtures."

import json
import re

import numpy as np
import pytest
import torch

from seglab.metrics import band_width, boundary_iou, mask_iou


def read_case(arrays, case: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    "Prediction, truth and ignored pixels, each (1, 1, H, W) bool."
    height, width, name = case["h"], case["w"], f"b{case['case']}"
    masks = [
        np.unpackbits(arrays[f"{name}_{which}"])[: height * width].reshape(1, 1, height, width)
        for which in ("pred", "gt_fg")
    ]
    ignore = torch.zeros(1, 1, height, width, dtype=torch.bool)
    ignore[..., : int(arrays[f"{name}_ignore_rows"]), :] = True
    return *(torch.from_numpy(mask).bool() for mask in masks), ignore


@pytest.fixture(scope="module")
def cases(parity):
    folder = parity / "boundary_iou"
    arrays = np.load(folder / "boundary_iou.npz")
    listed = json.loads((folder / "boundary_iou.json").read_text())
    assert listed, "no cases"
    return [(case, *read_case(arrays, case)) for case in listed]


def test_boundary_iou(cases):
    for case, mask, target, ignore in cases:
        for options, wanted in case["biou"].items():
            ratio, by_target = re.fullmatch(
                r"ratio=(.+),use_mask_diag=(True|False)", options
            ).groups()
            diagonal = "target" if by_target == "True" else "picture"
            score = boundary_iou(mask, target, float(ratio), ignore, diagonal).item()
            note = f"case {case['case']}, {options}"
            assert score == pytest.approx(wanted["value"], rel=1e-6, nan_ok=True), note
            if diagonal == "picture":
                assert band_width(float(ratio), case["h"], case["w"]) == wanted["size"], note


def test_iou(cases):
    for case, mask, target, ignore in cases:
        score = mask_iou(mask, target, ignore).item()
        assert score == pytest.approx(case["iou"], rel=1e-6, nan_ok=True), f"case {case['case']}"
