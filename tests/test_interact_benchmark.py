"Data sets played: interruptions, processes, tables."

import json
import os

import numpy as np
import pandas as pd
import pytest
import torch

from seglab.core import ConfigError, DatasetError
from seglab.interact import benchmark
from seglab.interact.baselines import ColourNet
from seglab.interact.benchmark import (
    Match,
    Scaled,
    draw_samples,
    find_samples,
    play_set,
    read_games,
    replay,
)
from seglab.interact.episode import Rules, clicks_only, find_players
from seglab.interact.hrnet import HRNetClickConfig
from seglab.interact.networks import build
from seglab.interact.pictures import ObjectSample
from seglab.interact.predictor import Predictor, make_predictor
from seglab.interact.speed import speed_up
from seglab.interact.tables import (
    count_games,
    intervals,
    mean_curves,
    pad,
    result_table,
    show_curves,
    spread,
    worst_games,
)

TIMES = ["seconds", "seconds_model"]


@pytest.fixture(scope="module")
def match():
    predictor = make_predictor(ColourNet(), "ritm", side=48)
    return Match(predictor, draw_samples(11, side=64), dict(clicks=clicks_only), Rules(budget=3))


def test_a_stopped_run_goes_on(match, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "SHARES", 1)  # as in a set of hundreds of objects

    class Stops(list):
        def __getitem__(self, index):
            if index == 9:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    stopped = Match(match.predictor, Stops(match.samples), match.players, match.rules)
    with pytest.raises(KeyboardInterrupt):
        play_set(stopped, tmp_path / "part")
    assert len(read_games(tmp_path / "part")) == 8, "the first share is there, whole"
    assert not list((tmp_path / "part").glob(".*")), "and nothing half written"
    file = tmp_path / "part" / "games_000000.json"
    before = os.stat(file).st_mtime_ns
    continued = play_set(match, tmp_path / "part")
    whole = play_set(match, tmp_path / "whole")
    assert os.stat(file).st_mtime_ns == before, "not played again"
    assert continued.drop(columns=TIMES).equals(whole.drop(columns=TIMES))


@pytest.mark.parametrize("count,shares,largest", [(1, 1, 1), (4, 4, 1), (50, 17, 3), (345, 44, 8)])
def test_small_sets_are_shared_out_in_small_shares(tmp_path, count, shares, largest):
    found = [*benchmark._shares(count, tmp_path).items()]
    assert len(found) == shares and max(len(numbers) for _, numbers in found) == largest
    assert [number for _, numbers in found for number in numbers] == [*range(count)]
    assert found[-1][0].name == f"games_{found[-1][1][0]:06d}.json"


def test_a_network_is_sent_to_several_processes(tmp_path):
    "Three hundred tensors and more, of which some share their memory; see `_receive`."
    torch.manual_seed(0)
    net = speed_up(build(HRNetClickConfig(side=64, width=4, region=8)), "bf16")
    samples = draw_samples(4, side=64)
    match = Match(Predictor(net, fixed=(64, 64)), samples, find_players("clicks"), Rules(budget=2))
    alone = play_set(match, tmp_path / "one").drop(columns=TIMES)
    assert play_set(match, tmp_path / "two", workers=2).drop(columns=TIMES).equals(alone)


def test_several_processes_find_the_same(match, tmp_path):
    talk = find_players("click, stroke")
    spoken = Match(match.predictor, match.samples, talk, Rules(budget=2, goal=2), seed=5)
    alone = play_set(spoken, tmp_path / "one").drop(columns=TIMES)
    assert play_set(spoken, tmp_path / "two", workers=2).drop(columns=TIMES).equals(alone)
    other = Match(match.predictor, match.samples, talk, Rules(budget=2, goal=2), seed=6)
    changed = play_set(other, tmp_path / "other").drop(columns=TIMES)
    assert changed["ious"].tolist() != alone["ious"].tolist(), "chance comes from the seed"


def test_other_rules_are_refused(match, tmp_path):
    play_set(match, tmp_path, limit=2, settings="a")
    for change in (dict(settings="b"), dict(limit=3, settings="a")):
        with pytest.raises(ConfigError, match="choose another folder"):
            play_set(match, tmp_path, **dict(dict(limit=2, settings="a"), **change))
    with pytest.raises(ConfigError, match="rules = .*, not"):
        other = Match(match.predictor, match.samples, match.players, Rules(budget=4))
        play_set(other, tmp_path, limit=2, settings="a")
    with pytest.raises(ConfigError, match="holds no games"):
        read_games(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="the data set is empty"):
        play_set(Match(match.predictor, [], match.players), tmp_path / "empty")


