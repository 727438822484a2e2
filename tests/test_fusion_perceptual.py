"Guards of seglab.fusion.perceptual: the lpips package's own figures, windows, what may not leak."

import warnings
from dataclasses import replace

import lpips
import pytest
import torch
from torch import nn
from torchvision import models

from seglab.core import ConfigError
from seglab.fusion import perceptual
from seglab.fusion.perceptual import hole_window, load_lpips, perceptual_loss, slope_difference
from seglab.weights import WeightsUnavailable


@pytest.fixture(scope="module")
def rlpips():
    return perceptual_loss("random-vgg")


def pictures(count=2, side=64, seed=0):
    "Two batches of coloured noise, and holes of different sizes."
    generator = torch.Generator().manual_seed(seed)
    image, target = (torch.rand(count, 3, side, side, generator=generator) for _ in range(2))
    mask = torch.zeros(count, 1, side, side, dtype=torch.bool)
    for number in range(count):
        mask[number, :, 20 : 25 + 9 * number, 8:20] = True
    return image, target, mask


def slices(network, kind):
    "Torchvision's state dict for a backbone of LPIPS."
    full = {"alex": models.alexnet, "squeeze": models.squeezenet1_1}[kind]()
    return full.state_dict()


@pytest.mark.parametrize("kind", ["alex", "squeeze"])
def test_scores_equal_those_of_the_package(kind, tmp_path):
    "Weights from a file of torchvision's, against lpips with the same weights put in by hand."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net=kind, pnet_rand=True, verbose=False)
    state = slices(theirs, kind)
    torch.save(state, tmp_path / "backbone.pth")
    for name, weight in theirs.net.named_parameters():
        weight.data = state["features." + name.split(".", 1)[1]]
    ours = perceptual_loss(kind, tmp_path / "backbone.pth")
    assert ours.label == "lpips"
    image, target, mask = pictures()
    composed = torch.where(mask, image, target)
    windows = [hole_window(hole) for hole in mask]
    expected = [
        theirs(composed[i : i + 1, :, *w], target[i : i + 1, :, *w], normalize=True).item()
        for i, w in enumerate(windows)
    ]
    assert ours(image, target, mask).tolist() == pytest.approx(expected, rel=1e-4)


def test_random_features_are_always_the_same_and_draw_nothing():
    torch.manual_seed(5)
    first, drawn = load_lpips("random-vgg").state_dict(), torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    second = load_lpips("random-vgg").state_dict()
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    deviation = first["net.slice5.28.weight"].std().item()
    assert deviation == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.02), "as torchvision draws"


def test_the_shift_of_colours_survives_the_empty_building():
    scaling = load_lpips("random-vgg").scaling_layer
    assert scaling.shift.flatten().tolist() == pytest.approx([-0.030, -0.088, -0.188])
    assert scaling.scale.flatten().tolist() == pytest.approx([0.458, 0.448, 0.450])


@pytest.mark.parametrize("name", ["random-vgg", "grad", "none"])
def test_a_score_is_of_one_picture_alone(name, rlpips):
    loss = rlpips if name == "random-vgg" else perceptual_loss(name)
    image, target, mask = pictures(3)
    mask[1] = False
    together = loss(image, target, mask)
    alone = torch.cat(
        [loss(image[i : i + 1], target[i : i + 1], mask[i : i + 1]) for i in range(3)]
    )
    assert torch.allclose(together, alone, rtol=1e-4, equal_nan=True)
    assert together.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("name", ["random-vgg", "grad"])
def test_only_the_hole_matters_and_only_it_is_pulled(name, rlpips):
    loss = rlpips if name == "random-vgg" else perceptual_loss(name)
    image, target, mask = pictures()
    image.requires_grad_()
    scores = loss(image, target, mask)
    scores.mean().backward()
    inside = mask.expand_as(image)
    assert (image.grad[inside] != 0).float().mean() > 0.9 and not image.grad[~inside].any()
    elsewhere = torch.where(mask, image.detach(), torch.nan)
    assert torch.equal(loss(elsewhere, target, mask), scores)


