"Guards of seglab.fusion.layout and seglab.fusion.folders: every odd file is mended and counted, or named."

import numpy as np
import pytest
import torch
from PIL import Image

from seglab.core import IGNORE, ConfigError, DatasetError
from seglab.fusion import folders, layout
from seglab.fusion.holes import erase, make_hole
from seglab.io import write_image, write_mask
from seglab.overlaps import draw_overlaps


def put(folder, name, seed=0, objects=3, side=48, **options):
    "Write a drawn sample; return its scene and hole."
    scene = draw_overlaps(seed, side, objects)
    completions = scene.alphas * scene.pictures.clamp(max=0.9) + 1 - scene.alphas
    mask = make_hole("random", scene.alphas, generator=np.random.default_rng(seed))
    sample = dict(name=name, target=scene.image, mask=mask, completions=completions)
    folders.write_sample(folder, sample, **options)
    return scene, mask


def save(path, picture):
    "A picture through Pillow, for modes that `write_image` does not write."
    picture.save(path)
    return path


# --------------------------------------------------------------------------- whole samples


def test_a_sample_survives_the_disk(tmp_path):
    scene, mask = put(tmp_path, "a")
    sample = folders.read_sample(tmp_path, "a", slots=5)
    assert torch.equal(sample["mask"], mask) and sample["name"] == "a"
    assert (sample["target"] - scene.image).abs().max() < 1 / 255
    assert (sample["partial"] - erase(scene.image, mask)).abs().max() < 1 / 255
    assert sample["valid"].tolist() == [True] * 3 + [False] * 2
    assert (sample["completions"][3:] == 1).all() and (sample["alphas"][3:] == 0).all()
    assert (sample["front"] == IGNORE).all() and (sample["order"] == IGNORE).all()
    shapes = {key: tuple(value.shape) for key, value in sample.items() if key != "name"}
    assert shapes["completions"] == (5, 3, 48, 48) and shapes["alphas"] == (5, 1, 48, 48)
    assert shapes["order"] == (5, 5) and shapes["backdrop"] == (3, 48, 48)


def test_the_seeds_files_are_read(tmp_path):
    "JPEG pictures, a grey mask that JPEG-like tools smeared, no masks of ours, no meta."
    scene, mask = put(tmp_path, "a", jpg=True)
    for ours in (*tmp_path.glob("*_meta.json"), *tmp_path.glob("*comp*_mask.png")):
        ours.unlink()
    grey = mask[0].byte().numpy() * 155 + 100 * (1 - mask[0].byte().numpy())  # 100 and 155
    save(tmp_path / "a_mask.png", Image.fromarray(grey.astype(np.uint8)))
    sample = folders.read_sample(tmp_path, "a", slots=3)
    assert (tmp_path / "a.jpg").exists() and (tmp_path / "a_partial.jpg").exists()
    assert torch.equal(sample["mask"], mask)  # > 127
    assert (sample["partial"][mask.expand(3, -1, -1)] == 1).all()  # JPEG rings, the hole does not
    assert (sample["target"] - scene.image).abs().mean() < 0.05
    assert not folders.is_complete(tmp_path, "a")


def test_works_without_the_whole_picture(tmp_path):
    put(tmp_path, "a")
    (tmp_path / "a.png").unlink()
    sample = folders.read_sample(tmp_path, "a", slots=3, side=32)
    assert "target" not in sample and sample["partial"].shape == (3, 32, 32)
    (tmp_path / "a_partial.png").unlink()
    with pytest.raises(DatasetError, match="neither a_partial.png nor a.png"):
        folders.read_sample(tmp_path, "a")


def test_a_partial_picture_is_made_where_there_is_none(tmp_path):
    scene, mask = put(tmp_path, "a")
    (tmp_path / "a_partial.png").unlink()
    sample = folders.read_sample(tmp_path, "a")
    assert (sample["partial"] - erase(scene.image, mask)).abs().max() < 1 / 255


def test_sides_bring_every_tensor_to_one_size(tmp_path):
    put(tmp_path, "a", visible=draw_overlaps(0, 48, 3).visible)
    sample = folders.read_sample(tmp_path, "a", slots=4, side=20)
    assert all(
        value.shape[-2:] == (20, 20)
        for k, value in sample.items()
        if k not in ("name", "valid", "order")
    )
    assert sample["mask"].dtype == torch.bool and (sample["front"] != IGNORE).any()


