"Strokes and first lines: where they run, when there are none, and what is refused."

import numpy as np
import pytest
import torch

from seglab.core import IGNORE, ConfigError
from seglab.interact.data import Contour, Stroke
from seglab.interact.lines import LINES, first_lines
from seglab.interact.strokes import (
    StrokeStyle,
    draw_stroke,
    draw_stroke_with_ends,
    next_stroke,
    training_stroke,
)


def disc(size: tuple[int, int], centre: tuple[int, int], radius: float) -> np.ndarray:
    y, x = np.ogrid[: size[0], : size[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def over(stroke: Stroke, region: np.ndarray) -> float:
    "Share of a stroke's points that lie on a region."
    return region[tuple(stroke.points.T.astype(int))].mean()


@pytest.mark.parametrize("centre", [(60, 80), (0, 0), (119, 159)])
def test_strokes_run_over_a_disc_and_stay_in_the_picture(centre):
    region = disc((120, 160), centre, 40)
    for seed in range(30):
        stroke, ends = draw_stroke_with_ends(region, np.random.default_rng(seed))
        assert (stroke.points >= 0).all() and (stroke.points < region.shape).all()
        assert over(stroke, region) > 0.6 and region[tuple(ends.T)].all()
        again = draw_stroke(region, np.random.default_rng(seed))
        assert np.array_equal(again.points, stroke.points), "the same seed, the same stroke"


def test_too_little_for_a_stroke():
    generator = np.random.default_rng(0)
    region = np.zeros((50, 50), bool)
    assert draw_stroke(region, generator) is None
    region[10:13, 10:13] = True  # one pixel is left without the border
    assert draw_stroke(region, generator) is None
    region[10:13, 10:14] = True  # two are
    stroke = draw_stroke(region, generator, positive=False)
    assert stroke is None or not stroke.positive


def test_the_largest_piece_or_all_large_ones():
    region = disc((100, 200), (50, 50), 40) | disc((100, 200), (50, 150), 30)
    largest = [draw_stroke(region, np.random.default_rng(seed)) for seed in range(20)]
    assert all(stroke.points[:, 1].max() < 110 for stroke in largest)
    style = StrokeStyle(one_piece=False)
    anywhere = [draw_stroke(region, np.random.default_rng(s), style=style) for s in range(20)]
    assert any(stroke.points[:, 1].max() > 120 for stroke in anywhere)


def test_straight_strokes_of_degree_one_without_a_sine():
    style = StrokeStyle(degree=1, sine=False)
    for seed in range(10):
        points = draw_stroke(
            disc((90, 90), (45, 45), 40), np.random.default_rng(seed), style=style
        ).points
        centred = points - points.mean(axis=0)
        across = centred @ np.linalg.svd(centred, full_matrices=False)[2][1]
        assert np.abs(across).max() < 1.5, "a line, up to whole pixels"


def test_strokes_on_errors_have_their_polarity():
    target = disc((100, 100), (50, 40), 25).astype(np.uint8)
    target[:, 90:] = IGNORE
    generator = np.random.default_rng(0)
    missed = next_stroke(np.zeros((100, 100), bool), target, generator)
    extra = next_stroke(np.ones((100, 100), bool), target, generator)
    assert missed.positive and over(missed, target == 1) > 0.6
    assert not extra.positive
    assert next_stroke(target == 1, target, generator) is None
    probs = torch.where(torch.from_numpy(target) == 1, 0.4, 0.2)[None]
    stroke, ends = training_stroke(probs, torch.from_numpy(target)[None], generator)
    assert stroke.positive and (target[tuple(ends.T)] == 1).all()
    sure = torch.from_numpy(target == 1).float()[None]
    assert training_stroke(sure, torch.from_numpy(target)[None], generator) is None


def test_ignored_pixels_get_strokes_from_the_original_only():
    target = torch.full((1, 60, 60), IGNORE, dtype=torch.uint8)
    probs, generator = torch.ones(1, 60, 60), np.random.default_rng(0)
    assert training_stroke(probs, target, generator) is None
    assert not training_stroke(probs, target, generator, protocol="paper")[0].positive
    with pytest.raises(ConfigError, match="protocol"):
        training_stroke(probs, target, generator, protocol="both")


def test_first_lines_are_one_positive_and_perhaps_one_negative():
    regions = [disc((120, 160), (60, 50), 20), disc((120, 160), (60, 90), 15)]
    target = (regions[0] | regions[1]).astype(np.uint8)
    seen = []
    for seed in range(40):
        lines = first_lines(regions, target, np.random.default_rng(seed), draw_stroke)
        assert lines[0].positive and [line.positive for line in lines[1:]] in ([], [False])
        assert all(over(line, target == 1) < 0.2 for line in lines[1:])
        seen.append(len(lines))
    assert {1, 2} == set(seen)
    nothing = np.zeros((120, 160), bool)
    assert first_lines([nothing], target * 0, np.random.default_rng(0), draw_stroke) == []
    assert first_lines([], target * 0, np.random.default_rng(0), draw_stroke) == []


def test_first_lines_throw_away_a_negative_line_that_covers_the_object():
    region = disc((80, 80), (40, 40), 20)

    def circle(where, generator, positive):
        "Always around the middle, whatever is asked."
        return Contour(np.argwhere(disc((80, 80), (40, 40), 10)), positive)

    for seed in range(20):
        lines = first_lines([region], region.astype(np.uint8), np.random.default_rng(seed), circle)
        assert [line.positive for line in lines] == [True]
    assert LINES.share == 0.5
