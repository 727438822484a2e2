"Guards of seglab.hybrid.store: a store is what it says, and gives what its source gave."

import json
import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from seglab.core import ConfigError, DatasetError
from seglab.hybrid.data import HybridSamples
from seglab.hybrid.pairs import KINDS, FolderPairs, Pair
from seglab.hybrid.prepare import write_store
from seglab.hybrid.store import StoredPairs, encode, find_store, read_manifest, store_files
from seglab.io import write_alpha, write_image, write_labels, write_mask, write_trimap

SIDE = 48


def write_plane(path, kind: str, generator: torch.Generator, size: tuple[int, int]) -> None:
    "A random truth file of a kind."
    codes = torch.randint(0, 3, (1, *size), generator=generator).to(torch.uint8)
    if kind == "alpha":
        write_alpha(path, codes / 2)
    elif kind == "trimap":
        write_trimap(path, codes)
    elif kind == "binary":
        write_mask(path, codes > 0)
    else:
        write_labels(path, codes[0].long())


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory) -> FolderPairs:
    "Five photographs of different shapes, JPEG and PNG mixed, with truths of one kind."
    path, generator = tmp_path_factory.mktemp(request.param), torch.Generator().manual_seed(0)
    for number, size in enumerate([(60, 90), (90, 60), (30, 30), (64, 64), (50, 20)]):
        suffix = "jpg" if number % 2 else "png"
        write_image(path / f"images/p{number}.{suffix}", torch.rand(3, *size, generator=generator))
        write_plane(path / f"masks/p{number}.png", request.param, generator, size)
    classes = 2 if request.param == "labels" else 1
    return FolderPairs(path / "images", path / "masks", SIDE, request.param, classes=classes)


@pytest.fixture
def store(tmp_path) -> StoredPairs:
    "Four random pairs in a store called four."

    class Source(list):
        side, kind, classes = 8, "binary", 1

    source = Source(random_pair(number) for number in range(4))
    return StoredPairs(write_store(source, tmp_path / "four"))


def random_pair(number: int, side: int = 8) -> Pair:
    generator = torch.Generator().manual_seed(number)
    image = torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8)
    plane = torch.randint(0, 2, (side, side), generator=generator, dtype=torch.uint8)
    return Pair(f"p{number}", image, plane, (0, 0, side, side))


def same(one: Pair, other: Pair) -> bool:
    equal = torch.equal(one.image, other.image) and torch.equal(one.plane, other.plane)
    return equal and (one.name, tuple(one.box)) == (other.name, tuple(other.box))


def test_a_store_gives_the_pairs_of_its_folder(folder, tmp_path):
    store = StoredPairs(write_store(folder, tmp_path / "pictures"))
    assert (store.kind, store.classes, store.side) == (folder.kind, folder.classes, SIDE)
    assert len(store) == len(folder) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as "the given NumPy array is not writable"
        assert all(map(same, store, folder))
    store[0].image.zero_()
    assert same(store[0], folder[0]), "a pair is a copy"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augment", [False, True])
def test_batches_of_a_store_are_those_of_its_folder(folder, tmp_path, workers, augment):
    store = StoredPairs(write_store(folder, tmp_path / "pictures"))
    store[0]  # a map that is open already must not be handed to the workers
    wanted = HybridSamples(folder, count=7, augment=augment, seed=3)
    samples = HybridSamples(store, count=7, augment=augment, seed=3)
    loaders = DataLoader(wanted, 3), DataLoader(samples, 3, num_workers=workers)
    for one, other in zip(*loaders, strict=True):
        assert one.keys() == other.keys() and one["name"] == other["name"]
        tensors = [key for key in one if key != "name"]
        assert all(torch.equal(one[key], other[key]) for key in tensors)


def test_float16_files_are_the_seeds(folder, tmp_path):
    if folder.classes > 1:
        with pytest.raises(ConfigError, match="the source has 2 classes; use 'uint8'"):
            write_store(folder, tmp_path / "train_48", dtype="float16")
        return
    write_store(folder, tmp_path / "train_48", dtype="float16")
    # as the seed's program reads them: names, order of axes and numbers are its own
    images = np.memmap(tmp_path / "train_48_fp16_images.mmap", np.float16, "r").reshape(
        5, 3, 48, 48
    )
    masks = np.memmap(tmp_path / "train_48_fp16_masks.mmap", np.float16, "r").reshape(5, 1, 48, 48)
    seeds = StoredPairs.from_seed(tmp_path / "train_48_fp16_images.mmap")
    for stored in (StoredPairs(tmp_path / "train_48_fp16"), seeds):
        for pair, back, image, mask in zip(folder, stored, images, masks, strict=True):
            assert np.abs(image.astype(float) - pair.image.numpy() / 255).max() < 2.5e-4
            wanted = pair.plane > 127 if folder.kind == "alpha" else pair.plane > 0
            assert (mask[0] == wanted.numpy()).all()
            assert torch.equal(back.image, pair.image) and torch.equal(back.plane, wanted.byte())


