"What a person sees of a canvas in a page, and does to it: colours, words, the mouse."

import base64

import cv2
import numpy as np
from playwright.sync_api import Locator, Page

COLOUR = """(root, [y, x]) => {
    const { view } = root.state();
    const place = [Math.floor(view.x + x * view.scale), Math.floor(view.y + y * view.scale)];
    const context = root.querySelector('canvas').getContext('2d');
    return [...context.getImageData(...place, 1, 1).data].slice(0, 3);
}"""
SPOT = """(root, [y, x]) => {
    const { view } = root.state(), canvas = root.querySelector('canvas');
    const box = canvas.getBoundingClientRect(), ratio = canvas.clientWidth / canvas.width;
    return [box.left + canvas.clientLeft + ratio * (view.x + x * view.scale),
            box.top + canvas.clientTop + ratio * (view.y + y * view.scale)];
}"""


class Shown:
    "A canvas in a page. Points are (y, x) in the photograph's pixels, as in Python."

    def __init__(
        self,
        page: Page,
        within: Locator | None = None,  # where to look for it; None: the page holds only one
    ) -> None:
        self.page = page
        self.root = (within or page).locator(".seglab-canvas")
        self.screen = self.root.locator("canvas")
        self.legend = self.root.locator(".seglab-legend .chip")
        self.status = self.root.locator(".seglab-status")
        self.error = self.root.locator(".seglab-error")

    def ready(self) -> bool:
        "Whether the photograph is drawn."
        return self.root.get_attribute("data-ready") == "1"

    def layers(self) -> list[str]:
        "Names of the layers that are drawn now."
        return list(filter(None, (self.root.get_attribute("data-layers") or "").split(",")))

    def state(self) -> dict:
        "What the canvas tells of itself: view, layers, size, hidden and more."
        return self.root.evaluate("root => root.state()")

    def colour(self, y: float, x: float) -> list[int]:  # R, G, B
        "The colour at a point."
        return self.root.evaluate(COLOUR, [y, x])

    def pixels(self) -> np.ndarray:  # (h, w, 3) uint8, the canvas's own pixels
        "All that is drawn."
        text = self.screen.evaluate("canvas => canvas.toDataURL('image/png').split(',')[1]")
        packed = np.frombuffer(base64.b64decode(text), np.uint8)
        return cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1]

    def spot(self, y: float, x: float) -> tuple[float, float]:  # across, down: the mouse's order
        "Where a point lies in the window, in CSS pixels."
        return tuple(self.root.evaluate(SPOT, [y, x]))

    def point(self, y: float, x: float) -> None:
        "Move the mouse there."
        self.page.mouse.move(*self.spot(y, x))

    def click(self, y: float, x: float, button: str = "left") -> None:
        "Press and release a button there."
        self.page.mouse.click(*self.spot(y, x), button=button)

    def drag(self, *points: tuple[float, float], button: str = "left", steps: int = 4) -> None:
        "Press at the first point, and draw through the others."
        places = [self.spot(*point) for point in points]  # before the view moves with the drag
        self.page.mouse.move(*places[0])
        self.page.mouse.down(button=button)
        for place in places[1:]:
            self.page.mouse.move(*place, steps=steps)
        self.page.mouse.up(button=button)

    def roll(self, y: float, x: float, clicks: int) -> None:
        "Turn the wheel over a point: positive brings nearer."
        self.point(y, x)
        self.page.mouse.wheel(0, -100 * clicks)
