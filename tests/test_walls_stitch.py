"Guards of seglab.walls.stitch, align, shifts and compose: known matrices, refusals, masks, bad input."

import cv2
import numpy as np
import pytest
import torch

from seglab.backdrops import sample_photographs
from seglab.core import ConfigError, data_dir
from seglab.walls.align import View, align, bad_shape, fit_points
from seglab.walls.compose import compose
from seglab.walls.shifts import best_shift, slide
from seglab.walls.stitch import stitch

SIZE = (180, 240)


def cut(scene, left, top=25, angle=0.0, tilt=0.0, gain=1.0, size=SIZE, noise=0.01, seed=0):
    "A piece of a picture as a camera might see it, and the matrix from its pixels to the scene's."
    generator, (height, width) = np.random.default_rng(seed), size
    corners = np.float32([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]])
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    places = cv2.transform(corners[None], turn)[0] + [left, top]
    places += tilt * width * generator.uniform(-1, 1, (4, 2))
    matrix = cv2.getPerspectiveTransform(corners, np.float32(places))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    piece = cv2.warpPerspective(
        scene, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT
    )
    piece = (piece * gain + noise * generator.standard_normal(piece.shape)).clip(0, 1)
    return torch.from_numpy(piece.astype(np.float32)).movedim(-1, 0), matrix


def photo(number=12):
    return sample_photographs()[number].astype(np.float32) / 255


def off(panorama, one, other, true_one, true_other, size=SIZE):
    "Median distance in the overlap from where a pixel belongs, in pixels."
    found = np.linalg.inv(panorama.transforms[one].numpy()) @ panorama.transforms[other].numpy()
    true = np.linalg.inv(true_one) @ true_other
    grid = np.stack(np.meshgrid(np.arange(0, size[1], 8.0), np.arange(0, size[0], 8.0)), -1)
    places = [cv2.perspectiveTransform(grid.reshape(1, -1, 2), m)[0] for m in (true, found)]
    seen = ((places[0] >= 0) & (places[0] < [size[1], size[0]])).all(axis=1)
    return np.median(np.linalg.norm(places[0] - places[1], axis=1)[seen])


def plain_wall(seed):
    "A wall with shade towards its corners, and noise; nothing else."
    y, x = np.mgrid[-1:1:180j, -1:1:240j]
    generator = np.random.default_rng(seed)
    wall = 0.6 - 0.15 * (x**2 + y**2) + 0.02 * generator.standard_normal((3, *SIZE))
    return torch.from_numpy(wall.clip(0, 1)).float()


def bricks(seed=None):
    "A perfect brick wall; with a seed, one with stains."
    wall = np.full((240, 640, 3), (0.55, 0.3, 0.25), np.float32)
    for course, top in enumerate(range(0, 240, 24)):
        wall[top : top + 3] = 0.75
        for left in range(25 * (course % 2), 640, 50):
            wall[top : top + 24, left : left + 3] = 0.75
    if seed is not None:
        grain = np.random.default_rng(seed).standard_normal((80, 213)).astype(np.float32)
        wall += 0.06 * cv2.resize(grain, (640, 240))[..., None]
    return wall.clip(0, 1)


@pytest.mark.parametrize("number", [0, 6, 12])
@pytest.mark.parametrize("overlap", [0.35, 0.5, 0.7])
@pytest.mark.parametrize("angle, tilt, gain", [(0, 0, 1), (5, 0.02, 1.3)])
def test_pieces_of_a_photograph_find_their_place(number, overlap, angle, tilt, gain):
    one, base = cut(photo(number), 20)
    two, other = cut(photo(number), 20 + 240 * (1 - overlap), 40, angle, tilt, gain, seed=1)
    panorama = stitch([one, two])
    assert panorama.status == "ok" and panorama.used == [0, 1], panorama.message
    assert off(panorama, 0, 1, base, other) < 1
    assert panorama.valid.sum() >= 180 * 240 and panorama.image.isfinite().all()


def test_stained_bricks_are_joined_and_perfect_ones_are_not():
    for seed, status in ((3, "ok"), (None, "no overlap")):
        wall = bricks(seed)
        pieces = [cut(wall, left, seed=left) for left in (10, 110)]
        panorama = stitch([piece for piece, _ in pieces])
        assert panorama.status == status, panorama.message
        if status == "ok":
            assert off(panorama, 0, 1, pieces[0][1], pieces[1][1]) < 1


