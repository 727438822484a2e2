"Guards of seglab.fusion.results and seglab.fusion.prepare: what is kept, what is dropped, and going on."

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from seglab.core import ConfigError, DatasetError
from seglab.fusion import folders, prepare, results
from seglab.fusion.layout import list_names
from seglab.io import read_image, read_mask, write_image, write_mask

SMALL = dict(img_size=48)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return results.draw_results(tmp_path_factory.mktemp("drawn") / "results", 4, 64, attempts=3)


@pytest.fixture
def tree(drawn, tmp_path):
    "A tree of its own for every test."
    return shutil.copytree(drawn, tmp_path / "results")


def make(tree, config=None, name="out", **options):
    "Report and folder."
    config = prepare.PrepareConfig(**SMALL | (config or {}))
    return prepare.prepare(tree, tree.parent / name, config, **options), tree.parent / name


def reasons(report, image="heap_000"):
    "part -> reason of what was dropped of a picture"
    rows = report[(report["image"] == image) & ~report["kept"]]
    return dict(zip(rows["part"], rows["reason"], strict=True))


def box(size, top, left, height, width):
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[:, top : top + height, left : left + width] = True
    return mask


# --------------------------------------------------------------------------- what comes out


def test_samples_can_be_read_and_lists_are_sorted(tree):
    report, out = make(tree, val_fraction=0.25)
    train, val = list_names(out, "train"), list_names(out, "val")
    assert (len(train), len(val)) == (3, 1) and sorted(train + val) == list_names(out)
    assert train == sorted(train) and report["kept"].all()
    for name in train:
        sample = folders.read_sample(out, name)
        assert sample["mask"].shape == (1, 48, 48) and sample["mask"].any()
        assert sample["target"].shape == (3, 48, 48) and (sample["order"] != 255).any()
    assert {path.suffix for path in out.glob("heap_000*")} == {".png", ".json"}
    assert (out / "report.csv").read_text().startswith("image,part,kept,completions,hole,reason")


def test_amodal_results_belong_to_the_whole_picture(tree):
    "The drawn originals are 48 × 64 pixels, their completions 42 × 42."
    _, out = make(tree, dict(resize=False))
    sample = folders.read_sample(out, "heap_001", slots=4)
    assert sample["mask"].shape == (1, 48, 64)
    visible = read_mask(tree / "heap_001" / "object_000" / "mask.png")
    covered = (sample["alphas"][0] > 0.5)[visible].float().mean()
    assert covered > 0.9  # squeezed by another factor along each side, and in its place again


def test_jpg_writes_the_seeds_format(tree):
    _, out = make(tree, dict(jpg=True))
    assert (out / "heap_000.jpg").is_file() and (out / "heap_000_partial.jpg").is_file()
    assert (out / "heap_000_mask.png").is_file() and not (out / "heap_000.png").exists()


def test_the_split_depends_on_the_seed_alone():
    names = [f"p{number:02d}" for number in range(30)]
    one = prepare.split_names(names, 0.1, 42)
    assert one == prepare.split_names(names[::-1], 0.1, 42) and len(one["val"]) == 3
    assert one != prepare.split_names(names, 0.1, 43)
    assert prepare.split_names(["a"], 0.5, 0) == dict(train=["a"], val=[])
    assert prepare.split_names(["b", "a"], 0.01, 0)["val"]  # at least one
    assert prepare.split_names(["b", "a"], 0, 0) == dict(train=["a", "b"], val=[])


def test_no_lists_without_a_split(tree):
    _, out = make(tree, val_fraction=None)
    assert not list(out.glob("*_list.txt"))


# --------------------------------------------------------------------------- what is dropped


def test_a_broken_attempt_is_dropped_and_the_others_stay(tree):
    path = tree / "heap_000" / "object_001" / "amodal_result_0.png"
    path.write_bytes(path.read_bytes()[:100])
    report, out = make(tree, dict(samples_per_object=3))
    (part,) = reasons(report)
    assert part == "object_001/amodal_result_0.png"
    assert reasons(report)[part].startswith("broken, cut short")
    listed = json.loads((out / "heap_000_meta.json").read_text())["objects"]
    assert next(x["attempt"] for x in listed if x["object"] == "object_001") in (1, 2)


def test_objects_without_use_are_dropped(tree):
    place = tree / "heap_000"
    size = len(list(place.glob("object_*")))
    assert size >= 3
    write_image(place / "object_000" / "amodal_result_0.png", torch.ones(3, 20, 20))
    write_image(place / "object_001" / "amodal_result_0.png", torch.full((3, 20, 20), 0.8))
    (place / "object_009").mkdir()
    (place / "object_notes.txt").write_text("not a folder")
    told = reasons(make(tree, dict(mask_mode="random"))[0])
    assert told["object_000/amodal_result_0.png"] == "is blank, no object in it"
    assert "covers 100% of the picture" in told["object_001/amodal_result_0.png"]
    assert told["object_000"] == told["object_001"] == "no attempt of use"
    assert told["object_009"] == "no amodal_result_0.png"


