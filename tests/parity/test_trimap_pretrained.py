"Files of the original programs, read from disk, give the numbers those programs gave."

import json
import re
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

from seglab.checkpoints import CheckpointError
from seglab.trimap.model import TrimapConfig, preset
from seglab.trimap.pretrained import (
    STAND_INS,
    _config,
    _published,
    _read,
    from_mae,
    from_simpleclick,
    from_trimap,
)

LOSS = "isegm.model.modeling.transformer_helper.cross_entropy_loss"


def folder_of(parity, name):
    folder = parity / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


@pytest.fixture
def trimap_file(parity, tmp_path, monkeypatch):
    "The recorded trimap network in the container that the original's trainer writes."
    folder = folder_of(parity, "trimap")
    given = json.loads((folder / "model.config.json").read_text())
    module = ModuleType(LOSS)
    module.CrossEntropyLoss = type("CrossEntropyLoss", (), dict(__module__=LOSS))
    monkeypatch.setitem(sys.modules, "isegm", module)
    monkeypatch.setitem(sys.modules, LOSS, module)
    backbone = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in given.items()
        if key in ("img_size", "patch_size", "embed_dim", "depth", "num_heads")
    }
    parts = dict(
        backbone_params=backbone,
        neck_params=dict(in_dim=given["embed_dim"], out_dims=given["out_dims"]),
        head_params=dict(upsample=given["upsample"], loss_decode=module.CrossEntropyLoss()),
        random_split=False,
    )
    params = {k: dict(type="builtin", value=v, specified=True) for k, v in parts.items()}
    config = {"class": "isegm.model.is_trimap_model.TrimapModel", "params": params}
    state = torch.load(folder / "model.state_dict.pth", weights_only=True)
    torch.save(dict(state_dict=state, config=config), tmp_path / "020.pth")
    return tmp_path / "020.pth"


@torch.no_grad()
def test_the_trimap_programs_logits(parity, trimap_file):
    arrays = np.load(folder_of(parity, "trimap") / "model.io.npz")
    image = torch.from_numpy(arrays["image_u8"]).permute(2, 0, 1)[None] / 255
    mask = torch.from_numpy(arrays["mask_u8"])[None, None] > 0
    assert from_trimap(trimap_file).config.mask_scale == 1 / 255
    nets = dict(mask_over_255=from_trimap(trimap_file), mask01=from_trimap(trimap_file, None, 1.0))
    for name, net in nets.items():
        logits, wanted = net(image, mask), torch.from_numpy(arrays[f"logits_{name}_s8"])
        assert list(logits.shape) == arrays["logits_shape"].tolist()
        atol = 2e-4 * wanted.std().item()
        torch.testing.assert_close(logits[..., ::8, ::8], wanted, atol=atol, rtol=1e-4)
        assert "Fresh: nothing" in net.origin


def test_simpleclicks_own_file(parity):
    for file in sorted(folder_of(parity, "plainvit").glob("original_format*.pth")):
        state, content = _read(file, "simpleclick")
        params = {k: v["value"] for k, v in content["config"]["params"].items()}
        backbone, head = params["backbone_params"], params["head_params"]
        net = from_simpleclick(file)
        c = net.config
        assert (c.width, c.depth) == (backbone["embed_dim"], backbone["depth"])
        assert (c.patch, c.heads) == (backbone["patch_size"][0], backbone["num_heads"])
        assert c.pyramid == tuple(params["neck_params"]["out_dims"])
        assert (c.channels, f"x{c.upsample}") == (head["channels"], head["upsample"])
        assert c.mask_scale == 1.0
        for name, weight in net.state_dict().items():
            if name == "backbone.pos_embed" and weight.shape[1] + 1 == state[name].shape[1]:
                assert torch.equal(weight, state[name][:, 1:])
            elif name != "backbone.pos_embed" and "embed_extra" not in name:
                taken = name in state and torch.equal(weight, state[name])
                assert taken != name.startswith("head.conv_seg."), name
        assert "Fresh: backbone.embed_extra, head.conv_seg." in net.origin
        for wrong in (from_trimap, from_mae):
            with pytest.raises(CheckpointError):
                wrong(file)


