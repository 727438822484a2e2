"Rates and weight decay of the original's layer-wise decay (originals.md §4.2), its forgotten layer included."

import json
import math

import torch
from torch import nn

from seglab.rates import parameter_groups


def test_layer_decay(parity):
    for file in sorted((parity / "layer_decay").glob("*.json")):
        reference = json.loads(file.read_text())
        depth = reference["model"]["depth"]

        def layer_of(name, depth=depth):
            if name.startswith(
                ("backbone.cls_token", "backbone.pos_embed", "backbone.patch_embed.")
            ):
                return 0
            return int(name.split(".")[2]) + 1 if name.startswith("backbone.blocks.") else depth + 1

        def parameter(name):
            flat = name.endswith(".bias") or "norm" in name
            return nn.Parameter(torch.zeros(1) if flat else torch.zeros(1, 1, 1))

        forgotten = reference["not_in_optimizer"]
        named = [(name, parameter(name)) for name in [*reference["params"], *forgotten]]
        groups = parameter_groups(named, reference["base_lr"], 0.02, 0.75, layer_of)
        ours = {name: group for group in groups for name in group["names"]}
        for name, wanted in reference["params"].items():
            assert math.isclose(ours[name]["lr"], wanted["lr"], rel_tol=1e-9), name
            if name.startswith(
                "backbone."
            ):  # theirs decays biases and norms of neck and head as well
                assert ours[name]["weight_decay"] == wanted["weight_decay"], name
        for name in forgotten:  # theirs never trains it
            assert ours[name]["lr"] == reference["base_lr"], name