def test_a_missing_visible_mask_is_told_and_no_false_one_written(tree):
    (tree / "heap_000" / "object_001" / "mask.png").unlink()
    report, out = make(tree)
    assert reasons(report)["object_001/mask.png"].startswith("no such file")
    assert (out / "heap_000_comp1_mask.png").exists()
    assert not (out / "heap_000_comp2_mask.png").exists()
    assert (folders.read_sample(out, "heap_000")["order"] == 255).all()


def test_pictures_without_use_are_dropped(tree):
    (tree / "heap_000" / "heap_000_original.png").unlink()
    for path in tree.glob("heap_001/object_*"):
        shutil.rmtree(path)
    for path in sorted(tree.glob("heap_002/object_*"))[1:]:
        shutil.rmtree(path)
    report, out = make(tree)
    assert "heap_000_original.png: no such file" in reasons(report)[""]
    assert reasons(report, "heap_001")[""] == "has no folder object_000"
    assert reasons(report, "heap_002")[""] == "mask_mode 'overlap' leaves no hole"
    assert list_names(out) == ["heap_003"] == list_names(out, "train")
    assert str(tree) not in (out / "report.csv").read_text()


def test_of_too_many_objects_those_stay_that_are_most_in_the_hole(tree):
    report, out = make(tree, dict(n_max_completions=2))
    record = json.loads((out / "heap_000_meta.json").read_text())
    count = len(list((tree / "heap_000").glob("object_*")))
    told = reasons(report)
    assert len(record["objects"]) == 2 and len(told) == count - 2
    assert all("more than 2 objects" in reason for reason in told.values())
    _, every = make(tree, name="every")
    areas = {
        x["object"]: x["in_hole"]
        for x in json.loads((every / "heap_000_meta.json").read_text())["objects"]
    }
    assert min(x["in_hole"] for x in record["objects"]) >= max(areas[name] for name in told)


def test_overviews_are_ignored(tree):
    (tree / "all_amodal").mkdir()
    write_image(tree / "all_amodal" / "heap_000.png", torch.rand(3, 9, 9))
    assert "all_amodal" not in set(make(tree)[0]["image"])


# --------------------------------------------------------------------------- holes


def test_given_masks_are_used_as_they_are(tree, tmp_path):
    holes = tmp_path / "holes"
    for number in range(3):
        write_mask(holes / f"heap_{number:03d}_mask.png", box((96, 128), 16, 32, 32, 64))
    report, out = make(tree, dict(mask_mode="file"), holes=holes)
    mask = read_mask(out / "heap_000_mask.png")
    assert torch.equal(mask, box((48, 48), 8, 12, 16, 24))
    assert "heap_003_mask.png: no such file" in reasons(report, "heap_003")[""]


def test_white_holes_work_without_the_whole_picture(tree):
    for place in tree.iterdir():
        original = place / f"{place.name}_original.png"
        image = read_image(original).clamp(max=0.9).masked_fill(box((48, 64), 10, 10, 20, 30), 1)
        write_image(place / f"{place.name}_partial.png", image)
    (tree / "heap_000" / "heap_000_original.png").unlink()
    report, out = make(tree, dict(mask_mode="white", dilate=0, resize=False))
    assert report["kept"].all()
    assert torch.equal(read_mask(out / "heap_000_mask.png"), box((48, 64), 10, 10, 20, 30))
    assert "target" not in folders.read_sample(out, "heap_000")
    assert "target" in folders.read_sample(out, "heap_001")


def test_hidden_holes_need_every_visible_mask(tree):
    shutil.rmtree(tree / "heap_001" / "object_000")  # now it hides others without being listed
    (tree / "heap_000" / "object_000" / "mask.png").unlink()
    report, _ = make(tree, dict(mask_mode="hidden"))
    assert "'hidden' needs mask.png of every object" in reasons(report)[""]


def test_random_holes_depend_on_seed_and_name_only(tree):
    _, one = make(tree, dict(mask_mode="random"), "one")
    shutil.rmtree(tree / "heap_000")
    _, fewer = make(tree, dict(mask_mode="random"), "fewer")
    _, other = make(tree, dict(mask_mode="random", seed=1), "other")
    masks = [read_mask(out / "heap_002_mask.png") for out in (one, fewer, other)]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


# --------------------------------------------------------------------------- attempts


