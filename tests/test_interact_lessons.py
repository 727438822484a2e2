"Lessons: what is cut, what is asked for, and where clicks may go."

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from cv2 import imencode
from numpy.random import default_rng

from seglab.core import DatasetError, data_dir
from seglab.interact.choice import ChoicePlan, choose, keep, without_stuff
from seglab.interact.drawn import DrawnPictures, PastedPictures
from seglab.interact.first import FirstClicks
from seglab.interact.lessons import (
    PUBLISHED,
    SLOTS,
    ClickLessons,
    LessonPlan,
    Window,
    cut,
    dataset,
)
from seglab.interact.pictures import Layered
from seglab.interact.sources import Joined, Remembered, pictures
from seglab.io import write_image, write_mask

SIDE = 48


def square(
    size: tuple[int, int] = (60, 90), box: tuple[int, int, int, int] = (10, 30, 20, 50)
) -> Layered:
    "A white box on black; the picture says where its pixels come from."
    top, low, left, right = box
    plane = np.zeros(size, np.uint8)
    plane[top:low, left:right] = 1
    image = np.repeat((plane * 255)[..., None], 3, axis=2)
    return Layered("box", image, plane[None], ((0, 1),))


@pytest.fixture(scope="module")
def drawn() -> DrawnPictures:
    return DrawnPictures(side=60, count=6)


@pytest.fixture(scope="module")
def lessons(drawn: DrawnPictures) -> ClickLessons:
    return ClickLessons(drawn, SIDE, count=12, plan=LessonPlan(zoomed=0.5))


def test_lessons_can_be_batched(lessons: ClickLessons) -> None:
    batch = torch.utils.data.default_collate([lessons[index] for index in range(12)])
    assert batch["image"].shape == (12, 3, SIDE, SIDE) and batch["image"].dtype == torch.float32
    assert batch["target"].shape == (12, 1, SIDE, SIDE) and batch["target"].dtype == torch.uint8
    assert batch["points"].shape == (12, 2 * SLOTS, 3)
    assert set(batch["target"].unique().tolist()) <= {0, 1, 255}
    assert (batch["target"] == 1).flatten(1).any(1).all(), "something is asked for"
    assert batch["image"].min() >= 0 and batch["image"].max() <= 1


def test_first_clicks_lie_where_they_belong(lessons: ClickLessons) -> None:
    for number in range(12):
        lesson = lessons[number]
        for block, value in zip(lesson["points"].unflatten(0, (2, -1)), (1, 0), strict=True):
            places = block[block[:, 0] >= 0, :2].long()
            assert len(places) or value == 0, "there is a positive click"
            assert (lesson["target"][0, places[:, 0], places[:, 1]] == value).all()


def test_the_same_number_is_the_same_lesson_until_the_next_epoch(drawn: DrawnPictures) -> None:
    one, other = (ClickLessons(drawn, SIDE, seed=3) for _ in range(2))
    for key in ("image", "target", "points"):
        assert torch.equal(one[2][key], other[2][key])
    other.set_epoch(1)
    assert not torch.equal(one[2]["image"], other[2]["image"])
    assert not torch.equal(one[2]["image"], ClickLessons(drawn, SIDE, seed=4)[2]["image"])
    exams = ClickLessons(drawn, SIDE, augment=False)
    before = exams[1]
    exams.set_epoch(1)
    assert torch.equal(before["image"], exams[1]["image"]) and torch.equal(
        before["target"], exams[1]["target"]
    )


@pytest.mark.parametrize("zoom", [0.5, 1, 2.4])
@pytest.mark.parametrize("corner", [(0, 0), (-30, 12), (25, 70), (-9, -9)])
def test_picture_and_planes_stay_together(zoom: float, corner: tuple[int, int]) -> None:
    window = Window(*corner, round(SIDE / zoom))
    piece = cut(square(), window, SIDE)
    white, mask = piece.image[..., 0] > 127, piece.mask(0)
    assert (white != mask).mean() < 0.05 and not (mask & piece.ignored).any()
    inside = np.zeros((60, 90), bool)
    rows, columns = (slice(max(0, start), max(0, start + window.side)) for start in corner)
    inside[rows, columns] = True
    seen = inside.sum() / window.side**2
    assert (~piece.ignored).mean() == pytest.approx(seen, abs=0.04), "beyond the picture: ignored"


def test_ignored_pixels_of_the_picture_stay_ignored() -> None:
    silent = np.zeros((60, 90), bool)
    silent[12:20, 20:50] = True
    picture = square()
    picture = Layered(picture.name, picture.image, picture.planes, picture.objects, silent)
    lesson = ClickLessons([picture], SIDE, plan=LessonPlan(zoomed=1))[0]
    assert 0.15 < (lesson["target"] == 255).float().mean() < 0.9


