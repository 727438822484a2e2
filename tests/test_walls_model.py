"The networks: sizes as measured, the head's other order, training, checkpoints."

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.segmentation import deeplabv3_resnet50, fcn_resnet50
from transformers import SegformerForSemanticSegmentation
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

from seglab.checkpoints import load, save
from seglab.core import ConfigError
from seglab.train import TrainConfig, train
from seglab.walls.labels import ADE20K
from seglab.walls.model import PRESETS, Decoder, WallsConfig, WallsModel, preset

NAMES = ("wall", "floor", "sky")
TINY = replace(preset("tiny"), names=NAMES)
SMALL = dict(
    segformer=TINY,
    fcn=replace(preset("fcn_tiny"), names=NAMES),
    deeplabv3=replace(preset("deeplabv3_tiny"), names=NAMES),
    resnest=replace(preset("resnest_tiny"), names=NAMES),
    fcnplus=replace(preset("fcnplus_tiny"), names=NAMES),
    deeplabv3plus=replace(preset("deeplabv3plus_tiny"), names=NAMES),
)
SIZES = dict(  # encoder and all, in millions; GMAC at 512 pixels, in the published order
    b0=(3.32, 3.75, 8.4), b1=(13.15, 13.72, 15.9), b2=(24.20, 27.46, 62.3),
    b3=(44.07, 47.34, 79.0), b4=(60.84, 64.11, 95.6), b5=(81.44, 84.71, 111.5),
)  # fmt: skip


def shaken(config: WallsConfig) -> WallsModel:
    "No weight and no statistic of the head at its start value, so that none can be forgotten."
    torch.manual_seed(0)
    model = WallsModel(config)
    for name, tensor in model.net.decode_head.state_dict().items():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5) if "var" in name else nn.init.normal_(
                tensor, std=0.2
            )
    return model


def published(model: WallsModel, image: Tensor) -> Tensor:
    "Logits of a SegFormer as `transformers` computes them from the same weights."
    theirs = SegformerForSemanticSegmentation(model.net.config).train(model.training)
    theirs.load_state_dict(model.net.state_dict())
    return theirs((image - model.mean) / model.spread).logits


def count_work(model: WallsModel) -> float:
    "GMAC of a picture of 512 × 512 pixels."
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        assert model(torch.rand(1, 3, 512, 512)).shape == (1, 150, 128, 128)
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_measured(name: str) -> None:
    with torch.device("meta"):
        model = WallsModel(preset(name)).eval().requires_grad_(False)
    encoder = sum(w.numel() for w in model.net.segformer.parameters()) / 1e6
    whole = sum(w.numel() for w in model.parameters()) / 1e6
    model.net.decode_head.__class__ = SegformerDecodeHead
    assert (round(encoder, 2), round(whole, 2), round(count_work(model), 1)) == SIZES[name]


def test_the_head_s_other_order_saves_half() -> None:
    with torch.device("meta"):
        model = WallsModel(preset("b0")).eval().requires_grad_(False)
    assert count_work(model) < 0.5 * SIZES["b0"][2]


@pytest.mark.parametrize("size", [(64, 96), (33, 50), (97, 65)])
def test_segformer_gives_the_library_s_logits(size: tuple[int, int]) -> None:
    model, image = shaken(TINY).eval(), torch.rand(2, 3, *size)
    with torch.no_grad():
        ours, theirs = model(image), published(model, image)
    assert ours.shape == theirs.shape and theirs.std() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


def test_gradients_and_statistics_are_the_library_s_as_well() -> None:
    model, image = shaken(TINY).train(), torch.rand(2, 3, 64, 64)
    theirs = SegformerForSemanticSegmentation(model.net.config).train()
    theirs.load_state_dict(model.net.state_dict())
    wanted = dict(theirs.named_parameters())
    model(image).square().mean().backward()
    theirs((image - model.mean) / model.spread).logits.square().mean().backward()
    for name, weight in model.net.named_parameters():
        scale = wanted[name].grad.abs().max().item()
        # a bias before batch norm has no gradient but rounding
        atol = 1e-4 * scale + 1e-6
        torch.testing.assert_close(weight.grad, wanted[name].grad, rtol=1e-3, atol=atol)
    ours, buffers = dict(model.net.named_buffers()), dict(theirs.named_buffers())
    assert set(ours) == set(buffers)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, buffers[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(32, 32), (70, 101)])
