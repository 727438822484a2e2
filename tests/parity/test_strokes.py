"Strokes against those of the original program, point by point."

import json

import numpy as np
import pytest

from seglab.interact.strokes import EVALUATION, TRAINING, StrokeStyle, draw_stroke, next_stroke

from .draws import Draws

STYLES = dict(
    stroke_eval=EVALUATION,
    stroke_train=TRAINING,
    stroke_identity=StrokeStyle(one_piece=False, sine=False),
)


def unpack(array: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.unpackbits(array.ravel())[: height * width].reshape(height, width).astype(bool)


def check(stroke, expected: dict, where) -> None:
    "The same points, or no stroke on both sides."
    if stroke is None:
        assert not expected["coords"], where
        return
    assert stroke.positive == expected["pos"], where
    np.testing.assert_array_equal(stroke.points, expected["coords"], str(where))


def test_strokes_are_the_originals(parity):
    folder = parity / "generators"
    arrays, seen = np.load(folder / "generators.npz"), 0
    for case in json.loads((folder / "generators.json").read_text()):
        style = STYLES.get(case["generator"])
        if style is None or case["error"]:
            continue
        region = unpack(arrays[f"g{case['mask']}_mask"], case["h"], case["w"])
        draws, positive = Draws(case["np_seed"]), case["is_positive"]
        stroke = draw_stroke(region, draws, positive, style, protocol="paper")
        where = {key: case[key] for key in ("mask", "generator", "is_positive")}
        check(stroke, case["output"], where)
        seen += 1
    assert seen


def test_strokes_on_errors_are_the_originals(parity):
    folder = parity / "aggregators"
    arrays, seen = np.load(folder / "aggregators.npz"), 0
    for row in json.loads((folder / "aggregators.json").read_text()):
        case, step, size = row["case"], row["step"], (row["h"], row["w"])
        target = np.where((gt := arrays[f"a{case}_gt"]) < 0, 255, gt).astype(np.uint8)
        mask = unpack(arrays[f"a{case}_preds"][step], *size)
        draws = Draws(20251 + 100 * case + step)
        expected = row["stroke"][-1] if isinstance(row["stroke"], list) else row["stroke"]
        check(next_stroke(mask, target, draws, protocol="paper"), expected, (case, step))
        seen += 1
    assert seen


@pytest.mark.parametrize("name", ["stroke_eval", "stroke_train"])
def test_statistics_with_our_own_random_numbers(parity, name):
    folder = parity / "generators"
    masks = np.load(folder / "statistics_masks.npz")
    for row in json.loads((folder / "statistics.json").read_text()):
        if row["generator"] != name:
            continue
        region = unpack(masks[f"m{row['mask']}"], row["h"], row["w"])
        found = []
        for seed in range(100):
            stroke = draw_stroke(region, np.random.default_rng(seed), style=STYLES[name])
            y, x = stroke.points.T.astype(int)
            length = np.hypot(*(stroke.points.max(0) - stroke.points.min(0)))
            found.append((region[y, x].mean(), length / np.hypot(*region.shape)))
        found = np.array(found)
        # four standard errors of the difference of two means, and a little for a narrow spread
        error = np.array(row["std"])[2] * (1 / 100 + 1 / row["n"]) ** 0.5
        assert abs(found[:, 0].mean() - row["mean"][2]) < 4 * error + 0.01, row
