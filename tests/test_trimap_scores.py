"Guards of seglab.trimap.scores: one vote a picture, any method, and a trimap that decides nothing."

import numpy as np
import torch

from seglab.boundary import trimap_from_mask
from seglab.core import UNKNOWN
from seglab.trimap import scores
from seglab.trimap.pictures import DrawnMattes


def test_a_picture_counts_once():
    band = dict(six=lambda image, mask: trimap_from_mask(mask[None], 6)[0])
    table = scores.score_pictures(band, DrawnMattes(3, 48), longest=48)
    means = scores.mean_scores(table)
    assert np.isclose(means.loc["six", "mad"], table.xs("six", level="trimap")["mad"].mean())
    assert list(means.index) == ["mask itself", "band of 4", "band of 8", "band of 16", "six"]


def test_a_trimap_that_decides_nothing_has_no_alpha():
    given = scores.exam(DrawnMattes(1, 48), 0, longest=48)
    nothing = dict(nothing=torch.full_like(given["mask"], UNKNOWN, dtype=torch.uint8))
    row = scores.compare_trimaps(nothing, given["image"], given["mask"], given["alpha"]).loc[
        "nothing"
    ]
    assert row["unknown_area"] == 1 and np.isnan(row["mse"])
