"Guards of seglab.hybrid.pairs, data and sets: pairing, letterboxing, five kinds of truth, refusals."

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from seglab.core import IGNORE, ConfigError, DatasetError, data_dir
from seglab.hybrid import data, pairs, sets
from seglab.io import ImageError, write_alpha, write_image, write_labels, write_mask, write_trimap

SIZES = dict(anna=(96, 64), bert=(40, 50), cleo=(30, 30))  # height, width


def disc(height: int, width: int) -> torch.Tensor:  # (1, H, W) bool, in the upper left
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((rows - height / 3) ** 2 + (columns - width / 3) ** 2 < (min(height, width) / 4) ** 2)[
        None
    ]


def write_pictures(images: Path, suffix: str = ".png") -> None:
    for number, (name, size) in enumerate(SIZES.items()):
        grey = torch.full((3, *size), 0.2 + 0.2 * number)
        write_image(images / f"{name}{suffix}", grey)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    "Three pictures with masks; the mask of each is a disc."
    write_pictures(tmp_path / "images")
    for name, size in SIZES.items():
        write_mask(tmp_path / "masks" / f"{name}.png", disc(*size))
    return tmp_path


def source(folder: Path, side: int = 48, **rest) -> pairs.FolderPairs:
    return pairs.FolderPairs(folder / "images", folder / "masks", side, **rest)


# ---- letterbox


@pytest.mark.parametrize("size", [(96, 64), (13, 200), (1, 1), (64, 64), (700, 500)])
@pytest.mark.parametrize("square", [(64, 64), (48, 96)])
def test_letterbox_keeps_proportions_and_fills_one_direction(size, square) -> None:
    picture = torch.ones(3, *size)
    boxed, (top, left, height, width) = pairs.letterbox(picture, square)
    assert boxed.shape == (3, *square) and (height == square[0] or width == square[1])
    assert abs(height / width / (size[0] / size[1]) - 1) < 0.6 / min(height, width) + 1e-6
    assert (boxed[:, top : top + height, left : left + width] - 1).abs().max() < 1e-6
    assert (boxed > 0).sum() == 3 * height * width, "outside the box is nothing"
    assert abs(2 * top + height - square[0]) <= 1 and abs(2 * left + width - square[1]) <= 1


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_numbers_survive_being_enlarged_and_shrunk_back(dtype) -> None:
    plane = (torch.arange(30 * 20).view(1, 30, 20) % 7).to(dtype)
    boxed, box = pairs.letterbox(plane, (96, 96), "nearest")
    assert boxed.dtype == dtype
    assert torch.equal(pairs.undo_letterbox(boxed, box, (30, 20)), plane)


def test_smooth_pictures_survive_approximately() -> None:
    ramp = torch.linspace(0, 1, 60).expand(3, 90, 60)
    boxed, box = pairs.letterbox(ramp, (64, 64))
    assert (pairs.undo_letterbox(boxed, box, (90, 60)) - ramp).abs().max() < 0.03
    stack = pairs.undo_letterbox(boxed.expand(2, 5, 3, 64, 64), box, (90, 60))
    assert stack.shape == (2, 5, 3, 90, 60), "any leading axes"


def test_area_averages_and_nearest_does_not() -> None:
    board = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8).repeat(8, 8)[None]
    assert pairs.letterbox(board, (8, 8))[0].unique().tolist() == [128]
    assert set(pairs.letterbox(board, (8, 8), "nearest")[0].unique().tolist()) <= {0, 255}
    with pytest.raises(ConfigError, match="unknown mode 'bilinear'.*area, nearest"):
        pairs.letterbox(board, (8, 8), "bilinear")


# ---- folders


def test_pairs_belong_together_whatever_the_suffix(folder: Path) -> None:
    write_pictures(folder / "mixed", ".jpg")
    (folder / "mixed" / "cleo.jpg").unlink()
    write_image(folder / "mixed" / "cleo.png", torch.full((3, 30, 30), 0.6))
    found = pairs.FolderPairs(folder / "mixed", folder / "masks", 48)
    for number, pair in enumerate(found):
        top, left, height, width = pair.box
        inside = pair.image[:, top : top + height, left : left + width].float() / 255
        assert (inside - (0.2 + 0.2 * number)).abs().max() < 0.02
        share = pair.plane[top : top + height, left : left + width].float().mean()
        assert abs(share - disc(*SIZES[pair.name]).float().mean()) < 0.02
        assert pair.image.dtype == pair.plane.dtype == torch.uint8
        assert pair.image.shape == (3, 48, 48) and pair.plane.shape == (48, 48)


