"Guards of seglab.fusion.occlusion: run lengths, damaged files, what a completion may know."

import json

import numpy as np
import pytest
import torch

from seglab.core import DatasetError, data_dir
from seglab.fusion import occlusion
from seglab.fusion.occlusion import (
    OcclusionSamples,
    Regions,
    decode_runs,
    encode_runs,
    make_occlusion,
    nearness_map,
    read_regions,
)
from seglab.io import write_image


def square(top, left, size, shape=(48, 64)):
    mask = torch.zeros(1, *shape, dtype=torch.bool)
    mask[:, top : top + size, left : left + size] = True
    return mask


@pytest.fixture
def regions():
    "A red square before a green one, both before a blue one that touches nobody."
    amodal = torch.stack([square(10, 10, 16), square(18, 18, 20), square(2, 50, 10)])
    visible = amodal.clone()
    visible[1] &= ~amodal[0]
    image = torch.full((3, 48, 64), 0.5)
    for channel, mask in reversed([*enumerate(amodal)]):
        image = torch.where(mask, torch.eye(3)[channel][:, None, None], image)
    return Regions(image, ["red", "green", "blue"], amodal, visible, torch.tensor([1, 2, 3]))


def write(folder, regions, name="one", **changes):
    "The regions as COCOA's file; `changes` replace entries of the first."
    listed = []
    for number, rank in enumerate(regions.ranks.tolist()):
        rows, columns = regions.amodal[number, 0].nonzero().T
        box = [int(x) for x in (columns.min(), rows.min(), columns.max(), rows.max())]
        outline = [box[0], box[1], box[2], box[1], box[2], box[3], box[0], box[3]]
        listed.append(dict(segmentation=outline, name=regions.names[number], order=rank))
        if rank == 2:
            hidden = regions.amodal[number] & ~regions.visible[number]
            masks = dict(visible_mask=regions.visible[number], invisible_mask=hidden)
            listed[-1] |= {key: encode_runs(mask) for key, mask in masks.items()}
    listed[0] |= changes
    write_image(folder / f"{name}.jpg", regions.image)
    (folder / f"{name}.json").write_text(json.dumps(dict(regions=listed)))
    return folder / f"{name}.json"


@pytest.mark.parametrize("kind", ["noise", "empty", "full", "stripes", "corner", "one row"])
def test_run_lengths_come_back(kind):
    shape = (1, 1, 90) if kind == "one row" else (1, 37, 53)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.5
    mask = {"empty": mask & ~mask, "full": mask | ~mask}.get(kind, mask)
    if kind == "stripes":
        mask[:] = (torch.arange(53) // 20 % 2 == 1).expand(37, 53)
    if kind == "corner":
        mask[:] = False
        mask[:, 0, 0] = mask[:, -1, -1] = True
    assert torch.equal(decode_runs(encode_runs(mask)), mask)


def test_run_lengths_by_hand():
    # runs 5 3 2 6 of a mask of 4 x 4, down the columns; the 4th is written as 6 - 3
    expected = torch.zeros(16, dtype=torch.bool)
    expected[5:8] = expected[10:16] = True
    assert torch.equal(decode_runs(dict(size=[4, 4], counts="5323"))[0], expected.view(4, 4).T)
    assert encode_runs(expected.view(4, 4).T[None])["counts"] == "5323"


def test_long_and_falling_runs():
    "Runs above 15 take two letters or more, and differences below zero have a sign."
    counts = [1000, 40, 7, 3, 100000, 1, 2, 900]
    size = [1, sum(counts)]
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    text = encode_runs(torch.from_numpy(inside)[None, None])
    assert decode_runs(text)[0, 0].numpy().tolist() == inside.tolist()
    assert torch.equal(decode_runs(dict(size=size, counts=counts)), decode_runs(text))


@pytest.mark.parametrize(
    "runs",
    [
        dict(size=[4, 4], counts="532"),
        dict(size=[4, 4], counts="5323P"),
        dict(size=[4, 4], counts="532é"),
        dict(size=[4, 4], counts=[20, -4]),
        dict(size=[4], counts="5323"),
        dict(counts="5323"),
    ],
)
def test_damaged_run_lengths_are_refused(runs):
    with pytest.raises(DatasetError, match="not COCO's run lengths"):
        decode_runs(runs)


def test_a_file_is_read_as_it_was_written(regions, tmp_path):
    found = read_regions(write(tmp_path, regions))
    assert found.names == regions.names and torch.equal(found.ranks, regions.ranks)
    assert torch.equal(found.amodal, regions.amodal) and torch.equal(found.visible, regions.visible)
    small = read_regions(tmp_path / "one.json", side=32)
    assert small.image.shape == (3, 24, 32) and small.amodal.shape == (3, 1, 24, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(visible_mask=dict(size=[9, 9], counts=[81])), r"a mask is \(9, 9\), the photograph"),
        (dict(visible_mask=dict(size=[48, 64], counts=[5])), "not COCO's run lengths"),
        (dict(segmentation=[1, 2, 3]), "cannot reshape"),
        (dict(order="near"), "invalid literal"),
    ],
)
def test_damaged_files_are_named(regions, tmp_path, changes, message):
    file = write(tmp_path, regions, **changes)
    with pytest.raises(
        DatasetError, match=rf"one\.json: not a file of COCOA's regions .*{message}"
    ):
        read_regions(file)


