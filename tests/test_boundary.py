"Distances, growing, shrinking and bands against SciPy, scikit-image and plain definitions."

import time

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.morphology import disk

from seglab.boundary import boundary_band, distance_to_edge, grow, shrink, trimap_from_mask

SIZES = [(1, 1), (1, 9), (7, 2), (31, 48), (64, 64)]


def blobs(seed: int, height: int, width: int, share: float) -> torch.Tensor:
    "Two random pictures of smooth blobs that cover about `share` of each."
    noise = np.random.default_rng(seed).standard_normal((2, 1, height, width))
    smooth = np.stack([ndimage.gaussian_filter(picture[0], 2)[None] for picture in noise])
    return torch.from_numpy(smooth > np.quantile(smooth, 1 - share))


def cases():
    return [(h, w, share) for h, w in SIZES for share in (0.03, 0.5, 0.97)]


@pytest.mark.parametrize("height,width,share", cases())
def test_distance_equals_scipy(height, width, share):
    masks = blobs(height + width, height, width, share)
    for mask, distance in zip(masks, distance_to_edge(masks), strict=True):
        picture = mask[0].numpy()
        if picture.all() or not picture.any():
            assert distance.isinf().all()
            continue
        edt = ndimage.distance_transform_edt
        np.testing.assert_allclose(distance[0], edt(picture) + edt(~picture), rtol=1e-6)


@pytest.mark.parametrize("radius", [0, 1, 1.5, 2, 3, 7, 100])
@pytest.mark.parametrize("height,width,share", cases())
def test_radii_are_discs(height, width, share, radius):
    masks = blobs(height * width, height, width, share)
    grown, shrunk, trimap = (f(masks, radius) for f in (grow, shrink, trimap_from_mask))
    for i, mask in enumerate(masks[:, 0].numpy()):
        reach = int(radius)
        y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
        kernel = y**2 + x**2 <= radius**2
        if radius == reach:
            assert np.array_equal(kernel, disk(reach).astype(bool))
        if reach < 20:
            wanted = ndimage.binary_dilation(mask, kernel)
            assert np.array_equal(grown[i, 0], wanted)
            # outside the picture the object is thought to go on
            assert np.array_equal(
                shrunk[i, 0], ndimage.binary_erosion(mask, kernel, border_value=1)
            )
        else:
            assert grown[i].all() == mask.any() and shrunk[i].any() == mask.all()
    assert torch.equal(trimap >= 1, grown) and torch.equal(trimap == 2, shrunk)
    assert trimap.dtype == torch.uint8 and trimap.shape == masks.shape


@pytest.mark.parametrize("width", [0, 1, 2, 5, 40])
@pytest.mark.parametrize("height,wide,share", cases())
def test_band_equals_iterated_erosion(height, wide, share, width):
    masks = blobs(width, height, wide, share)
    for mask, band in zip(masks[:, 0].numpy(), boundary_band(masks, width)[:, 0], strict=True):
        inside = mask
        if width:
            inside = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=0)
        assert np.array_equal(band, mask & ~inside)


def test_a_batch_is_its_pictures_and_inputs_are_kept():
    masks = torch.cat(
        [blobs(1, 20, 30, 0.4), torch.zeros(1, 1, 20, 30).bool(), torch.ones(1, 1, 20, 30).bool()]
    )
    before = masks.clone()
    for function in (grow, shrink, trimap_from_mask, boundary_band):
        together = function(masks, 3)
        alone = torch.cat([function(mask[None], 3) for mask in masks])
        assert torch.equal(together, alone)
        assert function(masks[:0], 3).shape == (0, 1, 20, 30)
    assert torch.equal(masks, before)


def test_strided_masks_are_read_right():
    masks = blobs(5, 40, 60, 0.4)
    for view in (
        masks.flip(-1),
        masks.transpose(2, 3),
        masks[..., ::2, ::3],
        masks[..., 3:-4, 5:-6],
    ):
        for function in (grow, shrink, boundary_band):
            assert torch.equal(function(view, 2), function(view.contiguous(), 2))
        assert torch.equal(distance_to_edge(view), distance_to_edge(view.contiguous()))


@pytest.mark.parametrize("function", [grow, shrink, trimap_from_mask, boundary_band])
def test_bad_input_is_refused(function):
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    with pytest.raises(ValueError, match="mask: must be bool"):
        function(mask.float(), 2)
    with pytest.raises(ValueError, match="mask: needs the 4 axes"):
        function(mask[0], 2)
    with pytest.raises(ValueError, match="mask: axis 1 must be 1"):
        function(mask.expand(1, 3, 8, 8), 2)
    for length in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite number of pixels"):
            function(mask, length)


def test_a_band_is_whole_pixels_wide():
    with pytest.raises(ValueError, match="width: must be a whole number"):
        boundary_band(torch.zeros(1, 1, 8, 8, dtype=torch.bool), 1.5)


def test_far_distances_stay_exact_to_float32():
    mask = torch.zeros(1, 1, 3, 9000, dtype=torch.bool)
    mask[0, 0, 0, 0] = True
    distance = distance_to_edge(mask)[0, 0, 2, -1].item()
    assert distance == pytest.approx((2**2 + 8999**2) ** 0.5, rel=1e-6)


def test_distances_are_the_same_bit_for_bit_every_time():
    "OpenCV's are not: over hundreds of calls, a last bit differs here and there."
    masks = blobs(5, 40, 60, 0.4)
    first = distance_to_edge(masks)
    assert all(torch.equal(distance_to_edge(masks.clone()), first) for _ in range(300))
    # NumPy's root, since PyTorch's differs in its last bit on some processors
    exact = np.sqrt(np.rint(first.double().numpy() ** 2)).astype(np.float32)
    assert np.array_equal(first.numpy(), exact), "roots of whole numbers"


def test_time_does_not_grow_with_the_radius():
    mask = torch.zeros(1, 1, 1200, 1200, dtype=torch.bool)
    mask[..., 300:900, 300:900] = True

    def fastest(function, radius):
        times = []
        for _ in range(3):
            start = time.process_time()
            function(mask, radius)
            times.append(time.process_time() - start)
        return min(times)

    # forty times the radius; a method that walks pixel by pixel would need forty times as long
    assert fastest(shrink, 200) < 8 * fastest(shrink, 5)
    assert fastest(boundary_band, 200) < 8 * fastest(boundary_band, 5)
