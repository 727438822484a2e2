"Pointing at an object in a real browser: what the page draws, what the kernel holds, and how fast."

import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from playwright.sync_api import Locator

from seglab.interact.data import Click, kind_of
from seglab.interact.pointing import SegmentCanvas
from seglab.interact.session import Session

from .bridge import Bridge
from .discs import Discs

ROOT = "document.querySelector('.seglab-canvas')"
READY = f"{ROOT}?.dataset.ready === '1' && {ROOT}.dataset.objects !== undefined"
ANSWERED = f"{ROOT}.dataset.sent === {ROOT}.dataset.answered"
TEAL = (15, 153, 148)  # of the prediction


class Sitting:
    "A segmenter in the page, and a hand that points."

    def __init__(self, bridge: Bridge, size: tuple[int, int] = (200, 300), **options: object):
        self.bridge, self.page, self.discs = bridge, bridge.page, Discs()
        self.session = Session(self.discs)
        self.session.begin(torch.full((3, *size), 128, dtype=torch.uint8))
        self.canvas = SegmentCanvas(self.session, **dict(width=600) | options)
        bridge.show(self.canvas)
        bridge.wait(READY)
        self.screen: Locator = self.page.locator(".seglab-canvas canvas")

    def answered(self) -> None:
        "Wait until the page has drawn the answer to all it has sent."
        self.bridge.wait(ANSWERED)

    def click(self, x: float, y: float, **options: object) -> None:
        "A click at CSS pixels of the canvas."
        self.screen.click(position=dict(x=x, y=y), **options)
        self.answered()

    def drag(self, *path: tuple[float, float], button: str = "left") -> None:
        "Press, move along, release; the border of one pixel belongs to the box."
        box = self.screen.bounding_box()
        points = [(box["x"] + x, box["y"] + y) for x, y in path]
        self.page.mouse.move(*points[0])
        self.page.mouse.down(button=button)
        for point in points[1:]:
            self.page.mouse.move(*point, steps=5)
        self.page.mouse.up(button=button)
        self.answered()

    def round_trip(self) -> float:
        "How long a question to the page takes now, in milliseconds."
        start = time.perf_counter()
        for _ in range(5):
            self.bridge.pump()
        return 200 * (time.perf_counter() - start)

    def pixel(self, x: int, y: int) -> list[int]:
        "What the canvas shows."
        read = f"([x, y]) => [...{ROOT}.querySelector('canvas').getContext('2d')"
        return self.page.evaluate(f"{read}.getImageData(x, y, 1, 1).data].slice(0, 3)", [x, y])

    def data(self, name: str) -> float:
        "A number that the page notes."
        return float(self.page.evaluate(f"{ROOT}.dataset.{name}"))


@pytest.fixture
def sitting(bridge: Bridge) -> Iterator[Sitting]:
    "A grey photograph of 300 by 200 pixels, shown twice as large."
    return Sitting(bridge)


def test_left_is_object_and_right_is_not(sitting: Sitting) -> None:
    assert sitting.pixel(230, 230) == pytest.approx([128] * 3, abs=2)
    sitting.click(200, 200)
    assert sitting.session.interactions == [Click(100, 100)]
    assert sitting.pixel(230, 210) == pytest.approx([(128 + part) / 2 for part in TEAL], abs=2)
    assert sitting.pixel(400, 210) == pytest.approx([128] * 3, abs=2)
    sitting.click(200, 200, button="right")
    assert [one.positive for one in sitting.session.interactions] == [True, False]
    assert sitting.pixel(230, 210) == pytest.approx([128] * 3, abs=2)
    assert not sitting.session.mask().any()


def test_the_page_draws_the_mask_of_the_kernel(sitting: Sitting) -> None:
    sitting.click(200, 200)
    sitting.click(330, 260)
    wanted = np.kron(sitting.session.mask()[0].numpy(), np.ones((2, 2))).sum()
    assert sitting.data("maskPixels") == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize("button", ["left", "right"])