def test_games_can_be_played_again(match, tmp_path):
    games = play_set(match, tmp_path, limit=3)
    again = replay(match, 2, "clicks")
    assert again.ious == games["ious"][2] and again.mask.any()
    records = json.loads((tmp_path / "games_000000.json").read_text())
    assert {"mask", "interactions"}.isdisjoint(records[0]) and records[0]["name"] == "drawn 0"


def test_samples_are_found_by_name(tmp_path, monkeypatch):
    from seglab.io import write_image, write_mask

    monkeypatch.setenv("SEGLAB_DATA", str(tmp_path))
    for name in "ab":
        sample = draw_samples(1, 32, seed=ord(name))[0]
        write_image(tmp_path / "things" / "images" / f"{name}.png", sample.image / 255)
        write_mask(tmp_path / "things" / "masks" / f"{name}.png", sample.target == 1)
    assert len(find_samples("things")) == 2
    (tmp_path / "things" / "val.txt").write_text("b\n")
    assert [one.name for one in find_samples("things")] == ["b"]
    assert len(find_samples(str(tmp_path / "things"))) == 1
    with pytest.raises(DatasetError, match="unknown data set 'nothing'; known are"):
        find_samples("nothing")


def test_scaled_keeps_labels():
    sample = draw_samples(1, 64)[0]
    sample.target[:, :9] = 255
    wide = ObjectSample("wide", 1, sample.image[:, :32], sample.target[:, :32])
    small = Scaled([wide], 20)[0]
    assert small.image.shape == (3, 10, 20) and small.image.dtype == torch.uint8
    assert {0, 1, 255} >= set(small.target.unique().tolist()) and (small.target == 255).any()


def table(*lists, rims=None) -> pd.DataFrame:
    games = pd.DataFrame(dict(number=range(len(lists)), player="clicks", ious=list(lists)))
    games["boundary_ious"] = [[np.nan] * len(own) for own in lists] if rims is None else rims
    return games.assign(seconds=1.0, seconds_model=0.5)


def test_failures_are_counted_apart():
    counts = count_games(table([0.5, 0.9], [0.1, 0.2, 0.9], [0.1] * 3), 3, (0.9,), (1,))
    assert counts["NoC@90"].tolist() == [2, 3, 3]
    assert counts["NoF@90"].tolist() == [0, 0, 1] and counts["spent@90"].tolist() == [0, 1, 1]
    both = result_table(dict(a=counts, b=counts))
    assert both.loc["a", "NoC@90"] == pytest.approx(8 / 3) and both.loc["a", "NoF@90"] == 1
    assert both.loc["all", "NoF@90"] == 2 and both.loc["all", "objects"] == 6
    assert both.loc["all", "NoC@90"] == pytest.approx(8 / 3)
    limits = intervals(counts).loc["NoC@90"]
    assert limits["low"] <= 8 / 3 <= limits["high"] and limits["count"] == 3


def test_short_games_keep_their_last_value():
    assert pad([[0.2, 0.4]], 4).tolist() == [[0.2, 0.4, 0.4, 0.4]]
    assert np.isnan(pad([[0.2]], 3, last=False)).sum() == 2
    counts = count_games(table([0.5], rims=[[0.25]]), 5, after=(3,))
    assert counts["IoU@3"].item() == 0.5 and counts["BIoU@3"].item() == 0.25
    assert worst_games(count_games(table([0.5], [0.1]), 2, after=(1,)), "IoU@1", 1) == [
        (1, "clicks")
    ]


def test_curves_have_a_line_for_every_player():
    games = table([0.2, 0.4], [0.6]).assign(player=["a", "b"])
    curves = mean_curves(games, 3)
    assert np.allclose(curves.loc["a"], [0.2, 0.4, 0.4]) and np.allclose(curves.loc["b"], 0.6)
    assert spread(curves)["best"] == "b"
    assert len(show_curves(dict(x=curves)).axes[0].lines) == 1