def test_a_close_up_shows_the_whole_object() -> None:
    lessons = ClickLessons(
        [square((400, 600), (200, 240, 300, 330))], SIDE, 20, plan=LessonPlan(zoomed=1)
    )
    shares = [(lessons[index]["target"] == 1).float().mean().item() for index in range(20)]
    # the box is 40 × 30 in a window of 1.05 to 2.2 times 40
    assert min(shares) > 0.75 / 2.2**2 * 0.85 and max(shares) < 0.75 / 1.05**2 * 1.15
    far = ClickLessons(
        [square((400, 600), (200, 240, 300, 330))], SIDE, 20, plan=LessonPlan(zoomed=0)
    )
    assert max((far[index]["target"] == 1).float().mean().item() for index in range(20)) > 0


@pytest.mark.parametrize(
    "pixels", [[(700, 3)], [(0, 0), (799, 1199)], [(5, 5), (300, 900), (799, 0)]]
)
def test_an_object_of_a_few_pixels_is_still_asked_for(pixels: list[tuple[int, int]]) -> None:
    plane = np.zeros((800, 1200), np.uint8)
    plane[tuple(zip(*pixels, strict=True))] = 1
    dots = Layered("dots", np.zeros((800, 1200, 3), np.uint8), plane[None], ((0, 1),))
    for source in ([dots], Remembered([dots], shortest=SIDE)):
        for plan in (LessonPlan(zoomed=1), LessonPlan(zoomed=0), PUBLISHED):
            for augment in (True, False):
                lessons = ClickLessons(source, SIDE, 12, augment=augment, plan=plan)
                for index in range(12):
                    asked = (lessons[index]["target"] == 1).any()
                    assert asked or plan.empty, "only the published plan shows nothing at times"


def test_scales_are_of_the_picture_or_of_its_pixels() -> None:
    picture = square((400, 400), (0, 400, 0, 200))  # its left half
    plan = dict(zoomed=0, scales=(1, 1))
    whole = ClickLessons([picture], SIDE, 10, plan=LessonPlan(**plan))
    assert (whole[0]["target"] == 1).float().mean() == pytest.approx(0.5)
    native = ClickLessons([picture], SIDE, 10, plan=LessonPlan(**plan, native=True, empty=1))
    shares = {(native[index]["target"] == 1).float().mean().item() for index in range(10)}
    assert shares & {0.0, 1.0}, "48 of 400 columns mostly lie in one half"


def parts(seed: int = 0) -> Layered:
    "0: large with the parts 1 and 2; 2 has the part 3; 4 stands alone; 5 is stuff."
    planes = np.zeros((3, 40, 80), np.uint8)
    planes[0, 2:38, 2:38], planes[0, 5:30, 50:75] = 1, 2
    planes[1, 5:15, 5:15], planes[1, 18:36, 18:36] = 1, 2
    planes[2, 22:32, 22:32] = 1
    planes[0, :, 77:] = 3
    objects = ((0, 1), (1, 1), (1, 2), (2, 1), (0, 2), (0, 3))
    image = np.zeros((40, 80, 3), np.uint8)
    return Layered("parts", image, planes, objects, parents=(None, 0, 0, 2, None, None), stuff=1)


def test_only_whole_objects_are_asked_for_unless_parts_are_allowed() -> None:
    picture, asked = parts(), set()
    for seed in range(40):
        choice = choose(picture, default_rng(seed), ChoicePlan(merge=0, erode=0))
        assert not choice.required and len(choice.regions) == 1
        asked.add(next(i for i in range(6) if (picture.mask(i) == (choice.target == 1)).all()))
    assert asked == {0, 4, 5}
    deep = [
        choose(picture, default_rng(s), ChoicePlan(merge=0, hierarchy=True, erode=0))
        for s in range(80)
    ]
    areas = {int((choice.target == 1).sum()) for choice in deep}
    small = picture.mask(3).sum()
    assert small in areas, "a part of a part"
    assert picture.mask(0).sum() - picture.mask(1).sum() in areas, "a whole without one part"
    for choice in deep:
        for region in choice.required:
            assert not (region & (choice.target == 1)).any(), "what is ruled out is not the object"


def test_two_objects_at_once_each_deserve_a_click() -> None:
    choice = choose(parts(), default_rng(1), ChoicePlan(merge=1, erode=1))
    assert len(choice.regions) == 2
    assert all((region <= (choice.target == 1)).all() for region in choice.regions)
    assert not (choice.others & (choice.target == 1)).any() and choice.others.any()


def test_a_single_object_has_no_others_and_nothing_has_no_clicks() -> None:
    assert choose(square(), default_rng(0)).others is None
    nothing = choose(keep(square(), []), default_rng(0))
    assert not nothing.target.any() and not nothing.regions[0].any()
    lesson = ClickLessons([keep(square(), [])], SIDE, plan=LessonPlan(empty=1))[0]
    assert not (lesson["target"] == 1).any() and (lesson["points"][:SLOTS, 0] == -1).all()


def test_parts_of_a_dropped_object_move_up() -> None:
    fewer = keep(parts(), [0, 1, 3, 5])
    assert fewer.parents == (None, 0, 0, None) and fewer.stuff == 1
    bare = without_stuff(parts())
    assert len(bare.objects) == 5 and not (bare.planes == 3).any() and bare.stuff == 0


