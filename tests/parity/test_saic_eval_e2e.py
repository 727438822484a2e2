"""Whole episodes of SAIC-IS's evaluation: kinds, interactions, probabilities and both IoUs.

Clicks and strokes come to the same pixels from the same random numbers. Contours come within a few
pixels, as in two versions of OpenCV, so everything after one may differ a little.
"""

import json

import numpy as np
import pytest
import torch

from seglab.interact.data import Click
from seglab.interact.episode import Rules, Talker, play
from seglab.interact.pretrained import load_released
from seglab.interact.selectors import SCHEDULE, product_schedules
from seglab.interact.zoom import Zoom

from .draws import Draws
from .test_contours import replay  # noqa: F401
from .test_eval_e2e import Recorder, read_sample
from .test_saic_models import PARAMETERS

KINDS = dict(point="click", contour="contour", stroke="stroke")


class Numbers(Draws):
    "What contours ask for, too."

    def uniform(self, low, high, size=None):
        return self.numpy.uniform(low, high, size)

    def random(self, size=None):
        return self.numpy.random_sample(size)


def chooser(name: str):
    if not name.startswith("product"):
        return SCHEDULE
    return product_schedules()[int(name.removeprefix("product"))]


def network(folder, config: dict, tmp_path):
    "Our network from a file as the original writes it."
    params = {
        theirs: dict(type="builtin", value=config[ours], specified=True)
        for ours, theirs in PARAMETERS.items()
        if ours in config
    }
    params |= dict(use_leaky_relu=dict(type="builtin", value=True))
    state = torch.load(folder / "state_dict.pth", weights_only=True)
    torch.save(dict(state_dict=state, config=dict(params=params)), file := tmp_path / "net.pth")
    return load_released(file)


def summed(one) -> list:
    "Polarity and pixel of a click; polarity, number and sums of the points of a line."
    if isinstance(one, Click):
        return [int(one.positive), one.y, one.x]
    return [int(one.positive), len(one.points), one.points.sum(axis=0).astype(int).tolist()]


def near(one, recorded: list) -> bool:
    "Whether a line is the recorded one give or take some pixels of it."
    positive, count, sums = summed(one)
    away = np.abs(np.array(sums) / max(1, count) - np.array(recorded[2]) / max(1, recorded[1]))
    return positive == recorded[0] and abs(count - recorded[1]) <= 4 and away.max() < 1


def test_episodes(parity, tmp_path, replay):  # noqa: F811
    folder = parity / "saic_eval_e2e"
    stored = json.loads((folder / "eval.json").read_text())
    arrays = np.load(folder / "arrays.npz")
    net = network(folder, stored["model"], tmp_path)
    options = dict(stored["zoom"])
    skip = {KINDS[kind]: steps for kind, steps in options["skip_interactions"].items()}
    zoom = Zoom(options["target_size"], skip, least=options["min_crop_size"], program="saic")
    fixed = tuple(stored["fixed_size"])
    for case in stored["cases"]:
        note = f"case {case['case']}, {case['selector']}"
        steps = case["steps"]
        rules = Rules(
            budget=len(steps), goal=2, band=0.005, longest=case["max_size"] or 0, protocol="paper"
        )
        predictor = Recorder(net, zoom, fixed, flip=stored["with_flip"], paper=True)
        name, generator = f"e{case['case']}", Numbers(case["np_seed"])
        player = Talker(chooser(case["selector"]))
        episode = play(predictor, read_sample(arrays, name), rules, player, generator)
        blurred = False  # a contour was drawn
        for step, (one, recorded) in enumerate(zip(episode.interactions, steps, strict=True)):
            here, last = f"{note}, step {step}", recorded["last"]
            assert episode.kinds[step] == KINDS[recorded["itype"]], here
            if episode.kinds[step] == "contour":
                blurred = True
                assert near(one, last[0]), here
            elif summed(one) != last:
                assert blurred, f"{here}: {one}, not {last}"
                break
            answer, wanted = predictor.answers[step][::4, ::4], arrays[f"{name}_p{step}_s4"]
            differences = np.abs(answer - wanted)
            assert differences.mean() < 0.01 if blurred else differences.max() < 1e-4, here
            tolerance = 0.005 if blurred else 2e-4
            assert episode.ious[step] == pytest.approx(case["ious"][step], abs=tolerance), here
            rim = pytest.approx(case["boundary_ious"][step], abs=5 * tolerance)
            assert episode.boundary_ious[step] == rim, here
