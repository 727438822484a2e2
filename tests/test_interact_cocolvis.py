"COCO + LVIS: layers read, two sets merged, interrupted and continued."

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from seglab.core import DatasetError
from seglab.interact.cocolvis import CocoLvis, read_layers
from seglab.interact.packing import add_stuff, as_patch, box_iou, find_parts, merge, pack
from seglab.interact.prepare import fill_outlines, find_tasks, prepare, read_segments
from seglab.io import write_image


def masks(seed: int, count: int, size: tuple[int, int] = (40, 50)) -> list[np.ndarray]:
    "Boxes by chance, none empty."
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        mask = np.zeros(size, bool)
        (top, low), (left, right) = (sorted(generator.integers(0, e, 2)) for e in size)
        mask[top : low + 1, left : right + 1] = (
            generator.random((low - top + 1, right - left + 1)) < 0.9
        )
        mask[top, left] = mask[low, right] = True
        found.append(mask)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_packing_loses_nothing(seed: int) -> None:
    own = masks(seed, 300)
    layers, places = pack([as_patch(mask) for mask in own], own[0].shape)
    assert len(set(places)) == len(own) and all(1 <= number <= 255 for _, number in places)
    for (layer, number), mask in zip(places, own, strict=True):
        assert ((layers[layer] == number) == mask).all()


def test_boxes_are_compared_as_in_the_original() -> None:
    own = [as_patch(mask) for mask in masks(5, 20)]
    for one in own:
        for other in own:
            product = 1.0
            for (a, b), (c, d) in zip(one.spans, other.spans, strict=True):
                both, either = set(range(a, b)) & set(range(c, d)), range(min(a, c), max(b, d))
                product *= len(both) / len(either)
            assert box_iou(one, other) == pytest.approx(product)


def test_of_two_masks_of_one_object_lvis_has_the_finer_and_the_later_wins() -> None:
    coco, lvis, again, other = (np.zeros((30, 30), bool) for _ in range(4))
    coco[2:20, 2:20] = lvis[3:20, 3:20] = again[3:20, 3:21] = other[22:28, 22:28] = True
    patches = [as_patch(mask) for mask in (coco, lvis, again, other)]
    assert merge([patches[0], patches[3]], patches[1:3]) == [patches[3], patches[2]]


def test_parents_are_the_smallest_masks_around() -> None:
    rings = [np.zeros((40, 40), bool) for _ in range(4)]
    for number, ring in enumerate(rings):
        ring[2 + 4 * number : 38 - 4 * number, 2 + 4 * number : 38 - 4 * number] = True
    tree = find_parts([as_patch(rings[number]) for number in (2, 0, 3, 1)])
    assert [tree[i]["parent"] for i in range(4)] == [3, None, 0, 1]
    assert [tree[i]["node_level"] for i in range(4)] == [2, 0, 3, 1]
    assert tree[1]["children"] == [3]


def test_stuff_gives_way_to_things() -> None:
    thing, everywhere = np.zeros((40, 40), bool), np.ones((40, 40), bool)
    thing[:20] = True
    patches = add_stuff([as_patch(thing)], [everywhere, ~thing & (np.arange(40) < 20)], (40, 40))
    assert [patch.area for patch in patches] == [800, 800], "400 pixels are too few"


