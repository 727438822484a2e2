"What guards `seglab.matting`: pymatting as reference, crops, padding, sizes, degenerate trimaps, refusals."

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seglab import io
from seglab.core import ConfigError
from seglab.matting import METHODS, estimate_alpha, estimate_foreground, fit_colour_lines
from seglab.matting import guided_upsample as upsample


def blob(height=48, width=56, seed=0):
    "A soft blob of one colour before another, with noise: image, alpha and trimap, batched."
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    distance = (rows - height * 0.55).hypot(columns - width * 0.45)[None, None]
    alpha = ((min(height, width) / 3 - distance) / 8).clamp(0, 1)
    foreground = torch.tensor([0.8, 0.3, 0.1]).view(1, 3, 1, 1)
    background = torch.tensor([0.1, 0.4, 0.7]).view(1, 3, 1, 1)
    image = alpha * foreground + (1 - alpha) * background
    image = (image + 0.02 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    trimap = torch.where((alpha > 0) & (alpha < 1), 1, 2 * alpha).to(torch.uint8)
    return image, alpha, trimap


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_a_soft_edge(method):
    image, alpha, trimap = blob()
    found = estimate_alpha(image, trimap, method)
    assert found.shape == alpha.shape and found.dtype == torch.float32
    assert (found >= 0).all() and (found <= 1).all()
    assert torch.equal(found[trimap != 1], alpha[trimap != 1])
    limit = 0.2 if method == "random_walk" else 0.07
    assert (found - alpha)[trimap == 1].abs().mean() < limit


@pytest.mark.parametrize("method", ["closed_form", "knn"])
def test_the_crop_equals_pymatting_on_the_whole_picture(method):
    import pymatting

    image, _, trimap = blob()
    image, trimap = F.pad(image, (9, 30, 20, 7), mode="reflect"), F.pad(trimap, (9, 30, 20, 7))
    function = getattr(pymatting, METHODS[method].function)
    reference = function(
        np.ascontiguousarray(image[0].permute(1, 2, 0).double().numpy()),
        np.array([0, 0.5, 1])[trimap[0, 0].numpy()],
    )
    found = estimate_alpha(image, trimap, method)[0, 0].numpy()
    assert np.abs(found - reference)[trimap[0, 0] == 1].max() < 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_padding_changes_nothing(method):
    image, _, trimap = blob()
    padding = (5, 11, 3, 0)
    padded = estimate_alpha(F.pad(image, padding), F.pad(trimap, padding, value=255), method)
    alone = estimate_alpha(image, trimap, method)
    assert torch.allclose(padded, F.pad(alone, padding), atol=1e-5)


def test_padding_inside_the_picture_is_background():
    image, _, trimap = blob()
    trimap[:, :, 20:24, 20:24] = 255
    assert not estimate_alpha(image, trimap)[trimap == 255].any()


def test_trimaps_of_one_kind():
    image, alpha, trimap = blob()
    assert not estimate_alpha(image, trimap.clamp(max=1)).any()
    assert estimate_alpha(image, trimap.clamp(min=1)).eq(1).all()
    for code in (0, 2, 255):
        flat = torch.full_like(trimap, code)
        assert estimate_alpha(image, flat).eq(code == 2).all()
    with pytest.raises(ValueError, match="picture 1 is unknown everywhere"):
        estimate_alpha(image.repeat(2, 1, 1, 1), torch.cat([trimap, torch.ones_like(trimap)]))
    with pytest.raises(ValueError, match="unknown everywhere"):
        framed = F.pad(torch.ones_like(trimap), (4, 4, 4, 4), value=255)
        estimate_alpha(F.pad(image, (4, 4, 4, 4)), framed)


@pytest.mark.parametrize("method", METHODS)
def test_a_band_far_from_foreground(method):
    image = torch.full((1, 3, 40, 40), 0.5)
    trimap = torch.zeros(1, 1, 40, 40, dtype=torch.uint8)
    trimap[:, :, 4:30, 4:30] = 1
    trimap[:, :, 8:26, 8:26] = 0
    trimap[:, :, 15:18, 15:18] = 2  # inside the box, but not beside the band
    alpha = estimate_alpha(image, trimap, method)
    assert not alpha.isnan().any() and alpha[trimap == 2].eq(1).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(5, 5), (7, 40), (20, 20)])
