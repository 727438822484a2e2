"A photograph with layers over it, as a person sees and moves it."

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from playwright.sync_api import expect

from seglab.touch.canvas import Canvas
from seglab.touch.layers import Layer, codes, grey, heat, picture

from .bridge import Bridge
from .shown import Shown

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
GREY = [128] * 3
HEIGHT, WIDTH = 100, 150  # of the photograph; the canvas shows each pixel 4 times as large
HALVES = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)  # 1 on the left, 2 on the right
HALVES[:, :75], HALVES[:, 75:] = 1, 2


def plain() -> torch.Tensor:
    "A photograph of one grey, which JPEG leaves as it is."
    return torch.full((3, HEIGHT, WIDTH), 128, dtype=torch.uint8)


def near(colour: list[float]) -> object:
    "A colour, give or take what rounding and JPEG do to it."
    return pytest.approx(colour, abs=3)


def over(colour: tuple[float, float, float], alpha: float) -> object:
    "A colour laid over the grey photograph."
    return near([128 + alpha * (255 * part - 128) for part in colour])


def show(bridge: Bridge, canvas: Canvas) -> Shown:
    "Draw a canvas, and wait until all its layers are there."
    shown = Shown(bridge.page, bridge.show(canvas))
    bridge.wait(lambda: shown.ready() and len(shown.layers()) == len(canvas.order))
    return shown


@pytest.fixture
def halves() -> Canvas:
    "A canvas whose left half is red and right half blue, at full strength."
    canvas = Canvas(plain(), width=4 * WIDTH)
    canvas.put("halves", codes(HALVES, {1: RED, 2: BLUE}), "Halves", alpha=1.0)
    canvas.names = dict(halves={1: "the left", 2: "the right"})
    canvas.legend = [
        dict(layer="halves", value=1, text="left", colour="#f00"),
        dict(layer="halves", value=2, text="right", colour="#00f"),
        dict(layer="halves", value=None, text="both", colour="#888"),
    ]
    return canvas


# the fixture `bridge` comes first in each test: widgets are connected when they are made


# ---- what is drawn


def test_layers_lie_where_they_belong_in_their_colours(bridge: Bridge) -> None:
    canvas = Canvas(plain(), width=4 * WIDTH)
    canvas.put("left", codes(HALVES == 1, {1: RED}), alpha=0.5)
    small = codes(torch.tensor([[1, 0], [0, 1]]), {1: BLUE})
    canvas.put(
        "place", Layer(small.values, small.colours, place=(20.0, 100.0, 40.0, 20.0)), alpha=1
    )
    shown = show(bridge, canvas)
    assert shown.layers() == ["left", "place"]
    assert shown.colour(50, 74.9) == over(RED, 0.5)
    assert shown.colour(50, 75.1) == near(GREY)
    corners = [(20.1, 100.1), (39.9, 109.9), (40.1, 110.1), (59.9, 119.9)]
    outside = [(19.9, 105), (60.1, 115), (30, 99.9), (50, 120.1), (30, 110.1), (50, 109.9)]
    assert [shown.colour(*point) for point in corners] == [over(BLUE, 1)] * 4
    assert [shown.colour(*point) for point in outside] == [near(GREY)] * 6


def test_the_page_draws_what_the_saved_picture_shows(bridge: Bridge) -> None:
    ramp = torch.linspace(0, 1, WIDTH).expand(1, HEIGHT, WIDTH)
    image = torch.stack([ramp[0], ramp[0].flip(1), torch.full_like(ramp[0], 0.5)])
    canvas = Canvas(image, width=WIDTH, split=0.3, after=["other"])
    canvas.put("other", picture(1 - image), alpha=0.8)
    canvas.put("heat", heat(ramp.flip(2)), alpha=0.6)
    canvas.put("grey", grey(ramp[..., ::5, ::5]), alpha=0.3)
    canvas.put("halves", codes(HALVES[::4, ::3], {2: RED}, 0.5), alpha=0.5)
    drawn, saved = show(bridge, canvas).pixels(), canvas.snapshot()
    assert drawn.shape == saved.shape == (HEIGHT, WIDTH, 3)
    apart = np.abs(drawn.astype(int) - saved).max(axis=2)
    line = slice(35, 55)  # the split's line and its handle are only in the page
    assert np.delete(apart, line, axis=1).max() <= 6