def test_strays_are_refused_and_named(folder: Path) -> None:
    (folder / "masks" / "bert.png").unlink()
    with pytest.raises(DatasetError, match=r"1 truths are missing \['bert'\]"):
        source(folder)
    write_mask(folder / "masks" / "aaron.png", disc(9, 9))
    with pytest.raises(DatasetError, match=r"have no image in .*\['aaron'\]"):
        source(folder)
    assert [pair.name for pair in source(folder, stems=["cleo", "anna"])] == ["cleo", "anna"]
    with pytest.raises(DatasetError, match=r"masks: 1 listed names have no file \['bert'\]"):
        source(folder, stems=["bert"])
    with pytest.raises(DatasetError, match="the list of names is empty"):
        source(folder, stems=[])


def test_sizes_that_differ_are_named(folder: Path) -> None:
    write_mask(folder / "masks" / "anna.png", disc(96, 65))
    with pytest.raises(ImageError, match=r"images/anna.png 96 × 64.*masks/anna.png 96 × 65"):
        source(folder)[0]


def test_a_mask_with_grey_levels_is_read_and_named_once(folder: Path) -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (96, 1))
    Image.fromarray(ramp).save(folder / "masks" / "anna.png")
    Image.fromarray(ramp[:40, :50]).save(folder / "masks" / "bert.png")
    doubtful = source(folder, side=96)
    with pytest.warns(UserWarning, match=r"anna\.png: 64 grey levels in a binary mask") as heard:
        planes = [pair.plane for pair in doubtful]
    assert len(heard) == 1, "once for each source"
    assert not planes[0][:, 16:47].any() and planes[0][:, 49:80].all(), "decided above 127"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source(folder, kind="alpha")[0]
        source(folder)[2]  # a clean mask


def test_a_photograph_among_the_masks_is_an_error(folder: Path) -> None:
    write_image(folder / "masks" / "anna.png", torch.rand(3, 96, 64))
    with pytest.raises(ImageError, match=r"anna\.png: is in colour, not grey"):
        source(folder)[0]


def test_thumbnails_are_enlarged(folder: Path) -> None:
    assert SIZES["bert"][0] < 64 and source(folder, side=128)[1].box == (13, 0, 102, 128)


def test_unknown_kinds_and_classes_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="unknown kind 'mask'.*known are alpha, binary"):
        source(folder, kind="mask")
    with pytest.raises(ConfigError, match="'binary' has one class, got 3; use kind='labels'"):
        source(folder, classes=3)


def test_one_pair_is_read_whatever_its_files_are_called(folder: Path) -> None:
    (folder / "images" / "anna.png").rename(folder / "image.png")
    (folder / "masks" / "anna.png").rename(folder / "mask.png")
    one = pairs.OnePair(folder / "image.png", str(folder / "mask.png"), 48)
    assert len(one) == 1 and (one.kind, one.classes, one.side) == ("binary", 1, 48)
    assert one[0].name == "image" and one[0].box == (0, 8, 48, 32)
    assert one[0].inside.sum() == 48 * 32 and not one[0].plane[~one[0].inside].any()
    assert data.HybridSamples(one, count=5)[4]["objects"][0].any()
    with pytest.raises(IndexError):
        one[1]
    (folder / "mask.png").rename(folder / "masc.png")
    with pytest.raises(ImageError, match="mask.png: no such file; did you mean masc.png"):
        pairs.OnePair(folder / "image.png", folder / "mask.png", 48)[0]
    with pytest.raises(ImageError, match="do they belong to one picture"):
        pairs.OnePair(folder / "image.png", folder / "masks" / "bert.png", 48)[0]
    with pytest.raises(ConfigError, match="unknown kind 'mask'"):
        pairs.OnePair(folder / "image.png", folder / "masc.png", 48, "mask")


