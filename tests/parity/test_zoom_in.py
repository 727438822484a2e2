"Boxes, crops, places of clicks and pasted answers equal those of the original programs."

import json

import numpy as np
import pytest
import torch

from seglab.interact.data import Click
from seglab.interact.patch import Patch, sample, tight_box, whole_picture
from seglab.interact.predictor import View
from seglab.interact.zoom import (
    Box,
    Zoom,
    box_iou,
    clip_box,
    crop_size,
    grow_box,
    longest_side,
    look_again,
    mirror,
    next_box,
    to_crop,
)


def read(parity, name: str) -> tuple[list, dict]:
    folder = parity / "zoom_in"
    arrays = np.load(folder / f"{name}.npz") if (folder / f"{name}.npz").exists() else {}
    return json.loads((folder / f"{name}.json").read_text()), arrays


def box_of(corners: list[int]) -> Box:
    "Ours from the originals' first row, last row, first column, last column."
    top, bottom, left, right = corners
    return Box(top, left, bottom - top + 1, right - left + 1)


def zoom_of(recorded: dict) -> Zoom:
    names = dict(
        skip_clicks="skip",
        expansion_ratio="expansion",
        min_crop_size="least",
        recompute_thresh_iou="recompute",
        prob_thresh="threshold",
    )
    fields = {names.get(key, key): value for key, value in recorded.items()}
    size = fields.get("target_size", 400)
    return Zoom(**fields | dict(target_size=tuple(size) if isinstance(size, list) else size))


def place(click: Click) -> list[float]:
    return [int(click.positive), click.y, click.x]


def test_boxes(parity):
    for i, case in enumerate(read(parity, "bbox_helpers")[0]):
        box, note = box_of(case["bbox"]), f"case {i}"
        grown = grow_box(box, case["ratio"], case["min_crop"] or 0)
        assert grown == box_of(case["expanded"]), note
        key = next(key for key in case if key.startswith("clamped_"))
        _, bottom, _, right = map(int, key.split("_")[1:])
        if (
            grown.top <= bottom
            and grown.left <= right
            and min(grown[0] + grown[2], grown[1] + grown[3]) > 0
        ):
            assert clip_box(grown, (bottom + 1, right + 1)) == box_of(case[key]), note
        assert box_iou(box, box_of(case["other"])) == pytest.approx(case["iou"], rel=1e-12), note


def test_zoom_in(parity):
    cases, arrays = read(parity, "zoom_in")
    for case in cases:
        number, size, zoom = case["case"], (case["h"], case["w"]), zoom_of(case["zoom_params"])
        image = torch.from_numpy(arrays[f"z{number}_image_u8"])
        clicks, patch, box = [], None, None
        for step in case["steps"]:
            note = f"case {number}, step {step['step']}"
            positive, y, x = step["click"]
            clicks.append(Click(y, x, bool(positive)))
            found = tight_box(patch, zoom.threshold) if patch else None
            look = next_box(zoom, size, found, clicks, box)
            assert look == (step["roi"] and box_of(step["roi"])), note
            shown = crop_size(zoom.target_size, look[2:]) if look else size
            assert list(shown) == step["crop_shape"], note
            whole = Box(0, 0, *size)
            moved = [place(to_crop(click, look or whole, shown)) for click in clicks]
            assert np.allclose(moved, step["tclicks"], rtol=1e-12, atol=1e-12), note
            name = f"z{number}_t{step['step']}"
            if f"{name}_crop_s4" in arrays:
                crop = sample(image, look or whole, shown)[:, ::4, ::4].numpy()
                assert np.allclose(crop, arrays[f"{name}_crop_s4"][:3], atol=2e-6), note
            patch = Patch(arrays[f"{name}_prob"], look or whole, size)
            answer = whole_picture(patch)[0].numpy()
            assert np.allclose(answer[::6, ::6], arrays[f"{name}_inv_s6"], atol=2e-6), note
            assert answer.mean() == pytest.approx(step["inv_mean"], abs=1e-6), note
            again = look_again(zoom, size, tight_box(patch, zoom.threshold), look or box)
            assert again == step["possible_recalculation"], note
            box = look or box


def test_longest_side_and_mirror(parity):
    cases, arrays = read(parity, "limit_flip")
    for case in cases:
        name, size, note = f"l{case['case']}", (case["h"], case["w"]), f"case {case['case']}"
        shown = longest_side(case["max_size"], size)
        assert list(shown) == case["out_shape"][2:], note
        whole = Box(0, 0, *size)
        clicks = [to_crop(Click(y, x), whole, shown) for y, x in case["clicks"]]
        assert np.allclose([[c.y, c.x] for c in clicks], case["tclicks"], rtol=1e-12), note
        flipped = [mirror(click, shown[1]) for click in clicks]
        assert np.allclose([[c.y, c.x] for c in flipped], case["flipped"], rtol=1e-12), note
        image = torch.from_numpy(arrays[f"{name}_image_u8"])
        seen = View(whole, (size, shown)).show(image)
        wanted = arrays[f"{name}_out_s2"]
        assert np.allclose(seen[:, ::2, ::2].numpy(), wanted[:3], atol=2e-6), note
        answer = (4 * (seen[:1] - 0.5)).sigmoid()  # what the programs were given to take back
        back = whole_picture(Patch(answer[0].numpy(), whole, size))[0, ::2, ::2].numpy()
        assert np.allclose(back, arrays[f"{name}_inv_s2"], atol=2e-6), note
        pair = torch.stack([seen[:1], seen[:1].flip(-1)]).logit()
        both = View(whole, (shown,)).back(pair)
        assert np.allclose(both[::2, ::2], arrays[f"{name}_flip_inv_s2"], atol=2e-6), note