def test_the_newest_content_is_drawn_and_order_is_kept(bridge: Bridge, halves: Canvas) -> None:
    shown = show(bridge, halves)
    halves.put("top", codes(torch.ones(2, 2), {1: BLUE}), alpha=1)
    for strength in np.linspace(0.1, 1, 10):
        halves.put("top", codes(torch.ones(2, 2), {1: (0, 1, 0)}, strength))
    halves.put("halves", codes(HALVES, {1: RED}))
    bridge.wait(lambda: shown.colour(50, 20) == over((0, 1, 0), 1))
    halves.drop("top")
    bridge.wait(lambda: shown.layers() == ["halves"])
    assert shown.colour(50, 20) == over(RED, 1) and shown.colour(50, 120) == near(GREY)


def test_a_layer_may_come_from_another_thread(bridge: Bridge, halves: Canvas) -> None:
    shown = show(bridge, halves)
    layer = codes(torch.ones(2, 2), {1: (0, 1, 0)})
    worker = threading.Thread(target=lambda: halves.put("late", layer, alpha=1.0))
    worker.start()
    bridge.wait(lambda: shown.layers() == ["halves", "late"])
    worker.join()
    assert shown.colour(50, 20) == over((0, 1, 0), 1)


def test_another_photograph_takes_the_place_of_the_first(bridge: Bridge, halves: Canvas) -> None:
    shown = show(bridge, halves)
    halves.show_picture(torch.zeros(3, 50, 200))
    bridge.wait(lambda: shown.state()["size"] == [50, 200] and shown.colour(25, 100) == [0, 0, 0])
    assert shown.layers() == []
    assert shown.screen.evaluate("canvas => canvas.clientHeight") == 150


# ---- alphas, legend, split: the page's own affairs


def test_a_slider_fades_its_layer_without_python(bridge: Bridge, halves: Canvas) -> None:
    halves.sliders = True
    shown = show(bridge, halves)
    slider = shown.root.get_by_label("Halves")
    expect(slider).to_have_value("1")
    sent = len(bridge.sent)
    bridge.received.clear()
    slider.fill("0.5")  # nothing is pumped from here on: Python hears of it later
    assert shown.colour(50, 20) == over(RED, 0.5)
    assert halves.alphas == dict(halves=1.0)
    bridge.wait(lambda: halves.alphas == dict(halves=0.5))
    assert {data["method"] for data in bridge.received} == {"update"}
    assert len(bridge.sent) == sent, "the page needs no answer"


def test_python_fades_a_layer(bridge: Bridge, halves: Canvas) -> None:
    halves.sliders = True
    shown = show(bridge, halves)
    halves.alphas = dict(halves=0.25)
    assert shown.colour(50, 20) == over(RED, 0.25)
    expect(shown.root.get_by_label("Halves")).to_have_value("0.25")
    halves.alphas = dict(halves=0.0)
    assert shown.layers() == [] and shown.colour(50, 20) == near(GREY)


def test_the_slider_of_a_new_layer_knows_its_alpha(bridge: Bridge, halves: Canvas) -> None:
    halves.sliders = True
    shown = show(bridge, halves)
    halves.put("late", codes(torch.ones(1, 1), {1: RED}), "Late", alpha=0.75)
    bridge.wait(lambda: shown.layers() == ["halves", "late"])
    expect(shown.root.get_by_label("Late")).to_have_value("0.75")


def test_pointing_at_a_chip_lights_its_value_alone(bridge: Bridge, halves: Canvas) -> None:
    halves.alphas = dict(halves=0.5)
    shown = show(bridge, halves)
    halves.put("over", codes(torch.ones(1, 1), {1: (0, 1, 0)}), alpha=1.0)
    bridge.wait(lambda: len(shown.layers()) == 2)
    bridge.received.clear()
    shown.legend.filter(has_text="left").hover()
    assert shown.layers() == ["halves"]
    assert shown.colour(50, 20) == over(RED, 1) and shown.colour(50, 120) == near(GREY)
    shown.legend.filter(has_text="both").hover()
    assert shown.colour(50, 20) == over(RED, 1) and shown.colour(50, 120) == over(BLUE, 1)
    shown.point(50, 20)
    assert shown.layers() == ["halves", "over"] and shown.colour(50, 20) == over((0, 1, 0), 1)
    assert bridge.pump() == 0 and not bridge.received


