"The run browser's Python side: what is read, laid out, sent and said, without a page."

import json
import shutil
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import traitlets
from PIL import Image

from seglab.core import ConfigError, outputs_dir
from seglab.runs import new_run_folder, open_run, save_scores
from seglab.touch.runs import RunBrowser, both_ends, describe
from seglab.touch.sheet import PALETTE, as_text, choose, draw_sheet, give_looks, listing
from seglab.touch.shelf import (
    Shelf,
    addresses,
    curves,
    differences,
    extremes,
    find_pictures,
    flatten,
    lower_is_better,
    news,
    row_names,
    score_columns,
    shared,
    thumbnail,
)


@pytest.fixture(autouse=True)
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    "A folder of runs for this test alone."
    monkeypatch.setenv("SEGLAB_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path / "outputs"


def add(label: str, epochs: int = 3, experiment: str = "toy_train", **parameters: object) -> Path:
    folder = new_run_folder(experiment, label)
    change(folder, parameters=parameters)
    if epochs:
        write(folder, epochs)
    return folder


def change(folder: Path, **facts: object) -> None:
    file = folder / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))


def write(folder: Path, epochs: int) -> None:
    rows = dict(epoch=range(1, epochs + 1), loss=[1 / e for e in range(1, epochs + 1)])
    pd.DataFrame(rows).to_csv(folder / "history.csv", index=False)


def named(folder: Path) -> str:
    return folder.relative_to(outputs_dir()).as_posix()


# ---- the shelf


def test_a_look_reads_only_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [add(label) for label in "abc"]
    for folder in folders:
        change(folder, state="done")
    shelf, opened = Shelf(), []
    read = open_run
    monkeypatch.setattr(
        "seglab.touch.shelf.open_run",
        lambda f, strict: opened.append(f.name[-1]) or read(f, strict),
    )
    assert not shelf.look() and opened == []
    save_scores(folders[1], pd.DataFrame(dict(iou=[0.5])))
    assert shelf.look() and opened == ["b"]
    assert shelf.runs[named(folders[1])].headline == dict(iou=0.5)
    write(folders[2], 9)
    assert not shelf.look(), "a history alone is not the table's business"


def test_a_new_run_is_found_and_a_dead_one_noticed() -> None:
    shelf = Shelf() if (first := add("a")) else None
    second = add("b")
    assert shelf.look() and list(shelf.runs) == [named(first), named(second)]
    change(second, pid_started=0.0)
    assert shelf.look() and shelf.runs[named(second)].info["state"] == "killed"
    assert not shelf.look()


def test_a_deleted_run_stays_until_it_is_forgotten_and_may_come_back() -> None:
    first, second = add("a"), add("b")
    shelf = Shelf("toy")
    shutil.move(first, first.parent.parent / "elsewhere")
    shutil.move(second, second.parent / ".." / ".." / "b")
    assert shelf.look()
    assert [run.info["state"] for run in shelf.runs.values()] == ["gone", "gone"]
    assert shelf.open(named(first)).problems == ("the folder was deleted",)
    shutil.move(first.parent.parent / "elsewhere", first)
    assert shelf.look() and shelf.runs[named(first)].info["state"] == "running"
    shelf.forget()
    assert list(shelf.runs) == [named(first)]


def test_an_unknown_system_is_refused_and_no_runs_at_all_are_fine() -> None:
    assert Shelf().runs == {}
    add("a")
    with pytest.raises(ConfigError, match="system with runs 'toys': did you mean 'toy'"):
        RunBrowser("toys")


def test_settings_inside_settings_are_compared_by_their_full_names() -> None:
    assert flatten(dict(a=1, model=dict(side=2, deep=dict(x=[3])), none={})) == {
        "a": 1,
        "model.side": 2,
        "model.deep.x": [3],
        "none": {},
    }
    folders = [add("a", rate=1e-3, only=1), add("b", rate=1.0000001e-3)]
    rows = {row["name"]: row for row in differences({str(f): open_run(f) for f in folders})}
    assert rows["rate"] == dict(name="rate", values=["0.001", "0.001"], differs=True)
    assert rows["only"]["values"] == ["1", "–"] and rows["only"]["differs"]


def test_curves_hold_numbers_or_nothing() -> None:
    history = pd.DataFrame(
        dict(epoch=[1, 2, 3], loss=[1.0, np.inf, np.nan], odd=["1", "oops", None], words=[*"abc"])
    )
    assert curves(history) == dict(epoch=[1, 2, 3], loss=[1, None, None], odd=[1, None, None])
    assert curves(pd.DataFrame()) == {}
    json.dumps(curves(history), allow_nan=False)


