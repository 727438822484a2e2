"Sources of pictures: the drawn world, the layouts on disk, and the same views with other walls."

from pathlib import Path

import pytest
import torch

import seglab.walls.pictures as pictures_page
from seglab.core import ConfigError, DatasetError
from seglab.io import write_image, write_labels, write_mask
from seglab.lessons import Kept
from seglab.walls.labels import ADE20K
from seglab.walls.pictures import (
    DRAWN,
    KNOWN,
    DrawnWalls,
    FolderWalls,
    Repainted,
    pictures,
    targets_of,
)


def write_pair(folder: Path, truths: str, stem: str, numbers: torch.Tensor) -> None:
    "A grey photograph with its class numbers."
    image = torch.full((3, *numbers.shape), 0.5)
    write_image(folder / "images" / f"{stem}.png", image)
    if truths == "masks":
        write_mask(folder / truths / f"{stem}.png", numbers[None] > 0)
    else:
        write_labels(folder / truths / f"{stem}.png", numbers)


@pytest.fixture
def numbers() -> torch.Tensor:
    labels = torch.zeros(40, 60, dtype=torch.int64)
    labels[:20], labels[30:] = 4, 255
    return labels


def test_views_are_drawn_once_and_stay_as_they_are(monkeypatch) -> None:
    monkeypatch.setattr(pictures_page, "_KEPT", Kept())
    views = DrawnWalls(48, 1, "plain", first=77)
    before = views[0].labels.clone()
    views[0].labels.fill_(255)  # by a careless reader: the labels are a copy of their own
    monkeypatch.setattr(pictures_page, "draw_room", None)
    monkeypatch.setattr(pictures_page, "draw_facade", None)
    assert torch.equal(views[0].labels, before)


def test_drawn_views_repeat_and_differ() -> None:
    views = DrawnWalls(48, 5, "plain")
    assert (views[3].image == DrawnWalls(48, 5, "plain")[3].image).all()
    assert not (views[3].image == views[2].image).all()
    assert views[0].image.dtype == torch.uint8 and views[0].labels.dtype == torch.int64
    with pytest.raises(IndexError):
        views[5]
    with pytest.raises(ConfigError, match="did you mean 'mural'"):
        DrawnWalls(48, finish="murals")


def test_validation_views_are_others_with_other_murals() -> None:
    train, val = (pictures(split, "drawn_mural", 48) for split in ("train", "val"))
    assert (train.part, val.part) == ("train", "test") and train.finish == "mural"
    assert val.first >= train.first + len(train)


def test_every_drawn_class_has_a_name() -> None:
    seen = torch.cat([DrawnWalls(64, 80)[n].labels.unique() for n in range(80)]).unique()
    assert seen.max() < len(DRAWN)


def test_a_split_list_chooses(tmp_path: Path, numbers: torch.Tensor) -> None:
    for stem in "abc":
        write_pair(tmp_path, "labels", stem, numbers)
    (tmp_path / "names.txt").write_text("\n".join(KNOWN["walls"]))
    (tmp_path / "val.txt").write_text("c\na\n")
    source = pictures("val", str(tmp_path))
    assert [view.name for view in source] == ["c", "a"] and source.targets == ("wall",)
    assert (source[0].labels == numbers).all()
    assert len(pictures("train", str(tmp_path))) == 3, "without a list: all"


def test_labels_without_names_are_refused(tmp_path: Path, numbers: torch.Tensor) -> None:
    write_pair(tmp_path, "labels", "a", numbers)
    with pytest.raises(DatasetError, match="names.txt: no such file"):
        pictures("train", str(tmp_path))


def test_a_class_without_a_name_is_refused(tmp_path: Path, numbers: torch.Tensor) -> None:
    write_pair(tmp_path, "labels", "a", numbers)
    source = FolderWalls(tmp_path / "images", tmp_path / "labels", ("sky", "wall"))
    with pytest.raises(DatasetError, match=r"a.png: holds the class numbers \[4\]"):
        source[0]


def test_white_is_wall_in_a_binary_pair(tmp_path: Path, numbers: torch.Tensor) -> None:
    write_pair(tmp_path, "masks", "a", (numbers == 4).long())
    source = pictures("train", str(tmp_path))
    assert source.names == ("other", "wall") and (source[0].labels[:20] == 1).all()


def test_ade20k_counts_from_one(tmp_path: Path) -> None:
    for inner in ("training", "validation"):
        annotation = torch.tensor([[0, 1, 150]]).repeat(4, 4)
        write_image(tmp_path / "images" / inner / "a.png", torch.zeros(3, 4, 12))
        write_labels(tmp_path / "annotations" / inner / "a.png", annotation)
    source = pictures("val", str(tmp_path))
    assert source.names == ADE20K and source[0].labels[0, :3].tolist() == [255, 0, 149]


def test_a_missing_truth_is_named(tmp_path: Path, numbers: torch.Tensor) -> None:
    for stem in "ab":
        write_pair(tmp_path, "labels", stem, numbers)
    (tmp_path / "labels" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"1 truths are missing \['b'\]"):
        FolderWalls(tmp_path / "images", tmp_path / "labels", KNOWN["walls"])


def test_a_set_without_wall_is_refused() -> None:
    with pytest.raises(DatasetError, match="no class is called wall or building"):
        targets_of(["sky", "tree"])


def test_repainting_changes_the_wall_and_nothing_else() -> None:
    views = DrawnWalls(64, 6, "plain", rooms=1.0)
    for view, other in zip(views, Repainted(views), strict=False):
        wall = view.labels == 0
        assert (other.labels == view.labels).all()
        assert (other.image == view.image)[:, ~wall].all()
        assert (other.image != view.image)[:, wall].float().mean() > 0.3


def test_bare_rooms_are_rooms_without_furniture() -> None:
    bare, rooms = (pictures("train", f"{world}_plain", 64) for world in ("bare", "rooms"))
    own = {"wall", "floor", "ceiling", "windowpane", "door", "painting"}
    seen = torch.cat([bare[n].labels.unique() for n in range(20)]).unique()
    seen = {DRAWN[n] for n in seen.tolist() if n != 255}
    assert {"wall", "floor", "windowpane"} < seen and not seen & {"sofa", "table", "bed", "chair"}
    assert own >= seen - {"sky", "tree", "building"}, seen  # what a window lets in
    assert any(not torch.equal(bare[n].image, rooms[n].image) for n in range(5))