def test_ignored_pixels_are_background_in_float16(tmp_path):
    class Source(list):
        side, kind, classes = 8, "instances", 1

    pair = random_pair(0)
    pair.plane[0], pair.plane[1] = 255, 7
    write_store(Source([pair]), tmp_path / "one_8", dtype="float16")
    plane = StoredPairs(tmp_path / "one_8_fp16")[0].plane
    assert not plane[0].any() and plane[1].all()


# -- the seed's own files -----------------------------------------------------------------------


@pytest.fixture
def seed_files(tmp_path):
    "Three pictures of 16 pixels, written as the seed's program writes them."
    files = tmp_path / "val_16_fp16_images.mmap", tmp_path / "val_16_fp16_masks.mmap"
    generator = np.random.default_rng(0)
    for file, channels, levels in zip(files, (3, 1), (256, 2), strict=True):
        rows = np.memmap(file, np.float16, "w+", shape=(3, channels, 16, 16))
        rows[:] = generator.integers(0, levels, rows.shape) / (levels - 1)
        rows.flush()
    return files


def test_seed_files_are_counted_and_read(seed_files):
    store = StoredPairs.from_seed(*seed_files)
    assert len(store) == 3 and store.side == 16 and store.kind == "binary"
    rows = np.fromfile(seed_files[0], np.float16).reshape(3, 3, 16, 16)
    assert np.array_equal(np.rint(rows[2].astype(float) * 255), store[2].image.numpy())
    assert store[1].box == (0, 0, 16, 16) and store[1].name == "00001"
    assert same(pickle.loads(pickle.dumps(store))[2], store[2])


def test_seed_files_that_hold_no_whole_number_of_pictures(seed_files, tmp_path):
    images, masks = seed_files
    content = images.read_bytes()
    images.write_bytes(content[:-2])
    with pytest.raises(DatasetError, match=r"expected 4608 bytes \(3 rows of 1536\), found 4606"):
        StoredPairs.from_seed(images)
    images.write_bytes(content[: 2 * 1536])  # the seed's reader would believe N = 2
    with pytest.raises(DatasetError, match=r"masks\.mmap: expected 1024 bytes.*found 1536"):
        StoredPairs.from_seed(images)
    images.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"expected 1536 bytes .*found 0"):
        StoredPairs.from_seed(images)
    with pytest.raises(DatasetError, match="found 0"):
        StoredPairs.from_seed(tmp_path / "nowhere_16_fp16_images.mmap")


def test_the_size_of_seed_files_is_asked_for_or_doubted(seed_files, tmp_path):
    images, masks = seed_files
    with pytest.raises(DatasetError, match="its name says 16 pixels, not 8"):
        StoredPairs.from_seed(images, masks, 8)
    renamed = [
        shutil.copy(file, tmp_path / name) for file, name in zip(seed_files, "ab", strict=True)
    ]
    with pytest.raises(DatasetError, match="its name says no size"):
        StoredPairs.from_seed(*renamed)
    assert same(StoredPairs.from_seed(*renamed, 16)[1], StoredPairs.from_seed(images)[1])


@pytest.mark.parametrize("value", [float("nan"), 2.0, -1.0])
@pytest.mark.parametrize("which", [0, 1])
def test_numbers_that_are_no_colours_or_masks_are_refused(seed_files, which, value):
    rows = np.fromfile(seed_files[which], np.float16)
    rows[-1] = value
    rows.tofile(seed_files[which])
    with pytest.raises(DatasetError, match="row 2 has values from .* are 16 pixels and float16"):
        StoredPairs.from_seed(*seed_files)


def test_soft_masks_are_refused(seed_files):
    rows = np.fromfile(seed_files[1], np.float16)
    rows[0] = 0.5
    rows.tofile(seed_files[1])
    with pytest.raises(DatasetError, match="row 0 has values from 0.0 to 1.0, 3 of them"):
        StoredPairs.from_seed(*seed_files)


def test_a_store_is_found_whoever_wrote_it(seed_files, tmp_path):
    assert same(find_store(tmp_path, "val", 16)[0], StoredPairs.from_seed(*seed_files)[0])
    assert find_store(tmp_path, "val", 32) is None and find_store(tmp_path, "train", 16) is None
    source = type("Source", (list,), dict(side=16, kind="binary", classes=1))([random_pair(7, 16)])
    with pytest.raises(DatasetError, match="without a manifest"):
        write_store(source, tmp_path / "val_16", "float16")
    write_store(source, tmp_path / "val_16")
    assert same(find_store(tmp_path, "val", 16)[0], source[0])