def test_a_drag_is_a_stroke_or_a_contour(sitting: Sitting, button: str) -> None:
    sitting.canvas.tool = "stroke"
    sitting.drag((101, 101), (301, 101), button=button)
    sitting.canvas.tool = "contour"
    sitting.drag((401, 201), (501, 201), (501, 301), button=button)
    sitting.drag((401, 301), (403, 301), button=button)  # hardly moved: a click
    told = sitting.session.interactions
    assert [kind_of(one) for one in told] == ["stroke", "contour", "click"]
    assert {one.positive for one in told} == {button == "left"}
    first, last = told[0].points[0], told[0].points[-1]
    assert [*first, *last] == pytest.approx([49.5, 49.5, 49.5, 149.5], abs=0.6)


def test_with_clicks_a_drag_moves_the_picture(sitting: Sitting) -> None:
    sitting.drag((101, 101), (161, 121))
    assert sitting.session.interactions == []
    sitting.click(260, 220)
    assert sitting.session.interactions == [Click(100, 100)]


def test_what_is_pointed_at_stays_under_the_pointer(sitting: Sitting) -> None:
    sitting.screen.hover(position=dict(x=300, y=200))
    sitting.page.mouse.wheel(0, -300)
    sitting.page.wait_for_function(f"{ROOT}.state().view.scale > 3")
    sitting.click(300, 200)
    (one,) = sitting.session.interactions
    assert (one.y, one.x) == pytest.approx((100, 150), abs=1)


def test_keys(sitting: Sitting) -> None:
    sitting.click(200, 200)
    mask = sitting.session.mask()
    for key, left in (("Control+z", 0), ("Control+y", 1), ("Control+z", 0), ("Control+Shift+z", 1)):
        sitting.page.keyboard.press(key)
        sitting.answered()
        assert len(sitting.session.interactions) == left == sitting.data("told")
    assert torch.equal(sitting.session.mask(), mask)
    sitting.page.keyboard.press("a")
    sitting.answered()
    sitting.click(400, 200)
    sitting.page.keyboard.press(" ")
    sitting.answered()
    assert sitting.session.objects == 1 == sitting.data("objects")
    assert sitting.session.finished[100, [100, 200]].tolist() == [1, 1]


def test_sliders_never_ask_the_kernel(sitting: Sitting) -> None:
    sitting.click(200, 200)
    before, messages = sitting.data("maskPixels"), len(sitting.bridge.received)
    model = f"models.get('{sitting.canvas.model_id}')"
    for name, value in (("threshold", 0.8), ("alpha", 1.0), ("click_radius", 9)):
        sitting.page.evaluate(f"{model}.set({{ {name}: {value} }})")
    assert sitting.data("maskPixels") < 0.6 * before
    assert sitting.pixel(212, 212) == pytest.approx(TEAL, abs=2)
    assert len(sitting.bridge.received) == messages


def test_a_slow_answer_never_covers_a_newer_one(sitting: Sitting) -> None:
    sitting.discs.go.clear()
    for x in (100, 200, 300):
        sitting.screen.click(position=dict(x=x, y=200))
        sitting.bridge.pump()
    sitting.page.keyboard.press("Control+z")  # while it thinks
    sitting.bridge.pump()
    sitting.discs.go.set()
    sitting.answered()
    assert sitting.session.interactions == [] and sitting.data("told") == 0
    assert sitting.pixel(230, 210) == pytest.approx([128] * 3, abs=2)
    sitting.click(200, 200)
    assert sitting.session.interactions == [Click(100, 100)]
    assert sitting.discs.asked <= 3


def test_a_reload_brings_everything_back(sitting: Sitting) -> None:
    sitting.click(200, 200)
    sitting.page.keyboard.press(" ")
    sitting.answered()
    sitting.click(400, 200)
    sitting.canvas.alpha = 1.0
    sitting.bridge.reload()
    sitting.bridge.wait(f"{READY} && {ROOT}.dataset.told === '1'")
    sitting.bridge.wait(f"{ROOT}.dataset.layers === 'finished,part 0'")
    assert sitting.pixel(420, 210) == pytest.approx(TEAL, abs=2)
    assert sitting.pixel(220, 210) == pytest.approx((31, 119, 180), abs=2)
    sitting.page.keyboard.press("Tab")
    sitting.click(500, 300)
    assert len(sitting.session.interactions) == 2


