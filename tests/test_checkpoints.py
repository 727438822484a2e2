"What a checkpoint must survive, and what it must refuse."

import enum
import json
import os
import pickle
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from seglab.checkpoints import (
    CheckpointError,
    StandIn,
    fill,
    load,
    load_weights,
    read_header,
    read_pickle,
    save,
)

HERE = [__name__.split(".")[0]]  # the package that the toy networks below live in


@dataclass(frozen=True)
class Part:
    channels: int = 4
    strides: tuple[tuple[int, int], ...] = ((1, 2), (2, 2))


@dataclass(frozen=True)
class Config:
    part: Part = Part()
    name: str = "toy"
    bias: bool = True
    limit: float | None = None


class Toy(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        if config.part.channels < 1:
            raise ValueError("channels must be at least 1")
        self.config = config
        self.conv = nn.Conv2d(3, config.part.channels, 3, bias=config.bias)
        self.norm = nn.BatchNorm2d(config.part.channels)


class Tied(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight


def rewrite(path, **changes):
    "The same tensors under a header somebody tampered with."
    header = read_header(path) | changes
    save_file(Toy(Config()).state_dict(), path, {"seglab": json.dumps(header)})


def test_everything_comes_back(tmp_path):
    net = Toy(Config(Part(6, ((1, 1),)), "other", bias=False, limit=0.5))
    net.norm(torch.rand(2, 6, 4, 4))  # running statistics are state as well
    file = save(net, tmp_path / "deep" / "net.safetensors", notes=dict(epoch=2))
    again = load(file, packages=HERE)
    assert again.config == net.config and not again.training
    assert all(
        torch.equal(a, b)
        for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert read_header(file)["notes"] == dict(epoch=2)


def test_loading_draws_no_random_numbers(tmp_path):
    file = save(Toy(Config()), tmp_path / "net.safetensors")
    before = torch.get_rng_state()
    load(file, packages=HERE)
    assert torch.equal(before, torch.get_rng_state())


def test_tied_weights_and_views_are_saved(tmp_path):
    net = Tied(Config())
    again = load(save(net, tmp_path / "tied.safetensors"), packages=HERE)
    assert torch.equal(again.second.weight, net.first.weight)
    assert again.second.weight is again.first.weight


def test_a_failed_save_keeps_the_old_file(tmp_path):
    file = save(Toy(Config()), tmp_path / "net.safetensors")
    old = file.read_bytes()
    net = Toy(Config())
    net.config = Config(name={1, 2})
    with pytest.raises(CheckpointError, match="does not fit into JSON"):
        save(net, file)
    net.config = Config(limit=[1.0])  # a list would come back as a tuple
    with pytest.raises(CheckpointError, match="come back changed"):
        save(net, file)
    assert file.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_torn_files_are_named(tmp_path, keep):
    file = save(Toy(Config()), tmp_path / "net.safetensors")
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="net.safetensors: not a whole"):
        load(file, packages=HERE)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(tmp_path / "nowhere.safetensors")
    (tmp_path / "photo.safetensors").write_bytes(os.urandom(5000))
    with pytest.raises(CheckpointError, match="photo.safetensors"):
        load(tmp_path / "photo.safetensors")
    torch.save(dict(a=torch.ones(1)), tmp_path / "torch.safetensors")
    with pytest.raises(CheckpointError, match="read_pickle"):
        load(tmp_path / "torch.safetensors")
    save_file(dict(a=torch.ones(1)), tmp_path / "plain.safetensors")
    with pytest.raises(CheckpointError, match="no plan"):
        load(tmp_path / "plain.safetensors")


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(model="os.system"), "not in seglab"),
        (dict(model="seglab.checkpoints.json"), "not a class defined there"),
        (dict(model="seglab.checkpoints.Path"), "not a class defined there"),
        (dict(model="seglab.checkpoints.StandIn"), "not a network"),
        (dict(model="seglab.nowhere.Model"), "there is no seglab.nowhere.Model"),
        (dict(model="seglab.checkpoints.Nothing"), "there is no"),
        (dict(model="seglab_evil.Model"), "not in seglab"),
        (dict(model=""), "not in seglab"),
        (dict(config=dict(naem="x")), "did you mean 'name'"),
        (dict(config=dict(part=dict(channels=0))), "channels must be at least 1"),
        (dict(format=99), "newer"),
    ],
)
def test_a_tampered_plan_builds_nothing(tmp_path, changes, words):
    file = save(Toy(Config()), tmp_path / "net.safetensors")
    rewrite(file, **changes)
    with pytest.raises(CheckpointError, match=words):
        load(file, packages=["seglab", *HERE])