# -- what is wrong with a store -----------------------------------------------------------------


@pytest.mark.parametrize("name,row", [("images", 192), ("masks", 64)])
@pytest.mark.parametrize("change", [-1, 1, -64])
def test_a_file_of_another_length_is_named(store, name, row, change):
    file = getattr(store.files, name)
    content = file.read_bytes()
    file.write_bytes(content[:change] if change < 0 else content + b"x")
    text = (
        rf"four\.{name}\.u8: expected {4 * row} bytes \(4 rows of {row}\), found {4 * row + change}"
    )
    with pytest.raises(DatasetError, match=text):
        StoredPairs(store.files.manifest)
    file.unlink()
    with pytest.raises(DatasetError, match="found 0"):
        StoredPairs(store.files.manifest)


@pytest.mark.parametrize("byte,end", [(0, "first"), (-1, "last")])
@pytest.mark.parametrize("name", ["images", "masks"])
def test_a_changed_row_is_found_out(store, name, byte, end):
    file = getattr(store.files, name)
    content = bytearray(file.read_bytes())
    content[byte] ^= 1
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=f"the {end} row is not the one that was written"):
        StoredPairs(store.files.manifest)


@pytest.mark.parametrize(
    "change,text",
    [
        (dict(version=2), "version 2, this seglab reads 1; write the store again"),
        (dict(n=5), "holds 4 of 5 pictures; run hybrid_prepare"),
        (dict(size=9), r"expected 972 bytes \(4 rows of 243\), found 768"),
        (dict(n=None), "not the manifest of a store .KeyError: 'n'"),
        (dict(stems=None), "not the manifest of a store .KeyError: 'stems'"),
        (dict(boxes=3), "not the manifest of a store .TypeError"),
        (dict(stems=["p0"]), "names 1 pictures and 4 boxes, 4 are done"),
        (dict(dtype="float64"), "unknown dtype 'float64'"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(store, change, text):
    file = store.files.manifest
    content = json.loads(file.read_text()) | change
    kept = {name: value for name, value in content.items() if value is not None}
    file.write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=text):
        StoredPairs(file)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "17", "\x00\xff"])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text.encode("latin1"))
    with pytest.raises(DatasetError, match=r"x\.json: not the manifest of a store"):
        StoredPairs(tmp_path / "x")


def test_a_name_that_does_not_exist_comes_with_those_that_do(store):
    with pytest.raises(DatasetError, match=r"five\.json: no such store; .*\['four'\]"):
        StoredPairs(store.files.manifest.with_name("five"))
    with pytest.raises(DatasetError, match="none"):
        StoredPairs("/nowhere/at_all")


# -- details ------------------------------------------------------------------------------------


def test_a_store_travels_to_another_process_without_its_rows(store):
    unopened = len(pickle.dumps(store))
    before = store[3]
    sent = pickle.dumps(store)
    assert len(sent) == unopened, "an open map is left behind"
    assert same(pickle.loads(sent)[3], before)


def test_numbers_out_of_range_are_index_errors(store):
    assert same(store[-1], store[3])
    for index in (4, -5):
        with pytest.raises(IndexError):
            store[index]


@pytest.mark.parametrize("name", ["train_640", "a.b_0.5", "train_640.json"])
def test_names_of_files(tmp_path, name):
    stem = name.removesuffix(".json")
    for dtype, last in (("uint8", ".images.u8"), ("float16", "_fp16_images.mmap")):
        files = store_files(tmp_path / name, dtype)
        assert files.images == tmp_path / (stem + last)
        assert store_files(files.manifest, dtype) == files, "a manifest finds its files"
    with pytest.raises(ConfigError, match="unknown dtype 'fp16'"):
        store_files(tmp_path / name, "fp16")


def test_the_manifest_says_what_the_issue_asks_for(store):
    content = json.loads(store.files.manifest.read_text())
    wanted = "version n n_done size dtype shape kind classes stems source boxes sha256"
    assert content.keys() == set(wanted.split())
    assert content["shape"] == dict(images=[4, 3, 8, 8], masks=[4, 8, 8])
    assert read_manifest(store.files.manifest) == store.manifest


def test_a_pair_that_does_not_fit_is_named(store):
    with pytest.raises(
        DatasetError, match=r"p9: image is torch.uint8 \(3, 9, 9\), the store takes"
    ):
        encode(random_pair(9, side=9), store.manifest)
    wrong = Pair("p9", random_pair(9).image, random_pair(9).plane.long(), (0, 0, 8, 8))
    with pytest.raises(DatasetError, match="p9: plane is torch.int64"):
        encode(wrong, store.manifest)
