"Walls told apart: right by hand where it is clear, often enough where it is not."

import numpy as np
import pytest
import torch

from seglab.rooms import draw_room
from seglab.walls.planes import outline_clues, split_walls, step_clues


def two_walls(corner: int, size: tuple[int, int] = (96, 128), light: float = 0.7):
    "Grey walls that meet at a column, below a ceiling line that bends there."
    rows, columns = np.mgrid[: size[0], : size[1]]
    ceiling = 0.2 * size[0] - np.abs(columns - corner) / 3
    wall = (rows > ceiling) & (rows < size[0] - 10)
    grey = np.where(columns < corner, 0.8, 0.8 * light) * np.where(wall, 1, 0.2)
    image = torch.from_numpy(np.repeat(grey[None], 3, 0)).float()
    return image, torch.from_numpy(wall)


@pytest.mark.parametrize("corner", [30, 64, 100])
@pytest.mark.parametrize("scale", [1, 2, 5])
def test_a_clear_corner_is_found_at_any_size(corner: int, scale: int) -> None:
    image, wall = two_walls(corner * scale, (96 * scale, 128 * scale))
    planes = split_walls(image, wall)
    assert planes.dtype == torch.int64 and torch.equal(planes > 0, wall)
    assert planes.max() == 2
    truth = (torch.arange(128 * scale) >= corner * scale) + 1
    assert (planes == truth)[wall].float().mean() > 0.97


def test_one_wall_stays_one() -> None:
    rows = torch.arange(96)[:, None].expand(96, 128)
    wall = (rows > 15) & (rows < 80)
    assert split_walls(torch.full((3, 96, 128), 0.6), wall).max() == 1


def test_light_alone_and_outline_alone_both_count() -> None:
    image, wall = two_walls(64, light=1.0)  # the same light on both
    picture = image.permute(1, 2, 0).numpy()
    assert outline_clues(wall.numpy())[62:67, 0].max() > 0.4
    assert step_clues(picture, wall.numpy())[:, 0].max() < 0.01
    lit, whole = two_walls(64)[0], torch.ones(96, 128, dtype=torch.bool)
    lit = torch.where(torch.arange(128) < 64, 0.8, 0.56).expand(3, 96, 128)
    steps = step_clues(lit.permute(1, 2, 0).numpy(), whole.numpy())
    assert steps[:, 0].argmax() in (63, 64) and steps[63, 1] == 1
    assert outline_clues(whole.numpy()).max() == 0, "the outline is the picture's own edge"


def test_without_a_wall_and_with_a_crumb_of_it() -> None:
    image, wall = torch.rand(3, 60, 80), torch.zeros(60, 80, dtype=torch.bool)
    assert not split_walls(image, wall).any()
    wall[30, 40] = True
    assert split_walls(image, wall)[30, 40] == 1
    sliver = torch.ones(300, 20, dtype=torch.bool)
    assert torch.equal(split_walls(torch.rand(3, 300, 20), sliver), sliver.long())


def test_numbers_have_no_gap() -> None:
    for seed in range(25):
        room = draw_room(seed, 96)
        planes = split_walls(room.image, room.labels == 0)
        seen = planes.unique().tolist()
        assert [number for number in seen if number] == list(range(1, max(seen) + 1))


def test_counts_are_right_in_most_rooms() -> None:
    "Forty rooms; on the page, 201 others are right four times in five."
    right = []
    for seed in range(400000, 400040):
        room = draw_room(seed, 128)
        found = split_walls(room.image, room.labels == 0).max().clip(1)
        right.append(bool(found == room.walls.max()))
    assert np.mean(right) >= 0.7


def test_bad_input_is_refused() -> None:
    image, wall = torch.rand(3, 60, 80), torch.ones(60, 80, dtype=torch.bool)
    with pytest.raises(ValueError, match="wall: must be bool, got torch.int64"):
        split_walls(image, wall.long())
    with pytest.raises(ValueError, match="axis W must be 80, got shape"):
        split_walls(image, wall[:, 1:])
