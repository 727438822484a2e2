"Fusion's step, scores, training and prediction: what counts, what is refused, what stays."

import warnings
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from seglab import checkpoints
from seglab.core import ConfigError
from seglab.fusion import task
from seglab.fusion.data import dataset
from seglab.fusion.encdec import AmodalFusionTransformer, EncoderDecoderConfig
from seglab.fusion.layout import resize, resize_partial
from seglab.fusion.model import SlotFusionTransformer, preset
from seglab.fusion.perceptual import perceptual_loss
from seglab.fusion.plan import FitConfig, build_loaders, build_network, plan_training
from seglab.fusion.slots import FusionInput
from seglab.launch import launch


@pytest.fixture(scope="module")
def batch() -> dict[str, Tensor]:
    samples = dataset("val", "drawn", side=32, slots=4)
    return default_collate([samples[i] for i in range(3)])


@pytest.fixture
def network() -> SlotFusionTransformer:
    torch.manual_seed(0)
    return SlotFusionTransformer(replace(preset("tiny"), side=32)).eval()


def test_error_is_that_of_the_hole(network, batch) -> None:
    out, mask = task.ask(network, batch), batch["mask"]
    picked = [(out.fused[i] - batch["target"][i]).abs()[:, mask[i, 0]].mean() for i in range(3)]
    wanted = torch.stack(picked).mean()
    assert task.step(network, batch)["hole_l1"].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_losses_weigh_as_asked(network, batch) -> None:
    plain = task.step(network, batch)
    double = task.step(network, batch, front_weight=0.1, order_weight=0.2)
    assert double["front"].item() == pytest.approx(2 * plain["front"].item())
    assert double["order"].item() == pytest.approx(2 * plain["order"].item())


def test_a_perceptual_loss_comes_under_its_own_name(network, batch) -> None:
    losses = task.step(network, batch, perceptual_loss("grad"), 0.5)
    assert {"hole_l1", "slopes", "front", "order"} == set(losses)


def test_unknown_truth_teaches_nothing(network, batch) -> None:
    blank = batch | {name: torch.full_like(batch[name], 255) for name in ("front", "order")}
    losses = task.step(network, blank)
    assert losses["front"] == 0 and losses["order"] == 0 and losses["hole_l1"] > 0


def test_what_cannot_be_chosen_is_not_demanded(batch) -> None:
    sizes = EncoderDecoderConfig(4, False, 16, 4, 1, 1, hidden=32, dropout=0.0)
    losses = task.step(AmodalFusionTransformer(sizes), batch)
    assert torch.isfinite(losses["front"]) and "order" not in losses


