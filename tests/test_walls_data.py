"Lessons and exams cut from pictures."

import pytest
import torch
from numpy.random import default_rng

from seglab.core import IGNORE
from seglab.walls.data import WallSamples, dataset, repaint_wall
from seglab.walls.pictures import DrawnWalls, Picture, Repainted
from seglab.walls.textures import replace_wall


class One:
    "A wide picture, wall on the left and sky on the right."

    names, targets, corners = ("wall", "sky"), ("wall",), False

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Picture:
        labels = torch.zeros(40, 100, dtype=torch.int64)
        labels[:, 50:] = 1
        image = torch.full((3, 40, 100), 60, dtype=torch.uint8)
        image[:, labels == 1] = 200
        return Picture("one", image, labels)


def test_an_exam_is_the_whole_view_in_a_square() -> None:
    exam = WallSamples(One(), side=50)[0]
    assert exam["image"].shape == (3, 50, 50) and exam["labels"].shape == (50, 50)
    assert (exam["labels"] != IGNORE).sum() == 20 * 50, "20 rows of 50 hold the photograph"
    assert (exam["labels"] == 0).sum() == (exam["labels"] == 1).sum()


def test_image_and_labels_move_together() -> None:
    lessons = WallSamples(One(), side=32, count=40, augment=True)
    for lesson in lessons:
        bright = lesson["image"].mean(dim=0)
        for number in (0, 1):  # light and colour change, but within one class all pixels alike
            region = bright[lesson["labels"] == number]
            if len(region) > 300:  # of a narrow strip, much is the blurred edge itself
                assert region.quantile(0.85) - region.quantile(0.15) < 0.1


def test_lessons_come_in_many_scales() -> None:
    lessons = WallSamples(One(), side=32, count=60, augment=True)
    padded = [(lesson["labels"] == IGNORE).any().item() for lesson in lessons]
    assert 10 < sum(padded) < 50, "too small: padded; too large: cut"


def test_repainting_only_touches_the_share_asked_for() -> None:
    plain = WallSamples(One(), side=32, count=30, augment=True, repaint=0.0)
    painted = WallSamples(One(), side=32, count=30, augment=True, repaint=1.0)
    spread = [
        torch.stack(
            [
                each["image"][:, each["labels"] == 0].std()
                for each in samples
                if (each["labels"] == 0).sum() > 100
            ]
        ).mean()
        for samples in (plain, painted)
    ]
    assert spread[1] > spread[0] + 0.02


def test_repainting_keeps_what_is_not_wall_but_mixes_the_edge() -> None:
    image = torch.zeros(3, 60, 80)  # a grey wall, and a black thing before it
    wall = torch.ones(60, 80, dtype=torch.bool)
    wall[20:, 30:60] = False
    image[:, wall] = 0.5
    mixed = 0
    for seed in range(12):
        painted = repaint_wall(image, wall, default_rng(seed))
        assert painted.shape == image.shape and painted.min() >= 0 and painted.max() <= 1
        assert (painted[:, 21:, 31:59] == 0).all(), "one pixel inside the thing nothing changes"
        mixed += (painted[:, 20, 31:59] > 0.02).any().item()
        assert torch.equal(painted, repaint_wall(image, wall, default_rng(seed)))
    assert mixed > 6, "its edge shows the new wall"


def test_a_repainted_wall_has_corners() -> None:
    image, wall = torch.full((3, 64, 64), 0.5), torch.ones(64, 64, dtype=torch.bool)
    jumps = []
    for seed in range(40):
        painted = repaint_wall(image, wall, default_rng(seed)).mean(dim=(0, 1))
        jumps.append(painted.diff().abs().max().item() > 0.04)
    assert 8 < sum(jumps) < 40, "often a new part begins at some column, not always"


def test_photographs_keep_one_picture_across_the_wall() -> None:
    assert WallSamples(One(), 32).paint is replace_wall
    drawn = DrawnWalls(32, 1)
    for source in (drawn, Repainted(drawn, "pattern")):
        assert WallSamples(source, 32).paint is repaint_wall


def test_a_view_without_wall_comes_back_as_it_is() -> None:
    image = torch.rand(3, 40, 50)
    assert repaint_wall(image, torch.zeros(40, 50, dtype=torch.bool), default_rng(0)) is image


def test_the_same_index_of_the_same_epoch_is_the_same_lesson() -> None:
    first, again = (WallSamples(One(), 32, 8, augment=True, repaint=0.5) for _ in range(2))
    assert all((a["image"] == b["image"]).all() for a, b in zip(first, again, strict=True))
    before = torch.stack([first[n]["image"] for n in range(8)])
    first.set_epoch(1)
    assert not (torch.stack([first[n]["image"] for n in range(8)]) == before).all()
    with pytest.raises(IndexError):
        first[8]


def test_exams_are_never_repainted() -> None:
    assert dataset("val", "drawn", 48, 2, repaint=1.0).repaint == 0
    assert dataset("train", "drawn", 48, 2, repaint=1.0).repaint == 1