def test_an_error_of_the_network_is_shown_and_kept(sitting: Sitting) -> None:
    sitting.discs.problem = RuntimeError("out of memory")
    sitting.click(200, 200)
    assert isinstance(sitting.canvas.error, RuntimeError)
    shown = sitting.page.locator(".seglab-error")
    assert shown.inner_text() == "RuntimeError: out of memory"
    assert sitting.session.interactions == [] and sitting.data("told") == 0
    sitting.click(200, 200)
    assert shown.inner_text() == "" and len(sitting.session.interactions) == 1


def test_two_fingers_enlarge_and_one_clicks(bridge: Bridge) -> None:
    sitting = Sitting(bridge)
    client = bridge.page.context.new_cdp_session(bridge.page)
    box = sitting.screen.bounding_box()

    def touch(kind: str, *points: tuple[float, float]) -> None:
        where = [dict(x=box["x"] + x, y=box["y"] + y, id=n) for n, (x, y) in enumerate(points)]
        client.send("Input.dispatchTouchEvent", dict(type=kind, touchPoints=where))

    touch("touchStart", (250, 201))
    touch("touchStart", (250, 201), (350, 201))
    touch("touchMove", (200, 201), (400, 201))
    touch("touchEnd")
    assert sitting.page.evaluate(f"{ROOT}.state().view.scale") == pytest.approx(4, rel=0.1)
    assert sitting.session.interactions == []
    touch("touchStart", (301, 201))
    touch("touchEnd")
    sitting.bridge.wait(f"{ROOT}.dataset.sent === '1' && {ANSWERED}")
    (one,) = sitting.session.interactions
    assert (one.y, one.x) == pytest.approx((100, 150), abs=2)


def test_a_finger_may_say_not_this_and_a_palm_says_nothing(bridge: Bridge) -> None:
    sitting = Sitting(bridge, tool="stroke")
    client = bridge.page.context.new_cdp_session(bridge.page)
    box = sitting.screen.bounding_box()

    def touch(kind: str, *points: tuple[float, float]) -> None:
        where = [dict(x=box["x"] + x, y=box["y"] + y, id=n) for n, (x, y) in enumerate(points)]
        client.send("Input.dispatchTouchEvent", dict(type=kind, touchPoints=where))

    sitting.canvas.negative = True
    touch("touchStart", (101, 101))
    for x in (151, 201, 301):
        touch("touchMove", (x, 101))
    touch("touchEnd")
    sitting.bridge.wait(f"{ROOT}.dataset.sent === '1' && {ANSWERED}")
    (one,) = sitting.session.interactions
    assert kind_of(one) == "stroke" and not one.positive
    for count in (1, 2, 3):
        touch("touchStart", *[(100 * n, 301) for n in range(1, count + 1)])
    touch("touchEnd")
    sitting.bridge.pump()
    assert sitting.data("sent") == 1


def test_two_clicks_on_one_place_are_two_clicks(sitting: Sitting) -> None:
    sitting.screen.hover(position=dict(x=300, y=200))
    sitting.page.mouse.wheel(0, -300)
    sitting.page.wait_for_function(f"{ROOT}.state().view.scale > 3")
    scale = sitting.page.evaluate(f"{ROOT}.state().view.scale")
    sitting.screen.dblclick(position=dict(x=300, y=200))
    sitting.answered()
    assert len(sitting.session.interactions) == 2
    assert sitting.page.evaluate(f"{ROOT}.state().view.scale") == scale
    sitting.page.keyboard.press("0")
    assert sitting.page.evaluate(f"{ROOT}.state().view.scale") == 2


@pytest.mark.parametrize("size", [(768, 1024), (3000, 4000)])
def test_from_the_click_to_the_overlay(
    bridge: Bridge, size: tuple[int, int], capsys: pytest.CaptureFixture
) -> None:
    sitting = Sitting(bridge, size)
    sitting.discs.radius, times, trips = size[0] / 6, [], []
    for x in range(100, 500, 50):
        sitting.click(x, 200)
        times.append(sitting.data("latencyMs") - sitting.data("modelMs"))
        trips.append(sitting.round_trip())
    with capsys.disabled():
        print(f"\n  {size[1]} x {size[0]}: click to overlay {np.median(times):.0f} ms", end=" ")
        print(f"({min(times):.0f} to {max(times):.0f}) beyond the network's time")
    assert np.median(times) < 4 * np.median(trips) + 100  # however busy the machine is
