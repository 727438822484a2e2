"Guards of seglab.fusion.simulate, .cutouts and .data: faults where they belong, splits apart, samples that repeat."

import pickle

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from torch.utils.data import DataLoader

from seglab.core import IGNORE, ConfigError, DatasetError, data_dir
from seglab.fusion import cutouts
from seglab.fusion.cutouts import CutoutScenes
from seglab.fusion.data import (
    DrawnScenes,
    FolderSamples,
    Recipe,
    SceneSamples,
    dataset,
)
from seglab.fusion.folders import write_sample
from seglab.fusion.simulate import Faults, complete, make_sample
from seglab.io import write_image, write_mask
from seglab.overlaps import draw_overlaps
from seglab.synthetic import Scene, composite, draw_scene

SHAPES = dict(
    partial=(3, 64, 64),
    mask=(1, 64, 64),
    completions=(4, 3, 64, 64),
    alphas=(4, 1, 64, 64),
    valid=(4,),
    backdrop=(3, 64, 64),
    target=(3, 64, 64),
    front=(64, 64),
    order=(4, 4),
)


def same(one: dict, two: dict) -> bool:
    return one["name"] == two["name"] and all(torch.equal(one[key], two[key]) for key in SHAPES)


# simulate


@pytest.mark.parametrize("objects", [1, 2, 4, 6])
@pytest.mark.parametrize("hole", ["random", "overlap", "hidden"])
def test_a_sample_has_all_its_parts(objects, hole):
    sample = make_sample(draw_overlaps(1, 64, objects), default_rng(0), hole=hole, name="a")
    assert sample["name"] == "a"
    assert {key: tuple(sample[key].shape) for key in SHAPES} == SHAPES
    filled = min(objects, 4)
    assert sample["valid"].tolist() == [True] * filled + [False] * (4 - filled)
    assert (sample["completions"][filled:] == 1).all() and not sample["alphas"][filled:].any()
    assert (sample["order"][filled:] == IGNORE).all() and sample["front"].max() <= 4
    assert not ((sample["front"] >= filled) & (sample["front"] < 4)).any()
    for key in ("partial", "completions", "alphas", "backdrop", "target"):
        assert (
            sample[key].dtype == torch.float32 and 0 <= sample[key].min() <= sample[key].max() <= 1
        )
    white = sample["mask"].expand(3, -1, -1)
    assert (sample["partial"][white] == 1).all()
    assert torch.equal(sample["partial"][~white], sample["target"][~white])


def test_faults_lie_in_the_hidden_part_and_are_as_large_as_said():
    noise, cast = [], []
    for seed in range(30):
        scene = draw_overlaps(seed)
        for faults, errors in ((Faults(0.04, 0, 0), noise), (Faults(0, 0.08, 0), cast)):
            rough, alphas = complete(scene, default_rng(seed), faults)
            assert torch.equal(alphas, scene.amodal.float())
            seen = scene.visible.expand_as(rough)
            assert torch.equal(rough[seen], scene.image.expand_as(rough)[seen])
            guessed = scene.hidden & (scene.pictures > 0.2) & (scene.pictures < 0.8)
            errors.append((rough - scene.pictures)[guessed])
    noise, cast = torch.cat(noise), torch.cat(cast)
    assert abs(noise.std() - 0.04) < 0.003 and abs(noise.mean()) < 0.003
    assert cast.abs().max() <= 0.08 + 1e-6 and abs(cast.abs().mean() - 0.04) < 0.01


def test_a_hole_hides_too():
    scene = draw_overlaps(2)
    everything = torch.ones(1, 64, 64, dtype=torch.bool)
    rough, _ = complete(scene, default_rng(0), Faults(0, 0.3, 0), mask=everything)
    inside = scene.amodal.expand_as(rough)
    assert (rough - scene.pictures)[inside].abs().mean() > 0.05


