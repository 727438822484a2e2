"HRNet for clicks, contours and strokes."

import pytest
import torch
from torch import nn

from seglab.checkpoints import load, save
from seglab.interact.hrnet import Exchange, HRNetClick, HRNetClickConfig, RegionHead, enlarge

TINY = dict(width=4, blocks=1, modules=(1, 1, 1), region=6)


def given(config, height: int, width: int):
    "Random pictures, last answers and sparse maps, two of each."
    sizes = (2, 3, height, width), (2, 1, height, width)
    maps = (torch.rand(2, 2 * len(config.kinds), height, width) > 0.9).float()
    return *(torch.rand(size) for size in sizes), maps


@pytest.mark.parametrize(
    "changes", [dict(), dict(kinds=("stroke",), previous=False), dict(recolour=True)], ids=str
)
def test_every_variant_runs_learns_and_is_saved(changes, tmp_path):
    torch.manual_seed(0)
    config = HRNetClickConfig(**TINY, **changes)
    net = HRNetClick(config)
    inputs = given(config, 64, 50)
    outputs = net(*inputs)
    assert {name: x.shape for name, x in outputs.items()} == dict.fromkeys(
        ("logits", "aux"), inputs[1].shape
    )
    sum(x.square().mean() for x in outputs.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    save(net, tmp_path / "x.safetensors")
    again = load(tmp_path / "x.safetensors")
    assert again.config == config
    with torch.no_grad():
        torch.testing.assert_close(again(*inputs), net.eval()(*inputs))


def plain_head(head: RegionHead, features):
    "With the attention of every pixel to the one region, and everything stacked."
    guess, wide = head.guess(features), head.squeeze(features)
    shares = guess.flatten(2).softmax(dim=-1)
    region = head.narrow((shares @ wide.flatten(2).mT).mT[..., None])  # (B, R, 1, 1)
    query = torch.randn(len(wide), wide[0, 0].numel(), region.shape[1], dtype=wide.dtype)
    table = (query @ region.flatten(2)).softmax(dim=-1)  # one region: all ones
    context = (table @ region.flatten(2).mT).mT.unflatten(2, wide.shape[-2:])
    return head.classify(head.dropout(head.mix(torch.cat([head.widen(context), wide], dim=1))))


@pytest.mark.parametrize("training", [True, False])
def test_without_attention_the_head_is_the_same_statistics_included(training):
    torch.manual_seed(0)
    heads = [RegionHead(20, 6, dropout=0.0).double() for _ in range(2)]
    heads[1].load_state_dict(heads[0].state_dict())
    features = torch.randn(3, 20, 7, 9, dtype=torch.float64)
    for head in heads:
        head.train(training)
    ours, plain = heads[0](features)["logits"], plain_head(heads[1], features)
    # the mean of the region is taken in 32 bits
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    for (name, a), b in zip(heads[0].named_buffers(), heads[1].buffers(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5, msg=name)


def test_every_resolution_hears_every_other():
    torch.manual_seed(0)
    widths, sizes = (4, 8, 16), ((9, 13), (5, 7), (3, 4))
    exchange = Exchange(widths, blocks=1).eval()
    maps = [
        torch.randn(1, w, *size, requires_grad=True) for w, size in zip(widths, sizes, strict=True)
    ]
    for result, x in zip(exchange(maps), maps, strict=True):
        assert result.shape == x.shape
        grads = torch.autograd.grad(result.sum(), maps, retain_graph=True)
        assert all(grad.any() for grad in grads)
    assert enlarge(maps[0], maps[0]) is maps[0]


def test_any_size_from_32_pixels():
    net = HRNetClick(HRNetClickConfig(**TINY)).eval()
    assert net.round_up_side(5) == 32 and net.round_up_side(33) == 33
    with torch.no_grad():
        assert net(*given(net.config, 33, 47))["logits"].shape == (2, 1, 33, 47)


def test_what_is_pretrained_learns_slowly():
    net = HRNetClick(HRNetClickConfig(**TINY))
    rates = {name: net.rate_of(name) for name, _ in net.named_parameters()}
    assert rates["maps.3.scale"] == rates["head.squeeze.0.weight"] == rates["head.mix.1.bias"] == 1
    assert rates["backbone.conv1.weight"] == rates["head.classify.bias"] == 0.1
    assert isinstance(net.head.dropout, nn.Dropout2d)