def test_stuff_is_asked_for_as_often_as_planned() -> None:
    for share in (0, 1):
        plan = LessonPlan(zoomed=0, scales=(1, 1), stuff=share, least=0)
        lessons = ClickLessons([parts()], 40, 60, plan=plan)
        found = [lessons[i]["target"][0, :, -1].eq(1).all() for i in range(60)]
        assert any(found) == bool(share)


def test_the_plan_of_the_papers_trains_on_pixels_as_they_are() -> None:
    assert PUBLISHED.native and not PUBLISHED.zoomed and PUBLISHED.scales == (0.75, 1.4)
    assert PUBLISHED.choice == ChoicePlan(0.15, 2, False, 0.9) and PUBLISHED.first == FirstClicks()
    assert PUBLISHED.least * 448**2 == pytest.approx(1000, rel=0.01) and PUBLISHED.empty == 0.05


def test_drawn_and_pasted_pictures_are_the_same_by_number(
    tmp_path: Path, drawn: DrawnPictures
) -> None:
    again = DrawnPictures(side=60, count=6)
    assert all((again[i].image == drawn[i].image).all() for i in (0, 4))
    with pytest.raises(IndexError):
        drawn[6]
    write_image(tmp_path / "view.png", torch.zeros(3, 50, 70))
    thing = square((60, 60), (5, 55, 20, 40))
    pasted = PastedPictures([thing], [tmp_path / "view.png"], side=64, count=20)
    for number in range(20):
        picture = pasted[number]
        white, mask = picture.image[..., 0] > 127, picture.planes[0] > 0
        assert picture.objects and (white != mask).mean() < 0.03
    assert (
        pasted[3].image == PastedPictures([thing], [tmp_path / "view.png"], 64, 20)[3].image
    ).all()


def test_photographs_are_kept_shrunk_within_a_budget() -> None:
    source = [square((400, 600), (100, 300, 100, 300))] * 3
    kept = Remembered(source, shortest=40, budget=2 * 40 * 60 * 4)
    sizes = {kept[index].image.shape for index in range(3)}
    assert sizes == {(40, 60, 3)} and len(kept.kept.answers) == 2
    empty = keep(square(), [])
    with pytest.raises(DatasetError, match="box: marks no object"):
        Remembered([empty], 40)[0]


def test_joined_sources_take_turns() -> None:
    turns = Joined(["abc", "x"])
    assert [turns[i] for i in range(len(turns))] == ["a", "x", "b", "x", "c", "x"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    mask = torch.zeros(1, 40, 60, dtype=torch.bool)
    mask[:, 10:30, 20:40] = True
    for name in "abc":
        write_image(tmp_path / "images" / f"{name}.jpg", mask.float().expand(3, -1, -1))
        write_mask(tmp_path / "masks" / f"{name}.png", mask)
    (tmp_path / "train.txt").write_text("a b")
    return tmp_path


def test_a_folder_trains(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = dataset("train", f"{folder}+drawn", SIDE, count=4, plan=LessonPlan(first=None))
    assert [samples[index]["name"] for index in (0, 2)] == ["a", "b"]
    assert "points" not in samples[0]
    monkeypatch.setenv("SEGLAB_DATA", str(folder.parent))
    exam = dataset("val", folder.name, SIDE)[2]
    assert exam["name"] == "c", "no list of that name: all pictures"
    assert (exam["target"] == 255).float().mean() == pytest.approx(1 / 3, abs=0.01)


def test_a_source_that_is_not_there_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGLAB_DATA", str(folder))
    with pytest.raises(DatasetError, match="unicorns: no such folder with images/ and masks/; set"):
        dataset("train", "drawn+unicorns")
    with pytest.raises(DatasetError, match=r"people: no such folder"):
        dataset("train", "pasted")
    with pytest.raises(DatasetError, match=r"hannotation\.pickle: no such file"):
        pictures("coco_lvis", "train", SIDE)


def test_coco_lvis_is_a_source(folder: Path) -> None:
    place = folder / "own" / "train"
    write_image(place / "images" / "1.jpg", torch.rand(3, 40, 60))
    layer = np.zeros((40, 60), np.uint8)
    layer[5:35, 5:40] = 1
    (place / "masks").mkdir()
    (place / "masks" / "1.pickle").write_bytes(
        pickle.dumps(([imencode(".png", layer)[1]], [(0, 1)]))
    )
    table = {"1": dict(num_instance_masks=1, hierarchy={0: None})}
    (place / "hannotation.pickle").write_bytes(pickle.dumps(table))
    lesson = dataset("train", str(folder / "own"), SIDE, plan=PUBLISHED)[0]
    assert lesson["name"] == "1" and lesson["points"].shape == (48, 3)


@pytest.mark.parametrize("source", ["people", "horses", "pasted"])
def test_photographs_become_lessons(source: str) -> None:
    if not all((data_dir() / name).is_dir() for name in ("people", "horses", "facades")):
        pytest.skip("no photographs on this machine")
    lessons = dataset("train", source, SIDE, count=3)
    assert all((lessons[index]["target"] == 1).any() for index in range(3))
