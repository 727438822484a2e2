"Drawn contours against masks that the original program drew."

import json

import cv2
import numpy as np
import pytest
import torch

from seglab.interact.data import Contour, draw_masks

NEW = int(cv2.__version__.split(".")[0]) >= 5  # its lines differ by a few pixels at the border


def test_masks_equal_the_original(parity):
    folder = parity / "rasterize"
    if not folder.is_dir():
        pytest.skip(f"no rasterize in {parity}")
    for file in sorted(folder.glob("*.json")):
        arrays = np.load(folder / f"{file.stem}{'_cv5' if NEW else ''}.npz")
        wrong = compared = 0
        for case in json.loads(file.read_text()):
            contours = [Contour(one["coords"], one["pos"]) for one in case["contours"]]
            start = f"r{case['case']}_"
            for key in (name for name in arrays.files if name.startswith(start)):
                how = key.removeprefix(start)
                line = int(how.removeprefix("line")) if how != "filled" else 10
                size = (case["h"], case["w"])
                masks = draw_masks(contours, size, "contour", how == "filled", line)
                wrong += int((masks != torch.from_numpy(arrays[key])).sum())
                compared += 1
        assert compared and not wrong, f"{file.name}: {wrong} pixels differ"
