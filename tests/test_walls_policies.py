"Which classes are wall, and what stands in front of it."

import pytest
import torch

from seglab.core import ConfigError
from seglab.walls.labels import ADE20K, LabelError
from seglab.walls.policies import choose_targets, find_occluders, find_wall, recover_murals

WALL, BUILDING, CEILING, PANE, SOFA, PAINTING = (
    ADE20K.index(name) for name in ("wall", "building", "ceiling", "windowpane", "sofa", "painting")
)


def room() -> torch.Tensor:
    "Ceiling above, wall below, a house behind the window."
    labels = torch.full((100, 100), WALL)
    labels[:20] = CEILING
    labels[40:60, 40:60] = BUILDING
    return labels


def test_indoors_a_building_is_the_view_from_the_window() -> None:
    assert choose_targets(room(), policy="names") == ("wall", "building")
    assert choose_targets(room(), policy="adaptive") == ("wall",)
    outside = room().masked_fill(room() == CEILING, ADE20K.index("sky"))
    assert {"wall", "building"} <= {*choose_targets(outside, policy="adaptive")}
    assert choose_targets(outside, ["wall"], policy="adaptive")[:2] == ("wall", "building")


def test_who_asks_for_buildings_alone_gets_them_indoors_too() -> None:
    assert choose_targets(room(), ["building"], policy="adaptive") == ("building",)


def test_a_set_of_other_names() -> None:
    labels = torch.tensor([[0, 1], [1, 1]])
    mask, used = find_wall(labels, ["wall"], "recover", known=("sky", "wall"))
    assert used == ("wall",) and mask.tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize(
    ("side", "recovered"),
    [(4, False), (10, False), (20, True), (40, True)],  # of 100: 0.16, 1, 4 and 16 percent
)
def test_a_mural_in_the_middle_of_a_wall_is_won_back_by_its_size(
    side: int, recovered: bool
) -> None:
    labels = torch.full((100, 100), WALL)
    labels[30 : 30 + side, 30 : 30 + side] = PAINTING
    found = recover_murals(labels, labels == WALL)
    assert found.any().item() is recovered
    assert not recovered or (found == (labels == PAINTING)).all()


def test_a_middling_picture_away_from_the_wall_stays_a_picture() -> None:
    labels = torch.full((100, 100), CEILING)
    labels[:, :30] = WALL
    labels[60:80, 60:80] = PAINTING
    assert not recover_murals(labels, labels == WALL).any()
    assert recover_murals(labels, labels == WALL, least=0.03).sum() == 400


def test_smallest_zero_is_any_picture_on_a_wall() -> None:
    labels = torch.full((100, 100), WALL)
    labels[50:54, 50:54] = PAINTING
    assert recover_murals(labels, labels == WALL, smallest=0).sum() == 16


def test_errors_name_what_is_known() -> None:
    with pytest.raises(ConfigError, match="did you mean 'adaptive'"):
        find_wall(room(), policy="adaptiv")
    with pytest.raises(LabelError, match="wall"):
        find_wall(room(), ["waal"])
    with pytest.raises(LabelError):
        find_wall(room(), [])


def test_occluders_touch_the_wall_and_come_with_their_boxes() -> None:
    labels = torch.full((60, 80), WALL)
    labels[40:50, 10:30] = SOFA
    labels[5:8, 60:70] = PAINTING
    labels[55:, :] = CEILING
    labels[57:59, 50:60] = SOFA  # not next to the wall
    found = find_occluders(labels, labels == WALL)
    assert [(each.name, each.box, each.area) for each in found] == [
        ("sofa", (10, 40, 30, 50), 200),
        ("painting", (60, 5, 70, 8), 30),
    ]
    assert all(each.mask.all() for each in found)


def test_two_of_a_class_are_two_things() -> None:
    labels = torch.full((30, 60), WALL)
    labels[5:15, 5:15], labels[5:15, 30:45] = SOFA, SOFA
    assert [each.area for each in find_occluders(labels, labels == WALL)] == [150, 100]


def test_run_lengths_go_column_by_column() -> None:
    labels = torch.full((20, 20), WALL)
    labels[4:12, 4:8], labels[4:8, 4:6] = SOFA, WALL  # an L: of 4 columns 2 begin lower
    thing = find_occluders(labels, labels == WALL)[0].as_json()
    assert thing["xyxy"] == [4, 4, 8, 12] and thing["area"] == 24
    assert thing["mask"] == dict(size=[8, 4], counts=[4, 4, 4, 20])
    assert thing["label"] == "sofa" and thing["action"] == "remove"
