"IoU, NoC, NoI and IoU per code equal those of the original programs on their own fixtures."

import json

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from seglab.metrics import mask_iou, noc, nof, trimap_iou


def test_iou_with_ignored_pixels(parity):
    wanted = json.loads((parity / "noc" / "iou.json").read_text())
    arrays = np.load(parity / "noc" / "iou.npz")
    for i, value in enumerate(wanted):
        truth = torch.from_numpy(arrays[f"gt{i}"])[None, None]
        mask = torch.from_numpy(arrays[f"pred{i}"])[None, None]
        score = mask_iou(mask, truth == 1, ignore=truth == -1).item()
        assert score == pytest.approx(value, rel=1e-6, nan_ok=True), f"case {i}"


def padded(rows: list[list[float]], dtype: torch.dtype) -> torch.Tensor:
    "One row an object, NaN after its last click. The programs computed IoU in single precision."
    rows = [torch.tensor(row, dtype=torch.float32).to(dtype) for row in rows]
    return pad_sequence(rows, batch_first=True, padding_value=torch.nan)


def check(
    ious: torch.Tensor, thresholds: list[float], budget: int, result: dict, name: str
) -> None:
    for column, threshold in enumerate(thresholds):
        clicks, failures = noc(ious, threshold, budget), nof(ious, threshold, budget)
        note = f"{name}: threshold {threshold}, budget {budget}"
        assert clicks.double().mean().item() == pytest.approx(result[name][column], rel=1e-9), note
        if "std" in result:
            spread = clicks.double().std(correction=0).item()
            assert spread == pytest.approx(result["std"][column], rel=1e-9), note
        # the programs count every object that cost the whole budget as one that failed; we don't
        over = result["over_max"][column]
        assert failures.sum() <= over <= (clicks == budget).sum(), note
        if name == "noc":
            assert over == (clicks == budget).sum(), note


def test_noc(parity):
    stored = json.loads((parity / "noc" / "noc.json").read_text())
    ious = padded(stored["all_ious"], dtype=getattr(torch, stored["dtype"]))
    for result in stored["results"]:
        check(ious, result["iou_thrs"], result["max_clicks"], result, "noc")


def test_noi_compares_in_double_precision(parity):
    stored = json.loads((parity / "noi" / "noi.json").read_text())
    ious = padded(stored["all_ious"], dtype=torch.float64)
    for result in stored["results"]:
        check(ious, result["thrs"], result["max_interactions"], result, "noi")


def test_iou_of_trimap_codes(parity):
    listed = json.loads((parity / "trimap" / "losses.json").read_text())
    arrays = np.load(parity / "trimap" / "losses.npz")
    for case in listed:
        logits = torch.from_numpy(arrays[f"d{case['case']}_logits"])
        target = torch.from_numpy(arrays[f"d{case['case']}_target"]).to(torch.uint8)[:, None]
        trimap = logits.argmax(dim=1, keepdim=True).to(torch.uint8)
        scores = trimap_iou(trimap, target)
        for code, wanted in enumerate(case["per_class_iou_per_sample"]):
            defined = scores[:, code][~scores[:, code].isnan()]  # the list leaves out 0/0
            assert defined.tolist() == pytest.approx(wanted, rel=1e-6), f"case {case['case']}"
