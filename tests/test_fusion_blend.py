"Weights, pictures and stacks."

import pytest
import torch

from seglab.fusion.blend import (
    blend_pyramid,
    enlarge_weights,
    entropy,
    fuse,
    input_image,
    match_seam,
    merge_guesses,
    own_colours,
    residual,
    slot_pictures,
    stack_by_order,
)


def random_slots(batch=2, slots=5, side=(9, 7)):
    "Soft alphas, some 0 and some 1, soft orders, one slot empty."
    generator = torch.Generator().manual_seed(slots)
    alphas = (1.6 * torch.rand(batch, slots, 1, *side, generator=generator) - 0.3).clamp(0, 1)
    order = torch.rand(batch, slots, slots, generator=generator)
    valid = torch.ones(batch, slots, dtype=torch.bool)
    valid[0, slots // 2] = False
    return alphas, order, valid


def over(alphas, nearest_first):
    "Porter and Duff, one object at a time."
    weights, free = torch.zeros(len(alphas) + 1, *alphas.shape[-2:]), 1.0
    for slot in nearest_first:
        weights[slot], free = alphas[slot, 0] * free, free * (1 - alphas[slot, 0])
    weights[-1] = free
    return weights


@pytest.mark.parametrize("slots", [1, 2, 5, 8])
def test_a_certain_order_is_the_over_operator(slots):
    alphas, _, valid = random_slots(1, slots)
    valid[:] = True
    line = torch.randperm(slots, generator=torch.Generator().manual_seed(1))
    rank = line.argsort()
    order = (rank[:, None] < rank).float()[None]
    expected = over(alphas[0], line.tolist())
    assert torch.allclose(stack_by_order(alphas, order, valid)[0], expected, atol=1e-5)


def test_weights_are_a_distribution_and_empty_slots_get_nothing():
    alphas, order, valid = random_slots()
    weights = stack_by_order(alphas, order, valid)
    assert weights.min() >= 0
    assert torch.allclose(weights.sum(dim=1), torch.ones(()), atol=1e-5)
    assert (weights[:, :-1][~valid] == 0).all()
    alphas[~valid], order[0, 2], order[0, :, 2] = 1, 1, 1
    assert torch.equal(stack_by_order(alphas, order, valid), weights)


def test_a_permutation_of_slots_permutes_weights():
    alphas, order, valid = random_slots()
    turn = torch.tensor([3, 1, 4, 0, 2])
    turned = stack_by_order(alphas[:, turn], order[:, turn][:, :, turn], valid[:, turn])
    weights = stack_by_order(alphas, order, valid)
    assert torch.allclose(turned[:, :-1], weights[:, turn], atol=1e-6)
    assert torch.allclose(turned[:, -1], weights[:, -1], atol=1e-6)


def test_no_slots_and_no_valid_slots_leave_the_background():
    alphas, order, valid = random_slots(1, 3)
    assert (stack_by_order(alphas, order, torch.zeros_like(valid))[:, -1] == 1).all()
    nothing = torch.ones(1, 0, dtype=torch.bool)
    assert (stack_by_order(alphas[:, :0], order[:, :0, :0], nothing) == 1).all()


def test_gradients_reach_alphas_and_an_order_that_is_nearly_certain():
    alphas, order, valid = random_slots()
    logits = (40 * (order - 0.5)).requires_grad_()
    alphas.requires_grad_()
    weights = stack_by_order(alphas, logits.sigmoid(), valid)
    (weights * torch.rand_like(weights)).sum().backward()
    for tensor in (logits, alphas):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().max() > 1e-3
    assert logits.grad.abs().max() < 100  # as many pixels, each with a bounded pull


def test_gradient_is_that_of_finite_differences():
    order = torch.tensor([[[0.5, 0.7], [0.4, 0.5]]], requires_grad=True)
    opaque, valid = torch.ones(1, 2, 1, 1, 1), torch.ones(1, 2, dtype=torch.bool)
    stack_by_order(opaque, order, valid)[0, 0].sum().backward()
    # 0.6 / (0.6 + 0.3) at first: light for slot 0 is 1 - 0.4, for slot 1 is 1 - 0.7
    assert order.grad[0, 0, 1].item() == pytest.approx(0.6 / 0.9**2, rel=1e-3)
    assert order.grad[0, 1, 0].item() == pytest.approx(-0.3 / 0.9**2, rel=1e-3)


def test_wrong_shapes_are_named():
    alphas, order, valid = random_slots()
    with pytest.raises(ValueError, match="order: axis N must be 5"):
        stack_by_order(alphas, order[:, :4], valid)
    with pytest.raises(ValueError, match="backdrop: axis H must be 9"):
        slot_pictures(torch.zeros(2, 5, 3, 9, 7), torch.zeros(2, 3, 8, 7))


def test_duplicates_halve_weights_and_change_no_picture():
    picture, backdrop = torch.rand(1, 1, 3, 4, 4), torch.rand(1, 3, 4, 4)
    one = fuse(
        torch.tensor([0.6, 0.4])[None, :, None, None].expand(1, 2, 4, 4),
        slot_pictures(picture, backdrop),
    )
    two = torch.tensor([0.3, 0.3, 0.4])[None, :, None, None].expand(1, 3, 4, 4)
    assert torch.allclose(fuse(two, slot_pictures(picture.repeat(1, 2, 1, 1, 1), backdrop)), one)


def test_input_image_and_residual_stay_inside_the_hole():
    mask = torch.rand(2, 1, 6, 6) > 0.5
    partial, fused = torch.rand(2, 3, 6, 6), torch.full((2, 3, 6, 6), torch.nan)
    assert torch.equal(input_image(partial, mask, fused).isnan().any(dim=1, keepdim=True), mask)
    weights = torch.tensor([0.4, 0.6])[None, :, None, None].expand(2, 2, 6, 6)
    assert torch.equal(residual(mask, weights), mask)
    assert not residual(mask, weights.flip(1)).any()


def test_entropy_without_completions_is_zero():
    weights = torch.zeros(1, 4, 2, 2)
    weights[:, -1] = 1
    assert (entropy(weights, torch.zeros(1, 3, dtype=torch.bool)) == 0).all()
    assert entropy(torch.full((1, 4, 1, 1), 0.25)).item() == pytest.approx(1)


def test_enlarged_weights_avoid_white_and_empty_slots():
    weights = torch.zeros(1, 3, 2, 2)
    weights[:, 0] = 1  # all on slot 0, none on the background
    alphas = torch.ones(1, 2, 1, 8, 8)
    alphas[:, 0, :, :, 4:] = 0
    large = enlarge_weights(weights, (8, 8), alphas)
    assert torch.allclose(large.sum(dim=1), torch.ones(()))
    assert (large[:, 0, :, 4:] == 0).all() and (large[:, 2, :, 4:] == 1).all()
    assert (large[:, 1] == 0).all() and (large[:, 0, :, :4] > 0.999).all()
    with pytest.raises(ValueError, match="alphas"):
        enlarge_weights(weights, (8, 8), alphas[..., :4])


@pytest.mark.parametrize("side", [(16, 16), (13, 21), (5, 3)])
def test_a_pyramid_of_one_picture_is_that_picture(side):
    picture = torch.rand(1, 1, 3, *side)
    weights = torch.ones(1, 1, *side)
    assert torch.allclose(blend_pyramid(weights, picture, 2), picture[:, 0], atol=1e-5)


def test_own_colours_keep_white_out():
    alphas = torch.zeros(1, 1, 1, 8, 8)
    alphas[..., :4] = 1
    completions = torch.where(alphas > 0, 0.2, 1.0).expand(1, 1, 3, 8, 8)
    weights = torch.cat([alphas[:, :, 0], 1 - alphas[:, :, 0]], dim=1)
    pictures = slot_pictures(completions, torch.full((1, 3, 8, 8), 0.3))
    own = own_colours(weights, pictures, alphas)
    assert own.max() < 0.31
    assert blend_pyramid(weights, own, 2).max() < 0.35 < blend_pyramid(weights, pictures, 2).max()


def test_a_matched_seam_leaves_a_perfect_picture_alone():
    image = torch.rand(1, 3, 12, 12)
    mask = torch.zeros(1, 1, 12, 12, dtype=torch.bool)
    mask[..., 3:9, 3:9] = True
    partial = torch.where(mask, 1.0, image)
    assert torch.allclose(match_seam(image, partial, mask), image, atol=1e-6)
    assert match_seam(image, partial, torch.ones_like(mask)).isfinite().all()


def test_guesses_are_merged_by_majority_and_mean() -> None:
    alphas = torch.zeros(2, 3, 1, 4, 4)
    alphas[:, :, :, 0] = 1  # all see the object in the first row
    alphas[:, :2, :, 1] = 1  # two of three in the second, one in the third
    alphas[:, :1, :, 2] = 1
    colours = torch.tensor([0.1, 0.3, 0.8]).view(1, 3, 1, 1, 1).expand(2, 3, 3, 4, 4)
    merged, opacity = merge_guesses(torch.where(alphas > 0, colours, 1), alphas)
    assert opacity[0, 0, :, 0].tolist() == [1, 1, 0, 0]
    assert merged[1, 2, :, 3].tolist() == pytest.approx([0.4, 0.2, 1, 1])
    one, same = merge_guesses(colours[:, :1], alphas[:, :1])
    assert torch.equal(same, alphas[:, 0]) and (one[..., 3, :] == 1).all()