@pytest.mark.parametrize("edge", [1, 2])
def test_outlines_are_wrong_by_so_many_pixels_in_such_a_share(edge):
    wrong = total = 0
    square = torch.zeros(1, 1, 32, 32)
    square[..., 10:20, 10:20] = 1
    grey = torch.full((1, 3, 32, 32), 0.5)
    scene = Scene(grey[0], grey[0], grey, square, torch.tensor([0]))
    for seed in range(200):
        _, alphas = complete(scene, default_rng(seed), Faults(edge=edge))
        side = alphas.sum().sqrt().item()
        assert side in (10, 10 + 2 * edge, 10 - 2 * edge)
        wrong, total = wrong + (side != 10), total + 1
    assert abs(wrong / total - 0.6) < 0.1


def test_outlines_may_be_wrong_by_different_amounts():
    scene, sizes = draw_overlaps(3, objects=1), set()
    for seed in range(60):
        _, alphas = complete(scene, default_rng(seed), Faults(edge=3, least_edge=1, edge_share=1))
        sizes.add(int(alphas.sum()))
    assert len(sizes) == 6, "one, two or three pixels, in or out"


def test_several_guesses_differ_in_what_is_made_up_only():
    scene = draw_overlaps(3)
    rough, alphas = complete(scene, default_rng(0), Faults(edge=0), samples=3)
    assert rough.shape == (4, 3, 3, 64, 64) and alphas.shape == (4, 3, 1, 64, 64)
    different = (rough[:, 0] != rough[:, 1]).any(dim=1, keepdim=True)
    assert different.any() and not (different & ~scene.hidden).any()


def test_order_and_front_agree_with_the_scene():
    for seed in range(10):
        scene = draw_overlaps(seed)
        sample = make_sample(scene, default_rng(seed))
        depth = scene.order.argsort()
        for i in range(4):
            for j in range(4):
                both = (scene.amodal[i] & scene.amodal[j]).sum()
                if i == j or both < 5:
                    assert sample["order"][i, j] == IGNORE
                else:
                    assert sample["order"][i, j] == int(depth[i] > depth[j])
            assert (
                torch.equal(sample["front"] == i, scene.visible[i, 0])
                or ((sample["front"] == i) != scene.visible[i, 0]).float().mean() < 0.01
            )  # a pixel of three parts, none of which is a half


def test_more_objects_than_slots_keeps_those_in_the_hole():
    scene = draw_overlaps(5, 64, 6)
    sample = make_sample(scene, default_rng(1), slots=2)
    areas = (scene.amodal & sample["mask"]).flatten(1).sum(1)
    best = areas.argsort(descending=True, stable=True)[:2].sort().values
    whole = scene.amodal[best].float()
    assert ((sample["alphas"] - whole).abs().mean((1, 2, 3)) < 0.1).all()


def test_soft_scenes_and_scenes_without_objects_pass():
    assert make_sample(draw_scene(4, 64, 3), default_rng(0))["valid"].sum() == 3
    empty = make_sample(draw_scene(4, 64, 0), default_rng(0))
    assert not empty["valid"].any() and empty["mask"].any() and (empty["front"] == 4).all()


# cut-outs


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    "Six bright discs and four grey views, in the layout of the data sets."
    root = tmp_path_factory.mktemp("data")
    rows, columns = np.mgrid[:90, :60]
    for number in range(6):
        disc = (rows - 45) ** 2 / 40**2 + (columns - 30) ** 2 / 20**2 < 1
        image = torch.full((3, 90, 60), 0.1)
        image[:, torch.from_numpy(disc)] = 0.4 + 0.1 * number
        write_image(root / f"people/images/p{number}.png", image)
        write_mask(root / f"people/masks/p{number}.png", torch.from_numpy(disc)[None])
    for number in range(4):
        write_image(root / f"facades/images/v{number}.png", torch.full((3, 70, 100), 0.05 * number))
    for name, letter, count in (("people", "p", 6), ("facades", "v", 4)):
        (root / name / "train.txt").write_text("\n".join(f"{letter}{i}" for i in range(count - 2)))
        (root / name / "val.txt").write_text(f"{letter}{count - 2}\n{letter}{count - 1}\n")
    return root


