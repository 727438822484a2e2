"Viewers: what the legend counts, what is sent, and what is refused."

import time
import zlib
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from skimage.color import rgb2lab

from seglab.hybrid.segment import Instance
from seglab.touch.viewers import (
    LONGEST,
    average,
    spread_colours,
    thin,
    view_any,
    view_fusion,
    view_objects,
    view_trimap,
    view_walls,
)

SIDES = (12, 20)
# what people see who lack one kind of cone: Machado et al., 2009, for linear RGB
BLINDNESS = dict(
    none=np.eye(3),
    red=[
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ],
    green=[
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ],
    blue=[
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ],
)


def texts(canvas) -> list[str]:
    return [chip["text"] for chip in canvas.legend]


def trimap_answer(size=SIDES) -> dict[str, torch.Tensor]:
    "Background, unknown and foreground in three bands of columns; doubt 0, 0.6 and 0.1 there."
    height, width = size
    trimap = (torch.arange(width) * 3 // width).to(torch.uint8).expand(1, height, -1)
    probs = torch.tensor([[1, 0, 0], [0.2, 0.4, 0.4], [0, 0.1, 0.9]])[trimap[0].long()]
    return dict(trimap=trimap, probs=probs.permute(2, 0, 1))


def walls_answer(size=SIDES) -> dict[str, torch.Tensor]:
    "Class 1 in the upper quarter, class 0 below; 0 is wall."
    labels = (torch.arange(size[0]) < size[0] // 4).long()[:, None].expand(*size).clone()
    return dict(labels=labels, mask=(labels == 0)[None], probs=(labels == 0)[None] * 0.9)


def fusion_answer(slots=2, size=SIDES) -> dict[str, torch.Tensor]:
    "Every slot, the background too, weighs the same; later slots lie before earlier ones."
    weights = torch.full((slots + 1, *size), 1 / (slots + 1))
    order = torch.full((slots, slots), 0.9).tril(-1) + torch.full((slots, slots), 0.1).triu(1)
    return dict(weights=weights, order=order, fused=torch.full((3, *size), 0.25))


def photo(size=SIDES) -> torch.Tensor:
    return torch.full((3, *size), 0.5)


@pytest.mark.parametrize("kind", BLINDNESS)
def test_ten_colours_stay_apart_for_everybody(kind):
    def linear(c):
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)

    def encoded(c):
        return np.where(c <= 0.0031308, c * 12.92, 1.055 * c.clip(1e-9) ** (1 / 2.4) - 0.055)

    seen = linear(np.array(spread_colours(10))) @ np.array(BLINDNESS[kind]).T
    lab = rgb2lab(encoded(seen.clip(0, 1))[None])[0]
    nearest = min(np.linalg.norm(one - other) for one, other in combinations(lab, 2))
    assert nearest > 15  # matplotlib's tab10 falls to 4.6, seaborn's colorblind to 10.8


def test_thirty_colours_differ_and_then_repeat():
    assert len({tuple(np.round(colour, 3)) for colour in spread_colours(30)}) == 30
    assert spread_colours(31)[30] == spread_colours(1)[0] and spread_colours(0) == []


@pytest.mark.parametrize("size", [(3, 5), (3000, 4000), (5000, 2), (1, 1), (1023, 1025)])
def test_what_is_sent_is_short_and_its_numbers_are_the_pictures_own(size):
    labels = torch.arange(size[0])[:, None] % 7 * 10 + torch.arange(size[1]) % 3
    few, means = thin(labels), average(torch.full((1, *size), 0.3), "plane")
    assert few.shape == means.shape[1:] and max(few.shape) == min(LONGEST, max(size))
    assert np.isin(few.numpy(), labels.numpy()).all() and torch.allclose(means, torch.tensor(0.3))


def test_thin_takes_the_middle_of_each_patch_and_leaves_small_ones_alone():
    ramp = torch.arange(4096).expand(8, -1)
    assert thin(ramp)[0, :3].tolist() == [2, 6, 10]
    assert torch.equal(thin(ramp[:, :100]), ramp[:, :100])
    assert thin(ramp[:, :100], ramp.shape).shape == (2, 25)  # a part, as small as the whole


def test_trimap_shares_codes_and_doubt():
    canvas = view_trimap(photo((12, 21)), trimap_answer((12, 21)))
    assert texts(canvas) == [
        "background · 33.3 %",
        "unknown · 33.3 %",
        "foreground · 33.3 %",
        "doubt",
    ]
    assert [chip["value"] for chip in canvas.legend] == [0, 1, 2, None]
    doubt = canvas.layers["doubt"].values
    assert (doubt[0, [0, 10, 20]] == [0, 153, 26]).all()
    assert canvas.names["doubt"][153] == "doubt 60 %" and 0 not in canvas.names["doubt"]
    assert canvas.alphas["doubt"] == 0 and canvas.sliders and canvas.split == -1


def test_the_matte_stands_right_of_the_line():
    alpha = torch.rand(1, *SIDES)
    canvas = view_trimap(photo(), trimap_answer(), alpha)
    assert canvas.after == ["alpha"] and canvas.split == 0.5
    shown = canvas.snapshot()
    assert np.abs(shown[:, 10:] / 255 - alpha[0, :, 10:, None].numpy()).max() < 0.01
    assert "alpha matte" in texts(canvas)


def test_ignored_pixels_have_a_chip_of_their_own():
    answer = trimap_answer()
    answer["trimap"] = torch.full_like(answer["trimap"], 255)
    assert texts(view_trimap(photo(), answer)) == ["ignored · 100.0 %", "doubt"]


def test_who_is_in_front_comes_first_and_empty_slots_not_at_all():
    answer = fusion_answer(3)
    answer["weights"] = answer["weights"] * torch.tensor([0, 2, 1, 1])[:, None, None]
    canvas = view_fusion(photo(), answer)
    assert texts(canvas) == [
        "1 in front: slot 2 · 25 %",
        "2: slot 1 · 50 %",
        "behind: background · 25 %",
    ]
    assert canvas.order == ["background", "slot 1", "slot 2", "fused"]


def test_shares_are_counted_in_the_hole():
    answer, hole = fusion_answer(1), torch.zeros(1, *SIDES, dtype=torch.bool)
    hole[..., :5] = True
    answer["weights"][:, :, :5] = torch.tensor([0.8, 0.2])[:, None, None]
    assert texts(view_fusion(photo(), answer, hole))[0] == "1 in front: slot 0 · 80 %"
    assert texts(view_fusion(photo(), answer))[0] == "1 in front: slot 0 · 58 %"
    assert texts(view_fusion(photo(), answer, hole & False))[0] == "1 in front: slot 0 · 0 %"


def test_left_of_the_line_the_photograph_right_of_it_the_fused_picture():
    answer = fusion_answer(1)
    answer["weights"] = torch.tensor([0, 1.0])[:, None, None].expand(2, *SIDES)
    shown = view_fusion(photo(), answer).snapshot()
    assert abs(int(shown[3, 2, 0]) - 128) <= 1 and abs(int(shown[3, 15, 0]) - 64) <= 1


def test_a_picture_without_any_completion():
    assert texts(view_fusion(photo(), fusion_answer(0))) == ["behind: background · 100 %"]


def test_all_that_fusion_says_besides():
    more = dict(entropy=torch.rand(1, *SIDES), residual_mask=torch.rand(1, *SIDES) > 0.5)
    canvas = view_fusion(photo(), fusion_answer() | more)
    assert texts(canvas)[-2:] == ["undecided", "left to inpaint"]
    assert canvas.alphas["undecided"] == canvas.alphas["left to inpaint"] == 0


def test_classes_are_counted_the_largest_first():
    canvas = view_walls(photo(), walls_answer(), ["wall", "sky", "sea"])
    assert texts(canvas)[:2] == ["wall · 180 px · 75.0 %", "sky · 60 px · 25.0 %"]
    assert texts(canvas)[2:] == ["wall mask · 180 px · 75.0 %", "probability of wall"]
    assert (
        canvas.names["classes"][1] == "sky"
        and canvas.names["probability"][230] == "probability 90 %"
    )


def test_legend_and_picture_share_their_colours():
    canvas = view_walls(photo(), walls_answer(), ["wall", "sky"])
    for chip in canvas.legend[:2]:
        drawn = canvas.layers["classes"].colours[chip["value"], :3] / 255
        assert np.abs(drawn - to_rgb(chip["colour"])).max() < 0.005
    people = [Instance(torch.ones(SIDES, dtype=torch.bool), 0, 0.5, n) for n in range(12)]
    canvas = view_objects(photo(), people, ["person"])
    for chip in canvas.legend:
        drawn = canvas.layers[chip["layer"]].colours[1, :3] / 255
        assert np.abs(drawn - to_rgb(chip["colour"])).max() < 0.005
    assert len({chip["colour"] for chip in canvas.legend}) == 12


def test_one_class_everywhere_and_no_wall_at_all():
    answer = dict(labels=torch.ones(SIDES, dtype=torch.long), mask=torch.zeros(1, *SIDES) > 0)
    canvas = view_walls(photo(), answer | dict(probs=torch.zeros(1, *SIDES)), ["wall", "sea"])
    assert texts(canvas)[:2] == ["sea · 240 px · 100.0 %", "wall mask · 0 px · 0.0 %"]


def test_of_many_classes_only_those_that_occur_have_chips():
    answer = walls_answer()
    answer["labels"][0, 0], answer["labels"][0, 1] = 149, 255
    canvas = view_walls(photo(), answer, [f"class {n}" for n in range(150)])
    assert texts(canvas)[:4] == [
        "class 0 · 180 px · 75.0 %",
        "class 1 · 58 px · 24.2 %",
        "class 149 · 1 px · 0.4 %",
        "ignored · 1 px · 0.4 %",
    ]
    answer["labels"] = torch.arange(240).reshape(SIDES) % 150
    canvas = view_walls(photo(), answer, [f"class {n}" for n in range(150)])
    assert sum(chip["layer"] == "classes" for chip in canvas.legend) == 150


def test_objects_may_overlap_and_the_surest_lies_on_top():
    left, all_of_it = torch.zeros(SIDES, dtype=torch.bool), torch.ones(SIDES, dtype=torch.bool)
    left[2:5, 3:9] = True
    found = [Instance(left, 1, 0.934, 7), Instance(all_of_it, 0, 1.0, 2)]
    canvas = view_objects(photo(), found, ["person", "dog"])
    assert texts(canvas) == ["dog .93", "person 1.00"]
    assert canvas.order == ["object 2", "object 1"]
    assert canvas.layers["object 1"].place == (2, 3, 3, 6)
    assert canvas.layers["object 1"].values.shape == (3, 6)
    assert canvas.names == {"object 1": {1: "dog .93"}, "object 2": {1: "person 1.00"}}


def test_no_object_and_an_object_without_pixels():
    canvas = view_objects(photo(), [], ["person"])
    assert texts(canvas) == ["no object was found"] and canvas.order == []
    canvas = view_objects(photo(), [Instance(torch.zeros(SIDES) > 0, 0, 0.5, 0)], ["person"])
    assert texts(canvas) == ["person .50 · no pixel"]
    assert not canvas.layers["object 1"].values.any()
    assert (canvas.snapshot() == view_objects(photo(), [], ["person"]).snapshot()).all()


def test_a_map_of_objects_will_do_as_well():
    numbers, probs = torch.zeros(SIDES, dtype=torch.long), torch.full((2, *SIDES), 0.1)
    numbers[:, :6], numbers[:, 10:] = 1, 3  # the second is hidden by the first
    probs[1, :, :6], probs[0, :, 10:] = 0.8, 0.6
    canvas = view_objects(photo(), dict(objects=numbers, probs=probs), ["person", "dog"])
    assert texts(canvas) == ["dog .80", "person .60"]
    assert canvas.layers["object 2"].place == (0, 10, 12, 10)
    nobody = dict(objects=numbers * 0, probs=probs)
    assert texts(view_objects(photo(), nobody, ["person", "dog"])) == ["no object was found"]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_any_finds_the_viewer(dtype):
    image = (photo() * (255 if dtype == torch.uint8 else 1)).to(dtype)
    hybrid = dict(
        labels=torch.ones(SIDES, dtype=torch.long),
        objects=torch.ones(SIDES, dtype=torch.long),
        probs=torch.full((1, *SIDES), 0.7),
    )
    assert view_any(image, trimap_answer()).order == ["trimap", "doubt"]
    assert view_any(image, fusion_answer()).order[-1] == "fused"
    assert view_any(image, walls_answer()).order == ["classes", "mask", "probability"]
    assert texts(view_any(image, hybrid)) == ["class 0 .70"]
    assert texts(view_any(image, hybrid, ["person"])) == ["person .70"]


def broken(answer: dict, name: str, value: object) -> dict:
    answer = {key: tensor.contiguous().clone() for key, tensor in answer.items()}
    answer[name].view(-1)[3] = value
    return answer


THING = dict(mask=torch.ones(SIDES, dtype=torch.bool), label=0, score=0.5)
REFUSED = {
    "prediction: has no 'trimap', only labels, mask, probs; is it another system's?": lambda: (
        view_trimap(photo(), walls_answer())
    ),
    "prediction: has no 'labels', only nothing": lambda: view_walls(photo(), {}, ["wall"]),
    "prediction: no viewer knows mask; they know trimap, weights, objects, labels": lambda: (
        view_any(photo(), dict(mask=photo()))
    ),
    "probs: must lie in [0, 1]: 1 of 240 values are NaN or infinite": lambda: view_walls(
        photo(), broken(walls_answer(), "probs", torch.nan), ["wall", "sky"]
    ),
    "probs: must lie in [0, 1]: 1 of": lambda: view_trimap(
        photo(), broken(trimap_answer(), "probs", torch.nan)
    ),
    "weights: must lie in [0, 1]: 1 of 720": lambda: view_fusion(
        photo(), broken(fusion_answer(), "weights", torch.inf)
    ),
    "fused: must lie in [0, 1]: got 0.25 to 3": lambda: view_fusion(
        photo(), broken(fusion_answer(), "fused", 3.0)
    ),
    "order: must be (2, 2) without NaN, got (2, 2) with 1 NaN": lambda: view_fusion(
        photo(), broken(fusion_answer(), "order", torch.nan)
    ),
    "order: must be (2, 2) without NaN, got (3, 3) with 0 NaN": lambda: view_fusion(
        photo(), fusion_answer() | dict(order=torch.zeros(3, 3))
    ),
    "trimap: 128 stands for nothing; known are 0 background, 1 unknown": lambda: view_trimap(
        photo(), broken(trimap_answer(), "trimap", 128)
    ),
    "trimap: must hold whole numbers, got torch.float32": lambda: view_trimap(
        photo(), trimap_answer() | dict(trimap=torch.zeros(1, *SIDES))
    ),
    "labels: 1 stands for nothing; known are 0 wall, 255 ignored": lambda: view_walls(
        photo(), walls_answer(), ["wall"]
    ),
    "labels: -1 stands for nothing": lambda: view_walls(
        photo(), broken(walls_answer(), "labels", -1), ["wall", "sky"]
    ),
    "labels: 300 stands for nothing": lambda: view_walls(
        photo(), broken(walls_answer(), "labels", 300), ["wall", "sky"]
    ),
    "names: a layer holds 255 classes at most, got 256": lambda: view_walls(
        photo(), walls_answer(), ["wall"] * 256
    ),
    "trimap: needs the 3 axes (1 H W), got shape (1, 1, 12, 20)": lambda: view_trimap(
        photo(), {name: tensor[None] for name, tensor in trimap_answer().items()}
    ),
    "labels: axis W must be 21, got shape (12, 20)": lambda: view_walls(
        photo((12, 21)), walls_answer(), ["wall", "sky"]
    ),
    "alpha: axis W must be 20, got shape (1, 12, 7)": lambda: view_trimap(
        photo(), trimap_answer(), torch.zeros(1, 12, 7)
    ),
    "mask of object 1: axis H must be 12, got shape (4, 20)": lambda: view_objects(
        photo(), [SimpleNamespace(**THING | dict(mask=torch.ones(4, 20) > 0))], ["person"]
    ),
    "object 2: class 5 has no name among 1": lambda: view_objects(
        photo(), [SimpleNamespace(**THING), SimpleNamespace(**THING | dict(label=5))], ["person"]
    ),
    "object 1: its score must lie in [0, 1], got nan": lambda: view_objects(
        photo(), [SimpleNamespace(**THING | dict(score=float("nan")))], ["person"]
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused_with_a_word_about_what_to_do(message):
    with pytest.raises(ValueError) as caught:
        REFUSED[message]()
    assert message in str(caught.value)


def large(name: str) -> tuple:
    "A viewer with what it needs for twelve megapixels."
    size = (3000, 4000)
    image, generator = (torch.rand(3, 300, 400) * 255).to(torch.uint8), torch.Generator()
    image = image.repeat_interleave(10, 1).repeat_interleave(10, 2)
    if name == "trimap":
        return view_trimap, image, trimap_answer(size), torch.rand(1, *size, generator=generator)
    if name == "fusion":
        return view_fusion, image, fusion_answer(5, size)
    if name == "walls":
        return view_walls, image, walls_answer(size), ["wall", "sky"]
    masks = torch.zeros(10, *size, dtype=torch.bool)
    for n, mask in enumerate(masks):
        mask[200 * n : 200 * n + 900, 300 * n : 300 * n + 900] = True
    return view_objects, image, [Instance(m, 0, 0.5, n) for n, m in enumerate(masks)], ["person"]


@pytest.mark.parametrize("name", ["trimap", "fusion", "walls", "objects"])
def test_twelve_megapixels_open_at_once(name):
    view, *given = large(name)
    start = time.process_time()
    canvas = view(*given)
    seconds = time.process_time() - start
    sent = sum(len(zlib.compress(layer.values.tobytes(), 1)) for layer in canvas.layers.values())
    print(f"{name}: {seconds:.2f} s of one processor, {sent / 1e6:.2f} MB besides the photograph")
    assert all(max(layer.values.shape[:2]) <= LONGEST for layer in canvas.layers.values())
    assert seconds < 3 and sent < 3e6
