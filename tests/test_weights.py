"Where a file is: paths, names, downloads, and what happens offline."

import io
import time
import urllib.request
from email.message import Message
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from seglab import weights
from seglab.core import ConfigError
from seglab.trimap.pretrained import WEIGHTS as KNOWN
from seglab.trimap.pretrained import from_mae
from seglab.weights import WeightsUnavailable, locate


class Answer(io.BytesIO):
    "What a server sends, and how much it announced."

    def __init__(self, content: bytes, announced: int | None = None):
        super().__init__(content)
        self.headers = Message()
        if announced is not None:
            self.headers["Content-Length"] = str(announced)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    "torch's folder of downloads, elsewhere, with no network behind it."
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))

    def refuse(request, timeout):
        raise AssertionError("nobody may ask the network here")

    monkeypatch.setattr(weights, "urlopen", refuse)
    return tmp_path / "hub" / "checkpoints"


def test_a_path_stays_a_path(cache: Path, tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "mae_base"
    file.touch()
    assert locate(str(file), KNOWN) == locate(file, KNOWN) == file
    monkeypatch.chdir(tmp_path)
    assert locate("mae_base", KNOWN).samefile(file), "a file goes before a name"
    for absent in ("weights/mae_base", "x.pth", Path("other") / "y", "http://x.org/y.pth"):
        with pytest.raises(FileNotFoundError, match="no such file"):
            locate(absent, KNOWN)
    with pytest.raises(ConfigError, match="did you mean 'mae_large'"):
        locate("mae_larg", KNOWN)


@pytest.mark.parametrize("announced", [5, None])
def test_a_download_is_kept_and_asked_for_once(cache, monkeypatch, announced) -> None:
    asked = []

    def answer(request, timeout):
        asked.append(request.full_url)
        return Answer(b"12345", announced)

    monkeypatch.setattr(weights, "urlopen", answer)
    for _ in range(2):
        file = locate("mae_huge", KNOWN)
        assert file == cache / "mae_pretrain_vit_huge.pth" and file.read_bytes() == b"12345"
    address = "https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_huge.pth"
    assert asked == [address]
    assert locate(address, KNOWN) == file and asked == [address]
    locate("https://x.org/some/other.pth?download=1", KNOWN)
    assert {path.name for path in cache.iterdir()} == {file.name, "other.pth"}


def test_a_broken_download_leaves_nothing(cache, monkeypatch) -> None:
    monkeypatch.setattr(weights, "urlopen", lambda request, timeout: Answer(b"123", 5))
    with pytest.raises(WeightsUnavailable, match="only 3 of 5 bytes"):
        locate("mae_base", KNOWN)
    assert not any(cache.iterdir())


@pytest.mark.parametrize("symptom", ["refused", "silent", "slow socket"])
def test_offline_says_so_at_once_and_what_to_do(cache, monkeypatch, symptom: str) -> None:
    def fail(request, timeout):
        if symptom == "silent":  # as a name server that does not answer
            time.sleep(4)
        raise URLError("unknown name") if symptom == "refused" else TimeoutError()

    monkeypatch.setattr(weights, "urlopen", fail)
    start = time.monotonic()
    with pytest.raises(WeightsUnavailable) as problem:
        locate("mae_base", KNOWN)
    assert time.monotonic() - start < 2
    assert isinstance(problem.value, OSError)
    message = str(problem.value)
    assert KNOWN["mae_base"] in message
    assert f"put it at {cache / 'mae_pretrain_vit_base.pth'}" in message
    assert ("unknown name" if symptom == "refused" else "no answer") in message


def test_a_server_that_does_not_exist(cache, monkeypatch) -> None:
    "The real opener: below `invalid` there is no server, with or without a network."
    monkeypatch.setattr(weights, "urlopen", urllib.request.urlopen)
    start = time.monotonic()
    with pytest.raises(WeightsUnavailable, match="put it at"):
        locate("https://weights.invalid/mae.pth", KNOWN)
    assert time.monotonic() - start < 2


def test_a_loader_says_the_same(cache, monkeypatch) -> None:
    def fail(request, timeout):
        raise URLError("unknown name")

    monkeypatch.setattr(weights, "urlopen", fail)
    with pytest.raises(WeightsUnavailable, match="put it at .*mae_pretrain_vit_base.pth"):
        from_mae("mae_base")
