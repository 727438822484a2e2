"The losses of the original click program: values, gradients, ignored pixels."

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seglab.core import IGNORE
from seglab.losses import normalized_focal_loss, soft_dice_loss

OURS = {"alpha": "alpha", "gamma": "gamma", "max_mult": "largest", "detach_delimeter": "detach"}


def cases(parity):
    "Every recorded call, with its logits and truth in our codes."
    folder = parity / "losses"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    arrays = np.load(folder / "losses.npz")
    for case in json.loads((folder / "losses.json").read_text()):
        if "data" in case:
            logits = torch.from_numpy(arrays[f"d{case['data']}_logits"]).requires_grad_()
            truth = torch.from_numpy(arrays[f"d{case['data']}_gt"])
            target = truth.int().masked_fill(truth < 0, IGNORE).to(torch.uint8)
            yield case, logits, target, arrays.get(f"{case['key']}_grad")


def allowed(gradient, logits, target) -> np.ndarray:
    """How far a gradient may be off: 1e-5, and what the original's own float32 loses.

    It computes 1 - p, whose error of half a float32 step is large beside a p near 1. Ours stays
    within 1e-6 of the formula in float64 there, see `tests/test_losses.py`.
    """
    right = torch.where(target == 1, logits, -logits).detach()
    rounding = 2**-23 / right.sigmoid().numpy()
    return 1e-5 * np.abs(gradient).max() + np.abs(gradient) * (1e-5 + rounding)


def test_normalized_focal_loss_equals_the_original(parity):
    seen = 0
    for case, logits, target, gradient in cases(parity):
        if case["loss"] != "NormalizedFocalLossSigmoid":
            continue
        flags = dict(case["kwargs"])
        if flags.pop("from_sigmoid", False):  # recorded for probabilities: back to logits
            probs = logits.detach().sigmoid().numpy()
            gradient = gradient * probs * (1 - probs)
        scale = flags.pop("weight", 1.0)
        if not flags.pop("size_average", True):  # the sum instead of the mean over counted pixels
            scale = scale * (target != IGNORE).sum(dim=(1, 2, 3))
        known = {OURS[name]: value for name, value in flags.items()}  # a new flag fails here
        loss = scale * normalized_focal_loss(logits, target, **known)
        np.testing.assert_allclose(
            loss.detach(), case["value_per_sample"], rtol=1e-5, err_msg=case["key"]
        )
        loss.mean().backward()
        off = np.abs(logits.grad.numpy() - gradient)
        assert (off <= allowed(gradient, logits, target)).all(), case["key"]
        if "value2_on_half_logits" in case:
            half = scale * normalized_focal_loss(logits.detach() / 2, target, **known)
            np.testing.assert_allclose(half, case["value2_on_half_logits"], rtol=1e-5)
        seen += 1
    assert seen > 0


def test_cross_entropy_is_the_focal_loss_without_focus(parity):
    for case, logits, target, gradient in cases(parity):
        if case["loss"] == "SigmoidBinaryCrossEntropyLoss":
            # the original divides by all pixels, ignored ones included
            share = (target != IGNORE).float().mean(dim=(1, 2, 3))
            plain = 2 * normalized_focal_loss(logits, target, gamma=0.0)
            loss = case["kwargs"].get("weight", 1.0) * share * plain
            np.testing.assert_allclose(loss.detach(), case["value"], rtol=1e-5)
            loss.mean().backward()
            np.testing.assert_allclose(logits.grad, gradient, rtol=1e-4, atol=1e-8)


def test_dice_learns_where_the_original_could_not(parity):
    seen = 0
    for case, logits, target, gradient in cases(parity):
        if case["loss"] == "BinaryDiceLoss":
            assert not gradient.any(), "the defect this replaces"
            soft_dice_loss(logits, target).sum().backward()
            assert (logits.grad[target != IGNORE] != 0).all()
            assert not logits.grad[target == IGNORE].any()
            seen += 1
    assert seen > 0


def test_clicks_need_no_ignored_pixels(parity):
    "A mask as bool and as codes is the same truth."
    for _, logits, target, _ in cases(parity):
        inside = target == 1
        codes = normalized_focal_loss(logits, inside.to(torch.uint8))
        assert torch.equal(normalized_focal_loss(logits, inside), codes)
        by_torch = F.binary_cross_entropy_with_logits(logits, inside.float(), reduction="none")
        plain = 2 * normalized_focal_loss(logits, inside, gamma=0.0)
        torch.testing.assert_close(plain, by_torch.mean(dim=(1, 2, 3)), rtol=1e-5, atol=1e-6)
        break
