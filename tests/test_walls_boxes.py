"Guards of seglab.walls.boxes: what a front end may send, and which things a box means."

import json

import numpy as np
import pytest
import torch

from seglab.walls.boxes import Box, BoxError, read_boxes, select
from seglab.walls.labels import LabelError

SIZE = (60, 80)
WALL, FLOOR, SOFA, CUSHION, TABLE = 0, 3, 23, 39, 15


def scene() -> torch.Tensor:
    "Wall above floor, a sofa on both, a cushion on it, a table on the floor."
    labels = torch.full(SIZE, WALL)
    labels[40:] = FLOOR
    labels[30:45, 10:40] = SOFA
    labels[33:38, 20:26] = CUSHION
    labels[50:56, 60:70] = TABLE
    return labels


def boxes(*corners, **more) -> list[Box]:
    return read_boxes({"boxes": [dict(xyxy=list(c), **more) for c in corners]}, SIZE)


def test_text_file_and_dictionary_say_the_same(tmp_path):
    document = {"image": "a.jpg", "size": [80, 60], "boxes": [{"xyxy": [1, 2, 30.5, 40]}]}
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    for source in (
        document,
        json.dumps(document),
        tmp_path / "boxes.json",
        str(tmp_path / "boxes.json"),
    ):
        assert read_boxes(source, SIZE) == [Box(1, 2, 30.5, 40)]


def test_scales_fractions_and_clipping():
    shown = {"size": [160, 120], "boxes": [{"xyxy": [20, 20, 400, 40]}, {"xyxy": [0, 0, 0.5, 1]}]}
    assert read_boxes(shown, SIZE) == [Box(10, 10, 80, 20), Box(0, 0, 40, 60)]
    (outside,) = boxes((-50, -50, -10, 900))
    assert outside.dropped.startswith("covers 0.0 pixels")
    assert boxes((5, 5, 6.9, 7))[0].dropped and not boxes((5, 5, 7, 7))[0].dropped


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"boxes": [{"xyxy": [0, 0, float("nan"), 9]}]}, r"box 0: .* holds NaN"),
        ('{"boxes": [{"xyxy": [0, 0, NaN, 9]}]}', r"box 0: .* holds NaN"),
        ({"boxes": [{"xyxy": [0, 0, 9, 9]}, {"xyxy": [9, 0, 3, 9]}]}, r"box 1: .* is reversed"),
        ({"boxes": [{"xyxy": [0, 0, 9]}]}, 'box 0: needs "xyxy" with four numbers'),
        ({"boxes": [{"xyxy": "abcd"}]}, 'box 0: needs "xyxy" with four numbers'),
        ({"boxes": [[0, 0, 9, 9]]}, 'box 0: needs "xyxy" with four numbers'),
        ({"boxes": [{"box": [0, 0, 9, 9]}]}, 'box 0: needs "xyxy" with four numbers'),
        (
            {"boxes": [{"xyxy": [0, 0, 9, 9], "action": "move"}]},
            "must be remove or keep, got 'move'",
        ),
        ({"boxes": None}, 'must be a list under the key "boxes"'),
        ({"boxes": [], "size": [0, 10]}, r"size: must be \[width, height\] above 0"),
        ({"boxes": [], "size": 7}, r"size: must be \[width, height\] above 0"),
        ("[1, 2]", "must be an object"),
        ('{"boxes": [', "is no JSON"),
        ("nowhere.json", "nowhere.json: no such file"),
    ],
)
def test_what_makes_no_sense_is_refused(document, message):
    with pytest.raises(BoxError, match=message):
        read_boxes(document, SIZE)


def test_a_box_selects_the_things_of_which_half_lies_inside():
    owners, (report,), _ = select(scene(), boxes((8, 28, 27, 47)))  # a little more than half
    assert report.name == "cushion, sofa" and report.note == ""
    assert ((owners == 1) == np.isin(scene().numpy(), [SOFA, CUSHION])).all()
    _, (report,), _ = select(scene(), boxes((8, 28, 22, 47)))  # less than half
    assert report.name == "rectangle" and report.pixels == 14 * 19
    assert report.note == "no thing has half of its pixels inside: the rectangle is taken"


def test_a_large_box_leaves_the_floor_and_never_takes_wall():
    owners, (report,), _ = select(scene(), boxes((0, 0, 80, 60)))
    assert report.name == "cushion, sofa, table"
    _, (report,), _ = select(scene(), boxes((0, 0, 80, 60), label="floor"))
    assert report.name == "floor"


def test_label_and_classes_restrict():
    _, (report,), _ = select(scene(), boxes((8, 28, 45, 47), label="cushion"))
    assert report.name == "cushion" and report.pixels == 30
    _, (report,), _ = select(scene(), boxes((0, 0, 80, 60)), classes=["table"])
    assert report.name == "table"
    with pytest.raises(LabelError, match="sofaa"):
        select(scene(), boxes((8, 28, 45, 47), label="sofaa"))


def test_kept_things_stay_whatever_the_order():
    remove, keep = boxes((8, 28, 45, 47)), boxes((19, 32, 27, 39), action="keep")
    for order in (remove + keep, keep + remove):
        owners, reports, kept = select(scene(), order)
        assert (kept == (scene().numpy() == CUSHION)).all() and not owners[kept].any()
        assert {report.note for report in reports} == {"", "stays"}


def test_without_boxes_what_touches_the_wall_goes_and_what_lies_on_it():
    owners, reports, kept = select(scene())
    assert sorted(report.name for report in reports) == [
        "cushion",
        "sofa",
    ]  # the table stands alone
    assert not kept.any() and set(np.unique(owners)) == {0, 1, 2}
    by_name = {report.name: report for report in reports}
    assert by_name["sofa"].box == (10, 30, 40, 45) and by_name["cushion"].pixels == 30
    for number, report in enumerate(reports, start=1):
        assert (owners == number).sum() == report.pixels


def test_two_sofas_are_two_things():
    labels = torch.zeros(SIZE, dtype=torch.int64)
    labels[10:20, 10:20] = labels[10:20, 40:50] = SOFA
    _, reports, _ = select(labels)
    assert [report.name for report in reports] == ["sofa", "sofa"]
    owners, _, _ = select(labels, boxes((5, 5, 25, 25)))
    assert owners[15, 15] == 1 and owners[15, 45] == 0


def test_names_of_another_model_and_ignored_pixels():
    labels = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 255], [0, 1, 1, 255]]).repeat_interleave(4, 1)
    owners, (report,), _ = select(labels, names=("wall", "chair"))
    assert report.name == "chair" and (owners[1:, 4:12] == 1).all() and not owners[:, 12:].any()
    _, reports, _ = select(torch.full(SIZE, 255))
    assert not reports
    _, reports, _ = select(labels, names=("wall", "rabbit"))  # knows no movable class
    assert not reports
