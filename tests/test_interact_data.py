"Clicks, strokes, contours and the maps a network reads."

import time

import numpy as np
import pytest
import torch

from seglab.core import ConfigError
from seglab.interact.data import (
    FAR,
    KINDS,
    Click,
    Contour,
    Stroke,
    click_maps,
    draw_masks,
    encode,
    kind_of,
    move,
    pack_clicks,
)

LINE = [(4.0, 5.0), (20.5, 9.0), (30.0, 40.0)]


def dense(points, size, radius, disks):
    "Every pixel against every slot."
    slots = points.reshape(2 * len(points), -1, 3)
    unit = 1.0 if disks else radius
    down = (torch.arange(size[0])[:, None] - slots[..., 0, None, None]) / unit
    across = (torch.arange(size[1]) - slots[..., 1, None, None]) / unit
    square = down**2 + across**2
    square[slots[..., :2].amax(dim=-1) < 0] = FAR
    nearest = square.amin(dim=1)
    maps = (nearest <= radius**2).float() if disks else (2 * nearest.sqrt()).tanh()
    return maps.view(len(points), 2, *size)


@pytest.mark.parametrize("disks", [True, False])
@pytest.mark.parametrize("radius", [0.4, 1.0, 3.0, 5.0, 7.3, 60.0])
@pytest.mark.parametrize("size", [(1, 1), (5, 90), (37, 53), (64, 64)])
def test_local_maps_equal_dense_ones(disks, radius, size):
    points = torch.rand(3, 10, 3, generator=torch.Generator().manual_seed(0)) * 110 - 30
    points[0, :3], points[1, 5:], points[2, 4] = -1, -1, torch.tensor([-1.0, 0.0, 3.0])
    points[2, 5] = torch.tensor([1e6, 1e6, 0.0])
    maps = click_maps(points, size, radius, disks)
    wanted = dense(points, size, radius, disks)
    if disks:
        assert torch.equal(maps, wanted)
    torch.testing.assert_close(maps, wanted, atol=1e-6, rtol=0)


def test_one_negative_coordinate_is_a_click_and_two_are_none():
    points = torch.tensor([[[-1.0, 3.0, 0], [-1, -1, -1]]])
    assert click_maps(points, (8, 8), 2).sum(dim=(2, 3)).tolist() == [[4, 0]]
    assert not click_maps(torch.tensor([[[-1.0, -0.5, 0], [-3, -2, 0]]]), (8, 8), 2).any()


def test_maps_are_much_faster_than_dense_ones():
    points = torch.rand(1, 96, 3, generator=torch.Generator().manual_seed(0)) * 448
    times = {}
    for draw in (
        lambda: dense(points, (448, 448), 5, True),
        lambda: click_maps(points, (448, 448)),
    ):
        runs = []
        for _ in range(4):
            start = time.perf_counter()
            draw()
            runs.append(time.perf_counter() - start)
        times[len(times)] = min(runs)
    assert times[0] > 10 * times[1], times  # twenty on a quiet machine


def test_maps_of_many_clicks_need_no_table_of_all_pixels():
    points = torch.rand(1, 96, 3) * 4000
    maps = click_maps(points, (4000, 4200))
    assert maps.shape == (1, 2, 4000, 4200) and 0 < maps.sum() <= 96 * 81


@pytest.mark.parametrize("shape, radius", [((1, 3, 3), 5), ((1, 4, 3), 0), ((1, 4, 2), 5)])
def test_impossible_clicks_are_refused(shape, radius):
    with pytest.raises(ValueError, match="even number of slots|axis 3 must be 3"):
        click_maps(torch.zeros(shape), (8, 8), radius)


def test_packing_keeps_order_polarity_and_numbers():
    first = [Click(1, 2), Click(3, 4, False), Click(5, 6), Click(7.25, 8.5)]
    points = pack_clicks([first, []])
    assert points.shape == (2, 6, 3) and points.dtype == torch.float32
    assert points[0, :3].tolist() == [[1, 2, 0], [5, 6, 2], [7.25, 8.5, 3]]
    assert points[0, 3:].tolist() == [[3, 4, 1], [-1] * 3, [-1] * 3]
    assert (points[1] == -1).all()
    assert pack_clicks([[]]).shape == (1, 2, 3), "there is always a slot of each polarity"
    assert pack_clicks([]).shape == (0, 2, 3)


@pytest.mark.parametrize("word", [Click(3.5, 4, False), Stroke(LINE, False), Contour(LINE, False)])
def test_moving_there_and_back_changes_nothing(word):
    there = move(word, (0.5, 3), (7, -2))
    assert kind_of(there) == kind_of(word) and there.positive is False
    back = move(move(there, (1, 1), (-7, 2)), (2, 1 / 3))
    ours, theirs = ([w.y, w.x] if isinstance(w, Click) else w.points for w in (word, back))
    np.testing.assert_allclose(ours, theirs)


def test_lines_without_points_draw_nothing_and_wrong_ones_are_refused():
    for kind in (Stroke, Contour):
        assert kind([]).points.shape == (0, 2)
        assert not draw_masks([kind([]), kind(LINE[:2])], (9, 9), kind.__name__.lower()).any()
        with pytest.raises(ValueError, match=r"need \(N, 2\) rows and columns, got \(3,\)"):
            kind([1.0, 2.0, 3.0])


def test_drawing_knows_kind_polarity_and_filling():
    words = [Stroke(LINE), Contour(LINE, positive=False), Click(5, 5)]
    stroke, contour = (draw_masks(words, (48, 48), kind) for kind in ("stroke", "contour"))
    assert stroke[0].any() and not stroke[1].any()
    assert contour[1].any() and not contour[0].any()
    line = draw_masks(words, (48, 48), "contour", filled=False, line=3)
    assert line[1].sum() < stroke[0].sum(), "three pixels are less than ten"
    assert set(contour.unique().tolist()) == {0.0, 1.0} and contour.dtype == torch.float32
    far = draw_masks([Contour([(-50, -50), (-50, 99), (99, 99), (99, -50)])], (20, 30), "contour")
    assert far[0].all(), "corners may lie outside"
    with pytest.raises(ConfigError, match="unknown kind of drawing 'click'"):
        draw_masks(words, (48, 48), "click")


def test_encode_stacks_kinds_and_keeps_others_empty():
    words = [Click(5, 5), Stroke(LINE), Contour(LINE, positive=False)]
    maps = encode(words, (48, 40))
    assert maps.shape == (6, 48, 40)
    assert maps.flatten(1).any(dim=1).tolist() == [True, False, False, True, True, False]
    dimples = encode(words, (48, 40), disks=False, radius=9, current="contour")
    assert not dimples[:2].any(), "not even the ones that an empty map of dimples is full of"
    assert torch.equal(dimples[2:4], maps[2:4]) and not dimples[4:].any()
    assert encode([], (8, 8), ("click",)).sum() == 0
    with pytest.raises(ValueError, match="this network reads only: click"):
        encode(words, (48, 40), ("click",))
    with pytest.raises(ConfigError, match="did you mean 'stroke'"):
        encode(words, (48, 40), KINDS, current="strokes")


def test_places_that_are_nowhere_are_refused():
    with pytest.raises(ValueError, match="a click needs a row and a column, got nan and 3"):
        Click(float("nan"), 3)
    with pytest.raises(ValueError, match="some are NaN or infinite"):
        Stroke([(0, 1), (np.inf, 2)])
