"Which kind comes at which step, against the original program."

import json

import pytest

from seglab.interact.selectors import SCHEDULE, TRAINING, product_schedules

from .draws import Draws

ORIGINAL = dict(click="point", contour="contour", stroke="stroke")


@pytest.fixture(scope="module")
def selectors(parity):
    return json.loads((parity / "noi" / "selectors.json").read_text())


def test_default_schedule(selectors):
    for row in selectors["InteractionSelector_default"]:
        assert ORIGINAL[SCHEDULE(row["i"], row["frac"], None)] == row["itype"], row


def test_all_products(selectors):
    expected = selectors["Product_sequences"]
    plans = product_schedules()
    found = [
        [ORIGINAL[plan(step, 0.2, None)] for step in range(len(row))]
        for plan, row in zip(plans, expected, strict=True)
    ]
    assert found == expected


def test_random_kinds_take_one_number_each():
    draws, direct = Draws(3), Draws(3)
    for step in range(50):
        number = direct.random()
        kind = "stroke" if number < 0.33 else "contour" if number < 0.66 else "click"
        assert TRAINING(step, 0.2, draws) == kind
