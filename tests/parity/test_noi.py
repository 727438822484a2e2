"NoI, failures and the figure over 27 sequences, from our tables, equal those of SAIC-IS."

import json

import numpy as np
import pandas as pd
import pytest

from seglab.interact.selectors import SCHEDULE, product_schedules
from seglab.interact.tables import count_games, mean_curves, spread

KINDS = dict(point="click", contour="contour", stroke="stroke")


@pytest.fixture(scope="module")
def folder(parity):
    return parity / "noi"


def table(lists: list, players: list[str] | None = None) -> pd.DataFrame:
    count = len(lists)
    games = dict(number=range(count), player=players or ["clicks"] * count, ious=lists)
    return pd.DataFrame(games).assign(boundary_ious=lists, seconds=1.0, seconds_model=1.0)


def test_interactions_and_spent_budgets(folder):
    stored = json.loads((folder / "noi.json").read_text())
    games = table(stored["all_ious"])
    for result in stored["results"]:
        budget = result["max_interactions"]
        counts = count_games(games, budget, result["thrs"], word="NoI")
        note = f"{result['thrs']}, {budget}"
        noi = counts.filter(regex="^NoI@").mean().tolist()
        assert noi == pytest.approx(result["noi"], rel=1e-9), note
        assert counts.filter(regex="^spent").sum().tolist() == result["over_max"], note


def test_mean_over_sequences(folder):
    example = json.loads((folder / "noi.json").read_text())["product_example"]
    objects, players = len(example["all_ious"]), len(example["all_ious"][0])
    names = [f"{player:02d}" for player in range(players)] * objects
    flat = [ious for one in example["all_ious"] for ious in one]
    budget = max(map(len, flat))
    figures = spread(mean_curves(table(flat, names), budget))
    assert figures["mean"] == pytest.approx(example["avg"], rel=1e-5)
    assert figures["std"] == pytest.approx(example["std"], rel=1e-5)


def test_selectors(folder):
    stored = json.loads((folder / "selectors.json").read_text())
    generator = np.random.default_rng(0)
    for row in stored["InteractionSelector_default"]:
        assert SCHEDULE(row["i"], row["frac"], generator) == KINDS[row["itype"]], row
    for plan, wanted in zip(product_schedules(), stored["Product_sequences"], strict=True):
        kinds = [plan(step, 0.5, generator) for step in range(len(wanted))]
        assert kinds == [KINDS[kind] for kind in wanted]
