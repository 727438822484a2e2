"The run browser in a real browser: sort, filter, select, live points, reload, link."

import json
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from seglab.runs import new_run_folder, save_scores
from seglab.touch.runs import RunBrowser

from .bridge import Bridge
from .lab import IDLE, Lab

ROOT = "document.querySelector('[data-testid=runs]')"
SORT_AND_DRAW = """() => new Promise((done) => {
    const start = performance.now();
    document.querySelector("button[data-key='parameters rate']").click();
    requestAnimationFrame(() => {
      document.body.getBoundingClientRect();
      done(performance.now() - start);
    });
  })"""
LABELS = dict(slow=0.5, good=2.0, wild=9.0, cut=1.5, now=1.0)


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    "A folder with five runs; the newest is running, in this process."
    monkeypatch.setenv("SEGLAB_OUTPUTS", str(tmp_path / "outputs"))
    begin = datetime(2031, 5, 17, 9, tzinfo=UTC)
    for number, (label, rate) in enumerate(LABELS.items()):
        folder = new_run_folder("toy_train", label)
        parameters = dict(rate=rate, epochs=24, encoder="tiny")
        started = (begin + timedelta(hours=number)).isoformat()
        seconds = dict(slow=61, good=3725, wild=4.25).get(label)
        change(folder, parameters=parameters, started=started, seconds=seconds)
        history(rate, dict(wild=3, cut=11, now=9).get(label, 24)).to_csv(
            folder / "history.csv", index=False
        )
        if label in ("slow", "good"):
            change(folder, pid=1)  # so that saving scores does not write its own times
            scores = dict(picture=["a", "b", "c", "d"], iou=[rate / 4, 0.2, 0.3, 0.4])
            save_scores(folder, pd.DataFrame(scores))
            change(folder, state="done")
    Image.fromarray(np.full((50, 80, 3), 99, np.uint8)).save(make(run("good")) / "a.png")
    (run("good") / "run.ipynb").write_text(
        json.dumps(dict(cells=[], metadata={}, nbformat=4, nbformat_minor=5))
    )
    change(run("wild"), state="failed", error="ValueError: <b>too wild</b>")
    change(run("cut"), pid_started=0.0)
    return tmp_path / "outputs"


def make(folder: Path) -> Path:
    (folder / "overlays").mkdir()
    return folder / "overlays"


def change(folder: Path, **facts: object) -> None:
    file = folder / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))


def history(rate: float, epochs: int) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    loss = 2 * np.exp(-rate * epoch / 8)
    iou = np.where(epoch % 2, np.nan, 1 - loss / 3)
    return pd.DataFrame(dict(epoch=epoch, step=100 * epoch, loss=loss, iou=iou))


def run(label: str) -> Path:
    "The folder of a run."
    from seglab.core import outputs_dir

    return next(outputs_dir().glob(f"toy/train/*-{label}"))


def name(label: str) -> str:
    return f"toy/train/{run(label).name}"


def see(view: Locator, labels: str) -> None:
    "These rows come, from the top."
    expect(view.locator(".list tbody .label")).to_have_text(labels.split())


def header(view: Locator, key: str) -> Locator:
    return view.locator(f"button[data-key='{key}']")


def points(view: Locator, column: str, label: str) -> int:
    "Points that a curve is drawn through."
    path = view.locator(f"svg[data-column='{column}'] path[data-name$='-{label}']")
    return len(path.get_attribute("d").replace("M", "L").split("L")) - 1


def test_a_click_on_a_header_sorts_and_another_turns_it_over(outputs: Path, bridge: Bridge) -> None:
    view = bridge.show(RunBrowser())
    see(view, "now cut wild good slow")  # the newest at the top
    header(view, "parameters rate").click()
    see(view, "slow now cut good wild")
    assert view.locator("th[aria-sort=ascending]").inner_text().startswith("rate")
    header(view, "parameters rate").click()
    see(view, "wild good cut now slow")
    header(view, "scores iou").click()
    see(view, "slow good wild cut now")  # those without a score at the bottom
    header(view, "scores iou").click()
    see(view, "good slow wild cut now")
    header(view, "seconds").click()
    see(view, "now wild slow good cut")  # by length, not by letters; 'now' begins in the future
    cells = view.locator(".list tbody tr").nth(3).locator("td").all_inner_texts()
    assert cells[1:4] == ["done", "2031-05-17 10:00", "1:02:05"]