def test_zero_completions_are_a_sample_too(tmp_path):
    write_image(tmp_path / "a.png", torch.rand(3, 30, 40))
    write_mask(tmp_path / "a_mask.png", torch.zeros(1, 30, 40, dtype=torch.bool))
    sample = folders.read_sample(tmp_path, "a", slots=2)
    assert not sample["valid"].any() and sample["partial"].shape == (3, 30, 40)
    assert torch.equal(sample["partial"], sample["target"])  # the hole is empty


# --------------------------------------------------------------------------- odd completions


def test_a_missing_completion_is_an_empty_slot_and_counted(tmp_path):
    put(tmp_path, "a")
    (tmp_path / "a_comp2.png").unlink()
    assert folders.read_sample(tmp_path, "a", slots=3)["valid"].tolist() == [True, False, True]
    (row,) = folders.check_folder(tmp_path, slots=3)
    assert (row["completions"], row["missing"], row["empty"], row["left_out"]) == (2, 1, 0, 0)


def test_a_blank_completion_is_an_empty_slot_even_with_a_visible_mask(tmp_path):
    scene, _ = put(tmp_path, "a", visible=draw_overlaps(0, 48, 3).visible)
    write_image(tmp_path / "a_comp1.png", torch.ones(3, 48, 48))
    assert folders.read_sample(tmp_path, "a", slots=3)["valid"].tolist() == [False, True, True]
    assert folders.check_folder(tmp_path)[0]["empty"] == 1


def test_of_too_many_completions_those_stay_that_overlap_most(tmp_path):
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[:, 10:30, 10:30] = True
    completions = torch.ones(4, 3, 40, 40)
    for number, columns in enumerate((12, 22, 2, 32)):  # 2, 12, 0 and 18 columns of the hole
        completions[number, :, :, :columns] = 0.5
    completions[2, :, 12:] = 1  # small, and above the hole
    sample = dict(name="a", target=torch.rand(3, 40, 40), mask=mask, completions=completions)
    folders.write_sample(tmp_path, sample)
    kept = folders.read_sample(tmp_path, "a", slots=2)
    assert (kept["alphas"][0] > 0.5).sum() == 22 * 40 and (kept["alphas"][1] > 0.5).sum() == 32 * 40
    assert folders.check_folder(tmp_path, slots=2)[0]["left_out"] == 2


def test_an_opacity_channel_decides_and_hidden_colours_turn_white(tmp_path):
    pixels = np.full((20, 20, 4), (200, 30, 30, 0), np.uint8)  # red where it is transparent
    pixels[5:15, 5:15] = (255, 255, 255, 255)  # a white object
    pixels[5, 5, 3] = 128
    picture, alpha = layout.read_completion(save(tmp_path / "c.png", Image.fromarray(pixels)))
    assert (picture == 1).all() and alpha.sum().item() == pytest.approx(99 + 128 / 255)


def test_an_opacity_channel_that_says_nothing_leaves_it_to_white(tmp_path):
    pixels = np.full((20, 20, 4), 255, np.uint8)
    pixels[5:15, 5:15, :3] = 90
    _, alpha = layout.read_completion(save(tmp_path / "c.png", Image.fromarray(pixels)))
    assert alpha.sum() == 100


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "CMYK", "I;16"])
def test_pictures_of_any_mode_are_converted(tmp_path, mode):
    grey = np.full((20, 20), 255, np.uint8)
    grey[5:15, 5:15] = 0
    if mode == "I;16":
        picture = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(grey).convert("RGB").convert(mode)
    path = save(tmp_path / ("c.tif" if mode == "CMYK" else "c.png"), picture)
    image, alpha = layout.read_completion(path)
    assert image.shape == (3, 20, 20) and alpha.sum() == 100


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize("ending", ["_mask", "_partial", "_comp1", ""])
def test_another_size_names_both_files(tmp_path, ending):
    put(tmp_path, "a")
    path = tmp_path / f"a{ending}.png"
    with Image.open(path) as picture:
        save(path, picture.resize((24, 36)))
    wrong = path if ending else tmp_path / "a_mask.png"  # the whole picture decides the size
    with pytest.raises(DatasetError, match="fit='resize'") as error:
        folders.read_sample(tmp_path, "a")
    for part in (f"{wrong}: has", "but a.png", "36 × 24", "48 × 48"):
        assert part in str(error.value)
    size = (48, 48) if ending else (36, 24)
    assert folders.read_sample(tmp_path, "a", fit="resize")["mask"].shape[-2:] == size