@pytest.mark.parametrize("seed", range(4))
def test_plain_walls_are_refused(seed):
    panorama = stitch([plain_wall(2 * seed), plain_wall(2 * seed + 1)])
    assert panorama.status == "no overlap" and panorama.used == [0]


@pytest.mark.parametrize("vertical", [False, True])
def test_one_straight_edge_is_refused(vertical):
    wall = np.full((240, 640, 3), 0.6, np.float32)
    wall[slice(None) if vertical else slice(100, None), 200 if vertical else 0 :] = 0.3
    pieces = [cut(wall, left, seed=left)[0] for left in (30, 120)]
    assert stitch(pieces).status == "no overlap"


def test_strangers_mirrors_and_halves_are_refused():
    whole = torch.from_numpy(photo(6)[:300, :400].copy()).movedim(-1, 0)
    pairs = [(whole, torch.from_numpy(photo(0)[:300, :400]).movedim(-1, 0))]
    pairs += [(whole, whole.flip(2)), (whole[..., :200], whole[..., 200:])]
    for pair in pairs:
        assert stitch(list(pair)).status == "no overlap"


def test_depth_is_refused():
    "A stereo pair: every depth would need a matrix of its own."
    pair = [torch.from_numpy(photo(n)).movedim(-1, 0) for n in (11, 12)]
    assert stitch(pair).status == "no overlap"


def test_the_stranger_is_named_and_order_does_not_matter():
    pieces = [cut(photo(), left, seed=left)[0] for left in (10, 140, 280)]
    stranger = torch.from_numpy(photo(4)[:180, :240].copy()).movedim(-1, 0)
    panorama = stitch([pieces[2], stranger, pieces[0], pieces[1]])
    assert panorama.used == [0, 2, 3] and panorama.status == "partial"
    assert panorama.transforms[1] is None and "picture 1 (" in panorama.message


def test_a_ring_of_views_closes():
    "Two rows of two, where the last overlaps two that are there: no error adds up."
    places = [(10, 10), (150, 15), (15, 110), (155, 105)]
    pieces = [cut(photo(), *place, angle=2 * n, seed=n) for n, place in enumerate(places)]
    panorama = stitch([piece for piece, _ in pieces])
    assert panorama.used == [0, 1, 2, 3]
    for one, other in ((0, 1), (0, 2), (1, 3), (2, 3)):
        assert off(panorama, one, other, pieces[one][1], pieces[other][1]) < 1


def test_sizes_may_differ():
    one, base = cut(photo(), 20)
    two, other = cut(photo(), 150, 10, size=(240, 200))
    panorama = stitch([one, two])
    assert panorama.status == "ok" and off(panorama, 0, 1, base, other, (240, 200)) < 1


def test_a_large_photograph_is_matched_small_and_composed_large():
    scene = cv2.resize(photo(), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC).clip(0, 1)
    pieces = [cut(scene, left, 100, size=(1100, 1400), seed=left) for left in (50, 600)]
    panorama = stitch([piece for piece, _ in pieces])
    assert panorama.image.shape[2] > 1900
    assert off(panorama, 0, 1, *(matrix for _, matrix in pieces), (1100, 1400)) < 1.5


def test_masks_go_where_their_pictures_go():
    scene = photo()
    truth = np.zeros(scene.shape[:2], np.float32)
    truth[60:160, 120:330] = 1
    pieces = [cut(scene, left, angle=angle) for left, angle in ((20, 0), (130, 4))]
    masks = []
    for _, matrix in pieces:
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        seen = cv2.warpPerspective(truth, matrix, SIZE[::-1], flags=flags)
        masks.append(torch.from_numpy(seen > 0.5)[None])
    panorama = stitch([piece for piece, _ in pieces], masks)
    to_scene = pieces[0][1] @ np.linalg.inv(panorama.transforms[0].numpy())
    size = panorama.image.shape[:0:-1]
    true = cv2.warpPerspective(
        truth, to_scene, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    true = torch.from_numpy(true > 0.5)[None] & panorama.valid
    assert panorama.mask.dtype == torch.bool
    both, either = (panorama.mask & true).sum(), (panorama.mask | true).sum()
    assert both / either > 0.97
    soft = stitch([piece for piece, _ in pieces], [mask.float() * 0.8 for mask in masks])
    assert soft.mask.max() == pytest.approx(0.8, abs=1e-5) and soft.mask.dtype == torch.float32


def test_the_reference_keeps_its_pixels_and_exposure():
    bright, dark = torch.rand(3, 40, 40) * 0.5 + 0.3, None
    dark = bright[:, :, 20:] * 0.5
    move = np.array([[1.0, 0, 20], [0, 1, 0], [0, 0, 1]])
    image, _, valid, _ = compose([bright, dark], None, {0: np.eye(3), 1: move})
    assert valid.all() and torch.allclose(image, bright, atol=1e-3)


@pytest.mark.parametrize(
    "matrix, bad",
    [
        (np.eye(3), False),
        (np.diag([-1.0, 1, 1]), True),
        (np.diag([4.0, 4, 1]), True),
        (np.array([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]]), True),
    ],
)
def test_shapes(matrix, bad):
    assert bad_shape((100, 200), matrix) == bad


