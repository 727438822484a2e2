"Teaching, scoring and using a wall network."

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import SegformerForSemanticSegmentation, SegformerImageProcessor

from seglab.core import IGNORE, ConfigError, seed_everything
from seglab.io import ImageError, read_image, read_labels, read_mask, write_image
from seglab.walls.labels import ADE20K, LabelError
from seglab.walls.model import WallsModel, preset
from seglab.walls.pictures import DRAWN
from seglab.walls.plan import FitConfig, build_network, plan_training
from seglab.walls.policies import POLICIES
from seglab.walls.see import Look, ask, decide
from seglab.walls.task import (
    measure,
    predict,
    predict_files,
    score_labels,
    score_mask,
    step,
    wall_logits,
)

NAMES = ("wall", "building", "sky", "ceiling", "painting")


class Says(nn.Module):
    "A network that says what the picture's red channel tells it: 0 wall, 0.25 building and so on."

    def __init__(self, names: tuple[str, ...] = NAMES):
        super().__init__()
        self.config = replace(preset("tiny"), names=names, side=64)
        self.sharp = nn.Parameter(torch.tensor(400.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        levels = torch.linspace(0, 1, len(self.config.names)).view(1, -1, 1, 1)
        return -self.sharp * (F.avg_pool2d(image, 4)[:, :1] - levels).square()


def picture(labels: torch.Tensor) -> torch.Tensor:
    "The picture of which `Says` gives these labels."
    return (labels.float() / (len(NAMES) - 1)).expand(3, *labels.shape)


def halves(left: int, right: int, size: tuple[int, int] = (64, 64)) -> torch.Tensor:
    labels = torch.full(size, left)
    labels[:, size[1] // 2 :] = right
    return labels


def tiny() -> WallsModel:
    seed_everything(0)
    return WallsModel(replace(preset("tiny"), names=NAMES, side=64)).eval()


def test_ignored_pixels_change_no_loss() -> None:
    model = tiny()
    image, labels = torch.rand(2, 3, 64, 64), torch.randint(5, (2, 64, 64))
    ignored = labels.clone()
    ignored[:, :, 40:] = IGNORE
    plain = {k: v.item() for k, v in step(model, dict(image=image, labels=ignored)).items()}
    logits = F.interpolate(model(image), (64, 64), mode="bilinear")[..., :40]
    assert plain["classes"] == pytest.approx(
        F.cross_entropy(logits, labels[..., :40]).item(), rel=1e-4
    )


def test_only_ignored_pixels_are_a_loss_of_zero() -> None:
    batch = dict(
        image=torch.rand(1, 3, 64, 64), labels=torch.full((1, 64, 64), IGNORE, dtype=torch.int64)
    )
    losses = step(tiny(), batch)
    assert losses["classes"] == 0 and all(loss.isfinite() for loss in losses.values())


def test_the_dice_loss_knows_several_classes_of_wall() -> None:
    labels = halves(0, 1)
    losses = step(Says(), dict(image=picture(labels)[None], labels=labels[None].flip(-1)))
    assert losses["wall"] < 0.01 < losses["classes"], "building for wall is no mistake of the mask"


def test_wall_logits_are_finite_where_it_is_certain() -> None:
    log_probs = torch.tensor([[80.0, 0.0], [0.0, 80.0]]).log_softmax(dim=0).view(2, 1, 2)
    assert wall_logits(log_probs, [0]).isfinite().all()


def test_a_perfect_answer_scores_one() -> None:
    labels = halves(1, 2)[None]
    scores = measure(Says(), dict(image=picture(labels[0])[None], labels=labels))
    assert all(score.item() > 0.9 for score in scores.values())
    exact = score_labels(labels, labels, NAMES)
    assert all(score.item() == 1 for score in exact.values())


def test_a_mask_is_scored_where_somebody_labelled() -> None:
    target = halves(1, 2, (8, 8))[None]
    target[:, 4:] = IGNORE
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :4, :3] = mask[:, 4:] = True  # 12 of 16 pixels of a building, and what nobody labelled
    scores = score_mask(mask, target, NAMES, ("wall", "building"))
    assert scores["wall_iou"].item() == 12 / 16 and scores["wall_accuracy"].item() == 28 / 32
    assert score_mask(mask, target, NAMES, ("wall",))["wall_iou"].item() == 0
    nothing = score_mask(mask, torch.full_like(target, IGNORE), NAMES, ("wall",))
    assert all(score.isnan() for score in nothing.values())


def test_a_label_map_is_scored_as_the_mask_of_its_walls() -> None:
    labels, target = halves(0, 1)[None], halves(0, 2)[None]
    of_labels = score_labels(labels, target, NAMES)
    of_mask = score_mask(labels < 2, target, NAMES, ("wall", "building"))
    assert {*of_mask} <= {*of_labels} and all(of_labels[name] == of_mask[name] for name in of_mask)
    assert of_labels["wall_accuracy"] == of_labels["accuracy"] == 0.5


def test_a_score_refuses_numbers_without_a_name() -> None:
    labels = torch.full((1, 8, 8), 7)
    with pytest.raises(LabelError, match="without a name, such as 7"):
        score_mask(labels == 0, labels, NAMES, ("wall",))


def test_a_view_without_wall_has_no_overlap() -> None:
    sky = torch.full((1, 64, 64), 2)
    assert score_labels(sky, sky, NAMES)["wall_iou"].isnan()


def test_two_half_votes_add_up() -> None:
    logits = torch.tensor([0.3, 0.3, 0.4]).log().view(3, 1, 1)
    labels, probs = decide(logits, (2, 2), [[0, 1], [2]])
    assert (labels == 2).all() and torch.allclose(probs[:, 0, 0], torch.tensor([0.6, 0.4]))


def test_policies_and_thresholds_reach_the_mask() -> None:
    labels = torch.full((64, 64), 0)
    labels[:16] = 3
    labels[24:56, 16:48] = 4  # a quarter of the picture: a mural
    model, image = Says(), picture(labels)
    assert not predict(model, image)["mask"][0, 40, 32]
    won_back = predict(model, image, policy="recover")
    assert won_back["mask"][0, 40, 32] and won_back["probs"][0, 40, 32] > 0.9
    assert not won_back["mask"][0, 5, 5]
    with pytest.raises(ConfigError, match="recover"):
        predict(model, image, policy="recovr")
    with pytest.raises(LabelError, match="did you mean 'wall'"):
        predict(model, image, targets=["wal"])
    with pytest.raises(LabelError):
        predict(model, image, targets=[])


def test_edges_are_mended_where_one_asks() -> None:
    labels = halves(0, 2, (192, 192))
    labels[32:40, 32:40] = 2
    model, image, look = Says(), picture(labels), Look(size=192)
    assert not predict(model, image, look=look)["mask"][0, 36, 36]
    assert predict(model, image, look=look, refine="clean")["mask"][0, 36, 36]


def test_indoors_buildings_are_left_out() -> None:
    labels = halves(0, 1)
    labels[:20] = 3
    found = {p: predict(Says(), picture(labels), policy=p)["mask"][0] for p in POLICIES}
    assert all(mask[40, 10] for mask in found.values())
    assert found["names"][40, 50] and not found["adaptive"][40, 50], "it is called building"


def test_no_wall_is_an_empty_mask_and_a_warning() -> None:
    with pytest.warns(UserWarning, match="no wall found"):
        answer = predict(Says(), picture(torch.full((64, 64), 2)))
    assert not answer["mask"].any()


@pytest.mark.parametrize("size", [(20, 20), (33, 210), (700, 40)])
def test_any_size_comes_back(size: tuple[int, int]) -> None:
    answer = predict(Says(), picture(halves(0, 2, size)))
    assert {name: tuple(t.shape) for name, t in answer.items()} == dict(
        labels=size, mask=(1, *size), probs=(1, *size)
    )
    if min(size) > 32:
        assert answer["mask"][0, 5, 2] and not answer["mask"][0, 5, -3]


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (torch.full((3, 64, 64), torch.nan), "NaN"),
        (torch.zeros(3, 64, 64, dtype=torch.uint8), "divide by 255"),
        (torch.zeros(1, 64, 64), "axis 3|must be 3|3 H W"),
    ],
)
def test_what_is_no_picture_is_refused(image: torch.Tensor, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        predict(Says(), image)


def test_tiles_give_what_the_whole_gives() -> None:
    image = picture(halves(0, 2, (300, 420)))
    whole, tiled = (ask(Says(), image, Look(size=320, tile=tile)) for tile in (1024, 96))
    assert torch.allclose(whole, tiled, atol=1e-3)


def test_looking_changes_neither_mode_nor_weights() -> None:
    model = tiny().train()
    before = [p.clone() for p in model.state_dict().values()]
    predict(model, torch.rand(3, 50, 70), look=Look(flip=True))
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))


