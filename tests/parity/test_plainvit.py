"Our click network against numbers that the original program produced."

import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seglab.core import IGNORE
from seglab.interact.data import click_maps
from seglab.interact.model import SimpleClick, SimpleClickConfig
from seglab.layers import Normalise
from seglab.losses import normalized_focal_loss
from seglab.pyramid import rename_original

DEFAULTS = dict(num_classes=1, use_disks=True, with_prev_mask=True, norm_radius=5)


def config_of(recorded: dict) -> SimpleClickConfig:
    "Our config for the original's parameters."
    c = DEFAULTS | recorded
    (height, width), (patch, across) = c["img_size"], c["patch_size"]
    assert patch == across, "patches are square in this library"
    return SimpleClickConfig(
        side=height,
        across=width,
        radius=c["norm_radius"],
        disks=c["use_disks"],
        previous=c["with_prev_mask"],
        patch=patch,
        width=c["embed_dim"],
        depth=c["depth"],
        heads=c["num_heads"],
        pyramid=c["out_dims"],
        channels=c["channels"],
        upsample=int(c["upsample"][1:]),
        # one window of any size is what the random split amounts to
        window=10**9 if c.get("random_split") else 224,
        classes=c["num_classes"],
    )


class ClickNetwork(SimpleClick):
    "Our network, asked as the original is: clicks in a tensor, answers under its names."

    def __init__(self, recorded: dict):
        super().__init__(config_of(recorded))
        self.seen = watch(backbone_map=self.backbone, fpn=self.neck, head_logits=self.head)

    def forward(self, image: Tensor, before: Tensor, points: Tensor) -> dict:
        maps = click_maps(points, image.shape[-2:], self.config.radius, self.config.disks)
        outputs = dict(instances=super().forward(image, before, maps)["logits"])
        levels = {f"fpn{i}": level for i, level in enumerate(self.seen["fpn"])}
        return outputs | self.seen | levels


def load(folder: Path, name: str) -> ClickNetwork:
    "The network of one configuration with the original's weights."
    config = json.loads((folder / f"{name}.config.json").read_text())
    net = ClickNetwork(config).eval()
    state = torch.load(folder / f"{name}.state_dict.pth", weights_only=True)
    renamed, left_out = rename_original(state, upsample=int(config["upsample"][1:]))
    net.load_state_dict(renamed, strict=True)
    assert all("up_conv" in n or n.startswith("backbone.") for n in left_out), left_out
    return net


def pictures(arrays) -> tuple[Tensor, Tensor, Tensor]:
    "Image, previous mask (zeros where there is none) and points of a fixture."
    image = torch.from_numpy(arrays["image_u8"]).permute(0, 3, 1, 2) / 255
    before = torch.zeros_like(image[:, :1])
    if "prev_mask_u8" in arrays and arrays["prev_mask_u8"].size:
        before = torch.from_numpy(arrays["prev_mask_u8"])[:, None] / 255
    return image, before, torch.from_numpy(arrays["points"])


def thinned(found: Tensor, expected: np.ndarray, stride: int) -> Tensor:
    "Every K-th row and column, as the fixtures keep them."
    thin = found[..., ::stride, ::stride]
    assert tuple(thin.shape) == expected.shape, (tuple(thin.shape), expected.shape)
    return thin


def compare(found: Tensor, expected: np.ndarray, loose: bool, what: str) -> None:
    "Within 2e-4 of the spread; 1e-4 where chunks of a shuffled sequence change the order of sums."
    wanted = torch.from_numpy(expected)
    tolerance = 1e-4 if loose else max(2e-4 * wanted.std().item(), 1e-6)
    torch.testing.assert_close(
        found, wanted, atol=tolerance, rtol=1e-4, msg=lambda m: f"{what}: {m}"
    )


def check(outputs: dict, arrays, loose: bool, where: str) -> int:
    "Compare whatever the fixture holds; return how many arrays that was."
    seen = 0
    for key in arrays.files if hasattr(arrays, "files") else arrays:
        base, _, suffix = key.rpartition("_")
        stride = suffix.removeprefix("stride").removeprefix("s")
        if base in outputs and stride.isdigit():
            found = thinned(outputs[base], arrays[key], int(stride))
        elif key in outputs:
            found = outputs[key]
        elif key == "instances_crop_100_132":
            found = outputs["instances"][:, :, 100:132, 100:132]
        else:
            continue
        compare(found, arrays[key], loose, f"{where}: {key}")
        seen += 1
    return seen


def watch(**modules: nn.Module) -> dict[str, Tensor]:
    "A dict that holds, after the next forward pass, what each module returned."
    seen: dict[str, Tensor] = {}
    for key, module in modules.items():
        module.register_forward_hook(lambda m, i, out, key=key: seen.update({key: out}))
    return seen


def names(folder: Path, pattern: str) -> list[str]:
    "What comes before the pattern's fixed end, for every file there is."
    found = sorted(path.name for path in folder.glob(pattern))
    if not found:
        pytest.skip(f"no {pattern} in {folder}")
    return found


@torch.no_grad()
def test_forward_equals_the_original(parity):
    folder = parity / "plainvit"
    for file in names(folder, "*.io.npz"):
        name = file.removesuffix(".io.npz")
        net, arrays = load(folder, name), np.load(folder / file)
        image, before, points = pictures(arrays)
        tokens = watch(
            patch_tokens=net.backbone.patch_embed,
            coord_tokens=net.backbone.embed_extra,
            **{f"block{i}_out": block for i, block in enumerate(net.backbone.blocks)},
        )
        outputs = net(image, before, points) | tokens
        seen = check(outputs, arrays, net.config.window > 224, name)
        assert seen >= 5, f"{name}: only {seen} arrays were recognised"


