"A folder in, a folder out."

import shutil

import pytest
import torch

from seglab.core import DatasetError
from seglab.fusion.data import dataset
from seglab.fusion.encdec import AmodalFusionTransformer, EncoderDecoderConfig
from seglab.fusion.files import predict_files
from seglab.fusion.folders import write_sample
from seglab.fusion.model import SlotFusionTransformer, preset
from seglab.fusion.order import read_order
from seglab.io import read_image, read_mask


@pytest.fixture(scope="module")
def network():
    "An untaught network of slots."
    torch.manual_seed(0)
    return SlotFusionTransformer(preset("tiny")).eval()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    "Two samples of 96 x 72 pixels, the second without a truth and without its completion 2."
    folder, exams = tmp_path_factory.mktemp("samples"), dataset("val", "drawn", side=96)
    for number, name in enumerate(("whole", "blind")):
        sample = exams[number] | dict(name=name)
        for key in ("partial", "mask", "completions", "alphas", "target"):
            sample[key] = sample[key][..., 12:84]
        write_sample(folder, sample)
    (folder / "blind.png").unlink()
    (folder / "blind_comp2.png").unlink()
    return folder


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_files_of_the_original_size_with_the_numbers_of_the_completions(network, source, tmp_path):
    table = predict_files(network, source, tmp_path)
    assert (table["error"] == "").all() and table.loc["blind", "completions"] == 3
    order, content = read_order(tmp_path / "blind_order.json")
    assert sorted(content["nearest_first"]) == [1, 3, 4] and content["size"] == [96, 72]
    assert {path.name for path in tmp_path.glob("blind_*")} == {
        *content["files"],
        "blind_order.json",
    }
    assert not (tmp_path / "blind_weight2.png").exists()
    assert {"blind_weight4.png", "blind_comp3_masked.png", "blind_visualization.png"} <= set(
        content["files"]
    )
    for name in ("fused", "input", "weight1", "weight_background", "comp1_masked"):
        assert read_image(tmp_path / f"blind_{name}.png").shape == (3, 96, 72)
    mask, left = read_mask(source / "blind_mask.png"), read_mask(tmp_path / "blind_residual.png")
    assert not (left & ~mask).any()
    partial, filled = (
        read_image(source / "blind_partial.png"),
        read_image(tmp_path / "blind_input.png"),
    )
    assert torch.equal(partial.masked_fill(mask, 0), filled.masked_fill(mask, 0))


def test_only_what_is_missing_is_written(network, source, tmp_path):
    first = predict_files(network, source, tmp_path)
    before = times(tmp_path)
    assert predict_files(network, source, tmp_path).equals(first)
    assert times(tmp_path) == before
    (tmp_path / "whole_weight1.png").unlink()
    (tmp_path / "whole_order.json").write_text("{")  # as a crash of the disk would leave it
    assert predict_files(network, source, tmp_path).equals(first)
    after = times(tmp_path)
    assert set(after) == set(before)
    assert {n: t for n, t in after.items() if "blind" in n} == {
        n: t for n, t in before.items() if "blind" in n
    }


def test_a_bad_id_is_named_and_the_rest_written(network, source, tmp_path):
    shutil.copytree(source, tmp_path / "in")
    (tmp_path / "in" / "whole_comp1.png").write_bytes(b"\x89PNG")
    table = predict_files(network, tmp_path / "in", tmp_path / "out")
    assert "whole_comp1.png" in table.loc["whole", "error"]
    assert table.loc["blind", "error"] == ""
    assert not list((tmp_path / "out").glob("whole_*"))


def test_pyramid_blending_changes_the_hole_alone(network, source, tmp_path):
    for levels in (0, 1):
        predict_files(network, source, tmp_path / str(levels), levels=levels)
    plain, smooth = (read_image(tmp_path / str(levels) / "whole_input.png") for levels in (0, 1))
    mask = read_mask(source / "whole_mask.png")
    assert torch.equal(plain.masked_fill(mask, 0), smooth.masked_fill(mask, 0))
    assert not torch.equal(plain, smooth)


@pytest.mark.parametrize("slots", [3, 5])
def test_a_network_with_a_fixed_number_of_slots(source, tmp_path, slots):
    sizes = dict(slots=slots, width=32, heads=2, hidden=32, encoder_layers=1, decoder_layers=1)
    network = AmodalFusionTransformer(EncoderDecoderConfig(side=64, **sizes)).eval()
    table = predict_files(network, source, tmp_path)
    assert (table["error"] == "").all()
    assert table.loc["whole", "completions"] == min(slots, 4)
    content = read_order(tmp_path / "whole_order.json")[1]
    assert len(content["slots"]) == slots and set(content["nearest_first"]) <= {1, 2, 3, 4}


def test_no_completion_and_no_hole(network, source, tmp_path):
    sample = dataset("val", "drawn")[0]
    write_sample(
        tmp_path / "in", sample | dict(name="lonely", valid=torch.zeros(4, dtype=torch.bool))
    )
    mask = torch.zeros_like(sample["mask"])
    write_sample(tmp_path / "in", sample | dict(name="sound", mask=mask, partial=sample["target"]))
    with pytest.warns(UserWarning, match="no object in any slot"):
        table = predict_files(network, tmp_path / "in", tmp_path / "out")
    assert (table["error"] == "").all()
    assert table.loc["lonely", "residual"] == 1 and table.loc["lonely", "completions"] == 0
    assert table.loc["sound", "hole"] == 0 and table.loc["sound", "residual"] == 0
    kept = read_image(tmp_path / "out" / "sound_input.png")
    assert torch.equal(kept, read_image(tmp_path / "in" / "sound.png"))


def test_a_folder_without_samples_or_with_a_wrong_list_is_refused(network, source, tmp_path):
    with pytest.raises(DatasetError, match="holds no sample"):
        predict_files(network, tmp_path, tmp_path / "out")
    with pytest.raises(DatasetError, match="val_list.txt: no such list"):
        predict_files(network, source, tmp_path / "out", split="val")
