"Guards of seglab.inpaint: sizes, what is refused, where a file is looked for; no weights needed."

import time
import warnings
import zipfile

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from seglab import inpaint
from seglab.weights import WeightsUnavailable


class Mean(nn.Module):
    "Fill with the mean of what is known."

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        known = 1 - mask
        mean = (image * known).sum(dim=[2, 3], keepdim=True) / known.sum()
        return image * 0.9 + mean * mask * self.gain  # what lies outside is changed, as LaMa does


class Nan(nn.Module):
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return image / 0 * 0


class Saving(nn.Module):
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        torch.save(image, "somewhere.pt")
        return image


class Eight(nn.Module):
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        assert image.size(2) % 8 == 0 and image.size(3) % 8 == 0 and image.size(1) == 3
        assert mask.size(1) == 1 and bool((mask * (1 - mask) == 0).all())
        return torch.ones_like(image)


def script(network: nn.Module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(network).save(str(path))
    return path


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    "No weights are known, whatever this machine has."
    monkeypatch.delenv("LAMA_MODEL", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


def picture(height, width):
    generator = torch.Generator().manual_seed(0)
    hole = torch.zeros(1, height, width, dtype=torch.bool)
    hole[:, height // 4 : height // 2, width // 4 : width // 2] = True
    return torch.rand(3, height, width, generator=generator), hole


@pytest.mark.parametrize("size", [(301, 405), (8, 9), (64, 64), (17, 40)])
def test_every_size_comes_back_as_it_went(tmp_path, size):
    network = inpaint.load_lama(script(Eight(), tmp_path / "eight.pt"))
    image, hole = picture(*size)
    filled = inpaint.fill_lama(network, image, hole)
    assert filled.shape == image.shape
    assert (filled[:, hole[0]] == 1).all() and torch.equal(filled[:, ~hole[0]], image[:, ~hole[0]])


def test_the_hole_gets_what_the_network_says(tmp_path):
    network = inpaint.load_lama(script(Mean(), tmp_path / "mean.pt"))
    image, hole = picture(64, 48)
    filled = inpaint.fill_lama(network, image.where(~hole, 0), hole)
    expected = image[:, ~hole[0]].mean(dim=1)
    torch.testing.assert_close(filled[:, hole[0]].mean(dim=1), expected)
    assert filled.dtype == torch.float32 and not filled.requires_grad


def test_loading_is_quiet(tmp_path):
    path = script(Mean(), tmp_path / "mean.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inpaint.load_lama(path)


def test_a_picture_too_small_and_an_answer_without_numbers_are_named(tmp_path):
    network = inpaint.load_lama(script(Nan(), tmp_path / "nan.pt"))
    with pytest.raises(ValueError, match="got NaN"):
        inpaint.fill_lama(network, *picture(16, 16))
    with pytest.raises(ValueError, match="sides from 8 pixels, got 7 × 16"):
        inpaint.fill_lama(network, *picture(7, 16))


@pytest.mark.parametrize("fill", [inpaint.inpaint_telea, inpaint.inpaint_navier_stokes])
def test_opencv_sees_enough_of_the_surroundings(fill):
    "The same as if it had been given the whole picture."
    method = dict(inpaint_telea=cv2.INPAINT_TELEA, inpaint_navier_stokes=cv2.INPAINT_NS)
    image, hole = picture(96, 120)
    hole[:, 60:66, 2:90] = True
    pixels = (image * 255).round().byte()
    for radius in (1, 3, 7):
        filled = fill(image, hole, radius)
        whole = [np.ascontiguousarray(plane.permute(1, 2, 0)) for plane in (pixels, hole.byte())]
        expected = cv2.inpaint(*whole, radius, method[fill.__name__])
        assert ((filled * 255).round().byte().permute(1, 2, 0).numpy() == expected).all()
        assert torch.equal(filled[:, ~hole[0]], image[:, ~hole[0]])
        assert not torch.equal(filled, image)


def test_no_hole_and_nothing_but_hole_change_nothing():
    image, hole = picture(20, 30)
    for all_or_nothing in (torch.zeros_like(hole), torch.ones_like(hole)):
        filled = inpaint.inpaint_telea(image, all_or_nothing)
        torch.testing.assert_close(filled, image, atol=0.5 / 255 + 1e-6, rtol=0)
    assert torch.equal(inpaint.inpaint_telea(image, torch.zeros_like(hole)), image)


def test_a_given_picture_is_not_written_into():
    image, hole = picture(20, 30)
    before = image.clone()
    inpaint.inpaint_telea(image, hole)
    assert torch.equal(image, before)


def test_what_cannot_be_inpainted_is_named():
    image, hole = picture(20, 30)
    bad = {
        "hole: must be bool, True where to fill, got torch.float32": (image, hole.float()),
        "hole: axis": (image, hole[:, 1:]),
        "image: must be float in .0, 1., got torch.uint8": ((image * 255).byte(), hole),
        "image: must lie in .0, 1.: 1800 values are NaN": (image * torch.nan, hole),
        "radius: must be at least 1 pixel, got 0": (image, hole, 0),
    }
    for words, question in bad.items():
        with pytest.raises(ValueError, match=words):
            inpaint.inpaint_telea(*question)


def test_missing_weights_are_explained_at_once(tmp_path, monkeypatch):
    start = time.perf_counter()
    with pytest.raises(WeightsUnavailable, match="big-lama.pt: not on this machine") as problem:
        inpaint.load_lama()
    text = str(problem.value)
    assert inpaint.KNOWN["big-lama"] in text and "LAMA_MODEL" in text and "'wallfill'" in text
    with pytest.raises(WeightsUnavailable, match=r"away.pt: no such file \(the argument\)"):
        inpaint.load_lama(tmp_path / "away.pt")
    monkeypatch.setenv("LAMA_MODEL", str(tmp_path / "gone.pt"))
    with pytest.raises(WeightsUnavailable, match=r"gone.pt: no such file \(\$LAMA_MODEL\)"):
        inpaint.load_lama()
    assert time.perf_counter() - start < 2


def test_the_argument_beats_the_variable_and_that_the_cache(tmp_path, monkeypatch):
    cached = tmp_path / "hub" / "checkpoints" / "big-lama.pt"
    cached.parent.mkdir(parents=True)
    files = [script(Mean(), path) for path in (cached, tmp_path / "b.pt", tmp_path / "c.pt")]
    assert inpaint.find_lama() == files[0] == inpaint.find_lama("big-lama")
    monkeypatch.setenv("LAMA_MODEL", str(files[1]))
    assert inpaint.find_lama() == files[1] and inpaint.find_lama(files[2]) == files[2]


def test_what_is_no_torchscript_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ValueError, match="text.pt: is no TorchScript archive \\(not a zip\\)"):
        inpaint.load_lama(tmp_path / "text.pt")
    torch.save(Mean().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="it has no code"):
        inpaint.load_lama(tmp_path / "weights.pt")


def test_foreign_pickles_and_code_that_touches_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="its code uses 'torch.save'"):
        inpaint.load_lama(script(Saving(), tmp_path / "saving.pt"))
    path = script(Mean(), tmp_path / "mean.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("mean/extra/other.pkl", b"cos\nsystem\n.")
    with pytest.raises(ValueError, match="doesn't need: \\['extra/other.pkl'\\]"):
        inpaint.load_lama(path)
    path = script(Mean(), tmp_path / "twice.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("twice/code/__torch__/more.py", "x = ops.debugprims.load_tensor('a')")
    with pytest.raises(ValueError, match="ops.debugprims"):
        inpaint.load_lama(path)


def test_two_files_of_one_name_are_refused(tmp_path):
    path = script(Mean(), tmp_path / "mean.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", b"")
    with pytest.raises(ValueError, match="two files of one name"):
        inpaint.load_lama(path)
