"Guards of seglab.fusion.holes: alphas from white, the five ways to make a hole, the backdrop."

import numpy as np
import pytest
import torch

from seglab.core import ConfigError
from seglab.fusion import holes
from seglab.overlaps import draw_overlaps
from seglab.synthetic import draw_scene


def plane(*boxes, side=100):
    "(1, side, side) bool with rectangles (top, left, height, width)."
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    for top, left, height, width in boxes:
        mask[:, top : top + height, left : left + width] = True
    return mask


def test_white_within_the_tolerance_is_no_object():
    picture = torch.ones(3, 40, 40)
    picture[:, :, 20:] = 248 / 255  # as JPEG returns white
    picture[0, 10:30, 5:15] = 0.9  # one channel is enough to be an object
    assert torch.equal(holes.find_alpha(picture)[0] > 0.5, plane((10, 5, 20, 10), side=40)[0])


def test_specks_go_pinholes_close_and_gaps_stay():
    body = plane((20, 20, 60, 60))
    noisy = body ^ plane((5, 5, 2, 2), (30, 30, 2, 2), (40, 60, 10, 10))  # 4, 4 and 100 pixels
    assert torch.equal(holes.clean(noisy, share=5e-4), body ^ plane((40, 60, 10, 10)))


def test_a_gap_open_to_the_border_is_no_pinhole():
    mask = ~plane((0, 50, 2, 1))  # two white pixels at the picture's rim
    assert torch.equal(holes.clean(mask, share=0.01), mask)


def test_the_largest_island_survives_however_small():
    mask = plane((5, 5, 1, 2), (50, 50, 1, 1))
    assert torch.equal(holes.clean(mask, share=0.01), plane((5, 5, 1, 2)))


@pytest.mark.parametrize("value", [False, True])
def test_empty_and_full_masks_stay_as_they_are(value):
    mask = torch.full((2, 3, 1, 20, 20), value)
    assert torch.equal(holes.clean(mask), mask)


def test_alphas_of_a_batch_equal_those_of_its_pictures():
    scene = draw_overlaps(3, 64, 4)
    completions = (scene.alphas * scene.pictures + 1 - scene.alphas).view(2, 2, 3, 64, 64)
    together = holes.find_alpha(completions)
    assert together.shape == (2, 2, 1, 64, 64) and together.dtype == torch.float32
    assert torch.equal(together[1, 0], holes.find_alpha(completions[1, 0]))


def test_areas_count_objects_by_hand():
    alphas = torch.stack([plane((0, 0, 10, 10)), plane((5, 5, 10, 10))]).float()
    assert torch.equal(holes.overlap_area(alphas), plane((5, 5, 5, 5)))
    assert holes.covered_area(alphas).sum() == 175
    assert not holes.overlap_area(alphas[:1]).any() and not holes.covered_area(alphas[:0]).any()


def test_overlap_and_hidden_holes_grow_by_the_given_radius():
    alphas = torch.stack([plane((0, 0, 60, 60)), plane((40, 40, 40, 40))])
    exact, grown = (holes.make_hole("overlap", alphas, dilate=radius) for radius in (0, 2))
    assert exact.sum() == 400 and grown.sum() > 400 and (grown >= exact).all()
    visible = torch.stack([plane((0, 0, 60, 50)), plane((40, 60, 40, 20))])
    hidden = holes.make_hole("hidden", alphas, visible, dilate=0)
    assert torch.equal(hidden, alphas.any(dim=0) & ~visible.any(dim=0))


def test_a_white_hole_is_what_somebody_erased():
    scene = draw_scene(3, 100, 2)
    mask, image = plane((30, 30, 20, 30)), scene.image.clamp(max=0.9)
    partial = holes.erase(image, mask)
    alphas = scene.alphas
    assert torch.equal(holes.make_hole("white", alphas, image=partial, dilate=0), mask)
    assert torch.equal(holes.make_hole("file", alphas, given=mask), mask)
    assert not holes.make_hole("white", alphas, image=image).any()


def test_noise_alone_is_no_hole():
    alphas = torch.stack([plane((0, 0, 10, 10)), plane((9, 9, 10, 10))])  # they meet in a pixel
    assert not holes.make_hole("overlap", alphas).any()


