"Answers of the systems, as a person looks into them."

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from playwright.sync_api import expect

from seglab.hybrid.segment import Instance
from seglab.show import COLOURS
from seglab.touch.canvas import Canvas
from seglab.touch.viewers import TINT, view_fusion, view_objects, view_trimap, view_walls

from .bridge import Bridge
from .shown import Shown

SIZE = (60, 90)  # of the photograph: thirds of 30 columns
THIRDS = torch.arange(90) // 30
GREY = 128


def plain() -> torch.Tensor:
    "A photograph of one grey, which JPEG leaves as it is."
    return torch.full((3, *SIZE), GREY, dtype=torch.uint8)


def over(colour: tuple[float, float, float], alpha: float) -> object:
    "A colour laid over the grey photograph, give or take what rounding and JPEG do."
    return pytest.approx([GREY + alpha * (255 * part - GREY) for part in colour], abs=3)


def show(bridge: Bridge, canvas: Canvas) -> Shown:
    "Draw a canvas, and wait until all that can be seen of it is there."
    canvas.width = 6 * SIZE[1]
    shown = Shown(bridge.page, bridge.show(canvas))
    seen = [name for name in canvas.order if canvas.alphas.get(name, canvas.alpha) > 0]
    bridge.wait(lambda: shown.ready() and shown.layers() == seen)
    return shown


def test_a_code_alone_and_the_doubt_at_the_pointer(bridge: Bridge) -> None:
    probs = torch.tensor([[0.9, 0, 0.1], [0.2, 0.4, 0.4], [0, 0, 1]])[THIRDS].T
    answer = dict(
        trimap=THIRDS.to(torch.uint8).expand(1, *SIZE), probs=probs[:, None].expand(3, *SIZE)
    )
    canvas = view_trimap(plain(), answer)
    shown = show(bridge, canvas)
    assert shown.colour(30, 15) == over((0, 0, 0), 0.8 * TINT)
    assert shown.colour(30, 75) == over((1, 1, 1), 0.8 * TINT)
    shown.legend.filter(has_text="foreground · 33.3 %").hover()
    assert shown.colour(30, 15) == over((0, 0, 0), 0)
    assert shown.colour(30, 75) == over((1, 1, 1), TINT)
    shown.point(30, 45)
    expect(shown.status).to_have_text("row 30, column 45 · unknown · doubt 60 %")
    shown.point(30, 75)
    expect(shown.status).to_have_text("row 30, column 75 · foreground")
    shown.root.get_by_label("trimap").fill("0")
    shown.root.get_by_label("doubt").fill("1")
    assert shown.colour(30, 45) == over(COLOURS["error"], 0.6)


def test_the_line_between_trimap_and_matte_is_dragged(bridge: Bridge) -> None:
    answer = dict(trimap=torch.zeros(1, *SIZE, dtype=torch.uint8), probs=torch.zeros(3, *SIZE))
    answer["probs"][0] = 1
    shown = show(bridge, view_trimap(plain(), answer, torch.full((1, *SIZE), 0.2)))
    assert shown.colour(50, 30) == over((0, 0, 0), 0.8 * TINT)
    assert shown.colour(50, 60) == over((0.2, 0.2, 0.2), 1)
    shown.drag((10, 45), (10, 20))
    assert shown.colour(50, 30) == over((0.2, 0.2, 0.2), 1)


def test_a_slot_alone_and_who_weighs_what(bridge: Bridge) -> None:
    weights = torch.tensor([[0.8, 0.2, 0], [0, 0.8, 0], [0.2, 0, 1]])[:, THIRDS]
    order = torch.tensor([[0.5, 0.1], [0.9, 0.5]])
    answer = dict(
        weights=weights[:, None].expand(3, *SIZE), order=order, fused=torch.zeros(3, *SIZE)
    )
    canvas = view_fusion(plain(), answer)
    shown = show(bridge, canvas)
    first = shown.legend.first
    expect(first).to_contain_text("1 in front: slot 1 · 27 %")
    assert shown.colour(30, 75) == over((0, 0, 0), 1), "the fused picture, right of the line"
    assert shown.colour(30, 15) == over(to_rgb(canvas.legend[1]["colour"]), 0.7 * 0.8)
    first.hover()
    assert shown.layers() == ["slot 1"]
    assert shown.colour(30, 35) == over(to_rgb(canvas.legend[0]["colour"]), 0.8)
    shown.point(30, 35)
    expect(shown.status).to_have_text("row 30, column 35 · slot 0 20 % · slot 1 80 %")
    shown.legend.filter(has_text="slot 0").click()
    shown.point(30, 15)
    assert shown.layers() == ["slot 1", "fused"] and shown.colour(30, 15) == over((0, 0, 0), 0)


