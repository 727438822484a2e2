"What guards the losses: the formula in float64, gradients, ignored pixels, SciPy's distance, sizes."

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt

from seglab.core import IGNORE, UNKNOWN
from seglab.losses import (
    normalized_focal_loss,
    soft_dice_loss,
    softmax_focal_loss,
    trimap_loss,
    unknown_depth,
    unknown_distance_loss,
)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


@pytest.fixture
def mask_case(generator):
    "Logits, some of them extreme, and a truth with ignored pixels; one picture is ignored whole."
    logits = 6 * torch.randn(3, 1, 17, 23, generator=generator)
    target = torch.randint(0, 2, (3, 1, 17, 23), generator=generator, dtype=torch.uint8)
    target[0, :, :4] = IGNORE
    target[2] = IGNORE
    return logits, target


@pytest.fixture
def trimap_case(generator):
    "Logits and a blocky trimap with ignored pixels."
    coarse = torch.randint(0, 3, (2, 1, 4, 5), generator=generator, dtype=torch.uint8)
    trimap = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)
    trimap[1, :, :, 30:] = IGNORE
    return 3 * torch.randn(2, 3, 32, 40, generator=generator), trimap


def gradient(loss, logits):
    "Of the sum of a loss."
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits).sum(), logits)[0]


def focal_formula(logits, target, alpha, gamma, detach):
    "The normalized focal loss as its paper writes it."
    truth, valid = (target == 1).to(logits.dtype), target != IGNORE
    p = logits.sigmoid()
    hit = truth * p + (1 - truth) * (1 - p)
    beta = (1 - hit) ** gamma * valid
    total = beta.sum(dim=(2, 3), keepdim=True)
    factor = valid.sum(dim=(2, 3), keepdim=True) / total.clamp_min(1e-12)
    beta = beta * (factor.detach() if detach else factor)
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    loss = torch.where(valid, -weight * beta * hit.log(), 0)
    return loss.sum(dim=(1, 2, 3)) / valid.sum(dim=(1, 2, 3)).clamp_min(1)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("detach", [True, False])
def test_focal_loss_equals_its_formula_in_float64(mask_case, gamma, detach):
    logits, target = mask_case[0][:2], mask_case[1][:2]
    exact = focal_formula(logits.double(), target, 0.3, gamma, detach)
    found = normalized_focal_loss(logits, target, 0.3, gamma, detach=detach)
    torch.testing.assert_close(found, exact.float(), rtol=1e-5, atol=1e-7)
    expected = gradient(lambda x: focal_formula(x, target, 0.3, gamma, detach), logits.double())
    pushed = gradient(lambda x: normalized_focal_loss(x, target, 0.3, gamma, detach=detach), logits)
    largest = expected.abs().max().item()
    torch.testing.assert_close(pushed, expected.float(), rtol=1e-4, atol=2e-6 * largest)


def test_a_hopeless_pixel_is_still_pushed():
    "At a logit of 40 on the wrong side the original's float32 gradient is 0."
    logits = torch.tensor([40.0, 0.0]).view(1, 1, 1, 2)
    target = torch.zeros(1, 1, 1, 2, dtype=torch.bool)
    assert gradient(lambda x: normalized_focal_loss(x, target), logits)[0, 0, 0, 0] > 0.1


@pytest.mark.parametrize("loss", [normalized_focal_loss, soft_dice_loss])
def test_ignored_pixels_of_a_mask_neither_count_nor_push(mask_case, loss):
    logits, target = mask_case
    pushed = gradient(lambda x: loss(x, target), logits)
    assert pushed.isfinite().all() and not pushed[target == IGNORE].any()
    other = torch.where(target == IGNORE, 99.0, logits)
    torch.testing.assert_close(loss(other, target), loss(logits, target))
    assert loss(logits, target)[2] == 0, "a picture without truth costs nothing"


def test_largest_caps_the_weight_of_one_pixel():
    logits = torch.full((1, 1, 10, 10), 5.0)
    logits[..., 0, 0] = -5.0  # one bad pixel takes nearly all the weight
    target = torch.ones(1, 1, 10, 10)
    free, capped = (normalized_focal_loss(logits, target, largest=m).item() for m in (None, 2.0))
    assert capped == pytest.approx(0.5 * 2 * F.softplus(torch.tensor(5.0)).item() / 100, rel=1e-3)
    assert free > 10 * capped


def test_dice_is_zero_when_right_and_learns_when_wrong():
    target = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    target[..., 2:5, 3:7] = True
    right = torch.where(target, 30.0, -30.0)
    assert soft_dice_loss(right, target).item() == pytest.approx(0, abs=1e-6)
    assert soft_dice_loss(-right, target).item() > 0.9
    pushed = gradient(lambda x: soft_dice_loss(x, target), torch.zeros(1, 1, 9, 9))
    assert (pushed[target] < 0).all() and (pushed[~target] > 0).all()
    nothing = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    assert soft_dice_loss(torch.full((1, 1, 9, 9), -30.0), nothing).item() == pytest.approx(0)


