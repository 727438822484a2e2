"A training step of the original: the clicks of its robot, its loss, gradients and Adam with layer decay."

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from seglab.core import IGNORE
from seglab.losses import normalized_focal_loss
from seglab.pyramid import layer_number, rename_original
from seglab.rates import parameter_groups

from .test_plainvit import ClickNetwork

FORGOTTEN = "patch_embed_coords."  # its click embedding: in no group of the optimiser


def original_name(name: str) -> str:
    return name.replace("backbone.embed_extra", "patch_embed_coords")


def rounds(first: Tensor, last: Tensor) -> list[Tensor]:
    """The clicks before every round, from those at the start and those at the end.

    The robot's k-th click stands in slot N - k (positive) or 2 N - k (negative), counted from 1.
    """
    slots, steps = first.shape[1] // 2, [first]
    changed = (first != last).any(dim=2)
    for k in range(1, slots + 1):
        places = torch.zeros_like(changed)
        places[:, [slots - k, 2 * slots - k]] = True
        if not (changed & places).any():
            break
        steps.append(torch.where((changed & places)[..., None], last, steps[-1]))
    assert torch.equal(steps[-1], last), "clicks changed outside the slots the robot writes to"
    return steps


def network(folder, reference: dict) -> ClickNetwork:
    net = ClickNetwork(reference["model"])
    state = torch.load(folder / "state_dict.pth", weights_only=True)
    renamed, _ = rename_original(state, upsample=int(reference["model"]["upsample"][1:]))
    net.load_state_dict(renamed)
    return net.eval()  # the step was recorded without dropout


def forward(net: ClickNetwork, image: Tensor, steps: list[Tensor], dropped: Tensor) -> Tensor:
    "Logits of the last round; the earlier ones only make its previous mask, which some forget."
    before = torch.zeros_like(image[:, :1])
    with torch.no_grad():
        for points in steps[:-1]:
            before = net(image, before, points)["instances"].sigmoid()
    return net(image, before * ~dropped.view(-1, 1, 1, 1), steps[-1])["instances"]


def who_forgot(net: ClickNetwork, image: Tensor, steps: list[Tensor], wanted: Tensor) -> Tensor:
    "(B,) which samples were drawn to lose their previous mask: those that fit only without it."
    with torch.no_grad():
        errors = [
            (forward(net, image, steps, drop)[..., ::8, ::8] - wanted).abs().amax((1, 2, 3))
            for drop in (torch.zeros(len(image), dtype=bool), torch.ones(len(image), dtype=bool))
        ]
    return errors[1] < errors[0]


def adam_step(net: ClickNetwork, rate: float, depth: int) -> None:
    "Our groups, with the original's habit of decaying biases and norms outside the backbone."
    groups = parameter_groups(
        net.named_parameters(), rate, 0.02, 0.75, lambda name: layer_number(name, depth)
    )
    alone = [
        dict(
            params=[parameter],
            lr=group["lr"],
            weight_decay=group["weight_decay"] if name.startswith("backbone.") else 0.02,
        )
        for group in groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    ]
    torch.optim.Adam(alone).step()


def test_train_step_equals_the_original(parity):
    folder = parity / "train_step"
    reference = json.loads((folder / "train_step.json").read_text())
    arrays = np.load(folder / "train_step.npz")
    image = torch.from_numpy(arrays["image_u8"]).permute(0, 3, 1, 2) / 255
    truth = torch.from_numpy(arrays["gt"]).int()
    truth = truth.masked_fill(truth < 0, IGNORE).to(torch.uint8)
    first = torch.from_numpy(arrays["points"])
    state = torch.load(folder / "state_dict.pth", weights_only=True)
    rate, kept = reference["lr"], {}
    for run in reference["runs"]:
        net = network(folder, reference)
        start = {original_name(n): p.detach().clone() for n, p in net.named_parameters()}
        steps = rounds(first, torch.from_numpy(arrays[f"r{run['run']}_points_out"]))
        assert len(steps) - 1 == run["num_iters_drawn"]
        wanted = torch.from_numpy(arrays[f"r{run['run']}_logits_s8"])
        dropped = torch.zeros(len(image), dtype=torch.bool)
        if run["prev_mask_drop_prob"]:
            dropped = who_forgot(net, image, steps, wanted)
        logits = forward(net, image, steps, dropped)
        torch.testing.assert_close(logits.detach()[..., ::8, ::8], wanted, atol=1e-4, rtol=1e-4)
        loss = normalized_focal_loss(logits, truth, alpha=0.5, gamma=2).mean()
        assert loss.item() == pytest.approx(run["loss"], rel=1e-5)
        loss.backward()
        gradients = {original_name(n): p.grad for n, p in net.named_parameters()}
        assert set(gradients) == set(run["grad_norms"]), "the same parameters get a gradient"
        for name, gradient in gradients.items():
            if name.startswith(FORGOTTEN):  # never reset by their optimiser: it piles up
                gradient = kept[name] = kept.get(name, 0) + gradient
            assert gradient.norm().item() == pytest.approx(run["grad_norms"][name], rel=1e-3), name
        adam_step(net, rate, reference["model"]["depth"])
        for own, parameter in net.named_parameters():
            name = original_name(own)
            ours = (parameter - start[name]).double().sum().item() / rate
            theirs = run["param_sums_after_adam_step"][name] - state[name].double().sum().item()
            if name.startswith(FORGOTTEN):
                assert abs(theirs) < 1e-9 and not run["patch_embed_coords_changed"]
                assert (parameter - start[name]).abs().amax() > 0.1 * rate, "ours learns"
                continue
            # a key's bias has no gradient but rounding, and Adam's first step is its sign
            close = 0.1 if name.endswith("qkv.bias") else 1e-3
            assert ours == pytest.approx(theirs / rate, abs=close * parameter.numel() ** 0.5), name
