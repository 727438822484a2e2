"The robot's contours against those the original program drew from the same random numbers."

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from seglab.interact import contours, deform, elastic
from seglab.interact.contours import (
    ContourConfig,
    draw_contours,
    next_contour,
    training_contours,
)
from seglab.interact.data import Contour, draw_masks

CONFIGS = dict(  # what the names in generators.json stand for
    contour_eval=ContourConfig(side=0),
    contour_default=ContourConfig(one=False, hull=0, side=0),
    contour_noshrink=ContourConfig(whole=True, side=0),
)
SAME = 0.95  # IoU of two lines, filled


class Legacy:
    "The original's kind of generator behind the methods that ours has."

    def __init__(self, seed: int):
        self.state = np.random.RandomState(seed)

    def uniform(self, *limits):
        return self.state.uniform(*limits)

    def random(self, size=None):
        return self.state.random_sample(size)

    def integers(self, low: int, high: int):
        return self.state.randint(low, high)


@pytest.fixture
def replay(monkeypatch):
    "Draw what the original draws: whole pictures of noise, and a choice that changes nothing."

    def draw_waves(generator, shape, count):
        return elastic.measure_waves(2 * generator.random(shape) - 1, count)

    def draw_width(side, generator):
        width = deform.draw_width(side, generator)
        generator.integers(0, 2)  # "median" or Gaussian, which are both Gaussian
        return width

    def smooth_randomly(mask, generator, scale=1.0, whole=False):
        bounds = deform.find_bounds(mask)
        if bounds is None:
            return mask
        return deform.smooth(mask, draw_width(bounds.side, generator), whole)

    monkeypatch.setattr(elastic, "draw_waves", draw_waves)
    monkeypatch.setattr(contours, "smooth_randomly", smooth_randomly)


def unpack(bits: np.ndarray, row: dict) -> np.ndarray:
    shape = row["h"], row["w"]
    return np.unpackbits(bits)[: shape[0] * shape[1]].reshape(shape)


def fill(lines: list[Contour], shape: tuple[int, int]) -> np.ndarray:
    "(2, H, W) bool"
    return draw_masks(lines, shape, "contour").bool().numpy()


def theirs(lines: list[dict]) -> list[Contour]:
    return [Contour(line["coords"], line["pos"]) for line in lines if line["coords"]]


def overlap(ours: np.ndarray, other: np.ndarray) -> float:
    union = (ours | other).sum()
    return float((ours & other).sum() / union) if union else 1.0


@pytest.mark.parametrize("file", ["generators.json", "generators_contour_cv5.json"])
def test_first_contours_are_the_originals(parity: Path, replay, file):
    folder = parity / "generators"
    rows = [row for row in json.loads((folder / file).read_text()) if "contour" in row["generator"]]
    masks = np.load(folder / "generators.npz")
    found = []
    for row in rows:
        config = CONFIGS[row["generator"].split("(")[0]]
        calm = True if "python bool" in row["generator"] else None
        mask = unpack(masks[f"g{row['mask']}_mask"], row)
        generator = Legacy(row["np_seed"])
        lines = draw_contours(mask, generator, row["is_positive"], config, calm)
        wanted = theirs(row["output"])
        found.append(overlap(fill(lines, mask.shape), fill(wanted, mask.shape)))
    assert min(found) >= SAME
    if "cv5" in file:  # the same OpenCV: nearly every pixel
        assert np.mean(found) > 0.999


def test_next_contours_are_the_originals(parity: Path, replay):
    folder = parity / "aggregators"
    rows = json.loads((folder / "aggregators.json").read_text())
    arrays = np.load(folder / "aggregators.npz")
    seeds = json.loads((parity / "generators" / "generators.json").read_text())
    base = min(row["np_seed"] for row in seeds)  # both folders were written with it
    for row in rows:
        target = arrays[f"a{row['case']}_gt"]
        mask = unpack(arrays[f"a{row['case']}_preds"][row["step"]], row).astype(bool)
        generator = Legacy(base + 100 * row["case"] + row["step"])
        line = next_contour(mask, target, generator, ContourConfig(side=0), protocol="paper")
        wanted = theirs(row["contour"])
        assert bool(wanted) == (line is not None)
        if line is not None:
            shape = target.shape
            assert overlap(fill([line], shape), fill(wanted, shape)) >= SAME


def test_lines_in_training_are_the_originals(parity: Path, replay):
    arrays = np.load(parity / "aggregators" / "train_getters.npz")
    for name in sorted({key.split("_")[0] for key in arrays.files}):
        get = lambda key, name=name: arrays[f"{name}_{key}"]  # noqa: E731
        generator = Legacy(int(get("np_seed")))
        for i in range(len(get("gt"))):
            shape = get("gt").shape[-2:]
            target, probs = get("gt")[i], torch.from_numpy(get("pred")[i])
            config = ContourConfig(side=0)
            lines, region, positive = training_contours(probs, target, generator, config)
            wanted = get("contour")[i] > 0
            assert overlap(fill(lines, shape), wanted) >= SAME
            loss_mask = get("contour_loss_mask")[i] > 0
            assert np.array_equal(region, loss_mask[0 if positive else 1])
            assert not loss_mask[1 if positive else 0].any()


def describe(row: dict, mask: np.ndarray, make, side: int, seeds: range) -> np.ndarray:
    "(seeds, 4) the columns of statistics.json: IoU, ratio of areas, precision, number of lines."
    config = replace(CONFIGS[row["generator"]], side=side)
    found = []
    for seed in seeds:
        lines = draw_contours(mask, make(seed), True, config)
        filled = fill(lines, mask.shape)[0]
        both, area = (filled & mask).sum(), max(filled.sum(), 1)
        found.append((overlap(filled, mask), filled.sum() / mask.sum(), both / area, len(lines)))
    return np.array(found)


def statistics(folder: Path):
    masks = np.load(folder / "statistics_masks.npz")
    for row in json.loads((folder / "statistics.json").read_text()):
        if row["generator"] in CONFIGS:
            yield row, unpack(masks[f"m{row['mask']}"], row) > 0


@pytest.mark.parametrize("side", [0, 40])  # 40: objects are drawn at a third of their size, or less
def test_our_own_draws_are_distributed_alike(parity: Path, side):
    seeds = range(1000, 1120)
    for row, mask in statistics(parity / "generators"):
        found = describe(row, mask, np.random.default_rng, side, seeds)
        spread = np.array(row["std"])
        slack = 4.5 * spread * np.sqrt(1 / row["n"] + 1 / len(seeds)) + 0.01
        assert (np.abs(found.mean(axis=0) - row["mean"]) < slack).all(), row["mask"]
        assert (np.abs(found.std(axis=0) - spread) < 0.4 * spread + 0.02).all(), row["mask"]
        for share in (10, 50, 90):  # how many of ours lie below their percentile
            limit = np.array(row[f"p{share}"][:3])
            wide = 4.5 * np.sqrt(share * (100 - share) * (1 / row["n"] + 1 / len(seeds)))
            assert (100 * (found[:, :3] < limit - 0.01).mean(axis=0) < share + wide).all()
            assert (100 * (found[:, :3] < limit + 0.01).mean(axis=0) > share - wide).all()
