"The drawn world: repeatable, exact, quick, and rich enough at every size."

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.random import PCG64, Generator

from seglab import backdrops, synthetic
from seglab.backdrops import draw_background, draw_texture
from seglab.painting import Canvas, Style, cover, strands
from seglab.people import paint_person
from seglab.synthetic import PAINTERS, composite, draw_matte, draw_object, draw_people, draw_scene

NAMES = ("image", "alpha", "foreground", "background")


@pytest.mark.parametrize("side", [16, 33, 64, 128, 256])
def test_a_matte_is_composed_exactly_at_every_side(side: int) -> None:
    sample = draw_matte(7, side)
    assert tuple(sample) == NAMES
    for name, picture in sample.items():
        assert picture.shape == (1 if name == "alpha" else 3, side, side)
        assert picture.dtype == torch.float32
        assert picture.isfinite().all() and 0 <= picture.min() and picture.max() <= 1
    alpha = sample["alpha"]
    mixed = alpha * sample["foreground"] + (1 - alpha) * sample["background"]
    assert (sample["image"] - mixed).abs().max() < 1e-6


def test_the_seed_alone_decides() -> None:
    first = draw_matte(11, 64)
    np.random.seed(5)
    torch.manual_seed(5)
    draw_scene(12, 48)
    again = draw_matte(11, 64)
    assert all(torch.equal(first[name], again[name]) for name in NAMES)
    assert not torch.equal(first["image"], draw_matte(12, 64)["image"])


def test_drawing_leaves_the_global_random_states_alone() -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    expected = np.random.random(), torch.rand(1)
    np.random.seed(1)
    torch.manual_seed(1)
    draw_matte(2, 48)
    draw_scene(2, 48)
    assert (np.random.random(), torch.rand(1)) == expected


def test_a_thousand_samples_take_less_than_a_minute_of_one_core(cpu_seconds: Callable) -> None:
    assert cpu_seconds(draw_matte, range(20)) < 0.060


def test_samples_differ_in_size_and_are_soft_somewhere() -> None:
    alphas = torch.stack([draw_matte(seed, 32)["alpha"] for seed in range(30)])
    area = (alphas > 0.5).float().mean(dim=(1, 2, 3))
    soft = ((alphas > 0.02) & (alphas < 0.98)).float().mean(dim=(1, 2, 3))
    assert area.min() > 0, "every sample shows an object"
    assert area.quantile(0.1) < 0.35 and area.quantile(0.9) > 0.6
    assert soft.median() > 0.05 and (soft > 0).float().mean() > 0.9


@pytest.mark.parametrize("painter", PAINTERS, ids=lambda painter: painter.__name__)
@pytest.mark.parametrize("seed", range(4))
def test_every_painter_paints_something_and_nothing_impossible(painter, seed: int) -> None:
    drawn = draw_object(Generator(PCG64(seed)), 64, painter=painter)
    assert drawn.colour.shape == (64, 64, 3) and drawn.alpha.shape == (64, 64)
    assert drawn.colour.dtype == drawn.alpha.dtype == np.float32
    assert np.isfinite(drawn.colour).all() and 0 <= drawn.colour.min() and drawn.colour.max() <= 1
    assert drawn.alpha.max() > 0.5 and drawn.alpha.mean() > 0.005


@pytest.mark.parametrize("painter", PAINTERS, ids=lambda painter: painter.__name__)
def test_opacity_never_falls_short_of_colour(painter) -> None:
    side = 192
    coat = np.full((side, side, 3), 255, np.uint8)
    canvas = Canvas(np.zeros((side, side, 4), np.uint8), coat, (96.0, 96.0), 80.0)
    painter(Generator(PCG64(1)), canvas)
    excess = canvas.pixels[..., :3].max(axis=2).astype(int) - canvas.pixels[..., 3]
    assert excess.max() <= 12, "colour times opacity can't exceed opacity, but for rounding"


def test_an_object_far_outside_the_picture_is_no_error() -> None:
    canvas = Canvas(
        np.zeros((64, 64, 4), np.uint8), np.full((64, 64, 3), 9, np.uint8), (-500, 900), 20
    )
    for painter in PAINTERS:
        painter(Generator(PCG64(0)), canvas)
    assert not canvas.pixels.any()