@pytest.mark.parametrize("wrong", [dict(size=-1), dict(tile=100), dict(tile=32)])
def test_an_impossible_look_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="tile a multiple of 32"):
        Look(**wrong)


def test_the_squeezed_look_is_that_of_hugging_face() -> None:
    model = tiny()
    image = (torch.rand(3, 90, 140, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    processor = SegformerImageProcessor(size=dict(height=128, width=128), do_reduce_labels=False)
    pixels = processor((image * 255).to(torch.uint8), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        assert isinstance(model.net, SegformerForSemanticSegmentation)
        theirs = processor.post_process_semantic_segmentation(model.net(pixels), [(90, 140)])[0]
    ours = predict(model, image, look=Look(size=128, square=True))["labels"]
    assert (theirs == ours).float().mean() > 0.995, "their processor rounds to 8 bits in between"


def test_files_are_written_skipped_and_survive_a_broken_one(tmp_path: Path) -> None:
    labels = halves(0, 2)
    write_image(tmp_path / "photos" / "a.png", picture(labels))
    (tmp_path / "photos" / "b.png").write_bytes(b"not a picture")
    rows = predict_files(Says(), tmp_path / "photos", tmp_path / "out")
    assert "b.png" in rows.loc["b", "error"] and not rows.loc["a", "error"]
    assert (read_labels(tmp_path / "out" / "labels" / "a.png") == labels).float().mean() > 0.95
    assert read_mask(tmp_path / "out" / "masks" / "a.png")[0, 5, 5]
    view = json.loads((tmp_path / "out" / "views" / "a.json").read_text())
    assert view["size"] == [64, 64] and sum(view["counts"].values()) == 64 * 64
    (tmp_path / "out" / "masks" / "a.png").unlink()
    again = predict_files(Says(), tmp_path / "photos", tmp_path / "out")
    assert again.loc["a", "wall"] == rows.loc["a", "wall"]
    assert not (tmp_path / "out" / "masks" / "a.png").exists(), "its description says it is done"
    with pytest.raises(ImageError) as problem:
        read_image(tmp_path / "photos" / "b.png")
    assert rows.loc["b", "error"] == str(problem.value), "the reader's own words"


def test_a_plan_follows_from_plain_numbers() -> None:
    config = FitConfig(learning_rate=6e-4, encoder_rate=0.1, samples=8, batch_size=4)
    plan = plan_training(config)
    assert plan.layer_decay == 0.1 and plan.warmup_steps == 2 and plan.higher_is_better
    assert build_network(config).config.side == config.side
    for wrong in (dict(batch_size=0), dict(repaint=2.0), dict(preset_name="b9")):
        with pytest.raises(ConfigError):
            FitConfig(**wrong)


def test_a_run_starts_from_a_published_encoder_with_the_pictures_own_classes(
    tmp_path: Path,
) -> None:
    seed_everything(1)
    WallsModel(replace(preset("tiny"), names=("a", "b"))).net.save_pretrained(tmp_path)
    network = build_network(FitConfig(pretrained=str(tmp_path), source="drawn"))
    again = WallsModel(network.config).net.from_pretrained(tmp_path)
    assert network.config.names == DRAWN
    weights = network.net.segformer.state_dict()
    assert all(torch.equal(weights[k], v) for k, v in again.segformer.state_dict().items())


def test_ade20k_networks_count_with_its_names() -> None:
    model = WallsModel(replace(preset("tiny"), names=ADE20K))
    assert model(torch.rand(1, 3, 64, 64)).shape[1] == 150