# ---- five kinds of truth


def truth_folder(tmp_path: Path, kind: str) -> pairs.FolderPairs:
    "One picture 4 × 4 with a truth of the kind, made of four blocks of 2 × 2."
    write_image(tmp_path / "images" / "a.png", torch.rand(3, 4, 4))
    blocks = dict(
        binary=[[0, 1], [1, 0]],
        alpha=[[0, 0.25], [0.75, 1]],
        trimap=[[0, 1], [2, 0]],
        instances=[[0, 500], [7, 255]],
        labels=[[0, 3], [1, 255]],
    )[kind]
    plane = torch.tensor(blocks).repeat_interleave(2, 0).repeat_interleave(2, 1)
    path = tmp_path / "masks" / "a.png"
    if kind == "binary":
        write_mask(path, plane[None] > 0)
    elif kind == "alpha":
        write_alpha(path, plane[None].float())
    elif kind == "trimap":
        write_trimap(path, plane[None].to(torch.uint8))
    else:
        write_labels(path, plane)
    return source(tmp_path, 4, kind=kind, classes=3 if kind == "labels" else 1)


@pytest.mark.parametrize(
    ("kind", "labels", "objects", "classes"),
    [
        ("binary", [0, 1, 1, 0], [[0, 1, 1, 0]], [0]),
        ("alpha", [0, 0, 1, 1], [[0, 0, 1, 1]], [0]),
        ("trimap", [0, 1, 1, 0], [[0, 1, 1, 0]], [0]),
        ("instances", [0, 1, 1, 255], [[0, 0, 1, 0], [0, 1, 0, 0]], [0, 0]),
        ("labels", [0, 3, 1, 255], [[0, 0, 1, 0], [0, 1, 0, 0]], [0, 2]),
    ],
)
def test_every_kind_becomes_labels_and_objects(tmp_path, kind, labels, objects, classes) -> None:
    sample = data.HybridSamples(truth_folder(tmp_path, kind), slots=3)[0]
    assert sample["labels"][::2, ::2].flatten().tolist() == labels
    used = len(classes)
    assert sample["classes"].tolist() == classes + [-1] * (3 - used)
    assert sample["objects"][:used, ::2, ::2].flatten(1).int().tolist() == objects
    assert sample["objects"].shape == (3, 4, 4) and not sample["objects"][used:].any()
    assert sample["image"].dtype == torch.float32 and sample["image"].max() <= 1
    assert ("alpha" in sample) == (kind == "alpha")
    if kind == "alpha":
        assert sample["alpha"].shape == (1, 4, 4)
        assert (sample["alpha"][0, 0, 2] - 0.25).abs() < 0.01


def test_unknown_class_numbers_are_named(tmp_path: Path) -> None:
    truth_folder(tmp_path, "labels")
    with pytest.raises(DatasetError, match=r"a\.png: holds the numbers \[3\]; only 0 to 2 and 255"):
        source(tmp_path, kind="labels", classes=2)[0]
    write_labels(tmp_path / "masks" / "a.png", torch.full((4, 4), 256))
    with pytest.raises(DatasetError, match=r"holds the numbers \[256\]"):
        source(tmp_path, kind="labels", classes=3)[0]


def test_more_objects_than_slots_are_refused_at_load(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "crowd.png", torch.rand(3, 16, 16))
    write_labels(tmp_path / "masks" / "crowd.png", torch.arange(16).expand(16, -1))
    crowd = source(tmp_path, 16, kind="instances")
    with pytest.raises(DatasetError, match="crowd: 15 objects, but slots=8; .*slots=15"):
        data.HybridSamples(crowd, slots=8)[0]
    assert data.HybridSamples(crowd, slots=15)[0]["objects"].any(dim=(1, 2)).all()
    write_labels(tmp_path / "masks" / "crowd.png", torch.arange(256 * 2).view(16, 32))
    with pytest.raises(DatasetError, match="511 objects|510 objects"):
        pairs.read_plane(tmp_path / "masks" / "crowd.png", "instances")