def test_a_new_legend_under_the_pointer_leaves_nothing_lit(bridge: Bridge, halves: Canvas) -> None:
    halves.put("over", codes(torch.ones(1, 1), {1: (0, 1, 0)}), alpha=1.0)
    shown = show(bridge, halves)
    shown.legend.filter(has_text="left").hover()
    assert shown.layers() == ["halves"]
    halves.legend = []  # an element that is removed never hears that the pointer left
    assert shown.layers() == ["halves", "over"]


def test_a_click_on_a_chip_hides_and_shows(bridge: Bridge, halves: Canvas) -> None:
    shown = show(bridge, halves)
    left, both = (shown.legend.filter(has_text=text) for text in ("left", "both"))
    left.click()
    shown.point(50, 20)
    assert shown.colour(50, 20) == near(GREY) and shown.colour(50, 120) == over(BLUE, 1)
    assert "off" in left.get_attribute("class")
    left.click()
    shown.point(50, 20)
    assert shown.colour(50, 20) == over(RED, 1) and "off" not in left.get_attribute("class")
    both.click()
    shown.point(50, 20)
    assert shown.layers() == [] and shown.colour(50, 120) == near(GREY)
    assert not [data for data in bridge.received if data["method"] == "update"]


def test_the_split_is_dragged_in_the_page(bridge: Bridge, halves: Canvas) -> None:
    halves.split, halves.after = 0.5, ["halves"]
    shown = show(bridge, halves)
    assert shown.colour(50, 60) == near(GREY) and shown.colour(50, 90) == over(BLUE, 1)
    shown.drag((20, 75), (20, 30))
    assert shown.colour(50, 60) == over(RED, 1) and shown.colour(50, 20) == near(GREY)
    bridge.wait(lambda: halves.split == pytest.approx(0.2, abs=0.01))
    shown.drag((20, 30), (20, -40))
    bridge.wait(lambda: halves.split == 0.0)
    halves.split = -1.0
    assert shown.colour(50, 20) == over(RED, 1)


# ---- moving about


def test_the_wheel_keeps_what_lies_under_the_pointer(bridge: Bridge, halves: Canvas) -> None:
    shown = show(bridge, halves)
    place = shown.spot(30, 90)
    for clicks in (3, 5, -2):
        before = shown.state()["view"]["scale"]
        shown.page.mouse.move(*place)
        shown.page.mouse.wheel(0, -100 * clicks)
        bridge.wait(lambda old=before: shown.state()["view"]["scale"] != old)
        assert shown.spot(30, 90) == pytest.approx(place, abs=1e-6)
        assert (shown.state()["view"]["scale"] > before) == (clicks > 0)
    assert shown.page.evaluate("scrollY") == 0


def test_zooming_has_ends_and_a_way_back(bridge: Bridge, halves: Canvas) -> None:
    shown = show(bridge, halves)
    fitting = shown.state()["view"]
    for clicks in (40, -80):
        shown.roll(50, 75, clicks)
        bridge.wait(lambda: shown.state()["view"] != fitting)
        assert 1 <= shown.state()["view"]["scale"] <= 40
        shown.screen.dblclick()
        bridge.wait(lambda: shown.state()["view"] == fitting)


def test_shift_and_drag_move_the_picture(bridge: Bridge, halves: Canvas) -> None:
    clicks = []
    halves.on_point, halves.pointing = lambda *point: clicks.append(point), True
    shown = show(bridge, halves)
    start, goal = shown.spot(40, 60), shown.spot(60, 100)
    shown.page.keyboard.down("Shift")
    shown.drag((40, 60), (60, 100))
    shown.page.keyboard.up("Shift")
    assert shown.spot(40, 60) == pytest.approx(goal, abs=1e-6)
    bridge.pump()
    assert not clicks, "moving is no click"
    assert shown.colour(50, 30) == over(RED, 1) and start != goal


def hand(shown: Shown) -> Callable[..., None]:
    "What lays fingers on the screen: a kind of event, and where which are, in the picture's pixels."
    session = shown.page.context.new_cdp_session(shown.page)

    def touch(kind: str, **fingers: tuple[float, float]) -> None:
        points = []
        for name, point in fingers.items():
            x, y = shown.spot(*point)
            points.append(dict(x=x, y=y, id=["thumb", "index", "palm"].index(name)))
        session.send("Input.dispatchTouchEvent", dict(type=kind, touchPoints=points))

    return touch


