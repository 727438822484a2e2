"The losses at the newest interaction alone, against the original's values and gradients."

import json

import numpy as np
import pytest
import torch

from seglab.interact.task import force_loss


def test_force_losses_equal_the_original(parity):
    folder = parity / "losses"
    if not (folder / "force_losses.npz").is_file():
        pytest.skip(f"no force losses in {folder}")
    arrays = np.load(folder / "force_losses.npz")
    recorded = {
        case["loss"]: case["value"][0]
        for case in json.loads((folder / "force_losses.json").read_text())
    }
    logits = torch.from_numpy(arrays["pf_logits"])
    clicks = torch.zeros(len(logits), 2, *logits.shape[-2:])
    for planes, points in zip(clicks, arrays["pf_points"], strict=True):
        for slot, (y, x, _) in enumerate(points):
            if max(y, x) >= 0:
                planes[0 if slot < len(points) // 2 else 1, int(y), int(x)] += 1
    regions = torch.from_numpy(arrays["cf_mask"])
    for name, marks, extra, key in (
        ("PointsForceClassBCELoss", clicks, 0.0, "pf_grad"),
        ("ContoursForceClassBCELoss", regions, 1.0, "cf_grad"),
    ):
        given = logits.clone().requires_grad_()
        loss = force_loss(given, marks, extra)
        np.testing.assert_allclose(loss.item(), recorded[name], rtol=1e-5)
        loss.backward()
        torch.testing.assert_close(given.grad, torch.from_numpy(arrays[key]), atol=1e-7, rtol=1e-5)
