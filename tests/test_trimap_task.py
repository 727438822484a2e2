"Guards of seglab.trimap.task: any size, any batch, padding that does nothing, bad input, folders."

from dataclasses import replace

import pandas as pd
import pytest
import torch

from seglab.core import BACKGROUND, IGNORE, UNKNOWN, DatasetError, seed_everything
from seglab.io import write_image, write_mask
from seglab.trimap import data, task
from seglab.trimap.model import TrimapModel, preset


@pytest.fixture(scope="module")
def network():
    seed_everything(0)
    small = replace(preset("tiny"), side=96, window=96, width=48, depth=4, heads=4)
    network = TrimapModel(small)
    for parameter in network.parameters():  # off the start, where all logits are alike
        torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim > 1 else None
    return network.eval()


def picture(rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, rows, columns, generator=generator)
    mask = torch.zeros(1, rows, columns, dtype=torch.bool)
    mask[:, rows // 4 : 3 * rows // 4, columns // 4 : 3 * columns // 4] = True
    return image, mask


@pytest.mark.parametrize("size", [(20, 20), (96, 96), (97, 95), (300, 40), (31, 257), (1, 50)])
def test_any_size(network, size):
    answer = task.predict(network, *picture(*size))
    assert answer["trimap"].shape == (1, *size) and answer["trimap"].dtype == torch.uint8
    assert answer["probs"].shape == (3, *size)
    assert torch.allclose(answer["probs"].sum(0), torch.ones(size), atol=1e-4)


def test_a_large_picture_is_looked_at_again(network):
    image, mask = picture(300, 200)
    first = task.predict(network, image, mask, closer=False)["probs"]
    assert not torch.equal(first, task.predict(network, image, mask)["probs"])
    small = picture(96, 60)
    first, closer = (task.predict(network, *small, closer=each)["probs"] for each in (False, True))
    assert torch.equal(first, closer), "nothing is looked at twice that was seen at full size"


@pytest.mark.parametrize("size", [(96, 96), (70, 90), (150, 130)])
def test_flip_makes_the_answer_symmetric(network, size):
    image, mask = picture(*size)
    answer = task.predict(network, image, mask, flip=True, closer=False)["probs"]
    mirrored = task.predict(network, image.flip(-1), mask.flip(-1), flip=True, closer=False)
    assert torch.allclose(answer, mirrored["probs"].flip(-1), atol=1e-5)
    once = task.predict(network, image, mask, closer=False)["probs"]
    assert not torch.allclose(answer, once, atol=1e-4)


def test_batch_equals_one_by_one(network):
    pairs = [picture(80, 120, seed) for seed in range(3)]
    together = task.predict(network, *(torch.stack(part) for part in zip(*pairs, strict=True)))
    for number, pair in enumerate(pairs):
        assert torch.allclose(
            together["probs"][number], task.predict(network, *pair)["probs"], atol=1e-5
        )


def test_picture_is_not_changed_and_mode_is_kept(network):
    image, mask = picture(50, 60)
    before = image.clone()
    network.train()
    task.predict(network, image, mask)
    assert network.training and torch.equal(image, before)
    network.eval()


def test_only_the_empty_member_of_a_batch_is_background(network):
    pairs = [picture(60, 60, seed) for seed in range(2)]
    image, mask = (torch.stack(part) for part in zip(*pairs, strict=True))
    alone = task.predict(network, image, mask)["trimap"][1]
    mask[0] = False
    answer = task.predict(network, image, mask)["trimap"]
    assert (answer[0] == BACKGROUND).all() and torch.equal(answer[1], alone)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda i, m: (i, m[:, :-1]), "mask: axis H must be 40"),
        (lambda i, m: (i.masked_fill(i > 0.9, torch.nan), m), "NaN or infinite"),
        (lambda i, m: (i.masked_fill(i > 0.9, torch.inf), m), "NaN or infinite"),
        (lambda i, m: (i * 255, m), "got .* to 2"),
        (lambda i, m: ((i * 255).to(torch.uint8), m), "divide by 255"),
        (lambda i, m: (i, m.float()), "threshold it first"),
        (lambda i, m: (i[:1], m), "image: axis 3 must be 3"),
        (lambda i, m: (i[0], m), "image: needs the 4 axes"),
    ],
)
def test_bad_input_is_named(network, spoil, words):
    with pytest.raises(ValueError, match=words):
        task.predict(network, *spoil(*picture(40, 40)))


def test_threshold_only_widens(network):
    image, mask = picture(70, 90)
    bands = [
        task.predict(network, image, mask, t)["trimap"] == UNKNOWN for t in (0.6, 0.4, 0.2, 0.0)
    ]
    assert all((wide | ~narrow).all() for narrow, wide in zip(bands, bands[1:], strict=False))
    assert bands[-1].all()


def test_padding_changes_neither_loss_nor_scores(network):
    sample = data.dataset("val", "drawn", side=96)[0]
    batch = {key: value[None] for key, value in sample.items() if key != "name"}
    batch["trimap"][..., 60:] = IGNORE
    with torch.no_grad():
        before = task.step(network, batch), task.measure(network, batch)
        logits = network(batch["image"], batch["mask"])

    class Fixed(torch.nn.Module):
        "Answers as before, except in the padding."

        def forward(self, image, mask):
            spoiled = torch.nn.functional.interpolate(logits, image.shape[-2:], mode="bilinear")
            spoiled[..., 60:] = torch.randn_like(spoiled[..., 60:])
            return spoiled

    after = task.step(Fixed(), batch), task.measure(Fixed(), batch)
    for old, new in zip(before, after, strict=True):
        for name in old:
            assert torch.allclose(old[name], new[name], atol=1e-5, equal_nan=True), name


def test_measure_is_perfect_for_the_truth():
    sample = data.dataset("val", "drawn", side=96)[1]
    batch = {key: value[None] for key, value in sample.items() if key != "name"}

    class Oracle(torch.nn.Module):
        def forward(self, image, mask):
            codes = batch["trimap"][:, 0].long().clamp(max=2)
            return 20 * torch.nn.functional.one_hot(codes, 3).permute(0, 3, 1, 2).float()

    scores = task.measure(Oracle(), batch)
    assert (
        scores["unknown_iou"] == 1
        and scores["certain_error"] == 0
        and scores["unknown_recall"] == 1
    )


def test_folder_lists_what_is_missing(network, tmp_path):
    image, mask = picture(40, 40)
    write_image(tmp_path / "images" / "a.png", image)
    write_image(tmp_path / "images" / "b.png", image)
    write_mask(tmp_path / "masks" / "a.png", mask)
    with pytest.raises(DatasetError, match="b"):
        task.predict_files(network, tmp_path / "images", tmp_path / "masks", tmp_path, 96)


def test_interrupted_folder_goes_on(network, tmp_path):
    for name in "abc":
        image, mask = picture(40, 40, ord(name))
        write_image(tmp_path / "images" / f"{name}.png", image)
        write_mask(tmp_path / "masks" / f"{name}.png", mask)
    first = task.predict_files(
        network, tmp_path / "images", tmp_path / "masks", tmp_path, 96, batch_size=2
    )
    written = (tmp_path / "trimaps" / "b.png").stat().st_mtime_ns
    (tmp_path / "overlays" / "c.png").unlink()  # killed between trimap and overlay
    again = task.predict_files(
        network, tmp_path / "images", tmp_path / "masks", tmp_path, 96, batch_size=2
    )
    pd.testing.assert_frame_equal(first, again)
    assert (tmp_path / "overlays" / "c.png").exists()
    assert (tmp_path / "trimaps" / "b.png").stat().st_mtime_ns == written
