"Drawn rooms and façades: repeatable, exact at every size, and cleared without a trace."

import itertools

import cv2
import numpy as np
import pytest
import torch
from numpy.random import PCG64, Generator

from seglab import furniture, rooms, sites, stage
from seglab.furniture import INDOORS, OUTDOORS
from seglab.patterns import SETS
from seglab.rooms import FINISHES, draw_facade, draw_room
from seglab.sites import floor_plan
from seglab.stage import box, empty_stage

KINDS = pytest.mark.parametrize(("draw", "label"), [(draw_room, 0), (draw_facade, 1)])
NAMES = ("image", "labels", "empty", "walls")


@KINDS
@pytest.mark.parametrize("size", [48, 97, (48, 160), (150, 64), (200, 256)])
def test_a_room_of_any_size_has_four_pictures_of_that_size(draw, label, size) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    for finish in FINISHES:
        room = draw(3, size, finish)
        assert room.image.shape == room.empty.shape == (3, height, width)
        assert room.labels.shape == room.walls.shape == (height, width)
        assert room.image.dtype == room.empty.dtype == torch.float32
        assert room.labels.dtype == room.walls.dtype == torch.int64
        for picture in (room.image, room.empty):
            assert picture.is_contiguous() and 0 <= picture.min() and picture.max() <= 1
        assert (room.labels < 150).all(), "every pixel is something"


@KINDS
def test_the_seed_alone_decides(draw, label) -> None:
    first = draw(11, 64)
    np.random.seed(5)
    torch.manual_seed(5)
    draw(12, 80)
    again, other = draw(11, 64), draw(12, 64)
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in NAMES)
    assert not torch.equal(first.image, other.image)


@KINDS
def test_global_random_states_are_left_alone(draw, label) -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    expected = np.random.random(), torch.rand(1)
    np.random.seed(1)
    torch.manual_seed(1)
    draw(4, 64)
    assert (np.random.random(), torch.rand(1)) == expected


@KINDS
def test_without_things_nothing_is_hidden(draw, label) -> None:
    for seed in range(12):
        room = draw(seed, 64, things=0)
        assert torch.equal(room.image, room.empty)
        assert torch.equal(room.labels == label, room.walls > 0)


@KINDS
def test_things_change_the_picture_only_where_they_stand(draw, label) -> None:
    hidden = 0
    for seed in range(12):
        bare, full = draw(seed, 96, things=0), draw(seed, 96, things=6)
        assert torch.equal(bare.walls, full.walls), "planes know what is behind things"
        same = (bare.labels == full.labels).numpy().astype(np.uint8)
        away = torch.from_numpy(cv2.erode(same, np.ones((5, 5))) > 0)  # off soft edges
        changed = (full.image - full.empty).abs().amax(0)[away]
        # leaves thinner than half a pixel tint what they do not own
        assert changed.max() < 0.3 and (changed > 0).float().mean() < 0.02
        wall = full.labels == label
        assert (full.walls[wall] > 0).all()
        hidden += int((full.walls[~wall] > 0).sum())
    assert hidden > 5000, "something stands before walls"


@pytest.mark.parametrize("planes", [1, 2, 3])
def test_a_room_shows_as_many_walls_as_it_has(planes) -> None:
    for seed in range(20):
        room = draw_room(seed, 64, things=0, planes=planes)
        columns = [room.walls == number for number in range(1, planes + 1)]
        assert room.walls.max() == planes and all(plane.any() for plane in columns)
        middles = [torch.nonzero(plane)[:, 1].float().mean() for plane in columns]
        assert middles == sorted(middles), "counted from left to right"


def test_a_house_behind_a_window_is_no_house() -> None:
    for seed in range(30):
        assert not (draw_room(seed, 48).labels == 1).any()