def test_a_class_alone_its_name_and_the_wall(bridge: Bridge) -> None:
    labels = THIRDS.expand(SIZE).clone()
    labels[:6] = 0
    answer = dict(labels=labels, mask=(labels == 0)[None], probs=(labels == 0)[None] * 0.9)
    canvas = view_walls(plain(), answer, ["wall", "door, wide", "<b>sea</b>"])
    shown = show(bridge, canvas)
    assert shown.legend.all_text_contents()[0] == "wall · 2,160 px · 40.0 %"
    assert shown.legend.nth(2).text_content() == "<b>sea</b> · 1,620 px · 30.0 %", "text, not HTML"
    colours = [to_rgb(chip["colour"]) for chip in canvas.legend]
    for chip, column in ((0, 15), (1, 45), (2, 75)):
        shown.legend.nth(chip).hover()
        drawn = [shown.colour(30, other) == over((0, 0, 0), 0) for other in (15, 45, 75)]
        assert drawn.count(False) == 1 and shown.colour(30, column) == over(colours[chip], TINT)
    shown.legend.filter(has_text="wall mask").hover()
    assert shown.layers() == ["mask"] and shown.colour(30, 15) == over(COLOURS["prediction"], 1)
    shown.point(30, 45)
    expect(shown.status).to_have_text("row 30, column 45 · door, wide")
    shown.point(30, 15)
    expect(shown.status).to_have_text("row 30, column 15 · wall · mask 100 % · probability 90 %")


def test_an_object_alone_and_everybody_at_the_pointer(bridge: Bridge) -> None:
    masks = torch.zeros(2, *SIZE, dtype=torch.bool)
    masks[0, 10:50, 10:60] = masks[1, 20:40, 40:80] = True
    found = [Instance(mask, label, 0.9 - label / 10, label) for label, mask in enumerate(masks)]
    canvas = view_objects(plain(), found, ["person", "dog"])
    shown = show(bridge, canvas)
    colours = [to_rgb(chip["colour"]) for chip in canvas.legend]
    shown.legend.filter(has_text="dog .80").hover()
    inside, outside = [(20.2, 40.2), (39.8, 79.8), (30, 50)], [(19.8, 45), (40.2, 45), (30, 39.8)]
    assert [shown.colour(*point) for point in inside] == [over(colours[1], TINT)] * 3
    assert [shown.colour(*point) for point in outside] == [over((0, 0, 0), 0)] * 3
    shown.point(30, 50)
    expect(shown.status).to_have_text("row 30, column 50 · dog .80 · person .90")
    shown.point(30, 70)
    expect(shown.status).to_have_text("row 30, column 70 · dog .80")
    shown.point(5, 5)
    expect(shown.status).to_have_text("row 5, column 5")
    assert shown.colour(30, 20) == over(colours[0], 0.8 * TINT)


def test_no_object(bridge: Bridge) -> None:
    shown = show(bridge, view_objects(plain(), [], ["person"]))
    shown.legend.filter(has_text="no object was found").hover()
    assert shown.colour(30, 45) == over((0, 0, 0), 0)


def test_a_hundred_and_fifty_classes(bridge: Bridge) -> None:
    labels = torch.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 150
    answer = dict(labels=labels, mask=(labels == 0)[None], probs=torch.zeros(1, *SIZE))
    shown = show(bridge, view_walls(plain(), answer, [f"class {n}" for n in range(150)]))
    assert shown.legend.count() == 152
    shown.legend.filter(has_text="class 149 ·").hover()
    drawn = np.abs(shown.pixels().astype(int) - GREY).max(axis=2) > 8
    assert drawn.mean() == pytest.approx(1 / 150, rel=0.1)
