"The plain formulation that our speed is measured against: does it compute the same, and is it plain?"

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from seglab.losses import trimap_loss
from seglab.parameters import fit_parameters, read_values
from seglab.runs import find_experiment
from seglab.trimap.model import TrimapConfig, TrimapModel

SMALL = TrimapConfig(
    side=64, patch=8, width=16, depth=4, heads=2, pyramid=(8, 8, 8, 8), channels=8, window=32
)
CONFIGS = {
    "half": replace(SMALL, upsample=2),
    "full": SMALL,
    "coarse, one window": replace(SMALL, upsample=1, window=64),
    "odd patches": replace(SMALL, patch=14, side=56, window=28),
    "two groups": replace(SMALL, depth=12, mask_scale=1 / 255),
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    "The functions of the benchmark page, as a module."
    cells = nbformat.read(find_experiment("trimap"), as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    kept = [c for c in code if c.startswith("import") or re.search(r"^def ", c, re.M)]
    file = tmp_path_factory.mktemp("page") / "trimap_page.py"
    file.write_text("\n\n".join(kept), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("trimap_page", file)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


def random_network(config: TrimapConfig) -> TrimapModel:
    "No weight at its start value, so that none can be forgotten unnoticed."
    torch.manual_seed(0)
    network = TrimapModel(config)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3 if weight.ndim == 1 else 0.1)
    return network


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_both_formulations_give_the_same_logits_and_gradients(page, config):
    network, batch = random_network(config), page.draw_batch(config.side, 2, "cpu")
    results = []
    for forward in (page.plain_forward, page.seglab_forward):
        torch.manual_seed(1)  # the same features are dropped
        logits = page.answer(network, batch, forward, "float32")
        loss = sum(trimap_loss(logits, batch["trimap"]).values())
        results.append([logits, *torch.autograd.grad(loss, list(network.parameters()))])
    for plain, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-4 * plain.abs().max().item())


def test_the_plain_formulation_writes_its_table_down(page):
    network, batch = random_network(SMALL), page.draw_batch(64, 2, "cpu")
    shapes, sizes = {}, {}
    for forward in (page.plain_forward, page.seglab_forward):
        kept = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.update({t.data_ptr(): t}) or t, lambda t: t
        ):
            page.answer(network, batch, forward, "float32")
        shapes[forward] = {tuple(t.shape[-2:]) for t in kept.values()}
        sizes[forward] = sum(t.nbytes for t in kept.values())
    assert (64, 64) in shapes[page.plain_forward] and (16, 16) in shapes[page.plain_forward]
    assert sizes[page.seglab_forward] < 0.75 * sizes[page.plain_forward]


def test_the_counted_work_is_what_a_run_does(page):
    "Counted on no contents at all, and on the plain formulation's products, which are a few more."
    counted = page.count_work("xtiny_448", 64, 1, train=False)
    network = page.build("xtiny_448", 64, "cpu", 0).eval()
    batch = page.draw_batch(64, 1, "cpu")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        page.answer(network, batch, page.plain_forward, "float32")
    assert 0.7 < counted / counter.get_total_flops() < 1
    assert page.count_work("xtiny_448", 64, 2, train=True) == pytest.approx(6 * counted, rel=0.05)


def test_turns_are_taken_and_the_first_round_is_not_counted(page):
    order = []
    table = page.take_turns(
        dict(a=lambda: order.append("a"), b=lambda: order.append("b")), 3, "cpu"
    )
    assert "".join(order) == "abababab" and table.shape == (3, 2) and (table > 0).all(axis=None)


def test_memory_is_measured_in_a_process_of_its_own(page):
    facts = dict(name="xtiny_448", size=224, count=1, place="cpu", number=0, threads=1)
    held = page.in_own_process("seglab", "float32", True, facts)
    network = page.build("xtiny_448", 224, "meta", 0)
    weights = sum(p.numel() for p in network.parameters()) * 4 / 1e9
    assert 2 * weights < held < 20 * weights  # gradients, two averages of AdamW, activations


@pytest.mark.parametrize("file", ["trimap_cpu.yaml", "trimap_gpu.yaml"])
def test_the_configs_fit_the_page(repository: Path, file: str):
    values = read_values(repository / "nbs" / "benchmarks" / "configs" / file)
    chosen = fit_parameters(find_experiment("trimap"), values)
    assert chosen["side"] == 448 and "base_448" in chosen["presets"]