def test_an_empty_mask_is_a_valid_negative(folder: Path) -> None:
    write_mask(folder / "masks" / "anna.png", torch.zeros(1, 96, 64, dtype=torch.bool))
    for augment in (False, True):
        sample = data.HybridSamples(source(folder), augment=augment)[0]
        assert (sample["classes"] == -1).all() and not sample["objects"].any()
        assert set(sample["labels"].unique().tolist()) == {0, IGNORE}


# ---- samples


@pytest.mark.parametrize("augment", [False, True])
def test_the_margin_is_ignored_and_black(folder: Path, augment: bool) -> None:
    samples = data.HybridSamples(source(folder), count=30, augment=augment)
    margins = 0
    for sample in samples:
        ignored = sample["labels"] == IGNORE
        margins += int(ignored.any())
        assert not sample["objects"][:, ignored].any()
        deep = torch.nn.functional.max_pool2d(1 - ignored[None].float(), 5, 1, 2)[0] == 0
        assert sample["image"][:, deep].max() == 0 if deep.any() else True
        assert torch.equal(sample["objects"].any(dim=0), sample["labels"] == 1)
    assert margins >= 20


def test_image_and_plane_move_together() -> None:
    "Where the plane says object, the picture is white: blur apart, whatever was changed."
    square = torch.zeros(64, 64, dtype=torch.uint8)
    square[20:50, 10:30] = 1
    pair = pairs.Pair("square", (255 * square).expand(3, -1, -1), square, (0, 0, 64, 64))

    class One(list):
        kind, classes, side = "instances", 1, 64

    samples = data.HybridSamples(One([pair]), count=40, augment=True, seed=1)
    inner, outer = [], []
    for sample in samples:
        mask = sample["objects"].any(dim=0)[None].float()
        deep = 1 - torch.nn.functional.max_pool2d(1 - mask, 7, 1, 3)
        far = 1 - torch.nn.functional.max_pool2d(mask, 7, 1, 3)
        inner.append((sample["image"] * deep).sum() / (3 * deep.sum()))
        outer.append((sample["image"] * far).sum() / (3 * far.sum()))
    assert min(inner) > 0.6 and max(outer) < 0.25
    area = torch.tensor([sample["objects"].sum().item() for sample in samples])
    assert area.min() < 0.6 * 600 and area.max() > 1.4 * 600, "scaled from 0.6 to 1.4"


def test_objects_that_leave_the_picture_take_no_slot() -> None:
    plane = torch.zeros(100, 100, dtype=torch.uint8)
    plane[:60], plane[90, :9] = 1, 2
    valid = torch.ones(100, 100, dtype=torch.bool)
    truth = data.objects_of(plane, valid, "instances", slots=2, least=10)
    assert truth["classes"].tolist() == [0, -1] and (truth["labels"] == IGNORE).sum() == 9
    valid[:60] = False
    gone = data.objects_of(plane, valid, "instances", slots=2)
    assert gone["classes"].tolist() == [0, -1] and gone["objects"].sum() == 9


def test_samples_depend_on_seed_epoch_and_index_alone(folder: Path) -> None:
    def samples(seed: int = 3) -> data.HybridSamples:
        return data.HybridSamples(source(folder), count=6, augment=True, seed=seed)

    one = torch.cat([batch["image"] for batch in DataLoader(samples(), batch_size=2)])
    two = DataLoader(samples(), batch_size=2, num_workers=2)
    assert torch.equal(one, torch.cat([batch["image"] for batch in two]))
    mine = samples()
    backwards = torch.stack([mine[index]["image"] for index in reversed(range(6))])
    assert torch.equal(one, backwards.flip(0))
    assert not torch.equal(one[0], samples(4)[0]["image"])
    mine.set_epoch(1)
    assert not torch.equal(one[0], mine[0]["image"])
    fixed = data.HybridSamples(source(folder))
    before = fixed[0]["image"]
    fixed.set_epoch(1)
    assert torch.equal(before, fixed[0]["image"]), "validation never changes"
    with pytest.raises(IndexError):
        mine[6]


# ---- drawn people


