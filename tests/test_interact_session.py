"A sitting: steps back and forth, objects, files, threads, and a network that fails."

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from seglab.interact.baselines import ColourNet
from seglab.interact.data import Click, Stroke
from seglab.interact.files import from_plain
from seglab.interact.moments import load_labels, save_labels
from seglab.interact.predictor import WAYS, Predictor, make_predictor
from seglab.interact.session import Session
from seglab.io import ImageError

IMAGE = 0.8 + 0.1 * torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(1))
IMAGE[:, 10:40, 10:50] *= 0.2
CLICKS = [Click(20, 20), Click(50, 70, positive=False), Click(30, 40)]


class Gate(ColourNet):
    "Counts questions; stops inside until it is let go; fails when it is told to."

    def __init__(self):
        super().__init__()
        self.calls = self.inside = self.most = 0
        self.go, self.entered, self.broken = threading.Event(), threading.Event(), False
        self.go.set()

    def forward(self, image, before, maps):
        self.calls, self.inside = self.calls + 1, self.inside + 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        try:
            assert self.go.wait(10)
            if self.broken:
                raise RuntimeError("out of memory")
            return super().forward(image, before, maps)
        finally:
            self.inside -= 1

    def close(self) -> None:
        self.entered.clear()
        self.go.clear()


def sitting(way: str = "close", **options) -> tuple[Session, Gate]:
    net = Gate()
    session = Session(net, way, **options)
    session.begin(IMAGE)
    return session, net


def wait_for(fact) -> None:
    end = time.monotonic() + 10
    while not fact():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.002)


@pytest.mark.parametrize("way", ["close", "ritm", "whole"])
def test_undo_and_redo_restore_answers_and_what_the_zoom_remembers(way):
    session, net = sitting(way)
    moments = [session.now, *(session.add(click) for click in CLICKS)]
    answers = [moment.probs((60, 80)) for moment in moments]
    calls = net.calls
    assert [moment.state.calls for moment in moments] == sorted({m.state.calls for m in moments})
    for count in (2, 1, 0):
        assert session.undo() and torch.equal(session.probs, answers[count])
        assert session.interactions == CLICKS[:count] and session.depth == count
    assert not session.undo()
    for count in (1, 2, 3):
        assert session.redo() and torch.equal(session.probs, answers[count])
    assert not session.redo() and net.calls == calls
    session.undo()
    again = session.add(CLICKS[2])  # the counter and the box went back, too
    assert (
        torch.equal(again.probs((60, 80)), answers[3]) and again.state[1:] == moments[3].state[1:]
    )
    session.undo()
    session.add(Click(15, 15))
    assert not session.redo()


def test_a_sitting_answers_as_a_predictor_does():
    session, predictor = sitting()[0], make_predictor(ColourNet(), "close")
    predictor.begin(IMAGE)
    for count, click in enumerate(CLICKS, 1):
        moment = session.add(click)
        assert torch.equal(moment.probs((60, 80)), predictor.predict(CLICKS[:count]))
    assert torch.equal(session.mask(0.3), session.probs > 0.3)


@pytest.mark.parametrize(("lines", "told"), [(False, 2), (True, 3)])
def test_older_lines_are_told_again_only_if_asked(lines, told):
    class Spy(Predictor):
        def see(self, interactions, before=None):
            self.heard = list(interactions)
            return super().see(interactions, before)

    session = Session(Spy(ColourNet()), lines=lines)
    session.begin(IMAGE)
    strokes = [Stroke([(y, 12), (y, 20), (y, 45)]) for y in (15, 35)]
    for one in (CLICKS[0], *strokes):
        session.add(one)
    assert len(session.predictor.heard) == told and len(session.interactions) == 3
    assert [from_plain(one).positive for one in session.to_plain()[0]] == [True] * 3


def test_objects_are_painted_one_over_the_other():
    session, _ = sitting("whole")
    assert not session.finish() and not session.finish_part() and not session.labels.any()
    first = session.add(CLICKS[0]) and session.mask()[0].numpy()
    assert session.finish() and session.objects == 1 and session.depth == 0
    session.add(Click(50, 70))
    second = session.mask()[0].numpy()
    wanted = np.where(second, 2, first)
    assert session.labels.dtype == np.uint16 and (session.labels == wanted).all()
    session.reset()
    assert (session.labels == first).all() and not session.mask().any()
    session.begin(IMAGE[:, :50])
    assert session.objects == 0 and session.labels.shape == (50, 80)


def test_parts_are_joined_and_undone():
    session, _ = sitting("whole")
    session.add(CLICKS[0])
    first = session.probs
    assert session.finish_part() and session.interactions == [] and session.depth == 2
    assert torch.equal(session.probs, first)
    second = session.add(Click(50, 70)).patch
    joined = session.probs
    assert (joined >= first).all() and (joined > first).any() and second
    assert len(session.to_plain()[0]) == 2
    session.undo()
    session.undo()
    assert session.interactions == CLICKS[:1] and torch.equal(session.probs, first)