@pytest.mark.parametrize("name", ["tiny", "seed_background"])
def test_training_makes_it_better(name: str, batch) -> None:
    torch.manual_seed(0)
    net = (
        build_network(FitConfig(network=name, side=32))
        if name == "tiny"
        else (AmodalFusionTransformer(EncoderDecoderConfig(4, True, 16, 4, 1, 1, 32, 0.0)))
    )
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    seen = []
    for _ in range(25):
        loss = sum(task.step(net, batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < 0.9 * seen[0]


def test_scores_are_of_each_picture(network, batch) -> None:
    scores = task.measure(network, batch)
    assert all(score.shape == (3,) for score in scores.values())
    alone = task.measure(network, {k: v[1:2] for k, v in batch.items()})
    assert alone["l1"][0].item() == pytest.approx(scores["l1"][1].item(), rel=1e-4)
    empty = batch | dict(mask=torch.zeros_like(batch["mask"]))
    assert task.measure(network, empty)["l1"].isnan().all()


def test_outside_the_hole_nothing_changes_and_inside_nothing_is_looked_at(network, batch) -> None:
    partial, mask, completions = (batch[name] for name in ("partial", "mask", "completions"))
    one = task.predict(network, partial, mask, completions)
    other = task.predict(network, torch.where(mask, 0.3, partial), mask, completions)
    assert all(torch.equal(one[name], other[name]) for name in one)
    outside = ~mask.expand_as(partial)
    assert torch.equal(one["input_image"][outside], partial[outside])


def test_no_hole_gives_the_photograph_back(network, batch) -> None:
    partial, mask = batch["target"], torch.zeros_like(batch["mask"])
    answer = task.predict(network, partial, mask, batch["completions"])
    assert torch.equal(answer["input_image"], partial) and not answer["residual_mask"].any()


def test_large_pictures_keep_their_size_and_their_detail(network, batch) -> None:
    large = {
        name: batch[name].float().repeat_interleave(4, -1).repeat_interleave(4, -2)
        for name in ("partial", "mask", "completions")
    }
    answer = task.predict(
        network, large["partial"][0], large["mask"][0] > 0, large["completions"][0]
    )
    assert answer["weights"].shape == (5, 128, 128)
    assert answer["weights"].sum(0).sub(1).abs().max() < 1e-5
    small = task.predict(network, *(batch[name][0] for name in ("partial", "mask", "completions")))
    assert torch.allclose(answer["order"], small["order"], atol=0.01)


def test_a_network_is_asked_about_what_its_lessons_look_like(network, batch) -> None:
    "Large pictures are shrunk as those of a folder are; no white of the hole reaches its rim."
    names = ("partial", "mask", "completions")
    sample = dataset("val", "drawn", side=70, slots=4)[0]
    asked = []
    network.register_forward_pre_hook(lambda _, given: asked.append(FusionInput(*given)))
    task.predict(network, *(sample[name] for name in names))
    (seen,) = asked
    wanted = [resize_partial(sample["partial"], sample["mask"], (32, 32))]
    wanted += [resize(sample[name], (32, 32)) for name in names[1:]]
    for name, picture in zip(names, wanted, strict=True):
        assert torch.equal(getattr(seen, name)[0], picture), name
    grey = torch.where(sample["mask"], 1.0, 0.25).expand(3, -1, -1)
    task.predict(network, grey, *(sample[name] for name in names[1:]))
    outside = asked[1].partial[~asked[1].mask.expand(1, 3, -1, -1)]
    assert (outside - 0.25).abs().max() < 1e-4


def test_no_object_gives_the_background_and_a_warning(network, batch) -> None:
    white = torch.ones_like(batch["completions"])
    with pytest.warns(UserWarning, match="no object in any slot"):
        answer = task.predict(network, batch["partial"], batch["mask"], white)
    assert torch.equal(answer["fused"], answer["backdrop"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.predict(network, batch["partial"], batch["mask"], batch["completions"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(mask=lambda x: x.float()), "mask: must be bool"),
        (dict(partial=lambda x: x * torch.nan), "^partial: .* NaN"),
        (dict(partial=lambda x: x * 255), r"^partial: must lie in \[0, 1\]"),
        (dict(partial=lambda x: (x * 255).byte()), "^partial: must be float"),
        (dict(completions=lambda x: x * torch.nan), "^completions: .* NaN"),
        (dict(completions=lambda x: x[..., :20]), "completions"),
        (dict(mask=lambda x: x[..., :20]), "mask"),
    ],
)
def test_bad_input_is_named(network, batch, change: dict, words: str) -> None:
    given = {
        name: change.get(name, lambda x: x)(batch[name])
        for name in ("partial", "mask", "completions")
    }
    with pytest.raises(ValueError, match=words):
        task.predict(network, *given.values())


def test_the_seeds_network_refuses_another_number_of_completions(batch) -> None:
    net = AmodalFusionTransformer(EncoderDecoderConfig(3, True, 16, 4, 1, 1, 32))
    with pytest.raises(ConfigError, match="made for 3, got 4"):
        task.predict(net, batch["partial"], batch["mask"], batch["completions"])


def test_plans(tmp_path: Path) -> None:
    seed = FitConfig(network="seed", slots=5, side=256, optimizer="adam", learning_rate=1e-4)
    assert plan_training(seed).optimizer == "adam" and plan_training(seed).weight_decay == 0
    assert build_network(replace(seed, side=64)).config == EncoderDecoderConfig(5, False, side=64)
    lessons, exams = build_loaders(FitConfig(samples=6, batch_size=3, val_pictures=2, side=32))
    assert len(lessons) == 2 and len(exams.dataset) == 2
    with pytest.raises(ConfigError, match="perceptual"):
        FitConfig(perceptual="vggg")
    with pytest.raises(ConfigError, match="run_folder"):
        task.fit(FitConfig())


def test_a_network_can_go_on_from_another(tmp_path: Path) -> None:
    torch.manual_seed(3)
    begun = SlotFusionTransformer(preset("tiny"))
    file = checkpoints.save(begun, tmp_path / "begun.safetensors")
    went_on = build_network(FitConfig(start=str(file), side=32))
    assert went_on.config.side == 32
    for name, weight in begun.state_dict().items():
        assert torch.equal(went_on.state_dict()[name], weight), name
    with pytest.raises(checkpoints.CheckpointError, match="begun.safetensors"):
        build_network(FitConfig(start=str(file), network="small"))


def short(folder: Path, **changed) -> FitConfig:
    asked = dict(run_folder=str(folder), side=32, samples=4, batch_size=4, val_pictures=2)
    return FitConfig(**asked | dict(warmup_steps=0) | changed)


@pytest.mark.parametrize("name", ["grad", "random-vgg"])
def test_a_perceptual_loss_takes_part_in_training(tmp_path: Path, name: str) -> None:
    history = task.fit(short(tmp_path, perceptual=name, perceptual_weight=0.5))
    label = "slopes" if name == "grad" else "rlpips"
    assert history[-1][label] > 0
    saved = checkpoints.load(tmp_path / "last.safetensors").state_dict()
    assert saved.keys() == build_network(short(tmp_path)).state_dict().keys()


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = task.fit(short(tmp_path / "whole", epochs=2, schedule="constant"))
    task.fit(short(tmp_path / "halves", epochs=1, schedule="constant"))
    halves = task.fit(short(tmp_path / "halves", epochs=2, schedule="constant"))
    assert [row["loss"] for row in whole] == [row["loss"] for row in halves]
    one, other = (checkpoints.load(tmp_path / n / "last.safetensors") for n in ("whole", "halves"))
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    "Holes and pairs of the two shares differ, so sums must be shared before they are divided."
    plan = dict(samples=8, batch_size=4, learning_rate=2e-4)
    for processes in (1, 2):
        launch(task.fit, [short(tmp_path / str(processes), **plan)], processes)
    one, two = (checkpoints.load(tmp_path / n / "last.safetensors") for n in ("1", "2"))
    for name, weight in one.state_dict().items():
        assert (weight - two.state_dict()[name]).abs().max() <= 1e-5, name


@pytest.mark.parametrize("background", [True, False])
def test_the_seeds_network_learns_in_two_processes(tmp_path: Path, background, monkeypatch) -> None:
    "Processes wait for every gradient: a second update shows that none was missing in the first."
    torch.manual_seed(0)
    begun = AmodalFusionTransformer(EncoderDecoderConfig(4, background, 16, 4, 1, 1, 32, side=32))
    before = deepcopy(begun.state_dict())
    monkeypatch.setattr(task, "build_network", lambda config: begun)  # processes are forked
    launch(task.fit, [short(tmp_path, network="seed", samples=8, epochs=2)], 2)
    learned = checkpoints.load(tmp_path / "last.safetensors").state_dict()
    unchanged = [name for name, _ in begun.named_parameters() if learned[name].equal(before[name])]
    assert not unchanged
