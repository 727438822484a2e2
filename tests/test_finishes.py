"Finishes of walls: two honest sets, exact repetition, any size."

import numpy as np
import pytest
from numpy.random import PCG64, Generator

from seglab import finishes
from seglab.backdrops import PHOTOGRAPHS
from seglab.finishes import (
    FINISHES,
    MURALS,
    PHOTOGRAPH_SETS,
    SETS,
    draw_finish,
    photo_piece,
    set_photographs,
)
from seglab.patterns import PATTERNS, draw_pattern


@pytest.mark.parametrize("part", SETS)
@pytest.mark.parametrize("finish", FINISHES)
@pytest.mark.parametrize("size", [(12, 12), (13, 200), (256, 40)])
def test_any_size_and_nothing_impossible(part, finish, size) -> None:
    for seed in range(12):
        picture = draw_finish(Generator(PCG64(seed)), size, finish, part)
        assert picture.shape == (*size, 3) and picture.dtype == np.float32
        assert np.isfinite(picture).all() and 0 <= picture.min() and picture.max() <= 1
        again = draw_finish(Generator(PCG64(seed)), size, finish, part)
        assert np.array_equal(picture, again)


def test_the_sets_share_no_photograph_and_no_recipe() -> None:
    names = [PHOTOGRAPH_SETS[part].split() for part in SETS]
    known = [
        name.rsplit("/", 1)[1].split(".")[0] for row in PHOTOGRAPHS.values() for name in row.split()
    ]
    assert sorted(names[0] + names[1]) == sorted(known), "each in one set"
    pictures = [{photo.tobytes() for photo in set_photographs(part)} for part in SETS]
    assert not pictures[0] & pictures[1]
    motorcycles = [sum("motorcycle" in name for name in row) for row in names]
    assert 0 in motorcycles, "two views of one scene stay together"
    for recipes in (PATTERNS, MURALS):
        code = [{recipe.__code__.co_code for recipe in recipes[part]} for part in SETS]
        assert not code[0] & code[1] and min(map(len, code)) >= 3


@pytest.mark.parametrize("part", SETS)
def test_a_set_draws_from_its_own_photographs_alone(part, monkeypatch) -> None:
    "Every photograph of the other set is replaced by white; nothing changes."
    other = SETS[1 - SETS.index(part)]
    before = [draw_finish(Generator(PCG64(s)), (40, 50), "mural", part) for s in range(40)]
    own = finishes.set_photographs

    def whitened(asked):
        photos = own(asked)
        return tuple(np.full_like(photo, 255) for photo in photos) if asked == other else photos

    monkeypatch.setattr(finishes, "set_photographs", whitened)
    after = [draw_finish(Generator(PCG64(s)), (40, 50), "mural", part) for s in range(40)]
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))


@pytest.mark.parametrize("part", SETS)
def test_patterns_repeat_exactly_in_both_directions(part) -> None:
    for seed in range(12):
        wall = draw_pattern(Generator(PCG64(seed)), (160, 160), part)
        for flat in (wall, wall.transpose(1, 0, 2)):
            misfit = [np.abs(flat[shift:] - flat[:-shift]).max() for shift in range(12, 110)]
            assert min(misfit) == 0


def test_plain_walls_are_plain_and_murals_are_not() -> None:
    spread = {
        finish: np.median(
            [
                draw_finish(Generator(PCG64(s)), (64, 64), finish).std((0, 1)).mean()
                for s in range(40)
            ]
        )
        for finish in FINISHES
    }
    assert spread["plain"] < 0.05 < 0.1 < spread["mural"]


def test_a_piece_of_a_photograph_keeps_its_proportions() -> None:
    for seed in range(10):
        assert photo_piece(Generator(PCG64(seed)), (30, 90), "test").shape == (30, 90, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("brick", "train"), "finish: must be one of plain, pattern, mural; got 'brick'"),
        (("mural", "val"), "part: must be one of train, test; got 'val'"),
    ],
)
def test_unknown_names_are_refused(given, message) -> None:
    with pytest.raises(ValueError, match=message):
        draw_finish(Generator(PCG64(0)), (48, 48), *given)