def test_small_pictures(method, shape):
    image = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(1))
    trimap = torch.ones(1, 1, *shape, dtype=torch.uint8)
    trimap[..., 0], trimap[..., -1] = 0, 2
    alpha = estimate_alpha(image, trimap, method)
    assert alpha.isfinite().all() and alpha[..., -1].eq(1).all()


def test_too_small():
    with pytest.raises(ValueError, match=r"picture 0 is \(4, 30\), smaller than 5"):
        trimap = torch.ones(1, 1, 4, 30, dtype=torch.uint8)
        trimap[..., 0], trimap[..., -1] = 0, 2
        estimate_alpha(torch.rand(1, 3, 4, 30), trimap)


def test_thin_known_lines_survive_the_small_copy():
    image, _, trimap = blob(96, 112)
    thin = torch.ones_like(trimap)
    thin[:, :, 50, 45:52], thin[:, :, 0] = 2, 0  # one pixel high: no small pixel is full of it
    alpha = estimate_alpha(image, thin, longest=28)
    assert alpha[thin == 2].eq(1).all() and alpha[:, :, 45:55, 42:55].mean() > 0.8


def test_a_small_copy_tells_nearly_the_same():
    image, alpha, trimap = blob(192, 224)
    whole, small = (estimate_alpha(image, trimap, longest=x) for x in (224, 56))
    assert not torch.equal(whole, small)
    assert (small - alpha)[trimap == 1].abs().mean() < 0.05
    assert (small - whole)[trimap == 1].abs().mean() < 0.05


def test_guided_upsampling_follows_the_image():
    image, alpha, _ = blob(192, 224)
    small = F.interpolate(alpha, size=(24, 28), mode="area")
    noiseless = blob(192, 224)[0] * 0 + alpha * 0.7 + 0.1
    error = (upsample(small, noiseless) - alpha).abs().mean()
    plain = (F.interpolate(small, size=(192, 224), mode="bilinear") - alpha).abs().mean()
    assert error < 0.2 * plain


def test_lines_recover_a_linear_alpha():
    image = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    wanted = torch.tensor([0.2, 0.3, 0.4, 0.05]).double()
    alpha = (image * wanted[:3].view(1, 3, 1, 1)).sum(1, keepdim=True) + wanted[3]
    lines = fit_colour_lines(alpha, image, radius=3, epsilon=1e-9)
    assert torch.allclose(lines, wanted.view(1, 4, 1, 1).expand_as(lines), atol=1e-3)


def test_flat_pictures_have_lines():
    lines = fit_colour_lines(torch.full((1, 1, 9, 9), 0.3), torch.full((1, 3, 9, 9), 0.6))
    assert torch.allclose(lines[:, :3], lines.new_zeros(()), atol=1e-6)
    assert torch.allclose(lines[:, 3], lines.new_tensor(0.3), atol=1e-6)


def test_foreground_reproduces_the_mixture():
    image, alpha, _ = blob()
    foreground = estimate_foreground(image, alpha)
    truth = torch.tensor([0.8, 0.3, 0.1]).view(1, 3, 1, 1)
    weight = alpha.expand_as(image)
    assert ((foreground - truth).abs() * weight).sum() / weight.sum() < 0.04
    solid = (alpha == 1).expand_as(image)
    assert torch.equal(foreground[solid], image[solid])
    for constant in (0.0, 1.0):
        colours = estimate_foreground(image, torch.full_like(alpha, constant))
        assert colours.isfinite().all()
    assert torch.equal(colours, image), "all solid: the image itself"