def test_few_points_are_no_matrix():
    points = np.random.default_rng(0).uniform(0, 100, (11, 2))
    assert fit_points(points, points)[0] is None
    points = np.random.default_rng(0).uniform(0, 100, (40, 2))
    matrix, agree = fit_points(points + 5, points)
    assert agree.all() and np.allclose(matrix, [[1, 0, 5], [0, 1, 5], [0, 0, 1]], atol=1e-6)


def test_a_shift_is_found_where_points_are_forbidden():
    grey = [cut(photo(), left)[0].mean(dim=0).numpy() for left in (20, 100)]
    answer = align(View(grey[0]), View(grey[1]), "shift")
    assert answer.method == "shift" and np.abs(answer.matrix[:2, 2] - [80, 0]).max() < 0.3


def test_all_shifts_against_one_by_one():
    generator = np.random.default_rng(0)
    scene = cv2.GaussianBlur(generator.standard_normal((70, 90)).astype(np.float32), (0, 0), 1)
    first, second = scene[:50, :60], scene[15:, 22:]
    fit = slide((first, np.ones_like(first, bool)), (second, np.ones_like(second, bool)))
    assert fit.shape == (104, 127) and best_shift(fit, second.shape).shift == (15, 22)


def bad_input():
    image = torch.rand(3, 40, 40)
    mask = torch.ones(1, 40, 40)
    return [
        ([], None, "images: must hold at least one picture, got none"),
        ([image, image[:1]], None, r"images\[1\]: must be \(3, H, W\)"),
        ([image, image[:, :8]], None, r"images\[1\]: must be .* got \(3, 8, 40\)"),
        ([image, image * torch.nan], None, r"images\[1\]: .*4800 values are NaN"),
        ([(image * 255).byte()], None, r"images\[0\]: .*must be float"),
        ([image, image], [mask], "masks: must be one for each of 2 pictures, got 1"),
        ([image], [mask[:, 1:]], r"masks\[0\]: must be \(1, 40, 40\)"),
        ([image, image], [mask, mask > 0], r"masks\[1\]: must all be bool or all float"),
        ([image], [mask * torch.nan], r"masks\[0\]: must lie in"),
    ]


@pytest.mark.parametrize("images, masks, message", bad_input())
def test_bad_input(images, masks, message):
    with pytest.raises(ValueError, match=message):
        stitch(images, masks)


def test_unknown_mode():
    with pytest.raises(ConfigError, match="unknown mode 'point': did you mean 'points'"):
        stitch([torch.rand(3, 40, 40)], mode="point")


def test_one_picture_is_its_own_panorama():
    image, mask = torch.rand(3, 40, 50), torch.rand(1, 40, 50)
    panorama = stitch([image], [mask])
    assert torch.equal(panorama.image, image) and torch.equal(panorama.mask, mask)
    assert panorama.status == "single" and panorama.used == [0] and panorama.valid.all()


def test_real_facades_are_joined_or_refused_but_never_wrong():
    folder = data_dir() / "facades" / "images"
    files = sorted(folder.glob("*.jpg"))[::40] if folder.is_dir() else []
    if not files:
        pytest.skip(f"no photographs in {folder}")
    joined = 0
    for number, file in enumerate(files[:4]):
        scene = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB).astype(np.float32) / 255
        scale = 480 / scene.shape[1]
        scene = cv2.resize(scene, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        pieces = [cut(scene, 10, 10), cut(scene, 130, 20, 3, 0.01, 0.85, seed=number)]
        panorama = stitch([piece for piece, _ in pieces])
        if panorama.used == [0, 1]:
            joined += 1
            assert off(panorama, 0, 1, pieces[0][1], pieces[1][1]) < 2
    assert joined >= 2
