"""Real widgets in a real browser without Jupyter: Python's class and its ES module over a bridge.

A widget talks through a comm. Here the comm of each widget ends in a page of Chromium (page.html),
which does what JupyterLab does: keeps a model, draws views, sends updates and custom messages back.
Playwright's calls belong to one thread. Messages that another thread sends wait in a queue until the
test's thread comes by: in `pump`, in `wait`, or with the next message that it sends itself.
"""

import json
import logging
import threading
import time
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable
from pathlib import Path

import comm
from anywidget import AnyWidget
from comm.base_comm import BaseComm
from jupyter_client.jsonutil import json_default
from playwright.sync_api import Locator, Page
from traitlets.log import get_logger

PAGE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1/widgets-without-jupyter"  # answered by playwright, never by a server


class Bridge:
    "A page of the browser to which every widget made from now on is connected."

    def __init__(
        self,
        page: Page,  # an empty page; its errors are the caller's to watch
    ) -> None:
        self.page, self.thread = page, threading.get_ident()
        self.comms: dict[str, BridgeComm] = {}  # every widget's, layouts included
        self.shown: list[AnyWidget] = []  # in the order of the page
        self.outgoing: deque[dict] = deque()  # what Python sent and the page has not got yet
        self.sent: list[dict] = []  # data of all messages from Python: method, content or state
        self.received: list[dict] = []  # data of all messages from the page
        self.failures: list[BaseException] = []  # what ipywidgets only writes into its log
        self.open = True
        self.log = Failures(self.failures)
        get_logger().addHandler(self.log)
        self.create_comm, comm.create_comm = comm.create_comm, self.connect
        page.route(ADDRESS, lambda route: route.fulfill(body=PAGE, content_type="text/html"))
        page.goto(ADDRESS)

    def connect(self, *args: object, **options: object) -> "BridgeComm":
        "A comm for a new widget: what ipywidgets asks for."
        return BridgeComm(self, *args, **options)

    def show(
        self,
        widget: AnyWidget,  # made while the bridge was open
    ) -> Locator:  # the element its `render` was given
        "Draw a widget below what is there; an error in its `render` is raised here, with its text."
        self.pump()
        self.shown.append(widget)
        return self._draw(widget)

    def _draw(self, widget: AnyWidget) -> Locator:
        self.page.evaluate("id => bridge.show(id)", widget.model_id)
        return self.page.locator(f"[data-model='{widget.model_id}']")

    def hide(
        self,
        widget: AnyWidget,
    ) -> int:  # listeners on its model that `render`'s clean-up has left behind
        "Take a widget off the page, as clearing a cell's output does; it lives on in Python."
        self.shown = [other for other in self.shown if other is not widget]
        return self.page.evaluate("id => bridge.hide(id)", widget.model_id)

    def listeners(self) -> list[str]:
        "Types of the events that widgets listen to on the window, the document or its body."
        return self.page.evaluate("() => bridge.listeners()")

    def pump(
        self,
        milliseconds: float = 0,  # to wait if the page has nothing to say
    ) -> int:  # messages carried, both ways
        "Carry what waits: Python's messages to the page, then the page's messages to Python."
        carried = self._deliver()
        for message in self.page.evaluate("time => bridge.take(time)", milliseconds):
            self.received.append(message["data"])
            buffers = [memoryview(b64decode(text)) for text in message["buffers"]]
            content = dict(comm_id=message["id"], data=message["data"])
            self.comms[message["id"]].handle_msg(dict(content=content, buffers=buffers))
            carried += 1
        return carried

    def wait(
        self,
        condition: str | Callable[[], object],  # JavaScript, or a function of Python
        seconds: float = 30,  # then it is a TimeoutError
    ) -> None:
        "Pump until something is true."
        end = time.monotonic() + seconds
        while True:
            carried = self.pump()
            met = self.page.evaluate(condition) if isinstance(condition, str) else condition()
            if met and not carried:
                return
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds} s: {condition}; failures {self.failures}")
            if not met:
                self.pump(5)

    def reload(
        self,
        meanwhile: Callable[[], object] = lambda: None,  # done while there is no page to hear it
    ) -> None:
        "Build the page anew from the state that Python has, as JupyterLab does after a reload."
        self.pump()
        self.page.goto("about:blank")
        meanwhile()
        self.page.goto(ADDRESS)
        self.outgoing.clear()
        for connected in self.comms.values():
            data = dict(state={}, buffer_paths=[])
            connected.publish_msg("comm_open", data)
            asked = dict(content=dict(data=dict(method="request_state")), buffers=[])
            connected.handle_msg(asked)
        for widget in self.shown:
            self._draw(widget)

    def publish(
        self,
        message: dict,  # id, kind, data, buffers
    ) -> None:
        "Queue a message for the page; deliver it at once if this is the page's own thread."
        self.outgoing.append(message)
        if threading.get_ident() == self.thread and self.page.url == ADDRESS:
            self._deliver()

    def _deliver(self) -> int:
        carried = 0
        while self.outgoing:
            self.page.evaluate("message => bridge.receive(message)", self.outgoing.popleft())
            carried += 1
        return carried

    def close(self) -> None:
        "Cut all connections; widgets that are still there no longer speak."
        self.open = False
        comm.create_comm = self.create_comm
        get_logger().removeHandler(self.log)
        self.outgoing.clear()


class BridgeComm(BaseComm):
    "A widget's connection that ends in the bridge's page."

    def __init__(self, bridge: Bridge, *args: object, **options: object) -> None:
        self.bridge = bridge
        super().__init__(*args, **options)
        bridge.comms[self.comm_id] = self

    def publish_msg(
        self,
        msg_type: str,
        data: dict | None = None,
        metadata: dict | None = None,
        buffers: list | None = None,
        **keys: object,
    ) -> None:
        "Hand over a message as Jupyter would: JSON and bytes, as they are at this moment."
        data = json.loads(json.dumps(data or {}, default=json_default, allow_nan=False))
        if not self.bridge.open or data.get("method") == "echo_update":
            return
        texts = [b64encode(buffer).decode() for buffer in buffers or []]
        if data.get("method") == "custom" or msg_type == "comm_close":
            packed = texts
        else:
            packed = list(zip(data.pop("buffer_paths"), texts, strict=True))
        if msg_type == "comm_msg":
            self.bridge.sent.append(data)
        if msg_type == "comm_close":
            self.bridge.comms.pop(self.comm_id, None)
        message = dict(id=self.comm_id, kind=msg_type, data=data, buffers=packed)
        self.bridge.publish(message)


class Failures(logging.Handler):
    "Collects exceptions of callbacks: ipywidgets logs them, and then goes on as if nothing were."

    def __init__(self, found: list[BaseException]) -> None:
        super().__init__(logging.WARNING)
        self.found = found

    def emit(self, record: logging.LogRecord) -> None:
        "Keep the exception that a record carries."
        if record.exc_info and record.exc_info[1]:
            self.found.append(record.exc_info[1])
