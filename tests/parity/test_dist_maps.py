"Maps of clicks against those that the original program drew."

import json

import numpy as np
import pytest
import torch

from seglab.interact.data import click_maps


def test_maps_equal_the_original(parity):
    for file in sorted((parity / "dist_maps").glob("*.json")):
        arrays = np.load(file.with_suffix(".npz"))
        for case in json.loads(file.read_text()):
            key, scale = f"c{case['case']}", case["spatial_scale"]
            points = torch.from_numpy(arrays[f"{key}_points"])
            # the scale also reaches the -1 of empty slots, which stay negative
            points = points * torch.tensor([scale, scale, 1])
            size = (case["h"], case["w"])
            maps = click_maps(points, size, case["norm_radius"] * scale, case["use_disks"])
            expected = torch.from_numpy(arrays[f"{key}_out"])
            if case["use_disks"]:
                assert torch.equal(maps, expected), case
            else:
                torch.testing.assert_close(maps, expected, atol=1e-6, rtol=0)
            if f"{key}_out_cython" in arrays:  # agrees where clicks are whole numbers
                quick = torch.from_numpy(arrays[f"{key}_out_cython"])
                differ = (maps - quick).abs().max().item()
                assert differ <= case["cython_vs_torch_max_abs_diff"] + 1e-6, case


def test_the_fixture_is_there(parity):
    if not (parity / "dist_maps").is_dir():
        pytest.skip(f"no dist_maps in {parity}")
    assert list((parity / "dist_maps").glob("*.json"))
