"The hybrid network: the original's exact sizes, every picture size, gradients, refusals."

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from seglab import checkpoints
from seglab.core import ConfigError
from seglab.hybrid.model import (
    PRESETS,
    HybirdSegmentationAlgorithm,
    HybridConfig,
    HybridModel,
    preset,
)
from seglab.hybrid.parts import LearnedPositions
from seglab.positions import SinePositions
from seglab.rates import parameter_groups

SMALL = replace(
    preset("tiny"), stem=4, stages=(8, 8, 16, 16, 16), pyramid=(16, 16, 16), width=16, hidden=16
)
VARIANTS = {
    "the original's": dict(
        stride=16, token_stride=16, positions="learned", semantic=False, deep=False
    ),
    "stride 16, semantic": dict(stride=16, token_stride=16),
    "stride 8": dict(stride=8),
    "stride 4, coarse tokens": dict(token_stride=16, classes=3),
    "stride 4": dict(),
    "of timm": dict(backbone="cs3darknet_s"),
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def on_meta(config: HybridConfig) -> HybridModel:
    "A network without memory: shapes and counts only."
    with torch.device("meta"):
        return HybridModel(config).eval().requires_grad_(False)


def millions(*parts: torch.nn.Module) -> float:
    return sum(weight.numel() for part in parts for weight in part.parameters()) / 1e6


@pytest.mark.parametrize("name", ["darknet53", "darknet53_timm"])
def test_the_original_has_exactly_its_parameters_and_shapes(name: str) -> None:
    net = on_meta(preset(name))
    counts = [millions(part) for part in (net.backbone, net.neck, net.patchify, net.decoder.layers)]
    assert counts == pytest.approx([40.585, 0.920, 0.394, 16.562], abs=5e-4)
    assert millions(net.decoder.positions) == 3.84
    assert millions(net.head) + millions(net.decoder.queries) == pytest.approx(0.335, abs=5e-4)
    assert millions(net) == pytest.approx(62.635, abs=5e-4)
    image = torch.rand(1, 3, 640, 640, device="meta")
    maps = net.backbone(image)
    assert [tuple(x.shape[1:]) for x in maps[1:]] == [(256, 80, 80), (512, 40, 40), (1024, 20, 20)]
    levels = net.neck(*maps[1:])
    assert [tuple(x.shape[1:]) for x in levels] == [(256, 80, 80), (256, 40, 40), (512, 20, 20)]
    grid = net.patchify(levels[0])
    assert grid.shape == (1, 384, 40, 40)
    assert [x.shape for x in net.decoder(grid)] == [(1, 100, 384)] * 6
    outputs = net(image)
    assert outputs["pred_logits"].shape == (1, 100, 2)
    assert outputs["pred_masks"].shape == (1, 100, 640, 640)
    assert set(outputs) == {"pred_logits", "pred_masks"}


def test_the_original_takes_the_work_that_was_counted() -> None:
    net, image = on_meta(preset("darknet53")), torch.rand(1, 3, 640, 640, device="meta")
    with FlopCounterMode(display=False) as counter:
        net(image)
    assert counter.get_total_flops() / 1e9 == pytest.approx(131.0, abs=0.1)


def test_the_original_answers_under_its_own_name() -> None:
    with torch.device("meta"):
        net = HybirdSegmentationAlgorithm(num_classes=3, num_queries=7)
    assert net.config == replace(preset("darknet53"), classes=3, queries=7)


def test_the_tiny_one_is_tiny_and_the_light_one_light() -> None:
    assert millions(on_meta(preset("tiny"))) < 1
    assert millions(on_meta(preset("light"))) < 5 and preset("light").size == (160, 256)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_every_parameter_gets_a_gradient(changes: dict) -> None:
    net = HybridModel(replace(SMALL, **changes))
    outputs = net(torch.rand(2, 3, 64, 64), upsample=False)
    sum(tensor.square().mean() for tensor in outputs.values()).backward()
    assert not [name for name, weight in net.named_parameters() if weight.grad is None]


@pytest.mark.parametrize("size", [(64, 64), (20, 33), (65, 100), (96, 128), (1, 1)])
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_masks_are_as_large_as_the_picture(changes: dict, size: tuple[int, int]) -> None:
    config = replace(SMALL, **changes)
    net, (h, w), k, s = HybridModel(config).eval(), size, config.classes, config.stride
    with torch.inference_mode():
        large, small = net(torch.rand(2, 3, h, w)), net(torch.rand(2, 3, h, w), upsample=False)
    assert large["pred_logits"].shape == (2, 16, k + 1)
    assert large["pred_masks"].shape == (2, 16, h, w)
    assert small["pred_masks"].shape == (2, 16, -(-h // s), -(-w // s))
    for outputs in (large, small):
        assert ("semantic" in outputs) == config.semantic
        assert not config.semantic or outputs["semantic"].shape == (2, k, h, w)
        assert "deep_masks" not in outputs


def test_answers_of_every_layer_come_while_training_only() -> None:
    net = HybridModel(SMALL)
    outputs = net(torch.rand(2, 3, 64, 96))
    assert outputs["deep_logits"].shape == (3, 2, 16, 2)
    assert outputs["deep_masks"].shape == (3, 2, 16, 16, 24)
    assert torch.equal(outputs["deep_logits"][-1], outputs["pred_logits"])
    small = net(torch.rand(2, 3, 64, 96), upsample=False)
    assert torch.equal(small["deep_masks"][-1], small["pred_masks"])


def test_padding_is_black_on_the_right_and_below() -> None:
    net, image = HybridModel(SMALL).eval(), torch.rand(1, 3, 70, 90)
    with torch.inference_mode():
        odd = net(image)["pred_masks"]
        padded = net(torch.nn.functional.pad(image, (0, 6, 0, 26)))["pred_masks"]
    assert torch.equal(odd, padded[..., :70, :90])


def test_a_batch_is_its_pictures_one_by_one() -> None:
    net, images = HybridModel(SMALL).eval(), torch.rand(3, 3, 64, 80)
    with torch.inference_mode():
        together, alone = net(images), [net(image[None]) for image in images]
    for name, tensor in together.items():
        assert torch.allclose(tensor, torch.cat([x[name] for x in alone]), atol=1e-4), name


def test_the_same_seed_gives_the_same_network() -> None:
    first = HybridModel(SMALL).state_dict()
    torch.manual_seed(0)
    again = HybridModel(SMALL).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_checkpoint_rebuilds_the_network(tmp_path: Path, changes: dict) -> None:
    net, image = HybridModel(replace(SMALL, **changes)).eval(), torch.rand(1, 3, 64, 64)
    again = checkpoints.load(checkpoints.save(net, tmp_path / "net.safetensors"))
    assert type(again) is HybridModel and asdict(again.config) == asdict(net.config)
    with torch.inference_mode():
        assert torch.equal(net(image)["pred_masks"], again(image)["pred_masks"])


def test_the_backbone_may_learn_slower_or_not_at_all() -> None:
    net = HybridModel(SMALL)
    rates = {"backbone": set(), "rest": set()}
    for group in parameter_groups(net.named_parameters(), 1.0, 0.0, 0.1, net.layer_of):
        for name in group["names"]:
            rates["backbone" if name.startswith("backbone.") else "rest"].add(group["lr"])
    assert rates == {"backbone": {0.1}, "rest": {1.0}}
    net.freeze_backbone()
    before = {name: tensor.clone() for name, tensor in net.backbone.state_dict().items()}
    outputs = net.train()(torch.rand(2, 3, 64, 64))
    sum(tensor.square().mean() for tensor in outputs.values()).backward()
    torch.optim.SGD([w for w in net.parameters() if w.requires_grad], lr=0.1).step()
    assert all(torch.equal(before[name], x) for name, x in net.backbone.state_dict().items())
    assert net.training and net.neck.training and not net.backbone.training
    assert net.head.classify.weight.grad is not None


def test_learned_positions_are_dealt_out_row_by_row() -> None:
    table = LearnedPositions(8)
    assert torch.equal(table(torch.zeros(1, 8, 3, 5)), table.weight[:15])
    assert len(table(torch.zeros(1, 8, 100, 100))) == 10_000
    with pytest.raises(ValueError, match="100 × 101 tokens are more than the table .* 10000; make"):
        table(torch.zeros(1, 8, 100, 101))


def test_waves_follow_their_formula() -> None:
    codes = SinePositions(16)(torch.zeros(1, 16, 4, 5)).view(4, 5, 16)
    angle = 2 * torch.pi * 1.5 / 4 * 10_000 ** (-3 / 4)  # second row, fourth wave
    wanted = torch.tensor([torch.sin(torch.tensor(angle)), torch.cos(torch.tensor(angle))])
    assert torch.allclose(codes[1, 2, [3, 7]], wanted, atol=1e-6)
    angle = torch.tensor(2 * torch.pi * 4.5 / 5)  # last column, first wave
    wanted = torch.tensor([torch.sin(angle), torch.cos(angle)])
    assert torch.allclose(codes[0, 4, [8, 12]], wanted, atol=1e-6)
    half = SinePositions(16).bfloat16()(torch.zeros(1, 16, 4, 5, dtype=torch.bfloat16))
    assert (half.float() - codes.view(20, 16)).abs().max() < 4e-3, "rounded only at the very end"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(stride=2), r"stride: must be one of \(4, 8, 16\), got 2"),
        (dict(token_stride=32), r"token_stride: must be one of \(8, 16\), got 32"),
        (dict(stride=16, token_stride=8), "stride: masks of stride 16 are made from tokens"),
        (dict(positions="cosine"), "unknown kind of positions 'cosine': did you mean 'sine'"),
        (dict(width=10, heads=3), r"width: must be a multiple of 4 and of heads \(3\), got 10"),
        (dict(classes=0), "classes: must be 1 or more, got 0"),
        (dict(queries=0), "queries: must be 1 or more, got 0"),
        (dict(depth=0), "depth: must be 1 or more, got 0"),
        (dict(dropout=1.0), r"dropout: must be in \[0, 1\), got 1.0"),
        (dict(stages=(8, 8)), r"stages: needs 5 numbers from 1, got \(8, 8\)"),
        (dict(size=(640, 0)), r"size: needs 2 numbers from 1, got \(640, 0\)"),
    ],
)
def test_impossible_sizes_are_refused_in_words(changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(SMALL, **changes)


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'peeple': did you mean 'people'"):
        preset("peeple")
    with pytest.raises(ConfigError, match="unknown encoder 'darknet35'"):
        HybridModel(replace(SMALL, backbone="darknet35"))
    with pytest.raises(ConfigError, match="pretrained: timm is for backbones of timm; our own"):
        HybridModel(SMALL, pretrained="timm")


def test_grey_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="image: axis 3 must be 3, got shape"):
        HybridModel(SMALL)(torch.rand(1, 1, 64, 64))


def test_lists_from_json_become_tuples() -> None:
    assert HybridConfig(size=[64, 96], stages=[1, 2, 3, 4, 5]).size == (64, 96)
    assert PRESETS["darknet53"] == HybridConfig()


def test_pretrained_weights_reach_the_backbone(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    whole = timm.create_model("cs3darknet_s")
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    config = replace(SMALL, backbone="cs3darknet_s")
    net = HybridModel(config, pretrained=tmp_path / "weights.safetensors")
    assert torch.equal(net.backbone.net.stem_conv1.conv.weight, whole.stem.conv1.conv.weight)
