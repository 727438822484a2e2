"The networks of Samsung's program at their published sizes; SimpleClick's are in test_plainvit."

import json
import os
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from seglab.interact.data import click_maps
from seglab.interact.networks import PRESETS, build
from seglab.interact.pretrained import load_released, rename_hrnet, rename_segformer

from .test_plainvit import name_seeded, names
from .test_saic_models import compare

LIMIT = 1.5e7  # parameters; sizes above only take longer, see $SEGLAB_PARITY_PARAMETERS


def recorded_models(parity) -> dict[str, dict]:
    folder = parity / "full_models"
    files = [f for f in names(folder, "*.json") if not f.startswith("vit_")]
    if not files:
        pytest.skip(f"no SAIC models in {folder}")
    return {f.removesuffix(".json"): json.loads((folder / f).read_text()) for f in files}


def rename(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    if any("decode_head" in name for name in state):
        return rename_segformer(state), []
    return rename_hrnet(state)


def test_published_sizes_have_the_published_parts(parity):
    for name, recorded in recorded_models(parity).items():
        shapes = recorded["state_dict_shapes"]
        state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
        renamed, idle = rename(state)
        wanted = {key: tensor.shape for key, tensor in renamed.items()}
        family = "hrnet" if "hrnet" in name else "segformer"
        size = re.search(r"_(b\d)", name)  # building all of them takes a while
        known = [n for n in PRESETS if n.startswith(family) and (not size or size[1] in n)]
        with torch.device("meta"):
            nets = [build(PRESETS[n]) for n in known]
        fits = [net for net in nets if {k: x.shape for k, x in net.state_dict().items()} == wanted]
        assert fits, f"{name}: no preset has its parts"
        buffers = ("running_mean", "running_var", "num_batches_tracked")
        rest = sum(state[key].numel() for key in idle if not key.endswith(buffers))
        assert sum(p.numel() for p in fits[0].parameters()) + rest == recorded["params"], name


def test_learning_rates_equal_the_original(parity):
    for name, recorded in recorded_models(parity).items():
        shapes = recorded["state_dict_shapes"]
        state = {
            key: torch.tensor(rate).expand(shapes[key]) for key, rate in recorded["lr_mult"].items()
        }
        renamed, _ = rename(state)
        kind = "hrnet18" if "hrnet" in name else "segformer_b0"  # its names, at another size
        with torch.device("meta"):
            net = build(PRESETS[kind])
        for key, rates in renamed.items():
            assert rates.min() == rates.max()
            assert net.rate_of(key) == pytest.approx(rates.max().item()), f"{name}: {key}"


@torch.no_grad()
def test_published_sizes_answer_as_the_original(parity, tmp_path):
    limit = float(os.environ.get("SEGLAB_PARITY_PARAMETERS", LIMIT))
    folder = parity / "full_models"
    arrays = np.load(folder / "saic_input_448.npz")
    image = torch.from_numpy(arrays["image_u8"]).permute(2, 0, 1)[None] / 255
    before = torch.from_numpy(arrays["prev_mask_u8"])[None, None] / 255
    clicks = click_maps(torch.from_numpy(arrays["points"]), (448, 448), radius=3)
    drawn = [torch.from_numpy(arrays[kind]).float() for kind in ("contour", "stroke")]
    maps = torch.cat([clicks, *drawn], dim=1)
    for name, recorded in recorded_models(parity).items():
        if recorded["params"] > limit:
            continue
        shapes, seed = recorded["state_dict_shapes"], recorded["xor_seed"]
        state = {key: name_seeded(key, shape, seed) for key, shape in shapes.items()}
        torch.save(dict(state_dict=state), tmp_path / "x.pth")
        outputs = load_released(tmp_path / "x.pth")(image, before, maps)
        wanted = np.load(folder / f"{name}.npz")
        compare(outputs["logits"], wanted["instances_stride8"], name)
        if "instances_aux_stride8" in wanted:
            compare(outputs["aux"], wanted["instances_aux_stride8"], f"{name}: aux")
