"The memory estimate: near to what the allocator says, and it takes none itself."

import os
import subprocess
import sys
from functools import partial

import numpy as np
import psutil
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader

from seglab.launch import fill_parameters, launch
from seglab.memory import Watch, announce_memory, estimate_memory, example_batch
from seglab.parameters import fit_values, read_parameters, read_values
from seglab.sharding import shard
from seglab.train import TrainConfig
from seglab.trimap.model import TrimapModel, preset
from seglab.trimap.plan import FitConfig, build_loaders
from seglab.trimap.task import step

os.environ["KINETO_LOG_LEVEL"] = "99"
FOCAL = partial(step, distance=0.0)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pictures(count, side):
    return dict(
        image=torch.rand(count, 3, side, side),
        mask=torch.rand(count, 1, side, side) > 0.5,
        trimap=torch.randint(0, 3, (count, 1, side, side)).to(torch.uint8),
    )


def local(tensor):
    return tensor.to_local().nbytes if hasattr(tensor, "to_local") else tensor.nbytes


def measured(cfg, batch, name="tiny"):
    "Peak of one process in a second step, from the allocator's records; optimizer included."
    net = TrimapModel(preset(name)).train()
    net.backbone.checkpointing = cfg.checkpointing
    if cfg.shard:
        shard(net)
    optimizer = torch.optim.AdamW(net.parameters())

    def whole_step():
        with torch.autocast("cpu", torch.bfloat16, enabled=cfg.precision == "bf16"):
            loss = sum(FOCAL(net, batch).values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    whole_step()
    moments = [m for state in optimizer.state.values() for m in state.values()]
    kept = sum(local(tensor) for tensor in [*net.parameters(), *moments])
    cpu = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[cpu], profile_memory=True) as profile:
        whole_step()
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return int(kept + max(np.cumsum([change for _, change in changes])))


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("name", "count", "side"), [("tiny", 3, 160), ("xtiny_448", 1, 224)])
def test_estimate_and_allocator(precision, checkpointing, name, count, side):
    cfg = TrainConfig(precision=precision, checkpointing=checkpointing)
    batch = pictures(count, side)
    guess = estimate_memory(TrimapModel(preset(name)), FOCAL, batch, cfg)
    assert guess["total"] == pytest.approx(measured(cfg, batch, name), rel=0.15)
    assert guess["total"] <= sum(size for part, size in guess.items() if part != "total")


def test_slices(tmp_path):
    cfg, batch = TrainConfig(shard=True), pictures(1, 96)
    guess = estimate_memory(TrimapModel(preset("xtiny_448")), FOCAL, batch, cfg, processes=2)
    found = launch(measured, (cfg, batch, "xtiny_448"), processes=2)
    assert guess["total"] == pytest.approx(found, rel=0.25)
    alone = estimate_memory(TrimapModel(preset("xtiny_448")), FOCAL, batch, TrainConfig())
    assert guess["moments"] == alone["moments"] // 2 and guess["total"] < alone["total"]


def test_the_largest_network_is_only_imagined():
    process = psutil.Process()
    before = process.memory_info().rss
    with FakeTensorMode():
        net = TrimapModel(preset("huge_448"))
    cfg = TrainConfig(precision="bf16", ema=0.99)
    plain = estimate_memory(net, FOCAL, pictures(1, 448), cfg)
    assert process.memory_info().rss - before < 2**30 < plain["weights"]
    assert plain["weights"] == plain["average"] == 4 * sum(p.numel() for p in net.parameters())
    assert plain["moments"] == 2 * plain["gradients"]
    again = TrainConfig(precision="bf16", ema=0.99, checkpointing=True)
    less = estimate_memory(net, FOCAL, pictures(2, 448), again)
    more = estimate_memory(net, FOCAL, pictures(2, 448), cfg)
    assert less["activations"] < 0.7 * more["activations"]


def test_processes_can_be_started_afterwards():
    code = """if True:
        import torch
        from seglab.launch import launch
        from seglab.memory import estimate_memory
        from seglab.train import TrainConfig
        net = torch.nn.Linear(2, 2)
        step = lambda net, batch: dict(x=net(batch["x"]).sum())
        estimate_memory(net, step, dict(x=torch.rand(1, 2)), TrainConfig())
        print(launch(lambda: net(torch.rand(1, 2)).sum().backward(), processes=2))
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "None", done.stderr


def test_what_the_average_buckets_and_accumulation_add():
    net, batch = TrimapModel(preset("tiny")), pictures(1, 96)
    one, average, two, more = (
        estimate_memory(net, FOCAL, batch, cfg, processes)["total"]
        for cfg, processes in (
            (TrainConfig(), 1),
            (TrainConfig(ema=0.9), 1),
            (TrainConfig(), 2),
            (TrainConfig(accumulate=3), 1),
        )
    )
    weights = sum(p.nbytes for p in net.parameters())
    assert average - one == two - one == weights
    assert 0.5 * weights < more - one <= weights
    assert all(p.grad is None and p._post_accumulate_grad_hooks is None for p in net.parameters())


def test_an_example_of_a_batch():
    loader = build_loaders(FitConfig(side=64, batch_size=8))[0]
    batch = example_batch(loader, processes=2)
    assert batch["image"].shape == (4, 3, 64, 64) and len(batch["name"]) == 4
    assert example_batch(DataLoader(torch.arange(9), batch_size=5), 3).shape == (2,)


def test_too_much_is_said(capsys):
    announce_memory(dict(weights=2**20, total=2**20))
    assert "weights 0.00" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="needs about 1048576.0 GB.*use checkpointing"):
        announce_memory(dict(total=2**50))


def test_the_config_of_the_largest_network(repository):
    experiments = repository / "nbs" / "experiments"
    file = experiments / "configs" / "trimap_huge.yaml"
    asked = fill_parameters(FitConfig, [file])
    assert asked.preset_name == "huge_448" and asked.shard and asked.checkpointing
    assert fit_values(read_values(file), read_parameters(experiments / "trimap_train.ipynb"))


def test_the_place_of_a_forgotten_network_is_counted_all_the_same():
    for _ in range(20):
        with Watch(nn.Linear(30, 30)) as watch:
            held = [torch.zeros(900), torch.zeros(30)]
        assert watch.now == watch.peak == 4 * 930
        del held
