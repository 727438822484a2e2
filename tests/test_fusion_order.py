"Who is in front."

import pytest
import torch

from seglab.core import DatasetError
from seglab.fusion.order import (
    RULES,
    agreement,
    order_accuracy,
    order_from_ranks,
    overlaps,
    pair_truth,
    read_order,
    sort_slots,
    untangle,
    write_order,
)


def stack(nearest_first, side=24, hole=None):
    "Four squares in one colour each; partial, mask, completions, alphas, valid, as batch of one."
    generator = torch.Generator().manual_seed(3)
    colours = 0.8 * torch.rand(4, 3, 1, 1, generator=generator)
    alphas = torch.zeros(4, 1, side, side)
    for number in range(4):
        alphas[number, :, 2 + 2 * number : 14 + 2 * number, 2 + 2 * number : 14 + 2 * number] = 1
    image = torch.full((3, side, side), 0.9)
    for number in reversed(nearest_first):
        image = torch.where(alphas[number] > 0, colours[number], image)
    completions = torch.where(alphas > 0, colours, 1.0)
    mask = torch.zeros(1, side, side, dtype=torch.bool) if hole is None else hole
    valid = torch.ones(4, dtype=torch.bool)
    return [x[None] for x in (image.masked_fill(mask, 1), mask, completions, alphas, valid)]


@pytest.mark.parametrize("line", [[0, 1, 2, 3], [3, 2, 1, 0], [3, 0, 2, 1]])
def test_agreement_finds_the_order_of_a_stack(line):
    sample = stack(line)
    order = agreement(*sample)
    assert torch.allclose(order + order.mT, torch.ones(()))
    ranks, cycles = sort_slots(order[0], sample[-1][0])
    assert ranks.argsort().tolist() == line
    assert not cycles


def test_agreement_is_undecided_without_evidence():
    partial, mask, completions, alphas, valid = stack([0, 1, 2, 3])
    assert (agreement(partial, ~mask, completions, alphas, valid) == 0.5).all()
    valid[:, 1] = False
    order = agreement(partial, mask, completions, alphas, valid)
    assert (order[:, 1] == 0.5).all() and (order[:, :, 1] == 0.5).all()


def test_agreement_turns_with_the_slots():
    partial, mask, completions, alphas, valid = stack([2, 0, 3, 1])
    turn = [3, 0, 2, 1]
    turned = agreement(partial, mask, completions[:, turn], alphas[:, turn], valid[:, turn])
    order = agreement(partial, mask, completions, alphas, valid)
    assert torch.allclose(turned, order[:, turn][:, :, turn], atol=1e-5)
    with pytest.raises(ValueError, match="alphas: axis N must be 4"):
        agreement(partial, mask, completions, alphas[:, :3], valid)


def test_overlaps_inside_and_outside_a_hole():
    _, mask, _, alphas, valid = stack([0, 1, 2, 3])
    assert overlaps(alphas, valid).sum() == 12
    mask[..., 8:14, 8:14] = True  # all that squares 0 and 3 share
    seen = overlaps(alphas, valid, ~mask)
    assert not seen[0, 0, 3] and seen[0, 0, 1] and torch.equal(seen, seen.mT)
    valid[:, 0] = False
    assert not overlaps(alphas, valid)[0, 0].any()


def test_circles_are_broken_at_the_least_sure_arrow_and_named():
    order = torch.full((4, 4), 0.5)
    for near, far, sure in [(0, 1, 0.9), (1, 3, 0.6), (3, 0, 0.8), (2, 0, 0.7)]:
        order[near, far], order[far, near] = sure, 1 - sure
    valid = torch.ones(4, dtype=torch.bool)
    ranks, cycles = sort_slots(order, valid, names=["cup", "hat", "box", "tie"])
    assert len(cycles) == 1
    assert cycles[0].endswith("dropped the least sure arrow hat > tie (0.60)")
    assert ranks[3] < ranks[0] < ranks[1] and ranks[2] < ranks[0]
    pairs = torch.ones(4, 4, dtype=torch.bool)
    pairs[1, 3] = pairs[3, 1] = False  # these two don't overlap: no circle at all
    assert not sort_slots(order, valid, pairs).cycles