@torch.no_grad()
def test_other_sizes_equal_the_original_and_wear_nothing_out(parity):
    folder = parity / "plainvit"
    for file in names(folder, "*.infer_*.npz"):
        name = file.split(".")[0]
        net, arrays = load(folder, name), np.load(folder / file)
        image, before, points = pictures(arrays)
        stored = net.backbone.pos_embed.clone()
        for _ in range(2):  # the original raises at the second call
            seen = check(net(image, before, points), arrays, False, file)
        assert seen == 2, f"{file}: {seen} arrays were recognised"
        assert torch.equal(net.backbone.pos_embed, stored), "the stored table must not change"


def test_gradients_equal_the_original(parity):
    folder = parity / "plainvit"
    for file in names(folder, "*.grads.json"):
        name = file.removesuffix(".grads.json")
        net, expected = load(folder, name), json.loads((folder / file).read_text())
        image, before, points = pictures(np.load(folder / f"{name}.io.npz"))
        arrays = np.load(folder / f"{name}.grads.npz")
        truth = torch.from_numpy(arrays["gt"]).int()
        gt = truth.masked_fill(truth < 0, IGNORE).to(torch.uint8)
        logits = net(image, before, points)["instances"]
        loss = normalized_focal_loss(logits, gt, alpha=0.5, gamma=2)
        np.testing.assert_allclose(loss.tolist(), expected["loss_per_sample"], rtol=1e-5)
        loss.mean().backward()
        original = {
            key.replace("backbone.embed_extra", "patch_embed_coords"): weight.grad
            for key, weight in net.named_parameters()
        }
        assert set(original) == set(expected["grad_l2"]), "same parameters get a gradient"
        assert all(grad is not None for grad in original.values())
        for key, grad in original.items():
            np.testing.assert_allclose(
                grad.norm(), expected["grad_l2"][key], rtol=2e-4, err_msg=key
            )
            if key in arrays:
                wanted = torch.from_numpy(arrays[key])
                atol = 1e-4 * wanted.abs().max().item() + 1e-8
                torch.testing.assert_close(grad, wanted, atol=atol, rtol=1e-3, msg=key)


@torch.no_grad()
def test_published_sizes_have_the_published_parts(parity):
    folder = parity / "full_models"
    for file in names(folder, "vit_*.json"):
        expected = json.loads((folder / file).read_text())
        config = expected["config"]
        shapes = expected["state_dict_shapes"]
        patch = config["patch"]
        full = config | dict(img_size=(448, 448), patch_size=(patch, patch))
        with torch.device("meta"):
            net = ClickNetwork(full)
            state = {name: torch.empty(shape) for name, shape in shapes.items()}
        renamed, left_out = rename_original(state, int(config["upsample"][1:]))
        ours = {name: weight.shape for name, weight in net.state_dict().items()}
        assert {name: tensor.shape for name, tensor in renamed.items()} == ours
        # what the original counts beyond ours: idle parts, and the code of the class token
        idle = sum(state[name].numel() for name in left_out) + config["embed_dim"]
        assert sum(p.numel() for p in net.parameters()) + idle == expected["params"], file


def name_seeded(name: str, shape: list[int], xor_seed: int) -> Tensor:
    "The weight that the recipe of the fixtures gives to a name."
    random = np.random.RandomState((zlib.crc32(name.encode()) ^ xor_seed) & 0xFFFFFFFF)
    if name.endswith("running_var"):
        return torch.from_numpy(random.uniform(0.5, 1.5, shape).astype(np.float32))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    values = random.standard_normal(shape)
    if name.endswith(("pos_embed", "cls_token")):
        values = 0.02 * values
    elif name.endswith("running_mean"):
        values = 0.1 * values
    elif len(shape) >= 2:
        values = values / np.sqrt(np.prod(shape[1:]))
    elif name.endswith("scale"):
        values = 0.05 + 0.01 * values
    elif name.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values = 0.05 * values
    return torch.from_numpy(values.astype(np.float32))


@torch.no_grad()
def test_published_sizes_answer_as_the_original(parity):
    "With weights drawn from their names; sizes above $SEGLAB_PARITY_PARAMETERS only take longer."
    limit = float(os.environ.get("SEGLAB_PARITY_PARAMETERS", 5e6))
    folder = parity / "full_models"
    recorded = {f: json.loads((folder / f).read_text()) for f in names(folder, "vit_*.json")}
    arrays = np.load(folder / "input_448.npz")
    image, before, points = pictures(
        {k: arrays[k][None] for k in arrays} | dict(points=arrays["points"])
    )
    for file, expected in recorded.items():
        if expected["params"] > limit:
            continue
        config, shapes = expected["config"], expected["state_dict_shapes"]
        size = dict(img_size=(448, 448), patch_size=(config["patch"],) * 2)
        with torch.device("meta"):
            net = ClickNetwork(config | size).eval()
        idle = rename_original(
            {n: torch.empty(0, 1, 1) for n in shapes}, int(config["upsample"][1:])
        )[1]
        state = {
            name: name_seeded(name, shape, expected["xor_seed"])
            for name, shape in shapes.items()
            if name not in idle
        }
        renamed, _ = rename_original(state, int(config["upsample"][1:]))
        net.load_state_dict(renamed, strict=True, assign=True)
        net.normalise = Normalise()  # its constants are in no checkpoint
        outputs = net(image, before, points)
        wanted = np.load(folder / file.replace(".json", ".npz"))
        backbone = outputs["backbone_map"][:, :16, ::2, ::2]
        compare(backbone, wanted["backbone_map_first16ch"], False, f"{file}: backbone")
        instances = outputs["instances"][..., ::8, ::8]
        compare(instances, wanted["instances_stride8"], False, f"{file}: instances")
