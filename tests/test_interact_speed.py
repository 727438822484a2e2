"Faster copies of the click networks give the same answers; the benchmark's plain ones do, too."

import importlib.util
import pickle
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from seglab.core import ConfigError
from seglab.interact.data import click_maps
from seglab.interact.hrnet import HRNetClickConfig
from seglab.interact.model import SimpleClickConfig
from seglab.interact.networks import PRESETS, build
from seglab.interact.packed import Packed, PackedResidual, TableAttention
from seglab.interact.plain import PlainNet
from seglab.interact.segformer import Scale, SegformerClickConfig
from seglab.interact.speed import FoldedHead, fold_batch_norms, speed_up
from seglab.layers import Attention
from seglab.parameters import fit_parameters, read_values
from seglab.runs import find_experiment

VIT = SimpleClickConfig(
    side=64, patch=8, width=16, depth=4, heads=2, pyramid=(8, 8, 8, 8), window=32, channels=8
)
CONFIGS = {
    "simpleclick": VIT,
    "simpleclick, finer": replace(VIT, upsample=4, window=64, channels=4),
    "segformer": SegformerClickConfig(widths=(8, 8, 10, 16), depths=(1, 2, 1, 1), decoder=12),
    "segformer, two answers": SegformerClickConfig(
        widths=(8, 8, 10, 16), depths=(1, 1, 1, 1), decoder=12, auxiliary=True, kinds=("click",)
    ),
    "hrnet": HRNetClickConfig(width=4, blocks=1, modules=(1, 1, 1), region=6),
}
RECOLOURED = {name: replace(CONFIGS[name], recolour=True) for name in ("segformer", "hrnet")}


def given(config, side: int = 64):
    "Random pictures, last answers and sparse maps, two of each."
    torch.manual_seed(1)
    sizes = (2, 3, side, side), (2, 1, side, side)
    maps = (torch.rand(2, 2 * len(config.kinds), side, side) > 0.9).float()
    return *(torch.rand(size) for size in sizes), maps


