"Guards of seglab.walls.look: the Python side of the widgets, without a browser."

import io

import numpy as np
import pytest
import torch
from PIL import Image

from seglab.io import ImageError
from seglab.walls.labels import LabelError
from seglab.walls.look import class_picker, colour_classes, compare_slider, paint_pot, show_counts

NAMES = ("wall", "sofa", "floor")


def scene(height=40, width=60):
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    labels = torch.zeros(height, width, dtype=torch.int64)
    labels[height // 2 - 2 :] = 2
    labels[10:30, 10:30] = 1
    return image, labels


def pixels(board) -> np.ndarray:
    "What the browser would show, (H, W, 3) in [0, 1]."
    return np.asarray(Image.open(io.BytesIO(board.picture.value))) / 255


def test_the_picker_lists_what_is_there_and_redraws():
    image, labels = scene()
    board = class_picker(image, labels, NAMES)
    assert [name for _, name in board.control.options] == ["floor", "wall", "sofa"]
    assert board.control.value == ("wall",)
    seen = [board.picture.value]
    for value in (("sofa",), ("sofa", "floor"), ()):
        board.control.value = value
        seen.append(board.picture.value)
    assert len(set(seen)) == 4
    grey = pixels(board)
    assert np.abs(grey - grey.mean(axis=2, keepdims=True)).max() < 0.05, "nothing picked: grey"


def test_only_the_chosen_class_is_coloured():
    image, labels = scene()
    shown = colour_classes(image, labels, [1])
    spread = shown.amax(dim=0) - shown.amin(dim=0)
    assert (spread[labels == 1] > 0.1).all() and (spread[labels != 1] < 1e-6).all()
    assert not torch.equal(shown, colour_classes(image, torch.full_like(labels, 255), [1]))


def test_the_slider_shows_before_left_and_after_right():
    before, after = torch.zeros(3, 20, 100), torch.full((3, 20, 100), 0.5)
    board = compare_slider(before, after)
    for where in (0.0, 0.25, 0.5, 1.0):
        board.control.value = where
        row = pixels(board)[10].mean(axis=1)
        column = round(100 * where)
        assert np.allclose(row[: max(0, column - 8)], 0, atol=0.1)
        assert np.allclose(row[column + 8 :], 0.5, atol=0.1)
    assert torch.equal(before, torch.zeros_like(before)), "the line is drawn on a copy"


def test_the_pot_repaints():
    image, labels = scene()
    board = paint_pot(image, (labels == 0)[None])
    board.control.value = "#0000ff"
    blue = pixels(board)
    board.control.value = "#ff0000"
    red = pixels(board)
    assert blue[3, 3, 2] > blue[3, 3, 0] + 0.3 and red[3, 3, 0] > red[3, 3, 2] + 0.3
    assert np.abs(blue[-5:] - red[-5:]).max() < 0.06


def test_large_pictures_are_thinned_and_a_page_gets_a_picture():
    image, labels = scene(1200, 2000)
    board = class_picker(image, labels, NAMES)
    assert max(pixels(board).shape) <= 900
    bundle = board._repr_mimebundle_()
    assert "image/jpeg" in bundle and "application/vnd.jupyter.widget-view+json" in bundle


def test_counts_add_up_to_the_whole():
    figure = show_counts({f"class {n}": 10 + n for n in range(14)}, most=3)
    (axis,) = figure.axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["class 13", "class 12", "class 11", "11 others"]
    assert sum(bar.get_width() for bar in axis.patches) == pytest.approx(100)


def test_bad_input_is_named():
    image, labels = scene()
    with pytest.raises(LabelError, match="numbers without a name"):
        class_picker(image, labels, ("wall",))
    with pytest.raises(ImageError, match="sizes .* differ: before 40 × 60, after 40 × 50"):
        compare_slider(image, image[..., :50])
    with pytest.raises(ValueError, match="counts: no pixel has a class"):
        show_counts({})
