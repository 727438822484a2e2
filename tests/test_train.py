"The loop survives a kill, counts every batch in full, and refuses what it cannot do."

import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from seglab.checkpoints import CheckpointError, load, read_header
from seglab.core import ConfigError
from seglab.train import TrainConfig, assemble, train, train_epoch

HERE = [__name__.split(".")[0]]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Points(Dataset):
    "Numbers with a linear truth."

    def __init__(self, count=24):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        x = torch.from_numpy(np.random.default_rng(index).standard_normal(4)).float()
        return dict(x=x, y=x.sum()[None], index=index)


@dataclass(frozen=True)
class NetConfig:
    width: int = 8
    dropout: float = 0.2


class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.stem = nn.Linear(4, config.width)
        self.norm = nn.BatchNorm1d(config.width)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, 1)

    def forward(self, x):
        return self.head(self.drop(self.norm(self.stem(x)).relu()))

    def layer_of(self, name):
        return 1 if name.startswith("head.") else 0


def new(dropout=0.2):
    torch.manual_seed(1)
    return Net(NetConfig(dropout=dropout))


def step(model, batch):
    error = model(batch["x"]) - batch["y"]
    return dict(square=error.square().mean(), size=0.1 * error.abs().mean())


def measure(model, batch):
    return dict(error=(model(batch["x"]) - batch["y"]).abs().flatten())


def loaders(**more):
    return DataLoader(Points(), batch_size=4, shuffle=True, **more), DataLoader(
        Points(10), batch_size=4
    )


CFG = TrainConfig(
    epochs=4,
    learning_rate=0.02,
    ema=0.8,
    accumulate=4,
    warmup_steps=3,
    layer_decay=0.5,
    best="error",
)


def run(folder, cfg=CFG, step=step, loader=None, **more):
    net = new()
    loader = loader or loaders()[0]
    history = train(
        net, step, loader, cfg, measure=measure, val_loader=loaders()[1], folder=folder, **more
    )
    return net, history


def difference(one, other):
    "Largest difference between all tensors of two state files."
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (one, other)]
    worst = 0.0
    for part in ("net", "average"):
        for name, tensor in (states[0][part] or {}).items():
            worst = max(
                worst, (tensor.double() - states[1][part][name].double()).abs().max().item()
            )
    for key, moments in states[0]["optimizer"]["state"].items():
        for name, tensor in moments.items():
            worst = max(
                worst, (tensor - states[1]["optimizer"]["state"][key][name]).abs().max().item()
            )
    return worst


def killed_run(folder):
    "What the subprocess below does: die by SIGKILL in the middle of the third epoch."
    left = iter(range(15))

    def deadly(model, batch):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(model, batch)

    torch.set_num_threads(1)
    run(Path(folder), step=deadly)


def test_a_killed_process_resumes_bit_for_bit(tmp_path):
    whole, history = run(tmp_path / "whole")
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_train; test_train.killed_run({str(tmp_path / 'killed')!r})"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert len(pd.read_csv(tmp_path / "killed" / "history.csv")) == 2
    torch.rand(5), np.random.rand(5)  # whoever resumes has another random state
    resumed, again = run(tmp_path / "killed")
    assert difference(tmp_path / "whole", tmp_path / "killed") == 0
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    for one, other in zip(history.rows, again.rows, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert not list((tmp_path / "killed").glob(".*")), "no temporary file stays"


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(ema=0.0),
        dict(accumulate=1, clip=0.0),
        dict(schedule="milestones", milestones=(1, 3), optimizer="adam"),
        dict(schedule="plateau", patience=0, gamma=0.5, higher_is_better=True),
        dict(precision="bf16"),
        dict(optimizer="sgd", learning_rate=1e-2),
    ],
)
@pytest.mark.parametrize("kind", ["shuffled", "generator", "weighted", "workers"])
def test_two_epochs_and_two_more_equal_four(tmp_path, changes, kind):
    if kind != "shuffled" and changes.get("precision"):
        pytest.skip("one kind of loader is enough for bf16")

    def loader():
        if kind == "weighted":
            sampler = WeightedRandomSampler(torch.arange(1.0, 25), 24)
            return DataLoader(Points(), batch_size=4, sampler=sampler)
        if kind == "generator":
            return loaders(generator=torch.Generator().manual_seed(9))[0]
        return loaders(num_workers=2 if kind == "workers" and not changes else 0)[0]

    cfg = replace(CFG, **changes)
    run(tmp_path / "whole", cfg, loader=loader())

    class Stop(Exception):
        pass

    left = iter(range(13))

    def interrupted(model, batch):
        if next(left, None) is None:
            raise Stop
        return step(model, batch)

    with pytest.raises(Stop):
        run(tmp_path / "parts", cfg, step=interrupted, loader=loader())
    run(tmp_path / "parts", cfg, loader=loader())
    assert difference(tmp_path / "whole", tmp_path / "parts") == 0


