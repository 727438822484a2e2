"Names of classes: found however they are written, counted, and made into masks."

import json
from pathlib import Path

import pytest
import torch

from seglab.walls.labels import (
    ADE20K,
    INDOOR,
    MOVABLE,
    OUTDOOR,
    PICTURES,
    LabelError,
    count_classes,
    find_classes,
    read_names,
    reduce_labels,
    wall_mask,
)

NUMBERS = dict(  # as in the list of the challenge, counted from 0
    wall=0, building=1, sky=2, floor=3, tree=4, ceiling=5, windowpane=8, cabinet=10, sidewalk=11,
    person=12, earth=13, door=14, painting=22, curtain=18, shelf=24, house=25, mirror=27, fence=32,
    wardrobe=35, railing=38, base=40, column=42, signboard=43, skyscraper=48, fireplace=49,
    hovel=79, tower=84, awning=86, poster=100, canopy=106, screen=130, flag=149,
) | {"trade name": 123, "bulletin board": 144, "crt screen": 141}  # fmt: skip


def test_the_table_has_the_numbers_of_the_challenge() -> None:
    assert len(ADE20K) == len(set(ADE20K)) == 150
    assert {name: ADE20K.index(name) for name in NUMBERS} == NUMBERS


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("  Wall ", "wall"),
        ("WINDOW", "windowpane"),
        ("Window-Pane", None),  # two words are not one
        ("television", "television receiver"),
        ("TV", "television receiver"),
        ("couch", "sofa"),
        ("pavement", "sidewalk"),
        ("chest_of_drawers", "chest of drawers"),
        ("screen", "screen"),  # not the crt screen, nor the screen door
        ("step", "step"),  # a class of its own, although stairs have steps
        ("steps", "stairs"),
    ],
)
def test_a_name_is_found_however_it_is_written(asked: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(LabelError, match=f"no class is called '{asked}'.*'windowpane'"):
            find_classes([asked])
    else:
        assert find_classes([asked]) == [ADE20K.index(name)]


def test_other_label_sets() -> None:
    hub = [f"{name} " if name == "bed" else name for name in ADE20K]
    assert find_classes(["bed", "Wall"], hub) == [7, 0]
    challenge = ["wall", "building;edifice", "windowpane, window"]
    assert find_classes(("Edifice", "window"), challenge) == [1, 2]
    assert find_classes(["windowpane"], ["door", "window"]) == [1]  # the synonym the other way
    assert find_classes(["wall"], ["wall", "x", "Wall"]) == [0, 2]  # two classes of one name


def test_one_string_is_one_name_and_each_number_comes_once() -> None:
    assert find_classes("wall") == [0]
    assert find_classes(["window", "windowpane", "wall"]) == [8, 0]


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(LabelError, match="'wal': did you mean 'wall'"):
        find_classes(["building", "wal"])
    with pytest.raises(LabelError, match=r"known are wall, building, .* … \(150 names\)"):
        find_classes(["zzzz"])
    with pytest.raises(LabelError, match="none was given"):
        find_classes([])
    assert issubclass(LabelError, ValueError)


def test_the_example_of_the_mural() -> None:
    pixels = dict(wall=22_045, building=437_120, tree=133_899, sidewalk=79_584, earth=47_652)
    row = torch.cat([torch.full((n,), NUMBERS[name]) for name, n in pixels.items()])
    labels = row[torch.randperm(len(row))].view(1050, 686)
    counts = count_classes(labels)
    assert counts == pixels
    assert list(counts) == ["building", "tree", "sidewalk", "earth", "wall"]
    wall, both = wall_mask(labels, ["wall"]), wall_mask(labels)
    assert wall.dtype == torch.bool and labels.numel() == 720_300
    assert wall.sum() == 22_045 and round(100 * wall.float().mean().item(), 1) == 3.1
    assert both.sum() == 459_165 and round(100 * both.float().mean().item(), 1) == 63.7


def test_ignored_pixels_are_neither_counted_nor_wall() -> None:
    labels = torch.tensor([[255, 0, 0, 149]], dtype=torch.uint8)
    assert count_classes(labels) == dict(wall=2, flag=1)
    assert wall_mask(labels, ["wall", "flag"]).tolist() == [[False, True, True, True]]
    assert count_classes(torch.full((2, 2), 255)) == {}


@pytest.mark.parametrize("wrong", [150, 254, -1, 10**9])
def test_a_number_without_a_name_is_refused(wrong: int) -> None:
    labels = torch.tensor([[0, wrong, wrong]])
    for call in (count_classes, wall_mask):
        with pytest.raises(LabelError, match=f"2 pixels .* such as {wrong}; there are 150"):
            call(labels)
    with pytest.raises(LabelError, match="must be integers, got torch.float32"):
        wall_mask(labels.float())


def test_masks_keep_leading_axes() -> None:
    labels = torch.randint(0, 150, (2, 3, 4, 5))
    assert torch.equal(wall_mask(labels, ["sky", "floor"]), (labels == 2) | (labels == 3))


def test_annotations_count_from_one() -> None:
    values = torch.tensor([[0, 1, 23, 150]], dtype=torch.uint8)
    assert reduce_labels(values).tolist() == [[255, 0, 22, 149]]
    assert reduce_labels(values).dtype == torch.int64 and values[0, 0] == 0
    with pytest.raises(LabelError, match="must be 0 to 150, found 255: were they reduced already"):
        reduce_labels(torch.tensor([[255, 3]]))
    with pytest.raises(LabelError, match="must be 0 to 2, found 3"):
        reduce_labels(torch.tensor([[3]]), ["wall", "other"])


def test_names_are_read_from_files(tmp_path: Path) -> None:
    numbered = {"1": "building", "0": " wall "}
    files = {
        "list.json": json.dumps(["wall", "building"]),
        "object.json": json.dumps(numbered),
        "config.json": json.dumps(dict(model_type="segformer", id2label=numbered)),
        "lines.txt": "wall\nbuilding\n",
        "table.tsv": "Idx\tRatio\tName\n1\t0.15\twall\n2\t0.12\tbuilding\n",
        "table.csv": "\ufeffIdx,Name\n1,wall\n2,building\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_names(tmp_path / name) == ("wall", "building"), name
    broken = {"a.json": "{", "b.json": '{"1": "wall"}', "c.txt": "", "d.txt": "wall\n\nsky"}
    for name, text in broken.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(LabelError, match=f"{name}: "):
            read_names(tmp_path / name)


def test_the_sets_name_classes_that_exist() -> None:
    for names in (INDOOR, OUTDOOR, PICTURES, MOVABLE):
        assert {*names} < {*ADE20K} and len(names) == len({*names})
    assert not {*INDOOR} & {*OUTDOOR}
    assert not {"wall", "building", "door", "windowpane"} & {*MOVABLE, *PICTURES}