def test_missing_files_are_named(regions, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLAB_DATA", str(tmp_path))
    with pytest.raises(
        DatasetError, match=r"occlusion: holds no \.json of COCOA; set \$SEGLAB_DATA"
    ):
        OcclusionSamples()
    file = write(tmp_path, regions)
    file.with_suffix(".jpg").unlink()
    with pytest.raises(OSError, match=r"one\.jpg"):
        read_regions(file)
    file = write(tmp_path, regions, "two")
    file.write_text("[]")
    with pytest.raises(DatasetError, match=r"two\.json: not a file"):
        read_regions(file)


def test_a_sample_by_hand(regions):
    sample = make_occlusion(regions, np.random.default_rng(3), hole="overlap")
    objects = sample["objects"].split("|")
    red, green, blue = (objects.index(name) for name in regions.names)
    order = sample["order"]
    assert order[red, green] == 1 and order[green, red] == 0
    assert (order[blue] == 255).all() and (order.diagonal() == 255).all()
    assert (sample["front"][10:26, 10:26] == red).all() and sample["front"][36, 30] == green
    assert sample["front"][47, 0] == 3, "background"
    assert (
        sample["mask"][0, 18:26, 18:26].all()
        and (sample["partial"][sample["mask"].expand(3, -1, -1)] == 1).all()
    )
    assert torch.equal(sample["target"], regions.image)


@pytest.mark.parametrize("hole", ["random", "overlap"])
def test_a_completion_knows_nothing_but_the_visible_pixels_of_its_object(regions, hole):
    "Whatever other objects and the inside of the hole look like, completions stay the same."
    sample = make_occlusion(regions, np.random.default_rng(1), hole)
    slot = sample["objects"].split("|").index("green")
    known = regions.visible[1] & ~sample["mask"]
    other = regions._replace(image=torch.where(known, regions.image, torch.rand(3, 48, 64)))
    again = make_occlusion(other, np.random.default_rng(1), hole)
    assert torch.equal(sample["completions"][slot], again["completions"][slot])
    inside = regions.amodal[1].expand(3, -1, -1)
    green = sample["completions"][slot][inside].view(3, -1)
    assert (green[1] > 0.99).all() and (green[[0, 2]] < 0.01).all()
    assert (sample["completions"][slot][~inside] == 1).all()


def test_an_object_of_which_nothing_is_seen_has_an_empty_slot(regions):
    visible = regions.visible.clone()
    visible[1] = False
    sample = make_occlusion(regions._replace(visible=visible), np.random.default_rng(0))
    slot = sample["objects"].split("|").index("green")
    assert not sample["valid"][slot] and not sample["alphas"][slot].any()
    assert (sample["completions"][slot] == 1).all() and (sample["order"][slot] == 255).all()
    assert (sample["order"][:, slot] == 255).all()
    assert (sample["front"] == 255).sum() > 50, "where only a hidden object is, nothing is known"


def test_samples_depend_on_their_number_and_seed_alone(regions, tmp_path):
    write(tmp_path, regions)
    write(tmp_path, regions, "two")
    samples = OcclusionSamples(tmp_path, holes=2)
    assert len(samples) == 4 and [s["name"] for s in samples][1:3] == ["one hole 1", "two hole 0"]
    assert torch.equal(samples[2]["mask"], OcclusionSamples(tmp_path, holes=2)[2]["mask"])
    masks = [OcclusionSamples(tmp_path, seed=seed)[0]["mask"] for seed in range(4)]
    assert any(not torch.equal(masks[0], mask) for mask in masks)
    orders = {OcclusionSamples(tmp_path, seed=seed)[0]["objects"] for seed in range(8)}
    assert len(orders) > 2, "slots are shuffled: COCOA lists the nearest first"


def test_nearness_by_hand(regions):
    nearness = nearness_map(regions.amodal.float(), regions.ranks)
    assert nearness[0, 20, 20] == 1 and nearness[0, 30, 30] == pytest.approx(2 / 3)
    assert nearness[0, 5, 55] == pytest.approx(1 / 3) and nearness[0, 47, 0] == 0


def test_photographs_where_they_are():
    if not (data_dir() / "occlusion").is_dir():
        pytest.skip(f"no photographs at {data_dir() / 'occlusion'}; set SEGLAB_DATA")
    found = [read_regions(file, 128) for file in OcclusionSamples().files]
    assert [len(regions.names) for regions in found] == [2, 11, 19, 10, 6]
    for regions in found:
        assert not (regions.visible & ~regions.amodal).any()
        assert regions.ranks.tolist() == sorted(regions.ranks.tolist())
    assert occlusion.OcclusionSamples(side=96)[0]["completions"].shape == (2, 3, 72, 96)