@pytest.mark.parametrize("detach", [True, False])
def test_gradients_of_trimap_losses_by_finite_differences(trimap_case, detach):
    logits, trimap = trimap_case[0][:, :, ::4, ::4].double(), trimap_case[1][:, :, ::4, ::4]

    def focal(x):
        return softmax_focal_double(x, trimap, detach=False)

    logits.requires_grad_()
    assert torch.autograd.gradcheck(focal, (logits,))
    float_gradient = gradient(
        lambda x: softmax_focal_loss(x, trimap, detach=detach), logits.detach().float()
    )
    expected = gradient(lambda x: softmax_focal_double(x, trimap, detach), logits.detach())
    torch.testing.assert_close(float_gradient, expected.float(), rtol=1e-3, atol=1e-6)


def softmax_focal_double(logits, trimap, detach):
    "Σ w · CE / Σ w in the precision of the logits."
    valid = (trimap != IGNORE)[:, 0]
    p = logits.softmax(dim=1).gather(1, trimap.long().clamp_max(2))[:, 0][valid]
    weight = (1 - p) ** 2
    return -(weight * p.log()).sum() / (weight.sum().detach() if detach else weight.sum())


def test_padding_of_trimaps_never_trains(trimap_case):
    logits, trimap = trimap_case
    for name in ("focal", "distance"):
        pushed = gradient(lambda x, name=name: trimap_loss(x, trimap)[name], logits)
        ignored = (trimap == IGNORE).expand(-1, 3, -1, -1)
        assert pushed.isfinite().all() and pushed.any() and not pushed[ignored].any()
    empty = torch.full_like(trimap, IGNORE)
    for loss in trimap_loss(logits.requires_grad_(), empty).values():
        assert loss.item() == 0
        assert not torch.autograd.grad(loss, logits, retain_graph=True)[0].any()


def test_cropping_ignored_pixels_away_changes_nothing(trimap_case):
    logits, trimap = trimap_case[0][1:], trimap_case[1][1:]
    cropped = trimap_loss(logits[..., :30], trimap[..., :30])
    for name, loss in trimap_loss(logits, trimap).items():
        torch.testing.assert_close(loss, cropped[name])


def test_depth_equals_scipy(trimap_case):
    trimap = trimap_case[1].clone()
    trimap[trimap == IGNORE] = 0
    for codes, depth in zip(trimap[:, 0].numpy(), unknown_depth(trimap)[:, 0], strict=True):
        np.testing.assert_allclose(depth, distance_transform_edt(codes == UNKNOWN), rtol=1e-6)


def test_depth_where_it_has_no_edge():
    codes = torch.full((3, 1, 6, 7), UNKNOWN, dtype=torch.uint8)  # all unknown
    codes[1] = 2  # nothing unknown
    codes[2, ..., 3:] = IGNORE  # unknown beside padding
    assert not unknown_depth(codes).any()
    assert not unknown_distance_loss(torch.randn(3, 3, 6, 7), codes).any()


def test_logits_are_enlarged_to_the_trimap(trimap_case):
    logits, trimap = trimap_case
    small = logits[:, :, ::2, ::2]
    large = F.interpolate(small, (32, 40), mode="bilinear", align_corners=False)
    for name, loss in trimap_loss(small, trimap).items():
        torch.testing.assert_close(loss, trimap_loss(large, trimap)[name])
    assert trimap_loss(small.bfloat16(), trimap)["focal"].dtype == torch.float32


def test_a_perfect_prediction_costs_nothing(trimap_case):
    trimap = trimap_case[1].clamp_max(2)
    logits = 60.0 * F.one_hot(trimap[:, 0].long(), 3).permute(0, 3, 1, 2)
    for loss in trimap_loss(logits.requires_grad_(), trimap).values():
        assert loss.item() == pytest.approx(0, abs=1e-6)
        assert torch.autograd.grad(loss, logits, retain_graph=True)[0].isfinite().all()


@pytest.mark.parametrize(
    ("logits", "truth", "loss"),
    [
        ((2, 3, 8, 8), (2, 8, 8), softmax_focal_loss),
        ((2, 2, 8, 8), (2, 1, 8, 8), unknown_distance_loss),
        ((2, 1, 8, 8), (2, 1, 8, 9), normalized_focal_loss),
        ((2, 1, 8, 8), (1, 1, 8, 8), soft_dice_loss),
    ],
)
def test_disagreeing_shapes_are_refused(logits, truth, loss):
    with pytest.raises(ValueError, match=r"axis|axes"):
        loss(torch.zeros(logits), torch.zeros(truth, dtype=torch.uint8))