def test_the_metric_does_not_learn(rlpips):
    assert not isinstance(rlpips, nn.Module), "no network can take it in"
    metric = load_lpips("random-vgg")
    assert not metric.training and not any(weight.requires_grad for weight in metric.parameters())
    image, target, mask = pictures()
    assert torch.equal(rlpips(image, target, mask), rlpips(image, target, mask)), "no dropout"


@pytest.mark.parametrize("name", ["random-vgg", "grad"])
def test_without_windows_no_value_is_looked_at(name):
    "A tensor on the meta device has none; scores are those of whole pictures."
    loss = replace(perceptual_loss(name), windows=False)
    image, target, mask = pictures()
    whole = replace(loss, windows=True)(torch.where(mask, image, target), target, mask | True)
    assert torch.allclose(loss(image, target, mask), whole, rtol=1e-4)
    assert loss(*(x.to("meta") for x in (image, target, mask))).shape == (2,)


@pytest.mark.parametrize(
    "name, label", [("random-vgg", "rlpips"), ("grad", "slopes"), ("none", "none")]
)
def test_a_stand_in_goes_by_its_own_name(name, label, rlpips):
    assert (rlpips if name == "random-vgg" else perceptual_loss(name)).label == label


def test_slopes_do_not_see_brightness_and_scale_with_contrast():
    image, target, _ = pictures()
    assert slope_difference(image, image + 0.3).max() < 1e-6
    half = slope_difference((image + target) / 2, target)
    assert torch.allclose(2 * half, slope_difference(image, target), rtol=1e-4)


@pytest.mark.parametrize("height, width", [(64, 64), (250, 70), (33, 500)])
def test_windows_hold_their_hole_and_stay_in_the_picture(height, width):
    generator = torch.Generator().manual_seed(1)
    lengths = set()
    for _ in range(60):
        mask = torch.zeros(1, height, width, dtype=torch.bool)
        top, left = (int(torch.randint(0, n, (), generator=generator)) for n in (height, width))
        mask[:, top : top + 40, left : left + 60] = True
        rows, columns = hole_window(mask)
        assert (
            0 <= rows.start and rows.stop <= height and 0 <= columns.start and columns.stop <= width
        )
        assert mask[:, rows, columns].sum() == mask.sum()
        assert rows.stop == height or rows.stop - min(top + 40, height) >= 16
        assert rows.start == 0 or top - rows.start >= 16
        lengths |= {columns.stop - columns.start}
    assert len(lengths) <= 8


def test_bf16_gives_nearly_the_same(rlpips):
    image, target, mask = pictures()
    with torch.autocast("cpu", torch.bfloat16):
        rough = rlpips(image, target, mask).tolist()
    assert rough == pytest.approx(rlpips(image, target, mask).tolist(), rel=0.03)


def test_bad_requests_say_what_is_wrong(rlpips, tmp_path, monkeypatch):
    image, target, mask = pictures()
    with pytest.raises(ConfigError, match="unknown perceptual loss 'lpips'.*random-vgg"):
        perceptual_loss("lpips")
    with pytest.raises(ValueError, match=r"sides of 16 pixels or more, got torch.bool, \(15, 64\)"):
        rlpips(image[..., :15, :], target[..., :15, :], mask[..., :15, :])
    with pytest.raises(ValueError, match="target: axis H must be 64"):
        rlpips(image, target[..., :60, :], mask)
    with pytest.raises(FileNotFoundError, match="no such file"):
        perceptual_loss("vgg", tmp_path / "vgg.pth")
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"other\.pth: not torchvision's network"):
        perceptual_loss("alex", tmp_path / "other.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setitem(perceptual._BACKBONES, "vgg", ("https://localhost:9/vgg16.pth", 16))
    with pytest.raises(WeightsUnavailable, match=r"vgg16\.pth.*put it at"):
        perceptual_loss("vgg")
