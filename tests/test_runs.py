"Runs: names, parameters, states and the command line, on notebooks that take no time."

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from seglab.core import ConfigError
from seglab.parameters import fit_parameters, parse_value, read_parameters
from seglab.runs import (
    find_runs,
    main,
    new_run_folder,
    open_run,
    run_experiment,
    save_config,
    save_scores,
    table,
)

PARAMETERS = """
epochs = 2  # times through the data
rate = 1e-3
fine = False
name = "tiny = small # really"
folds: list = [1, 2]
run_folder = ""
"""


@pytest.fixture(autouse=True)
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    "A folder of runs for this test alone."
    monkeypatch.setenv("SEGLAB_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path / "outputs"


def experiment(folder: Path, *sources: str, name: str = "toy_try") -> Path:
    "A notebook whose first cell, the one with the tag, holds PARAMETERS."
    cells = [nbformat.v4.new_code_cell(source) for source in (PARAMETERS.strip(), *sources)]
    cells[0].metadata.tags = ["parameters"]
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def first_line(notebook: Path) -> str:
    return nbformat.read(notebook, as_version=4).cells[0].source


def test_two_runs_that_start_at_once_get_two_folders(outputs: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: new_run_folder("trimap_train", "x"), range(16)))
    assert len(folders) == 16
    assert {folder.parent for folder in folders} == {outputs / "trimap" / "train"}


@pytest.mark.parametrize(
    ("name", "place"), [("interact_noc_curve", "interact/noc_curve"), ("speed", "speed/run")]
)
def test_a_name_is_a_system_and_a_question(outputs: Path, name: str, place: str) -> None:
    assert new_run_folder(name).parent == outputs / place


@pytest.mark.parametrize("label", ["", "../up", "a b", ".hidden", "a/b"])
def test_a_label_that_is_no_folder_name_is_refused(label: str) -> None:
    with pytest.raises(ConfigError, match="label"):
        new_run_folder("trimap_train", label)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("True", True), ("False", False), ("None", None), ("12", 12), ("-3", -3)),
        *(("1e-4", 1e-4), ("2.0", 2.0), ("true", "true"), ("a b", "a b"), ("", "")),
    ],
)
def test_words_mean_what_papermill_says(text: str, value: object) -> None:
    from papermill.cli import _resolve_type

    assert parse_value(text) == value == _resolve_type(text)
    assert type(parse_value(text)) is type(value)


def test_defaults_are_read_without_running(tmp_path: Path) -> None:
    assert read_parameters(experiment(tmp_path)) == dict(
        epochs=2, rate=1e-3, fine=False, name="tiny = small # really", folds=[1, 2], run_folder=""
    )


@pytest.mark.parametrize(
    ("given", "value"),
    [
        *((dict(epochs="5"), 5), (dict(rate=1), 1.0), (dict(rate="1e-4"), 1e-4)),
        *((dict(name="007"), "007"), (dict(fine="True"), True), (dict(fine=None), None)),
    ],
)
def test_a_value_takes_the_type_of_its_default(tmp_path: Path, given: dict, value: object) -> None:
    (name,) = given
    fitted = fit_parameters(experiment(tmp_path), given)[name]
    assert fitted == value and type(fitted) is type(value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(epoch=5), "did you mean 'epochs'"),
        (dict(run_folder="/tmp"), "unknown parameter 'run_folder'"),
        (dict(epochs=2.5), "'epochs' must be int"),
        (dict(fine="false"), "'fine' must be bool"),
        (dict(fine=1), "'fine' must be bool"),
        (dict(epochs=True), "'epochs' must be int"),
        (dict(name=7), "'name' must be str"),
    ],
)
def test_a_wrong_parameter_is_refused_before_a_folder_is_made(
    tmp_path: Path, outputs: Path, given: dict, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        run_experiment(experiment(tmp_path), given)
    assert not outputs.exists()


def test_a_notebook_without_the_tag_or_the_folder_is_refused(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("epochs = 2")])
    nbformat.write(notebook, tmp_path / "a_b.ipynb")
    with pytest.raises(ConfigError, match="no cell tagged 'parameters'"):
        run_experiment(tmp_path / "a_b.ipynb")
    notebook.cells[0].metadata.tags = ["parameters"]
    nbformat.write(notebook, tmp_path / "a_b.ipynb")
    with pytest.raises(ConfigError, match="run_folder"):
        run_experiment(tmp_path / "a_b.ipynb")
    notebook.cells[0].source = "epochs = 2 * len('ab')"
    nbformat.write(notebook, tmp_path / "a_b.ipynb")
    with pytest.raises(ConfigError, match="plain number"):
        read_parameters(tmp_path / "a_b.ipynb")


