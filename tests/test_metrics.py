"Scores against slow, independent definitions; what they refuse; where they are undefined."

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, signal
from skimage.measure import label

from seglab import metrics
from seglab.core import BACKGROUND, FOREGROUND, IGNORE, UNKNOWN

SIZES = [(12, 17), (40, 33), (1, 30), (30, 1)]


def smooth(seed: int, height: int, width: int, sigma: float = 1.5) -> np.ndarray:
    "A smooth random picture whose values fill [0, 1], some of them exactly 0 and 1."
    noise = np.random.default_rng(seed).standard_normal((height, width))
    picture = ndimage.gaussian_filter(noise, sigma)
    picture = (picture - picture.mean()) / max(picture.std(), 1e-9)
    return np.clip(0.5 + 0.7 * picture, 0, 1)


def mattes(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    "Two pairs of mattes in 8-bit steps, and a region."
    pairs = np.stack([[smooth(10 * i + j, height, width) for i in range(2)] for j in range(2)])
    # the second matte is a disturbed copy of the first, as predictions are
    pairs[1] = np.clip(0.6 * pairs[0] + 0.4 * pairs[1], 0, 1)
    alpha, target = torch.from_numpy(np.round(pairs * 255)).float()[:, :, None] / 255
    region = torch.from_numpy(np.random.default_rng(5).random((2, 1, height, width)) < 0.7)
    return alpha, target, region


def masks(seed: int, count: int = 3, height: int = 31, width: int = 26) -> torch.Tensor:
    pictures = [smooth(seed + i, height, width, 3)[None] > 0.5 for i in range(count)]
    return torch.from_numpy(np.stack(pictures))


# -- overlap ------------------------------------------------------------------------------------


def test_iou_counts_sets_of_pixels():
    mask, target, ignore = masks(0), masks(10), masks(20)
    for ignored in (None, ignore):
        scores = metrics.mask_iou(mask, target, ignored)
        for i, score in enumerate(scores):
            keep = np.ones((31, 26), bool) if ignored is None else ~ignored[i, 0].numpy()
            one, other = (
                set(zip(*np.nonzero(m[i, 0].numpy() & keep), strict=True)) for m in (mask, target)
            )
            assert score.item() == pytest.approx(len(one & other) / len(one | other), rel=1e-6)


def test_iou_is_undefined_only_where_both_are_empty():
    nothing, something = (
        torch.zeros(1, 1, 8, 8, dtype=torch.bool),
        torch.ones(1, 1, 8, 8, dtype=torch.bool),
    )
    for score in (metrics.mask_iou, metrics.boundary_iou):
        assert score(nothing, nothing).isnan().item()
        assert score(something, something, ignore=something).isnan().item()
        assert score(something, nothing).item() == 0 and score(something, something).item() == 1
        assert score(nothing[:0], nothing[:0]).shape == (0,)


@pytest.mark.parametrize("ratio", [0.02, 0.1, 1, 3.4])
@pytest.mark.parametrize("diagonal", ["picture", "target"])
def test_biou_equals_iterated_erosion(ratio, diagonal):
    mask, target = masks(1), masks(2)
    target |= mask & masks(3)
    for score, *pair in zip(
        metrics.boundary_iou(mask, target, ratio, diagonal=diagonal), mask, target, strict=True
    ):
        sides = pair[1][0].shape
        if diagonal == "target":
            sides = [np.ptp(place) + 1 for place in np.nonzero(pair[1][0].numpy())]
        width = max(1, round(ratio if ratio >= 1 else ratio * math.hypot(*sides)))
        rims = []
        for picture in (m[0].numpy() for m in pair):
            rims.append(
                picture & ~ndimage.binary_erosion(picture, np.ones((3, 3)), iterations=width)
            )
        assert score.item() == pytest.approx(
            (rims[0] & rims[1]).sum() / (rims[0] | rims[1]).sum(), rel=1e-6
        )


def test_biou_without_a_rim_at_ignored_pixels_does_not_depend_on_what_lies_there():
    mask, target, ignore = masks(1), masks(2), masks(3)
    scores = [
        metrics.boundary_iou(
            mask ^ (flip & ignore), target ^ (flip & ignore), 2, ignore, rim_at_ignored=False
        )
        for flip in (torch.zeros_like(mask), torch.ones_like(mask), masks(4))
    ]
    assert torch.equal(scores[0], scores[1]) and torch.equal(scores[0], scores[2])


def test_bad_masks_are_refused():
    mask = masks(0)
    for score in (metrics.mask_iou, metrics.boundary_iou):
        with pytest.raises(ValueError, match="target: axis H must be 31"):
            score(mask, mask[..., :-1, :])
        with pytest.raises(ValueError, match="mask: must be bool"):
            score(mask.float(), mask)
        with pytest.raises(ValueError, match="ignore: must be bool"):
            score(mask, mask, ignore=mask.float())
    with pytest.raises(ValueError, match="diagonal: must be"):
        metrics.boundary_iou(mask, mask, diagonal="image")
    for ratio in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="ratio: must be above 0"):
            metrics.boundary_iou(mask, mask, ratio)


