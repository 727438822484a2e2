"SegFormer for clicks, contours and strokes."

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seglab.checkpoints import load, save
from seglab.core import ConfigError
from seglab.interact.segformer import (
    ReadsMixed,
    Scale,
    SegformerClick,
    SegformerClickConfig,
    SegformerClickHead,
    embed_maps,
)

TINY = dict(widths=(8, 8, 10, 16), depths=(1, 2, 1, 1), decoder=12)


def given(config, height: int, width: int):
    "Random pictures, last answers and sparse maps, two of each."
    sizes = (2, 3, height, width), (2, 1, height, width)
    maps = (torch.rand(2, 2 * len(config.kinds), height, width) > 0.9).float()
    return *(torch.rand(size) for size in sizes), maps


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(auxiliary=True, kinds=("click",)),
        dict(recolour=True, leaky=False, previous=False),
    ],
    ids=str,
)
def test_every_variant_runs_learns_and_is_saved(changes, tmp_path):
    torch.manual_seed(0)
    config = SegformerClickConfig(**TINY, **changes)
    net = SegformerClick(config)
    inputs = given(config, 64, 50)
    outputs = net(*inputs)
    assert set(outputs) == ({"logits", "aux"} if config.auxiliary else {"logits"})
    assert all(x.shape == inputs[1].shape for x in outputs.values())
    sum(x.square().mean() for x in outputs.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    save(net, tmp_path / "x.safetensors")
    again = load(tmp_path / "x.safetensors")
    assert again.config == config
    with torch.no_grad():
        torch.testing.assert_close(again(*inputs), net.eval()(*inputs))


def test_merged_head_equals_the_plain_one_with_its_gradients():
    torch.manual_seed(0)
    head = SegformerClickHead(SegformerClickConfig(**TINY, dropout=0.0)).double()
    sizes = dict(enumerate([(9, 13), (5, 7), (3, 4), (2, 2)]))
    maps = [
        torch.randn(2, TINY["widths"][i], *size, dtype=torch.float64) for i, size in sizes.items()
    ]
    stack = [
        F.interpolate(
            project(x.movedim(1, -1)).movedim(-1, 1), (9, 13), mode="bilinear", align_corners=False
        )
        for x, project in zip(maps, head.project, strict=True)
    ]
    plain = F.conv2d(torch.cat(stack, dim=1), head.mix.weight[..., None, None])
    plain = head.classify(F.relu(head.norm(plain)))
    ours = head(maps)["logits"]
    torch.testing.assert_close(ours, plain)
    parameters = [*head.parameters()]
    for a, b in zip(
        torch.autograd.grad(ours.square().sum(), parameters),
        torch.autograd.grad(plain.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_maps_whisper_at_first_and_their_sign_does_not_matter():
    scale = Scale()
    assert scale(torch.ones(1)).item() == pytest.approx(0.05)
    nn.init.constant_(scale.scale, -0.5)
    assert scale(torch.ones(1)).item() == 0.5
    stem = embed_maps(ReadsMixed(kinds=("click",), leaky=False), stride=2)
    assert isinstance(stem[1], nn.ReLU) and stem(torch.zeros(1, 3, 9, 9)).shape == (1, 64, 5, 5)


def test_small_pictures_and_rates():
    net = SegformerClick(SegformerClickConfig(**TINY)).eval()
    assert net.round_up_side(7) == 32 and net.round_up_side(45) == 45
    with torch.no_grad():
        assert net(*given(net.config, 32, 32))["logits"].shape == (2, 1, 32, 32)
    slow = [name for name, _ in net.named_parameters() if net.rate_of(name) == 0.1]
    assert {name.split(".")[0] for name in slow} == {"backbone", "head"}


def test_three_stages_are_refused():
    with pytest.raises(ConfigError, match="need a number for each of 4 stages"):
        SegformerClickConfig(widths=(8, 8, 8))