def test_the_filter_keeps_rows_that_hold_all_words_and_hides_empty_columns(
    outputs: Path, bridge: Bridge
) -> None:
    view = bridge.show(RunBrowser())
    expect(header(view, "scores iou")).to_have_count(1)
    view.locator("input[type=search]").fill("toy FAILED")
    expect(view.locator(".list tbody tr")).to_have_count(1)
    see(view, "wild")
    assert "1 of 5 runs" in view.locator(".bar").first.inner_text()
    expect(header(view, "scores iou")).to_have_count(0)
    view.locator("input[type=search]").fill("")
    expect(view.locator(".list tbody tr")).to_have_count(5)


def test_rows_are_selected_by_click_ctrl_shift_and_arrows(outputs: Path, bridge: Bridge) -> None:
    browser = RunBrowser()
    view = bridge.show(browser)
    assert browser.selected == [name("wild"), name("cut"), name("now")]
    line = view.locator(".list tbody tr")
    line.nth(3).click()
    bridge.wait(lambda: browser.selected == [name("good")])
    line.nth(0).click(modifiers=["Control"])
    bridge.wait(lambda: browser.selected == [name("good"), name("now")])
    line.nth(3).click(modifiers=["Control"])
    bridge.wait(lambda: browser.selected == [name("now")])
    line.nth(1).click()
    line.nth(4).click(modifiers=["Shift"])
    bridge.wait(lambda: len(browser.selected) == 4)
    expect(view.locator("tr[aria-selected=true]")).to_have_count(4)
    line.nth(0).click()
    bridge.page.keyboard.press("ArrowDown")
    bridge.wait(lambda: browser.selected == [name("cut")])


def test_what_differs_is_marked_and_errors_are_text(outputs: Path, bridge: Bridge) -> None:
    view = bridge.show(RunBrowser())
    expect(view.locator(".chosen tr.differs th")).to_have_text(["rate"])
    assert view.locator(".chosen tr.differs td").all_inner_texts() == ["9", "1.5", "1"]
    assert "2 equal parameters" in view.locator("details").inner_text()
    expect(view.locator(".chosen .wrong").first).to_have_text("ValueError: <b>too wild</b>")
    assert view.locator("b").count() == 0
    colours = view.locator(".chosen .dot").evaluate_all("all => all.map(e => e.style.background)")
    strokes = view.locator("svg[data-column=loss] path[data-name]").evaluate_all(
        "all => all.map(e => getComputedStyle(e).stroke)"
    )
    assert colours == strokes and len(set(colours)) == 3


def test_new_points_arrive_and_a_dead_run_says_so(outputs: Path, bridge: Bridge) -> None:
    browser = RunBrowser(every=0.05)
    view = bridge.show(browser)
    bridge.wait(lambda: browser._thread is not None)
    assert points(view, "loss", "now") == 9
    mark = len(bridge.sent)
    history(1.0, 12).to_csv(run("now") / "history.csv", index=False)
    bridge.wait(
        "() => document.querySelector('svg[data-column=loss] path[data-name$=-now]')"
        ".getAttribute('d').split('L').length === 12"
    )
    sent = [message["content"] for message in bridge.sent[mark:] if message["method"] == "custom"]
    assert [(message["start"], len(message["values"]["loss"])) for message in sent] == [(9, 3)]
    change(run("now"), pid_started=0.0)
    bridge.wait("() => document.querySelectorAll('.list .state-killed').length === 2")
    assert bridge.hide(browser) == 0, "listeners left behind"
    bridge.wait(lambda: browser._views == 0)
    browser.close()
    browser._thread.join(5)
    assert not browser._thread.is_alive()


