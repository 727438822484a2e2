"Guards of seglab.fusion.metrics: values worked out another way, empty areas, refusals."

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from seglab.fusion.metrics import (
    hole_scores,
    mean_over,
    residual_iou,
    seam_error,
    slot_accuracy,
    ssim_map,
)


@pytest.fixture
def pair():
    "Two batches of pictures that differ a little, and an area for each: some, all, none."
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(3, 3, 40, 50, generator=generator)
    image = (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    area = torch.zeros(3, 1, 40, 50, dtype=torch.bool)
    area[0, :, :13, 20:44], area[1] = True, True
    return image, target, area


def test_scores_of_whole_pictures_equal_those_of_scikit_image(pair):
    image, target, area = pair
    scores = hole_scores(image, target, area)
    whole = [x[1].numpy() for x in (image, target)]
    assert scores["psnr"][1].item() == pytest.approx(
        peak_signal_noise_ratio(*whole, data_range=1), abs=1e-3
    )
    similarity, full = structural_similarity(
        *whole,
        data_range=1,
        channel_axis=0,
        gaussian_weights=True,
        use_sample_covariance=False,
        full=True,
    )
    assert scores["ssim"][1].item() == pytest.approx(full.mean(), abs=1e-4)
    assert scores["l1"][1].item() == pytest.approx(np.abs(whole[0] - whole[1]).mean(), rel=1e-4)


def test_ssim_of_an_area_is_that_of_the_whole_map(pair):
    image, target, area = pair
    found = hole_scores(image, target, area)["ssim"][0].item()
    expected = ssim_map(image[0], target[0])[:, area[0, 0]].mean().item()
    assert found == pytest.approx(expected, abs=1e-5)


def test_an_empty_area_is_undefined_and_harms_nobody(pair):
    image, target, area = pair
    scores = hole_scores(image, target, area)
    assert all(score.isnan().tolist() == [False, False, True] for score in scores.values())
    assert all(score.shape == (3,) and score.dtype == torch.float32 for score in scores.values())


def test_only_the_area_is_counted(pair):
    image, target, area = pair
    spoiled = torch.where(area, image, torch.nan)
    for name in ("l1", "psnr"):
        first, second = (hole_scores(x, target, area)[name] for x in (image, spoiled))
        assert torch.equal(first[:2], second[:2])


def test_each_picture_counts_once(pair):
    image, target, area = pair
    together = hole_scores(image, target, area)
    for number in (0, 1):
        alone = hole_scores(*(x[number : number + 1] for x in (image, target, area)))
        assert all(torch.allclose(alone[name][0], together[name][number]) for name in alone)


def test_seams_by_brute_force(pair):
    image, target, _ = pair
    mask = torch.zeros(1, 1, 40, 50, dtype=torch.bool)
    mask[..., 10:25, 5:30] = True
    inside = np.zeros((40, 50), bool)
    inside[10:25, 5:30] = True
    band = inside.copy()
    band[13:22, 8:27] = False
    error = ((image[0] - target[0]).numpy() * inside).astype(np.float64)
    jumps = []
    for y, x in zip(*np.nonzero(np.ones((40, 50))), strict=True):
        for down, right in ((1, 0), (0, 1)):
            if y + down < 40 and x + right < 50 and (band[y, x] or band[y + down, x + right]):
                jumps.append(np.abs(error[:, y + down, x + right] - error[:, y, x]).mean())
    assert seam_error(image[:1], target[:1], mask).item() == pytest.approx(np.mean(jumps), rel=1e-4)


def test_a_seam_is_what_a_brighter_filling_has_at_its_edge_alone():
    target = torch.rand(1, 3, 32, 32)
    mask = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    mask[..., 8:24, 8:24] = True
    thin, wide = (seam_error(target + 0.2, target, mask, width).item() for width in (1, 5))
    assert thin > wide > 0, "the deeper the band, the fewer of its jumps are at the edge"
    assert seam_error(target, target, mask).item() == 0


@pytest.mark.parametrize("full", [False, True])
def test_a_hole_without_an_edge_has_no_seam(full):
    mask = torch.full((1, 1, 16, 16), full)
    assert seam_error(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16), mask).isnan().all()


def test_slots_by_hand():
    front = torch.tensor([[[0, 1], [2, 255]]])  # two slots, a background, one pixel unknown
    mask = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    weights = torch.zeros(1, 3, 2, 2)
    weights[0, 0, 0] = 1  # right, wrong
    weights[0, 2, 1] = 1  # right, not counted
    assert slot_accuracy(weights, front, mask).item() == pytest.approx(2 / 3)
    assert slot_accuracy(weights, torch.full_like(front, 255), mask).isnan().all()
    assert slot_accuracy(weights, front, ~mask).isnan().all()
    rest = weights[:, 2:] > 0.5
    assert residual_iou(rest, front, mask, slots=2).item() == 1, "the unknown pixel is forgiven"
    assert residual_iou(mask, front, mask, slots=2).item() == pytest.approx(1 / 3)
    assert residual_iou(~mask, front.where(front != 2, 0), mask, slots=2).isnan().all()
    outside = mask.clone()
    outside[..., 1, :] = False
    assert residual_iou(rest, front, outside, slots=2).isnan().all(), (
        "outside the hole nothing counts"
    )


def test_the_mean_over_an_area_by_hand():
    values = torch.tensor([[[[1.0, torch.nan]], [[3.0, torch.inf]]]])
    area = torch.tensor([[[[True, False]]]])
    assert mean_over(values, area).item() == 2


def test_refusals_name_what_is_wrong(pair):
    image, target, area = pair
    with pytest.raises(ValueError, match=r"11 pixels or more, got torch.bool, 10 x 50"):
        hole_scores(image[..., :10, :], target[..., :10, :], area[..., :10, :])
    with pytest.raises(ValueError, match="bool area"):
        hole_scores(image, target, area.float())
    with pytest.raises(ValueError, match="target: axis W must be 50"):
        seam_error(image, target[..., :40], area)
    with pytest.raises(ValueError, match="weights"):
        slot_accuracy(image[0], torch.zeros(3, 40, 50), area)