def test_refusals():
    image, alpha, trimap = blob()
    nan = image.clone()
    nan[0, 0, 0, 0] = float("nan")
    for function, arguments, words in [
        (estimate_alpha, (nan, trimap), "image: must be float in"),
        (estimate_alpha, (image * 255, trimap), "divide bytes by 255"),
        (estimate_alpha, ((image * 255).to(torch.uint8), trimap), "divide bytes by 255"),
        (estimate_alpha, (image, trimap * 100), "codes 0, 1, 2 or 255"),
        (estimate_alpha, (image, trimap.long()), "uint8 codes"),
        (estimate_alpha, (image, trimap[:, :, 1:]), "axis H must be 48"),
        (estimate_alpha, (image[0], trimap), "axes"),
        (estimate_foreground, (nan, alpha), "image: must be float in"),
        (estimate_foreground, (image, alpha * float("nan")), "alpha: must be float in"),
        (estimate_foreground, (image, trimap), "alpha: must be float in"),
        (upsample, (alpha, image[:, :2]), "axis 3"),
    ]:
        with pytest.raises(ValueError, match=words):
            function(*arguments)
    with pytest.raises(ConfigError, match="did you mean 'knn'"):
        estimate_alpha(image, trimap, method="kn")


def test_no_convergence_is_said_in_words(monkeypatch):
    import pymatting

    def stuck(*_, **__):
        raise ValueError("Conjugate gradient descent did not converge within 10000 iterations")

    monkeypatch.setattr(pymatting, "estimate_alpha_cf", stuck)
    image, _, trimap = blob()
    with pytest.raises(ValueError, match="picture 0 did not converge with 'closed_form'"):
        estimate_alpha(image, trimap)


def test_solvers_are_silent(capsys):
    image, _, trimap = blob()
    estimate_alpha((image * 0).clamp(0, 1), trimap)
    assert capsys.readouterr().out == ""


def test_threads_come_back():
    import numba

    image, alpha, trimap = blob()
    before = torch.get_num_threads(), numba.get_num_threads()
    estimate_alpha(image, trimap)
    estimate_foreground(image, alpha)
    assert (torch.get_num_threads(), numba.get_num_threads()) == before


def test_half_precision_and_gradients_are_taken():
    image, alpha, trimap = blob()
    found = estimate_alpha(image.half().requires_grad_(), trimap)
    assert found.dtype == torch.float32 and not found.requires_grad
    assert (found - alpha)[trimap == 1].abs().mean() < 0.07
    assert not estimate_foreground(image.half().requires_grad_(), alpha).requires_grad


def test_small_copies_on_real_photographs(parity):
    folder = parity.parent / "data" / "mattes"
    if not folder.is_dir():
        pytest.skip("the real photographs are not at hand")
    image = io.read_image(folder / "images" / "GT01.png")[None]
    target = io.read_alpha(folder / "alphas" / "GT01.png")[None]
    trimap = io.read_trimap(folder / "trimaps" / "GT01.png")[None]
    image, target = (F.interpolate(x, scale_factor=0.5, mode="area") for x in (image, target))
    trimap = trimap[:, :, 1::2, 1::2][:, :, : image.shape[2]]
    errors = [
        (estimate_alpha(image, trimap, longest=longest) - target)[trimap == 1].square().mean()
        for longest in (400, 100)
    ]
    assert errors[0] < 0.007 and errors[1] < 2 * errors[0], errors


def test_two_threads_may_solve_at_once():
    "In a process of its own, which numba would end."
    script = """
import torch
from concurrent.futures import ThreadPoolExecutor
from seglab.matting import estimate_foreground
image, alpha = torch.rand(1, 3, 96, 96), torch.rand(1, 1, 96, 96)
with ThreadPoolExecutor(2) as pool:
    list(pool.map(lambda _: estimate_foreground(image, alpha), range(12)))
print("well")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "well\n", done.stderr[-500:]