def test_every_recorded_size_is_read_off_its_tensors(parity, tmp_path):
    folder = folder_of(parity, "plainvit")
    for file in sorted(folder.glob("*.state_dict.pth")):
        given = json.loads(
            file.with_name(file.name.replace("state_dict.pth", "config.json")).read_text()
        )
        state, content = _read(file, "simpleclick")
        backbone = dict(img_size=tuple(given["img_size"]))
        content = dict(config=dict(params=dict(backbone_params=dict(value=backbone))))
        config, grid = _config(state, content, given["num_heads"], file)
        assert (config.width, config.depth) == (given["embed_dim"], given["depth"])
        assert config.pyramid == tuple(given["out_dims"])
        assert (config.channels, f"x{config.upsample}") == (given["channels"], given["upsample"])
        assert [side * config.patch for side in grid] == given["img_size"]
        torch.save(content | dict(state_dict=state), tmp_path / file.name)
        net = from_simpleclick(tmp_path / file.name, heads=given["num_heads"])
        if len(set(given["img_size"])) == 1:
            assert torch.equal(net.backbone.pos_embed, state["backbone.pos_embed"][:, 1:])


def test_published_sizes_are_read_off_their_shapes(parity, tmp_path):
    for file in sorted(folder_of(parity, "full_models").glob("vit_*.json")):
        recorded = json.loads(file.read_text())
        given, shapes = recorded["config"], recorded["state_dict_shapes"]
        state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        config, _ = _config(state, {}, None, file)
        wanted = (given["embed_dim"], given["depth"], given["num_heads"], given["patch"])
        assert (config.width, config.depth, config.heads, config.patch) == wanted
        size = re.search(r"(xtiny|base|large|huge)448", file.name.replace("_", ""))
        if size and config.upsample in (1, 4):
            known = preset(f"{size[1]}_448")
            same = dict(channels=known.channels, upsample=known.upsample)
            assert replace(config, **same) == known, file.name
            plain = {n.removeprefix("backbone."): x for n, x in state.items() if "backbone." in n}
            assert _published(plain, file) == known


@torch.no_grad()
def test_mae_weights_and_tokens(parity):
    folder = folder_of(parity, "mae_init")
    recorded = json.loads((folder / "result.json").read_text())
    given = recorded["config"]
    checked = 0
    for case in recorded:
        name, _, side = case.partition("@")
        if not side:
            continue
        config = TrimapConfig(
            side=int(side),
            patch=given["patch"],
            width=given["embed_dim"],
            depth=given["depth"],
            heads=given["num_heads"],
            pyramid=(4, 4, 4, 4),
            channels=4,
            upsample=1,
        )
        net = from_mae(folder / f"{name}.pth", config)
        table = np.load(folder / f"pos_embed_{side}.npz")["pos_embed"][:, 1:]
        np.testing.assert_allclose(net.backbone.pos_embed, table, atol=1e-6)
        for key in recorded[case]["unexpected_keys(ignored)"]:
            part = key.split(".")[0]
            assert re.search(rf"\b{part}\b", net.origin), f"{part} is left out, but not reported"

        arrays = np.load(folder / f"forward_{side}.npz")
        image = torch.from_numpy(arrays["image_u8"]).permute(2, 0, 1)[None] / 255
        extra = net.backbone.embed_extra.proj
        extra.weight.zero_(), extra.bias.zero_()  # the recording has no mask
        features = net.backbone(image, image[:, :1]).flatten(2).mT  # colours as they are
        wanted = torch.from_numpy(arrays["tokens"])
        stride = -(-features.shape[1] // wanted.shape[1])
        atol = 2e-4 * wanted.std().item()
        torch.testing.assert_close(features[:, ::stride], wanted, atol=atol, rtol=1e-4)
        checked += 1
    assert checked


def test_files_of_other_programs_are_refused_by_name(parity):
    for file in sorted(folder_of(parity, "saic_models").glob("*.pth"))[:4]:
        words = "IType|SAIC-IS" if "original_format" in file.name else "SAIC-IS|SegFormer|HRNet"
        with pytest.raises(CheckpointError, match=words):
            from_simpleclick(file)
    assert len(STAND_INS) == 2
