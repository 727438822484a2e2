"Guards of seglab.trimap.rough: the original's thresholds, widened bands, masks of any object."

import json

import numpy as np
import pytest
import torch

from seglab.core import UNKNOWN
from seglab.trimap.pictures import DrawnMattes
from seglab.trimap.rough import low_resolution_mask, rough_mask, trimap_from_alpha


@pytest.mark.parametrize(
    "low, code", [(0, 0), (14, 0), (15, 1), (128, 1), (229, 1), (230, 2), (255, 2)]
)
def test_codes_follow_the_original_thresholds(low, code):
    assert trimap_from_alpha(torch.full((1, 1, 2, 2), low / 255)).eq(code).all()


def test_label_rule_equals_the_original(parity):
    table = json.loads((parity / "trimap" / "label_maps.json").read_text())["gray_to_class"]
    greys = torch.arange(256).view(1, 1, 1, 256) / 255
    assert trimap_from_alpha(greys).flatten().tolist() == table


@pytest.mark.parametrize("widen", [0, 1, 3])
def test_widening_never_takes_unknown_pixels_away(widen):
    alpha = DrawnMattes(1, 64).draw(0, np.random.default_rng(1))["alpha"][None]
    exact, wide = trimap_from_alpha(alpha), trimap_from_alpha(alpha, widen)
    assert (wide[exact == UNKNOWN] == UNKNOWN).all()
    assert (wide[wide != UNKNOWN] == exact[wide != UNKNOWN]).all()


@pytest.mark.parametrize("alpha", [np.zeros((40, 30)), np.ones((40, 30)), np.eye(7)])
def test_rough_masks_of_degenerate_objects_are_masks(alpha):
    for seed in range(20):
        mask = rough_mask(alpha.astype(np.float32), np.random.default_rng(seed))
        assert mask.shape == alpha.shape and mask.dtype == bool


def test_low_resolution_mask_by_hand():
    alpha = np.zeros((4, 4), np.float32)
    alpha[:2, :2] = 1  # one coarse pixel of four
    mask = low_resolution_mask(alpha, factor=2)
    assert mask[0, 0] and not mask[3, 3] and not mask[0, 3]