def test_the_attempt_that_agrees_with_the_picture_is_taken():
    image = torch.full((3, 20, 20), 0.5)
    seen = box((20, 20), 4, 4, 12, 12)
    alphas = seen.float().expand(3, 1, 20, 20).clone()
    alphas[2, :, 8:] = 0  # the third leaves much of what one sees uncovered
    attempts = torch.stack([image + 0.2, image - 0.1, image])
    best, errors = results.choose_attempt(attempts, alphas, image, seen)
    assert best == 1 and errors[:2] == pytest.approx([0.2, 0.1])
    assert errors[2] == pytest.approx(6 / 8)  # rows 6 to 13 without the rim, 6 of them uncovered
    assert results.choose_attempt(attempts, alphas, image, None)[0] == 0
    best, errors = results.choose_attempt(attempts, alphas, image, seen & False)
    assert best == 0 and np.isnan(errors).all()


def test_pixels_of_the_hole_do_not_choose():
    image, whole = torch.full((3, 30, 30), 0.5), box((30, 30), 0, 0, 30, 30)
    mask = box((30, 30), 0, 0, 30, 20)
    attempts = torch.stack([torch.where(mask, 0.9, image), torch.where(mask, image, 0.6)])
    alphas = whole.float().expand(2, 1, 30, 30)
    thing = results.AmodalObject("object_000", [0, 1], attempts, alphas, whole)
    (chosen,) = prepare._choose(image, mask, [thing])
    assert chosen["best"] == 0 and chosen["in_hole"] == 600  # right where it can be compared


def test_attempts_are_counted_by_number_not_by_name(tree):
    folder = tree / "heap_000" / "object_000"
    shutil.copy(folder / "amodal_result_1.png", folder / "amodal_result_10.png")
    objects, _ = results.read_objects(tree / "heap_000", (48, 48), most=3)
    assert objects[0].attempts == [0, 1, 2]


# --------------------------------------------------------------------------- going on


def test_what_is_finished_is_not_made_again(tree, monkeypatch):
    first, out = make(tree)
    (out / "heap_002_comp1.png").unlink()  # so this one is not finished
    made = []
    monkeypatch.setattr(
        prepare,
        "write_sample",
        lambda *given: made.append(given[1]["name"]) or folders.write_sample(*given),
    )
    again, _ = make(tree)
    assert made == ["heap_002"]
    assert first.equals(again) and (out / "heap_002_comp1.png").is_file()


def test_a_run_that_was_cut_off_goes_on(tree, monkeypatch):
    whole, _ = make(tree, name="whole")
    real, count = folders.write_sample, []

    def tired(*given):
        if len(count) == 2:
            raise KeyboardInterrupt
        count.append(1)
        return real(*given)

    monkeypatch.setattr(prepare, "write_sample", tired)
    with pytest.raises(KeyboardInterrupt):
        make(tree)
    monkeypatch.undo()
    report, out = make(tree)
    assert report.equals(whole)
    files = sorted(path.name for path in out.iterdir())
    assert files == sorted(path.name for path in (tree.parent / "whole").iterdir())
    for name in files:
        assert (out / name).read_bytes() == (tree.parent / "whole" / name).read_bytes(), name


def test_other_settings_are_refused(tree):
    make(tree)
    with pytest.raises(DatasetError, match="prepared with img_size 48, not 32, dilate 2, not 1"):
        make(tree, dict(img_size=32, dilate=1))


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "options, text",
    [
        (dict(mask_mode="overlaps"), "did you mean 'overlap'"),
        (dict(img_size=0), "img_size: must be 1 or more, got 0"),
        (dict(samples_per_object=-1), "samples_per_object"),
        (dict(dilate=-1), "dilate -1"),
    ],
)
def test_impossible_settings_are_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        prepare.PrepareConfig(**options)


def test_impossible_inputs_are_refused(tree):
    with pytest.raises(ConfigError, match="val_fraction: must be at least 0 and below 1, got 1"):
        prepare.split_names(["a"], 1)
    with pytest.raises(DatasetError, match="no such folder"):
        make(tree / "nothing")
    with pytest.raises(DatasetError, match="objects of one picture; give the folder above it"):
        make(tree / "heap_000")
    (tree.parent / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no folder"):
        make(tree.parent / "empty")
    for path in tree.glob("*/*_original.png"):
        path.unlink()
    with pytest.raises(DatasetError, match="no picture is usable; .*heap_000_original.png"):
        make(tree, name="none")


def test_pictures_with_opacity_are_read(tree):
    place = tree / "heap_000" / "object_000" / "amodal_result_0.png"
    with Image.open(place) as picture:
        pixels = np.asarray(picture.convert("RGBA")).copy()
    pixels[..., 3] = 0
    pixels[10:30, 10:30] = 255  # a white object in the middle of nothing
    Image.fromarray(pixels).save(place)
    objects, _ = results.read_objects(tree / "heap_000", (42, 42))
    assert (objects[0].alphas[0] > 0.5).sum() == 400