def test_drawn_people_are_numbered() -> None:
    few, many = data.DrawnPeople(48, 5, first=3), data.DrawnPeople(48, 90)
    assert torch.equal(few[2].image, many[5].image) and few[2].name == many[5].name == "drawn_5"
    with pytest.raises(IndexError):
        few[5]
    numbers = [len(set(pair.plane.unique().tolist()) - {0, IGNORE}) for pair in many]
    assert set(numbers) == {0, 1, 2, 3} and 5 <= numbers.count(0) <= 27
    assert not any(pair.plane.any() for pair in data.DrawnPeople(32, 5, empty=1.0))


def test_slivers_are_ignored() -> None:
    every = data.DrawnPeople(64, 60, smallest=0.0)
    strict = data.DrawnPeople(64, 60, smallest=0.05)
    dropped = 0
    for all_of, some in zip(every, strict, strict=True):
        for number in set(all_of.plane.unique().tolist()) - {0}:
            small = (all_of.plane == number).sum() < 0.05 * 64**2
            dropped += int(small)
            assert (some.plane[all_of.plane == number] == (IGNORE if small else number)).all()
    assert dropped > 5


def test_splits_share_no_picture_and_the_contract_is_kept() -> None:
    train, val = data.pairs("train", "drawn", 32), data.pairs("val", "drawn", 32)
    assert train.first + train.count <= val.first
    batch = next(iter(DataLoader(data.dataset("train", "drawn", side=224, count=2), batch_size=2)))
    assert batch["image"].shape == (2, 3, 224, 224) and batch["labels"].shape == (2, 224, 224)
    assert batch["objects"].shape == (2, 8, 224, 224) and batch["classes"].shape == (2, 8)
    assert data.dataset("train").augment and not data.dataset("val").augment


# ---- named sets


def test_lists_are_honoured_and_missing_data_is_explained(folder: Path, monkeypatch) -> None:
    (folder / "train.txt").write_text("cleo\nanna\n")
    (folder / "val.txt").write_text("bert\n")
    assert [pair.name for pair in data.pairs("train", folder, 32)] == ["cleo", "anna"]
    monkeypatch.setenv("SEGLAB_DATA", str(folder.parent))
    assert [pair.name for pair in sets.pairs("val", folder.name, 32)] == ["bert"]
    for name in ("people", "p3m10k", "supervisely", "oxford_pets", "p3m10k+supervisely"):
        with pytest.raises(DatasetError, match="SEGLAB_DATA"):
            sets.pairs("train", name, 32)
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        data.dataset("trian")


@pytest.fixture
def library(tmp_path: Path, monkeypatch) -> Path:
    "P3M-10k and Supervisely, two pictures a part, as they come out of their archives."
    nested = "/".join(["supervisely_person_clean_2667_img"] * 2)
    for images, masks in (
        ("P3M-10k/train/blurred_image", "P3M-10k/train/mask"),
        *(
            (f"P3M-10k/validation/{part}/{kind}_image", f"P3M-10k/validation/{part}/mask")
            for part, kind in (("P3M-500-P", "blurred"), ("P3M-500-NP", "original"))
        ),
        (f"{nested}/images", f"{nested}/masks"),
    ):
        for number in range(2):
            stem = f"{images.split('/')[-2]}_{number}"
            write_image(tmp_path / images / f"{stem}.jpg", torch.rand(3, 20, 30))
            alpha = torch.linspace(0, 1, 30).expand(1, 20, 30)
            if "P3M" in images:
                write_alpha(tmp_path / masks / f"{stem}.png", alpha)
            else:
                write_mask(tmp_path / masks / f"{stem}.png", alpha > 0.5)
    monkeypatch.setenv("SEGLAB_DATA", str(tmp_path))
    return tmp_path