@pytest.mark.parametrize("count", [0, 1, 4])
def test_random_holes_are_reproducible_and_reach_the_objects(count):
    alphas = draw_overlaps(1, 64, 4).alphas[:count]
    for seed in range(20):
        one, other = (
            holes.make_hole("random", alphas, generator=np.random.default_rng(seed))
            for _ in range(2)
        )
        assert torch.equal(one, other) and 0.005 < one.float().mean() < 0.5
        assert count == 0 or (one & holes.covered_area(alphas)).any()
        assert count < 4 or (one & holes.overlap_area(alphas)).any()


def test_a_mode_without_its_input_is_refused():
    alphas = torch.zeros(2, 1, 20, 20)
    for mode, need in [("hidden", "visible"), ("white", "image"), ("random", "generator")]:
        with pytest.raises(ValueError, match=f"mode '{mode}': needs `{need}`, got None"):
            holes.make_hole(mode, alphas)
    with pytest.raises(ConfigError, match="did you mean 'random'"):
        holes.make_hole("randoms", alphas)


def test_wrong_shapes_and_types_are_refused():
    with pytest.raises(ValueError, match="completions: needs axes"):
        holes.find_alpha(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="alphas: needs axes"):
        holes.overlap_area(torch.zeros(2, 8, 8))
    with pytest.raises(ValueError, match="mask: must be bool"):
        holes.erase(torch.zeros(3, 8, 8), torch.zeros(1, 8, 8))


def test_the_backdrop_keeps_the_photo_and_forgets_the_objects():
    image = torch.full((3, 100, 100), 0.25)
    alphas = torch.stack([plane((10, 10, 40, 40)), plane((30, 30, 40, 40))])
    image = torch.where(alphas.any(dim=0), 0.9, image)
    mask = plane((20, 20, 60, 60))
    backdrop = holes.paint_backdrop(holes.erase(image, mask), mask, alphas)
    assert (backdrop - 0.25).abs().max() < 0.01  # no trace of the objects' 0.9 or the hole's 1


def test_pixels_without_hole_and_object_are_the_photos_own():
    scene = draw_overlaps(5, 64, 3)
    mask = holes.make_hole("random", scene.alphas, generator=np.random.default_rng(0))
    partial = holes.erase(scene.image, mask)
    backdrop = holes.paint_backdrop(partial, mask, scene.alphas)
    free = (~mask & ~holes.covered_area(scene.alphas)).expand(3, -1, -1)
    assert free.any() and torch.equal(backdrop[free], partial[free])


def test_a_white_belly_is_nothing_to_learn_from():
    body, belly = plane((10, 10, 70, 70)), plane((40, 20, 12, 12))
    image = torch.where(body, 0.6, torch.full((3, 100, 100), 0.25)).masked_fill(belly, 1)
    mask = plane((40, 34, 20, 20))  # beside it, inside the body
    backdrop = holes.paint_backdrop(holes.erase(image, mask), mask, (body & ~belly)[None])
    assert (backdrop[mask.expand(3, -1, -1)] - 0.25).abs().max() < 0.01
    assert (backdrop[belly.expand(3, -1, -1)] == 1).all()  # outside hole and objects it stays


def test_degenerate_backdrops():
    image, nothing = torch.rand(3, 50, 50), torch.zeros(1, 50, 50, dtype=torch.bool)
    assert torch.equal(holes.paint_backdrop(image, nothing, nothing[None].float()), image)
    all_missing = holes.paint_backdrop(torch.ones(3, 50, 50), ~nothing, nothing[None])
    assert (all_missing == 0.5).all()  # neither white nor NaN
    # an object that fills the picture: what is beside the hole is all there is
    mask = plane((10, 10, 5, 5), side=50)
    backdrop = holes.paint_backdrop(holes.erase(image, mask), mask, ~nothing[None])
    assert (
        torch.equal(backdrop[:, 30:], image[:, 30:])
        and (backdrop[mask.expand(3, -1, -1)] < 1).all()
    )


def test_a_large_backdrop_is_guessed_small_and_stays_sharp_outside():
    image = torch.linspace(0, 1, 1500).expand(3, 900, 1500).clone()
    mask = torch.zeros(1, 900, 1500, dtype=torch.bool)
    mask[:, 300:600, 700:1000] = True
    backdrop = holes.paint_backdrop(holes.erase(image, mask), mask, mask[None])
    assert torch.equal(backdrop[:, 700:], image[:, 700:])
    assert (backdrop - image)[mask.expand(3, -1, -1)].abs().mean() < 0.05