def random_network(config) -> nn.Module:
    "No weight and no statistic of norms at its start value, so that none is forgotten unnoticed."
    torch.manual_seed(0)
    network = build(config)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    "The functions of the benchmark page, as a module."
    cells = nbformat.read(find_experiment("interact_networks"), as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    kept = [c for c in code if c.startswith("import") or re.search(r"^def ", c, re.M)]
    file = tmp_path_factory.mktemp("page") / "interact_networks_page.py"
    file.write_text("\n\n".join(kept), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("interact_networks_page", file)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


@torch.no_grad()
@pytest.mark.parametrize("config", [*CONFIGS.values(), *RECOLOURED.values()], ids=str)
def test_faster_copies_give_the_same_answers(config):
    network, inputs = random_network(config), given(config)
    before = {name: x.clone() for name, x in network.state_dict().items()}
    wanted = network(*inputs)
    exact, half = speed_up(network, "no"), speed_up(network, "bf16")
    for name, logits in wanted.items():
        spread = logits.std()
        for fast, tolerance in ((exact, 1e-4), (half, 0.3)):
            found = fast(*inputs)[name]
            assert found.dtype == torch.float32
            assert (found - logits).abs().max() < tolerance * max(spread, 0.1), (name, tolerance)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in exact.modules()), "all are folded"
    for name, x in network.state_dict().items():
        assert torch.equal(x, before[name]), "the network itself stays as it is"
    kinds = {p.dtype for p in half.parameters()}
    assert kinds == {torch.bfloat16} and half.normalise.mean.dtype == torch.float32


def test_folding_finds_pairs_in_lines_and_in_blocks():
    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
    block.eval()
    assert fold_batch_norms(block) == 1 and isinstance(block[3], nn.BatchNorm2d)
    network = random_network(CONFIGS["hrnet"])
    count = sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert fold_batch_norms(network) == count


def test_precision_is_checked_and_measured(monkeypatch):
    network = random_network(CONFIGS["hrnet"])
    with pytest.raises(ConfigError, match="did you mean 'bf16'"):
        speed_up(network, "bf17")
    for answer, kind in (("no", torch.float32), ("bf16", torch.bfloat16)):
        monkeypatch.setattr("seglab.interact.speed.pick_precision", lambda answer=answer: answer)
        assert speed_up(network).head.classify.weight.dtype == kind


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_copies_of_a_packed_network_answer_the_same(name):
    "They are sent to other processes, which sort the weights anew."
    network, inputs = random_network(CONFIGS[name]), given(CONFIGS[name])
    half = speed_up(network, "bf16")
    assert any(isinstance(layer, Packed) for layer in half.modules())
    assert not any(isinstance(layer, Scale) for layer in half.modules())
    wanted = half(*inputs)["logits"]
    for one in (deepcopy(half), pickle.loads(pickle.dumps(half))):
        assert torch.equal(one(*inputs)["logits"], wanted)
    smaller = [x[:1, :, :32, :32] for x in inputs]
    plain = network(*smaller)["logits"]
    assert (half(*smaller)["logits"] - plain).abs().max() < 0.3 * max(plain.std(), 0.1)


@torch.no_grad()
def test_nothing_is_packed_where_the_processor_does_not_want_it(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    half = speed_up(random_network(CONFIGS["hrnet"]), "bf16")
    assert not any(isinstance(layer, Packed) for layer in half.modules())
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


@torch.no_grad()
def test_packed_networks_answer_under_autocast():
    for name in ("simpleclick", "segformer", "hrnet"):
        network, inputs = random_network(CONFIGS[name]), given(CONFIGS[name])
        wanted = network(*inputs)["logits"]
        with torch.autocast("cpu", torch.bfloat16):
            found = speed_up(network, "bf16")(*inputs)["logits"]
        assert (found - wanted).abs().max() < 0.3 * max(wanted.std(), 0.1), name


def test_residual_blocks_and_attention_are_replaced():
    half = speed_up(random_network(CONFIGS["hrnet"]), "bf16")
    assert sum(isinstance(layer, PackedResidual) for layer in half.modules()) == 1 + 2 + 3 + 4
    half = speed_up(random_network(CONFIGS["simpleclick"]), "bf16")
    assert sum(isinstance(layer, TableAttention) for layer in half.modules()) == 4


@torch.no_grad()
@pytest.mark.parametrize("table", [1, 5 * 49, 1 << 23])
def test_tables_of_attention_may_be_made_in_parts(monkeypatch, table):
    monkeypatch.setattr("seglab.interact.packed.TABLE", table)
    torch.manual_seed(0)
    attention, tokens = Attention(24, 3), torch.randn(2, 7, 24)
    found = TableAttention(attention)(tokens)
    assert torch.allclose(found, attention(tokens), atol=1e-6)


def test_folded_head_multiplies_once():
    network = random_network(CONFIGS["segformer, two answers"])
    head = FoldedHead(network.head)
    maps = [torch.randn(1, w, 2 * 2**i, 8) for i, w in enumerate(network.config.widths)]
    work = []
    for one in (network.head, head):
        with FlopCounterMode(display=False) as counter:
            one(maps)
        work.append(counter.get_total_flops())
    assert work[1] < work[0]


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_the_plain_formulation_gives_the_same_logits(name):
    config = CONFIGS[name]
    network, inputs = random_network(config), given(config)
    wanted = network(*inputs)["logits"]
    plain = PlainNet(network)(*inputs)["logits"]
    assert (plain - wanted).abs().max() < 1e-4 * max(wanted.std(), 0.1)


@torch.no_grad()
def test_the_plain_maps_are_the_same(page):
    points = torch.rand(2, 8, 3) * 80 - 10
    points[:, ::3] = -1
    assert torch.equal(page.plain_maps(points, (64, 48), 5.0), click_maps(points, (64, 48)))


@torch.no_grad()
def test_the_plain_formulation_does_not_less_work_in_disguise():
    "SegFormer's plain head multiplies where places are most."
    config = CONFIGS["segformer"]
    network, inputs = random_network(config), given(config)
    work = []
    for one in (PlainNet(network), network):
        with FlopCounterMode(display=False) as counter:
            one(*inputs)
        work.append(counter.get_total_flops())
    assert work[0] > work[1]


def test_the_last_layer_is_fitted_and_lessons_help(page, monkeypatch):
    monkeypatch.setattr(page, "preset", lambda name: CONFIGS[name])
    scores = {}
    for lessons in (0, 30):
        network, inputs = page.build_network("segformer", 64, "cpu", 0, lessons)
        _, target = page.draw_batch(network.config, 64, 0)
        logits = page.answer(network, inputs)
        scores[lessons] = ((logits > 0) == (target[-1:] > 0.5)).float().mean().item()
    assert scores[30] > scores[0] > 0.5, scores


@pytest.mark.parametrize("name", ["interact_networks_cpu", "interact_networks_gpu"])
def test_configs_fit_the_page(repository: Path, name: str):
    page = find_experiment("interact_networks")
    values = read_values(repository / "nbs" / "benchmarks" / "configs" / f"{name}.yaml")
    fit_parameters(page, values)
    assert set(values["presets"].split()) <= set(PRESETS)