def test_shared_columns_and_axes() -> None:
    one = dict(epoch=[1], step=[1], lr=[1], loss=[1], iou=[1])
    assert shared([one, one]) == (["loss", "iou", "lr"], ["epoch", "step"])
    assert shared([one, dict(step=[1], iou=[1])]) == (["iou"], ["step"])
    assert shared([{}, one])[0] == ["loss", "iou", "lr"], "a run without a history hides nothing"
    assert shared([]) == shared([{}]) == ([], [])


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ([1, 2], [1, 2, 3], (2, [3])),
        ([1, 2, 3], [1, 5, 3], (1, [5, 3])),
        ([1, 2, 3], [1, 2], (2, [])),
        ([1, None], [1, None, None], (2, [None])),
        ([], [1], (0, [1])),
    ],
)
def test_only_new_rows_are_news(before: list, now: list, said: tuple) -> None:
    start, values = said
    assert news(dict(loss=before), dict(loss=now)) == (start, dict(loss=values))
    assert news(dict(loss=now), dict(loss=now)) is None
    assert news(dict(other=before), dict(loss=now)) == (0, dict(loss=now))


def test_rows_are_named_by_picture_and_method() -> None:
    scores = pd.DataFrame(
        dict(
            walls=["as is"] * 2,
            picture=["a", "b"],
            method=["x", "y"],
            iou=[1.0, 2.0],
            error=[None] * 2,
        )
    )
    picture, rest = row_names(scores)
    assert [*picture] == ["a", "b"] and [*rest] == ["as is · x", "as is · y"]
    picture, rest = row_names(pd.DataFrame(dict(iou=[1.0, 2.0])))
    assert [*picture] == ["row 0", "row 1"] and [*rest] == ["", ""]
    numbered = pd.DataFrame(dict(picture=[8, 9], iou=[0.1, np.nan], none=[np.nan, np.nan]))
    assert score_columns(numbered) == ["iou"], "a picture's number is no score"
    best, worst = extremes(numbered, "iou")
    assert best == worst == [("8", "", 0.1)]


def test_the_direction_of_a_score_is_guessed_by_whole_words() -> None:
    for name in ("loss", "l1_overlap", "NoC@90", "false_alarm", "grad", "seconds_model"):
        assert lower_is_better(name), name
    for name in ("iou", "psnr", "level", "gradient_iou", "closs"):
        assert not lower_is_better(name), name


def test_pictures_are_found_by_stem_number_or_beginning(tmp_path: Path) -> None:
    files = "masks/0008.png fused/00000_x.png overlays/horse.jpg notes/horse.txt top.png".split()
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_pictures(tmp_path, "8") == dict(masks=tmp_path / "masks" / "0008.png")
    assert [*find_pictures(tmp_path, "00000")] == ["fused"]
    assert [*find_pictures(tmp_path, "horse.png")] == ["overlays"]
    for name in ("hors", "*", "../top", "", "top"):
        assert find_pictures(tmp_path, name) == {}, name


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "L", "1", "P", "I;16", "I", "F"])
def test_thumbnails_of_all_kinds_of_pictures(kind: str, tmp_path: Path) -> None:
    file = tmp_path / ("a.tif" if kind in "IF" else "a.png")
    Image.new(kind, (400, 200), 1 if len(kind) == 1 or ";" in kind else 0).save(file)
    address = thumbnail(file)
    picture = Image.open(BytesIO(b64decode(address.removeprefix("data:image/jpeg;base64,"))))
    assert picture.size == (168, 84)
    if kind == "L":
        assert np.asarray(picture).min() > 250, "class number 1 is seen"


def test_a_file_that_is_no_picture_has_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    assert thumbnail(tmp_path / "a.png") == "" == thumbnail(tmp_path / "missing.png")


def test_addresses_follow_links_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk" / "outputs").mkdir(parents=True)
    file = tmp_path / "disk" / "outputs" / "run.ipynb"
    assert addresses(file) == []
    file.touch()
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    for session, more in (
        (tmp_path / "home" / "x.ipynb", [tmp_path / "home" / "outputs" / "run.ipynb"]),
        (tmp_path / "disk" / "x.ipynb", []),
        ("relative.ipynb", []),
    ):
        monkeypatch.setenv("JPY_SESSION_NAME", str(session))
        assert addresses(file) == [str(path) for path in [file, *more]]


