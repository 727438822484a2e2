"Published SegFormers become ours with the same answers; what does not fit is refused in words."

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torchvision.transforms.v2.functional as tv
import transformers
from safetensors.torch import load_file
from skimage.data import coffee
from torch import nn
from transformers import (
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
    SegformerModel,
)

from seglab.checkpoints import CheckpointError, load, save
from seglab.trimap.model import TrimapModel
from seglab.trimap.model import preset as trimap_preset
from seglab.walls import pretrained
from seglab.walls.labels import ADE20K
from seglab.walls.model import WallsModel, preset
from seglab.walls.pretrained import from_segformer, open_network
from seglab.weights import WeightsUnavailable

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
OLD = {  # as the files of the hub are named
    "attention.self.query.", "attention.self.sr.", "attention.self.layer_norm.",
    "attention.output.dense.", "mlp.dense1.", "layer_norm_2.", "encoder.patch_embeddings.3.proj.",
    "encoder.block.2.0.", "encoder.layer_norm.1.", "decode_head.linear_c.0.proj.",
}  # fmt: skip


def publish(folder: Path, kind: type = SegformerForSemanticSegmentation) -> nn.Module:
    "A network with no weight at its start value, written by its own library."
    torch.manual_seed(0)
    config = WallsModel(preset("tiny")).net.config
    config.id2label = {n: f"{name} " if name == "bed" else name for n, name in enumerate(ADE20K)}
    net = kind(config)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and "norm" not in name:
            nn.init.normal_(tensor, std=0.1)
        elif "var" in name or ("norm" in name and "weight" in name):
            nn.init.uniform_(tensor, 0.5, 1.5)
    net.eval().save_pretrained(folder)
    return net


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("published")
    publish(place)
    return place


@pytest.fixture(scope="module")
def published(folder: Path) -> nn.Module:
    return SegformerForSemanticSegmentation.from_pretrained(folder, local_files_only=True).eval()