@pytest.mark.parametrize("objects", [1, 2, 4])
def test_a_scene_is_its_parts(objects: int) -> None:
    for seed in range(4):
        scene = draw_scene(seed, 64, objects)
        assert scene.pictures.shape == (objects, 3, 64, 64)
        assert scene.alphas.shape == (objects, 1, 64, 64)
        assert scene.order.sort().values.tolist() == list(range(objects))
        image = composite(scene.backdrop, scene.pictures, scene.alphas, scene.order)
        assert torch.equal(scene.image, image)
        light = (scene.shares * scene.pictures).sum(dim=0)
        light = light + (1 - scene.shares.sum(dim=0)) * scene.backdrop
        assert (light - scene.image).abs().max() < 1e-5, "the shares explain the picture"
        assert (scene.visible.sum(dim=0) <= 1).all()
        assert not (scene.visible & ~scene.amodal).any()
        assert torch.equal(scene.hidden, scene.amodal & ~scene.visible)
        assert not scene.hidden[scene.order[-1]].any()


def test_scenes_hide_something_and_orders_differ() -> None:
    scenes = [draw_scene(seed, 48, 2) for seed in range(16)]
    assert sum(scene.hidden.any().item() for scene in scenes) >= 8
    assert len({tuple(scene.order.tolist()) for scene in scenes}) == 2


def test_other_backdrops_and_painters_dock_on() -> None:
    def wall(generator: Generator, side: int) -> np.ndarray:
        return np.full((side, side, 3), 0.25, np.float32)

    def disc(generator: Generator, canvas: Canvas) -> None:
        angle = np.linspace(0, 2 * np.pi, 50)
        round_outline = 0.5 * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
        cover(canvas, [round_outline], np.ones(3))

    scene = draw_scene(3, 64, 3, painter=disc, backdrop=wall)
    assert (scene.backdrop == 0.25).all() and scene.amodal.flatten(1).any(dim=1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_matte(0, 8), "side: must be at least 16 pixels, got 8"),
        (lambda: draw_scene(0, 8), "side: must be at least 16 pixels, got 8"),
        (lambda: draw_scene(0, 32, objects=-1), "objects: must be 0 or more, got -1"),
        (lambda: draw_people(0, 32, people=-2), "people: must be 0 or more, got -2"),
        (lambda: draw_people(0, 32, things=-1), "things: must be 0 or more, got -1"),
        (lambda: draw_people(0, 8), "side: must be at least 16 pixels, got 8"),
        (lambda: draw_matte(-1, 32), "seed: must be 0 or more, got -1"),
    ],
)
def test_bad_requests_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_missing_photograph_is_replaced_at_its_place(monkeypatch) -> None:
    whole = backdrops.sample_photographs()
    listing = dict(backdrops.PHOTOGRAPHS)
    listing["skimage"] = listing["skimage"].replace("data/brick.png", "data/no_such.png")
    listing["matplotlib"] = "mpl-data/no_such.jpg"
    monkeypatch.setattr(backdrops, "PHOTOGRAPHS", listing)
    backdrops.sample_photographs.cache_clear()
    try:
        holed = backdrops.sample_photographs()
        assert len(holed) == len(whole)
        assert [np.array_equal(a, b) for a, b in zip(holed, whole, strict=True)].count(False) == 2
        monkeypatch.setattr(backdrops, "PHOTOGRAPHS", {"no_such_package": "a.png b.png"})
        backdrops.sample_photographs.cache_clear()
        assert len(backdrops.sample_photographs()) == 2
        assert draw_background(Generator(PCG64(1)), 32).shape == (32, 32, 3)
    finally:
        backdrops.sample_photographs.cache_clear()


@pytest.mark.parametrize("draw", [draw_background, draw_texture])
def test_backdrops_are_pictures(draw) -> None:
    for seed in range(20):
        picture = draw(Generator(PCG64(seed)), 40)
        assert picture.shape == (40, 40, 3) and picture.dtype == np.float32
        assert 0 <= picture.min() and picture.max() <= 1


def test_blur_keeps_opacity_and_colour_together() -> None:
    paint = np.zeros((64, 64, 4), np.float32)
    paint[16:48, 16:48] = 0.8, 0.4, 0.2, 1  # one colour, so any blur must keep it
    for seed in range(20):
        blurred = synthetic._expose(Generator(PCG64(seed)), paint)
        assert np.isclose(blurred[..., 3].sum(), paint[..., 3].sum(), rtol=0.01), "light is kept"
        drawn = synthetic._divide(blurred)
        covered = drawn.alpha > 0.02
        assert np.abs(drawn.colour[covered] - [0.8, 0.4, 0.2]).max() < 1e-3


def test_strands_are_as_long_as_asked_and_droop_downwards() -> None:
    generator = Generator(PCG64(0))
    lengths = np.linspace(0.2, 1, 40)
    paths = strands(generator, np.zeros((40, 2)), np.zeros(40), lengths, Style(0.8, 1.2, 0.5))
    assert np.allclose(np.linalg.norm(np.diff(paths, axis=1), axis=-1).sum(axis=1), lengths)
    limp = strands(generator, np.zeros((40, 2)), np.zeros(40), lengths, Style(0, 0, 3))
    assert (limp[:, -1, 0] > 0.5 * lengths).all(), "y grows downwards"


