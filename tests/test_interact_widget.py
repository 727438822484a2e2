"The segmenter without a browser: what messages of a page do, files, and what is refused in words."

import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from seglab.core import DatasetError
from seglab.interact.baselines import ColourConfig, ColourNet, GrabCut
from seglab.interact.data import Click, Contour
from seglab.interact.patch import Patch, whole_picture
from seglab.interact.pointing import SegmentCanvas, finished_layer, patch_layer
from seglab.interact.predictor import Predictor
from seglab.interact.session import Session
from seglab.interact.widget import Segmenter
from seglab.interact.zoom import Box
from seglab.io import ImageError
from seglab.touch.layers import blend
from seglab.touch.matte import MattePanel

GREY = torch.full((3, 40, 60), 128, dtype=torch.uint8)


@pytest.fixture
def segmenter() -> Segmenter:
    "A grey photograph with a bright square, and a stand-in for a network."
    image = GREY.clone()
    image[:, 10:30, 10:30] = 250
    return Segmenter(ColourNet(), image)


def say(canvas: SegmentCanvas, y: float, x: float, number: int = 1, **more: object) -> None:
    "A click of the page, answered."
    message = dict(type="say", kind="click", positive=True, points=[[y, x]], number=number)
    canvas._receive(None, message | more, [])
    canvas.settle()


def upload(segmenter: Segmenter, name: str, content: bytes, lost: int = -1) -> None:
    "A file from the page in four pieces, one of which may get lost."
    step = -(-len(content) // 4)
    for number, start in enumerate(range(0, len(content), step) if content else [0]):
        message = dict(name=name, size=len(content), start=start)
        piece = memoryview(content[start : start + step])
        if number != lost:
            segmenter.files.upload._receive(None, message, [piece])


@pytest.mark.parametrize("box", [Box(0, 0, 40, 60), Box(5, 20, 30, 31)])
@pytest.mark.parametrize("size", [(8, 9), (1, 5), (30, 31)])
def test_a_patch_is_drawn_where_the_kernel_has_it(box: Box, size: tuple[int, int]) -> None:
    probs = np.random.default_rng(0).random(size, np.float32)
    patch = Patch(probs, box, (40, 60))
    drawn = np.zeros((40, 60, 3), np.float32)
    blend(drawn, patch_layer(patch), 1.0, (1.0, 1.0), threshold=0.5)
    wanted = whole_picture(patch)[0].numpy()
    sure = np.abs(wanted - 0.5) > 0.01  # bytes round
    assert ((drawn.sum(axis=-1) > 0) == (wanted > 0.5))[sure].all()


def test_finished_objects_keep_their_place_when_thinned() -> None:
    labels = np.zeros((3000, 4100), np.uint16)
    labels[1500:, 2000:] = 11  # the tenth colour is the first again
    layer = finished_layer(labels)
    assert max(layer.values.shape) <= 2048 and set(np.unique(layer.values)) == {0, 2}
    top, left, height, width = layer.place
    edge = np.argmax(layer.values[-1] > 0) * width / layer.values.shape[1]
    assert (top, left) == (0, 0) and abs(edge - 2000) <= 3


def test_a_message_becomes_an_interaction_and_an_answer(segmenter: Segmenter) -> None:
    say(segmenter.canvas, 20.7, 20.2)
    assert segmenter.session.interactions == [Click(20, 20)]
    assert segmenter.session.mask()[0, 15, 15] and not segmenter.session.mask()[0, 35, 50]
    segmenter.canvas._receive(None, dict(type="act", action="finish", number=2), [])
    segmenter.canvas.settle()
    assert segmenter.session.objects == 1 and segmenter.canvas.order == ["finished"]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (dict(type="act", action="explode"), "action 'explode': must be one of undo, redo"),
        (dict(type="say", kind="dance", positive=True, points=[[1, 1]]), "kind of interaction"),
        (
            dict(type="say", kind="stroke", positive=True, points=[[1, float("nan")], [2, 2]]),
            "some are NaN",
        ),
    ],
)
def test_a_message_that_means_nothing_is_refused_in_words(
    segmenter: Segmenter, message: dict, words: str
) -> None:
    segmenter.canvas._receive(None, message, [])
    segmenter.canvas.settle()
    assert words in segmenter.canvas.error_text and segmenter.session.interactions == []
    say(segmenter.canvas, 20, 20)
    assert segmenter.canvas.error is None and segmenter.canvas.error_text == ""


