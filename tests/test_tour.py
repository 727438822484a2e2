"The tour as somebody takes it who has a photograph: a portrait, which the camera has stored lying."

from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from PIL import Image

BALL, RADIUS = (290, 219), 40  # row and column of its middle as one sees it, in pixels
POINTING = f"""
from math import pi

segmenter.canvas.ask(Click(*{BALL}))
segmenter.canvas.act("finish")
segmenter.canvas.settle()
panel.refresh()
assert panel.settle(60), "the matte took longer than a minute"
assert not (segmenter.error or panel.error), (segmenter.error, panel.error)
area = pi * {RADIUS}**2
assert segmenter.session.objects == 1
print(*(abs(float(part.sum()) / area - 1) < 0.1 for part in (segmenter.mask, panel.alpha)))
segmenter
"""


def write_portrait(path: Path) -> None:
    "A photograph of 400 rows and 300 columns, stored with its left side up: a ball on the ground."
    y, x = np.mgrid[:400, :300]
    noise = np.random.default_rng(0).normal(0, 4, (400, 300, 3))
    rows = np.where((y < 150)[..., None], (120, 150, 190), (90, 110, 70)) + noise
    ball = np.hypot(y - BALL[0], x - BALL[1]) < RADIUS
    rows[ball] = np.array((220, 60, 40)) + noise[ball]
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right makes it upright
    lying = np.rot90(rows.clip(0, 255).astype(np.uint8))
    Image.fromarray(lying).save(path, quality=95, exif=exif)


def test_the_tour_with_a_photograph_of_ones_own(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SEGLAB_OUTPUTS", str(tmp_path / "outputs"))
    write_portrait(tmp_path / "portrait.jpg")
    book = nbformat.read(repository / "nbs" / "tour.ipynb", as_version=4)
    book.cells.append(nbformat.v4.new_code_cell(POINTING))
    nbformat.write(book, tmp_path / "tour.ipynb")
    given = dict(photo=str(tmp_path / "portrait.jpg"), lessons=8)
    papermill.execute_notebook(
        *(tmp_path / "tour.ipynb", tmp_path / "taken.ipynb", given),
        progress_bar=False,
        execution_timeout=120,  # a cell, in seconds
    )
    cells = nbformat.read(tmp_path / "taken.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    shown = [output.data for output in outputs if "data" in output]
    assert sum("image/png" in data for data in shown) == len(shown) == 7
    assert shown[0]["text/plain"].startswith("Segmenter of SegmentCanvas(400 x 300")
    assert outputs[-2].text == "True True\n", "ball and matte are as large as the ball"
    for system in ("walls", "hybrid", "fusion"):
        assert (tmp_path / "outputs" / "tour" / f"{system}_8" / "last.safetensors").exists()
