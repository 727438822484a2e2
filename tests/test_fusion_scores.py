"Guards of seglab.fusion.scores: every row against a direct computation, undefined scores, refusals."

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from seglab.core import ConfigError
from seglab.fusion import scores
from seglab.fusion.baselines import BASELINES
from seglab.fusion.blend import input_image
from seglab.fusion.data import dataset
from seglab.fusion.metrics import hole_scores
from seglab.fusion.model import SlotFusionTransformer, preset
from seglab.fusion.perceptual import perceptual_loss
from seglab.inpaint import inpaint_telea


@pytest.fixture(scope="module")
def loader():
    return DataLoader(dataset("val", side=32, count=6), batch_size=4)


@pytest.fixture(scope="module")
def methods():
    torch.manual_seed(0)
    network = scores.NetworkMethod(SlotFusionTransformer(preset("tiny")))
    return scores.baselines() | dict(network=network)


@pytest.fixture(scope="module")
def table(methods, loader):
    return scores.score_methods(methods, loader, perceptual_loss("grad"), inpaint_telea)


def test_every_row_and_every_score_is_there(table, methods):
    means = scores.mean_scores(table)
    assert [*means.index] == [*methods] and {*BASELINES} < {*methods}
    wanted = "l1 psnr ssim slopes l1_overlap l1_covered seam slot_accuracy residual_iou"
    wanted += " order order_visible l1_inpainted psnr_inpainted"
    assert {*means.columns} == {*wanted.split()}
    assert table.shape == (6, len(methods) * 13) and table.index.is_unique
    assert np.isfinite(means["l1"]).all()


def test_scores_of_a_row_are_those_of_its_pictures(table, methods, loader):
    found = []
    for batch in loader:
        answer = methods["alpha_mean"](batch)
        image = input_image(batch["partial"], batch["mask"], answer["fused"])
        found.append(hole_scores(image, batch["target"], batch["mask"])["l1"])
    assert table["alpha_mean", "l1"].to_numpy() == pytest.approx(
        torch.cat(found).numpy(), nan_ok=True
    )
    mean = scores.mean_scores(table).loc["alpha_mean", "l1"]
    assert mean == pytest.approx(torch.cat(found).nanmean().item()), "each picture counts once"


def test_the_oracle_has_the_least_error(table):
    l1 = table.xs("l1", level="score", axis=1)
    backdrop_or_slot = l1.drop(
        columns=["oracle", "inpaint_only", "network", "confidence", "alpha_mean"]
    )
    assert (backdrop_or_slot.min(axis=1) >= l1["oracle"] - 1e-6).all()


def test_what_is_not_said_is_not_scored(table):
    silent = table["inpaint_only"]
    assert silent[["slot_accuracy", "residual_iou", "order"]].isna().all(axis=None)
    assert table["network"][["slot_accuracy", "order"]].notna().any().all()
    counted = scores.intervals(table, "slot_accuracy")
    assert counted.loc["inpaint_only", ["count", "undefined"]].tolist() == [0, 6]


def test_visible_pairs_are_some_of_the_pairs(methods, loader):
    batch = next(iter(loader))
    sure = torch.where(batch["order"] == 255, 0.5, batch["order"].float())
    answer = methods["alpha_mean"](batch)
    right = scores.score_answer(answer | dict(order=sure), batch)
    assert (
        right["order"].nan_to_num(1).eq(1).all()
        and right["order_visible"].nan_to_num(1).eq(1).all()
    )
    wrong = scores.score_answer(answer | dict(order=1 - sure), batch)
    assert wrong["order"].nan_to_num(0).eq(0).all()
    everywhere = batch | dict(mask=torch.ones_like(batch["mask"]))
    hidden = scores.score_answer(answer | dict(order=sure), everywhere)
    assert hidden["order_visible"].isnan().all(), "in a hole that is everywhere nothing is visible"


def test_only_the_rest_is_inpainted(methods, loader):
    batch = next(iter(loader))
    answer = methods["true_order"](batch)
    seen = []

    def black(image, hole):
        seen.append(hole)
        return image.masked_fill(hole, 0)

    found = scores.score_inpainted(answer, batch, black)
    image = input_image(batch["partial"], batch["mask"], answer["fused"])
    rest = batch["mask"] & (answer["weights"][:, -1:] > 0.5)
    expected = hole_scores(image.masked_fill(rest, 0), batch["target"], batch["mask"])
    assert torch.allclose(found["l1_inpainted"], expected["l1"], equal_nan=True)
    assert all(torch.equal(a, b) for a, b in zip(seen, [r for r in rest if r.any()], strict=True))
    alone = scores.score_inpainted(methods["inpaint_only"](batch), batch, black)
    everything = hole_scores(
        batch["partial"].masked_fill(batch["mask"], 0), batch["target"], batch["mask"]
    )
    assert torch.allclose(alone["l1_inpainted"], everything["l1"], equal_nan=True)


def test_differences_are_taken_picture_by_picture():
    columns = pd.MultiIndex.from_product([["a", "b"], ["l1"]], names=["method", "score"])
    easy_and_hard = pd.DataFrame([[0.1, 0.2], [0.5, 0.6], [0.9, 1.0]], columns=columns)
    row = scores.differences(easy_and_hard, "a").loc["b"]
    assert row["mean"] == pytest.approx(-0.1) and row["high"] < 0, (
        "certain, though the means overlap"
    )
    spread = scores.intervals(easy_and_hard)
    assert spread.loc["a", "high"] > spread.loc["b", "low"]


def test_a_network_is_scored_in_eval_mode_and_left_as_it_was(methods, loader):
    network = methods["network"].train()
    modes = []
    hook = network.register_forward_hook(lambda module, *_: modes.append(module.training))
    scores.score_methods(dict(network=network), loader)
    hook.remove()
    assert modes == [False, False] and network.training


def test_the_picture_leaves_out_methods_without_the_score(table):
    figure = scores.show_scores(table, "residual_iou")
    assert "inpaint only" not in [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_refusals_name_what_is_wrong(table, methods):
    with pytest.raises(ConfigError, match="unknown score 'psnrr': did you mean 'psnr'"):
        scores.intervals(table, "psnrr")
    with pytest.raises(ConfigError, match="unknown method 'orakel'"):
        scores.differences(table, "orakel")
    untrue = dataset("val", side=32, count=1)[0]
    del untrue["target"]
    with pytest.raises(ConfigError, match="without `target`"):
        scores.score_methods(dict(mean=methods["mean_all"]), DataLoader([untrue]))
    with pytest.raises(ConfigError, match="without `target`"):
        scores.score_methods(dict(network=nn.Identity()), DataLoader([untrue]))


def test_a_network_may_see_less_than_it_is_scored_on(methods):
    batch = next(iter(DataLoader(dataset("val", side=64, count=2), batch_size=2)))
    network = methods["network"].model
    sizes = []
    hook = network.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))
    small, full = (scores.NetworkMethod(network, side).eval()(batch) for side in (32, 0))
    hook.remove()
    assert sizes == [32, 64] and small.keys() == full.keys()
    assert small["fused"].shape == full["fused"].shape == (2, 3, 64, 64)
    assert small["order"].shape == (2, 4, 4)
