"Scores of instances against slow, independent definitions; what they refuse; where they are undefined."

import itertools
import math

import pytest
import torch

from seglab import instances


def picture(seed: int, predicted: int = 5, objects: int = 3, side: int = 12) -> tuple:
    "Boxes as predictions, most of them near a true one, with scores that often tie."
    generator = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))

    def boxes(count: int) -> torch.Tensor:
        corners = torch.randint(0, side - 3, (count, 2, 1, 1), generator=generator)
        sizes = torch.randint(3, side // 2, (count, 2, 1, 1), generator=generator)
        return ((grid >= corners) & (grid < corners + sizes)).all(dim=1)

    target, masks = boxes(objects), boxes(predicted)
    near = max(0, min(objects, predicted - 1))
    masks[:near] = target[:near].roll(int(torch.randint(0, 2, (1,), generator=generator)), 2)
    scores = torch.randint(0, 6, (predicted,), generator=generator) / 5
    return masks, scores, target


def slow_match(ious: list[list[float]], scores: list[float], threshold: float) -> list[int]:
    "COCO's rule, written with sets."
    taken, found = set(), [-1] * len(scores)
    for p in sorted(range(len(scores)), key=lambda p: -scores[p]):
        free = [(ious[p][t], -t) for t in range(len(ious[p])) if t not in taken]
        if free and max(free)[0] >= threshold:
            found[p] = -max(free)[1]
            taken.add(found[p])
    return found


def slow_average_precision(rows: list[tuple[float, bool]], objects: int) -> float:
    "Mean of the best precision at or beyond 101 recalls; every cut of the list is tried for each."
    rows = sorted(rows, key=lambda row: -row[0])
    cuts = [(sum(hit for _, hit in rows[:n]), n) for n in range(1, len(rows) + 1)]
    best = [
        max((hits / n for hits, n in cuts if hits / objects >= recall / 100 - 1e-12), default=0)
        for recall in range(101)
    ]
    return sum(best) / 101


@pytest.mark.parametrize("height,width", [(5, 7), (1, 1), (700, 800)])  # the last takes three slabs
def test_ious_count_sets_of_pixels(height, width):
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.rand(n, height, width, generator=generator) < 0.4 for n in (3, 2))
    ious = instances.mask_ious(one, other)
    assert ious.shape == (3, 2) and ious.dtype == torch.float32
    for (i, a), (j, b) in itertools.product(enumerate(one), enumerate(other)):
        both, either = (a & b).sum().item(), (a | b).sum().item()
        wanted = torch.tensor(both / either if either else math.nan)
        assert torch.allclose(ious[i, j], wanted, rtol=1e-6, equal_nan=True)


def test_ious_stay_exact_in_mixed_precision():
    masks = torch.ones(1, 30, 30, dtype=torch.bool)
    fewer = masks.clone()
    fewer[0, 0, 0] = False
    with torch.autocast("cpu", torch.bfloat16):
        assert instances.mask_ious(masks, fewer).item() == torch.tensor(899 / 900)


def test_no_masks_are_no_error():
    some, none = torch.ones(2, 4, 4, dtype=torch.bool), torch.zeros(0, 4, 4, dtype=torch.bool)
    assert instances.mask_ious(some, none).shape == (2, 0)
    assert instances.mask_ious(none, some).shape == (0, 2)
    count = instances.instance_counts
    assert count(some, torch.rand(2), none).tolist() == [0, 2, 0]
    assert count(none, torch.rand(0), some).tolist() == [0, 0, 2]
    assert count(none, torch.rand(0), none).tolist() == [0, 0, 0]
    assert instances.mask_nms(none, torch.rand(0)).tolist() == []
    for value in instances.instance_f1(count(none, torch.rand(0), none)).values():
        assert value.isnan()


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.75, 1.0])
def test_matches_follow_the_rule(threshold):
    matched = 0
    for seed in range(60):
        masks, scores, target = picture(seed)
        ious = instances.mask_ious(masks, target)
        found = instances.match_instances(ious, scores, threshold).tolist()
        assert found == slow_match(ious.tolist(), scores.tolist(), threshold)
        matched += sum(truth >= 0 for truth in found)
    assert matched > 20, "the cases test something"


