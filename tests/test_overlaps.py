"Guards of seglab.overlaps: the same heap at every size, layers that give the picture, real overlap."

import pytest
import torch
import torch.nn.functional as F

from seglab.overlaps import draw_overlaps
from seglab.synthetic import composite


def test_a_seed_is_a_scene_whoever_asked_before():
    first = draw_overlaps(3)
    draw_overlaps(4)
    again = draw_overlaps(3)
    for name in ("image", "backdrop", "pictures", "alphas", "order"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert not torch.equal(first.image, draw_overlaps(4).image)


@pytest.mark.parametrize("side, objects", [(16, 1), (64, 2), (100, 4), (64, 7), (512, 2)])
def test_any_size_and_number(side, objects):
    scene = draw_overlaps(1, side, objects)
    assert scene.pictures.shape == (objects, 3, side, side)
    assert scene.alphas.shape == (objects, 1, side, side)
    assert scene.order.sort().values.tolist() == list(range(objects))
    for part in (scene.image, scene.pictures, scene.alphas):
        assert part.dtype == torch.float32 and 0 <= part.min() and part.max() <= 1
    layers = composite(scene.backdrop, scene.pictures, scene.alphas, scene.order)
    assert torch.equal(scene.image, layers)


@pytest.mark.parametrize("seed", range(4))
def test_a_larger_side_is_the_same_heap(seed):
    small, large = draw_overlaps(seed, 64), draw_overlaps(seed, 192)
    assert torch.equal(small.order, large.order)
    shrunk = F.interpolate(large.alphas, 64, mode="area")
    assert (shrunk - small.alphas).abs().mean() < 0.005
    assert (F.interpolate(large.image[None], 64, mode="area")[0] - small.image).abs().mean() < 0.05


def test_most_objects_overlap_and_none_is_buried():
    pairs = total = 0
    for seed in range(40):
        scene = draw_overlaps(seed)
        planes = scene.amodal.flatten(1).float()
        shared = (planes @ planes.T).triu(1)[~torch.tril(torch.ones(4, 4, dtype=torch.bool))]
        pairs, total = pairs + (shared > 0).sum().item(), total + 6
        assert (shared > 0).sum() >= 3
        seen = scene.visible.flatten(1).sum(1) / scene.amodal.flatten(1).sum(1)
        assert (seen > 0.1).all(), seed
    assert pairs / total > 0.75


def test_edges_are_soft_and_insides_opaque():
    alphas = draw_overlaps(2, 128).alphas
    soft = ((alphas > 0.02) & (alphas < 0.98)).float().mean((1, 2, 3))
    assert (soft > 0.001).all() and (soft < 0.03).all()


def test_order_says_nothing_about_the_slot():
    nearest = torch.tensor([draw_overlaps(seed, 16).order[-1] for seed in range(80)])
    counts = nearest.bincount(minlength=4)
    assert counts.min() > 8 and counts.max() < 35


def test_an_epoch_is_drawn_in_a_minute(cpu_seconds):
    assert cpu_seconds(draw_overlaps, range(30)) * 2500 < 60


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(seed=-1), "seed: must be 0 or more, got -1"),
        (dict(side=15), "side: must be 16 or more, got 15"),
        (dict(objects=0), "objects: must be 1 or more, got 0"),
    ],
)
def test_impossible_requests_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        draw_overlaps(**dict(seed=0) | wrong)
