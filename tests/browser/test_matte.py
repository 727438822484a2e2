"The matte panel in real JupyterLab: its slider, its views, its line and its file."

from pathlib import Path

from playwright.sync_api import expect

from .lab import Lab
from .shown import Shown

SETUP = """
import torch
from seglab.touch.matte import MattePanel
mask = torch.zeros(1, 120, 160, dtype=torch.bool)
mask[:, 30:90, 40:120] = True
noise = torch.rand(3, 120, 160, generator=torch.Generator().manual_seed(1))
image = torch.where(mask, 0.8 + 0.2 * noise, 0.2 * noise)
panel = MattePanel(image, lambda: mask, width=320)
assert panel.settle(60) and panel.error is None
"""


def near(*colour: int, apart: int = 12) -> object:
    "Equal to colours that JPEG has moved a little."

    class Near:
        def __eq__(self, other: list[int]) -> bool:
            return max(abs(a - b) for a, b in zip(colour, other, strict=True)) <= apart

        def __repr__(self) -> str:
            return f"near {colour}"

    return Near()


def wait_for_layers(lab: Lab, shown: Shown, layers: list[str]) -> None:
    for _ in range(200):
        if shown.layers() == layers:
            return
        lab.page.wait_for_timeout(50)
    raise TimeoutError(f"{shown.layers()} instead of {layers}")


def test_from_mask_to_file_in_a_notebook(lab: Lab, tmp_path: Path) -> None:
    lab.open("matte", SETUP, "panel")
    lab.run_all()
    output = lab.page.locator(".jp-OutputArea-output").last
    shown = Shown(lab.page, output)
    expect(shown.root).to_have_attribute("data-ready", "1")
    wait_for_layers(lab, shown, ["composite"])
    corner = shown.colour(5, 5)
    assert corner[0] == corner[1] == corner[2] > 180, "a checkerboard behind the object"

    # a plain colour behind, chosen in the page
    output.locator("select").nth(2).select_option("colour")
    lab.wait("panel.controls['backdrop'].value == 'colour'")
    for _ in range(100):
        if shown.colour(5, 5) == near(0x1F, 0x6F, 0x54):
            break
        lab.page.wait_for_timeout(50)
    assert shown.colour(5, 5) == near(0x1F, 0x6F, 0x54)

    # before and after: the photograph is left of the line, which is dragged in the page
    output.get_by_role("button", name="before | after").click()
    lab.wait("panel.canvas.split == 0.5")
    lab.page.wait_for_timeout(100)
    assert max(shown.colour(5, 20)) < 80 and shown.colour(5, 140) == near(0x1F, 0x6F, 0x54)
    shown.drag((60, 80), (60, 8))
    assert shown.colour(5, 20) == near(0x1F, 0x6F, 0x54)
    lab.wait("abs(panel.canvas.split - 0.05) < 0.02")

    # the band: the trimap is shown at once, and the matte comes back
    handle = output.locator(".noUi-handle")
    handle.focus()
    for _ in range(3):
        lab.page.keyboard.press("ArrowRight")
    lab.wait("panel.controls['band'].value == 7")
    lab.wait("panel.settle(0) and panel.error is None")
    assert lab.evaluate("int((panel.trimap[0, 60] == 1).sum())") == 28
    wait_for_layers(lab, shown, ["composite"])

    # views
    output.get_by_role("button", name="trimap", exact=True).click()
    wait_for_layers(lab, shown, ["trimap"])
    assert shown.colour(60, 80) == [255, 255, 255] and shown.colour(60, 40) == near(128, 128, 128)

    # a file
    field = output.locator("input[type=text]").last
    field.fill(str(tmp_path / "box.png"))
    field.press("Tab")
    output.get_by_role("button", name="save full size").click()
    lab.wait("panel.controls['status'].value.startswith('wrote ')")
    assert (tmp_path / "box.png").stat().st_size > 1000
    lab.page.screenshot(path=tmp_path / "matte.png")


def test_an_error_is_shown_and_a_reload_brings_all_back(lab: Lab) -> None:
    lab.open("errors", SETUP, "panel")
    lab.run_all()
    output = lab.page.locator(".jp-OutputArea-output").last
    shown = Shown(lab.page, output)
    wait_for_layers(lab, shown, ["composite"])
    assert not lab.evaluate("bool(globals().update(mask=mask[:, 1:]))")
    output.get_by_role("button", name="take the mask anew").click()
    expect(shown.error).to_contain_text("mask: must be bool, (1, 120, 160) like the image")
    assert lab.evaluate("type(panel.error).__name__") == "ValueError"
    lab.reload()
    wait_for_layers(lab, shown, ["composite"])
    expect(shown.error).to_contain_text("like the image")