def test_on_a_plateau_the_rate_falls_at_once():
    plan = dict(schedule="plateau", patience=1, gamma=0.5, ema=0.0, warmup_steps=0, epochs=6)
    cfg = replace(CFG, **plan, higher_is_better=True)  # the error falls, so nothing gets better
    _, history = run(None, cfg)
    errors = history.table["error"]
    assert (errors[1:] <= errors[0]).all(), "or this test shows nothing"
    assert history.table["lr"].tolist() == [0.02, 0.02, 0.02, 0.01, 0.01, 0.005]


def test_another_seed_gives_other_weights(tmp_path):
    run(tmp_path / "a", replace(CFG, epochs=1))
    run(tmp_path / "b", replace(CFG, epochs=1, seed=1))
    assert difference(tmp_path / "a", tmp_path / "b") > 0, "the comparison can fail"


def test_scoring_does_not_change_training():
    with_scores, without = new(), new()
    loader, val_loader = loaders()
    cfg = replace(CFG, ema=0.0, best="loss")
    train(with_scores, step, loader, cfg, measure=measure, val_loader=val_loader)
    train(without, step, loader, cfg)
    assert torch.equal(with_scores.head.weight, without.head.weight)


def test_accumulation_equals_large_batches():
    # 6 batches of 4, in windows of 4 and 2, against hand-made batches of 16 and 8
    small, large = new(dropout=0.0), new(dropout=0.0)
    for net in (small, large):
        net.norm = nn.Identity()  # batch statistics would differ
    cfg = TrainConfig(epochs=3, learning_rate=0.05, accumulate=4, clip=0.0)
    train(small, step, DataLoader(Points(), batch_size=4), cfg)
    windows = DataLoader(Points(), batch_sampler=[list(range(16)), list(range(16, 24))])
    train(large, step, windows, replace(cfg, accumulate=1))
    assert torch.allclose(small.head.weight, large.head.weight, atol=1e-6)
    assert not torch.allclose(small.head.weight, new(dropout=0.0).head.weight, atol=1e-3)


def test_one_update_equals_plain_pytorch():
    ours, theirs = new(dropout=0.0), new(dropout=0.0)
    loader = DataLoader(Points(), batch_size=24)
    train(
        ours,
        step,
        loader,
        TrainConfig(epochs=3, learning_rate=0.05, weight_decay=0.0, clip=0.5, schedule="constant"),
    )
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.05, weight_decay=0.0)
    theirs.train()
    for _ in range(3):
        sum(step(theirs, next(iter(loader))).values()).backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    assert torch.allclose(ours.head.weight, theirs.head.weight, atol=1e-6)


def test_the_average_is_an_exponential_one():
    run = assemble(new(), replace(CFG, accumulate=1), loaders()[0])
    expected = None

    def watch(model, batch):
        nonlocal expected
        weights = run.net.head.weight.detach().clone()
        if run.average.n_averaged == 1:
            expected = weights
        elif run.average.n_averaged > 1:
            expected = 0.8 * expected + 0.2 * weights
        if expected is not None:
            assert torch.allclose(run.scored.head.weight, expected, atol=1e-6)
        return step(model, batch)

    train_epoch(run, watch)
    assert expected is not None and not torch.allclose(expected, run.net.head.weight, atol=1e-4)


def test_the_given_model_ends_with_the_scored_weights(tmp_path):
    net, history = run(tmp_path)
    last = load(history.last_path, packages=HERE)
    assert all(
        torch.equal(a, b)
        for a, b in zip(net.state_dict().values(), last.state_dict().values(), strict=True)
    )
    with torch.no_grad():
        errors = torch.cat([measure(last, batch)["error"] for batch in loaders()[1]])
    assert errors.mean().item() == pytest.approx(history.rows[-1]["error"], rel=1e-5)