# ---- the sheet


def test_a_listing_is_plain_json_whatever_runs_hold() -> None:
    folder = add("a", rate=1.0, names=["x"], nested=dict(a=1), none=None)
    add("b", rate=float("inf"), names=[], none=1)
    (folder / "metrics.json").write_text('{"iou": NaN, "sad": 1e400}')
    listed = listing(Shelf().runs)
    json.dumps(listed, allow_nan=False)
    names = [column["name"] for column in listed["columns"]]
    assert names == ["run", "state", "started", "seconds", "rate", "names", "none", "iou", "sad"]
    assert listed["rows"][0]["cells"][4:] == [1.0, "['x']", None, None, "inf"]
    assert listing({}) == dict(columns=listing({})["columns"], rows=[])


def test_a_parameter_and_a_score_of_one_name_are_two_columns() -> None:
    for rate in (1, 2):
        save_scores(add("a", rate=rate), pd.DataFrame(dict(rate=[rate / 10])))
    listed = listing(Shelf().runs)
    keys = [column["key"] for column in listed["columns"][4:]]
    assert keys == ["parameters rate", "scores rate"]
    assert [row["cells"][4:] for row in listed["rows"]] == [[1, 0.1], [2, 0.2]]


def test_looks_stay_and_never_run_out() -> None:
    looks = give_looks(["a", "b"], {})
    assert give_looks(["b"], looks)["b"] == looks["b"]
    many = give_looks([str(i) for i in range(16)], looks)
    assert len({tuple(look) for look in many.values()}) == 16 == 2 * len(PALETTE)


def test_the_first_choice_leaves_other_experiments_and_broken_runs_out() -> None:
    names = [named(add(label)) for label in "abcd"]
    other = add("x", experiment="other_try")
    torn = add("y")
    (torn / "run.json").write_text("{")
    shelf = Shelf()
    assert choose(shelf.runs) == [named(other)]
    shutil.rmtree(other)
    assert choose(Shelf().runs) == names[-3:]
    for name in names:
        shutil.rmtree(outputs_dir() / name)
    assert choose(Shelf().runs) == [named(torn)]


def test_text_lists_the_newest_and_counts_the_others() -> None:
    names = [named(add(f"n{i}", rate=i)) for i in range(5)]
    text = as_text(listing(Shelf().runs), names[-1:], most=2)
    assert names[-1] + " *" in text and names[2] not in text and text.endswith("and 3 older runs")
    assert as_text(listing({}), []) == "no runs yet"


def test_a_sheet_is_drawn_even_of_nothing() -> None:
    assert draw_sheet(listing({}), [], [], None, {}).shape[2] == 3


# ---- the widget


def test_new_points_alone_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, sent = add("a", 3), []
    browser = RunBrowser()
    monkeypatch.setattr(browser, "send", lambda content, buffers=None: sent.append(content))
    browser.tick()
    assert sent == []
    write(folder, 5)
    browser.tick()
    values = dict(epoch=[4.0, 5.0], loss=[0.25, 0.2])
    assert sent == [dict(type="points", name=named(folder), start=3, values=values)]
    for torn in ("", "epoch,loss\n1,2,3,4\n1\n1,2,3,4,5\n"):
        (folder / "history.csv").write_text(torn)
        browser.tick()
    write(folder, 6)
    browser.tick()
    assert len(sent) == 2 and sent[1]["start"] == 5
    shutil.rmtree(folder)
    browser._due = 0
    browser.tick()
    assert browser.detail["runs"][0]["state"] == "gone" and browser.error is None
    browser.close()


def test_the_first_rows_of_a_history_and_new_columns_arrive() -> None:
    folder = add("a", 0)
    browser = RunBrowser()
    assert browser.detail["charts"] == [] and "1 without a history" in browser.detail["blank"]
    write(folder, 2)
    browser.tick()
    assert browser.detail["charts"] == ["loss"] and browser.detail["blank"] == ""
    browser.close()


def test_selected_names_are_checked_and_errors_kept() -> None:
    folder = add("a")
    browser = RunBrowser()
    with pytest.raises(traitlets.TraitError, match=r"no run 'toy/train/.*b' among 1; did you mean"):
        browser.selected = [named(folder)[:-1] + "b"]
    browser.set_state(dict(selected=["x"]))
    assert "no run 'x' among 1" in str(browser.error) and "no run 'x'" in browser.error_text
    assert browser.selected == [named(folder)], "as it was"
    browser.set_state(dict(view=dict(up=True)))
    assert browser.error is None and browser.error_text == ""
    browser.close()