def test_outlines_and_segments(tmp_path: Path) -> None:
    assert fill_outlines([[0.4, 0.4, 3.6, 0.4, 3.6, 2.4, 0.4, 2.4]], (5, 6)).sum() == 5 * 3
    assert not fill_outlines([], (5, 6)).any()
    colours = torch.tensor([[[1.0, 2, 3], [255, 255, 255]]]).permute(2, 0, 1) / 255
    write_image(tmp_path / "x.png", colours)
    assert read_segments(tmp_path / "x.png").tolist() == [[1 + 256 * 2 + 65536 * 3, 2**24 - 1]]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    "Three photographs with one thing each."
    coco, lvis = tmp_path / "coco" / "annotations", tmp_path / "lvis" / "train"
    lvis.mkdir(parents=True)
    plane = torch.zeros(3, 40, 40)
    plane[0, 5:25, 5:25] = 10 / 255
    for number in range(3):
        write_image(coco / "panoptic_train2017" / f"{number}.png", plane)
        write_image(tmp_path / "coco" / "train2017" / f"{number}.jpg", torch.rand(3, 40, 40))
    segments = [dict(id=10, category_id=1)]
    annotations = [dict(file_name=f"{number}.png", segments_info=segments) for number in range(3)]
    panoptic = dict(categories=[dict(id=1, isthing=1)], annotations=annotations)
    (coco / "panoptic_train2017.json").write_text(json.dumps(panoptic))
    images = [dict(id=number, coco_url=f"http://x/{number}.jpg") for number in range(4)]
    square = [[20.0, 20.0, 38.0, 20.0, 38.0, 38.0, 20.0, 38.0]]
    annotated = [dict(image_id=number, segmentation=square) for number in (0, 1, 2)]
    (lvis / "lvis_train.json").write_text(json.dumps(dict(images=images, annotations=annotated)))
    return tmp_path


def test_an_interrupted_conversion_goes_on(raw: Path) -> None:
    place, broken = raw / "out", raw / "coco" / "annotations" / "panoptic_train2017" / "1.png"
    good = broken.read_bytes()
    broken.write_bytes(b"torn")
    with pytest.raises(DatasetError, match=r"1 of 3 photographs have no masks:\n1: .*1\.png"):
        prepare(raw / "coco", raw / "lvis", place)
    written = {file: file.stat().st_mtime_ns for file in (place / "train" / "masks").iterdir()}
    assert len(written) == 2 and not (place / "train" / "hannotation.pickle").exists()
    broken.write_bytes(good)
    assert prepare(raw / "coco", raw / "lvis", place) == 3
    assert all(file.stat().st_mtime_ns == time for file, time in written.items())
    assert not [file for file in place.rglob("*") if file.name.startswith(".")], "left over"
    picture = CocoLvis(place)[1]
    assert picture.name == "1" and len(picture.objects) == 2 and picture.stuff == 0


def test_photographs_that_one_set_lacks_are_left_out(raw: Path) -> None:
    file = raw / "lvis" / "train" / "lvis_train.json"
    content = json.loads(file.read_text())
    content["annotations"].pop()
    file.write_text(json.dumps(content))
    assert [task.name for task in find_tasks(raw / "coco", raw / "lvis", "train")] == ["0", "1"]
    file.write_text(json.dumps(content | dict(images=[])))
    with pytest.raises(DatasetError, match="no photograph of train is in both"):
        prepare(raw / "coco", raw / "lvis", raw / "out")


def test_missing_and_broken_annotations_are_named(raw: Path) -> None:
    with pytest.raises(DatasetError, match=r"panoptic_val2017\.json: no such file"):
        prepare(raw / "coco", raw / "lvis", raw / "out", "val")
    (raw / "lvis" / "train" / "lvis_train.json").write_text("{")
    with pytest.raises(DatasetError, match=r"lvis_train\.json: broken JSON"):
        prepare(raw / "coco", raw / "lvis", raw / "out")


def test_layers_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.pickle"
    layer = cv2.imencode(".png", np.eye(4, dtype=np.uint8))[1]
    file.write_bytes(pickle.dumps(([layer], [(0, 1)])))
    layers, objects = read_layers(file)
    assert (layers[0] == np.eye(4)).all() and objects == ((0, 1),)
    for wrong in (3, [1, 2], ([b"no png"], [(0, 1)]), ([], [])):
        file.write_bytes(pickle.dumps(wrong))
        with pytest.raises(DatasetError, match=r"x\.pickle: not layers"):
            read_layers(file)
