"""A browser for tests: Debian's Chromium, a page that tells on errors, the bridge, and JupyterLab.

Playwright keeps an event loop in its thread while it runs, which other tests (papermill) can't bear:
the fixtures' scope is this package, so the browser is closed before the tests after it start.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

try:
    from playwright.sync_api import Browser, Page, expect, sync_playwright
except ModuleNotFoundError:
    sync_playwright = None
else:
    from .bridge import Bridge
    from .lab import Lab, serve

    expect.set_options(timeout=30_000)  # a busy machine is slow; how quick a page is, is measured

BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",  # root has no sandbox to go to
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # there is no internet
]


class Unplayable(pytest.Module):
    "A file of tests that cannot even be imported without playwright."

    def collect(self) -> list:
        "Nothing, with the reason."
        pytest.skip("no playwright here: make install, or pip install playwright")


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    "Without playwright every file of this folder is skipped."
    if sync_playwright is None:
        return Unplayable.from_parent(parent, path=module_path)
    return None


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    "Chromium, started once."
    binary = next(filter(None, map(shutil.which, BINARIES)), None)
    if binary is None:
        pytest.skip("no Chromium here: apt-get install chromium (playwright install isn't needed)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=ARGUMENTS)
        yield browser
        browser.close()


# JupyterLab's own, when a busy kernel is shut down or its page is loaded anew
NOISE = "Could not restore the debugger state"


def watch(page: Page) -> list[str]:  # filled as errors come
    "Errors of a page and of its console."
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: hear(line) and errors.append(line.text))
    return errors


def hear(line: object) -> bool:
    "Whether a line of the console is an error that says something about us."
    return line.type == "error" and not line.text.startswith(NOISE)


def judge(errors: list[str]) -> None:
    "Fail if the page had errors; a test that provokes some takes them out of the list."
    assert not errors, "the page had errors: " + "; ".join(errors)


@pytest.fixture
def page(chromium: Browser, tmp_path: Path) -> Iterator[Page]:
    "An empty page; what it shows at the end is in the test's tmp_path, to be looked at."
    page = chromium.new_page(viewport=dict(width=1000, height=900), locale="en-GB")
    yield page
    page.screenshot(path=tmp_path / "page.png")
    page.close()


@pytest.fixture
def page_errors(page: Page) -> Iterator[list[str]]:
    "Errors of `page` so far; what is left of them at the end fails the test."
    errors = watch(page)
    yield errors
    judge(errors)


@pytest.fixture
def bridge(page: Page, page_errors: list[str]) -> Iterator[Bridge]:
    "Widgets made in the test are connected to `page`; exceptions of their callbacks fail the test."
    bridge = Bridge(page)
    try:
        yield bridge
    finally:
        bridge.close()
    assert not bridge.failures, f"callbacks failed: {bridge.failures!r}"


@pytest.fixture(scope="package")
def jupyter(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    "JupyterLab in a page, loaded once: seconds."
    notebooks, private = map(tmp_path_factory.mktemp, ("notebooks", "jupyter"))
    with serve(notebooks, private) as server:
        page = chromium.new_page(viewport=dict(width=1200, height=1300), locale="en-GB")
        yield Lab(page, server, notebooks, watch(page))
        page.close()


@pytest.fixture
def lab(jupyter: Lab, tmp_path: Path) -> Iterator[Lab]:
    "JupyterLab without open notebooks; the test fails if an error was left in its page."
    yield jupyter
    jupyter.page.screenshot(path=tmp_path / "page.png")
    jupyter.close()
    errors = [*jupyter.errors]
    jupyter.errors.clear()
    judge(errors)
