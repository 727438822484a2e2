"The geometry of strokes and contours equals that of SAIC-IS, whole pixels included."

import json

import numpy as np
import pytest
import torch

from seglab.interact.data import Click, Contour, Interaction, Stroke
from seglab.interact.patch import Patch, sample, tight_box, whole_picture
from seglab.interact.zoom import (
    Box,
    Zoom,
    crop_size,
    longest_side,
    mirror,
    next_box,
    shrunk_size,
    to_crop,
    to_size,
)


def read_all(recorded: dict) -> list[Interaction]:
    "Every interaction that has points."
    clicks = [Click(y, x, bool(positive)) for positive, y, x in recorded["point"]]
    contours = [(Contour, one) for group in recorded["contour"] for one in group]
    lines = contours + [(Stroke, one) for one in recorded["stroke"]]
    return clicks + [kind(one["coords"], one["pos"]) for kind, one in lines if one["coords"]]


def check(found: list[Interaction], recorded: dict, note: str) -> None:
    for one, other in zip(found, read_all(recorded), strict=True):
        assert type(one) is type(other) and one.positive == other.positive, note
        pairs = [np.array([(c.y, c.x)]) if isinstance(c, Click) else c.points for c in (one, other)]
        assert np.allclose(*pairs, rtol=1e-12, atol=1e-9), note


@pytest.fixture(scope="module")
def fixture(parity):
    folder = parity / "saic_transforms"
    stored = json.loads((folder / "transforms.json").read_text())
    return stored, np.load(folder / "transforms.npz")


FIXED = 64, 48


def test_fixed_size_and_mirror(fixture):
    for case in fixture[0]["cases"]:
        note, size = f"case {case['case']}", (case["h"], case["w"])
        cut = not case["float_coords"]
        given = read_all(case["input"])
        moved = [to_size(one, size, FIXED, cut) for one in given]
        check(moved, case["resize"], note)
        for found, side in ((moved, 0), ([mirror(one, FIXED[1]) for one in moved], 1)):
            wanted = {kind: pair[side] for kind, pair in case["flip_of_resize"].items()}
            check(found, wanted | dict(contour=[wanted["contour"]]), f"{note}, side {side}")
        limit = case["limit_longest_100"]
        shown = longest_side(100, size)
        assert list(shown) == limit["shape"][2:], note
        if shown != size:
            check([to_crop(one, Box(0, 0, *size), shown, cut) for one in given], limit["out"], note)


def test_pixels_there_and_back(fixture):
    stored, arrays = fixture
    for case in stored["cases"]:
        name, size = f"x{case['case']}", (case["h"], case["w"])
        whole = Box(0, 0, *size)
        seen = sample(torch.from_numpy(arrays[f"{name}_image_u8"]), whole, FIXED)
        assert np.allclose(seen[:, ::2, ::2], arrays[f"{name}_resized_s2"], atol=2e-6), name
        back = whole_picture(Patch(seen[0].numpy(), whole, size))[0, ::3, ::3]
        assert np.allclose(back, arrays[f"{name}_resize_inv_s3"], atol=2e-6), name


def test_zoom(fixture):
    "Every step is answered with the object itself, as the network would see it."
    stored, arrays = fixture
    for case in stored["cases"]:
        size, steps = (case["h"], case["w"]), case["zoom"]["steps"]
        target = case["zoom"]["target"]
        target = tuple(target) if isinstance(target, list) else target
        skip = dict(click=1, contour=-1, stroke=-1)
        zoom = Zoom(target, skip, least=case["zoom"].get("min_crop_size", 200), program="saic")
        given, cut = read_all(case["input"]), not case["float_coords"]
        packed = np.unpackbits(arrays[f"x{case['case']}_obj"])[: size[0] * size[1]]
        truth = Patch(packed.reshape(size).astype(np.float32), Box(0, 0, *size), size)
        patch = box = None
        for number, step in enumerate(steps, 1):
            note = f"case {case['case']}, step {number}"
            kind = {"point": Click, "contour": Contour, "stroke": Stroke}[step["input_type"]]
            latest_last = sorted(given, key=lambda one: isinstance(one, kind))
            found = tight_box(patch, zoom.threshold) if patch else None
            look = next_box(zoom, size, found, latest_last, box, number)
            top, bottom, left, right = step["roi"]
            assert look == Box(top, left, bottom - top + 1, right - left + 1), note
            shown = crop_size(target, tuple(look[2:]))
            assert list(shown) == step["shape"][2:], note
            assert (look != box) == step["image_changed"], note
            check([to_crop(one, look, shown, cut) for one in given], step["out"], note)
            patch, box = Patch(truth.sample(Box(0, 0, *size), shown)[0].numpy(), look, size), look
            back = whole_picture(patch)[0].numpy()
            wanted = arrays[f"x{case['case']}_z{number - 1}_inv_s4"]
            assert np.allclose(back[::4, ::4], wanted, atol=2e-6), note
            assert back.mean() == pytest.approx(step["inv_mean"], abs=1e-6), note


def test_limited_size(fixture):
    for case in fixture[0]["limit_longest_size"]:
        assert list(shrunk_size(case["max"], (case["h"], case["w"]))) == case["new"], case["case"]