def test_every_kind_of_thing_and_fixture_is_met() -> None:
    inside = set(np.concatenate([draw_room(s, 64).labels.unique() for s in range(80)]))
    outside = set(np.concatenate([draw_facade(s, 64).labels.unique() for s in range(60)]))
    assert inside >= {0, 3, 5, 7, 8, 10, 12, 14, 15, 17, 18, 19, 22, 23, 36, 62}
    assert outside >= {1, 2, 4, 6, 8, 11, 12, 14, 17, 20, 87}


def test_finishes_differ_as_they_should() -> None:
    "Murals have more colours than plain walls, and plain walls have all hues."
    spread = {}
    for finish in FINISHES:
        drawn = [draw_room(seed, 64, finish, things=0) for seed in range(40)]
        walls = [room.image[:, room.walls == 1] for room in drawn]
        spread[finish] = np.median([wall.std(dim=1).mean() for wall in walls])
    assert 2 * spread["plain"] < min(spread["pattern"], spread["mural"])
    mean = [draw_room(s, 48, "plain", 0).image.mean((1, 2)) for s in range(60)]
    assert {int(colour.argmax()) for colour in mean} == {0, 1, 2}


def test_a_set_uses_only_its_own_recipes(monkeypatch) -> None:
    asked = []

    def spy_on(module, name: str) -> None:
        original = getattr(module, name)

        def spy(*given):
            asked.extend(word for word in given if isinstance(word, str) and word in SETS)
            return original(*given)

        monkeypatch.setattr(module, name, spy)

    spy_on(rooms, "draw_pattern")
    spy_on(stage, "draw_pattern")
    spy_on(stage, "photo_piece")
    spy_on(sites, "draw_finish")
    spy_on(furniture, "palette")
    stage.figure.cache_clear()
    for seed in range(10):
        draw_room(seed, 64, part="test")
        draw_facade(seed, 64, part="test")
    assert set(asked) == {"test"} and len(asked) > 100


@pytest.mark.parametrize("painters", [INDOORS, OUTDOORS])
def test_shares_of_things_are_shares(painters) -> None:
    assert abs(sum(share for share, _ in painters.values()) - 1) < 1e-9


def test_walls_of_a_plan_meet_where_they_should() -> None:
    for seed, count in itertools.product(range(15), (1, 2, 3)):
        walls = floor_plan(Generator(PCG64(seed)), count, 0.7)
        assert len(walls) == count
        for one, two in itertools.pairwise(walls):
            ends = one.spot(one.reach[1]).foot, two.spot(two.reach[0]).foot
            assert np.allclose(*ends)
            turn = np.degrees(
                np.arccos(one.line @ two.line / np.hypot(*one.line) / np.hypot(*two.line))
            )
            assert 74 < turn < 106.5


def test_a_box_seen_from_the_front_by_hand() -> None:
    "One metre wide and high, 2 m away, focal length 100: 50 pixels square, standing on the floor."
    view = empty_stage((101, 101), focal=100, horizon=50, eye=1.0)
    base = np.array([(-0.5, 2), (0.5, 2), (0.5, 3), (-0.5, 3)])
    box(view, base, (0, 1), np.array([0.2, 0.4, 0.6]), 10)
    rows, columns = np.nonzero(view.labels == 10)
    assert abs(rows.min() - 50) <= 1 and abs(rows.max() - 100) <= 1
    assert abs(columns.min() - 25) <= 1 and abs(columns.max() - 75) <= 1
    assert np.allclose(view.image[75, 50], (0.2, 0.4, 0.6))


@KINDS
def test_what_cannot_be_drawn_is_refused(draw, label) -> None:
    with pytest.raises(ValueError, match=r"at least 48 pixels, got \(47, 64\)"):
        draw(0, (47, 64))
    with pytest.raises(ValueError, match="finish: must be one of .*; got 'bricks'"):
        draw(0, 64, "bricks")
    with pytest.raises(ValueError, match="part: must be one of train, test; got 'val'"):
        draw(0, 64, part="val")
