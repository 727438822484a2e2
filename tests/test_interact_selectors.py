"Which kind of interaction comes next."

import numpy as np
import pytest

from seglab.core import ConfigError
from seglab.interact.selectors import (
    SCHEDULE,
    TRAINING,
    ByChance,
    InOrder,
    product_schedules,
    random_kind,
)


def test_schedule_by_hand():
    generator = np.random.default_rng(0)
    kinds = [SCHEDULE(step, 0.5, generator) for step in range(5)]
    assert kinds == ["contour", "stroke", "stroke", "click", "click"]
    assert [SCHEDULE(0, share, generator) for share in (0, 0.05, 0.1)] == [
        "contour",
        "click",
        "contour",
    ]
    assert InOrder(())(0, 0, generator) == "click"


def test_products_are_all_different():
    assert len({plan.kinds for plan in product_schedules()}) == 27
    assert product_schedules(("click", "stroke"), 2)[1].kinds == ("click", "stroke")


def test_kinds_by_chance_follow_the_seed_and_the_chances():
    drawn = [[TRAINING(s, 0, g) for s in range(900)] for g in map(np.random.default_rng, (1, 1))]
    assert drawn[0] == drawn[1]
    assert all(abs(drawn[0].count(kind) / 900 - 0.33) < 0.06 for kind in TRAINING.kinds)
    some = random_kind(("contour", "click"))
    assert set(some.kinds) == {"contour", "click"} and np.isclose(sum(some.chances), 1)
    assert some.chances[1] > some.chances[0]


def test_bad_plans_are_named():
    with pytest.raises(ConfigError, match="kind of interaction"):
        InOrder(("scribble",))
    with pytest.raises(ConfigError, match=r"small: must be a share of the picture in \[0, 1\]"):
        InOrder(("click",), small=10)
    with pytest.raises(ConfigError, match="together 1"):
        ByChance(("click", "stroke"), (0.5, 0.6))
    with pytest.raises(ConfigError, match="kind of interaction"):
        random_kind(("point",))
