"A stand-in for a network: discs round what was pointed at. It answers at once, and exactly."

import threading
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from seglab.interact.data import KINDS, Click, Interaction
from seglab.interact.patch import Patch
from seglab.interact.predictor import Geometry
from seglab.interact.zoom import Box, Zoom


class Discs:
    "Asked like a `Predictor`."

    kinds = KINDS

    def __init__(
        self,
        radius: float = 20,  # of the discs, in pixels
        side: int = 256,  # longest side of its answers
    ) -> None:
        self.radius, self.side = radius, side
        self.state, self.geometry = None, Geometry(zoom=Zoom(160, skip=-1))
        self.problem: Exception | None = None  # raised instead of the next answer
        self.go = threading.Event()  # answers wait for it
        self.go.set()
        self.asked = 0

    def begin(self, image: Tensor) -> None:
        "A new photograph."
        self.size = tuple(image.shape[1:])

    def see(self, told: Sequence[Interaction]) -> Patch:
        "0.9 within the radius of what is positive, falling to 0 at twice of it."
        self.asked += 1
        assert self.go.wait(20)
        if self.problem:
            problem, self.problem = self.problem, None
            raise problem
        factor = min(1.0, self.side / max(self.size))
        rows, columns = (max(2, round(side * factor)) for side in self.size)
        y = np.linspace(0, self.size[0] - 1, rows, dtype=np.float32)[:, None]
        x = np.linspace(0, self.size[1] - 1, columns, dtype=np.float32)
        probs = np.zeros((rows, columns), np.float32)
        for one in told:
            points = [(one.y, one.x)] if isinstance(one, Click) else one.points
            away = np.min([np.hypot(y - v, x - u) for v, u in points], axis=0)
            near = np.clip(1.8 - 0.9 * away / self.radius, 0, 0.9)
            probs = np.maximum(probs, near) if one.positive else np.minimum(probs, 0.9 - near)
        return Patch(probs, Box(0, 0, *self.size), self.size)
