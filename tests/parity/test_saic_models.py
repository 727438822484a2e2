"The networks of Samsung's program, read from files like its own, against its numbers."

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from seglab.interact.data import click_maps
from seglab.interact.pretrained import load_released

from .test_plainvit import names, watch

PARAMETERS = dict(  # of the original's classes, by the names of the fixtures
    input_type="input_type",
    use_rgb_conv="use_rgb_conv",
    use_disks="use_disks",
    norm_radius="norm_radius",
    with_prev_mask="with_prev_mask",
    accumulate="accumulate_multi_input",
    aux="with_aux_output",
    img_size="img_size",
)


def kinds_of(config: dict) -> list[str]:
    given = config["input_type"]
    return given if isinstance(given, list) else [given]


def load(folder, name: str, tmp_path):
    "Our network from a file as the original writes it, and its recorded config."
    config = json.loads((folder / f"{name}.config.json").read_text())
    state = torch.load(folder / f"{name}.state_dict.pth", weights_only=True)
    params = {
        theirs: dict(type="builtin", value=config[ours], specified=True)
        for ours, theirs in PARAMETERS.items()
        if ours in config
    }
    params |= dict(use_leaky_relu=dict(type="builtin", value=config.get("leaky", True)))
    file = tmp_path / f"{name}.pth"
    torch.save(dict(state_dict=state, config=dict(params=params)), file)
    return load_released(file), config


def inputs(arrays, config: dict, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    "Image, last answer, and the maps that are filled for this kind of interaction."
    image = torch.from_numpy(arrays["image_u8"]).permute(0, 3, 1, 2) / 255
    before, size, maps = torch.zeros_like(image[:, :1]), image.shape[-2:], []
    if config.get("with_prev_mask", True):
        before = torch.from_numpy(arrays["prev_mask_u8"])[:, None] / 255
    for own in kinds_of(config):
        if not config.get("accumulate", True) and own != kind:
            maps.append(torch.zeros(len(image), 2, *size))
        elif own == "point":
            points, disks = torch.from_numpy(arrays["points"]), config.get("use_disks", True)
            maps.append(click_maps(points, size, config["norm_radius"], disks))
        else:
            maps.append(torch.from_numpy(arrays[own]).float())
    return image, before, torch.cat(maps, dim=1)


def compare(found: Tensor, expected: np.ndarray, what: str) -> None:
    """Within 1e-4 of the spread, or of the value: those of HRNet are far from zero.

    HRNet has the 2e-4 that the fixtures' README allows: our network in float64 misses 1e-4 as well.
    """
    wanted = torch.from_numpy(expected)
    stride = -(-found.shape[-1] // wanted.shape[-1]) if found.ndim == 4 else 1
    thin = found[..., ::stride, ::stride] if found.ndim == 4 else found
    assert thin.shape == wanted.shape, (what, thin.shape, wanted.shape)
    atol = (2e-4 if what.startswith("hrnet") else 1e-4) * wanted.std().item()
    torch.testing.assert_close(thin, wanted, atol=atol, rtol=1e-4, msg=lambda m: f"{what}: {m}")


@torch.no_grad()
def test_answers_equal_the_original(parity, tmp_path):
    folder = parity / "saic_models"
    for file in names(folder, "*.io.npz"):
        name, arrays = file.removesuffix(".io.npz"), np.load(folder / file)
        net, config = load(folder, name, tmp_path)
        kinds = [key.removeprefix("instances_") for key in arrays.files if "instances_" in key]
        kinds = [kind for kind in kinds if "aux" not in kind]
        assert kinds, f"{name}: no answers recorded"
        for kind in kinds:
            outputs = net(*inputs(arrays, config, kind))
            compare(outputs["logits"], arrays[f"instances_{kind}"], f"{name}: {kind}")
            if f"instances_aux_{kind}_s2" in arrays:
                compare(outputs["aux"], arrays[f"instances_aux_{kind}_s2"], f"{name}: aux")


@torch.no_grad()
def test_what_is_inside_equals_the_original(parity, tmp_path):
    folder = parity / "saic_models"
    for file in names(folder, "*.io.npz"):
        name, arrays = file.removesuffix(".io.npz"), np.load(folder / file)
        net, config = load(folder, name, tmp_path)
        parts = {key: part for key in ("maps", "tokens") if (part := getattr(net, key, None))}
        seen = watch(head=net.head, **parts)
        stages = []
        if hasattr(net, "stages"):
            # a stage's map leaves it as normalised tokens
            for stage in net.backbone.stages:
                stage.layer_norm.register_forward_hook(lambda m, i, out, s=stages: s.append(out))
        given = inputs(arrays, config, kinds_of(config)[0])
        net(*given)
        found = {"head_logits": seen["head"]["logits"], "head_aux": seen["head"].get("aux")}
        for i, tokens in enumerate(stages, start=1):
            rows = given[0].shape[-2] // 2 ** (i + 1)
            found[f"stage{i}"] = tokens.mT.unflatten(2, (rows, -1))
        if not config["use_rgb_conv"]:
            found |= dict(coord_features_first_type=net.config.join(*given))
            found |= dict(maps_transform=seen["maps"])
            found |= dict(coord_tokens=seen["tokens"][0]) if "tokens" in seen else {}
        checked = 0
        for key in arrays.files:
            base = key.rpartition("_s")[0] if key.rpartition("_s")[2].isdigit() else key
            if found.get(base) is not None and base != "coord_features_first_type":
                compare(found[base], arrays[key], f"{name}: {key}")
                checked += 1
            elif base in found:
                compare(found[base], arrays[key], f"{name}: {key}")
        assert checked >= 3, f"{name}: only {checked} arrays were recognised"


def test_the_originals_own_files_are_read(parity, tmp_path):
    "Enumerations and all: the network is one of those beside it, or its answers were not recorded."
    folder = parity / "saic_models"
    for file in sorted(folder.glob("original_format*.pth")):
        net = load_released(file)
        assert set(net.config.kinds) <= {"click", "contour", "stroke"}
        assert "Fresh: nothing" in net.origin
        twins = [
            load(folder, n.removesuffix(".config.json"), tmp_path)[0]
            for n in names(folder, "*.config.json")
        ]
        state = net.state_dict()
        same = [
            twin
            for twin in twins
            if twin.state_dict().keys() == state.keys()
            and all(torch.equal(twin.state_dict()[key], state[key]) for key in state)
        ]
        assert same, f"{file}: equals none of the state dicts beside it"
        assert same[0].config == net.config


def test_refuses_what_no_network_reads(parity, tmp_path):
    file = next(iter(names(parity / "saic_models", "*.state_dict.pth")))
    state = torch.load(parity / "saic_models" / file, weights_only=True)
    params = dict(input_type=dict(value=["scribble"]))
    torch.save(dict(state_dict=state, config=dict(params=params)), tmp_path / "x.pth")
    with pytest.raises(ValueError, match="unknown kind of interaction 'scribble'"):
        load_released(tmp_path / "x.pth")