def test_two_circles_with_a_common_arrow_end():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        upper = torch.rand(6, 6, generator=generator).triu(1)
        order = upper + (1 - upper.mT).tril(-1)
        straight = untangle(order[None], torch.ones(1, 6, dtype=torch.bool))[0]
        assert sorted((straight == 1).sum(dim=1).tolist()) == list(range(6))


@pytest.mark.parametrize(
    ("shared", "ranks", "truth"),
    [
        (5, [1, 2], 1),
        (5, [2, 1], 0),
        (5, [1, 1], 255),
        (4, [1, 2], 255),
        (0, [1, 2], 255),
    ],
)
def test_a_pair_has_a_truth_where_it_overlaps_and_is_not_equally_near(shared, ranks, truth):
    amodal = torch.zeros(2, 1, 64, 64, dtype=torch.bool)  # a thousandth of it is 4.1 pixels
    amodal[0, :, 0, :15], amodal[1, :, 0, 15 - shared : 40] = True, True
    found = pair_truth(torch.tensor(ranks), amodal)
    assert found[0, 1] == truth and found[1, 0] == (255 if truth == 255 else 1 - truth)
    assert (found.diagonal() == 255).all()


def test_a_picture_without_objects_has_no_pairs():
    nothing = pair_truth(torch.zeros(0), torch.zeros(0, 1, 8, 8, dtype=torch.bool))
    assert nothing.shape == (0, 0)


def test_empty_slots_come_last():
    valid = torch.tensor([False, True, False, True])
    ranks, _ = sort_slots(torch.full((4, 4), 0.5), valid)
    assert ranks.argsort().tolist() == [1, 3, 0, 2]
    assert sort_slots(torch.zeros(0, 0), torch.zeros(0, dtype=torch.bool)).ranks.shape == (0,)


def test_accuracy_counts_each_known_pair_once():
    truth = torch.tensor([[[255, 1, 255], [0, 255, 0], [255, 1, 255]]])
    order = order_from_ranks(torch.tensor([[0, 1, 2]]))
    assert order_accuracy(order, truth).item() == 0.5
    assert order_accuracy(1 - order, truth).item() == 0.5
    assert order_accuracy(torch.full((1, 3, 3), 0.5), truth).item() == 0
    assert order_accuracy(order, torch.full((1, 3, 3), 255)).isnan().all()


def test_rules_of_thumb():
    alphas = torch.zeros(1, 3, 1, 10, 10)
    alphas[0, 0, :, :4, :5], alphas[0, 1, :, 6:8, :5], alphas[0, 2] = 1, 1, 1
    valid = torch.tensor([[True, True, False]])
    pairs = {name: rule(alphas, valid)[0, 0, 1].item() for name, rule in RULES.items()}
    assert pairs == dict(slot_order=1, larger_in_front=1, smaller_in_front=0, lower_in_front=0)
    for rule in RULES.values():
        assert (rule(alphas, valid)[0, 2] == 0.5).all()


def test_order_files_come_back(tmp_path):
    order = agreement(*stack([2, 0, 3, 1]))[0]
    valid = torch.tensor([True, True, True, False])
    write_order(tmp_path / "x_order.json", order, valid, names=[1, 2, 3, 4], facts=dict(hole=0.1))
    back, content = read_order(tmp_path / "x_order.json")
    assert content["nearest_first"] == [3, 1, 2] and content["hole"] == 0.1
    assert torch.allclose(back[:3, :3], order[:3, :3], atol=1e-4)
    assert (back[3] == 0.5).all()


@pytest.mark.parametrize("text", ["", "[]", '{"slots": [0]}', '{"slots": 3, "pairs": []}'])
def test_what_is_no_order_file_is_named(tmp_path, text):
    (tmp_path / "bad_order.json").write_text(text)
    with pytest.raises(DatasetError, match="bad_order.json: not an order file"):
        read_order(tmp_path / "bad_order.json")
    with pytest.raises(DatasetError, match="absent.json: not an order file"):
        read_order(tmp_path / "absent.json")
