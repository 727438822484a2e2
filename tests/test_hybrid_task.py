"What only guards the hybrid task: sizes, several classes, batches, and files."

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from seglab.core import ConfigError, seed_everything
from seglab.hybrid import task
from seglab.hybrid.data import DrawnPeople, HybridSamples
from seglab.hybrid.model import HybridModel, preset
from seglab.hybrid.plan import FitConfig, build_loaders, build_network, plan_training
from seglab.io import read_mask, write_image
from seglab.synthetic import draw_people
from seglab.train import TrainConfig, train


def network(seed: int = 0, **changes) -> HybridModel:
    seed_everything(seed)
    small = dict(size=(64, 64), width=32, depth=2, heads=2, hidden=32, queries=6)
    return HybridModel(replace(preset("tiny"), **small | changes)).eval()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    return next(iter(DataLoader(HybridSamples(DrawnPeople(64, 6, empty=0.3), slots=4), 6)))


class Knowing(nn.Module):
    "Answers with the truth it was given."

    def __init__(self, batch: dict[str, Tensor], classes: int = 1):
        super().__init__()
        self.batch, self.classes = batch, classes

    def forward(self, image: Tensor, upsample: bool = True) -> dict[str, Tensor]:
        objects, kinds = self.batch["objects"], self.batch["classes"]
        logits = torch.zeros(*kinds.shape, self.classes + 1)
        logits.scatter_(2, torch.where(kinds < 0, self.classes, kinds)[..., None], 9.0)
        return dict(pred_logits=logits, pred_masks=torch.where(objects, 6.0, -6.0))


def test_who_knows_the_truth_is_scored_perfect(batch: dict) -> None:
    scores = task.measure(Knowing(batch), batch)
    people = (batch["classes"] >= 0).sum(dim=1)
    assert (people == 0).any() and (people > 1).any(), "the batch has both kinds of picture"
    assert scores["foreground_iou"][people > 0].eq(1).all()
    assert scores["foreground_iou"][people == 0].isnan().all()
    assert torch.equal(scores["right"], people.float())
    assert not scores["made_up"].any() and not scores["missed"].any()
    assert torch.equal(scores["false_alarm"].isnan(), people > 0)


def test_what_is_ignored_is_not_held_against_anybody(batch: dict) -> None:
    spoilt = batch | dict(labels=batch["labels"].clone(), objects=batch["objects"].clone())
    spoilt["labels"][..., :20] = 255
    spoilt["objects"][..., :20] = False
    spoilt["classes"] = torch.where(spoilt["objects"].flatten(2).any(2), batch["classes"], -1)
    scores = task.measure(Knowing(batch), spoilt)
    assert scores["foreground_iou"].nan_to_num(1).eq(1).all() and not scores["missed"].any()


@pytest.mark.parametrize("matching", ["fixed", "hungarian"])
def test_one_batch_is_learnt(batch: dict, matching: str) -> None:
    model = network(semantic=matching == "hungarian", deep=matching == "hungarian").train()
    optimizer, totals = torch.optim.AdamW(model.parameters(), 3e-3), []
    for _ in range(12):
        losses = task.step(model, batch, matching)
        totals.append(sum(losses.values()))
        optimizer.zero_grad()
        totals[-1].backward()
        optimizer.step()
    assert totals[-1] < 0.8 * totals[0]
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_an_unknown_rule_is_named(batch: dict) -> None:
    with pytest.raises(ConfigError, match="did you mean 'hungarian'"):
        task.step(network(), batch, "hungry")


@pytest.mark.parametrize("size", [(64, 64), (20, 90), (201, 33), (5, 5)])
def test_any_size_is_answered_at_its_own(size: tuple[int, int]) -> None:
    answer = task.predict(network(), torch.rand(3, *size))
    assert all(maps.shape[-2:] == size for maps in answer.values())
    assert answer["labels"].dtype == answer["objects"].dtype == torch.int64


def test_a_network_that_is_not_square_sees_every_picture_whole() -> None:
    model = network(size=(64, 96))
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2:]))
    task.predict(model, torch.rand(3, 50, 30))
    assert seen == [(64, 96)]