@pytest.mark.parametrize("wrap", [lambda net: net, Predictor])
def test_only_what_the_network_understands_can_be_said(wrap: Callable) -> None:
    clicks_only = ColourNet(ColourConfig(kinds=("click",)))
    segmenter = Segmenter(wrap(clicks_only), GREY)
    assert segmenter.canvas.kinds == ["click"] == list(segmenter.tools.tool.options)
    lines_only = ColourNet(ColourConfig(kinds=("contour", "stroke")))
    assert Segmenter(wrap(lines_only), GREY).canvas.tool == "contour"


def test_grabcut_can_be_told_all() -> None:
    assert Segmenter(GrabCut(), GREY).canvas.kinds == ["click", "contour", "stroke"]


def test_masks_are_saved_and_loaded(segmenter: Segmenter, tmp_path: Path) -> None:
    say(segmenter.canvas, 20, 20)
    segmenter.files.path.value = str(tmp_path / "mask.png")
    segmenter.files.buttons["save_mask"].click()
    saved = cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED)
    assert saved.dtype == np.uint16 and saved.shape == (40, 60)
    assert ((saved > 0) == segmenter.session.mask()[0].numpy()).all()
    segmenter.buttons["reset"].click()
    segmenter.files.buttons["load_mask"].click()
    assert segmenter.session.objects == 1 and (segmenter.session.finished == saved).all()


def test_photographs_are_opened_and_bad_files_named(segmenter: Segmenter, tmp_path: Path) -> None:
    photo, text = tmp_path / "photo.png", tmp_path / "text.png"
    cv2.imwrite(str(photo), np.full((30, 50, 3), 99, np.uint8))
    text.write_text("no picture")
    say(segmenter.canvas, 20, 20)
    for path in (text, tmp_path / "missing.png"):
        segmenter.files.path.value = str(path)
        segmenter.files.buttons["open_photo"].click()
        assert isinstance(segmenter.canvas.error, ImageError)
        assert path.name in segmenter.canvas.error_text and segmenter.canvas.size == [40, 60]
    upload(segmenter, "photo.png", photo.read_bytes())
    assert segmenter.image.dtype == torch.uint8 and (segmenter.image == 99).all()
    assert segmenter.canvas.size == [30, 50] and segmenter.session.interactions == []
    say(segmenter.canvas, 20, 45)
    assert segmenter.session.interactions == [Click(20, 45)] and segmenter.canvas.error is None


def test_an_upload_that_broke_off_is_seen_and_may_be_sent_anew(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.full((30, 50, 3), 99, np.uint8))
    upload(segmenter, "photo.png", photo.read_bytes(), lost=1)
    assert 0 < segmenter.files.upload.arrived < 50 and segmenter.canvas.size == [40, 60]
    upload(segmenter, "photo.png", photo.read_bytes())
    assert segmenter.files.upload.arrived == 0 and segmenter.canvas.size == [30, 50]
    for content in (b"no picture", b""):
        upload(segmenter, "text.txt", content)
        assert isinstance(segmenter.error, ImageError) and segmenter.canvas.size == [30, 50]
    upload(segmenter, "photo.png", photo.read_bytes())
    assert segmenter.error is None


def test_zoom_is_taken_from_the_controls_and_asked_again(segmenter: Segmenter) -> None:
    say(segmenter.canvas, 20, 20)
    segmenter.looking.side.value = 320
    segmenter.looking.grow.value = 1.7
    segmenter.canvas.settle()
    zoom = segmenter.session.predictor.geometry.zoom
    assert (zoom.target_size, zoom.expansion) == (320, 1.7)
    assert len(segmenter.session.interactions) == 1
    sliders = (segmenter.looking.skip, segmenter.looking.side, segmenter.looking.grow)
    assert not any(slider.continuous_update for slider in sliders), "asked again once a drag"
    segmenter.looking.on.value = False
    segmenter.canvas.settle()
    assert segmenter.session.predictor.geometry.zoom is None


def test_the_page_gets_small_answers_whatever_the_photograph() -> None:
    session = Session(ColourNet())
    session.begin(torch.full((3, 3000, 4000), 128, dtype=torch.uint8))
    canvas, sent = SegmentCanvas(session), []
    canvas.send = lambda message, buffers=(): sent.append((message, buffers))
    canvas.ask(Contour([(1000, 1000), (1000, 2000), (2000, 2000)]))
    canvas.settle()
    kinds = [message["type"] for message, _ in sent]
    assert kinds == ["layer", "state"]
    assert sum(len(buffer) for _, buffers in sent for buffer in buffers) < 50_000