def change(folder: Path, target: Path, **values: object) -> Path:
    "A copy of a published folder with other values in its config; None takes one away."
    content = json.loads((folder / "config.json").read_text()) | values
    content = {name: value for name, value in content.items() if value is not None}
    (target / "config.json").write_text(json.dumps(content))
    (target / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    return target


def test_the_answers_are_the_same(folder: Path, published: nn.Module) -> None:
    ours = from_segformer(folder)
    for name, tensor in ours.net.state_dict().items():
        assert torch.equal(tensor, published.state_dict()[name]), name
    image = torch.rand(1, 3, 70, 96)
    with torch.no_grad():
        wanted = published((image - ours.mean) / ours.spread).logits
        torch.testing.assert_close(ours(image), wanted, rtol=1e-5, atol=1e-5)
    assert wanted.std() > 0.1 and not ours.training
    assert ours.origin == f"{folder}: SegFormer weights. Fresh: nothing. Left out: nothing."


def test_the_label_map_of_a_photograph_is_the_same(folder: Path, published: nn.Module) -> None:
    photo = torch.from_numpy(coffee()).permute(2, 0, 1)
    processor = SegformerImageProcessor(size=dict(height=512, width=512), do_reduce_labels=False)
    with torch.no_grad():
        theirs = published(**processor(photo, return_tensors="pt"))
        ours = from_segformer(folder)(tv.resize(photo, [512, 512])[None] / 255)
    wanted = processor.post_process_semantic_segmentation(theirs, [photo.shape[-2:]])[0]
    found = tv.resize(ours, photo.shape[-2:], antialias=False)[0].argmax(dim=0)
    assert len(wanted.unique()) > 3
    assert (found == wanted).float().mean() > 0.9999  # ties are decided by rounding


def test_old_names_and_pickles_are_read(folder: Path, published: nn.Module, tmp_path) -> None:
    state = load_file(folder / "model.safetensors")
    assert all(any(old in name for name in state) for old in OLD), "the library writes old names"
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    for names in (state, published.state_dict()):  # old ones and present ones
        torch.save(dict(names), tmp_path / "pytorch_model.bin")
        again = from_segformer(str(tmp_path)).net.state_dict()
        assert all(torch.equal(x, again[name]) for name, x in published.state_dict().items())


def test_names_are_cleaned_and_kept_in_our_checkpoint(folder: Path, tmp_path: Path) -> None:
    net = from_segformer(folder)
    assert net.config == preset("tiny").__class__(**(vars(preset("tiny")) | dict(side=512)))
    assert net.config.names == ADE20K
    assert load(save(net, tmp_path / "x.safetensors")).config == net.config


def test_other_names_get_a_fresh_last_layer(folder: Path, published: nn.Module) -> None:
    seven = ("door", "shop", "balcony", "window", "wall", "sky", "roof")
    net = from_segformer(folder, seven)
    assert net.config.names == seven and net.net.decode_head.classifier.out_channels == 7
    assert "Fresh: decode_head.classifier. Left out: decode_head.classifier." in net.origin
    for name, tensor in published.state_dict().items():
        if not name.startswith("decode_head.classifier."):
            assert torch.equal(net.net.state_dict()[name], tensor)
    same = from_segformer(folder, [name.upper() for name in ADE20K])  # only written differently
    head = published.decode_head.classifier.weight
    assert torch.equal(same.net.decode_head.classifier.weight, head)
    reordered = from_segformer(folder, ADE20K[::-1])
    assert not torch.equal(reordered.net.decode_head.classifier.weight, head)


@pytest.mark.parametrize("labels", [None, {n: f"LABEL_{n}" for n in range(150)}])
def test_a_file_without_names_may_be_given_them(folder: Path, tmp_path, labels) -> None:
    change(folder, tmp_path, id2label=labels)
    net = from_segformer(tmp_path, ADE20K)
    assert net.config.names == ADE20K and "Fresh: nothing" in net.origin
    assert from_segformer(tmp_path).config.names[0] == ("LABEL_0" if labels else "wall")


@pytest.mark.parametrize("kind", [SegformerForImageClassification, SegformerModel])
def test_an_encoder_alone_gets_a_fresh_head(kind: type, tmp_path: Path) -> None:
    theirs = publish(tmp_path, kind)
    net = from_segformer(tmp_path)
    encoder = getattr(theirs, "segformer", theirs).state_dict()
    for name, tensor in net.net.segformer.state_dict().items():
        assert torch.equal(tensor, encoder[name]), name
    assert net.config.names == ADE20K and "Fresh: decode_head. " in net.origin
    assert ("classifier.weight" in net.origin) == (kind is SegformerForImageClassification)


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    wrong = {
        "150 outputs, but its config has 2 names": dict(id2label={0: "wall", 1: "other"}),
        "this is a mask2former model": dict(model_type="mask2former"),
        "this is a nameless model": dict(model_type=None),
        "unusual SegFormer.*patch_sizes": dict(patch_sizes=[7, 7, 3, 3]),
        "sizes or names make no sense": dict(num_attention_heads=[1, 2, 5, 7]),
        "missing: segformer.stages.0.blocks.1.*of another shape": dict(
            depths=[2, 1, 1, 1], decoder_hidden_size=64
        ),
    }
    for words, values in wrong.items():
        with pytest.raises(CheckpointError, match=words):
            from_segformer(change(folder, tmp_path, **values))
    change(folder, tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="model.safetensors: not a whole safetensors file"):
        from_segformer(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"conv1.weight": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(
        CheckpointError, match="no weights of a SegFormer; first are .'conv1.weight"
    ):
        from_segformer(tmp_path)
    torch.save([1, 2], tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="holds no tensors by name"):
        from_segformer(tmp_path)
    (tmp_path / "config.json").write_text("<html>")
    with pytest.raises(CheckpointError, match="config.json: not a config"):
        from_segformer(tmp_path)


class Trap:
    def __reduce__(self):
        return os.system, ("touch trapped",)


def test_nothing_in_a_pickle_is_run(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save(dict(trap=Trap()), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="refused, it wants"):
        from_segformer(tmp_path)
    assert not (tmp_path / "trapped").exists()


def test_a_folder_without_the_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: needs a folder with config.json and"):
        from_segformer(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"it holds \['config.json'\]"):
        from_segformer(tmp_path)


def test_the_hub_s_cache_is_enough(folder: Path, published: nn.Module, monkeypatch) -> None:
    def cached(repository: str, name: str) -> str | None:
        assert repository == "nvidia/segformer-b0-finetuned-ade-512-512"
        return str(folder / name) if (folder / name).is_file() else None

    monkeypatch.setattr(pretrained, "try_to_load_from_cache", cached)
    net = from_segformer("nvidia/segformer-b0-finetuned-ade-512-512")
    assert torch.equal(
        net.net.decode_head.linear_fuse.weight, published.decode_head.linear_fuse.weight
    )


PROGRAM = """
import socket, time
def silent(*_, **__): time.sleep(60)
socket.getaddrinfo = socket.create_connection = silent
from seglab.walls.pretrained import from_segformer
started = time.perf_counter()
try:
    from_segformer("nvidia/segformer-b0-finetuned-ade-512-512")
except OSError as problem:
    print(type(problem).__name__, problem)
print(time.perf_counter() - started)
import os; os._exit(0)
"""


def test_a_silent_hub_is_given_up_within_two_seconds(tmp_path: Path) -> None:
    settings = os.environ | dict(HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path))
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=settings, capture_output=True, text=True, timeout=120
    )
    words, seconds = answer.stdout.strip().rsplit("\n", 1)
    assert words.startswith("WeightsUnavailable nvidia/segformer-b0-finetuned-ade-512-512: not on")
    for word in ("config.json", "model.safetensors or pytorch_model.bin", "give its path"):
        assert word in words
    assert float(seconds) < 2


def test_offline_nobody_is_asked() -> None:
    started = time.perf_counter()
    with pytest.raises(WeightsUnavailable, match="https://huggingface.co/nobody/segformer-b9 on"):
        from_segformer("nobody/segformer-b9")
    assert time.perf_counter() - started < 2
    assert issubclass(WeightsUnavailable, OSError)


def test_every_kind_of_checkpoint_opens(folder: Path, tmp_path: Path) -> None:
    names = ("sky", "wall")
    untaught = open_network("", names, side=64)
    assert untaught.config.names == names and untaught.config.side == 64
    assert not untaught.training
    save(untaught, tmp_path / "ours.safetensors")
    ours = open_network(str(tmp_path / "ours.safetensors"), ("another", "wall"))
    assert ours.config == untaught.config and not ours.training
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(image), untaught(image))
    theirs = open_network(str(folder), names)
    assert theirs.config.names == ADE20K and "SegFormer weights" in theirs.origin


def test_a_checkpoint_of_another_system_is_refused(tmp_path: Path) -> None:
    save(TrimapModel(trimap_preset("tiny")), tmp_path / "trimap.safetensors")
    with pytest.raises(CheckpointError, match="holds a TrimapModel, no WallsModel"):
        open_network(tmp_path / "trimap.safetensors", ("sky", "wall"))
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        open_network("./away", ("sky", "wall"))
