"In real JupyterLab: what the bridge promises of traits, messages, threads and reloads is true there."

from pathlib import Path

import pytest
from playwright.sync_api import Error, expect

from .lab import Lab

PATHS = """() => [...window.jupyterapp.shell.widgets("main")]
    .filter(panel => panel.context).map(panel => panel.context.path)"""
TESTS = Path(__file__).parents[1]
MAKE = f"""
import sys, time; sys.path.insert(0, {str(TESTS)!r})
from browser.tiny import Tiny
tiny = Tiny(bytes=b'\\x07')
"""
WAIT = """
while not tiny.heard:
    time.sleep(0.02)
"""


def test_a_widget_lives_in_a_notebook(lab: Lab) -> None:
    lab.open("tiny", MAKE, "tiny")
    lab.run_all()
    output = lab.page.locator(".jp-OutputArea output")
    expect(output).to_have_text("0,7")
    lab.page.get_by_role("button", name="add", exact=True).click()
    lab.wait("tiny.count == 1")
    lab.page.keyboard.press("k")
    expect(output).to_have_attribute("data-heard", "k,3,2,1")
    assert lab.evaluate("[word for word, _ in tiny.heard]") == ["k"]
    lab.reload()
    expect(output).to_have_text("1,7")
    lab.page.get_by_role("button", name="add", exact=True).click()
    lab.wait("tiny.count == 2")


def test_a_message_is_heard_while_a_cell_runs(lab: Lab) -> None:
    lab.open("busy", MAKE, "tiny", WAIT)
    lab.run(0)
    lab.run(1)
    # ipykernel 7.4 hands a message to the shell that last spoke through the widget's comm. So far
    # it was the cells' own; once a callback has answered, it is one that cells don't block.
    lab.page.get_by_role("button", name="add", exact=True).click()
    lab.wait("tiny.count == 1")
    lab.run(2, wait=False)
    assert lab.status() == "busy"
    lab.page.keyboard.press("k")
    output = lab.page.locator(".jp-OutputArea output")
    expect(output).to_have_attribute("data-heard", "k,3,2,1")  # and the cell has seen it, and ends
    lab.wait("tiny.heard[0][0] == 'k'")


def test_a_page_that_never_answers_is_an_error(lab: Lab) -> None:
    with pytest.raises(TimeoutError, match="no answer in 0.1 s"):
        lab.ask("() => new Promise(() => {})", seconds=0.1)
    assert lab.ask("number => Promise.resolve(number + 1)", 1, seconds=5) == 2
    with pytest.raises(RuntimeError, match="Error: no: "):
        lab.ask("() => { throw new Error('no') }")


def test_a_lost_answer_is_asked_for_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Error("Page.evaluate: Resulting promise was garbage collected.")
    evaluate, losses = lab.page.evaluate, [lost, lost, None, lost]

    def lose(script: str, argument: object) -> object:
        answer = evaluate(script, argument)
        if losses and (error := losses.pop(0)):
            raise error
        return answer

    monkeypatch.setattr(lab.page, "evaluate", lose)
    assert lab.ask("() => window.counted = (window.counted ?? 0) + 1") == 1, "it ran once"
    assert not losses
    losses += 5 * [lost]
    with pytest.raises(Error, match="garbage collected"):
        lab.ask("() => 1")


def test_a_reloaded_notebook_stays_closed(lab: Lab) -> None:
    lab.open("gone", "a = 1")
    lab.reload()
    assert lab.ask(PATHS) == ["gone.ipynb"]
    lab.close()
    lab.page.wait_for_selector(".jp-DirListing-item")  # the file browser is ready: see `reload`
    assert lab.ask(PATHS) == []