@pytest.mark.parametrize("ending", ["", "_mask", "_partial", "_comp2", "_comp2_mask"])
def test_a_truncated_file_is_named(tmp_path, ending):
    put(tmp_path, "a", visible=draw_overlaps(0, 48, 3).visible)
    path = tmp_path / f"a{ending}.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DatasetError, match=f"a{ending}.png: broken, cut short"):
        folders.read_sample(tmp_path, "a")
    (row,) = folders.check_folder(tmp_path)
    assert f"a{ending}.png" in row["problem"]


def test_what_is_not_there_is_named(tmp_path):
    put(tmp_path, "a")
    with pytest.raises(DatasetError, match="sample 'b' has no b_mask.png"):
        folders.read_sample(tmp_path, "b")
    with pytest.raises(ConfigError, match="unknown fit 'resiz': did you mean 'resize'"):
        folders.read_sample(tmp_path, "a", fit="resiz")
    with pytest.raises(DatasetError, match="no such folder"):
        layout.list_names(tmp_path / "none")
    with pytest.raises(DatasetError, match="holds no sample"):
        (tmp_path / "empty").mkdir()
        layout.list_names(tmp_path / "empty")


# --------------------------------------------------------------------------- lists


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_lists_are_cleaned_and_the_cleaning_is_told(tmp_path, encoding):
    path = tmp_path / "train_list.txt"
    path.write_bytes("b\r\n\r\n a \r\nb\r\nc.jpg\r\n\r\n".encode(encoding))
    with pytest.warns(UserWarning, match="train_list.txt: blank lines 2, repeated names 1"):
        assert layout.read_list(path) == ["b", "a", "c"]


def test_clean_lists_are_silent(tmp_path, recwarn):
    (tmp_path / "l.txt").write_text("b\r\na\r\nv1.2\n")
    assert layout.read_list(tmp_path / "l.txt") == ["b", "a", "v1.2"] and not recwarn.list


def test_bad_lists_are_refused(tmp_path):
    put(tmp_path, "a")
    (tmp_path / "val_list.txt").write_text("a\nx\ny\n")
    with pytest.raises(DatasetError, match=r"2 listed samples have no mask \['x', 'y'\]"):
        layout.list_names(tmp_path, "val")
    with pytest.raises(DatasetError, match="no such list; there are: val_list.txt"):
        layout.list_names(tmp_path, "train")
    (tmp_path / "val_list.txt").write_text("\n\n")
    with pytest.raises(DatasetError, match="the list is empty"):
        layout.list_names(tmp_path, "val")
    (tmp_path / "val_list.txt").write_bytes("a\n".encode("utf-16"))
    with pytest.raises(DatasetError, match="no list of names in UTF-8"):
        layout.list_names(tmp_path, "val")


def test_masks_of_completions_are_no_samples(tmp_path):
    for name in ("b", "a", "a_comp"):
        put(tmp_path, name, visible=draw_overlaps(0, 48, 3).visible)
    (tmp_path / "a_comp2.png").unlink()  # its mask stays
    assert layout.list_names(tmp_path) == ["a", "a_comp", "b"]


# --------------------------------------------------------------------------- visible masks


def test_truth_from_visible_by_hand():
    alphas = torch.zeros(3, 1, 10, 10)
    alphas[0, :, :6], alphas[1, :, 3:] = 1, 1  # rows 3..5 are shared; slot 2 is empty
    visible = alphas > 0
    visible[1, :, 3:6] = False  # the first lies in front
    truth = folders.truth_from_visible(alphas, visible, torch.tensor([True, True, False]))
    assert truth["order"].tolist() == [[255, 1, 255], [0, 255, 255], [255, 255, 255]]
    assert truth["front"][:, 0].tolist() == [0] * 6 + [1] * 4
    alphas[1, :, 8:] = 0
    visible[1, :, 8:], visible[0, :, 0] = False, False
    front = folders.truth_from_visible(alphas, visible, torch.tensor([True, True, False]))["front"]
    assert front[9, 0] == 3 and front[0, 0] == IGNORE  # nobody's; claimed but not seen


