"Faster copies give the same answers; the clock between the parts; the plain formulation is the same."

import importlib.util
import re
from dataclasses import replace
from types import ModuleType

import nbformat
import pandas as pd
import pytest
import torch
from torch import nn

from seglab.core import ConfigError
from seglab.hybrid.model import HybridConfig, HybridModel, preset
from seglab.hybrid.parts import ConvBlock
from seglab.hybrid.speed import (
    component_times,
    fold_batch_norms,
    show_times,
    speed_up,
    summarise_times,
)
from seglab.runs import find_experiment

SMALL = replace(
    preset("tiny"), stem=4, stages=(8, 8, 16, 16, 16), pyramid=(16, 16, 16), width=16, hidden=16
)
CONFIGS = {
    "stride 4": SMALL,
    "stride 8": replace(SMALL, stride=8, semantic=False),
    "the original's": replace(preset("tiny_seed"), width=16, heads=2, queries=5),
    "of timm": replace(SMALL, backbone="cs3darknet_s"),
}


def random_network(config: HybridConfig) -> HybridModel:
    "No weight and no statistic at its start value, so that none can be forgotten unnoticed."
    torch.manual_seed(0)
    network = HybridModel(config)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    with torch.no_grad():
        network.train()(torch.rand(2, 3, 96, 96))
    return network


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_faster_copy_gives_the_same_answers(config: HybridConfig) -> None:
    network, image = random_network(config), torch.rand(2, 3, 64, 90)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    same, half = speed_up(network, "no"), speed_up(network, "bf16")
    with torch.inference_mode():
        wanted, exact, rounded = (net(image) for net in (network.eval(), same, half))
    assert set(exact) == set(rounded) == set(wanted)
    for name, tensor in wanted.items():
        assert exact[name].dtype == rounded[name].dtype == torch.float32
        assert exact[name].shape == rounded[name].shape == tensor.shape
        assert torch.allclose(exact[name], tensor, atol=2e-4, rtol=1e-4), name
        away = (rounded[name].sigmoid() - tensor.sigmoid()).abs().mean()
        assert away < 0.03, (name, away)
    assert all(torch.equal(state[name], x) for name, x in network.state_dict().items()), "kept"


def test_the_copy_has_no_batch_norm_and_no_gradient() -> None:
    for name in ("stride 4", "of timm"):
        network = random_network(CONFIGS[name])
        fast = speed_up(network, "no")
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fast.modules())
        assert not any(weight.requires_grad for weight in fast.parameters())
        assert network.training and not fast.training
        assert all(weight.requires_grad for weight in network.parameters())
        weights = [x.weight for x in fast.modules() if isinstance(x, nn.Conv2d)]
        assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


def test_a_folded_block_worked_out_by_hand() -> None:
    # 1 × 1, weight 3, mean 2, variance 4, scale 5, shift 7: 5 (3 x − 2) / 2 + 7 = 7.5 x + 2
    block = ConvBlock(1, 1).eval()
    nn.init.constant_(block.conv.weight, 3)
    block.bn.running_mean.fill_(2), block.bn.running_var.fill_(4)
    nn.init.constant_(block.bn.weight, 5), nn.init.constant_(block.bn.bias, 7)
    assert fold_batch_norms(block) == 1
    assert block.conv.weight.item() == pytest.approx(7.5, abs=1e-4)
    assert block.conv.bias.item() == pytest.approx(2, abs=1e-4)
    x = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1)
    assert block(x).flatten().tolist() == pytest.approx([-0.55, 9.5], abs=1e-4)
    assert fold_batch_norms(block) == 0


def test_a_faster_copy_can_be_made_faster_again() -> None:
    network, image = random_network(SMALL), torch.rand(1, 3, 64, 64)
    once = speed_up(network, "no")
    with torch.inference_mode():
        masks = speed_up(once, "no")(image)["pred_masks"]
        assert torch.equal(masks, once(image)["pred_masks"])


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown precision 'bfloat16': did you mean 'bf16'"):
        speed_up(HybridModel(SMALL), "bfloat16")


