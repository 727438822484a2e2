"What a wall mask is worth."

import pandas as pd
import pytest
import torch

from seglab.walls.pictures import Picture
from seglab.walls.scores import (
    BASELINES,
    Answer,
    class_table,
    mask_only,
    mean_scores,
    mural_retention,
    repainted,
    score_answer,
    score_pictures,
    score_worlds,
)


class Two:
    "A picture half wall, and one without."

    names, targets, corners = ("wall", "sky"), ("wall",), False

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Picture:
        labels = torch.ones(32, 48, dtype=torch.int64)
        if index == 0:
            labels[:, :24] = 0
        image = torch.where(labels == 0, 90, 200).to(torch.uint8).expand(3, 32, 48)
        return Picture(f"view_{index}", image, labels)


def truth(image: torch.Tensor) -> Answer:
    "Dark is wall."
    mask = image[0] < 0.5
    return Answer(mask, (~mask).long())


def test_the_truth_scores_one_and_everything_one_half() -> None:
    table = score_pictures(BASELINES | dict(truth=truth), Two())
    means = mean_scores(table)
    assert means.loc["truth", ["wall_iou", "boundary_f", "wall_accuracy", "miou"]].eq(1).all()
    assert means.loc["all wall", "wall_iou"] == pytest.approx(0.25), "one half, and nothing"
    assert means.loc["all wall", "wall_accuracy"] == pytest.approx(0.25)


def test_a_view_without_wall_is_not_averaged_where_nothing_was_claimed() -> None:
    table = score_pictures(dict(truth=truth), Two())
    assert pd.isna(table.loc[("view_1", "truth"), "wall_iou"])
    assert len(score_pictures(dict(truth=truth), Two(), limit=1)) == 1


def test_miou_adds_pictures_up_first() -> None:
    table = score_pictures(
        dict(all_sky=lambda image: Answer(image[0] > 2, (image[0] > -1).long())), Two()
    )
    sky = 1.5 * 32 * 48 / (2 * 32 * 48)
    assert mean_scores(table).loc["all_sky", "miou"] == pytest.approx(sky / 2)
    rows = class_table(table, Two.names)
    assert rows.loc["sky", "iou"] == pytest.approx(sky) and rows.index[0] == "sky"


def test_ignored_pixels_count_nowhere() -> None:
    labels = torch.zeros(16, 16, dtype=torch.int64)
    labels[8:] = 255
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:8] = True
    row = score_answer(
        Answer(mask | torch.rand(16, 16).gt(0.5) & (labels == 255)),
        labels,
        ("wall", "sky"),
        ("wall",),
    )
    assert row["wall_iou"] == 1 and row["wall_accuracy"] == 1 and row["counts"] is None


def test_methods_without_labels_have_no_miou() -> None:
    table = score_pictures(dict(blind=mask_only(truth)), Two())
    assert "miou" not in mean_scores(table).columns


def test_retention_is_the_share_that_is_left() -> None:
    worlds = repainted(Two(), ["mural"])
    left = mural_retention(score_worlds(BASELINES | dict(truth=truth), worlds))
    assert left.loc["all wall", "mural retention"] == 1
    assert left.loc["truth", "as it is"] == 1
    assert left.loc["truth", "mural retention"] < 1, "a mural on a dark wall is not all dark"