# -- clicks -------------------------------------------------------------------------------------


def test_noc_and_nof_by_a_loop():
    generator = np.random.default_rng(0)
    ious = torch.from_numpy(generator.random((200, 12)))
    for row, length in zip(ious, generator.integers(1, 13, 200), strict=True):
        row[length:] = torch.nan
    for budget in (1, 5, 12, 20):
        for threshold in (0.5, 0.9, 0.999):
            clicks, failures = (
                metrics.noc(ious, threshold, budget),
                metrics.nof(ious, threshold, budget),
            )
            for row, click, failed in zip(ious.tolist(), clicks, failures, strict=True):
                first = next((i for i, iou in enumerate(row[:budget], 1) if iou >= threshold), None)
                assert click == (first or budget) and failed == (first is None)


def test_clicks_without_a_truth_are_undefined():
    ious = torch.full((1, 5), torch.nan)
    assert metrics.noc(ious, 0.9, 5).isnan().all() and metrics.nof(ious, 0.9, 5).isnan().all()
    for bad, budget in ((torch.zeros(2, 0), 3), (torch.zeros(2, 3), 0)):
        with pytest.raises(ValueError, match="at least one click"):
            metrics.noc(bad, 0.9, budget)
    with pytest.raises(ValueError, match="ious: needs the 2 axes"):
        metrics.noc(torch.zeros(3), 0.9, 3)


# -- trimaps ------------------------------------------------------------------------------------


def test_trimap_scores_by_pixel_loops():
    generator = torch.Generator().manual_seed(0)
    trimap = torch.randint(0, 3, (4, 1, 9, 7), generator=generator).to(torch.uint8)
    truth = torch.randint(0, 4, (4, 1, 9, 7), generator=generator).to(torch.uint8)
    truth[truth == 3] = IGNORE
    truth[0, truth[0] == UNKNOWN] = BACKGROUND  # nothing undecided in the first
    ious, recall = metrics.trimap_iou(trimap, truth), metrics.unknown_recall(trimap, truth)
    wrong, area = metrics.certain_error(trimap, truth), metrics.unknown_area(truth)
    for i in range(4):
        pairs = [
            p
            for p in zip(trimap[i].flatten().tolist(), truth[i].flatten().tolist(), strict=True)
            if p[1] != IGNORE
        ]
        for code in (BACKGROUND, UNKNOWN, FOREGROUND):
            both, either = sum(p == (code, code) for p in pairs), sum(code in p for p in pairs)
            assert ious[i, code].item() == pytest.approx(both / either)
        undecided = [p for p in pairs if p[1] == UNKNOWN]
        if undecided:
            assert recall[i].item() == pytest.approx(
                sum(p[0] == UNKNOWN for p in undecided) / len(undecided)
            )
        else:
            assert recall[i].isnan()
        certain = [p for p in pairs if p[0] != UNKNOWN]
        assert wrong[i].item() == pytest.approx(sum(p[0] != p[1] for p in certain) / len(certain))
        assert area[i].item() == pytest.approx(len(undecided) / len(pairs))


def test_trimap_scores_are_undefined_where_nothing_is_counted():
    padding = torch.full((1, 1, 4, 4), IGNORE, dtype=torch.uint8)
    background, unknown = torch.zeros_like(padding), torch.full_like(padding, UNKNOWN)
    assert metrics.unknown_area(padding).isnan()
    assert metrics.trimap_iou(background, padding).isnan().all()
    assert metrics.trimap_iou(background, background).isnan().tolist() == [[False, True, True]]
    assert (
        metrics.unknown_recall(unknown, background).isnan()
        and metrics.certain_error(unknown, background).isnan()
    )
    with pytest.raises(ValueError, match="target: axis W must be 4"):
        metrics.trimap_iou(background, background[..., :3])


# -- alpha mattes -------------------------------------------------------------------------------


