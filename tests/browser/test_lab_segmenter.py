"A person before JupyterLab: clicks, strokes, undo, reload; and how long an answer takes to arrive."

import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import expect

from .lab import Lab

TESTS = Path(__file__).parents[1]
BEGIN = f"""import sys; sys.path.insert(0, {str(TESTS)!r})
import torch
from browser.discs import Discs
from seglab.interact.widget import Segmenter
discs = Discs(radius=SIZE[0] / 8, side=448)
segmenter = Segmenter(discs, torch.full((3, *SIZE), 128, dtype=torch.uint8))
canvas, session = segmenter.canvas, segmenter.session
"""
ROOT = "document.querySelector('.seglab-canvas')"


def show(lab: Lab, height: int, width: int) -> None:
    "A notebook with a segmenter, run."
    lab.open(f"segment_{width}", BEGIN.replace("SIZE", f"({height}, {width})"), "segmenter")
    lab.run_all()
    ready(lab)


def ready(lab: Lab) -> None:
    "Wait for the picture, and for the state of the sitting."
    condition = f"{ROOT}?.dataset.ready === '1' && {ROOT}.dataset.objects !== undefined"
    lab.until(condition)


def answered(lab: Lab) -> None:
    "Wait until the page has drawn the answer to all it has sent."
    lab.until(f"{ROOT}.dataset.sent === {ROOT}.dataset.answered")


def click(lab: Lab, x: float, y: float, **options: object) -> None:
    "Where in the canvas, in CSS pixels."
    lab.page.locator(".seglab-canvas canvas").click(position=dict(x=x, y=y), **options)
    answered(lab)


def number(lab: Lab, name: str) -> float:
    "What the page notes about itself."
    return float(lab.ask(f"() => {ROOT}.dataset.{name}"))


def round_trip(lab: Lab) -> float:
    "How long the kernel takes now to answer a question about nothing, in milliseconds."
    start = time.perf_counter()
    for _ in range(5):
        lab.evaluate("None")
    return 200 * (time.perf_counter() - start)


def teal(lab: Lab, x: int, y: int) -> bool:
    "Whether the canvas has the colour of the answer there."
    read = f"{ROOT}.querySelector('canvas').getContext('2d').getImageData({x}, {y}, 1, 1).data"
    red, green, blue = lab.ask(f"() => [...{read}].slice(0, 3)")
    return red < 100 < 130 < min(green, blue)


def test_a_sitting(lab: Lab) -> None:
    show(lab, 480, 640)
    click(lab, 200, 200)
    assert lab.evaluate("[(one.y, one.x) for one in session.interactions]") == [[200, 200]]
    assert lab.evaluate("bool(session.mask()[0, 200, 230])") and teal(lab, 230, 200)
    click(lab, 230, 200, button="right")
    assert not lab.evaluate("bool(session.mask()[0, 200, 230])") and not teal(lab, 260, 200)
    assert lab.page.locator(".lm-Menu").count() == 0  # JupyterLab's own menu stayed away
    lab.page.get_by_role("button", name="undo", exact=True).click()
    lab.wait("len(session.interactions) == 1")
    lab.until(f"{ROOT}.dataset.told === '1'")
    assert teal(lab, 230, 200)
    lab.page.get_by_role("button", name="stroke", exact=True).click()
    lab.wait("canvas.tool == 'stroke'")
    box = lab.page.locator(".seglab-canvas canvas").bounding_box()
    lab.page.mouse.move(box["x"] + 400, box["y"] + 300)
    lab.page.mouse.down()
    lab.page.mouse.move(box["x"] + 500, box["y"] + 300, steps=8)
    lab.page.mouse.up()
    answered(lab)
    assert lab.evaluate("len(session.interactions[1].points)") > 5
    assert lab.evaluate("bool(session.mask()[0, 300, 450])") and teal(lab, 450, 320)
    lab.page.keyboard.press("Control+z")  # of the page, not of the cell
    answered(lab)
    lab.page.keyboard.press("Control+y")
    answered(lab)
    assert lab.evaluate("len(session.interactions)") == 2
    area = lab.evaluate("int(session.mask().sum())")
    lab.reload()
    ready(lab)
    lab.until(f"{ROOT}.dataset.told === '2'")
    assert teal(lab, 450, 320) and lab.evaluate("int(session.mask().sum())") == area
    lab.page.locator(".seglab-canvas canvas").focus()
    click(lab, 60, 60)
    lab.page.keyboard.press(" ")
    answered(lab)
    assert lab.evaluate("(session.objects, int(session.finished.max()))") == [1, 1]