def test_the_threshold_of_the_page_is_that_of_the_sitting(segmenter: Segmenter) -> None:
    segmenter.canvas.threshold = 0.9
    assert segmenter.session.threshold == 0.9


def test_what_is_saved_shows_a_picture(segmenter: Segmenter) -> None:
    say(segmenter.canvas, 20, 20)
    bundle = segmenter._repr_mimebundle_()
    assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} == set(bundle)
    assert bundle["text/plain"] == "Segmenter of SegmentCanvas(40 x 60, layers: finished, part 0)"


def test_strange_messages_do_no_harm(segmenter: Segmenter) -> None:
    segmenter.canvas._receive(None, {}, [])
    assert isinstance(segmenter.canvas.error, KeyError | DatasetError)


class Thinking(ColourNet):
    "Answers when it is told to."

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def forward(self, *given: torch.Tensor) -> dict[str, torch.Tensor]:
        assert self.go.wait(20)
        return super().forward(*given)


def test_finishing_while_the_network_thinks_waits_for_the_answer() -> None:
    model = Thinking()
    canvas = Segmenter(model, GREY).canvas
    click = dict(type="say", kind="click", positive=True, points=[[20, 20]])
    messages = (click | dict(number=1), dict(type="act", action="finish", number=2))
    hand = threading.Thread(target=lambda: [canvas._receive(None, m, []) for m in messages])
    hand.start()
    hand.join(10)
    assert not hand.is_alive(), "messages are taken while the network thinks"
    assert canvas.session.objects == 0
    model.go.set()
    canvas.settle()
    assert canvas.session.objects == 1 and canvas.session.finished.any()


def test_undo_while_the_network_thinks_calls_it_off() -> None:
    model = Thinking()
    canvas = Segmenter(model, GREY).canvas
    canvas.ask(Click(20, 20))
    canvas.act("undo")
    model.go.set()
    canvas.settle()
    assert canvas.session.interactions == [] and not canvas.session.mask().any()


def test_clicks_after_space_are_about_the_next_object() -> None:
    model = Thinking()
    canvas = Segmenter(model, GREY).canvas
    canvas.ask(Click(10, 10))
    canvas.ask(Click(12, 12))
    canvas.act("finish")
    canvas.ask(Click(30, 50))
    canvas.act("undo")  # waits behind the finish, and takes back what was said after it
    canvas.ask(Click(31, 51))
    model.go.set()
    canvas.settle()
    plain = canvas.session.to_plain()
    assert [[one["y"] for one in said] for said in plain] == [[10, 12], [31]]


def test_an_answer_that_cannot_be_shown_is_an_error_and_no_endless_wait(
    segmenter: Segmenter,
) -> None:
    sent, canvas = [], segmenter.canvas
    canvas.send = lambda message, buffers=(): sent.append(message)
    canvas.put = lambda *_: 1 / 0
    say(canvas, 20, 20, number=5)
    assert isinstance(segmenter.error, ZeroDivisionError)
    assert sent[-1]["type"] == "state" and sent[-1]["number"] == 5


def test_the_mask_holds_all_objects(segmenter: Segmenter) -> None:
    say(segmenter.canvas, 20, 20)
    before = segmenter.mask
    segmenter.canvas.act("finish")
    segmenter.canvas.settle()
    assert torch.equal(segmenter.mask, before) and before.any()
    assert not segmenter.session.mask().any()


def test_closing_lets_the_thread_go(segmenter: Segmenter) -> None:
    say(segmenter.canvas, 20, 20)
    (worker,) = segmenter.canvas._row.worker._threads
    segmenter.close()
    worker.join(10)
    assert not worker.is_alive()


def test_the_panel_follows_to_another_photograph(segmenter: Segmenter) -> None:
    say(segmenter.canvas, 20, 20)
    panel = MattePanel(lambda: segmenter.image, lambda: segmenter.mask)
    try:
        segmenter.canvas.begin(torch.full((3, 30, 50), 60, dtype=torch.uint8))
        say(segmenter.canvas, 15, 15)
        panel.refresh()
        assert panel.settle(60) and panel.error is None
        assert panel.canvas.size == [30, 50] and panel.alpha.shape == (1, 30, 50)
    finally:
        panel.close()