def test_p3m_and_supervisely_are_found_in_the_seeds_folders(library: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an alpha matte is what P3M should hold
        joined = sets.pairs("train", "p3m10k+supervisely", 32)
        planes = [pair.plane for pair in joined]
    assert len(joined) == 4 and (joined.kind, joined.classes, joined.side) == ("binary", 1, 32)
    assert [pair.name[:5] for pair in joined] == ["train"] * 2 + ["super"] * 2
    assert torch.equal(planes[0], planes[2]), "the matte is decided at half"
    val = sets.pairs("val", "p3m10k+supervisely", 32)
    assert [pair.name for pair in val] == ["P3M-500-P_0", "P3M-500-P_1"]
    assert sets.p3m10k("val_np", 32)[0].name == "P3M-500-NP_0"
    assert sets.p3m10k("val", 32, kind="alpha")[0].plane.unique().numel() > 20
    samples = data.dataset("train", "p3m10k+supervisely", 32, count=5, find=sets.pairs)
    assert samples[4]["classes"].tolist() == [0] + [-1] * 7


def test_supervisely_unpacked_without_its_outer_folder(library: Path) -> None:
    outer = library / "supervisely_person_clean_2667_img"
    inner = (outer / outer.name).rename(library / "inner")
    outer.rmdir()
    inner.rename(outer)
    assert len(sets.supervisely("train", 32)) == 2
    with pytest.raises(DatasetError, match="has no part 'val', only 'train'"):
        sets.pairs("val", "supervisely", 32)


def test_only_sources_of_one_kind_are_joined(library: Path) -> None:
    with pytest.raises(ConfigError, match=r"got binary \(1, 32\), instances \(1, 32\)"):
        sets.pairs("train", "supervisely+drawn", 32)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    "Two pets as Oxford ships them, with a Macintosh's leavings and MATLAB's."
    codes = torch.tensor([[2, 2, 2, 2], [2, 3, 3, 2], [2, 3, 1, 3]]).repeat_interleave(2, 1)
    for stem in ("Abyssinian_1", "beagle_2"):
        write_image(tmp_path / "images" / f"{stem}.jpg", torch.rand(3, 3, 8))
        write_labels(tmp_path / "annotations" / "trimaps" / f"{stem}.png", codes)
        (tmp_path / "annotations" / "trimaps" / f"._{stem}.png").write_bytes(b"Mac OS X")
    (tmp_path / "images" / "Abyssinian_1.mat").write_bytes(b"MATLAB")
    (tmp_path / "annotations" / "trainval.txt").write_text("#Image CLASS-ID\nbeagle_2 5 2 1\n\n")
    (tmp_path / "annotations" / "test.txt").write_text("Abyssinian_1 1 1 1\n")
    return tmp_path


def test_pet_and_border_are_the_object(pets: Path) -> None:
    train, val = (sets.oxford_pets(split, 8, pets) for split in ("train", "val"))
    assert [pair.name for pair in train] == ["beagle_2"] and val[0].name == "Abyssinian_1"
    pair = train[0]
    assert pair.box == (2, 0, 3, 8)
    assert pair.plane[4].tolist() == [0, 0, 1, 1, 2, 2, 1, 1]
    truth = data.HybridSamples(train)[0]
    assert truth["objects"][0].sum() == 4 + 6, "what the seed marked was the rest"


def test_broken_pets_are_named(pets: Path) -> None:
    write_labels(
        pets / "annotations" / "trimaps" / "beagle_2.png", torch.tensor([[0, 4]]).repeat(3, 4)
    )
    with pytest.raises(DatasetError, match=r"beagle_2\.png: holds the codes \[0, 4\]"):
        sets.oxford_pets("train", 8, pets)[0]
    (pets / "annotations" / "test.txt").unlink()
    with pytest.raises(DatasetError, match=r"test\.txt: no such list"):
        sets.oxford_pets("val", 8, pets)
    with pytest.raises(ConfigError, match="unknown split 'test'"):
        sets.oxford_pets("test", 8, pets)


# ---- photographs


@pytest.mark.parametrize(("name", "counts"), [("people", (400, 60)), ("horses", (228, 50))])
def test_photographs_where_they_are(name: str, counts: tuple[int, int]) -> None:
    if not (data_dir() / name).is_dir():
        pytest.skip(f"no photographs at {data_dir() / name}; set SEGLAB_DATA")
    found = [sets.pairs(split, name, 96) for split in ("train", "val")]
    assert tuple(map(len, found)) == counts
    assert not {stem for stem, *_ in found[0].files} & {stem for stem, *_ in found[1].files}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample = data.HybridSamples(found[1])[3]
    assert (
        sample["classes"].tolist() == [0] + [-1] * 7 and 0.02 < sample["objects"][0].float().mean()
    )
