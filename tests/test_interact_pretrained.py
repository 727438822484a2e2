"Files of SimpleClick and of Samsung's program become our networks, or are refused in words."

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from seglab.checkpoints import CheckpointError, StandIn, read_header, save
from seglab.foreign import (
    SIGNS,
    STAND_INS,
    Kind,
    block_count,
    first_bytes,
    read_foreign,
    square_grid,
    stored,
    take_over,
)
from seglab.interact.hrnet import HRNetClick, HRNetClickConfig
from seglab.interact.model import SimpleClick, SimpleClickConfig
from seglab.interact.networks import build, preset
from seglab.interact.pretrained import load_released, open_network, start_from
from seglab.interact.renaming import HRNET_NAMES, SEGFORMER_NAMES, rename_hrnet, rename_segformer
from seglab.interact.segformer import SegformerClick, SegformerClickConfig

VIT = SimpleClickConfig(
    side=64, patch=8, width=24, depth=4, heads=3, pyramid=(4, 6, 8, 48), channels=8
)
SEG = SegformerClickConfig(widths=(8, 8, 10, 16), depths=(1, 2, 1, 1), decoder=12, auxiliary=True)
HR = HRNetClickConfig(width=4, blocks=1, modules=(1, 1, 2), region=6)
NETS = dict(simpleclick=(SimpleClick, VIT), segformer=(SegformerClick, SEG), hrnet=(HRNetClick, HR))


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    make, config = NETS[kind]
    net = make(config).eval()
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.2)
    return net


def back(name: str, table: list[tuple[str, str]]) -> str:
    for theirs, ours in reversed(table):
        name = name.replace(ours, theirs)
    return name


def as_theirs(net: nn.Module) -> dict[str, Tensor]:
    "The state dict as the original programs would have written it."
    state = dict(net.state_dict())
    if isinstance(net, SimpleClick):
        codes = state["backbone.pos_embed"]
        state["backbone.pos_embed"] = torch.cat([torch.zeros_like(codes[:, :1]), codes], dim=1)
        state["backbone.cls_token"] = torch.zeros_like(codes[:, :1])
        return {
            name.replace("backbone.embed_extra", "patch_embed_coords"): x
            for name, x in state.items()
        }
    if isinstance(net, HRNetClick):
        idle = "feature_extractor.ocr_distri_head.object_context_block.f_pixel.0.weight"
        return {back(name, HRNET_NAMES): x for name, x in state.items()} | {idle: torch.ones(1)}
    merged = {}
    for name, x in state.items():
        if ".k_proj." in name:
            name, x = (
                name.replace("k_proj", "kv"),
                torch.cat([x, state[name.replace("k_proj", "v_proj")]]),
            )
        elif name == "head.mix.weight":
            x = torch.cat(x.chunk(4, dim=1)[::-1], dim=1)[..., None, None]
        if ".v_proj." not in name:
            merged[back(name, SEGFORMER_NAMES)] = x
    return merged


def write(path: Path, net: nn.Module, **said) -> Path:
    "A checkpoint with a config beside the weights."
    if isinstance(net, SimpleClick):
        c = net.config
        said |= dict(backbone_params=dict(img_size=(c.side, c.side), num_heads=c.heads))
    params = {name: dict(type="builtin", value=value) for name, value in said.items()}
    torch.save(dict(state_dict=as_theirs(net), config=dict(params=params)), path)
    return path