def test_logits_have_the_stride(name: str, size: tuple[int, int]) -> None:
    model = WallsModel(SMALL[name]).eval()
    with torch.no_grad():
        logits = model(torch.rand(1, 3, *size))
    assert logits.shape == (1, 3, *(-(-side // model.stride) for side in size))
    assert logits.dtype == torch.float32


def test_the_finer_rivals_have_the_sizes_measured() -> None:
    sizes = dict(
        fcnplus_tiny=0.47, deeplabv3plus_tiny=0.69, fcnplus_small=1.62, deeplabv3plus_resnet50=40.50
    )
    for name, wanted in sizes.items():
        with torch.device("meta"):
            count = sum(weight.numel() for weight in WallsModel(preset(name)).parameters())
        assert round(count / 1e6, 2) == wanted, name


def test_the_fine_map_tells_where_and_speaks_for_its_own_place() -> None:
    torch.manual_seed(0)
    decoder = Decoder(6, 4, 8, classes=2).eval()
    fine, late = torch.rand(1, 6, 12, 12), torch.rand(1, 8, 6, 6)
    other = fine.clone()
    other[..., 5, 7] += 1
    with torch.no_grad():
        moved = (decoder(fine, late) - decoder(other, late)).abs().amax(dim=(0, 1)) > 0
    rows, columns = moved.nonzero().T
    assert moved.shape == (24, 24), "four logits for each place, as squares"
    assert rows.min() == 8 and rows.max() == 13, "its own two rows, and those of its neighbours"
    assert columns.min() == 12 and columns.max() == 17


def test_a_backbone_without_a_map_of_stride_4_is_refused() -> None:
    with pytest.raises(ConfigError, match="convnext_atto has no map of stride 4"):
        WallsModel(WallsConfig("fcn", backbone="convnext_atto", names=NAMES, fine=16))


def test_rivals_are_named_as_in_torchvision() -> None:
    for name, build in dict(fcn=fcn_resnet50, deeplabv3=deeplabv3_resnet50).items():
        with torch.device("meta"):
            ours = WallsModel(preset(f"{name}_resnet50")).net.state_dict()
            theirs = build(weights=None, weights_backbone=None, num_classes=150).state_dict()
        assert {n: x.shape for n, x in ours.items()} == {n: x.shape for n, x in theirs.items()}


def test_a_rival_gives_torchvision_s_logits() -> None:
    torch.manual_seed(0)
    config = replace(preset("fcn_resnet50"), names=NAMES)
    theirs = fcn_resnet50(weights=None, weights_backbone=None, num_classes=3).eval()
    model, image = WallsModel(config).eval(), torch.rand(1, 3, 64, 96)
    model.net.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        logits = F.interpolate(model(image), (64, 96), mode="bilinear", align_corners=False)
        wanted = theirs((image - model.mean) / model.spread)["out"]
    torch.testing.assert_close(logits, wanted)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns_and_belongs_to_a_layer(name: str) -> None:
    model = WallsModel(SMALL[name])
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert {model.layer_of(name) for name, _ in model.named_parameters()} == {0, 1}
    assert model.layer_of(next(iter(dict(model.named_parameters())))) == 0


def test_colours_are_prepared_inside_and_not_kept() -> None:
    model = WallsModel(TINY).eval()
    assert not {"mean", "spread"} & set(model.state_dict())
    image, seen = torch.rand(1, 3, 32, 32), []
    model.net.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    model(image)
    red = (image[0, 0] - 0.485) / 0.229
    torch.testing.assert_close(seen[0][0, 0], red)


def test_pictures_that_do_not_fit_are_refused() -> None:
    for shape in ((1, 3, 31, 64), (1, 3, 64, 16)):
        with pytest.raises(ValueError, match="sides must be 32 pixels at least, got"):
            WallsModel(TINY)(torch.rand(shape))
    with pytest.raises(ValueError, match="image: axis 3 must be 3"):
        WallsModel(TINY)(torch.rand(1, 1, 64, 64))
    with pytest.raises(ValueError, match="two pictures or more at a time, got 1"):
        WallsModel(SMALL["deeplabv3"]).train()(torch.rand(1, 3, 64, 64))


def test_configs_that_make_no_sense_are_refused() -> None:
    wrong = {
        "did you mean 'segformer'": dict(architecture="segfomer"),
        "did you mean 'resnest50d'": dict(architecture="fcn", backbone="resnest50_d"),
        "unknown backbone ''": dict(architecture="fcn"),
        "need a number for each of 4 stages": dict(depths=(1, 1, 1)),
        "cannot share": dict(heads=(1, 2, 5, 7)),
        "need a class": dict(names=()),
    }
    for words, values in wrong.items():
        with pytest.raises(ConfigError, match=words):
            WallsConfig(**values)
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        preset("tinny")
    config = WallsConfig("fcn", backbone="vit_tiny_patch16_224", names=NAMES)
    with pytest.raises(ConfigError, match="vit_tiny_patch16_224 cannot be built with stride 8"):
        WallsModel(config)


@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_brings_network_and_names_back(name: str, tmp_path: Path) -> None:
    config = replace(SMALL[name], names=ADE20K[:7], side=200)
    model, image = WallsModel(config).eval(), torch.rand(1, 3, 40, 64)
    again = load(save(model, tmp_path / "x.safetensors"))
    assert again.config == config and isinstance(again, WallsModel)
    with torch.no_grad():
        assert torch.equal(again(image), model(image))


def test_the_same_seed_gives_the_same_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(WallsModel(TINY).state_dict())
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())


def step(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    logits = model(batch["image"])
    labels = batch["labels"][:, :: model.stride, :: model.stride]
    return dict(classes=F.cross_entropy(logits.float(), labels))


@pytest.mark.parametrize("name", ["segformer", "resnest"])
def test_a_network_learns_in_the_shared_loop(name: str) -> None:
    torch.manual_seed(0)
    image, labels = torch.zeros(3, 64, 64), torch.zeros(64, 64, dtype=torch.int64)
    image[1, 24:], labels[24:] = 1.0, 1
    image[:, 40:, 32:], labels[40:, 32:] = 0.5, 2
    samples = [dict(image=image, labels=labels)] * 8
    model = WallsModel(SMALL[name])
    cfg = TrainConfig(
        epochs=8, learning_rate=3e-3, precision="bf16", ema=0.5, layer_decay=0.5,
        checkpointing=name == "segformer",
    )  # fmt: skip
    history = train(model, step, DataLoader(samples, 4), cfg)
    assert history.rows[-1]["loss"] < 0.5 * history.rows[0]["loss"]
    assert not getattr(model, "checkpointing", False)


def test_computing_anew_changes_nothing() -> None:
    model, image = WallsModel(TINY).train(), torch.rand(2, 3, 64, 64)
    grads = []
    for on in (False, True):
        model.checkpointing = on
        assert model.checkpointing is on
        model.zero_grad()
        torch.manual_seed(0)
        model(image).square().mean().backward()
        grads.append([weight.grad.clone() for weight in model.parameters()])
    for plain, anew in zip(*grads, strict=True):
        torch.testing.assert_close(anew, plain)
    assert not hasattr(WallsModel(SMALL["fcn"]), "checkpointing")


def test_presets_are_what_their_names_say() -> None:
    for name, config in PRESETS.items():
        kind, plus = name.split("_")[0].removesuffix("plus"), "plus" in name
        wanted = dict(fcn="fcn", deeplabv3="deeplabv3", resnest="fcn").get(kind, "segformer")
        assert config.architecture == wanted and config.names == ADE20K
        assert (config.fine > 0) == plus
