"Two processes train the trimap network that one trains: from Python, a command line, a notebook."

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from seglab.checkpoints import load
from seglab.core import ConfigError
from seglab.launch import ProcessError, launch
from seglab.trimap.plan import FitConfig
from seglab.trimap.task import fit

# the real tiny network; the last of three batches holds three pictures. At a rate of 1e-3 the key
# biases of attention, which change nothing and get only rounding noise, differ by 1.3e-5
ASKED = FitConfig(side=96, samples=11, batch_size=4, epochs=2, learning_rate=2e-4, ema=0.5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    "What one process learns."
    folder = tmp_path_factory.mktemp("alone")
    torch.set_num_threads(1)
    launch(fit, [replace(ASKED, run_folder=str(folder))])
    return folder


def assert_same(one: Path, two: Path) -> None:
    "The same weights, averages, moments and history."
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (one, two)]
    for part in ("net", "average"):
        for name, tensor in states[0][part].items():
            gap = (tensor.double() - states[1][part][name].double()).abs().max().item()
            assert gap <= 1e-5, f"{part} {name} differs by {gap:.1e}"
    tables = [pd.read_csv(folder / "history.csv").drop(columns="seconds") for folder in (one, two)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-4, atol=1e-5)
    nets = [load(folder / "last.safetensors").state_dict().values() for folder in (one, two)]
    assert all((a - b).abs().max() <= 1e-5 for a, b in zip(*nets, strict=True))


def test_launch(alone, tmp_path):
    rows = launch(fit, [replace(ASKED, run_folder=str(tmp_path), workers=1)], processes=2)
    assert_same(alone, tmp_path)
    assert len(rows) == 2 and rows[-1]["step"] == 6


def test_the_test_would_notice(alone, tmp_path):
    other = replace(ASKED, run_folder=str(tmp_path), distance_weight=0.101)
    launch(fit, [other], processes=2)
    with pytest.raises(AssertionError):
        assert_same(alone, tmp_path)


def test_a_stopped_run_goes_on_with_another_number_of_processes(alone, tmp_path):
    asked = replace(ASKED, run_folder=str(tmp_path))
    launch(fit, [asked], processes=2)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert len(state["rows"]) == 2
    rows = launch(fit, [replace(asked, epochs=3)], processes=1)
    assert len(rows) == 3 and rows[1]["step"] == 6


def test_the_command_line(alone, tmp_path):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(asdict(ASKED) | dict(epochs=7)))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
        *("-m", "seglab.launch", "seglab.trimap.task:fit", "--params", tmp_path / "run.yaml"),
        *("-p", "epochs", "2", "-p", "run_folder", tmp_path / "run"),
    ]
    environment = os.environ | dict(OMP_NUM_THREADS="1")
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.splitlines()[-1])) == 2
    assert_same(alone, tmp_path / "run")


def test_the_notebook(alone, tmp_path, repository, monkeypatch):
    import papermill

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = asdict(ASKED) | dict(run_folder=str(tmp_path), processes=2, threads=2, longest=64)
    notebook = repository / "nbs" / "experiments" / "trimap_train.ipynb"
    papermill.execute_notebook(
        notebook, tmp_path / "run.ipynb", given | dict(scored_pictures=1), progress_bar=False
    )
    assert_same(alone, tmp_path)


def test_what_cannot_be_shared(tmp_path):
    asked = replace(ASKED, run_folder=str(tmp_path), epochs=1)
    for bad, words in (
        (dict(batch_size=3), "a batch of 3 cannot be shared by 2 processes"),
        (dict(samples=9), "the last batch holds 1 for 2 processes"),
    ):
        with pytest.raises(ProcessError, match=f"ConfigError: .*{words}"):
            launch(fit, [replace(asked, **bad)], processes=2)
    for bad in (dict(preset_name="tny"), dict(rough="dsc"), dict(samples=0), dict(batch_size=0)):
        with pytest.raises(ConfigError):
            replace(asked, **bad)


@pytest.mark.parametrize("shard, checkpointing", [(True, False), (True, True), (False, True)])
def test_memory_is_no_matter_of_what_is_learnt(tmp_path, shard, checkpointing):
    asked = replace(ASKED, layer_decay=0.7, samples=8, epochs=1)
    one, two = tmp_path / "one", tmp_path / "two"
    launch(fit, [replace(asked, run_folder=str(one))])
    wishes = dict(run_folder=str(two), shard=shard, checkpointing=checkpointing)
    launch(fit, [replace(asked, **wishes)], processes=2)
    assert_same(one, two)
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (one, two)]
    rates = [[group["lr"] for group in state["optimizer"]["param_groups"]] for state in states]
    assert rates[0] == rates[1] and len(set(rates[0])) > 4, "a rate for every layer"
    moments = [state["optimizer"]["state"] for state in states]
    assert moments[0].keys() == moments[1].keys()
    for number, moment in moments[0].items():
        for name, tensor in moment.items():
            assert torch.allclose(tensor, moments[1][number][name], atol=1e-5), name


def test_slices_go_on_as_a_whole(tmp_path):
    asked = replace(ASKED, samples=8, epochs=1)
    for epochs, shard, processes in ((1, True, 2), (2, False, 1), (3, True, 2)):
        plan = replace(asked, run_folder=str(tmp_path), epochs=epochs, shard=shard)
        rows = launch(fit, [plan], processes)
    assert [row["step"] for row in rows] == [2, 4, 6]