def test_several_classes() -> None:
    batch = dict(
        image=torch.rand(2, 3, 64, 64),
        objects=torch.zeros(2, 3, 64, 64, dtype=torch.bool),
        classes=torch.tensor([[0, 2, -1], [1, -1, -1]]),
    )
    batch["objects"][0, 0, :20, :20] = batch["objects"][0, 1, 30:, 30:] = True
    batch["objects"][1, 0, 10:50, 10:40] = True
    batch["labels"] = (batch["objects"] * (batch["classes"] + 1)[..., None, None]).amax(dim=1)
    scores = task.measure(Knowing(batch, 3), batch)
    assert scores["right"].tolist() == [2, 1] and scores["foreground_iou"].eq(1).all()
    model = network(classes=3).train()
    assert sum(task.step(model, batch).values()).isfinite()
    answer = task.predict(model, batch["image"])
    assert answer["probs"].shape == (2, 3, 64, 64) and answer["labels"].max() <= 3
    assert model.training, "predict leaves the mode as it was"


def test_one_by_one_is_as_good_as_together() -> None:
    model, images = network(), torch.stack([draw_people(seed, 80).image for seed in range(3)])
    together = task.predict(model, images, score=0.1)
    for n, image in enumerate(images):
        alone = task.predict(model, image, score=0.1)
        assert torch.allclose(alone["probs"], together["probs"][n], atol=1e-5)


def test_soft_truth_is_scored_as_opacity(batch: dict) -> None:
    alpha = (batch["labels"] == 1)[:, None].float()
    scores = task.measure(Knowing(batch), batch | dict(alpha=alpha))
    assert scores["mad"].max() < 0.01 and set(scores) >= {"sad", "mse"}


def test_fp16_without_a_gpu_is_computed_in_float32_with_one_warning() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.warns(UserWarning, match="fp16 needs a GPU, computing in float32") as caught:
        assert plan_training(FitConfig(precision="fp16")).precision == "no"
    assert len(caught) == 1


def test_a_loss_that_is_no_number_stops_and_keeps_the_batch(batch: dict, tmp_path: Path) -> None:
    def broken(model: nn.Module, batch: dict) -> dict[str, Tensor]:
        return {name: loss * torch.nan for name, loss in task.step(model, batch).items()}

    samples = HybridSamples(DrawnPeople(64, 4), slots=4)
    with pytest.raises(FloatingPointError, match="loss 'class'"):
        train(network(), broken, DataLoader(samples, 4), TrainConfig(epochs=1), folder=tmp_path)
    assert list(tmp_path.glob("nan_batch*")), "the batch is kept for looking at"


def test_the_backbone_learns_slower_or_not_at_all() -> None:
    frozen = build_network(FitConfig(frozen=True))
    assert not any(parameter.requires_grad for parameter in frozen.backbone.parameters())
    assert any(parameter.requires_grad for parameter in frozen.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(backbone_rate=0.0), r"backbone_rate: must lie in \(0, 1\], got 0.0"),
        (dict(queries=4), "slots: 8 objects need as many queries, not 4"),
        (dict(batch_size=0), "samples and batch_size must be at least 1"),
    ],
)
def test_impossible_parameters_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FitConfig(**changes)


def test_as_many_validation_pictures_as_asked_for() -> None:
    assert len(build_loaders(FitConfig(val_pictures=3, side=64))[1].dataset) == 3
    assert len(build_loaders(FitConfig(val_pictures=0, side=64))[1].dataset) == 200


def test_a_killed_folder_is_finished_later(tmp_path: Path) -> None:
    for seed in range(3):
        write_image(tmp_path / "in" / f"{seed}.png", draw_people(seed, 60 + 10 * seed).image)
    model, out = network(), tmp_path / "out"
    first = task.predict_files(model, tmp_path / "in", out, batch_size=2)
    (out / "cutouts" / "1.png").unlink()
    (out / "masks" / "1.png").unlink()
    again = task.predict_files(model, tmp_path / "in", out, batch_size=2, invert=True)
    assert again["objects"].isna().tolist() == [True, False, True], "only one was asked again"
    assert again.loc["1", "area"] == pytest.approx(1 - first.loc["1", "area"])
    assert read_mask(out / "masks" / "2.png").shape == (1, 80, 80)


def test_pictures_are_never_warned_about() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.show(torch.rand(3, 40, 60), task.predict(network(), torch.rand(3, 40, 60)))
