"Rounds, losses, training and predictions of the interactive networks."

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from seglab import checkpoints
from seglab.core import IGNORE, ConfigError
from seglab.interact.data import Click, Contour, Stroke, kind_of, tell
from seglab.interact.files import predict_files, read_interactions, write_interactions
from seglab.interact.lessons import LessonPlan, dataset
from seglab.interact.networks import build
from seglab.interact.plan import FitConfig, build_network, list_kinds, plan_training
from seglab.interact.rounds import choose_kind, encode_all, first_words, play_rounds
from seglab.interact.small import SmallConfig
from seglab.interact.task import fit, force_loss, mark, measure, predict, second_loss, step
from seglab.io import write_image

SIZE = SmallConfig(widths=(8, 16, 24), blocks=(1, 1, 1))


@pytest.fixture(scope="module")
def batch():
    return next(iter(DataLoader(dataset("train", "drawn", 48, 2, plan=LessonPlan(first=None)), 2)))


def network(**changes):
    torch.manual_seed(0)
    return build(replace(SIZE, **changes))


def test_small_network_takes_any_size_and_every_parameter_learns():
    net = network()
    for size in ((33, 50), (48, 48), (8, 8)):
        image = torch.rand(1, 3, *size)
        logits = net(image, image[:, :1], torch.zeros(1, 2, *size))["logits"]
        assert logits.shape == (1, 1, *size)
    image = torch.rand(1, 3, 48, 48)
    net(image, image[:, :1], image[:, :2])["logits"].square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_small_network_refuses_widths_it_cannot_normalise():
    with pytest.raises(ConfigError, match="multiples of 8"):
        SmallConfig(widths=(10, 20), blocks=(1, 1))
    with pytest.raises(ConfigError, match="two or more of each"):
        SmallConfig(widths=(8,), blocks=(1,))


def test_rounds_add_one_click_each_and_leave_the_network_as_it_was(batch):
    net = network().train()
    before, told, newest = play_rounds(net, batch, 2)
    assert net.training and not before.requires_grad and 0 <= before.min() <= before.max() <= 1
    assert [len(own) for own in told] == [3, 3] and all(len(own) == 1 for own in newest)


def test_rounds_repeat_with_torch_s_seed(batch):
    net = network()
    games = []
    for _ in range(2):
        torch.manual_seed(3)
        games.append(play_rounds(net, batch, 2)[1])
    assert games[0] == games[1]


def test_points_of_a_lesson_become_clicks():
    points = torch.full((1, 4, 3), -1.0)
    points[0, 1] = torch.tensor([5.0, 6.0, 0.0])
    points[0, 2] = torch.tensor([7.0, 8.0, 1.0])
    words = first_words(dict(points=points), "click", [])
    assert words == [[Click(5, 6), Click(7, 8, positive=False)]]


def test_clicks_stay_and_lines_go():
    click, stroke = Click(1, 2), Stroke([(0, 0), (4, 4), (5, 9)])
    contour = Contour([(0, 0), (4, 4), (5, 9)])
    assert tell([click, stroke], [contour]) == [click, contour]
    assert tell([click, stroke], [contour], "contour") == [contour]
    assert {choose_kind(("click", "stroke"), np.random.default_rng(n)) for n in range(20)} == {
        "click",
        "stroke",
    }


@pytest.mark.parametrize("kinds", [("click",), ("click", "contour", "stroke"), ("contour",)])
def test_losses_are_finite_for_every_kind(batch, kinds):
    net = network(kinds=kinds)
    for seed in range(3):
        torch.manual_seed(seed)
        losses = step(net, batch, FitConfig(force=0.3))
        assert set(losses) == {"focal", "dice", "force"}
        assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())


def test_forgetting_takes_the_last_answer_away(batch, monkeypatch):
    seen = []
    net = network()
    net.register_forward_pre_hook(lambda module, given: seen.append(given[1].abs().max().item()))
    monkeypatch.setattr("seglab.interact.task.torch.randint", lambda *a: torch.tensor(1))
    step(net, batch, FitConfig(forget=1.0))
    assert seen == [0, 0], "the first round has none, the last one lost it"


def test_nothing_to_see_is_a_lesson_too():
    nothing = dict(image=torch.rand(1, 3, 48, 48), target=torch.zeros(1, 1, 48, 48).byte())
    assert all(loss.isfinite() for loss in step(network(), nothing).values())
    silent = nothing | dict(target=torch.full((1, 1, 48, 48), IGNORE).byte())
    assert step(network(), silent, FitConfig(dice=0.0))["focal"] == 0
    assert measure(network(), silent)["iou_5"].isnan().all()