def test_a_kernel_is_this_python_and_draws_inline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    wrong = dict(argv=["/bin/false", "{connection_file}"], display_name="x", language="python")
    (spec / "kernel.json").write_text(json.dumps(wrong))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    ask = "import os, sys; print(sys.executable, os.environ['MPLBACKEND'], epochs, run_folder)"
    folder = run_experiment(experiment(tmp_path, ask), dict(epochs="3"), progress=False)
    (output,) = nbformat.read(folder / "run.ipynb", as_version=4).cells[-1].outputs
    inline = "module://matplotlib_inline.backend_inline"
    assert output.text.split() == [sys.executable, inline, "3", str(folder)]
    assert open_run(folder).info["state"] == "done"


def test_a_failed_run_keeps_its_notebook_and_can_be_resumed(tmp_path: Path, capfd) -> None:
    crash = "if not fine:\n    raise ValueError('no such data')"
    notebook = experiment(tmp_path, "print('before')", crash)
    assert main(["run", str(notebook), "-p", "rate", "0.5"]) == 1
    (name,) = table().run
    run = open_run(name)
    assert run.info["state"] == "failed" and run.info["error"] == "ValueError: no such data"
    assert "Exception" in first_line(run.folder / "run.ipynb"), "the error stands on top"
    shown = capfd.readouterr()
    assert "before" in shown.out and "no such data" in shown.err
    assert str(run.folder / "run.ipynb") in shown.err

    assert main(["run", str(notebook), "--resume", str(run.folder), "-p", "fine", "True"]) == 0
    again = open_run(name)
    assert again.info["state"] == "done" and again.info["error"] is None
    assert again.info["parameters"] == run.info["parameters"] | dict(fine=True)
    assert again.info["seconds"] > run.info["seconds"]
    assert "Exception" in first_line(run.folder / "run-1.ipynb"), "the first sitting is kept"
    with pytest.raises(ConfigError, match="is a run of toy_try, not of toy_other"):
        run_experiment(experiment(tmp_path, name="toy_other"), resume=run.folder)


def test_a_killed_program_is_seen_and_its_kernel_ends(tmp_path: Path, outputs: Path) -> None:
    note = "import os, pathlib, time\npathlib.Path(run_folder, 'pid').write_text(str(os.getpid()))"
    notebook = experiment(tmp_path, note + "\ntime.sleep(600)")
    program = "import sys; from seglab.runs import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "run", str(notebook)]
    with subprocess.Popen(command) as process:
        until(lambda: any(file.read_text() for file in outputs.glob("toy/try/*/pid")))
        assert list(table().state) == ["running"]
        (name,) = table("toy").run
        with pytest.raises(ConfigError, match="still running"):
            run_experiment(notebook, resume=name)
        process.send_signal(signal.SIGKILL)
    assert list(table().state) == ["killed"]
    kernel = int((outputs / name / "pid").read_text())
    until(lambda: not runs(kernel))  # or it would go on writing into a folder that is resumed


def until(fact, seconds: float = 60) -> None:
    "Wait for a fact to become true."
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_scores_and_their_headline_reach_the_table(outputs: Path) -> None:
    scores = pd.DataFrame(
        dict(IoU=[0.5, float("nan"), 1.0]), index=pd.Index(list("abc"), name="image")
    )
    plain, own, empty = (new_run_folder("trimap_train", label) for label in ("a", "b", "c"))
    save_scores(plain, scores)
    save_scores(own, scores, dict(IoU=0.9, worst=float("nan")))
    save_config(empty, dict(side=64, model=dict(depth=2)))
    rows = table("trimap")
    assert rows.IoU.tolist()[:2] == [0.75, 0.9] and rows.IoU.isna().tolist() == [0, 0, 1]
    assert rows.state.tolist() == ["done", "done", "running"]
    pd.testing.assert_frame_equal(open_run(plain).scores, scores.reset_index())
    json.loads((own / "metrics.json").read_text(), parse_constant=pytest.fail)  # no bare NaN


