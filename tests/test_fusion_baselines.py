"Rules that fuse without learning."

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from seglab.core import ConfigError
from seglab.fusion.baselines import BASELINES, NEEDS, confidence, run_baseline
from seglab.fusion.simulate import make_sample
from seglab.overlaps import draw_overlaps


@pytest.fixture(scope="module")
def batch():
    "Six drawn samples: three with an empty slot."
    samples = [
        make_sample(draw_overlaps(seed, 48, 3 + seed % 2), np.random.default_rng(seed), slots=4)
        for seed in range(6)
    ]
    return default_collate(samples)


def error(name, batch):
    "Mean over samples of the mean absolute error in the hole."
    wrong = (run_baseline(name, batch)["fused"] - batch["target"]).abs().mean(dim=1, keepdim=True)
    inside = (wrong * batch["mask"]).sum(dim=(1, 2, 3)) / batch["mask"].sum(dim=(1, 2, 3))
    return inside.mean().item()


@pytest.mark.parametrize("name", BASELINES)
def test_every_rule_gives_pictures_and_mostly_weights(name, batch):
    answer = run_baseline(name, batch)
    assert answer["fused"].shape == batch["partial"].shape
    assert answer["fused"].min() >= -1e-5 and answer["fused"].max() <= 1 + 1e-5
    if name == "inpaint_only":
        return
    weights = answer["weights"]
    assert weights.shape == (6, 5, 48, 48)
    assert torch.allclose(weights.sum(dim=1), torch.ones(()), atol=1e-5) and weights.min() >= 0
    if name != "mean_all":  # which counts empty slots on purpose
        assert (weights[:, :-1][~batch["valid"]] == 0).all()


def test_knowledge_pays(batch):
    errors = {name: error(name, batch) for name in BASELINES}
    assert errors["oracle"] < errors["true_order"] < errors["alpha_mean"] < errors["mean_valid"]
    assert errors["oracle"] <= errors["oracle_completions"] < errors["mean_valid"]
    assert errors["mean_valid"] < errors["mean_all"]
    assert errors["oracle"] == min(errors.values())


def test_order_rules_return_their_order(batch):
    order = run_baseline("agreement_order", batch)["order"]
    assert order.shape == (6, 4, 4)
    assert set(order.unique().tolist()) <= {0, 0.5, 1}
    assert "order" not in run_baseline("alpha_mean", batch)


def test_batches_and_single_samples_agree(batch):
    one = {name: value[2:3] for name, value in batch.items()}
    for name in BASELINES:
        alone, among = run_baseline(name, one)["fused"], run_baseline(name, batch)["fused"][2:3]
        assert torch.allclose(alone, among, atol=1e-5), name


def test_a_completion_that_is_wrong_where_one_can_see_loses_its_voice():
    side = 40
    alphas = torch.ones(1, 2, 1, side, side)
    mask = torch.zeros(1, 1, side, side, dtype=torch.bool)
    mask[..., 10:30, 10:30] = True
    truth = torch.full((1, 3, side, side), 0.4)
    completions = torch.stack([truth, truth + 0.3], dim=1)
    sample = dict(partial=truth.masked_fill(mask, 1), mask=mask, completions=completions)
    sample |= dict(alphas=alphas, valid=torch.ones(1, 2, dtype=torch.bool), backdrop=truth + 0.5)
    weights = confidence(sample)["weights"]
    assert weights[:, 0].min() > 0.9


def test_without_any_completion_the_background_is_left(batch):
    nothing = batch | dict(valid=torch.zeros_like(batch["valid"]))
    for name in set(BASELINES) - {"mean_all", "inpaint_only", "oracle_completions"}:
        assert torch.allclose(run_baseline(name, nothing)["fused"], batch["backdrop"], atol=1e-5), (
            name
        )


def test_unknown_names_and_missing_truths_are_refused(batch):
    with pytest.raises(ConfigError, match="unknown baseline 'mean'"):
        run_baseline("mean", batch)
    for name, truth in NEEDS.items():
        blind = {key: value for key, value in batch.items() if key != truth}
        with pytest.raises(ConfigError, match=f"'{name}' needs '{truth}'"):
            run_baseline(name, blind)
