"One row an image, whatever the batches; intervals that cover; a model left as it was."

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from seglab.core import ConfigError
from seglab.evaluate import evaluate, score_plot, show_worst, summary, worst


class Numbers(Dataset):
    def __init__(self, named=True):
        self.named = named

    def __len__(self):
        return 11

    def __getitem__(self, index):
        sample = dict(x=torch.tensor(float(index)))
        return sample | (dict(name=f"n{index:02}") if self.named else {})


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.drop = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm1d(1).eval()

    def forward(self, x):
        return self.drop(self.scale * x)


def measure(model, batch):
    assert not model.training and torch.is_inference_mode_enabled()
    doubled = model(batch["x"])
    return dict(double=doubled, odd=torch.where(batch["x"] % 2 == 1, doubled, torch.nan))


@pytest.mark.parametrize("batch_size", [1, 3, 4, 11, 20])
@pytest.mark.parametrize("named", [True, False])
def test_rows_do_not_depend_on_batches(batch_size, named):
    table = evaluate(Net(), measure, DataLoader(Numbers(named), batch_size=batch_size))
    assert table["double"].tolist() == [2.0 * n for n in range(11)]
    assert table["odd"].isna().sum() == 6
    assert list(table.index) == ([f"n{n:02}" for n in range(11)] if named else list(range(11)))
    assert table.index.name == "image"


def test_shuffled_rows_keep_their_names():
    table = evaluate(Net(), measure, DataLoader(Numbers(), batch_size=4, shuffle=True))
    assert list(table.index) != sorted(table.index)
    assert all(table.loc[f"n{n:02}", "double"] == 2 * n for n in range(11))
    with pytest.raises(ConfigError, match="shuffles"):
        evaluate(Net(), measure, DataLoader(Numbers(False), batch_size=4, shuffle=True))


def test_the_model_gets_every_mode_back_even_after_an_error():
    net = Net().train()
    net.frozen.eval()
    evaluate(net, measure, DataLoader(Numbers(), batch_size=4))
    assert net.training and net.drop.training and not net.frozen.training

    def broken(model, batch):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        evaluate(net, broken, DataLoader(Numbers(), batch_size=4))
    assert net.training and not net.frozen.training


def test_a_measure_that_draws_gives_the_same_table_again():
    def draws(model, batch):
        return dict(random=torch.rand(len(batch["x"])) + np.random.rand())

    tables = [
        evaluate(Net(), draws, DataLoader(Numbers(), batch_size=4), seed=seed) for seed in (0, 0, 1)
    ]
    assert tables[0].equals(tables[1]) and not tables[0].equals(tables[2])


def test_bfloat16_scores_and_models_without_parameters():
    table = evaluate(
        nn.Identity(), lambda m, b: dict(x=m(b["x"]).bfloat16()), DataLoader(Numbers())
    )
    assert table["x"].dtype == np.float64


@pytest.mark.parametrize(
    "bad, words",
    [
        (lambda m, b: dict(a=b["x"].mean()), r"score 'a' must have shape \(4,\), got \(\)"),
        (lambda m, b: dict(a=b["x"], b=b["x"][:-1]), "score 'b' must have shape"),
        (lambda m, b: dict(a=b["x"][:, None]), "score 'a' must have shape"),
        (lambda m, b: {f"s{len(b['x'])}": b["x"]}, "the same scores for every batch"),
    ],
)
def test_bad_measures_are_named(bad, words):
    for named in (True, False):
        with pytest.raises(ValueError, match=words):
            evaluate(Net(), bad, DataLoader(Numbers(named), batch_size=4))


def test_an_empty_loader_is_refused():
    with pytest.raises(ConfigError, match="no batch"):
        evaluate(Net(), measure, DataLoader(Numbers(), batch_size=20, drop_last=True))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    table = pd.DataFrame(generator.normal(0.5, 0.1, (60, 200)))
    rows = summary(table)
    covered = ((rows["low"] <= 0.5) & (rows["high"] >= 0.5)).mean()
    assert 0.88 <= covered <= 0.99
    narrower = summary(table.iloc[:, :5], level=0.5)
    assert (narrower["high"] - narrower["low"] < (rows["high"] - rows["low"]).iloc[:5]).all()


def test_summary_of_odd_columns():
    table = pd.DataFrame(dict(none=[math.nan] * 3, one=[math.nan, 2.0, math.nan], same=[1.0] * 3))
    rows = summary(table)
    assert math.isnan(rows.loc["none", "mean"]) and rows.loc["none", "undefined"] == 3
    assert rows.loc["one", "mean"] == 2 and math.isnan(rows.loc["one", "low"])
    assert rows.loc["same", ["mean", "std", "low", "high"]].tolist() == [1, 0, 1, 1]
    assert summary(table).equals(rows), "seeded"


def test_worst_orders_both_ways_and_leaves_nan_out():
    table = pd.DataFrame(dict(s=[0.3, math.nan, 0.1, 0.9]), index=list("abcd"))
    assert list(worst(table, "s", 2).index) == ["c", "a"]
    assert list(worst(table, "s", 9, higher_is_better=False).index) == ["d", "a", "c"]
    with pytest.raises(ConfigError, match="known are s"):
        worst(table, "t")


def test_pictures_are_drawn_and_closed():
    table = pd.DataFrame(dict(s=[0.3, math.nan], t=[1.0, 2.0]), index=list("ab"))
    assert len(score_plot(table).axes) == 2

    def draw(name):
        pictures = dict(image=torch.rand(3, 8, 8), mask=torch.ones(1, 8, 8, dtype=torch.bool))
        return pictures if name == "a" else dict(image=pictures["image"])

    assert len(show_worst(table, draw).axes) == 4
    with pytest.raises(ConfigError, match="1 to 12"):
        show_worst(table.iloc[:0], draw)