def test_marks_are_clicks_ends_and_insides():
    square = Contour([(2, 2), (2, 6), (6, 6), (6, 2)])
    line = Stroke([(0, 0), (1, 1), (9, 9)], positive=False)
    marks = mark([[Click(3, 4), square], [line, Click(99, 99)]], (10, 10))
    assert marks[0, 0, 3, 4] == 2 and marks[0, 0, 5, 5] == 1 and not marks[0, 1].any()
    assert marks[1, 1, 0, 0] == marks[1, 1, 9, 9] == 1 and marks[1, 1].sum() == 2
    assert not marks[1, 0].any(), "a click beyond the picture marks nothing"
    assert force_loss(torch.zeros(2, 1, 10, 10), torch.zeros_like(marks)) == 0


def test_second_head_ignores_what_is_ignored():
    target = torch.tensor([[[[1, IGNORE]]]])
    loss = second_loss(torch.tensor([[[[0.0, 50.0]]]]), target)
    assert torch.isclose(loss, torch.tensor(0.5 * np.log(2)).float())


def test_every_field_of_the_plan_arrives():
    assert list_kinds("stroke + click") == ("click", "stroke")
    plan = plan_training(FitConfig(schedule="milestones", milestones="3 5", weight_decay=0.5))
    assert plan.milestones == (3, 5) and plan.weight_decay == 0.5
    net = build_network(FitConfig(kinds="contour", accumulate=False))
    assert net.config.kinds == ("contour",) and not net.config.accumulate


def test_a_run_writes_what_another_goes_on_from(tmp_path):
    few = dict(epochs=1, samples=2, batch_size=2, side=32, val_pictures=2, ema=0.0)
    rows = fit(FitConfig(run_folder=str(tmp_path / "first"), **few))
    assert len(rows) == 1 and {"focal", "iou_1", "iou_5"} <= set(rows[0])
    start = str(tmp_path / "first" / "last.safetensors")
    net = build_network(FitConfig(pretrained=start))
    again = checkpoints.load(start)
    assert all(map(torch.equal, net.state_dict().values(), again.state_dict().values()))


def test_predictions_are_those_of_a_sitting():
    net, image = network().eval(), torch.rand(3, 50, 70)
    said = [Click(20, 30), Click(5, 5, positive=False)]
    one = predict(net, image, said)
    assert one["mask"].shape == (1, 50, 70) and one["mask"].dtype == torch.bool
    both = predict(net, torch.stack([image, image]), [said, said[:1]])
    assert torch.equal(both["probs"][0], one["probs"])
    for wrong, message in (
        ([], "say where the object is"),
        ([Click(70, 3)], "outside of the picture"),
        ([Contour([(1, 1), (9, 1), (9, 9)])], "reads only: click"),
    ):
        with pytest.raises(ValueError, match=message):
            predict(net, image, wrong)


def test_files_come_and_go(tmp_path):
    told = {"a": [[Click(3, 4), Stroke([(1, 2), (3, 4), (5, 6)], positive=False)]], "b": [[]]}
    write_interactions(tmp_path / "told.json", told)
    back = read_interactions(tmp_path / "told.json")
    assert [kind_of(one) for one in back["a"][0]] == ["click", "stroke"] and back["b"] == [[]]
    assert np.array_equal(back["a"][0][1].points, told["a"][0][1].points)
    write_image(tmp_path / "photos" / "b.png", torch.rand(3, 20, 30))
    table = predict_files(network().eval(), tmp_path / "photos", tmp_path / "told.json", tmp_path)
    assert "no picture called 'a'" in table.loc[("a", 1), "error"]
    assert "say where the object is" in table.loc[("b", 1), "error"]


def test_contours_are_regions_or_lines_as_the_network_was_taught():
    outline = [[Contour([(8, 8), (8, 40), (40, 40), (40, 8)])]]
    region, line = (
        encode_all(SmallConfig(kinds=("contour",), filled=filled), outline, (48, 48))
        for filled in (True, False)
    )
    assert region[0, 0, 24, 24] == 1 and line[0, 0, 24, 24] == 0 and line[0, 0, 8, 24] == 1
    net = build_network(FitConfig(kinds="contour", filled=False))
    assert not net.config.filled
