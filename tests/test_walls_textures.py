"Replaced walls: only the wall, in its own light, quickly, and never by accident."

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.random import PCG64, Generator

from seglab.rooms import draw_room
from seglab.walls.textures import FINISHES, SETS, hang, replace_wall, shading


@pytest.fixture(scope="module")
def rooms():
    "Six plain rooms, and where their walls are."
    drawn = [draw_room(seed, (72, 96), "plain") for seed in range(6)]
    return [(room.image, room.labels == 0) for room in drawn]


@pytest.mark.parametrize("part", SETS)
@pytest.mark.parametrize("finish", [None, *FINISHES])
def test_only_the_wall_changes(rooms, part, finish) -> None:
    for seed, (image, wall) in enumerate(rooms):
        before = image.clone()
        new = replace_wall(image, wall, Generator(PCG64(seed)), part, finish=finish)
        assert torch.equal(image, before), "the original is left alone"
        assert torch.equal(new[:, ~wall], image[:, ~wall])
        assert new.shape == image.shape and new.dtype == image.dtype
        assert new.isfinite().all() and 0 <= new.min() and new.max() <= 1
        assert (new - image).abs().mean() > 0
        again = replace_wall(image, wall, Generator(PCG64(seed)), part, finish=finish)
        assert torch.equal(new, again)


def test_opacity_is_a_share(rooms) -> None:
    image, wall = rooms[0]
    made = [
        replace_wall(image, wall, Generator(PCG64(3)), opacity=(share, share), finish="mural")
        for share in (0.0, 0.5, 1.0)
    ]
    assert torch.equal(made[0], image)
    assert torch.allclose(made[1], (made[0] + made[2]) / 2, atol=1e-6)


def test_no_wall_or_one_pixel_of_it() -> None:
    image, wall = torch.rand(3, 40, 50), torch.zeros(40, 50, dtype=torch.bool)
    assert replace_wall(image, wall, Generator(PCG64(0))) is image
    wall[7, 9] = True
    for seed in range(10):
        new = replace_wall(image, wall, Generator(PCG64(seed)))
        assert torch.equal(new[:, ~wall], image[:, ~wall]) and new.isfinite().all()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_walls_stay_finite(value) -> None:
    image, wall = torch.full((3, 64, 64), value), torch.ones(64, 64, dtype=torch.bool)
    new = replace_wall(image, wall, Generator(PCG64(1)), finish="mural")
    assert new.isfinite().all() and 0 <= new.min() and new.max() <= 1


def test_shading_is_that_of_the_wall_alone() -> None:
    "A wall lit from the left, and a black thing before it that must not count."
    light = np.linspace(1, 0.4, 96, dtype=np.float32)[None].repeat(72, 0)
    picture, wall = np.repeat(light[..., None], 3, 2), np.ones((72, 96), bool)
    picture[20:60, 30:60], wall[20:60, 30:60] = 0, False
    found = shading(picture, wall)
    true = light / light[wall].mean()
    assert np.abs(found - true)[wall].mean() < 0.05
    assert np.corrcoef(found[wall], true[wall])[0, 1] > 0.98


def test_a_new_wall_has_the_light_of_the_old() -> None:
    light = torch.linspace(1, 0.3, 96).expand(3, 72, 96).contiguous()
    wall = torch.ones(72, 96, dtype=torch.bool)
    sides = []
    for seed in range(20):
        new = replace_wall(light, wall, Generator(PCG64(seed)), "test", (1, 1), "plain")
        sides.append((new[..., :24].mean() / new[..., -24:].mean()).item())
    assert np.median(sides) > 1.8


def test_a_hung_picture_covers_its_place() -> None:
    for seed in range(20):
        white = hang(Generator(PCG64(seed)), np.ones((30, 40, 3), np.float32), (50, 70))
        assert white.shape == (50, 70, 3) and white.min() > 0.99


def test_it_is_quick_enough_for_training(cpu_seconds: Callable) -> None:
    image, wall = torch.rand(3, 256, 256), torch.ones(256, 256, dtype=torch.bool)
    seconds = cpu_seconds(lambda seed: replace_wall(image, wall, Generator(PCG64(seed))), range(40))
    assert seconds < 0.015, "3 ms where nobody else computes"


def test_bad_input_is_refused() -> None:
    image, wall = torch.rand(3, 40, 50), torch.ones(40, 50, dtype=torch.bool)
    with pytest.raises(ValueError, match="wall: must be bool, got torch.uint8"):
        replace_wall(image, wall.byte(), Generator(PCG64(0)))
    with pytest.raises(ValueError, match="opacity: must be a rising pair in"):
        replace_wall(image, wall, Generator(PCG64(0)), opacity=(0.8, 0.2))
    with pytest.raises(ValueError, match="axis W must be 50, got shape"):
        replace_wall(image, wall[:, 1:], Generator(PCG64(0)))
    with pytest.raises(ValueError, match="finish: must be one of plain, pattern, mural"):
        replace_wall(image, wall, Generator(PCG64(0)), finish="fresco")