def slow_gradient(alpha: np.ndarray) -> np.ndarray:
    "Gradient length by two dense filters, written down from the derivative of a Gaussian."
    sigma = 1.4
    # the filter ends where the Gaussian falls below 0.01
    reach = math.ceil(sigma * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * sigma * 0.01)))
    gauss = lambda x: math.exp(-(x**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))  # noqa: E731
    kernel = np.array(
        [
            [gauss(y) * -x * gauss(x) / sigma**2 for x in range(-reach, reach + 1)]
            for y in range(-reach, reach + 1)
        ]
    )
    kernel /= math.sqrt((kernel**2).sum())
    padded = np.pad(alpha, reach, mode="edge")
    along = [signal.convolve2d(padded, k, mode="valid") for k in (kernel, kernel.T)]
    return np.sqrt(along[0] ** 2 + along[1] ** 2)


def slow_connectivity(alpha: np.ndarray, target: np.ndarray, region: np.ndarray) -> float:
    "Conn, one level after the other, keeping the level before the one at which a pixel drops out."
    levels = [round(0.1 * k, 1) for k in range(11)]
    dropped = np.full(alpha.shape, -1.0)
    for before, level in zip(levels[:-1], levels[1:], strict=True):
        # 8-bit values such as 153 / 255 meet the levels exactly
        pieces = label((alpha >= level - 1e-6) & (target >= level - 1e-6), connectivity=1)
        sizes = np.bincount(pieces.ravel())[1:]
        body = pieces == 1 + sizes.argmax() if sizes.size else np.zeros(alpha.shape, bool)
        dropped[(dropped == -1) & ~body] = before
    dropped[dropped == -1] = 1
    phi = [1 - (x - dropped) * (x - dropped >= 0.15 - 1e-7) for x in (alpha, target)]
    return np.abs(phi[0] - phi[1])[region].sum() / 1000


@pytest.mark.parametrize("height,width", SIZES)
def test_alpha_errors_by_their_definitions(height, width):
    alpha, target, region = mattes(height, width)
    scores = {
        name: getattr(metrics, f"alpha_{name}")(alpha, target, region)
        for name in ("sad", "mse", "mad", "grad", "conn")
    }
    for i in range(2):
        a, t, r = (
            x[i, 0].numpy().astype(d) for x, d in ((alpha, float), (target, float), (region, bool))
        )
        wanted = dict(
            sad=np.abs(a - t)[r].sum() / 1000,
            mse=((a - t)[r] ** 2).mean(),
            mad=np.abs(a - t)[r].mean(),
            grad=((slow_gradient(a) - slow_gradient(t))[r] ** 2).sum() / 1000,
            conn=slow_connectivity(a, t, r),
        )
        for name, value in wanted.items():
            assert scores[name][i].item() == pytest.approx(value, rel=1e-4, abs=1e-9), name
            assert value > 0, f"{name}: the case tests nothing"


@pytest.mark.parametrize("name", ["sad", "mse", "mad", "grad", "conn"])
def test_alpha_errors_at_the_door_and_the_edges(name):
    error = getattr(metrics, f"alpha_{name}")
    alpha, target, region = mattes(20, 24)
    region[1] = False
    scores = error(alpha, target, region)
    assert scores.shape == (2,) and scores.dtype == torch.float32
    assert scores.isnan().tolist() == [False, True], "an empty region leaves nothing to score"
    halves = error(alpha.bfloat16(), target.bfloat16(), region)
    assert halves.dtype == torch.float32 and halves[0].item() == pytest.approx(
        scores[0].item(), rel=0.1
    )
    assert error(alpha[:0], target[:0], region[:0]).shape == (0,)
    assert error(alpha, alpha, region)[0] < 1e-12  # filters round differently in unaligned memory
    with pytest.raises(ValueError, match="axis H must be 20"):
        error(alpha, target[..., 1:, :], region)
    with pytest.raises(ValueError, match="region: must be bool"):
        error(alpha, target, region.float())
    with pytest.raises(ValueError, match="alpha: must be float"):
        error(alpha.to(torch.uint8), target, region)


@pytest.mark.parametrize("name", ["sad", "mse", "mad"])
def test_what_lies_outside_the_region_cannot_matter(name):
    error = getattr(metrics, f"alpha_{name}")
    alpha, target, region = mattes(20, 24)
    disturbed = torch.where(region, alpha, torch.nan)
    assert torch.equal(error(alpha, target, region), error(disturbed, target, region))


def test_grad_looks_only_as_far_as_its_filter_reaches():
    alpha, target, _ = mattes(40, 33)
    region = torch.zeros_like(alpha, dtype=torch.bool)
    region[..., 12:20, 10:18] = True
    disturbed = alpha.clone()
    disturbed[..., :8, :], disturbed[..., 24:, :], disturbed[..., :6], disturbed[..., 22:] = (
        0,
        1,
        0,
        1,
    )
    near, far = (metrics.alpha_grad(x, target, region) for x in (alpha, disturbed))
    torch.testing.assert_close(near, far, rtol=1e-5, atol=0)