def test_a_reload_brings_it_back(outputs: Path, bridge: Bridge) -> None:
    browser = RunBrowser()
    view = bridge.show(browser)
    header(view, "parameters rate").click()
    view.locator("input[type=search]").fill("toy")
    view.get_by_label("log").check()
    view.locator(".list tbody tr").nth(0).click()
    bridge.wait(lambda: browser.selected == [name("slow")] and browser.view.get("log"))
    view.locator(".list tbody tr").nth(1).click(modifiers=["Control"])
    bridge.wait(lambda: len(browser.selected) == 2)

    def epochs() -> None:
        history(1.0, 15).to_csv(run("now") / "history.csv", index=False)
        browser.tick()

    bridge.reload(epochs)
    view = bridge.page.locator("[data-testid=runs]")
    see(view, "slow now cut good wild")
    assert view.locator("input[type=search]").input_value() == "toy"
    assert view.get_by_label("log").is_checked()
    expect(view.locator("tr[aria-selected=true]")).to_have_count(2)
    assert points(view, "loss", "now") == 15
    browser.close()


def test_best_and_worst_with_pictures(outputs: Path, bridge: Bridge) -> None:
    browser = RunBrowser()
    browser.selected = [name("slow"), name("good")]
    view = bridge.show(browser)
    values = view.locator(".card .value")
    assert values.all_inner_texts() == ["0.5", "0.4", "0.3", "0.2", "0.3", "0.4"]
    picture = view.locator("figure img").first
    assert picture.evaluate("e => e.decode().then(() => e.naturalWidth)") == 80
    expect(view.locator("figcaption").first).to_have_text("overlays")
    view.locator("[data-choice='lower is better']").check()
    bridge.wait(lambda: browser.ends["lower"] is True)
    expect(values.first).to_have_text("0.2")
    view.locator("[data-choice='of run']").select_option(name("slow"))
    bridge.wait(lambda: browser.ends["run"] == name("slow"))
    expect(view.locator("figure")).to_have_count(0)


def test_the_pointer_reads_values_in_all_charts(outputs: Path, bridge: Bridge) -> None:
    view = bridge.show(RunBrowser())
    box = view.locator("svg[data-column=loss]").bounding_box()
    bridge.page.mouse.move(box["x"] + 46, box["y"] + 60)
    text = view.locator(".readout").inner_text()
    assert "wild: 0.6493 at 1" in text and "now: 1.765 at 1" in text
    assert view.locator(".pointer line").count() == 2
    view.locator("[data-choice=by]").first.select_option("step")
    expect(view.locator("svg[data-column=loss] .tick").last).to_have_text("step")


def test_without_jupyterlab_the_path_is_shown(outputs: Path, bridge: Bridge) -> None:
    browser = RunBrowser()
    browser.selected = [name("good")]
    view = bridge.show(browser)
    expect(view.locator(".path code")).to_have_text(str(run("good") / "run.ipynb"))
    assert view.locator("a.open").count() == 0


@pytest.mark.parametrize("root", ["", "~", "elsewhere"])
def test_the_link_follows_the_server_s_root(root: str, outputs: Path, bridge: Bridge) -> None:
    browser = RunBrowser()
    browser.home, browser.selected = str(outputs), [name("good")]
    config = dict(serverRoot={"": str(outputs.parent), "~": "~"}.get(root, "/srv"), baseUrl="/me/")
    bridge.page.evaluate(
        """config => { const script = document.createElement("script");
        Object.assign(script, { id: "jupyter-config-data", type: "application/json" });
        script.textContent = JSON.stringify(config); document.head.append(script); }""",
        config,
    )
    view = bridge.show(browser)
    if root == "elsewhere":
        expect(view.locator(".path")).to_contain_text("outside the server's folder")
        return
    below = {"": "outputs/", "~": ""}[root] + name("good")
    expect(view.locator("a.open")).to_have_attribute("href", f"/me/lab/tree/{below}/run.ipynb")


def test_broken_runs_and_failures_are_said(outputs: Path, bridge: Bridge) -> None:
    (run("cut") / "run.json").write_text('{"experiment"')
    shutil.rmtree(run("wild"))
    browser = RunBrowser()
    view = bridge.show(browser)
    browser.selected = [name("cut"), name("now")]
    bridge.pump()
    expect(view.locator(".chosen .wrong").first).to_contain_text("run.json cannot be read")
    view.locator(".list tbody tr").first.wait_for()
    browser.set_state(dict(selected=["toy/nothing"]))
    expect(view.locator(".wrong").first).to_contain_text("no run 'toy/nothing' among 4")
    assert "toy/nothing" in str(browser.error)
    shutil.rmtree(run("now"))
    view.get_by_role("button", name="refresh").click()
    bridge.wait(lambda: len(browser.selected) == 1)
    expect(view.locator(".list tbody tr")).to_have_count(3)
    assert browser.error is None