def answers(net: nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(1)
    image, before = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    maps = (torch.rand(2, 2 * len(net.config.kinds), 64, 64) > 0.9).float()
    with torch.no_grad():
        return net(image, before, maps)


@pytest.mark.parametrize("kind", NETS)
def test_a_released_file_gives_the_same_answers(kind, tmp_path):
    net = network(kind)
    found = load_released(write(tmp_path / "x.pth", net))
    assert type(found) is type(net) and not found.training
    for key, value in answers(net).items():
        torch.testing.assert_close(answers(found)[key], value)
    assert "Fresh: nothing" in found.origin and "\n" not in found.origin
    save(found, tmp_path / "own.safetensors", notes=dict(origin=found.origin))
    assert read_header(tmp_path / "own.safetensors")["notes"]["origin"] == found.origin


@pytest.mark.parametrize("kind", ["segformer", "hrnet"])
def test_the_config_beside_the_weights_is_obeyed(kind, tmp_path):
    said = dict(norm_radius=40, use_disks=False, accumulate_multi_input=False, img_size=(96, 80))
    said |= dict(use_leaky_relu=False, binary_prev_mask=True)
    said["input_type"] = ["point", "contour", "stroke"]  # enumerations are in tests/parity
    config = load_released(write(tmp_path / "x.pth", network(kind), **said)).config
    assert config.kinds == ("click", "contour", "stroke")
    assert (config.radius, config.disks, config.accumulate) == (40, False, False)
    assert (config.side, config.leaky, config.binary) == (96, False, True)


def test_without_a_config_the_released_ones_are_assumed(tmp_path):
    for kind in ("segformer", "hrnet"):
        torch.save(as_theirs(network(kind)), tmp_path / "x.pth")
        config = load_released(tmp_path / "x.pth").config
        assert (config.radius, config.disks, config.accumulate, config.leaky) == (
            3,
            True,
            True,
            True,
        )
    torch.save(dict(state_dict=as_theirs(network("simpleclick"))), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="no config says how many heads share its 24"):
        load_released(tmp_path / "x.pth")
    assert load_released(tmp_path / "x.pth", heads=3).config == VIT


@pytest.mark.parametrize("kind", NETS)
def test_keys_that_do_not_fit_are_listed(kind, tmp_path):
    state = as_theirs(network(kind))
    name = next(n for n in state if re.search(r"(conv_seg|linear_pred|cls_head)\.bias", n))
    state[name.replace("bias", "surprise")] = state.pop(name)
    content = dict(backbone_params=dict(value=dict(num_heads=3, img_size=(64, 64))))
    torch.save(dict(state_dict=state, config=dict(params=content)), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="1 missing: head.*bias; 1 unexpected: .*surprise"):
        load_released(tmp_path / "x.pth")
    state = {n: x for n, x in state.items() if not re.search(r"linear_fuse|f_down|fusion_conv", n)}
    torch.save(dict(state_dict=state, config=dict(params=content)), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="1 missing: .*(linear_fuse|f_down|fusion_conv)"):
        load_released(tmp_path / "x.pth")


def test_the_wrong_file_is_called_what_it_is(tmp_path):
    one = torch.ones(1)
    weights = {
        "HRNet weights of a backbone": {"conv1.weight": one, "stage2.0.branches.0.weight": one},
        "SegFormer .MiT. weights": dict(state_dict={"backbone.patch_embed1.proj.weight": one}),
        "a plain vision transformer such as MAE's": dict(model={"patch_embed.proj.weight": one}),
        "a checkpoint of the trimap program": {"patch_embed_mask.proj.weight": one},
        "its names are first.bias": {"first.bias": one},
        "found no tensors by name": [one, one],
    }
    for words, content in weights.items():
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match=f"x.pth: wanted a SimpleClick.*{words}"):
            load_released(tmp_path / "x.pth")
    (tmp_path / "page.pth").write_text("<html>sign in")
    with pytest.raises(CheckpointError, match="page.pth: .*text that begins '<html>"):
        load_released(tmp_path / "page.pth")
    with pytest.raises(FileNotFoundError):
        load_released(tmp_path / "nowhere.pth")


def backbone_file(path: Path, kind: str, prefix: str = "") -> tuple[Path, nn.Module]:
    "Weights of a backbone alone, with some that nobody needs."
    net = network(kind)
    strip, extra = r"^feature_extractor\.(backbone\.)?", {"head.weight": torch.ones(3)}
    state = {re.sub(strip, "", name): x for name, x in as_theirs(net).items()}
    known = dict(segformer=r"(patch_embed|block|norm)\d\.", hrnet=r"(conv\d|bn|layer|trans|stage)")
    if kind == "simpleclick":
        state = {n.removeprefix("backbone."): x for n, x in state.items() if "backbone." in n}
        extra["mask_token"] = torch.ones(3)
    else:
        state = {n: x for n, x in state.items() if re.match(known[kind], n)}
        state = {n: x for n, x in state.items() if "num_batches" not in n and "ocr" not in n}
    torch.save({prefix + name: x for name, x in (state | extra).items()}, path)
    return path, net


@pytest.mark.parametrize("kind, prefix", [(k, "") for k in NETS] + [("hrnet", "model.")])
def test_a_backbone_is_taken_over_and_the_rest_stays(kind, prefix, tmp_path):
    path, taught = backbone_file(tmp_path / "x.pth", kind, prefix)
    torch.manual_seed(5)
    build, config = NETS[kind]
    net = build(config)
    before = {name: x.clone() for name, x in net.state_dict().items()}
    assert start_from(net, path) is net
    for name, x in net.state_dict().items():
        if "num_batches" in name:
            continue
        own = name.startswith("backbone.") and not name.startswith("backbone.embed_extra.")
        wanted = taught.state_dict()[name] if own else before[name]
        assert torch.equal(x, wanted), name
    fresh, left_out = net.origin.split("Fresh: ")[1].split("Left out: ")
    assert "head" in fresh and "head.weight" in left_out and "backbone.blocks" not in fresh
    with pytest.raises(CheckpointError, match="but the file seems to be"):
        other = next(k for k in NETS if k != kind)
        start_from(network(other), path)


