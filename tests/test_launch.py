"Several processes: they are as many as asked for, learn what one learns, and tell what went wrong."

import gc
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from torch import distributed, nn

from seglab import launch as page
from seglab.core import IGNORE, ConfigError
from seglab.launch import (
    ProcessError,
    agree,
    fill_parameters,
    find_function,
    launch,
    main,
    together,
)
from seglab.losses import batch_mean, softmax_focal_loss, trimap_loss

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Asked:
    rate: float = 0.5
    steps: int = 3
    name: str = "x"


def report(asked: Asked):
    "A function that can be named on a command line."
    return dict(asked=vars(asked), processes=PartialState().num_processes)


def plain(rate):
    "A function that cannot."
    return rate


@dataclass(frozen=True)
class Needs:
    folder: str


def needs(asked: Needs):
    return asked.folder


def command_line(launcher, *words, **environment):
    "Run a command line with this folder on the path."
    environment = dict(PYTHONPATH=str(HERE), OMP_NUM_THREADS="1") | environment
    command = [sys.executable, "-m", *launcher.split(), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    return done.returncode, done.stdout, done.stderr


TWO = "torch.distributed.run --standalone --nproc_per_node 2 -m seglab.launch"


@pytest.mark.parametrize("processes", [1, 2])
def test_the_value_is_that_of_process_0(processes):
    values = [dict(a=[1, 2.5, "x", None, True], b=(torch.arange(3),))]
    (answer,) = launch(lambda x: [x, 0][PartialState().process_index : 1], (values[0],), processes)
    assert answer["a"] == values[0]["a"] and torch.equal(answer["b"][0], torch.arange(3))


def test_functions_of_a_cell_threads_and_arguments():
    torch.set_num_threads(4)
    big = torch.rand(900, 900, requires_grad=True)
    (big @ big).sum().backward()  # fills the pool of threads that a fork copies badly

    def inside(weight):
        product = (weight @ big).sum()
        product.backward()
        return product.item(), torch.get_num_threads(), agree(PartialState().process_index)

    expected = (big @ big).sum().item()
    product, threads, who = launch(inside, [big], processes=2)
    assert product == pytest.approx(expected, rel=1e-4) and (threads, who) == (2, 0)
    assert torch.get_num_threads() == 4


def test_the_first_error_reaches_the_user(capfd):
    def fails(process):
        if PartialState().process_index == process:
            raise KeyError("no such picture")
        distributed.barrier()  # the others see their connection break

    for process in range(2):
        with pytest.raises(ProcessError, match=f"process {process} of 2: KeyError: 'no such pict"):
            launch(fails, (process,), processes=2)
    with pytest.raises(ProcessError) as caught:
        launch(fails, (1,), processes=2)
    assert "in fails" in caught.value.__notes__[0], "the traceback of the process is kept"
    printed = "".join(capfd.readouterr())
    assert "Launching" not in printed and "Traceback" not in printed


def test_a_process_that_is_killed():
    def die():
        if PartialState().process_index:
            os.kill(os.getpid(), signal.SIGKILL)
        distributed.barrier()

    with pytest.raises(ProcessError, match="SIGKILL.*memory|Connection"):
        launch(die, processes=2)


def test_a_forgotten_connection_is_not_cleared_away_in_a_copy_of_this_process():
    def forget():
        store = distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        circle = [store]
        circle.append(circle)  # only the garbage collector finds it

    def give_up(*_):
        raise TimeoutError("a process waits for a thread that was not forked")

    gc.disable()
    forget()
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        assert launch(gc.collect, processes=2) >= 0
    finally:
        signal.alarm(0)
        gc.enable()


def test_unconnected_processes_are_found(monkeypatch):
    monkeypatch.setattr(
        page, "PartialState", lambda cpu: PartialState()
    )  # as if `cpu=` was left out
    if torch.cuda.is_available():
        pytest.skip("with a GPU, nobody needs to say cpu=True")
    with pytest.raises(ProcessError, match="asked for 2 processes, but this is one of 1"):
        launch(lambda: None, processes=2)


def test_a_gpu_that_was_touched_before(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(ConfigError, match="Restart the kernel"), together(2):
        pass
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(ConfigError, match="uses the GPU already.*Restart the kernel"):
        launch(plain, (1,), processes=2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match="3 need a GPU each, this machine has 2"):
        launch(plain, (1,), processes=3)


def test_asking_for_a_device_touches_no_gpu():
    code = "import seglab.core, torch; seglab.core.pick_device(); import os; r, w = os.pipe()\n"
    code += "if os.fork() == 0: os._exit(int(torch.cuda._is_in_bad_fork()))\n"
    code += "print(os.waitstatus_to_exitcode(os.wait()[1]))"
    environment = {k: v for k, v in os.environ.items() if k != "PYTORCH_NVML_BASED_CUDA_CHECK"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    if not torch.cuda.device_count():
        pytest.skip("without a driver PyTorch falls back to the question that touches the GPU")
    assert done.stdout.strip() == "0", done.stderr


def test_an_earlier_accelerator_is_no_obstacle():
    Accelerator(cpu=True)
    assert launch(lambda: PartialState().num_processes, processes=2) == 2
    assert launch(lambda: PartialState(cpu=True).num_processes, processes=1) == 1


def test_wrong_calls():
    for bad, words in (
        (dict(fn=3), "needs a function, got 3"),
        (dict(fn=plain), "plain cannot be called with"),
        (dict(fn=plain, args=(1, 2)), "plain cannot be called with"),
        (dict(fn=plain, args=(1,), processes=0), "from 1 on, got 0"),
        (dict(fn=plain, args=(1,), processes=None), "from 1 on, got None"),
    ):
        with pytest.raises(ConfigError, match=words):
            launch(**bad)

    def again():
        return launch(plain, (1,), processes=2)

    with pytest.raises(ProcessError, match="one of several processes already"):
        launch(again, processes=2)
    for processes, error in ((1, TypeError), (2, ProcessError)):
        with pytest.raises(error, match="must be made of tensors, numbers"):
            launch(lambda: {Path("x")}, processes=processes)


def test_the_kernel_is_as_it_was():
    handlers = [signal.getsignal(number) for number in page.HANDLED]
    out = sys.stdout
    launch(lambda: None, processes=2)
    assert handlers == [signal.getsignal(number) for number in page.HANDLED] and sys.stdout is out
    assert "RANK" not in os.environ and "WORLD_SIZE" not in os.environ


def test_functions_by_name(tmp_path):
    fn, kind = find_function(f"{__name__}:report")
    assert fn is report and kind is Asked
    for where, words in (
        ("report", "module:function"),
        ("seglab.trimp.task:fit", "cannot import seglab.trimp"),
        (f"{__name__}:reprot", "did you mean 'report'"),
        (f"{__name__}:plain", "takes .rate., needed is one dataclass"),
        ("os:system", "unknown function of os"),
    ):
        with pytest.raises(ConfigError, match=words):
            find_function(where)
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("rate: 1e-4\nsteps: 5\n")
    second.write_text("steps: 6\nname: 007\n")
    assert fill_parameters(Asked, [first, second], dict(name="008")) == Asked(1e-4, 6, "008")
    for bad, words in (
        (dict(step=1), "did you mean 'steps'"),
        (dict(steps="2.5"), "'steps' must be int"),
    ):
        with pytest.raises(ConfigError, match=words):
            fill_parameters(Asked, given=bad)
    with pytest.raises(ConfigError, match="every parameter needs a default"):
        fill_parameters(Needs)


def test_wrong_command_lines(capsys, monkeypatch, tmp_path):
    assert main([f"{__name__}:report", "-p", "step", "3"]) == 2
    assert "did you mean 'steps'" in capsys.readouterr().err
    assert main([f"{__name__}:report", "--params", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")  # what `accelerate launch --cpu` leaves behind
    assert main([f"{__name__}:report"]) == 2
    assert "started one" in capsys.readouterr().err


def test_torchrun_and_accelerate_launch(tmp_path):
    (tmp_path / "run.yaml").write_text("steps: 7")
    words = [f"{__name__}:report", "--params", tmp_path / "run.yaml", "-p", "rate", "2"]
    wanted = dict(asked=dict(rate=2.0, steps=7, name="x"), processes=2)
    accelerate = "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1"
    accelerate += " --mixed_precision no --dynamo_backend no --main_process_port 0 -m seglab.launch"
    for launcher in (TWO, accelerate):
        code, out, err = command_line(launcher, *words)
        assert code == 0, err
        assert json.loads(out) == wanted, "one line, by process 0"
    code, out, err = command_line(TWO, words[0], "-p", "step", "3")
    assert code != 0 and "did you mean 'steps'" in err


def halves():
    "Eight pictures of which the second half is mostly padding, and a network of one convolution."
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(8, 3, 6, 6, generator=generator)
    trimap = torch.randint(0, 3, (8, 1, 6, 6), generator=generator).to(torch.uint8)
    trimap[4:, :, 1:] = IGNORE
    torch.manual_seed(3)
    return image, trimap, nn.Conv2d(3, 3, 3, padding=1)


def gradients(loss, cut=4):
    "Loss and gradient of the global batch: all of it, or the part of this process, averaged."
    image, trimap, net = halves()
    count = distributed.get_world_size() if distributed.is_initialized() else 1
    if count > 1:
        part = slice(0, cut) if distributed.get_rank() == 0 else slice(cut, None)
        image, trimap = image[part], trimap[part]
        net = nn.parallel.DistributedDataParallel(net)
    value = loss(net(image), trimap)
    value.backward()
    with torch.no_grad():  # a score is each process's own business
        assert loss(net(image), trimap).isfinite()
        distributed.barrier() if count > 1 else None
    return [value.detach(), *(parameter.grad for parameter in net.parameters())]


LOSSES = dict(
    detached=lambda logits, trimap: softmax_focal_loss(logits, trimap, detach=True),
    attached=lambda logits, trimap: softmax_focal_loss(logits, trimap, detach=False),
    entropy=lambda logits, trimap: softmax_focal_loss(logits, trimap, gamma=0),
    both=lambda logits, trimap: sum(trimap_loss(logits, trimap).values()),
    mean=lambda logits, trimap: batch_mean(logits.square().mean(dim=(1, 2, 3))),
)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_the_global_batch(name):
    whole = gradients(LOSSES[name])
    for cut in (4, 5):  # pictures of the first process
        for one, two in zip(whole, launch(gradients, (LOSSES[name], cut), 2), strict=True):
            assert torch.allclose(one, two, rtol=1e-4, atol=1e-6), cut