def test_best_is_the_best_epoch(tmp_path):
    scores = iter([0.0, 0.3, math.nan, 0.9, 0.5])  # the first is the trial before training

    def told(model, batch):
        return dict(iou=torch.full((4,), next(scores)))

    val_loader = DataLoader(Points(4), batch_size=4)
    cfg = TrainConfig(epochs=4, best="iou", higher_is_better=True)
    history = train(
        new(), step, loaders()[0], cfg, measure=told, val_loader=val_loader, folder=tmp_path
    )
    assert history.best == pytest.approx(0.9)
    assert read_header(history.best_path)["notes"]["epoch"] == 3
    assert read_header(history.last_path)["notes"]["epoch"] == 4


def test_scores_are_averaged_over_images_and_skip_nan():
    def odd(model, batch):
        index = batch["index"].float()
        return dict(index=torch.where(index == 9, torch.nan, index))

    _, val_loader = loaders()  # 10 samples in batches of 4, 4 and 2
    history = train(
        new(), step, loaders()[0], TrainConfig(epochs=1), measure=odd, val_loader=val_loader
    )
    assert history.rows[0]["index"] == 4.0  # mean of 0..8; batch means would give another number


def test_a_finished_run_is_only_read(tmp_path):
    net, history = run(tmp_path)

    def never(model, batch):
        raise AssertionError("trained again")

    again, read = run(tmp_path, step=never)
    assert read.rows == history.rows and torch.equal(net.head.weight, again.head.weight)
    longer, more = run(tmp_path, replace(CFG, epochs=5))
    assert len(more.rows) == 5
    _, anew = run(tmp_path, replace(CFG, epochs=1, seed=3), resume=False)
    assert len(anew.rows) == 1 and len(pd.read_csv(tmp_path / "history.csv")) == 1


def test_resuming_with_another_config_or_network_is_refused(tmp_path):
    run(tmp_path, replace(CFG, epochs=1))
    with pytest.raises(ConfigError, match="begun with ema 0.8 .now 0.5.*resume=False"):
        run(tmp_path, replace(CFG, ema=0.5))
    with pytest.raises(CheckpointError, match="stem.weight"):
        train(
            Net(NetConfig(9)),
            step,
            loaders()[0],
            CFG,
            measure=measure,
            val_loader=loaders()[1],
            folder=tmp_path,
        )
    (tmp_path / "state.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="state.pt"):
        run(tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, value):
    def poisoned(model, batch):
        losses = step(model, batch)
        return losses | dict(size=losses["size"] * (value if 7 in batch["index"] else 1))

    net = new()
    with pytest.raises(
        FloatingPointError,
        match=r"loss 'size' is (nan|inf) in epoch 1, batch \d, update 1.*nan_batch.pt",
    ):
        train(net, poisoned, loaders()[0], replace(CFG, best="loss"), folder=tmp_path)
    batch = torch.load(tmp_path / "nan_batch.pt", weights_only=True)
    assert 7 in batch["index"] and all(p.isfinite().all() for p in net.parameters())
    train(
        net, step, loaders()[0], replace(CFG, best="loss"), folder=tmp_path
    )  # and the next run is well


def test_a_gradient_that_is_no_number_stops_the_run(tmp_path):
    def root(model, batch):
        error = model(batch["x"]) - batch["y"]
        return dict(root=(error * 0).abs().sqrt().mean())  # the root's slope at 0 is infinite

    net = new()
    with pytest.raises(FloatingPointError, match="gradient is nan in epoch 1, batch 1"):
        train(net, root, loaders()[0], TrainConfig(epochs=1), folder=tmp_path)
    assert all(p.isfinite().all() for p in net.parameters()), "the weights were not touched"


def test_a_parameter_without_gradient_is_named():
    net = new()
    net.unused = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="no gradient reaches unused.weight, unused.bias"):
        train(net, step, loaders()[0], TrainConfig(epochs=1))
    net.unused.requires_grad_(False)
    train(net, step, loaders()[0], TrainConfig(epochs=1))


def test_a_loss_and_a_score_of_one_name_are_refused_at_the_first_batch(tmp_path):
    steps = []

    def shares(model, batch):
        steps.append(1)
        return step(model, batch) | dict(error=model(batch["x"]).square().mean())

    with pytest.raises(ConfigError, match="error: would be two columns of the history"):
        run(tmp_path, step=shares)
    assert len(steps) == 1 and not (tmp_path / "history.csv").exists()
    with pytest.raises(ConfigError, match="seconds: would be two columns of the history"):
        timed = dict(measure=lambda model, batch: dict(seconds=batch["x"][:, 0]))
        train(new(), step, loaders()[0], TrainConfig(), val_loader=loaders()[1], **timed)


