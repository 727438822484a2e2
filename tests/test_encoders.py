"Encoders: maps of the wanted strides, weights from files and from nowhere."

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from seglab.checkpoints import CheckpointError
from seglab.core import ConfigError
from seglab.encoders import Encoder, encoder
from seglab.weights import WeightsUnavailable


@pytest.mark.parametrize(
    "name", ["cs3darknet_s", "resnet18", "mobilenetv3_small_050", "hrnet_w18_small"]
)
@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (8, 32)])
def test_maps_have_the_wanted_strides_and_channels(name: str, strides: tuple[int, ...]) -> None:
    net = encoder(name, strides).eval()
    with torch.inference_mode():
        maps = net(torch.rand(2, 3, 64, 96))
    assert net.strides == strides
    wanted = [(2, c, 64 // s, 96 // s) for c, s in zip(net.channels, strides, strict=True)]
    assert [tuple(x.shape) for x in maps] == wanted


def test_layers_behind_the_last_map_are_dropped() -> None:
    net = encoder("resnet18", (4, 8))
    sum(x.square().mean() for x in net(torch.rand(2, 3, 64, 64))).backward()
    assert all(weight.grad is not None for weight in net.parameters())


def test_colours_are_prepared_inside_and_not_kept() -> None:
    net = Encoder(lambda x: [x], (3,), (1,), mean=(0.5, 0.4, 0.3), spread=(0.5, 0.2, 0.1))
    grey = torch.full((1, 3, 2, 2), 0.5)
    assert torch.allclose(net(grey)[0][0, :, 0, 0], torch.tensor([0.0, 0.5, 2.0]))
    assert not net.state_dict()
    assert encoder("inception_v4", (8,)).mean.flatten().tolist() == [0.5, 0.5, 0.5]


def test_a_picture_of_four_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="image: axis 3 must be 3"):
        encoder("resnet18", (8,))(torch.rand(1, 4, 64, 64))


def test_the_same_seed_gives_the_same_weights() -> None:
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        nets.append(encoder("resnet18", (8,)))
    pairs = zip(nets[0].parameters(), nets[1].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_unknown_names_and_strides_are_refused_in_words() -> None:
    with pytest.raises(ConfigError, match=r"unknown encoder 'resnet_18': did you mean one of resn"):
        encoder("resnet_18")
    with pytest.raises(
        ConfigError, match="resnet18 has no map of stride 1, 64; it has 2, 4, 8, 16, 32"
    ):
        encoder("resnet18", (1, 8, 64))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_come_from_a_file(tmp_path: Path, suffix: str) -> None:
    whole, path = timm.create_model("resnet18").eval(), tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(whole.state_dict(), path)
    net, image = encoder("resnet18", (32,), path).eval(), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        wanted = whole.forward_features((image - net.mean) / net.spread)
        assert torch.equal(net(image)[0], wanted)


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def test_unfit_files_are_refused_in_words(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.pth: no such file of weights"):
        encoder("resnet18", pretrained=tmp_path / "nowhere.pth")
    for name, content in dict(code=Evil(), other=dict(colour=torch.zeros(3))).items():
        torch.save(content, tmp_path / f"{name}.pth")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    for name in ("code.pth", "torn.safetensors"):
        with pytest.raises(CheckpointError, match=f"{name}: cannot be read as plain weights"):
            encoder("resnet18", pretrained=tmp_path / name)
    with pytest.raises(
        CheckpointError, match="120 of the 120 of resnet18 are missing, first conv1"
    ):
        encoder("resnet18", pretrained=tmp_path / "other.pth")
    assert capfd.readouterr().err == ""


def test_without_published_weights_the_error_says_so() -> None:
    with pytest.raises(WeightsUnavailable, match="cs3darknet_s: timm offers no weights for it"):
        encoder("cs3darknet_s", pretrained="timm")


SCRIPT = """
import time
from seglab.encoders import encoder
started = time.perf_counter()
try:
    encoder("resnet18", pretrained="timm")
except OSError as problem:
    print(type(problem).__name__, problem)
print(time.perf_counter() - started)
"""


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_silent_hub_is_given_up_within_two_seconds(tmp_path: Path, offline: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and never answers
        settings = dict(HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")
        settings |= dict(HF_HUB_OFFLINE=offline, HF_HOME=str(tmp_path))
        command = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    said, seconds = done.stdout.strip().rsplit("\n", 1)
    assert float(seconds) < 2
    parts = [
        "WeightsUnavailable resnet18",
        "repository timm/resnet18",
        "/model.safetensors on anot",
    ]
    assert all(part in said for part in [*parts, "give its path", "random weights"]), said
