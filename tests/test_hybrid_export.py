"Files of the network answer as the network does, or are not written."

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seglab.hybrid import export
from seglab.hybrid.export import export_onnx, export_program, write_sample
from seglab.hybrid.model import HybridModel, preset
from seglab.hybrid.speed import speed_up
from seglab.io import read_image, read_mask

SMALL = replace(
    preset("tiny"),
    stem=4,
    stages=(8, 8, 16, 16, 16),
    pyramid=(16, 16, 16),
    width=16,
    hidden=16,
    depth=1,
    queries=3,
    mask_width=8,
)


@pytest.fixture
def model() -> HybridModel:
    torch.manual_seed(0)
    return HybridModel(SMALL)


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    "The operations of `model`, for 50 × 70 pixels: following a picture takes seconds."
    torch.manual_seed(0)
    return export._trace(export._Row(HybridModel(SMALL)), (50, 70))


def test_a_sample_comes_back_from_disk(tmp_path: Path) -> None:
    image, mask = torch.rand(3, 20, 30), torch.rand(1, 20, 30) > 0.5
    files = write_sample(image, mask, tmp_path / "export")
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "export/image.png",
        "export/mask.png",
    ]
    assert (read_image(files[0]) - image).abs().max() < 0.5 / 255 + 1e-6
    assert torch.equal(read_mask(files[1]), mask)
    with pytest.raises(ValueError, match="mask: axis H must be 20"):
        write_sample(image, mask[:, 1:], tmp_path)


def test_a_program_answers_any_batch_without_seglab(
    model: HybridModel, program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_trace", lambda row, size: program)
    path, image = tmp_path / "net.pt2", torch.rand(3, 3, 50, 70)
    assert export_program(model, path, (50, 70)) < 1e-4
    assert model.training, "the network itself stays in its mode"
    torch.save(image, tmp_path / "image.pth")
    script = f"""
import sys, torch
masks = torch.export.load({str(path)!r}).module()(torch.load({str(tmp_path / "image.pth")!r}))[1]
assert "seglab" not in sys.modules
torch.save(masks, {str(tmp_path / "masks.pth")!r})
import seglab.hybrid.export
assert not {{"onnx", "onnxscript", "onnxruntime"}} & set(sys.modules)  # only when they are needed
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)
    with torch.inference_mode():
        wanted = model.eval()(image)["pred_masks"]
    assert torch.allclose(torch.load(tmp_path / "masks.pth"), wanted, atol=1e-4)
    assert {file.suffix for file in tmp_path.iterdir()} == {".pt2", ".pth"}, "nothing left behind"


def test_onnx_answers_any_batch_under_the_same_names(
    model: HybridModel, program, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export, "_trace", lambda row, size: program)
    path, image = tmp_path / "net.onnx", torch.rand(3, 3, 50, 70)
    assert export_onnx(model, path, (50, 70)) < 1e-4
    said = capfd.readouterr()
    assert said.out == said.err == ""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        wanted = model.eval()(image)
    found = session.run(list(wanted), {"image": image.numpy()})
    for (name, tensor), array in zip(wanted.items(), found, strict=True):
        assert torch.allclose(torch.from_numpy(array), tensor, atol=1e-4), name
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"], "one file, weights inside"


def test_a_file_that_answers_differently_is_not_kept(
    model: HybridModel, program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.pt2").write_text("older")
    monkeypatch.setattr(export, "_trace", lambda row, size: program)
    model.head.classify.bias.data += 1  # no longer the network that the program was made from
    with pytest.raises(ValueError, match=r"net.pt2: not written, its logits differ .* by 1, more"):
        export_program(model, tmp_path / "net.pt2", (50, 70))
    assert (tmp_path / "net.pt2").read_text() == "older"
    assert len(list(tmp_path.iterdir())) == 1


def test_nan_counts_as_different(model: HybridModel) -> None:
    size, row = export._check(model, (64, 64))

    def answer(image: torch.Tensor) -> list[torch.Tensor]:
        return [torch.full_like(x, torch.nan) for x in row(image)]

    with pytest.raises(ValueError, match="differ from the network's by nan, more than 0.001"):
        export._compare(answer, row, size, 1e-3, "net.pt2")
    assert export._compare(row, row, size, 1e-3, "net.pt2") == 0


def test_the_size_is_the_networks_own_unless_said(model: HybridModel) -> None:
    assert export._check(model, None)[0] == model.config.size == (128, 128)
    assert export._check(model, [50, 70])[0] == (50, 70)


def test_what_cannot_be_exported_is_refused_in_words(model: HybridModel, tmp_path: Path) -> None:
    for write in (export_program, export_onnx):
        with pytest.raises(ValueError, match="model: must be in float32, got torch.bfloat16; expo"):
            write(speed_up(model, "bf16"), tmp_path / "net", (64, 64))
        with pytest.raises(
            ValueError, match=r"size: needs height and width in pixels, got \(64,\)"
        ):
            write(model, tmp_path / "net", (64,))
    assert not list(tmp_path.iterdir())


def test_without_the_packages_the_error_says_how_to_get_them(
    model: HybridModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None if "script" in name else object())
    with pytest.raises(
        ImportError, match=r"needs onnxscript, not .*: pip install seglab\[export\]"
    ):
        export_onnx(model, tmp_path / "net.onnx", (64, 64))


def test_other_voices_are_heard_again_afterwards() -> None:
    before = logging.root.manager.disable
    with pytest.raises(KeyError), export._quiet():
        assert logging.root.manager.disable == logging.WARNING
        raise KeyError
    assert logging.root.manager.disable == before