def test_cut_outs_keep_their_colour_to_the_edge(root):
    scene = CutoutScenes("train", "people", 64, root)(default_rng(0), 2)
    for picture, alpha in zip(scene.pictures, scene.alphas, strict=True):
        inside = picture[:, alpha[0] > 0.1]
        assert inside.min() > 0.35, "no rim of the old background (0.1)"
        assert inside.std() < 0.02
    assert torch.equal(
        scene.image, composite(scene.backdrop, scene.pictures, scene.alphas, scene.order)
    )


def test_scenes_of_cut_outs_overlap_and_repeat(root):
    draw = CutoutScenes("train", "people", 64, root)
    for seed in range(12):
        scene, again = draw(default_rng(seed), 3), draw(default_rng(seed), 3)
        assert torch.equal(scene.image, again.image) and torch.equal(scene.order, again.order)
        assert scene.hidden.any()
    assert draw(default_rng(0), 1).alphas.shape == (1, 1, 64, 64)
    assert draw(default_rng(0), 7).alphas.shape == (7, 1, 64, 64), "more than there are: some twice"


def test_one_file_is_decoded_once(root, monkeypatch):
    draw = CutoutScenes("val", "people", 48, root)
    draw(default_rng(0), 2)
    monkeypatch.setattr(cutouts, "read_mask", None)
    draw(default_rng(1), 2)


def test_splits_share_neither_objects_nor_views(root):
    train, val = (CutoutScenes(split, "people", 64, root) for split in ("train", "val"))
    assert len(train.objects) == 4 and len(val.objects) == 2
    assert not set(train.objects) & set(val.objects) and not set(train.views) & set(val.views)


@pytest.mark.parametrize("kind", ["people", "horses", "cutouts"])
def test_photographs(kind):
    if not (data_dir() / "horses").is_dir():
        pytest.skip("no photographs; set SEGLAB_DATA")
    train, val = (CutoutScenes(split, kind, 64) for split in ("train", "val"))
    assert len(train.objects) > 200 and not set(train.objects) & set(val.objects)
    assert not set(train.views) & set(val.views)
    scene = val(default_rng(0), 3)
    assert scene.hidden.any() and scene.amodal.flatten(1).any(1).all()
    assert same(dataset("val", kind)[3], dataset("val", kind)[3])


def test_missing_data_is_explained(root, tmp_path):
    with pytest.raises(DatasetError, match="horses.*train.txt: no such file; set SEGLAB_DATA"):
        CutoutScenes("train", "horses", 64, root)
    with pytest.raises(
        ConfigError, match="unknown kind 'person': known are cutouts, horses, people"
    ):
        CutoutScenes("train", "person", 64, root)


def test_lists_of_any_editor_are_read_and_empty_ones_named(tmp_path, root):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(root, data)
    wanted = CutoutScenes("val", "people", 64, data).objects
    listed = (data / "people/val.txt").read_text().split()
    windows = "\ufeff" + "".join(f"{name}.png\r\n" for name in listed)
    (data / "people/val.txt").write_text(windows, encoding="utf-8")
    assert CutoutScenes("val", "people", 64, data).objects == wanted
    (data / "facades/val.txt").write_text("\n")
    with pytest.raises(DatasetError, match=r"facades/val.txt: the list is empty"):
        CutoutScenes("val", "people", 64, data)


def test_an_empty_mask_and_a_view_without_file_are_named(tmp_path, root):
    import shutil

    broken = tmp_path / "data"
    shutil.copytree(root, broken)
    write_mask(broken / "people/masks/p4.png", torch.zeros(1, 90, 60, dtype=torch.bool))
    with pytest.raises(DatasetError, match=r"p4.png: marks no object"):
        CutoutScenes("val", "people", 64, broken)(default_rng(0), 2)
    (broken / "facades/images/v3.png").unlink()
    with pytest.raises(DatasetError, match=r"1 listed views have no file \['v3'\]"):
        CutoutScenes("val", "people", 64, broken)


# data