def test_the_page_about_it(lab: Lab, repository: Path) -> None:
    shutil.copy(repository / "nbs" / "65_interact.widget.ipynb", lab.folder / "demo.ipynb")
    lab.open("demo")
    lab.run_all()
    ready(lab)
    told = lab.evaluate("len(segmenter.session.interactions)")
    canvas = lab.page.locator(".seglab-canvas canvas").first
    canvas.scroll_into_view_if_needed()
    canvas.click(position=dict(x=240, y=300))
    lab.wait(f"len(segmenter.session.interactions) == {told + 1}")
    assert lab.evaluate("bool(segmenter.mask[0, 100, 80])")
    canvas.press("Control+z")
    lab.wait(f"len(segmenter.session.interactions) == {told}")


def test_a_photograph_larger_than_a_message_arrives(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    show(lab, 300, 400)
    noise = np.random.default_rng(0).integers(0, 256, (1100, 4000, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), noise, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    lab.evaluate("setattr(segmenter.files.upload, 'arrived', 57)")  # as if one had broken off
    button = lab.page.get_by_role("button", name="57 % is here")
    with lab.page.expect_file_chooser() as chooser:
        button.click()
    start = time.perf_counter()
    chooser.value.set_files(tmp_path / "photo.png")
    lab.wait("canvas.size == [1100, 4000] or bool(canvas.error)", seconds=60)
    with capsys.disabled():
        size = (tmp_path / "photo.png").stat().st_size / 1e6
        assert size > 10.5, "JupyterLab's server hangs up at a message of ten megabytes"
        print(f"\n  {size:.0f} MB uploaded in {time.perf_counter() - start:.1f} s")
    assert lab.evaluate("repr(canvas.error)") == "None"
    assert lab.evaluate("session.image[:, 1099, 3999].tolist()") == noise[1099, 3999, ::-1].tolist()
    click(lab, 200, 100)
    assert lab.evaluate("len(session.interactions)") == 1
    expect(lab.page.get_by_role("button", name="upload photo")).to_be_visible()


def test_sliders_act_in_the_page(lab: Lab) -> None:
    show(lab, 300, 400)
    click(lab, 200, 200)
    before = number(lab, "maskPixels")
    slider = lab.page.locator(".widget-slider", has_text="threshold").locator(".noUi-handle")
    slider.focus()
    for _ in range(30):
        slider.press("ArrowRight")
    lab.until(f"+{ROOT}.dataset.maskPixels < {0.7 * before}")
    lab.wait("abs(session.threshold - 0.8) < 1e-6")
    assert lab.evaluate("discs.asked") == 1
    expect(lab.page.locator(".widget-slider", has_text="target size")).to_be_visible()


@pytest.mark.parametrize("size", [(768, 1024), (3000, 4000)])
def test_from_the_click_to_the_overlay(
    lab: Lab, size: tuple[int, int], capsys: pytest.CaptureFixture
) -> None:
    show(lab, *size)
    times, trips = [], []
    for x in range(100, 600, 50):
        click(lab, x, 200)
        times.append(number(lab, "latencyMs") - number(lab, "modelMs"))
        trips.append(round_trip(lab))
    with capsys.disabled():
        words = f"{np.median(times):.0f} ms ({min(times):.0f} to {max(times):.0f})"
        print(f"\n  {size[1]} x {size[0]} in JupyterLab, click to overlay: {words}", end=" ")
        print("beyond the network's own time")
    assert np.median(times) < 3 * np.median(trips) + 100  # however busy the machine is