def test_an_empty_mask_is_matched_with_nothing():
    empty = torch.zeros(2, 4, 4, dtype=torch.bool)
    assert instances.instance_counts(empty, torch.rand(2), empty).tolist() == [0, 2, 2]


@pytest.mark.parametrize("threshold", [0.5, 0.75])
def test_average_precision_is_the_mean_over_101_recalls(threshold):
    for start in range(0, 60, 6):
        pictures, rows, objects = [], [], 0
        for seed in range(start, start + 6):
            masks, scores, target = picture(seed, predicted=seed % 5, objects=(seed + 1) % 4)
            scores = scores + torch.rand(len(scores)) * 1e-3  # the order of ties is nobody's
            ious = instances.mask_ious(masks, target)
            found = slow_match(ious.tolist(), scores.tolist(), threshold)
            rows += [(s, t >= 0) for s, t in zip(scores.tolist(), found, strict=True)]
            objects += len(target)
            pictures.append((ious, scores))
        ours = instances.average_precision(iter(pictures), threshold).item()
        assert ours == pytest.approx(slow_average_precision(rows, objects), abs=1e-9)
        assert instances.average_precision(pictures[::-1], threshold).item() == ours


def test_average_precision_of_a_perfect_answer_is_one():
    for objects in (1, 3, 7, 10):
        assert instances.average_precision([(torch.eye(objects), torch.rand(objects))]) == 1
    assert instances.average_precision([]).isnan()


def test_suppression_by_trying_all_pairs():
    dropped = 0
    for seed in range(30):
        masks, scores, _ = picture(seed, predicted=8)
        kept = instances.mask_nms(masks, scores, 0.3).tolist()
        ious = instances.mask_ious(masks, masks)
        order = sorted(range(8), key=lambda n: -scores[n])
        assert kept == [n for n in order if n in kept]
        for n in range(8):
            surer = [k for k in kept if order.index(k) < order.index(n)]
            assert (n in kept) == all(ious[n, k] <= 0.3 for k in surer)
        dropped += 8 - len(kept)
    assert dropped > 30
    half = torch.tensor([[[True, True]], [[True, False]]])  # an IoU of exactly one half
    assert instances.mask_nms(half, torch.tensor([2.0, 1.0]), 0.5).tolist() == [0, 1]


def test_counts_of_many_pictures_become_rates():
    counts = torch.tensor([[2, 1, 0], [0, 0, 3], [0, 0, 0]])
    rates = instances.instance_f1(counts)
    assert rates["precision"].nan_to_num(-1).tolist() == pytest.approx([2 / 3, -1, -1])
    assert rates["recall"].nan_to_num(-1).tolist() == [1, 0, -1]
    assert rates["f1"].nan_to_num(-1).tolist() == pytest.approx([4 / 5, 0, -1])
    assert instances.none_found(counts).nan_to_num(-1).tolist() == [0, 1, -1]
    assert instances.false_alarm(counts).nan_to_num(-1).tolist() == [-1, -1, 0]


def test_bad_input_is_named():
    masks, scores, target = picture(0)
    with pytest.raises(ValueError, match=r"predicted: must be bool, got torch\.float32"):
        instances.instance_counts(masks.float(), scores, target)
    with pytest.raises(ValueError, match="target: axis H must be 12"):
        instances.mask_ious(masks, target[:, 1:])
    with pytest.raises(ValueError, match="scores: axis P must be 5, got shape"):
        instances.instance_counts(masks, scores[1:], target)
    with pytest.raises(ValueError, match="scores: 5 of 5 are NaN"):
        instances.mask_nms(masks, scores * torch.nan)
    for threshold in (0, -1, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"threshold: must lie in \(0, 1\]"):
            instances.match_instances(torch.rand(5, 2), scores, threshold)
