"Faster copies give the same answers; the benchmark compares with the plain library."

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import torch
from torch import nn

from seglab.core import ConfigError
from seglab.memory import estimate_memory
from seglab.runs import find_experiment
from seglab.train import TrainConfig
from seglab.walls.model import WallsConfig, WallsModel, preset
from seglab.walls.speed import FoldedHead, speed_up

NAMES = ("wall", "floor", "sky")
CONFIGS = {
    name: replace(preset(name), names=NAMES)
    for name in ("tiny", "fcn_tiny", "deeplabv3_tiny", "resnest_tiny")
}


def random_network(config: WallsConfig) -> WallsModel:
    "No weight and no statistic of norms at its start value, so that none is forgotten unnoticed."
    torch.manual_seed(0)
    network = WallsModel(config)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    head = network.net.decode_head if config.architecture == "segformer" else network.net.classifier
    for weight in head.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.1)
    with torch.no_grad():
        network.train()(torch.rand(2, 3, 96, 96))
    return network.eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_faster_copy_gives_the_same_answers(name: str) -> None:
    network, image = random_network(CONFIGS[name]), torch.rand(2, 3, 64, 90)
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with torch.inference_mode():
        wanted, exact, rounded = (
            net(image) for net in (network, speed_up(network), speed_up(network, "bf16"))
        )
    scale = wanted.abs().max().item()
    assert exact.dtype == rounded.dtype == torch.float32 and wanted.std() > 0.01
    torch.testing.assert_close(exact, wanted, rtol=1e-5, atol=1e-5 * scale)
    assert (rounded - wanted).abs().mean() < 0.1 * scale
    assert all(torch.equal(state[key], x) for key, x in network.state_dict().items()), "kept"


def test_the_copy_is_for_predictions_only() -> None:
    network = random_network(CONFIGS["tiny"]).train()
    fast = speed_up(network)
    assert network.training and all(weight.requires_grad for weight in network.parameters())
    assert not fast.training and not any(weight.requires_grad for weight in fast.parameters())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fast.modules())
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(speed_up(fast)(image), fast(image), atol=1e-6), "again is no harm"


def test_a_folded_head_worked_out_by_hand() -> None:
    # one feature at every stage, all maps 1; projections 2 x + 1, mixing 1, 2, 3, 4 from the
    # coarsest map on: 10 · (2 + 1) = 30; norm: mean 10, variance 4, scale 5, shift 7:
    # 5 · (30 − 10) / 2 + 7 = 57; logits 3 x − 1: 170
    ones = (1, 1, 1, 1)
    config = replace(CONFIGS["tiny"], widths=ones, heads=ones, decoder_width=1, names=("wall",))
    head = WallsModel(config).eval().net.decode_head
    for projection in head.linear_projections:
        nn.init.constant_(projection.proj.weight, 2), nn.init.constant_(projection.proj.bias, 1)
    head.linear_fuse.weight.data[:] = torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1)
    norm = head.batch_norm
    norm.running_mean.fill_(10), norm.running_var.fill_(4)
    nn.init.constant_(norm.weight, 5), nn.init.constant_(norm.bias, 7)
    nn.init.constant_(head.classifier.weight, 3), nn.init.constant_(head.classifier.bias, -1)
    maps = [torch.ones(1, 1, 8 // s, 8 // s) for s in (1, 2, 4, 8)]
    for each in (head, FoldedHead(head)):
        assert torch.allclose(each(maps), torch.full((1, 1, 8, 8), 170.0), atol=1e-2)
    maps[3] *= 2  # the coarsest has weight 1: 2 more before the norm, 15 more logits
    assert torch.allclose(FoldedHead(head)(maps), torch.full((1, 1, 8, 8), 185.0), atol=1e-2)


def test_precisions(monkeypatch) -> None:
    network = WallsModel(CONFIGS["tiny"])
    with pytest.raises(ConfigError, match="unknown precision 'bfloat16': did you mean 'bf16'"):
        speed_up(network, "bfloat16")
    for found, dtype in dict(no=torch.float32, bf16=torch.bfloat16).items():
        monkeypatch.setattr("seglab.walls.speed.pick_precision", lambda found=found: found)
        assert next(speed_up(network, "auto").parameters()).dtype == dtype
        assert next(speed_up(network).parameters()).dtype == torch.float32, "unless asked for"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    "The functions of the benchmark page, as a module."
    cells = nbformat.read(find_experiment("walls"), as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    kept = [c for c in code if re.match(r"import|from", c) or re.search(r"^def ", c, re.M)]
    file: Path = tmp_path_factory.mktemp("page") / "walls_page.py"
    file.write_text("batch = 1\n\n" + "\n\n".join(kept), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("walls_page", file)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


def test_the_plain_network_is_the_library_s_and_the_same(page: ModuleType) -> None:
    network, image = random_network(CONFIGS["tiny"]), torch.rand(1, 3, 64, 96)
    plain = page.as_published(network)
    assert type(plain.net).__module__.startswith("transformers.")
    assert type(plain.net.decode_head).__module__.startswith("transformers.")
    with torch.inference_mode():
        wanted, ours = plain(image), network(image)
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())
    assert plain(image).grad_fn is not None, "it can be trained"


def test_training_keeps_less_in_memory(page: ModuleType) -> None:
    network, batch = random_network(CONFIGS["tiny"]), dict(image=torch.rand(2, 3, 64, 64))
    kept = {
        name: estimate_memory(net, page.train_step, batch, TrainConfig())["activations"]
        for name, net in dict(ours=network, plain=page.as_published(network)).items()
    }
    assert kept["ours"] < 0.9 * kept["plain"]
