"The trimap network and its losses against the original modules and independent formulas."

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seglab.core import IGNORE
from seglab.losses import softmax_focal_loss, trimap_loss, unknown_distance_loss
from seglab.pyramid import rename_original
from seglab.trimap.model import TrimapConfig, TrimapModel


def folder_of(parity):
    folder = parity / "trimap"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def network(folder, mask_scale: float) -> TrimapModel:
    "The recorded network with the original's weights."
    given = json.loads((folder / "model.config.json").read_text())
    (side, other), (patch, _) = given["img_size"], given["patch_size"]
    assert side == other
    config = TrimapConfig(
        side=side,
        patch=patch,
        width=given["embed_dim"],
        depth=given["depth"],
        heads=given["num_heads"],
        pyramid=tuple(given["out_dims"]),
        channels=given["channels"],
        upsample=int(given["upsample"][1:]),
        mask_scale=mask_scale,
    )
    net = TrimapModel(config).eval()
    state = torch.load(folder / "model.state_dict.pth", weights_only=True)
    net.load_state_dict(rename_original(state, config.upsample)[0], strict=True)
    return net


@torch.no_grad()
def test_logits_equal_the_original(parity):
    folder = folder_of(parity)
    arrays = np.load(folder / "model.io.npz")
    image = torch.from_numpy(arrays["image_u8"]).permute(2, 0, 1)[None] / 255
    mask = torch.from_numpy(arrays["mask_u8"])[None, None] > 0
    for name, scale in dict(mask01=1.0, mask_over_255=1 / 255).items():
        logits = network(folder, scale)(image, mask)
        assert list(logits.shape) == arrays["logits_shape"].tolist()
        wanted = torch.from_numpy(arrays[f"logits_{name}_s8"])
        atol = 2e-4 * wanted.std().item()
        torch.testing.assert_close(logits[..., ::8, ::8], wanted, atol=atol, rtol=1e-4)
        if name == "mask01":
            size = image.shape[-2:]
            full = F.interpolate(logits, size, mode="bilinear", align_corners=False)
            same = full.argmax(dim=1)[..., ::2, ::2] == torch.from_numpy(
                arrays["argmax_448_mask01_s2"]
            )
            assert same.float().mean() > 0.9999  # a tie may fall either way
    assert not torch.allclose(
        torch.from_numpy(arrays["logits_mask01_s8"]),
        torch.from_numpy(arrays["logits_mask_over_255_s8"]),
        atol=1e-3,
    ), "the two scales must differ, or the test above shows nothing"


def test_losses_equal_the_formulas(parity):
    folder = folder_of(parity)
    arrays = np.load(folder / "losses.npz")
    recorded = json.loads((folder / "losses.json").read_text())
    assert recorded
    for case in recorded:
        key = f"d{case['case']}"
        logits = torch.from_numpy(arrays[f"{key}_logits"]).requires_grad_()
        trimap = torch.from_numpy(arrays[f"{key}_target"].astype(np.uint8))[:, None]

        for gamma in (1, 2):
            loss = softmax_focal_loss(logits, trimap, gamma=gamma, detach=False)
            assert loss.item() == pytest.approx(case[f"nfl_gamma{gamma}"], rel=1e-5)
        equal_gradient(loss, logits, arrays[f"{key}_grad_focal"])

        # the formula's mean runs over all pixels, ours over the counted ones only
        share = (trimap != IGNORE).float().mean(dim=(1, 2, 3))
        distance = share * unknown_distance_loss(logits, trimap)
        np.testing.assert_allclose(distance.detach(), case["dt_per_sample"], rtol=1e-5)
        assert distance.mean().item() == pytest.approx(case["dt_mean"], rel=1e-5)
        equal_gradient(distance.mean(), logits, arrays[f"{key}_grad_dt"])

        for detach in (True, False):  # the value is the same, only the gradient differs
            if bool((share == 1).all()):
                both = trimap_loss(logits, trimap, focal=1.0, distance=0.1, detach=detach)
                assert sum(both.values()).item() == pytest.approx(case["combined_1_0p1"], rel=1e-5)


def equal_gradient(loss, logits, expected) -> None:
    "Compare one loss's gradient on the logits."
    gradient = torch.autograd.grad(loss, logits, retain_graph=True)[0]
    largest = np.abs(expected).max()
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5 * largest)