def test_precision_can_change_between_runs_and_leaves_no_trace():
    net, kinds = new(), []

    def spy(model, batch):
        hook = model.stem.register_forward_hook(lambda m, i, out: kinds.append(out.dtype))
        losses = step(model, batch)
        hook.remove()
        return losses

    for precision in ("no", "bf16", "bf16", "no"):
        kinds.clear()
        train(net, spy, loaders()[0], TrainConfig(epochs=1, precision=precision))
        assert set(kinds) == {torch.bfloat16 if precision == "bf16" else torch.float32}, precision
    assert "forward" not in net.__dict__ and net(torch.rand(2, 4)).dtype == torch.float32


def test_bad_calls():
    loader, val_loader = loaders()
    with pytest.raises(ConfigError, match="measure and val_loader need each other"):
        train(new(), step, loader, TrainConfig(), measure=measure)
    with pytest.raises(ConfigError, match="did you mean 'error'"):
        train(new(), step, loader, TrainConfig(best="eror"), measure=measure, val_loader=val_loader)
    with pytest.raises(ConfigError, match="gives no batch"):
        train(new(), step, DataLoader(Points(2), batch_size=4, drop_last=True), TrainConfig())
    with pytest.raises(ValueError, match="score 'x' must be .B,."):
        train(
            new(),
            step,
            loader,
            TrainConfig(),
            measure=lambda m, b: dict(x=torch.tensor(1.0)),
            val_loader=val_loader,
        )
    with pytest.raises(ValueError, match="no loss"):
        train(new(), lambda m, b: {}, loader, TrainConfig())
    for bad in (
        dict(epochs=0),
        dict(accumulate=0),
        dict(learning_rate=0),
        dict(ema=1.0),
        dict(layer_decay=0.0),
    ):
        with pytest.raises(ConfigError):
            TrainConfig(**bad)
    for bad in (dict(schedule="x"), dict(optimizer="x"), dict(precision="x")):
        with pytest.raises(ConfigError, match="unknown"):
            TrainConfig(**bad)


def test_wishes_about_memory():
    with pytest.raises(ConfigError, match="shard: needs several processes"):
        train(new(), step, loaders()[0], TrainConfig(epochs=1, shard=True))
    with pytest.raises(ConfigError, match="no module of this network has a switch"):
        train(new(), step, loaders()[0], TrainConfig(epochs=1, checkpointing=True))
    with pytest.raises(ConfigError, match="shard: scales no gradients"):
        TrainConfig(shard=True, precision="fp16")


def test_a_switch_is_put_back():
    net, seen = new(), []
    net.stem.checkpointing = False

    def watch(model, batch):
        seen.append(net.stem.checkpointing)
        return step(model, batch)

    train(net, watch, loaders()[0], TrainConfig(epochs=1, checkpointing=True))
    assert set(seen) == {True} and net.stem.checkpointing is False


def test_a_state_of_an_older_version_is_read(tmp_path):
    run(tmp_path, replace(CFG, epochs=1))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    for name in ("shard", "checkpointing"):
        del state["cfg"][name]
    torch.save(state, tmp_path / "state.pt")
    _, history = run(tmp_path, replace(CFG, epochs=2))
    assert len(history.rows) == 2


def two_processes(folder):
    "What one process does, or each of two."
    torch.set_num_threads(1)
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    loader = DataLoader(Points(), batch_size=4, shuffle=True)
    cfg = TrainConfig(epochs=3, learning_rate=0.02, ema=0.8, accumulate=2, best="error")
    val_loader = DataLoader(Points(10), batch_size=4)
    train(net, step, loader, cfg, measure=measure, val_loader=val_loader, folder=folder)


def test_two_processes_equal_one(tmp_path):
    two_processes(tmp_path / "one")
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"import test_train; test_train.two_processes({str(tmp_path / 'two')!r})\n"
        # who leaves first takes the other's connection away, which then aborts: leave together
        "import torch.distributed as d; d.barrier(); d.destroy_process_group()\n"
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(script),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[:4000] + done.stderr[-2000:]
    assert difference(tmp_path / "one", tmp_path / "two") <= 1e-5
    tables = [
        pd.read_csv(tmp_path / name / "history.csv").drop(columns="seconds")
        for name in ("one", "two")
    ]
    pd.testing.assert_frame_equal(*tables, rtol=1e-4)