def test_more_runs_than_can_be_drawn_are_counted() -> None:
    names = [named(add(f"n{i}")) for i in range(18)]
    browser = RunBrowser()
    browser.selected = names
    assert len(browser.detail["runs"]) == 16 and browser.detail["note"].startswith("2 more")
    browser.snapshot()
    browser.close()


def test_the_thread_begins_when_displayed_and_ends_with_the_browser() -> None:
    folder = add("a")
    before = threading.active_count()
    browser = RunBrowser(every=0.01)
    assert threading.active_count() == before
    data, _ = browser._repr_mimebundle_()
    assert browser._thread.is_alive() and browser._thread.daemon
    write(folder, 7)
    wait_for(lambda: len(browser.detail["runs"][0]["history"]["loss"]) == 7)
    for kind in ("shown", "hidden"):
        browser._receive(None, dict(type=kind), [])
    time.sleep(0.05)  # a look that had begun
    write(folder, 8)
    time.sleep(0.1)
    assert len(browser.detail["runs"][0]["history"]["loss"]) == 7, "nobody looks"
    browser._receive(None, dict(type="shown"), [])
    wait_for(lambda: len(browser.detail["runs"][0]["history"]["loss"]) == 8)
    browser.close()
    browser._thread.join(5)
    assert not browser._thread.is_alive()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert named(folder) in data["text/plain"]
    png = b64decode(data["image/png"])
    assert Image.open(BytesIO(png)).width == 720 and len(png) < 100_000


def wait_for(condition: object, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_fails_in_the_thread_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    add("a")
    browser = RunBrowser(every=0.01)
    monkeypatch.setattr(browser.shelf, "look", lambda: 1 / 0)
    browser._wake()
    wait_for(lambda: browser.error is not None)
    assert browser.error_text == "ZeroDivisionError: division by zero"
    browser.close()


def test_nothing_at_all_can_be_browsed() -> None:
    browser = RunBrowser()
    assert browser.selected == [] and browser.ends == {}
    data, _ = browser._repr_mimebundle_()
    assert data["text/plain"] == "no runs yet"
    folder = add("a")
    browser.refresh()
    assert [row["name"] for row in browser.listed["rows"]] == [named(folder)]
    browser.close()


def test_scores_of_any_kind_are_answered() -> None:
    folder = add("a", method="x")
    runs = {"a": open_run(folder)}
    assert both_ends(runs, {}) == {}
    (folder / "scores.csv").write_text("image,method,iou\n1,x,\n2,x,0.5\n2,y,0.25\n")
    ends = both_ends({"a": open_run(folder)}, dict(run="b", column="x", of="y", lower=None))
    assert ends["of"] == "y" and [card["value"] for card in ends["best"]] == [0.25]
    json.dumps(ends, allow_nan=False)
    (folder / "scores.csv").write_text("a,b\nx,y\n")
    assert both_ends({"a": open_run(folder)}, {}) == {}
    json.dumps(describe({"a": open_run(folder)}), allow_nan=False)


def test_five_hundred_runs_are_looked_at_in_a_fraction_of_reading_them() -> None:
    first = add("a", 20, rate=1)
    save_scores(first, pd.DataFrame(dict(picture=[*"abc"], iou=[0.1, 0.2, 0.3])))
    change(first, state="done")
    for number in range(499):
        shutil.copytree(first, first.parent / f"2031-01-01-{number:06}-x")
    start = time.thread_time()
    shelf = Shelf()
    read = time.thread_time() - start
    looked, laid = least(shelf.look), least(lambda: listing(shelf.runs))
    assert not shelf.look()
    assert looked < read / 5 and laid < read, (read, looked, laid)


def least(act: Callable[[], object]) -> float:
    "Seconds of this thread that something takes, the best of three."
    times = []
    for _ in range(3):
        start = time.thread_time()
        act()
        times.append(time.thread_time() - start)
    return min(times)


def test_a_picture_without_runs_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLAB_OUTPUTS", str(tmp_path))
    browser = RunBrowser()
    try:
        assert (browser.snapshot() < 200).any(), "words, not an empty sheet"
    finally:
        browser.close()
