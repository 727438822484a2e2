"Guards of seglab.walls.repair: nothing changes outside the mask, every engine, borders, reports."

import numpy as np
import pytest
import torch
from torch import nn

from seglab.core import ConfigError
from seglab.walls import repair
from seglab.walls.boxes import read_boxes
from seglab.walls.labels import LabelError
from seglab.walls.repair import RepairConfig, remove_occluders, split_hole
from seglab.weights import WeightsUnavailable

WALL, FLOOR, SOFA, CUSHION = 0, 3, 23, 39


class Grey(nn.Module):
    "A network that paints everything grey."

    def forward(self, image, mask):
        return torch.full_like(image, 0.5)


@pytest.fixture(autouse=True)
def no_weights(monkeypatch, tmp_path):
    monkeypatch.delenv("LAMA_MODEL", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))


def scene(left: int = 50) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    "(3, H, W) picture of a sofa before checks on a wall, the same without it, and (H, W) labels."
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(140), torch.arange(180), indexing="ij")
    checks = (x // 9 + y // 7) % 2
    empty = torch.where(y < 100, 0.35 + 0.35 * checks, 0.25) * torch.ones(3, 1, 1)
    empty = empty * torch.tensor([1.0, 0.9, 0.7])[:, None, None]
    empty = (empty + 0.01 * torch.randn(empty.shape, generator=generator)).clamp(0, 1)
    labels = torch.where(y < 100, WALL, FLOOR)
    labels[60:120, left : left + 50] = SOFA
    labels[70:80, left + 5 : left + 20] = CUSHION
    image = empty.clone()
    image[:, (labels == SOFA) | (labels == CUSHION)] = torch.tensor([0.9, 0.1, 0.1])[:, None]
    return image, empty, labels


def box(*corners, **more) -> list:
    return read_boxes({"boxes": [dict(xyxy=list(corners), **more)]}, (140, 180))


@pytest.mark.parametrize("engine", ["wallfill", "telea", "ns", "lama"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.uint8])
def test_outside_the_mask_every_byte_stays(engine, kind):
    image, _, labels = scene()
    image = (image * 255).byte() if kind is torch.uint8 else image.to(kind)
    before = image.clone()
    repaired = remove_occluders(image, labels, engine=engine, network=Grey().eval())
    assert torch.equal(image, before), "the input is not touched"
    assert repaired.image.dtype == kind and repaired.mask.shape == (1, 140, 180)
    outside = ~repaired.mask[0]
    assert torch.equal(repaired.image[:, outside], before[:, outside])
    assert not torch.equal(repaired.image[:, ~outside], before[:, ~outside])
    assert repaired.engine == engine


def test_wall_and_floor_come_back():
    image, empty, labels = scene()
    errors = {}
    for engine in ("wallfill", "telea"):
        repaired = remove_occluders(image, labels, engine=engine)
        errors[engine] = (repaired.image - empty)[:, repaired.mask[0]].square().mean().item()
    assert errors["wallfill"] < errors["telea"] / 2, errors


def test_the_mask_is_grown_and_feathered_in_its_rim_only():
    image, _, labels = scene()
    thing = ((labels == SOFA) | (labels == CUSHION))[None]
    config = RepairConfig(dilate=5, feather=3)
    repaired = remove_occluders(image, labels, engine="lama", config=config, network=Grey())
    assert repaired.mask[0, 60 - 5, 70] and not repaired.mask[0, 60 - 6, 70]
    assert (repaired.image[:, thing[0]] == 0.5).all(), "the thing itself is wholly replaced"
    rim = (repaired.image - image)[0, 55:60, 70] / (0.5 - image[0, 55:60, 70])
    torch.testing.assert_close(rim, torch.tensor([0.25, 0.5, 0.75, 1, 1]), atol=0.02, rtol=0)
    hard = remove_occluders(
        image, labels, engine="lama", config=RepairConfig(dilate=0, feather=0), network=Grey()
    )
    assert torch.equal(hard.mask, thing)


def test_kept_things_stay_even_in_the_grown_rim():
    image, _, labels = scene()
    boxes = box(48, 58, 102, 122) + box(54, 69, 71, 81, action="keep")
    repaired = remove_occluders(image, labels, boxes, engine="telea")
    cushion = labels == CUSHION
    assert torch.equal(repaired.image[:, cushion], image[:, cushion])
    assert not repaired.mask[0, cushion].any() and repaired.mask[0, labels == SOFA].all()
    assert [outcome.engine for outcome in repaired.outcomes] == ["telea", ""]
    assert repaired.outcomes[1].note == "stays"


def test_auto_is_the_wall_fill_without_weights_and_lama_with(monkeypatch):
    image, _, labels = scene()
    assert remove_occluders(image, labels).engine == "wallfill"
    assert remove_occluders(image, labels, network=Grey()).engine == "lama"
    with pytest.raises(WeightsUnavailable, match="LAMA_MODEL"):
        remove_occluders(image, labels, engine="lama")
    monkeypatch.setattr(repair, "find_lama", lambda: "somewhere")
    monkeypatch.setattr(repair, "load_lama", Grey)
    assert remove_occluders(image, labels).engine == "lama"


@pytest.mark.parametrize("engine", ["wallfill", "telea", "ns", "lama"])
def test_a_hole_at_the_border_is_filled_and_named(engine):
    image, _, labels = scene(left=0)
    repaired = remove_occluders(image, labels, engine=engine, network=Grey())
    assert repaired.image.isfinite().all()
    assert all("border of the picture" in outcome.note for outcome in repaired.outcomes)
    inside = remove_occluders(*(scene()[n] for n in (0, 2)), engine=engine, network=Grey())
    assert not any("border" in outcome.note for outcome in inside.outcomes)


def test_where_no_wall_is_in_sight_telea_helps_and_says_so():
    image, _, labels = scene()
    labels[labels == WALL] = 255
    labels[labels == FLOOR] = 255
    repaired = remove_occluders(image, labels, box(48, 58, 102, 122), engine="wallfill")
    assert "too little to learn from: telea" in repaired.outcomes[0].note
    assert not torch.equal(repaired.image, image)


def test_nothing_to_remove_is_no_error():
    image, _, labels = scene()
    nothing = remove_occluders(image, labels, classes=["bed"])
    assert torch.equal(nothing.image, image) and not nothing.mask.any() and nothing.outcomes == ()
    dropped = remove_occluders(image, labels, box(200, 0, 210, 9))
    assert dropped.outcomes[0].note.startswith("covers 0.0 pixels") and not dropped.mask.any()


def test_two_boxes_around_one_thing_report_it_once():
    image, _, labels = scene()
    repaired = remove_occluders(image, labels, 2 * box(48, 58, 102, 122), engine="telea")
    first, second = repaired.outcomes
    assert first.engine == "telea" and second.engine == ""
    assert second.note == "nothing is left to remove: kept, or taken by another box"


def test_large_windows_are_shrunk_for_the_network():
    seen = []

    class Watching(nn.Module):
        def forward(self, image, mask):
            seen.append(tuple(image.shape[-2:]))
            return torch.full_like(image, 0.5)

    image, _, labels = scene()
    config = RepairConfig(largest=64)
    repaired = remove_occluders(image, labels, engine="lama", config=config, network=Watching())
    assert max(seen[0]) <= 64 and (repaired.image[:, labels == SOFA] - 0.5).abs().max() < 1e-5


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_lines_between_surfaces_are_straight(slope):
    y, x = np.mgrid[:120, :160]
    truth = np.where(y < 60 + slope * (x - 80), WALL, FLOOR)
    hole = np.zeros(truth.shape, bool)
    hole[30:100, 50:110] = True
    hidden = split_hole(hole, np.where(hole, -1, truth))
    assert (hidden[hole] == truth[hole]).mean() > 0.97 and (hidden[~hole] == -1).all()


def test_three_surfaces_and_none():
    truth = np.zeros((90, 90), int)
    truth[45:] = 3
    truth[:45, 45:] = 5
    hole = np.zeros(truth.shape, bool)
    hole[25:65, 25:65] = True
    hidden = split_hole(hole, np.where(hole, -1, truth))
    assert (hidden[hole] == truth[hole]).mean() > 0.8
    assert (split_hole(hole, np.full(truth.shape, -1))[hole] == -1).all()


def test_bad_requests_are_named():
    image, _, labels = scene()
    with pytest.raises(ConfigError, match="unknown engine 'telea2': did you mean 'telea'"):
        remove_occluders(image, labels, engine="telea2")
    with pytest.raises(ValueError, match="labels: axis W must be 180"):
        remove_occluders(image, labels[:, :90])
    with pytest.raises(LabelError, match="sofaa"):
        remove_occluders(image, labels, classes=["sofaa"])