def test_five_hundred_runs_stay_fluent(
    outputs: Path, bridge: Bridge, capsys: pytest.CaptureFixture
) -> None:
    for number in range(495):
        copy = shutil.copytree(run("good"), outputs / "toy" / "train" / f"2031-01-01-{number:06}-x")
        knobs = {f"knob_{i}": number * i for i in range(20)} | dict(rate=number)
        change(copy, parameters=knobs, state="done")
    start = time.perf_counter()
    browser = RunBrowser()
    begun = time.perf_counter() - start
    view = bridge.show(browser)
    expect(view.locator(".bar .pale").first).to_have_text("500 runs")
    assert len(bridge.page.evaluate(f"() => {ROOT}.state().rows")) == 500
    assert 12 < view.locator("tr[data-name]").count() < 60, "those in sight, and a few more"
    times = [bridge.page.evaluate(SORT_AND_DRAW) for _ in range(5)]
    with capsys.disabled():
        text = f"{begun:.2f} s to begin, {sorted(times)[2]:.0f} ms to sort and draw"
        print(f" [500 runs: {text}]", end="")
    assert sorted(times)[2] < 300 and begun < 20, "an idle machine takes a fifth of it"
    oldest = name("slow")
    header(view, "started").click()  # up to now the table was sorted by rate
    bridge.page.evaluate("() => { document.querySelector('.list').scrollTop = 1e6; }")
    last = view.locator("tr[data-name]").last
    expect(last).to_have_attribute("data-name", name("now"))
    expect(view.locator(f"tr[data-name='{oldest}']")).to_have_count(0)
    bridge.page.evaluate("() => { document.querySelector('.list').scrollTop = 0; }")
    expect(view.locator("tr[data-name]").first).to_have_attribute("data-name", oldest)
    browser.close()


MAKE_RUNS = """
import json, os, time
from pathlib import Path
os.environ["SEGLAB_OUTPUTS"] = str(Path("outputs").absolute())
from seglab.runs import new_run_folder
from seglab.touch.runs import RunBrowser
folder = new_run_folder("toy_train", "live")
kernel = dict(name="python3", display_name="Python 3 (ipykernel)", language="python")
empty = dict(cells=[], metadata=dict(kernelspec=kernel), nbformat=4, nbformat_minor=5)
(folder / "run.ipynb").write_text(json.dumps(empty))
def write(epochs):
    rows = [f"{e},{1 / e}" for e in range(1, epochs + 1)]
    (folder / "history.csv").write_text("\\n".join(["epoch,loss", *rows]) + "\\n")
write(3)
browser = RunBrowser(every=0.2)
"""
TRAIN = """
for epochs in range(4, 100):
    time.sleep(0.5)
    write(epochs)
    if (folder / "stop").exists():
        break
"""
LOSS = "svg[data-column=loss] path[data-name]"
DRAWN = f"document.querySelector('{LOSS}')?.getAttribute('d').split('L').length"


def test_in_jupyterlab_points_arrive_while_a_cell_trains(lab: Lab) -> None:
    lab.open("browse", MAKE_RUNS, "browser", TRAIN)
    lab.run(0)
    lab.run(1)
    lab.run(2, wait=False)
    lab.until(f"{DRAWN} > 5")
    assert lab.status() == "busy", "the kernel still trains"
    next(lab.folder.glob("outputs/toy/train/*-live")).joinpath("stop").touch()
    lab.wait("browser.error_text == '' and len(browser.detail['runs'][0]['history']['loss']) > 5")
    drawn = lab.ask(f"() => {DRAWN}")
    lab.reload()
    expect(lab.page.locator(LOSS)).to_have_count(1)
    assert lab.ask(f"() => {DRAWN}") >= drawn
    lab.page.locator("a.open").click()
    opened = "window.jupyterapp.shell.currentWidget?.context?.path"
    lab.until(f"{opened}?.endsWith('-live/run.ipynb')")
    assert len(lab.page.context.pages) == 1, "in a tab of JupyterLab's, not of the browser's"
    lab.until(IDLE)
    lab.close()
    lab.command("docmanager:open", path="browse.ipynb")  # for the fixture to close