def test_files(tmp_path):
    session, _ = sitting()
    session.save_mask(tmp_path / "labels.png")  # no object yet
    assert not load_labels(tmp_path / "labels.png", (60, 80)).any()
    session.add(CLICKS[0])
    session.finish()
    session.add(CLICKS[2])
    session.save_mask(tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as picture:
        assert picture.mode.startswith("I;16") and picture.size == (80, 60)
    labels = session.labels
    session.load_mask(tmp_path / "labels.png")
    assert (session.labels == labels).all() and session.objects == 2 and session.depth == 0
    many = np.arange(60 * 80, dtype=np.uint16).reshape(60, 80)
    save_labels(tmp_path / "many.png", many)
    session.load_mask(tmp_path / "many.png")
    assert (session.labels == many).all() and session.objects == 4799
    session.begin(IMAGE[:, :50])
    with pytest.raises(ImageError, match="is 60 x 80 pixels, but the photograph is 50 x 80"):
        session.load_mask(tmp_path / "many.png")
    with pytest.raises(ImageError, match="kept as .png"):
        session.save_mask(tmp_path / "many.jpg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.png", "many.png"]


def test_a_mask_to_start_from_is_corrected_by_the_first_click_only():
    class Spy(Gate):
        def forward(self, image, before, maps):
            self.before = before[0]
            return super().forward(image, before, maps)

    net = Spy()
    session = Session(net, "whole")
    session.begin(IMAGE)
    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[:, 20:50, 5:30] = True
    session.start_from(mask)
    assert torch.equal(session.mask(), mask) and not session.undo() and net.calls == 0
    session.add(CLICKS[0])
    loaded, first = net.before, session.probs
    session.add(CLICKS[1])
    assert net.calls == 2 and not torch.equal(net.before, loaded) and session.depth == 2
    session.undo()
    session.undo()
    assert torch.equal(session.mask(), mask)
    assert torch.equal(session.add(CLICKS[0]).probs((60, 80)), first)
    with pytest.raises(ValueError, match=r"mask: must be \(1, 60, 80\), got \(1, 60, 79\)"):
        session.start_from(mask[..., 1:])


def test_another_zoom_asks_again_in_place_of_the_answer():
    session, net = sitting("close")
    zoom = replace(WAYS["close"]["zoom"], least=10, expansion=1.1)
    session.look(zoom)
    assert session.ask() is session.now and net.calls == 0
    close = [session.add(click) for click in CLICKS[:2]][-1]
    session.look(None)
    whole = session.ask()
    assert session.depth == 2 and session.now is whole and whole.told == close.told
    assert whole.patch.box[2:] == (60, 80) != close.patch.box[2:]
    session.look(zoom)
    assert torch.equal(session.ask().probs((60, 80)), close.probs((60, 80)))


def test_an_error_is_raised_and_leaves_everything():
    session, net = sitting()
    with pytest.raises(ValueError, match="call begin"):
        Session(net).add(CLICKS[0])
    before = session.add(CLICKS[0])
    net.broken = True
    with pytest.raises(RuntimeError, match="out of memory"):
        session.add(CLICKS[1])
    assert session.now is before and session.depth == 1 and not session.pending
    with pytest.raises(RuntimeError, match="out of memory"):
        session.ask()
    net.broken = False
    with pytest.raises(ValueError, match="outside of the picture"):
        session.add(Click(100, 3))
    with pytest.raises(ValueError, match="needs axes"):
        session.begin(IMAGE[0])
    assert session.now is before and session.add(CLICKS[1]).told == tuple(CLICKS[:2])


def test_one_thread_in_the_network_and_the_last_request_wins():
    session, net = sitting("whole")
    net.close()
    asked = session._turns.latest
    with ThreadPoolExecutor(4) as pool:
        futures = []
        for number, click in enumerate([*CLICKS, Click(35, 15)]):
            futures.append(pool.submit(session.add, click))
            wait_for(lambda number=number: session._turns.latest == asked + number + 1)
        assert net.entered.wait(10) and session.pending
        net.go.set()
        shown = [future.result(10) for future in futures]
    assert shown[:3] == [None] * 3 and shown[3] is session.now and not session.pending
    assert session.interactions == [*CLICKS, Click(35, 15)]
    assert net.most == 1 and net.calls == 2 and session.depth == 2
    session.undo()
    assert session.interactions == CLICKS[:1]


def test_many_threads_at_once():
    session, net = sitting("whole")
    with ThreadPoolExecutor(8) as pool:
        clicks = [Click(10 + number, 30) for number in range(30)]
        shown = list(pool.map(session.add, clicks))
    assert net.most == 1 and sorted(one.y for one in session.interactions) == [c.y for c in clicks]
    assert session.now in shown and not session.pending


@pytest.mark.parametrize("stop", ["undo", "reset", "redo", "begin"])
def test_an_answer_that_was_called_off_is_dropped(stop):
    session, net = sitting("whole")
    before = session.add(CLICKS[0])
    net.close()
    asked = session._turns.latest
    with ThreadPoolExecutor(3) as pool:
        inside = pool.submit(session.add, CLICKS[1])
        assert net.entered.wait(10)
        waiting = pool.submit(session.add, CLICKS[2])
        wait_for(lambda: session._turns.latest == asked + 2)
        stopped = pool.submit(getattr(session, stop), *([IMAGE[:, :50]] if stop == "begin" else []))
        try:
            assert waiting.result(10) is None  # at once, while the network is still busy
        finally:
            net.go.set()
        assert inside.result(10) is None
        stopped.result(10)
    assert (session.now is before) == (stop in ("undo", "redo")) and not session.pending
    assert session.interactions == (CLICKS[:1] if stop in ("undo", "redo") else [])
    assert session.add(CLICKS[2]).told[-1] == CLICKS[2]


def test_finish_waits_for_what_is_on_its_way():
    session, net = sitting("whole")
    net.close()
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(session.add, CLICKS[0])
        assert net.entered.wait(10)
        finished = pool.submit(session.finish)
        time.sleep(0.02)
        assert not finished.done()
        net.go.set()
        assert finished.result(10) and asked.result(10)
    assert session.objects == 1 and session.labels.any()


def test_who_is_interrupted_while_waiting_blocks_nobody(monkeypatch):
    session, _ = sitting("whole")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(session._turns.free, "wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.add(CLICKS[0])
    assert not session.pending and session.add(CLICKS[1]).told == (CLICKS[1],)
    assert session.finish()