def test_lessons_change_with_seed_and_epoch_and_exams_never():
    lessons, others = dataset("train", count=3), dataset("train", count=3, seed=1)
    first = lessons[1]
    assert not torch.equal(first["target"], others[1]["target"])
    lessons.set_epoch(1)
    assert not torch.equal(first["target"], lessons[1]["target"])
    lessons.set_epoch(0)
    assert same(first, lessons[1])
    exams, again = dataset("val"), dataset("val", seed=7, count=3)
    again.set_epoch(5)
    assert len(exams) == 200 and same(exams[2], again[2])


def test_samples_do_not_depend_on_workers():
    samples = dataset("train", count=4)
    one, two = (list(DataLoader(samples, 2, num_workers=n)) for n in (0, 2))
    for a, b in zip(one, two, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in SHAPES)
    pickle.loads(pickle.dumps(samples))


def test_objects_are_as_many_as_asked():
    counts = {int(dataset("train", count=30)[i]["valid"].sum()) for i in range(30)}
    assert counts == {2, 3, 4}
    assert all(dataset("val", count=3)[i]["valid"].all() for i in range(3))
    many = dataset("val", slots=8, objects=6, count=1)[0]
    assert many["valid"].sum() == 6 and len(many["order"]) == 8
    assert dataset("train", side=96, objects=(1, 1), count=1)[0]["target"].shape == (3, 96, 96)


def test_a_recipe_decides_the_hole():
    samples = SceneSamples(DrawnScenes(), 3, Recipe(hole="overlap", faults=Faults(0, 0, 0)))
    for sample in samples:
        inside = (sample["alphas"] > 0.5).sum(0) >= 2
        assert (inside & ~sample["mask"]).float().mean() < 0.01


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Three drawn samples on disk; the last one lacks its whole picture."
    folder = tmp_path_factory.mktemp("weightnet")
    for number, sample in enumerate(SceneSamples(DrawnScenes(), 4)):
        if number == 3:
            del sample["target"]
        write_sample(folder, sample | dict(name=f"s{number}"))
    (folder / "train_list.txt").write_text("s0\ns1\n")
    (folder / "val_list.txt").write_text("s2\ns3\n")
    return folder


def test_a_folder_gives_the_same_samples(folder):
    exams, lessons = dataset("val", str(folder)), dataset("train", str(folder))
    drawn = SceneSamples(DrawnScenes(), 4)
    assert len(exams) == 2 and {key: tuple(exams[0][key].shape) for key in SHAPES} == SHAPES
    assert (exams[0]["target"] - drawn[2]["target"]).abs().max() < 1 / 255
    assert torch.equal(exams[0]["mask"], drawn[2]["mask"])
    turned = []
    for epoch in range(8):
        lessons.set_epoch(epoch)
        for index in range(2):
            target, lesson = drawn[index]["target"], lessons[index]
            turned.append((lesson["target"] - target).abs().max().item() > 2 / 255)
            mask = drawn[index]["mask"]
            assert torch.equal(lesson["mask"], mask.flip(-1) if turned[-1] else mask)
    assert 2 < sum(turned) < 14


def test_few_lessons_of_many_go_on_in_the_next_epoch(folder):
    lessons = FolderSamples(folder, "train", slots=4, count=1)
    names = []
    for epoch in range(3):
        lessons.set_epoch(epoch)
        names.append(lessons[0]["name"])
    assert names == ["s0", "s1", "s0"]


def test_a_folder_sample_without_its_picture_is_refused(folder):
    with pytest.raises(DatasetError, match="s3 has no whole picture"):
        dataset("val", str(folder))[1]


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(split="test"), "unknown split 'test'"),
        (dict(source="nowhere"), "source 'nowhere': neither one of drawn, cutouts"),
        (dict(slots=0), "needs slots of 1 or more, got 0"),
        (dict(objects=0), "objects from 1, got 0"),
        (dict(objects=(3, 2)), r"objects from 1, got \(3, 2\)"),
    ],
)
def test_impossible_requests_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        dataset(**dict(split="train") | wrong)
