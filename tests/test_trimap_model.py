"What guards the trimap network: sizes, gradients, precision, plain DDP, the config's refusals."

from dataclasses import FrozenInstanceError, asdict, replace

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from seglab.core import ConfigError
from seglab.losses import trimap_loss
from seglab.trimap.model import PRESETS, DetailBranch, TrimapConfig, TrimapModel, preset

SMALL = TrimapConfig(
    side=64, patch=8, width=16, depth=4, heads=2, pyramid=(8, 8, 8, 8), channels=4, upsample=1
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def pair(height=64, width=64, batch=1):
    "A random picture and a random mask."
    return torch.rand(batch, 3, height, width), torch.rand(batch, 1, height, width) > 0.5


@pytest.mark.parametrize("patch", [8, 14, 16])
@pytest.mark.parametrize("upsample", [1, 2, 4])
@pytest.mark.parametrize("detail", [0, 4])
def test_every_parameter_gets_a_gradient(patch, upsample, detail):
    config = replace(SMALL, side=4 * patch, patch=patch, upsample=upsample, detail=detail)
    net, side = TrimapModel(config), 4 * patch
    logits = net(*pair(side, side, 2))
    grid = side if detail else 16 * upsample
    assert logits.shape == (2, 3, grid, grid)
    logits.square().mean().backward()
    assert all(weight.grad is not None for weight in net.parameters())


@torch.no_grad()
def test_sizes_change_freely_and_wear_nothing_out():
    net = TrimapModel(replace(SMALL, detail=4)).eval()
    image, mask = pair()
    before, state = net(image, mask), {k: v.clone() for k, v in net.state_dict().items()}
    for size in [(32, 96), (128, 64), (16, 16), (64, 64)]:
        assert net(*pair(*size)).shape == (1, 3, *size)
    assert torch.equal(net(image, mask), before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


@torch.no_grad()
def test_the_mask_matters_and_its_scale_is_applied_inside():
    net = TrimapModel(SMALL).eval()
    image, mask = pair()
    assert not torch.allclose(net(image, mask), net(image, ~mask), atol=1e-4)
    torch.testing.assert_close(net(image, mask), net(image, mask.float()))
    weak = TrimapModel(replace(SMALL, mask_scale=1 / 255)).eval()
    weak.load_state_dict(net.state_dict())
    torch.testing.assert_close(weak(image, mask), net(image, mask.float() / 255))


def test_bad_input_is_refused():
    net = TrimapModel(SMALL)
    image, mask = pair()
    with pytest.raises(ValueError, match="mask: axis W must be 64"):
        net(image, mask[..., :56])
    with pytest.raises(ValueError, match="mask: needs the 4 axes"):
        net(image, mask[:, 0])
    with pytest.raises(ValueError, match="the next legal size is 64 × 64"):
        net(image[..., :60], mask[..., :60])


@pytest.mark.parametrize(
    "change",
    [dict(upsample=3), dict(heads=5), dict(side=60), dict(side=8), dict(depth=6), dict(detail=6)],
)
def test_impossible_sizes_are_refused(change):
    with pytest.raises((ConfigError, ValueError), match="|".join(change)):
        TrimapModel(replace(SMALL, **change))


def test_configs_are_frozen_and_survive_json():
    with pytest.raises(FrozenInstanceError):
        SMALL.width = 3
    fields = asdict(SMALL) | dict(pyramid=[8, 8, 8, 8])  # JSON makes a list of a tuple
    assert TrimapConfig(**fields) == SMALL and hash(TrimapConfig(**fields)) == hash(SMALL)


def test_presets_are_the_published_sizes():
    "The published counts, less what nothing runs through, for a mask and three codes."
    with torch.device("meta"):
        counts = {
            n: sum(p.numel() for p in TrimapModel(c).parameters()) for n, c in PRESETS.items()
        }
    for name, published in dict(base_448=98_025_321, huge_448=662_184_601).items():
        c = preset(name)
        # the two tokens' codes, fc_norm, a 1000-way head; two channels of the click embedding
        idle = 4 * c.width + 1000 * (c.width + 1) + 2 * c.width * c.patch**2
        classes = 2 * (c.channels + 1)  # three logits here, one there
        assert counts[name] == published - idle + classes, name
    assert counts["tiny"] < 2.5e6
    with pytest.raises(ConfigError, match="did you mean 'base_448'"):
        preset("base448")


def test_bfloat16_is_close():
    net = TrimapModel(replace(SMALL, detail=4)).eval()
    image, mask = pair()
    with torch.no_grad():
        exact = net(image, mask)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = net(image, mask)
    assert (rough - exact).abs().max() < 0.05 * exact.std() + 0.05


def test_a_fresh_detail_branch_changes_nothing():
    plain, fine = TrimapModel(SMALL).eval(), TrimapModel(replace(SMALL, detail=4)).eval()
    missing, unexpected = fine.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(name.startswith("detail.") for name in missing)
    image, mask = pair()
    coarse = torch.nn.functional.interpolate(plain(image, mask), (64, 64), mode="bilinear")
    torch.testing.assert_close(fine(image, mask), coarse)


def test_the_detail_branch_sees_single_pixels():
    "A line one pixel wide, moved by one pixel within its folded square: the answer moves with it."
    branch = DetailBranch(features=4, channels=8, stride=4)
    features = torch.zeros(2, 4, 8, 8)
    pixels = torch.rand(1, 7, 32, 32).repeat(2, 1, 1, 1)
    pixels[0, :, :, 20], pixels[1, :, :, 21] = 2, 2
    wanted = (pixels[:, :1] == 2).float()
    optimiser = torch.optim.Adam(branch.parameters(), lr=1e-2)
    for _ in range(60):
        loss = (branch(pixels, features)[:, :1] - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    drawn = branch(pixels, features)[:, 0].mean(dim=1)
    assert drawn.argmax(dim=1).tolist() == [20, 21]


def test_one_picture_is_learned_by_heart():
    net = TrimapModel(replace(SMALL, channels=16, detail=8, dropout=0.0))
    image, _ = pair()
    mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    mask[..., 20:44, 16:40] = True
    trimap = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    trimap[..., 16:48, 12:44], trimap[..., 24:40, 20:36] = 1, 2
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(50):
        loss = sum(trimap_loss(net(image, mask), trimap).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    right = (net(image, mask).argmax(dim=1, keepdim=True) == trimap).float().mean()
    assert right > 0.95, right


def test_plain_ddp_needs_no_search_for_idle_parameters(tmp_path):
    "Two steps: DDP complains at the second if a parameter of the first got no gradient."
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        net = DistributedDataParallel(TrimapModel(replace(SMALL, detail=4)))
        for _ in range(2):
            net(*pair()).square().mean().backward()
    finally:
        dist.destroy_process_group()


def test_layers_are_numbered_for_the_optimiser():
    net = TrimapModel(replace(SMALL, detail=4))
    numbers = {name: net.layer_of(name) for name, _ in net.named_parameters()}
    assert set(numbers.values()) == set(range(6))
    last = {name.split(".")[0] for name, number in numbers.items() if number == 5}
    assert last == {"backbone", "neck", "head", "detail"}
    # the original program left the embedding of clicks and masks out of every group
    assert numbers["backbone.embed_extra.proj.weight"] == 5
