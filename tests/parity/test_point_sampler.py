"First clicks, and the random clicks of SAIC-IS, against those of the original programs."

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from seglab.interact.choice import ChoicePlan, choose
from seglab.interact.data import Click
from seglab.interact.first import (
    EVALUATION,
    TRAINING,
    Aim,
    FirstClicks,
    count_probs,
    draw_clicks,
    find_aims,
    first_clicks,
    measure_depth,
    negative_regions,
    random_click,
    shave,
)
from seglab.interact.pictures import Layered
from seglab.interact.robot import worst_region

from .draws import Draws

AIMS = dict(
    point_eval=EVALUATION,
    point_train=TRAINING,
    point_prop=Aim(normal=False),
    point_k17=Aim(inner=1.7),
)


@pytest.fixture(scope="module")
def sampler(parity):
    folder = parity / "point_sampler"
    return json.loads((folder / "point_sampler.json").read_text()), np.load(
        folder / "point_sampler.npz"
    )


def unpack(array: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.unpackbits(array.ravel())[: height * width].reshape(height, width).astype(bool)


def test_probabilities_of_counts(sampler):
    for name, expected in sampler[0]["generate_probs"].items():
        count, gamma = name.split("_")
        np.testing.assert_allclose(count_probs(int(count), float(gamma)), expected, rtol=1e-12)


def play(case: dict, planes: np.ndarray):
    "Choice and clicks of one seed, with our functions and the originals' random numbers."
    kwargs, objects = case["kwargs"], list(case["objects"].values())
    pairs = tuple(tuple(one["mapping"]) for one in objects)
    parents = tuple(one["parent"] for one in objects)
    image = np.zeros((*planes.shape[1:], 3), np.uint8)
    picture = Layered("one", image, planes, pairs, parents=parents)
    draws = Draws(case["seed"], python=True)
    shares = kwargs["merge_objects_prob"], kwargs["max_num_merged_objects"]
    choice = choose(picture, draws, ChoicePlan(*shares, hierarchy=kwargs["use_hierarchy"]))
    most = kwargs["max_num_points"]
    aim = Aim(border=0, inner=max(0, kwargs["sfc_inner_k"]), normal=False)
    plan = FirstClicks(
        most,
        most,
        kwargs["prob_gamma"],
        aim=aim if kwargs["first_click_center"] else None,
        only_one=kwargs["only_one_first_click"],
    )
    own = choice.regions, choice.target, draws, choice.others, choice.required
    return choice, first_clicks(*own, plan=plan), plan


def test_first_clicks_are_the_originals(sampler):
    cases, arrays = sampler[0]["cases"], sampler[1]
    assert cases
    for case in cases:
        name = f"s{case['case']}_"
        planes = arrays[name + "enc"].transpose(2, 0, 1)
        choice, clicks, plan = play(case, planes)
        np.testing.assert_array_equal(choice.target == 1, arrays[name + "selected"][0] > 0)
        assert len(choice.regions) == case["num_pos_masks"], case
        assert len(choice.required) == case["num_required_neg"], case
        found = np.full((2, plan.most, 2), -1.0)
        for row, positive in enumerate((True, False)):
            own = [(c.y, c.x) for c in clicks if c.positive == positive]
            if own:
                found[row, : len(own)] = own
        np.testing.assert_array_equal(
            found.reshape(-1, 2), arrays[name + "points"][:, :2], str(case)
        )
        regions = negative_regions(choice.target, choice.others, plan)
        for region, kind in zip(regions, ("bg", "other", "border"), strict=True):
            np.testing.assert_array_equal(region, arrays[f"{name}neg_{kind}"] > 0, str(case))


def test_statistics_with_our_own_random_numbers(sampler):
    "Means over seeds, on the first picture that has objects."
    case = next(c for c in sampler[0]["cases"] if c["objects"])
    planes = sampler[1][f"s{case['case']}_enc"].transpose(2, 0, 1)
    target = (planes[0] == planes[0].max()).astype(np.uint8)
    for expected in sampler[0]["statistics"]:
        kwargs = expected["kwargs"]
        plan = FirstClicks(kwargs["max_num_points"], kwargs["max_num_points"], kwargs["prob_gamma"])
        seeds = range(1000)
        drawn = [
            first_clicks([target == 1], target, np.random.default_rng(s), plan=plan) for s in seeds
        ]
        positive = np.array([sum(c.positive for c in own) for own in drawn])
        negative = np.array([len(own) for own in drawn]) - positive
        # four standard errors of a mean over a thousand
        for found, wanted in ((positive, "mean_pos"), (negative, "mean_neg")):
            assert abs(found.mean() - expected[wanted]) < 4 * found.std() / 1000**0.5, kwargs
        assert abs((negative == 0).mean() - expected["frac_zero_neg"]) < 0.06


def test_pixels_deeper_than_a_fraction(parity):
    arrays = np.load(parity / "point_sampler" / "point_candidates.npz")
    for name in [key for key in arrays.files if key.startswith("m")]:
        region = arrays[name] > 0
        depth = measure_depth(region.view(np.uint8))
        found = np.stack(np.divmod(find_aims(depth, Aim(inner=1.7), None), region.shape[1]), 1)
        np.testing.assert_array_equal(found, arrays["cand" + name[1:]])


def test_pixels_deeper_than_a_fraction_without_the_border(parity):
    folder = parity / "generators"
    arrays = np.load(folder / "mask_transforms.npz")
    for name in [key for key in arrays.files if key.endswith("_mask")]:
        key = next(k for k in arrays.files if k.startswith(name[:-4] + "point_cand_k"))
        region = arrays[name] > 0
        inner, corner = shave(region, 0.001)
        places = find_aims(measure_depth(inner), Aim(inner=float(key.rpartition("k")[2])), None)
        found = np.stack(np.divmod(places, inner.shape[1]), 1) + corner
        np.testing.assert_array_equal(found, arrays[key], name)


def equally_deep(region: np.ndarray, one, other) -> bool:
    "Whether two pixels have the same depth below the border."
    inner, corner = shave(region, 0.001)
    depth = measure_depth(inner)
    return depth[tuple(np.subtract(one, corner))] == depth[tuple(np.subtract(other, corner))]


def test_random_clicks_are_the_originals(parity):
    folder = parity / "generators"
    arrays, seen = np.load(folder / "generators.npz"), 0
    for case in json.loads((folder / "generators.json").read_text()):
        if case["generator"] not in AIMS:
            continue
        region = unpack(arrays[f"g{case['mask']}_mask"], case["h"], case["w"])
        expected, draws = [row[:2] for row in case["output"]], Draws(case["np_seed"])
        if case["generator"] != "point_eval":
            draws.random()  # the others draw how many; we are told
        aim = replace(AIMS[case["generator"]], exact=False)
        clicks = draw_clicks(region, draws, case["is_positive"], len(expected), aim)
        assert all(c.positive == case["is_positive"] and region[c.y, c.x] for c in clicks)
        assert [[c.y, c.x] for c in clicks] == expected, case
        seen += 1
    assert seen


def test_clicks_on_errors_are_the_originals(parity):
    folder = parity / "aggregators"
    arrays = np.load(folder / "aggregators.npz")
    made = {}
    for row in json.loads((folder / "aggregators.json").read_text()):
        case, step, size = row["case"], row["step"], (row["h"], row["w"])
        target = np.where((gt := arrays[f"a{case}_gt"]) < 0, 255, gt).astype(np.uint8)
        mask = unpack(arrays[f"a{case}_preds"][step], *size)
        clicks, seed = made.setdefault(case, []), 20251 + 100 * case + step
        found = random_click(mask, target, Draws(seed), clicks, protocol="paper")
        if not row["point"]:
            assert found is None, row
            continue
        positive, y, x, number = row["point"]
        assert found == Click(y, x, bool(positive)) and number == len(clicks), (case, step)
        ours = random_click(mask, target, Draws(seed), clicks)
        region, _ = worst_region(mask, target, clicks)
        assert equally_deep(region, (ours.y, ours.x), (y, x)), (case, step)
        clicks.append(found)
    assert any(made.values())


def test_statistics_of_random_clicks(parity):
    folder = parity / "generators"
    masks = np.load(folder / "statistics_masks.npz")
    for row in json.loads((folder / "statistics.json").read_text()):
        if row["generator"] != "point_eval":
            continue
        region = unpack(masks[f"m{row['mask']}"], row["h"], row["w"])
        depth = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
        clicks = [draw_clicks(region, np.random.default_rng(s))[0] for s in range(300)]
        found = np.array([depth[c.y, c.x] for c in clicks]) / depth.max()
        error = row["std"][0] * (1 / len(found) + 1 / row["n"]) ** 0.5
        assert abs(found.mean() - row["mean"][0]) < 4 * error, row
        assert abs(found.std() - row["std"][0]) < 0.15 * row["std"][0] and (found > 0).all()