def test_a_person_is_taller_than_broad_and_painted_by_the_generator_alone() -> None:
    spot = np.array([0.5, 0.5, 0.45, 0.0])
    tall = []
    for seed in range(30):
        drawn = draw_object(Generator(PCG64(seed)), 64, painter=paint_person, spot=spot)
        np.random.seed(seed)
        again = draw_object(Generator(PCG64(seed)), 64, painter=paint_person, spot=spot)
        assert np.array_equal(drawn.colour, again.colour)
        solid = drawn.alpha > 0.5
        assert 0.04 < solid.mean() < 0.4
        rows, columns = (np.flatnonzero(solid.any(axis=axis)) for axis in (1, 0))
        assert np.ptp(rows) > 0.75 * 64, "from the head to the feet"
        tall.append(np.ptp(rows) / np.ptp(columns))
    assert 2 < np.median(tall) < 3


def test_a_person_far_outside_the_picture_is_no_error() -> None:
    coat = np.full((64, 64, 3), 9, np.uint8)
    canvas = Canvas(np.zeros((64, 64, 4), np.uint8), coat, (-500, 900), 20)
    paint_person(Generator(PCG64(0)), canvas)
    assert not canvas.pixels.any()


@pytest.mark.parametrize("people", [0, 1, 2, 3, 6])
def test_people_are_a_scene(people: int) -> None:
    for seed in range(4):
        scene = draw_people(seed, 48, people, things=seed % 2)
        assert scene.pictures.shape == (people, 3, 48, 48)
        assert scene.alphas.shape == (people, 1, 48, 48)
        assert scene.visible.shape == scene.amodal.shape == (people, 1, 48, 48)
        assert scene.order.sort().values.tolist() == list(range(people))
        image = composite(scene.backdrop, scene.pictures, scene.alphas, scene.order)
        assert torch.equal(scene.image, image) and (scene.visible.sum(dim=0) <= 1).all()
        assert people or torch.equal(scene.image, scene.backdrop)
    assert torch.equal(draw_people(3, 48, people).image, draw_people(3, 48, people).image)


def test_people_overlap_and_hardly_anybody_disappears() -> None:
    scenes = [draw_people(seed, 48, 2 + seed % 2) for seed in range(60)]
    area = [scene.amodal.flatten(1).sum(dim=1) for scene in scenes]
    seen = [scene.visible.flatten(1).sum(dim=1) / a for scene, a in zip(scenes, area, strict=True)]
    assert min(a.min() for a in area) > 0.01 * 48**2
    assert (torch.cat(seen) > 0.25).float().mean() > 0.95
    assert sum((share < 0.9).any().item() for share in seen) > 30


def test_things_belong_to_the_backdrop_and_no_photograph_shows_a_person(monkeypatch) -> None:
    plain, filled = draw_people(5, 48, 0), draw_people(5, 48, 0, things=2)
    assert len(filled.alphas) == 0 and not torch.equal(plain.backdrop, filled.backdrop)
    whole, free = backdrops.sample_photographs(), backdrops.unpeopled_photographs()
    assert not {id(photo) for photo in free} & {id(whole[number]) for number in (0, 2, 15)}
    assert len(free) == len(whole) - 3
    monkeypatch.setattr(
        backdrops, "sample_photographs", lambda: (np.ones((9, 9, 3), np.uint8),) * 16
    )
    monkeypatch.setattr(
        backdrops, "unpeopled_photographs", lambda: (np.zeros((9, 9, 3), np.uint8),)
    )
    asked = [draw_background(Generator(PCG64(seed)), 16, people=False) for seed in range(20)]
    black = [not picture.any() for picture in asked]
    assert 8 < sum(black), "photographs come from those without a person"
    seeds = [seed for seed in range(20) if black[seed]]
    assert not any(draw_people(seed, 16, 0).image.any() for seed in seeds)


def test_a_scene_without_objects_is_its_backdrop() -> None:
    scene = draw_scene(4, 32, objects=0)
    assert scene.alphas.shape == (0, 1, 32, 32) and torch.equal(scene.image, scene.backdrop)
    assert scene.shares.shape == (0, 1, 32, 32) and not scene.visible.any()


def test_a_couple_takes_less_than_a_twentieth_of_a_second(cpu_seconds: Callable) -> None:
    assert cpu_seconds(lambda seed: draw_people(seed, 96), range(20)) < 0.050