def test_objects_that_interlock_have_no_order():
    alphas = torch.ones(2, 1, 10, 10)
    visible = torch.zeros(2, 1, 10, 10, dtype=torch.bool)
    visible[0, :, :5], visible[1, :, 5:] = True, True
    truth = folders.truth_from_visible(alphas, visible, torch.tensor([True, True]))
    assert (truth["order"] == IGNORE).all() and (truth["front"][:5] == 0).all()


def test_visible_masks_mend_white_objects_but_never_tell_what_is_in_the_hole(tmp_path):
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[:, 10:30, 10:30] = True
    visible = torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    visible[:, :, 15:25] = True  # a band through the hole
    completion = torch.where(visible, 1.0, 1.0).expand(1, 3, 40, 40).clone()
    completion[..., 15:25, :5] = 0.3  # only its left end isn't white
    sample = dict(name="a", target=torch.rand(3, 40, 40), mask=mask, completions=completion)
    folders.write_sample(tmp_path, sample, visible=visible)
    alpha = folders.read_sample(tmp_path, "a", slots=1)["alphas"][0]
    assert torch.equal(alpha > 0.5, visible[0] & ~mask)


# --------------------------------------------------------------------------- writing


def test_writing_again_leaves_nothing_of_the_first_time(tmp_path):
    put(tmp_path, "a", objects=4, jpg=True, visible=draw_overlaps(0, 48, 4).visible)
    put(tmp_path, "a", objects=2)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        f"a{end}"
        for end in (".png", "_mask.png", "_partial.png", "_comp1.png", "_comp2.png", "_meta.json")
    }
    assert folders.is_complete(tmp_path, "a")


def test_a_sample_cut_off_is_not_complete(tmp_path, monkeypatch):
    def fails(path, mask):
        raise OSError("no space left on device")

    put(tmp_path, "a")
    monkeypatch.setattr(folders, "write_mask", fails)
    with pytest.raises(OSError, match="no space"):
        put(tmp_path, "a")
    assert not folders.is_complete(tmp_path, "a")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_slots_that_hold_nothing_are_not_written(tmp_path):
    scene = draw_overlaps(0, 48, 3)
    sample = dict(name="a", target=scene.image, mask=scene.amodal[0], completions=scene.pictures)
    folders.write_sample(tmp_path, sample | dict(valid=torch.tensor([True, False, True])))
    assert not (tmp_path / "a_comp2.png").exists() and (tmp_path / "a_comp3.png").exists()


# --------------------------------------------------------------------------- smaller


@pytest.mark.parametrize("size", [(20, 25), (30, 25), (97, 60), (20, 60)])
def test_pictures_are_resized_one_by_one_or_together(size):
    many = torch.rand(2, 3, 4, 60, 50, generator=torch.Generator().manual_seed(0))
    together = layout.resize(many, size)
    assert together.shape == (2, 3, 4, *size)
    assert torch.equal(together[1, 2], layout.resize(many[1, 2], size))
    assert layout.resize(many[:, :0], size).shape == (2, 0, 4, *size)
    assert layout.resize(many.double(), size).dtype == torch.float64
    assert layout.resize(many > 0.5, size).dtype == torch.bool


def test_a_half_as_large_picture_is_the_mean_of_its_squares():
    picture = torch.rand(1, 60, 50, generator=torch.Generator().manual_seed(0))
    squares = picture.view(1, 30, 2, 25, 2).mean(dim=(2, 4))
    assert torch.allclose(layout.resize(picture, (30, 25)), squares)


@pytest.mark.parametrize("size", [(20, 20), (13, 31), (97, 60)])
def test_no_white_of_the_hole_reaches_known_pixels(size):
    mask = torch.zeros(1, 60, 50, dtype=torch.bool)
    mask[:, 20:41, 11:40] = True
    partial = layout.resize_partial(erase(torch.full((3, 60, 50), 0.25), mask), mask, size)
    small = layout.resize(mask, size)
    assert (partial[small.expand(3, -1, -1)] == 1).all()
    assert (partial[~small.expand(3, -1, -1)] - 0.25).abs().max() < 1e-4