@pytest.mark.parametrize("found", ["no", "bf16"])
def test_auto_takes_what_the_machine_is_good_at(found: str, monkeypatch) -> None:
    monkeypatch.setattr("seglab.hybrid.speed.pick_precision", lambda: found)
    dtype = next(speed_up(HybridModel(SMALL)).parameters()).dtype
    assert dtype == dict(no=torch.float32, bf16=torch.bfloat16)[found]


def test_stages_add_up_and_leave_no_trace(monkeypatch) -> None:
    # a clock that ticks one second whenever somebody looks
    ticks = iter(range(1000))
    monkeypatch.setattr("seglab.hybrid.speed.time.perf_counter", lambda: float(next(ticks)))
    network = HybridModel(SMALL).eval()
    times = component_times(network, torch.rand(1, 3, 64, 64), warmup=2, passes=3)
    assert list(times) == ["backbone", "pyramid", "patchify", "decoder", "masks", "total"]
    assert times.shape == (3, 6) and (times.drop(columns="total") == 1000).all(axis=None)
    assert (times["total"] == 5000).all()
    assert not any(layer._forward_hooks for layer in network.modules())


def test_hooks_are_removed_after_an_error_too() -> None:
    network = HybridModel(SMALL).eval()
    with pytest.raises(ValueError, match="image"):
        component_times(network, torch.rand(1, 1, 64, 64))
    assert not any(layer._forward_hooks for layer in network.modules())
    with pytest.raises(ValueError, match="passes: needs 1 or more .* got 0"):
        component_times(network, torch.rand(1, 3, 64, 64), passes=0)


def test_a_summary_has_median_90th_percentile_and_share() -> None:
    times = pd.DataFrame(dict(backbone=[1.0] * 9 + [11.0], masks=[3.0] * 10))
    times["total"] = times.sum(axis=1)
    table = summarise_times(times)
    assert table["median (ms)"].tolist() == [1, 3, 4]
    assert table["share (%)"].tolist() == [25, 75, 100]
    assert table.loc["backbone", "p90 (ms)"] == pytest.approx(2)


def test_the_picture_has_a_bar_for_each_network() -> None:
    stages = ["backbone", "pyramid", "patchify", "decoder", "masks", "total"]
    times = pd.DataFrame([[1.0, 2, 3, 4, 5, 15]] * 2, columns=stages)
    axis = show_times({"a": times, "b": times}).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert [bar.get_width() for bar in axis.patches] == [1, 2, 3, 4, 5] * 2


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    "The functions of the benchmark page, as a module."
    cells = nbformat.read(find_experiment("hybrid"), as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    kept = [c for c in code if c.startswith("import") or re.search(r"^def ", c, re.M)]
    file = tmp_path_factory.mktemp("page") / "hybrid_page.py"
    file.write_text("batch = 1\n\n" + "\n\n".join(kept), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("hybrid_page", file)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_plain_formulation_is_the_same_network(page: ModuleType, config: HybridConfig) -> None:
    network, image = random_network(config).eval(), torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        ours, plain = network(image), page.plain_forward(network, image)
    assert set(ours) == set(plain)
    for name, tensor in ours.items():
        assert torch.allclose(tensor, plain[name], atol=1e-4, rtol=1e-4), name


def test_the_plain_formulation_is_plain(page: ModuleType) -> None:
    "It normalises every convolution's map by itself, and in float32."
    network, seen = random_network(CONFIGS["the original's"]).eval(), []
    original = torch.nn.functional.batch_norm
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(
            "torch.nn.functional.batch_norm",
            lambda x, *rest, **named: seen.append(x.dtype) or original(x, *rest, **named),
        )
        page.plain_forward(network, torch.rand(1, 3, 64, 64))
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    assert seen == [torch.float32] * norms