def test_two_fingers_zoom(bridge: Bridge, halves: Canvas) -> None:
    shown = show(bridge, halves)
    before, touch = shown.state()["view"]["scale"], hand(shown)
    touch("touchStart", thumb=(50, 60))
    touch("touchStart", thumb=(50, 60), index=(50, 90))
    middle = shown.spot(50, 75)
    touch("touchMove", thumb=(50, 45), index=(50, 105))
    touch("touchEnd")
    assert shown.state()["view"]["scale"] == pytest.approx(2 * before, rel=0.02)
    assert shown.spot(50, 75) == pytest.approx(middle, abs=2)


def test_a_palm_on_the_screen_does_not_end_a_pinch(bridge: Bridge, halves: Canvas) -> None:
    shown = show(bridge, halves)
    before, touch = shown.state()["view"]["scale"], hand(shown)
    touch("touchStart", thumb=(50, 60))
    touch("touchStart", thumb=(50, 60), index=(50, 90))
    touch("touchStart", thumb=(50, 60), index=(50, 90), palm=(80, 20))
    touch("touchEnd", palm=(80, 20))
    assert shown.state()["view"]["scale"] == before
    touch("touchMove", thumb=(50, 45), index=(50, 105))
    touch("touchEnd")
    assert shown.state()["view"]["scale"] == pytest.approx(2 * before, rel=0.02)


def test_the_status_line_names_what_lies_at_the_pointer(bridge: Bridge, halves: Canvas) -> None:
    shown = show(bridge, halves)
    shown.point(30.5, 74.5)
    expect(shown.status).to_have_text("row 30, column 74 · the left")
    shown.point(30.5, 75.5)
    expect(shown.status).to_have_text("row 30, column 75 · the right")
    shown.page.mouse.move(900, 850)
    expect(shown.status).not_to_contain_text("row")


# ---- clicks


CORNERS = [(0, 0), (0, 599), (399, 0), (399, 599), (123, 456)]  # y, x in the canvas, in CSS pixels


def test_points_are_exact(bridge: Bridge) -> None:
    points = []
    canvas = Canvas(plain(), 4 * WIDTH, on_point=lambda y, x: points.append((y, x)))
    shown = show(bridge, canvas)
    box = shown.screen.bounding_box()
    for number, (y, x) in enumerate(CORNERS):
        shown.page.mouse.click(box["x"] + 1 + x, box["y"] + 1 + y)  # 1: the border
        bridge.wait(lambda n=number: len(points) > n)
    assert points == [pytest.approx((y / 4, x / 4), abs=1e-9) for y, x in CORNERS]


def test_a_drag_is_no_click_nor_is_the_right_button(bridge: Bridge) -> None:
    points = []
    canvas = Canvas(plain(), 4 * WIDTH, on_point=lambda y, x: points.append((y, x)))
    shown = show(bridge, canvas)
    shown.drag((20, 20), (60, 60))
    shown.click(30, 30, button="right")
    bridge.pump()
    assert not points


@pytest.mark.parametrize("ratio", [1, 1.5, 2])
def test_points_are_exact_through_zoom_and_squeezed(bridge: Bridge, ratio: float) -> None:
    size = dict(width=1000, height=900, deviceScaleFactor=ratio, mobile=False)
    session = bridge.page.context.new_cdp_session(bridge.page)
    session.send("Emulation.setDeviceMetricsOverride", size)
    points = []
    canvas = Canvas(plain(), 4 * WIDTH, on_point=lambda y, x: points.append((y, x)))
    shown = show(bridge, canvas)
    shown.root.evaluate("root => { root.parentElement.style.width = '302px' }")  # 300 and a border
    assert shown.screen.evaluate("canvas => canvas.clientWidth") == pytest.approx(300, abs=2)
    shown.roll(50, 75, 5)
    bridge.wait(lambda: shown.state()["view"]["scale"] > 5 * ratio)
    for y, x in ((50, 75), (44.25, 70.5), (55.5, 80.125)):
        across, down = map(round, shown.spot(y, x))
        box = shown.screen.bounding_box()
        width = shown.screen.evaluate("canvas => canvas.clientWidth")
        view, pixels = shown.state()["view"], 4 * WIDTH * ratio / width
        expected = [
            ((place - corner - 1) * pixels - offset) / view["scale"]
            for place, corner, offset in (
                (down, box["y"], view["y"]),
                (across, box["x"], view["x"]),
            )
        ]
        points.clear()
        shown.page.mouse.click(across, down)
        bridge.wait(lambda: points)
        assert points == [pytest.approx(expected, abs=1e-6)]
        assert points == [pytest.approx((y, x), abs=0.2)]  # the mouse stops at whole CSS pixels


