"Guards of seglab.trimap.pictures and data: refusal of bad folders, determinism, aligned samples."

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from seglab.core import FOREGROUND, IGNORE, UNKNOWN, ConfigError, DatasetError
from seglab.io import write_alpha, write_image, write_mask
from seglab.trimap import data, pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Three drawn pictures on disk, of three sizes."
    folder = tmp_path_factory.mktemp("mattes")
    for number, (rows, columns) in enumerate([(96, 96), (96, 64), (60, 96)]):
        matte = pictures.DrawnMattes(1, 96).draw(0, np.random.default_rng(number))
        write_image(folder / "images" / f"p{number}.png", matte["image"][:, :rows, :columns])
        write_alpha(folder / "alphas" / f"p{number}.png", matte["alpha"][:, :rows, :columns])
    return folder


def test_samples_do_not_depend_on_workers_or_order(folder):
    samples = data.TrimapSamples(pictures.FolderMattes(folder), 48, count=6, augment=True, seed=3)
    one = [b["image"] for b in DataLoader(samples, batch_size=2)]
    two = [b["image"] for b in DataLoader(samples, batch_size=2, num_workers=2)]
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    backwards = torch.stack([samples[i]["image"] for i in reversed(range(6))]).flip(0)
    assert torch.equal(torch.cat(one), backwards)


def test_another_seed_gives_other_samples(folder):
    source = pictures.FolderMattes(folder)
    first, second = (data.TrimapSamples(source, 48, augment=True, seed=s)[0] for s in (0, 1))
    assert not torch.equal(first["image"], second["image"])


@pytest.mark.parametrize("augment", [False, True])
def test_padding_is_ignored_and_empty(folder, augment):
    samples = data.TrimapSamples(pictures.FolderMattes(folder), 96, count=12, augment=augment)
    padded = 0
    for sample in samples:
        outside = sample["trimap"] == IGNORE
        padded += int(outside.any())
        assert not sample["mask"][outside].any()
        assert (
            sample["image"].isfinite().all()
            and sample["image"].min() >= 0
            and sample["image"].max() <= 1
        )
    assert padded >= 4, "two of three pictures are not square"


def test_trimap_belongs_to_its_alpha(folder):
    for sample in data.TrimapSamples(pictures.FolderMattes(folder), 64, count=12, augment=True):
        inside = sample["trimap"] != IGNORE
        assert (sample["alpha"][(sample["trimap"] == FOREGROUND) & inside] > 0.9).all()
        assert (sample["alpha"][(sample["trimap"] == 0) & inside] < 0.06).all()


def test_masks_give_a_band_and_no_alpha(folder, tmp_path):
    write_image(tmp_path / "images" / "a.png", torch.rand(3, 40, 40))
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[:, 10:30, 10:30] = True
    write_mask(tmp_path / "masks" / "a.png", mask)
    sample = data.TrimapSamples(pictures.FolderMattes(tmp_path), 40)[0]
    assert sample["alpha"].isnan().all()
    assert sample["trimap"][0, 10, 20] == UNKNOWN and sample["trimap"][0, 20, 20] == FOREGROUND


def test_folder_kept_in_memory_equals_folder_on_disk(folder):
    kept, read = pictures.FolderMattes(folder, longest=96), pictures.FolderMattes(folder)
    for number in range(3):
        assert torch.allclose(kept.draw(number)["image"], read.draw(number)["image"], atol=1 / 255)


def test_sizes_that_disagree_are_named(folder, tmp_path):
    write_image(tmp_path / "images" / "a.png", torch.rand(3, 20, 20))
    write_alpha(tmp_path / "alphas" / "a.png", torch.rand(1, 20, 24))
    with pytest.raises(DatasetError, match=r"a\.png.*20.*24"):
        pictures.FolderMattes(tmp_path).draw(0)


def test_composition_keeps_what_is_opaque(folder):
    source = pictures.FolderMattes(folder)
    background = next((folder / "images").iterdir())
    composed = pictures.ComposedMattes(source, [background])
    for number in range(3):
        matte, original = composed.draw(number, np.random.default_rng(0)), source.draw(number)
        solid = (original["alpha"] == 1).expand(3, -1, -1)
        assert (matte["image"] - original["image"])[solid].abs().max() < 0.02


def test_cover_fills_any_frame():
    picture = torch.rand(3, 30, 50)
    for size in [(10, 10), (100, 20), (31, 200), (30, 50)]:
        assert pictures.cover(picture, size, np.random.default_rng(0)).shape == (3, *size)


def test_mixture_needs_a_share_for_each_source():
    with pytest.raises(ValueError, match="one share per source"):
        pictures.Mixture([pictures.DrawnMattes(1, 32)], [1, 2])


def test_unknown_split_and_missing_photographs(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGLAB_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        data.dataset("trian", "drawn")
    with pytest.raises(DatasetError, match="SEGLAB_DATA"):
        data.dataset("train", "photos")
    assert isinstance(pictures.pictures("val", "auto"), pictures.DrawnMattes), (
        "without photographs: drawn ones"
    )


def test_train_and_validation_share_no_photograph():
    assert not set(pictures._MATTES["train"]) & set(pictures._MATTES["val"])


def test_foregrounds_are_estimated_in_forked_workers(folder):
    "OpenMP threads of numba would end the worker: 'DataLoader worker exited unexpectedly'."
    torch.rand(512, 512) @ torch.rand(512, 512)  # the parent has used its own threads
    composed = pictures.ComposedMattes(
        pictures.FolderMattes(folder), [next((folder / "images").iterdir())]
    )
    composed.draw(0, np.random.default_rng(0))
    samples = data.TrimapSamples(composed, 48, count=4, augment=True)
    loader = DataLoader(samples, batch_size=2, num_workers=2, multiprocessing_context="fork")
    assert sum(len(batch["name"]) for batch in loader) == 4