def test_only_parameters_that_differ_within_an_experiment_are_listed(outputs: Path) -> None:
    for name, parameters in (
        ("trimap_train", dict(epochs=2, seed=0)),
        ("trimap_train", dict(epochs=5, seed=0)),
        ("walls_train", dict(epochs=9, seed=1)),
    ):
        save_config(new_run_folder(name), parameters)
    assert {"epochs"} == set(table()) - {"run", "state", "started", "seconds"}
    assert table().epochs.tolist() == [2, 5, 9]
    assert "epochs" not in table("walls")
    with pytest.raises(ConfigError, match="did you mean 'trimap'"):
        table("trimop")


def test_no_runs_is_an_answer(capsys: pytest.CaptureFixture) -> None:
    assert main(["runs"]) == 0
    assert "no runs in" in capsys.readouterr().out
    assert table().empty


def test_wrong_questions_end_with_status_two(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    notebook = str(experiment(tmp_path))
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "torn.yaml").write_text("a: [\n")
    for words in (
        ["run", "no_such_experiment"],
        ["run", str(tmp_path / "missing.ipynb")],
        ["run", notebook, "-p", "epoch", "3"],
        ["run", notebook, "-f", str(tmp_path / "missing.yaml")],
        ["run", notebook, "-f", str(tmp_path / "list.yaml")],
        ["run", notebook, "-f", str(tmp_path / "torn.yaml")],
        ["run", notebook, "--resume", str(tmp_path)],
        ["runs", "--system", "none"],
    ):
        assert main(words) == 2, words
        assert "error: " in capsys.readouterr().err


def test_folders_outside_outputs_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    notebook = experiment(tmp_path)
    assert main(["run", str(notebook)]) == 0
    (folder,) = (tmp_path / "outputs" / "toy" / "try").iterdir()
    monkeypatch.setenv("SEGLAB_OUTPUTS", str(tmp_path / "elsewhere"))
    monkeypatch.chdir(folder.parent)
    assert main(["run", str(notebook), "--resume", folder.name]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "run.ipynb")
    assert os.listdir(tmp_path / "outputs" / "toy" / "try") == [folder.name]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("run.json", '{"experiment": "toy_t', "run.json cannot be read: Unterminated string"),
        ("run.json", "[1, 2]", "run.json cannot be read: expected names and values, found a list"),
        ("run.json", '{"state": "done"}', "run.json says nothing of experiment, started"),
        ("config.json", "{", "config.json cannot be read"),
        ("metrics.json", "", "metrics.json cannot be read"),
        ("history.csv", "", "history.csv cannot be read: No columns"),
        (
            "scores.csv",
            "a,b\n1,2,3,4\n1\n1,2,3,4,5,6\n",
            "scores.csv cannot be read: Error tokenizing",
        ),
    ],
)
def test_a_torn_file_is_said_in_words_and_hides_no_other_run(
    file: str, text: str, said: str
) -> None:
    whole, torn = new_run_folder("toy_try", "whole"), new_run_folder("toy_try", "torn")
    save_scores(whole, pd.DataFrame(dict(iou=[0.5])))
    (torn / file).write_text(text)
    with pytest.raises(ValueError):
        open_run(torn)
    run = open_run(torn, strict=False)
    assert len(run.problems) == 1 and run.problems[0].startswith(said)
    assert run.info["state"] == ("broken" if file == "run.json" else "running")
    assert sorted(table("toy").state) == sorted(["done", run.info["state"]])
    assert set(find_runs()) == {whole, torn}


def test_headlines_are_metrics_or_else_means_and_only_numbers() -> None:
    folder = new_run_folder("toy_try")
    (folder / "scores.csv").write_text("image,iou\nhorse,0.5\ncat,0.25\n")
    assert open_run(folder).headline == dict(iou=0.375)
    (folder / "metrics.json").write_text('{"iou": 0.4, "note": "by hand", "sad": null}')
    assert open_run(folder).headline == dict(iou=0.4)
