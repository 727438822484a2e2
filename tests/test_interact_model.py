"The click network of SimpleClick, and what all click networks read."

import pytest
import torch

from seglab.checkpoints import load, save
from seglab.core import ConfigError
from seglab.interact.model import Reads, SimpleClick, SimpleClickConfig, full_size
from seglab.interact.networks import NETWORKS, PRESETS, build, preset

SMALL = dict(side=64, patch=8, width=16, depth=4, heads=2, pyramid=(8, 8, 8, 8), window=32)


def given(config: Reads, height=64, width=64, batch=2):
    torch.manual_seed(0)
    sizes = (batch, 3, height, width), (batch, 1, height, width)
    maps = (torch.rand(batch, 2 * len(config.kinds), height, width) > 0.9).float()
    return *(torch.rand(size) for size in sizes), maps


@pytest.mark.parametrize(
    "changes",
    [
        dict(channels=8),
        dict(channels=4, upsample=2, kinds=("click", "stroke")),
        dict(channels=4, upsample=4, across=32, binary=True),
        dict(channels=8, previous=False, disks=False),
    ],
    ids=str,
)
def test_every_variant_runs_learns_and_is_saved(changes, tmp_path):
    config = SimpleClickConfig(**SMALL | changes)
    net = SimpleClick(config)
    inputs = given(config, 64, config.across or 64)
    logits = net(*inputs)["logits"]
    assert logits.shape == inputs[1].shape and logits.dtype == torch.float32
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    save(net, tmp_path / "x.safetensors")
    again = load(tmp_path / "x.safetensors")
    assert again.config == config
    with torch.no_grad():
        torch.testing.assert_close(again(*inputs), net.eval()(*inputs))


def test_the_last_answer_is_read_or_not():
    for previous in (True, False):
        net = SimpleClick(SimpleClickConfig(**SMALL, channels=8, previous=previous)).eval()
        image, before, maps = given(net.config)
        with torch.no_grad():
            changed = net(image, before, maps)["logits"] != net(image, 1 - before, maps)["logits"]
        assert changed.any().item() == previous


def test_a_binary_last_answer_is_thresholded():
    image, before, maps = given(Reads(binary=True))
    joined = Reads(binary=True).join(image, before, maps)
    assert torch.equal(joined[:, :1], (before > 0.5).float()) and torch.equal(joined[:, 1:], maps)


def test_other_sizes_work_and_illegal_ones_name_the_next():
    net = SimpleClick(SimpleClickConfig(**SMALL, channels=8)).eval()
    with torch.no_grad():
        assert net(*given(net.config, 32, 96))["logits"].shape[-2:] == (32, 96)
    with pytest.raises(ValueError, match="the next legal size is 40 × 64"):
        net(*given(net.config, 33, 64))
    assert net.round_up_side(33) == 40


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(side=60), "the next legal side is 64"),
        (dict(across=60), "the next legal side is 64"),
        (dict(upsample=3), "must be 1, 2 or 4"),
        (dict(heads=3), "3 cannot share 16"),
        (dict(kinds=()), "needs a kind"),
        (dict(radius=0), "radius > 0"),
        (dict(kinds=("scribble",)), "unknown kind of interaction 'scribble'"),
    ],
)
def test_impossible_sizes_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        SimpleClickConfig(**SMALL | changes)


def test_maps_of_another_shape_are_refused():
    net = SimpleClick(SimpleClickConfig(**SMALL))
    image, before, maps = given(net.config)
    with pytest.raises(ValueError, match="maps: axis 2 must be 2, got shape"):
        net(image, before, maps.repeat(1, 3, 1, 1))
    with pytest.raises(ValueError, match="before: axis 1 must be 1"):
        net(image, maps, maps)


def test_half_precision_answers_in_float32():
    net = SimpleClick(SimpleClickConfig(**SMALL, channels=8)).eval()
    inputs = given(net.config)
    with torch.no_grad():
        full = net(*inputs)["logits"]
        for part in (net.backbone, net.neck, net.head):
            part.bfloat16()
        half = net(*inputs)["logits"]
    assert half.dtype == torch.float32 and (half - full).abs().max() < 0.1


def test_logits_are_enlarged_corner_on_corner():
    logits, image = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), torch.zeros(1, 3, 3, 3)
    assert full_size(logits, image)[0, 0].tolist() == [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_built(name):
    with torch.device("meta"):
        net = build(preset(name))
    assert type(net) is NETWORKS[type(preset(name))] and net.config == preset(name)
    assert net.round_up_side(net.config.side) == net.config.side
    rate_of = getattr(net, "rate_of", lambda name: 1.0)
    assert all(0 < rate_of(key) <= 1 for key, _ in net.named_parameters())


def test_names_that_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'hrnet18'"):
        preset("hrnet_18")
    with pytest.raises(TypeError, match="no network has a Reads; known are"):
        build(Reads())
