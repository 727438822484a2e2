"Data sets in the field's layouts: what is read, and what is refused."

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from seglab.core import DatasetError
from seglab.interact.pictures import (
    Layered,
    as_target,
    open_folder,
    read_objects,
    read_plain_pickle,
    resize_labels,
    shrink,
    take_object,
)
from seglab.interact.sets import SETS, open_set, sbd_pictures
from seglab.io import ImageError, write_image, write_labels, write_mask

SIZE = (20, 30)


@pytest.fixture
def mask() -> torch.Tensor:
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[:, 5:15, 8:20] = True
    return mask


@pytest.fixture
def folder(tmp_path: Path, mask: torch.Tensor) -> Path:
    "Two pictures with masks, of which the second is black, and one of VOC."
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.png", torch.rand(3, *SIZE))
        write_mask(tmp_path / "masks" / f"{name}.png", mask if name == "a" else ~mask & mask)
    (tmp_path / "train.txt").write_text("a\n")
    return tmp_path


def test_a_folder_is_listed_by_its_objects(folder: Path, mask: torch.Tensor) -> None:
    (sample,) = open_set("folder", folder, "train")
    assert (sample.name, sample.object) == ("a", 0)
    assert sample.image.dtype == sample.target.dtype == torch.uint8
    assert torch.equal(sample.target == 1, mask) and sample.target.max() == 1


def test_masks_without_an_object_are_named(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"1 masks mark no object \['b'\]"):
        open_set("folder", folder)
    (folder / "img").mkdir()
    (folder / "images" / "b.png").rename(folder / "img" / "b.png")
    (folder / "masks").rename(folder / "gt")
    with pytest.raises(DatasetError, match="davis: b marks no object"):
        open_set("davis", folder)[0]


@pytest.mark.parametrize("name", [key for key, field in SETS.items() if field.folder])
def test_a_missing_set_shows_the_tree_that_is_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        open_set(name, tmp_path / "nowhere")
    assert SETS[name].tree in str(caught.value) and "nowhere" in str(caught.value)


def test_an_unknown_set_shows_all_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="unknown data set 'cityscapes'") as caught:
        open_set("cityscapes", tmp_path)
    assert all(field.tree in str(caught.value) for field in SETS.values())
    with pytest.raises(DatasetError, match="known are simpleclick, saic"):
        open_set("davis", tmp_path, program="ritm")
    with pytest.raises(DatasetError, match="give a folder that holds images/"):
        open_set("folder")


@pytest.mark.parametrize("name", ["PascalVOC", "pascal-voc", "PASCAL_VOC"])
def test_case_and_dashes_of_a_name_do_not_matter(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="SegmentationObject"):
        open_set(name, tmp_path)


def test_a_picture_without_a_mask_is_named(folder: Path) -> None:
    (folder / "masks" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"1 pictures have no mask \['b'\]"):
        open_set("berkeley", folder)
    (folder / "train.txt").write_text("a c\n")
    with pytest.raises(DatasetError, match=r"1 listed names have no file \['c'\]"):
        open_set("folder", folder, "train")
    with pytest.raises(DatasetError, match="test.txt: no such list of names"):
        open_folder(folder, "test")


def test_a_mask_of_another_size_is_named(folder: Path) -> None:
    write_image(folder / "images" / "a.png", torch.rand(3, 8, 9))
    with pytest.raises(DatasetError, match="a.png: is 20 × 30, but its image is 8 × 9"):
        open_folder(folder, "train")[0]


def test_broken_files_are_named(folder: Path) -> None:
    (folder / "masks" / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"a\.png: broken"):
        open_set("folder", folder, "train")


def test_black_grey_and_white_are_background_ignored_and_object(tmp_path: Path) -> None:
    greys = torch.tensor([[0, 128, 255, 127, 129]])
    write_labels(tmp_path / "three.png", greys[:, :3])
    numbers, ignored = read_objects(tmp_path / "three.png")
    assert numbers.tolist() == [[0, 0, 1]] and ignored.tolist() == [[False, True, False]]
    write_labels(tmp_path / "map.png", torch.tensor([[0, 1, 7, 255]]))
    numbers, ignored = read_objects(tmp_path / "map.png")
    assert numbers.tolist() == [[0, 1, 7, 0]] and ignored.tolist() == [[False] * 3 + [True]]
    for part in ("data_GT", "boundary_GT"):
        (tmp_path / part).mkdir()
    write_image(tmp_path / "data_GT" / "x.y.png", torch.rand(3, 1, 5))
    write_labels(tmp_path / "boundary_GT" / "x.png", greys)
    (sample,) = open_set("grabcut", tmp_path)
    assert sample.target.tolist() == [[[0, 255, 1, 0, 1]]]


def test_ignored_pixels_survive_any_size(mask: torch.Tensor) -> None:
    soft = np.zeros(SIZE, bool)
    soft[4:16, 6:9] = True
    picture = Layered(
        "x", np.zeros((*SIZE, 3), np.uint8), mask.numpy().astype(np.uint8), ((0, 1),), soft
    )
    for factor in (1, 0.9, 0.5, 0.21):
        target = take_object(shrink(picture, factor), 0).target
        assert set(target.unique().tolist()) == {0, 1, 255}
    target = as_target(mask[0].numpy(), soft)
    assert set(np.unique(resize_labels(target, (33, 71)))) == {0, 1, 255}
    assert target[10, 8] == 255, "what is ignored is no object"


def test_sbd_without_its_structure_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "img" / "x.jpg", torch.rand(3, *SIZE))
    (tmp_path / "inst").mkdir()
    (tmp_path / "val.txt").write_text("x")
    savemat(tmp_path / "inst" / "x.mat", dict(other=1))
    with pytest.raises(DatasetError, match=r"x\.mat: not a MATLAB file with GTinst"):
        open_set("sbd", tmp_path)
    (tmp_path / "inst" / "x.mat").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"x\.mat: not a MATLAB file"):
        open_set("sbd", tmp_path)


def test_objects_of_sbd_that_hardly_fill_their_box_do_not_train(tmp_path: Path) -> None:
    write_image(tmp_path / "img" / "x.jpg", torch.rand(3, *SIZE))
    (tmp_path / "inst").mkdir()
    (tmp_path / "train.txt").write_text("x")
    thin = np.zeros(SIZE, np.uint8)
    thin[0, 0] = thin[19, 29] = 1  # 2 of 600 pixels
    thin[8:12, 8:12] = 2
    savemat(tmp_path / "inst" / "x.mat", dict(GTinst=dict(Segmentation=thin)))
    assert sbd_pictures(tmp_path, "train")[0].objects == ((0, 2),)
    assert len(sbd_pictures(tmp_path, "train", least=0)[0].objects) == 2


class Trap:
    "Would create a file if it were unpickled."

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickles_run_nothing(tmp_path: Path) -> None:
    file, touched = tmp_path / "x.pickle", tmp_path / "touched"
    file.write_bytes(pickle.dumps([1, Trap(touched)]))
    with pytest.raises(DatasetError, match=r"x\.pickle: refused or broken \(it wants"):
        read_plain_pickle(file)
    assert not touched.exists()
    for protocol in (2, 4, 5):
        data = {"a": [np.arange(6, dtype=np.uint8), np.int64(3), (1, None, "é")]}
        file.write_bytes(pickle.dumps(data, protocol))
        assert repr(read_plain_pickle(file)) == repr(data)
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(DatasetError, match="refused or broken"):
        read_plain_pickle(file)