def test_seglab_alone_is_trusted(tmp_path):
    with pytest.raises(CheckpointError, match="asks for .*Toy, which is not in seglab"):
        load(save(Toy(Config()), tmp_path / "net.safetensors"))


def test_an_older_file_takes_new_defaults(tmp_path):
    file = save(Toy(Config()), tmp_path / "net.safetensors")
    rewrite(file, config=dict(name="old"))
    assert load(file, packages=HERE).config == Config(name="old")


def test_weights_without_a_config(tmp_path):
    net = nn.Linear(2, 2)
    file = save(net, tmp_path / "linear.safetensors")
    with pytest.raises(CheckpointError, match="weights without a config"):
        load(file, packages=["torch"])
    other = nn.Linear(2, 2)
    load_weights(other, file)
    assert torch.equal(other.weight, net.weight)


def test_fill_lists_every_kind_of_misfit():
    net = nn.Linear(2, 2)
    with pytest.raises(CheckpointError) as caught:
        fill(net, dict(weight=torch.ones(3, 2), scale=torch.ones(1)), "somewhere")
    for words in (
        "somewhere",
        "1 missing: bias",
        "1 unexpected: scale",
        "weight (3, 2) instead of (2, 2)",
    ):
        assert words in str(caught.value)


def test_long_lists_are_cut():
    net = nn.Sequential(*(nn.Linear(1, 1) for _ in range(30)))
    with pytest.raises(CheckpointError, match="60 missing: .* and 40 more"):
        fill(net, {}, "empty")


class Evil:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("call", [os.system, eval, getattr, __import__, exec])
def test_a_malicious_pickle_does_nothing(tmp_path, call, zipped):
    proof = tmp_path / "proof"
    words = f"touch {proof}" if call is os.system else f"open({str(proof)!r}, 'w')"
    arguments = (dict(), "keys") if call is getattr else (words,)
    file = tmp_path / "evil.pth"
    torch.save(
        dict(a=torch.ones(2), b=Evil(call, *arguments)), file, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(CheckpointError, match=f"evil.pth: refused, it wants .*{call.__name__}"):
        read_pickle(file, {"somebody.Else": StandIn})
    assert not proof.exists()


class Kind(enum.Enum):
    POINT = "point"


def test_an_enum_needs_its_class_and_its_call(tmp_path):
    torch.save(Kind.POINT, tmp_path / "enum.pth")
    name = f"{Kind.__module__}.Kind"
    # Python up to 3.10 and from 3.12 writes Kind("point"), 3.11 writes getattr(Kind, "POINT")
    value = read_pickle(tmp_path / "enum.pth", {name: StandIn, "builtins.getattr": StandIn})
    assert value.arguments in (("point",), (StandIn, "POINT"))


def test_os_cannot_be_allowed(tmp_path):
    torch.save(Evil(os.system, f"touch {tmp_path / 'proof'}"), tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="refused"):
        read_pickle(tmp_path / "evil.pth", {"posix.system": StandIn})
    assert not (tmp_path / "proof").exists()


@pytest.mark.filterwarnings("ignore")  # TorchScript itself is deprecated; its files are not gone
def test_torchscript_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(CheckpointError, match="script.pt"):
        read_pickle(tmp_path / "script.pt")


def test_allowing_a_name_lasts_for_one_call(tmp_path):
    torch.save(Evil(Toy, "x"), tmp_path / "foreign.pth")
    name = f"{Toy.__module__}.Toy"
    assert read_pickle(tmp_path / "foreign.pth", {name: StandIn}).arguments == ("x",)
    with pytest.raises(CheckpointError, match="refused"):
        read_pickle(tmp_path / "foreign.pth")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_damaged_pickles_are_named(tmp_path):
    torch.save(dict(a=torch.rand(1000)), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for content in (b"", b"hello", whole[:2000], whole[100:], pickle.dumps([1])[:-1]):
        (tmp_path / "torn.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match="torn.pth: not a readable torch file"):
            read_pickle(tmp_path / "torn.pth")
    with pytest.raises(FileNotFoundError):
        read_pickle(tmp_path / "nowhere.pth")