def test_the_right_button_opens_no_menu_and_the_wheel_moves_no_page(
    bridge: Bridge, halves: Canvas
) -> None:
    shown = show(bridge, halves)
    shown.page.evaluate("""() => {
        document.body.style.height = '3000px';
        window.heard = [];
        document.addEventListener('contextmenu', () => heard.push('contextmenu'));
    }""")
    shown.click(30, 30, button="right")
    shown.roll(50, 75, -3)
    bridge.wait(lambda: shown.state()["view"]["scale"] < 4)
    assert shown.page.evaluate("heard") == [], "JupyterLab would open its own menu"
    assert shown.page.evaluate("scrollY") == 0


# ---- what outlives it


def test_a_reload_brings_everything_back(bridge: Bridge, halves: Canvas) -> None:
    halves.sliders, halves.split, halves.after = True, 0.5, ["late"]
    shown = show(bridge, halves)
    shown.root.get_by_label("Halves").fill("0.5")
    bridge.wait(lambda: halves.alphas["halves"] == 0.5)
    bridge.reload(lambda: halves.put("late", codes(torch.ones(1, 1), {1: (0, 1, 0)}), alpha=1))
    bridge.wait(lambda: shown.layers() == ["halves", "late"])
    assert shown.colour(50, 20) == over(RED, 0.5)
    assert shown.colour(50, 120) == over((0, 1, 0), 1)
    expect(shown.root.get_by_label("Halves")).to_have_value("0.5")
    assert shown.legend.count() == 3


def test_two_views_show_the_same(bridge: Bridge, halves: Canvas) -> None:
    shown = show(bridge, halves)
    bridge.show(halves)
    roots = bridge.page.locator("[data-testid=canvas]")
    bridge.wait(lambda: roots.nth(1).get_attribute("data-layers") == "halves")
    assert roots.count() == 2 and shown.root.first.get_attribute("data-layers") == "halves"
    bridge.hide(halves)
    assert bridge.listeners() == []


def test_an_error_is_shown_and_kept_until_the_next_success(bridge: Bridge) -> None:
    canvas = Canvas(plain(), on_point=lambda y, x: 1 / (y > 50))
    shown = show(bridge, canvas)
    shown.click(20, 20)
    bridge.wait(lambda: canvas.error)
    assert isinstance(canvas.error, ZeroDivisionError)
    expect(shown.error).to_have_text("ZeroDivisionError: division by zero")
    assert shown.root.get_attribute("data-error") == "ZeroDivisionError: division by zero"
    shown.click(80, 20)
    bridge.wait(lambda: canvas.error is None)
    expect(shown.error).to_have_text("")


def test_an_error_is_still_shown_after_a_reload(bridge: Bridge) -> None:
    canvas = Canvas(plain(), on_point=lambda y, x: 1 / (y > 50))
    shown = show(bridge, canvas)
    shown.click(20, 20)
    bridge.wait(lambda: canvas.error)
    bridge.reload()
    bridge.wait(shown.ready)
    bridge.pump(100)
    expect(shown.error).to_have_text("ZeroDivisionError: division by zero")
    assert isinstance(canvas.error, ZeroDivisionError)


def test_a_closed_canvas_leaves_nothing_behind(bridge: Bridge, halves: Canvas) -> None:
    halves.sliders, halves.split, halves.after = True, 0.5, ["halves"]
    shown = show(bridge, halves)
    assert bridge.hide(halves) == 0
    assert bridge.listeners() == [] and shown.root.count() == 0
    halves.put("later", codes(HALVES, {1: RED}))  # the model lives on: nobody draws
    show(bridge, halves)
    halves.close()
    expect(shown.root).to_have_count(0)
    assert bridge.listeners() == []
