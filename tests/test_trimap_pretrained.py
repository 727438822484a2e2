"Files of other programs: what is taken over, what is refused, and what happens offline."

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from seglab.checkpoints import CheckpointError, load, read_header, save
from seglab.core import ConfigError
from seglab.trimap import pretrained
from seglab.trimap.model import PRESETS, TrimapConfig, TrimapModel
from seglab.trimap.pretrained import (
    from_mae,
    from_simpleclick,
    from_trimap,
)

CONFIG = TrimapConfig(
    side=64,
    patch=8,
    width=24,
    depth=4,
    heads=3,
    pyramid=(4, 6, 8, 48),
    channels=4,
    upsample=2,
    mask_scale=1 / 255,
)
LOSS = "isegm.model.modeling.transformer_helper.cross_entropy_loss"


def original_state(net: TrimapModel, extra: str = "patch_embed_mask") -> dict[str, Tensor]:
    "The weights by the names of the original, with the parts that it never uses."
    state = {k.replace("backbone.embed_extra", extra): v for k, v in net.state_dict().items()}
    width, channels = net.config.width, net.config.channels
    table = state["backbone.pos_embed"]
    state["backbone.pos_embed"] = torch.cat([torch.rand(1, 1, width), table], dim=1)
    state["backbone.cls_token"] = torch.rand(1, 1, width)
    state["backbone.fc_norm.weight"] = torch.ones(width)
    state["backbone.head.weight"] = torch.zeros(1000, width)
    state["head.up_conv2.0.weight"] = torch.zeros(channels, channels // 2, 2, 2)
    return state


def container(state: dict[str, Tensor], config: TrimapConfig | None = None, **backbone) -> dict:
    "The file's content as the original's trainer makes it; the loss must be pickled with it."
    if config is not None:
        backbone = dict(img_size=(config.side,) * 2, num_heads=config.heads) | backbone
    loss = getattr(sys.modules.get(LOSS), "CrossEntropyLoss", dict)
    values = dict(backbone_params=backbone, head_params=dict(loss_decode=loss()))
    params = {k: dict(type="builtin", value=v, specified=True) for k, v in values.items()}
    return dict(state_dict=state, config={"class": "isegm.model.Some", "params": params})


@pytest.fixture
def original_program(monkeypatch: pytest.MonkeyPatch) -> type:
    "While it is there, its loss can be pickled."
    module = ModuleType(LOSS)
    module.CrossEntropyLoss = type("CrossEntropyLoss", (), dict(__module__=LOSS))
    monkeypatch.setitem(sys.modules, "isegm", module)
    monkeypatch.setitem(sys.modules, LOSS, module)
    return module.CrossEntropyLoss


@pytest.fixture
def net() -> TrimapModel:
    torch.manual_seed(0)
    return TrimapModel(CONFIG).eval()


@pytest.fixture
def pictures() -> tuple[Tensor, Tensor]:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return image, image[:, :1] > 0.5


@torch.no_grad()
@pytest.mark.parametrize("form", ["container", "list of one", "bare"])
def test_a_trimap_network_comes_back_the_same(
    net, pictures, tmp_path, original_program, form
) -> None:
    file, state = tmp_path / "trimap.pth", original_state(net)
    content = container(state, CONFIG)
    heads = CONFIG.heads if form == "bare" else None
    torch.save({"container": content, "list of one": [content], "bare": state}[form], file)
    before = torch.random.get_rng_state()
    back = from_trimap(file, heads=heads)
    assert torch.equal(before, torch.random.get_rng_state()), "reading draws no numbers"
    # without a config nothing tells the window, but the default is what made the network
    assert back.config == CONFIG and not back.training
    assert torch.equal(back(*pictures), net(*pictures))
    assert not torch.allclose(from_trimap(file, heads, 1.0)(*pictures), net(*pictures))
    for name in ("backbone.cls_token", "backbone.fc_norm.*", "head.up_conv2.*"):
        assert name in back.origin
    assert "Fresh: nothing" in back.origin and "\n" not in back.origin


@torch.no_grad()
def test_without_position_codes_the_table_is_zero(net, pictures, tmp_path) -> None:
    state = original_state(net)
    del state["backbone.pos_embed"], state["backbone.cls_token"]
    torch.save(container(state, CONFIG), tmp_path / "x.pth")
    back = from_trimap(tmp_path / "x.pth")
    assert not back.backbone.pos_embed.any() and back.backbone.pos_embed.requires_grad
    net.backbone.pos_embed.zero_()
    assert torch.equal(back(*pictures), net(*pictures))
    assert "without position codes" in back.origin


def test_a_split_at_random_is_one_window_over_all(net, tmp_path) -> None:
    content = container(original_state(net), CONFIG)
    content["config"]["params"]["random_split"] = dict(value=True)
    torch.save(content, tmp_path / "x.pth")
    assert from_trimap(tmp_path / "x.pth").config.window > 10**6


def test_keys_that_do_not_fit_are_listed(net, tmp_path) -> None:
    file, state = tmp_path / "x.pth", original_state(net)
    state["backbone.blocks.0.surprise"] = state.pop("backbone.blocks.2.norm1.bias")
    torch.save(container(state, CONFIG), file)
    wanted = "1 missing: backbone.blocks.2.norm1.bias; 1 unexpected: backbone.blocks.0.surprise"
    with pytest.raises(CheckpointError, match=wanted):
        from_trimap(file)
    del state["head.conv_seg.weight"], state["head.convs.3.conv.weight"]
    torch.save(container(state, CONFIG), file)
    wanted = "2 missing: head.convs.3.conv.weight, head.conv_seg.weight"
    with pytest.raises(CheckpointError, match=wanted):
        from_trimap(file)


def test_what_no_shape_can_tell_must_be_said(net, tmp_path) -> None:
    file, state = tmp_path / "x.pth", original_state(net)
    torch.save(dict(state_dict=state), file)
    with pytest.raises(CheckpointError, match="give `heads`"):
        from_trimap(file)
    with pytest.raises(ConfigError, match="5 cannot share 24"):
        from_trimap(file, heads=5)
    torch.save(container(state, CONFIG, img_size=(32, 128)), file)
    with pytest.raises(CheckpointError, match="4 × 16 tokens"):
        from_trimap(file)
    state["backbone.pos_embed"] = torch.zeros(1, 1 + 60, CONFIG.width)
    torch.save(container(state, CONFIG), file)
    with pytest.raises(CheckpointError, match="60 position codes do not form a square"):
        from_trimap(file)


def click_net() -> TrimapModel:
    "The parts of a click network: three more channels, one logit."
    net = TrimapModel(CONFIG)
    net.backbone.embed_extra.proj = nn.Conv2d(3, CONFIG.width, 8, 8)
    net.head.conv_seg = nn.Conv2d(CONFIG.channels, 1, 1)
    return net


def test_from_clicks_only_two_parts_start_fresh(tmp_path, original_program) -> None:
    file, clicks = tmp_path / "clicks.pth", click_net()
    state = original_state(clicks, "patch_embed_coords")
    torch.save(container(state, CONFIG), file)
    torch.manual_seed(3)
    net = from_simpleclick(file, detail=4)
    assert net.config == replace(CONFIG, mask_scale=1.0, detail=4) and not net.training
    fresh = ("backbone.embed_extra.", "head.conv_seg.", "detail.")
    for name, weight in net.state_dict().items():
        if not name.startswith(fresh):
            assert torch.equal(weight, clicks.state_dict()[name]), name
    assert "Fresh: backbone.embed_extra, head.conv_seg, detail." in net.origin
    assert "patch_embed_coords.*" in net.origin and "head.conv_seg.*" in net.origin
    torch.manual_seed(3)
    again = from_simpleclick(file)
    assert torch.equal(net.head.conv_seg.weight, again.head.conv_seg.weight), "a seed decides"
    assert "detail" not in again.origin

    state["neck.more"] = state.pop("neck.down_16.0.bias")
    torch.save(container(state, CONFIG), file)
    with pytest.raises(CheckpointError, match="missing: neck.down_16.0.bias; 1 unexpected: neck.m"):
        from_simpleclick(file)


def test_codes_of_an_oblong_are_stretched_to_a_square(tmp_path) -> None:
    state = original_state(click_net(), "patch_embed_coords")
    rising = torch.arange(4.0).repeat_interleave(16)  # grows from row to row
    state["backbone.pos_embed"] = torch.cat([torch.tensor([9.0]), rising]).expand(CONFIG.width, -1)
    state["backbone.pos_embed"] = state["backbone.pos_embed"].T[None].contiguous()
    torch.save(container(state, CONFIG, img_size=(32, 128)), tmp_path / "x.pth")
    net = from_simpleclick(tmp_path / "x.pth")
    assert net.config.side == 128
    codes = net.backbone.pos_embed.detach().reshape(16, 16, CONFIG.width)
    assert (codes.diff(dim=0)[2:-2] > 0).all() and (codes.diff(dim=1).abs() < 1e-5).all()


def test_only_the_known_names_are_unpickled(net, tmp_path, original_program) -> None:
    state = original_state(net)
    module = sys.modules[LOSS]
    module.Trainer = type("Trainer", (), dict(__module__=LOSS))
    content = container(state, CONFIG) | dict(trainer=module.Trainer())
    torch.save(content, tmp_path / "x.pth")
    for read in (from_trimap, from_simpleclick):
        with pytest.raises(CheckpointError, match=f"refused, it wants {LOSS}.Trainer"):
            read(tmp_path / "x.pth")
    torch.save(dict(model={}, loss=original_program()), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=f"refused, it wants {LOSS}.CrossEntropyLoss"):
        from_mae(tmp_path / "x.pth")  # MAE's files need no name at all


def mae_state(config: TrimapConfig, side: int) -> dict[str, Tensor]:
    "A MAE checkpoint's weights, with a little of its decoder."
    state = TrimapModel(replace(config, side=side)).backbone.state_dict()
    state = {k: v for k, v in state.items() if not k.startswith("embed_extra.")}
    token = torch.rand(1, 1, config.width)
    state["pos_embed"] = torch.cat([token, state["pos_embed"]], dim=1)
    more = dict(cls_token=token, mask_token=token, decoder_pos_embed=token)
    more |= {"norm.weight": torch.ones(config.width), "decoder_blocks.0.norm1.bias": token}
    return state | more


def test_from_mae_takes_the_backbone_and_fits_the_codes(tmp_path) -> None:
    file, state = tmp_path / "mae.pth", mae_state(CONFIG, side=32)
    torch.save(dict(model=state), file)
    net = from_mae(file, CONFIG)
    weights = net.state_dict()
    for name, tensor in state.items():
        if name.startswith(("blocks.", "patch_embed.")):
            assert torch.equal(weights[f"backbone.{name}"], tensor)
    assert net.backbone.pos_embed.shape == (1, 64, CONFIG.width)
    assert net.origin.endswith(
        "Fresh: backbone.embed_extra, neck, head. "
        "Left out: cls_token, mask_token, decoder_pos_embed, norm.*, decoder_blocks.*."
    )
    as_made = from_mae(file, replace(CONFIG, side=32)).backbone.pos_embed
    assert torch.equal(as_made, state["pos_embed"][:, 1:])

    state["blocks.1.more"] = state.pop("blocks.3.norm2.bias")
    del state["pos_embed"]
    torch.save(dict(model=state), file)
    with pytest.raises(CheckpointError) as refusal:
        from_mae(file, CONFIG)
    for name in ("pos_embed", "blocks.3.norm2.bias", "blocks.1.more"):
        assert f"backbone.{name}" in str(refusal.value)


@pytest.mark.parametrize(("size", "patch"), [("base", 16), ("large", 16), ("huge", 14)])
def test_published_sizes_are_recognised(size: str, patch: int, tmp_path: Path) -> None:
    wanted = PRESETS[f"{size}_448"]
    assert wanted.patch == patch
    state = {f"blocks.{i}.norm1.bias": torch.zeros(wanted.width) for i in range(wanted.depth)}
    state["patch_embed.proj.weight"] = torch.zeros(wanted.width, 3, patch, patch)
    assert pretrained._published(state, tmp_path) == wanted
    state["blocks.40.norm1.bias"] = state["blocks.0.norm1.bias"]
    with pytest.raises(CheckpointError, match=f"41 blocks of {wanted.width}.*`config`"):
        pretrained._published(state, tmp_path)
    del state["patch_embed.proj.weight"]
    with pytest.raises(CheckpointError, match="1 missing: patch_embed.proj.weight"):
        pretrained._published(state, tmp_path)


READERS = dict(trimap=from_trimap, simpleclick=from_simpleclick, mae=from_mae)


@pytest.mark.parametrize("reader", READERS)
def test_the_wrong_file_is_called_what_it_is(reader: str, net, tmp_path: Path) -> None:
    one = torch.ones(1)
    weights = {
        "HRNet": {"conv1.weight": one, "stage2.0.branches.0.0.conv1.weight": one},
        "SegFormer": dict(state_dict={"backbone.patch_embed1.proj.weight": one}),
        "SAIC-IS": dict(state_dict={"feature_extractor.stage2.0.weight": one}),
        "trimap program": dict(state_dict={"patch_embed_mask.proj.weight": one}),
        "SimpleClick": dict(state_dict={"patch_embed_coords.proj.weight": one}),
        "MAE": dict(model={"patch_embed.proj.weight": one}),
        "first.bias, second.bias": {"first.bias": one, "second.bias": one},
        "no tensors by name": [one, one],
        "found no tensors": dict(state_dict=[1, 2]),
    }
    own = dict(trimap="trimap program", simpleclick="SimpleClick", mae="MAE")[reader]
    for words, content in weights.items():
        if words != own:
            torch.save(content, tmp_path / "x.pth")
            with pytest.raises(CheckpointError, match=f"x.pth: wanted.*{words}"):
                READERS[reader](tmp_path / "x.pth")
    save(net, tmp_path / "ours.pth")
    save_file({"weight": one}, tmp_path / "other.pth")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html>\n<html>sign in")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "noise.pth").write_bytes(bytes(range(255, 0, -1)))
    seems = dict(
        ours="seglab's own checkpoint of seglab.trimap.model.TrimapModel",
        other="a safetensors file that seglab did not write",
        page="text that begins '<!DOCTYPE html>",
        empty="to be empty",
        noise="not a readable torch file",
    )
    for name, words in seems.items():
        with pytest.raises(CheckpointError, match=f"{name}.pth: .*{words}"):
            READERS[reader](tmp_path / f"{name}.pth")


def test_the_note_survives_in_our_own_file(net, tmp_path) -> None:
    torch.save(container(original_state(net), CONFIG), tmp_path / "x.pth")
    back = from_trimap(tmp_path / "x.pth")
    save(back, tmp_path / "own.safetensors", notes=dict(origin=back.origin))
    assert read_header(tmp_path / "own.safetensors")["notes"]["origin"] == back.origin
    assert load(tmp_path / "own.safetensors").config.mask_scale == 1 / 255
