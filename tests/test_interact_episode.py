"Episodes: who speaks, what is scored, and when it ends."

import numpy as np
import pytest
import torch

from seglab.core import ConfigError, DatasetError
from seglab.interact.baselines import ColourNet
from seglab.interact.data import Click, Contour, Stroke
from seglab.interact.episode import (
    Rules,
    Scorer,
    Talker,
    Turn,
    clicks_only,
    find_players,
    play,
)
from seglab.interact.patch import Patch
from seglab.interact.pictures import ObjectSample
from seglab.interact.predictor import Predictor, make_predictor
from seglab.interact.selectors import InOrder
from seglab.interact.zoom import Box
from seglab.metrics import boundary_iou, mask_iou
from seglab.synthetic import draw_scene


@pytest.fixture(scope="module")
def sample():
    scene = draw_scene(53, side=96, objects=2)
    target = scene.visible[1].byte()
    target[:, :, :4] = 255
    return ObjectSample("drawn", 1, (scene.image * 255).byte(), target)


class Scripted:
    "Answers with what it was given, one after the other; the last again and again."

    seconds = 0.0

    def __init__(self, *masks: torch.Tensor):
        self.masks = masks

    def begin(self, image):
        self.size, self.calls, self.asked = tuple(image.shape[1:]), 0, []

    def see(self, interactions):
        mask = self.masks[min(self.calls, len(self.masks) - 1)]
        self.calls, self.asked = self.calls + 1, [*self.asked, list(interactions)]
        return Patch(mask[0].float().numpy(), Box(0, 0, *self.size), self.size)


@pytest.mark.parametrize("band", [0.02, 4])
def test_scores_are_those_of_the_library(sample, band):
    generator = np.random.default_rng(3)
    target = sample.target[0].numpy()
    scorer = Scorer(target, band)
    truth, ignore = (torch.from_numpy(target == code)[None, None] for code in (1, 255))
    for _ in range(20):
        top, left = generator.integers(0, 60, 2)
        box = Box(int(top), int(left), *map(int, generator.integers(5, 36, 2)))
        mask = np.zeros(target.shape, bool)
        mask[box.slices] = generator.random(box[2:]) < 0.9
        tensor = torch.from_numpy(mask)[None, None]
        iou, biou = scorer.score(mask, box)
        assert iou == pytest.approx(mask_iou(tensor, truth, ignore).item(), abs=1e-6)
        assert biou == pytest.approx(boundary_iou(tensor, truth, band, ignore).item(), abs=1e-6)


def test_ends_at_the_goal_at_the_budget_and_when_nothing_is_wrong(sample):
    truth, nothing = sample.target == 1, torch.zeros_like(sample.target)
    assert play(Scripted(nothing, truth), sample, Rules(budget=9)).ious == [0, 1]
    assert len(play(Scripted(nothing), sample, Rules(budget=3)).ious) == 3
    perfect = Rules(budget=5, goal=2)
    assert play(Scripted(truth), sample, perfect).ious == [1], "nothing left to click on"
    kept = play(Scripted(truth), sample, Rules(budget=5, goal=2, protocol="paper"))
    assert kept.ious == [1] * 5 and kept.interactions[1:] == [Click(0, 0, False)] * 4
    assert play(Scripted(truth), sample, Rules(budget=5, least=1)).ious == [1]


def test_the_mask_of_a_smaller_answer_replaces_the_old_one(sample):
    full, part = torch.ones_like(sample.target), torch.zeros_like(sample.target)
    part[0, 60:70, 60:70] = 1
    episode = play(Scripted(full, part), sample, Rules(budget=2, goal=2))
    assert episode.mask.sum() == 100 and (episode.mask == part[0].numpy().astype(bool)).all()


def test_clicks_stay_and_lines_go(sample):
    predictor = Scripted(torch.zeros_like(sample.target))
    play(
        predictor,
        sample,
        Rules(budget=4),
        find_players("click,contour,stroke")["click,contour,stroke"],
    )
    kinds = [[type(one) for one in asked] for asked in predictor.asked]
    assert kinds == [[Click], [Click, Contour], [Click, Stroke], [Click, Click]]


def test_episodes_can_be_repeated(sample):
    predictor = make_predictor(ColourNet(), "saic", side=48)
    player = find_players("random")["random"]
    runs = [
        play(predictor, sample, Rules(budget=4, goal=2), player, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    assert runs[0].ious == runs[1].ious and runs[0].kinds == runs[1].kinds
    assert runs[0].ious != runs[2].ious
    assert 0 < runs[0].seconds_model < runs[0].seconds


def test_published_robots_may_say_nothing(sample):
    target = np.zeros((40, 40), np.uint8)
    target[20, 20] = 1  # too small to be circled
    talk = Talker(InOrder(("contour", "stroke")))
    for step, kind in enumerate((Contour, Stroke)):
        turn = Turn(step, target == 0, target, [], np.random.default_rng(0), "ours")
        mask = np.zeros((40, 40), bool)
        said = talk(turn._replace(mask=mask))
        assert said is not None, "something is wrong, so something is said"
        silent = talk(turn._replace(mask=target == 1, protocol="paper"))
        assert isinstance(silent, kind)
        assert talk(turn._replace(mask=target == 1)) is None, "nothing is wrong"


def test_large_pictures_are_played_small_and_scored_in_full(sample):
    predictor = Predictor(ColourNet(), flip=False)
    episode = play(predictor, sample, Rules(budget=2, goal=2, longest=48))
    assert predictor.image.shape == (3, 48, 48) and episode.mask.shape == (48, 48)
    target = sample.target
    half = target[:, ::2, ::2]
    found = play(Scripted(half == 1), sample, Rules(budget=1, longest=48))
    enlarged = (half == 1).repeat_interleave(2, 1).repeat_interleave(2, 2)
    wanted = mask_iou(enlarged[None], (target == 1)[None], (target == 255)[None]).item()
    assert found.ious == pytest.approx([wanted], abs=1e-6)


def test_bad_input_is_refused(sample):
    empty = ObjectSample("grey", 4, sample.image, torch.full_like(sample.target, 255))
    with pytest.raises(DatasetError, match="grey: marks no pixel of object 4"):
        play(Scripted(sample.target == 1), empty)
    with pytest.raises(ConfigError, match="unknown protocol 'published'"):
        Rules(protocol="published")
    with pytest.raises(ConfigError, match="needs a budget"):
        Rules(budget=0)
    with pytest.raises(ConfigError, match="unknown kind of interaction 'scribble'"):
        find_players("click, scribble")


def test_an_object_of_one_pixel_can_be_played(sample):
    target = torch.zeros_like(sample.target)
    target[0, 50, 50] = 1
    dot = ObjectSample("dot", 1, sample.image, target)
    for player in (clicks_only, *find_players("schedule").values()):
        episode = play(
            make_predictor(ColourNet(), "whole"), dot, Rules(budget=3, band=0.02), player
        )
        assert len(episode.ious) == 3