def test_codes_are_stretched_to_the_networks_grid(tmp_path):
    path, taught = backbone_file(tmp_path / "mae.pth", "simpleclick")
    larger = SimpleClick(replace(VIT, side=128))
    start_from(larger, path)
    assert larger.backbone.pos_embed.shape[1] == 256
    released = write(tmp_path / "x.pth", taught)
    from_released = start_from(SimpleClick(replace(VIT, side=128)), released)
    torch.testing.assert_close(from_released.backbone.pos_embed, larger.backbone.pos_embed)
    assert torch.equal(from_released.head.conv_seg.weight, taught.head.conv_seg.weight)


@pytest.mark.parametrize("kind", NETS)
def test_any_file_of_the_same_network_is_a_start(kind, tmp_path):
    net = network(kind)
    save(net, tmp_path / "own.safetensors")
    for path in (write(tmp_path / "x.pth", net), tmp_path / "own.safetensors"):
        build, config = NETS[kind]
        found = start_from(build(config), path)
        torch.testing.assert_close(answers(found)["logits"], answers(net)["logits"])
        assert "Fresh: nothing" in found.origin


def test_a_network_without_relatives_starts_from_our_own_files_only(tmp_path):
    save(nn.Linear(2, 2), tmp_path / "own.safetensors")
    assert start_from(nn.Linear(2, 2), tmp_path / "own.safetensors").origin
    path, _ = backbone_file(tmp_path / "x.pth", "hrnet")
    with pytest.raises(CheckpointError, match="a Linear can start from our own files only"):
        start_from(nn.Linear(2, 2), path)


@pytest.mark.parametrize("table", [SEGFORMER_NAMES, HRNET_NAMES], ids=["segformer", "hrnet"])
def test_names_there_and_back(table):
    net = network("segformer" if table is SEGFORMER_NAMES else "hrnet")
    theirs = as_theirs(net)
    renamed = rename_segformer(theirs) if table is SEGFORMER_NAMES else rename_hrnet(theirs)[0]
    assert renamed.keys() == net.state_dict().keys()
    assert all(torch.equal(x, net.state_dict()[name]) for name, x in renamed.items())


def test_getattr_in_a_file_reaches_kinds_only(tmp_path):
    member = STAND_INS["builtins.getattr"]
    assert member(Kind, "point").arguments == ("point",)
    for target in (StandIn, torch, "text", Kind("point")):
        with pytest.raises(CheckpointError, match="no kind of interaction"):
            member(target, "load")


def test_small_parts_of_reading(tmp_path):
    assert block_count(["stage2.0.x", "stage2.3.x", "stage3.9.x"], "stage2") == 4
    assert block_count([]) == 0
    assert stored(dict(config=dict(params=dict(a=dict(value=0)))), "a", 5) == 0
    assert stored([1, 2], "a", 5) == 5 and stored({}, "a") is None
    with pytest.raises(CheckpointError, match="60 position codes do not form a square"):
        square_grid(torch.zeros(1, 60, 2), tmp_path)
    (tmp_path / "empty.pth").touch()
    assert first_bytes(tmp_path / "empty.pth") == "empty"
    torch.save({"patch_embed.proj.weight": torch.ones(1)}, tmp_path / "mae.pth")
    assert read_foreign(tmp_path / "mae.pth", *SIGNS)[0] == "mae"
    net = nn.Linear(2, 1)
    take_over(net, {"weight": torch.ones(1, 2)}, ("bias",), ["old.a", "old.b"], Path("f"), "rows")
    assert net.origin == "f: rows. Fresh: bias. Left out: old.*."


def test_any_checkpoint_opens_and_other_files_say_what_they_are(tmp_path):
    net = build(replace(preset("small"), widths=(8, 16), blocks=(1, 1)))
    save(net, tmp_path / "ours.safetensors")
    again = open_network(tmp_path / "ours.safetensors")
    assert again.config == net.config and not again.training
    (tmp_path / "page.pth").write_text("<title>Please sign in</title>")
    with pytest.raises(CheckpointError, match="sign in"):
        open_network(tmp_path / "page.pth")
