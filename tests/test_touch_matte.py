"From mask to matte: sizes, backgrounds, files, odd masks, threads, and what goes wrong."

import threading
import time
import weakref
from base64 import b64decode

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from seglab.core import BACKGROUND, FOREGROUND, UNKNOWN
from seglab.io import ImageError, write_image
from seglab.touch import matte
from seglab.touch.cutout import (
    Cutting,
    Matte,
    Wish,
    as_float,
    blur_behind,
    choose_backdrop,
    cover_size,
    draw_checker,
    draw_trimap,
    find_matte,
    fit_size,
    remark,
    solve_matte,
    write_cutout,
)
from seglab.touch.latest import Latest
from seglab.touch.matte import MattePanel, first_band

NOISE = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(3))
MASK = torch.zeros(1, 48, 64, dtype=torch.bool)
MASK[:, 12:36, 16:48] = True
IMAGE = torch.where(MASK, 0.7 + 0.2 * NOISE, 0.2 * NOISE)
PLAIN = torch.full((3, 48, 64), 0.5)


def panel(*args, **options) -> MattePanel:
    made = MattePanel(*(args or (IMAGE, MASK)), **options)
    assert made.settle(60)
    return made


def status(shown: MattePanel) -> str:
    return shown.controls["status"].value


@pytest.fixture
def gate(monkeypatch):
    "A solver that stops inside until it is let go, and tells what it was asked."
    gate = threading.Event()
    gate.asked, gate.entered = [], threading.Event()

    def find(cutting, wish, full=False):
        gate.asked.append(wish)
        gate.entered.set()
        assert gate.wait(20)
        trimap = draw_trimap(cutting, wish)
        return Matte(trimap, trimap.float() / 2, cutting.small)

    monkeypatch.setattr(matte, "find_matte", find)
    yield gate
    gate.set()


# ---- two sizes


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float64, torch.float16])
def test_a_copy_for_the_screen_keeps_what_a_value_means(kind):
    image = IMAGE.mul(255).round().to(kind) if kind == torch.uint8 else IMAGE.to(kind)
    small, same = fit_size(image, 32), fit_size(image)
    assert small.shape == (3, 24, 32) and small.dtype == torch.float32
    assert torch.allclose(small, torch.nn.functional.avg_pool2d(IMAGE, 2), atol=0.004)
    assert same.shape == image.shape and torch.allclose(same, IMAGE, atol=0.004)
    assert torch.allclose(as_float(image), IMAGE, atol=0.004)


def test_a_small_mask_is_true_where_half_of_a_pixel_is():
    mask = torch.zeros(1, 4, 8, dtype=torch.bool)
    mask[0, :2, 0], mask[0, 0, 4] = True, True
    assert fit_size(mask, 4).tolist() == [[[True, False, False, False], [False] * 4]]
    assert fit_size(mask[:, :1, :], 2).shape == (1, 1, 2), "no side becomes 0"


def test_the_band_means_the_same_in_both_sizes():
    image, mask = torch.rand(3, 1536, 2048), torch.zeros(1, 1536, 2048, dtype=torch.bool)
    mask[:, 400:1200, 600:1400] = True
    cutting = Cutting(image, mask)
    small, large = (draw_trimap(cutting, Wish(band=40), full) for full in (False, True))
    assert small.shape == (1, 768, 1024) and large.shape == (1, 1536, 2048)
    assert (large[0, 800] == UNKNOWN).sum() == 160 and (small[0, 400] == UNKNOWN).sum() == 80
    assert torch.equal(large[:, ::2, ::2][:, 300:500, 290:310], small[:, 300:500, 290:310])


def test_full_size_is_the_photographs():
    mask = torch.zeros(1, 1200, 1600, dtype=torch.bool)
    mask[:, 500:600, 700:800] = True
    image = torch.rand(3, 1200, 1600, generator=torch.Generator().manual_seed(5))
    image = torch.where(mask, 0.8 + 0.2 * image, 0.2 * image)
    shown = panel(image.mul(255).to(torch.uint8), mask)
    assert shown.alpha.shape == (1, 768, 1024) and shown.canvas.size == [768, 1024]
    full = shown.matte()
    assert full.alpha.shape == mask.shape and full.foreground.shape == image.shape
    known = full.trimap != UNKNOWN
    assert torch.equal(full.alpha[known], mask[known].float())
    kept = weakref.ref(full)
    del full
    assert kept() is None, "nothing of this size stays in memory"
    shown.controls["band"].value += 1
    assert (shown.matte().trimap == UNKNOWN).sum() > (~known).sum()


# ---- mattes and what they are laid before


def test_a_matte_is_a_mixture_and_keeps_the_known():
    found = solve_matte(IMAGE, draw_trimap(Cutting(IMAGE, MASK), Wish(band=3)))
    assert torch.equal(found.alpha[found.trimap == FOREGROUND].unique(), torch.ones(1))
    assert torch.equal(found.alpha[found.trimap == BACKGROUND].unique(), torch.zeros(1))
    assert (found.alpha.round() == MASK).float().mean() > 0.99
    assert torch.equal(found.over(PLAIN)[:, 0, 0], PLAIN[:, 0, 0])
    assert torch.allclose(found.over(PLAIN)[:, 24, 32], IMAGE[:, 24, 32], atol=1e-6)
    half = Matte(found.trimap, torch.full((1, 48, 64), 0.25), torch.ones(3, 48, 64))
    assert torch.allclose(half.over(torch.zeros(3, 48, 64)), torch.tensor(0.25))


def test_the_blur_has_nothing_of_the_object_in_it():
    photo = torch.where(MASK, 1.0, 0.25).expand(3, -1, -1)
    assert (blur_behind(photo, MASK.float()) - 0.25).abs().max() < 0.01
    full = blur_behind(photo, torch.ones_like(MASK).float())
    assert full.isfinite().all() and full.shape == photo.shape


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (300, 20), (48, 64)])
def test_backdrops_have_the_size_of_the_picture(size):
    image, alpha = torch.rand(3, *size), torch.rand(1, *size)
    for kind in ("checker", "colour", "blurred", PLAIN):
        backdrop = choose_backdrop(kind, image, alpha)
        assert backdrop.shape == image.shape and 0 <= backdrop.min() <= backdrop.max() <= 1


def test_a_picture_covers_all_and_is_cut_in_its_middle():
    wide = torch.zeros(3, 10, 40)
    wide[:, :, 15:25] = 1.0
    assert torch.equal(cover_size(wide, 10, 10), torch.ones(3, 10, 10))
    tall = cover_size(wide.transpose(1, 2), 20, 40)
    assert tall.shape == (3, 20, 40) and tall.mean() > 0.9


def test_plain_colours_and_squares():
    assert choose_backdrop("colour", IMAGE, MASK, "#00ff00")[:, 5, 5].tolist() == [0, 1, 0]
    assert choose_backdrop("colour", IMAGE, MASK, "red")[:, 5, 5].tolist() == [1, 0, 0]
    row = draw_checker(4, 8, squares=4)[0, 0]
    assert row[0] == row[1] != row[2] == row[3] != row[4]


# ---- odd masks, odd pictures


@pytest.mark.parametrize(
    ("mask", "word", "alpha"),
    [
        (torch.zeros_like(MASK), "the mask is empty: alpha is 0 everywhere", 0),
        (torch.ones_like(MASK), "the mask is full: alpha is 1 everywhere", 1),
    ],
)
def test_masks_without_an_edge_are_answered_and_named(mask, word, alpha):
    shown = panel(IMAGE, mask)
    assert status(shown) == word and shown.error is None
    assert shown.alpha.unique().tolist() == [alpha]


def test_an_object_that_the_band_swallowed_is_named():
    thin = torch.zeros_like(MASK)
    thin[:, 20:22] = True
    shown = panel(IMAGE, thin)
    shown.controls["band"].value = 4
    shown.settle()
    assert status(shown) == "no sure foreground is left: make the band narrower"
    assert remark(~thin, 2 - draw_trimap(Cutting(IMAGE, thin), Wish(band=4))).startswith(
        "no sure b"
    )


def say_wrong(shape) -> str:
    return f"mask: must be bool, (1, 48, 64) like the image, got {shape}"


@pytest.mark.parametrize(
    ("image", "mask", "text"),
    [
        (IMAGE, MASK[:, :40], say_wrong("torch.bool, (1, 40, 64)")),
        (IMAGE, MASK[0], say_wrong("torch.bool, (48, 64)")),
        (IMAGE, MASK.float(), say_wrong("torch.float32, (1, 48, 64)")),
        (IMAGE, None, say_wrong("NoneType")),
        (IMAGE[0], MASK, "image: must be (3, H, W), got (48, 64)"),
        (IMAGE[:1], MASK, "image: must be (3, H, W), got (1, 48, 64)"),
        (IMAGE.clone().fill_(torch.nan), MASK, "NaN"),
        (IMAGE * 255, MASK, "must lie in [0, 1]"),
        (IMAGE.mul(255).int(), MASK, "must be float in [0, 1], got torch.int32"),
    ],
)
def test_what_cannot_be_cut_is_refused(image, mask, text):
    with pytest.raises(ValueError) as found:
        MattePanel(image, mask)
    assert text in str(found.value)


@pytest.mark.parametrize("side", [1, 3, 4])
def test_a_tiny_picture_is_an_error_in_the_panel(side):
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[:, :1] = True
    shown = panel(torch.rand(3, side, side), mask)
    if mask.all():
        assert shown.error is None
    else:
        assert "trimap" in str(shown.error) and shown.alpha is None
        assert status(shown) == "there is no alpha"


def test_a_small_picture_is_solved():
    mask = torch.zeros(1, 12, 12, dtype=torch.bool)
    mask[:, 3:9, 3:9] = True
    shown = panel(torch.where(mask, 0.9, 0.1).expand(3, -1, -1), mask)
    assert shown.error is None and torch.equal(shown.alpha > 0.5, mask)


def test_the_first_band_suits_the_object():
    assert first_band(MASK) == 2, "a twentieth of 32 is less than two"
    large = torch.zeros(1, 1000, 1000, dtype=torch.bool)
    assert first_band(large) == 2
    large[:, 100:900, 300:400] = True
    assert first_band(large) == 40


# ---- the panel


def test_the_panel_draws_what_is_solved():
    shown = panel()
    cutting = Cutting(IMAGE, MASK)
    wish = Wish(band=shown.controls["band"].value)
    expected = find_matte(cutting, wish)
    assert shown.wish == wish and torch.equal(shown.alpha, expected.alpha)
    assert torch.equal(shown.trimap, draw_trimap(cutting, wish))
    assert torch.equal(shown.composite, expected.over(draw_checker(48, 64)))
    assert shown.canvas.order == ["trimap", "alpha", "composite"]
    assert "alpha of 48 × 64 pixels" in status(shown)


@pytest.mark.parametrize("method", ["closed_form", "knn", "large_kernel", "random_walk"])
def test_every_method_finds_the_box(method):
    shown = panel()
    shown.controls["method"].value = method
    assert shown.settle(60) and shown.error is None
    assert (shown.alpha > 0.5).ne(MASK).sum() < 30


def test_views_and_the_line():
    shown = panel()
    for view in ("photo", "trimap", "alpha", "composite"):
        shown.controls["view"].value = view
        assert [name for name, alpha in shown.canvas.alphas.items() if alpha] == [view][
            view == "photo" :
        ]
    assert shown.canvas.split == -1
    shown.controls["compare"].value = True
    assert shown.canvas.split == 0.5 and "composite" in shown.canvas.after
    shown.canvas.split = 0.2  # dragged
    shown.controls["view"].value = "alpha"
    assert shown.canvas.split == 0.2
    shown.controls["compare"].value = False
    assert shown.canvas.split == -1


def test_a_background_is_changed_without_solving(gate):
    gate.set()
    shown = panel(pictures=dict(plain=PLAIN))
    assert len(gate.asked) == 1
    for kind, at_corner in (("colour", [0, 0, 1]), ("plain", [0.5] * 3)):
        shown.controls["colour"].value = "#0000ff"
        shown.controls["backdrop"].value = kind
        assert shown.composite[:, 0, 0].tolist() == at_corner
        drawn = shown.canvas.layers["composite"].values[0, 0] / 255
        assert drawn == pytest.approx(at_corner, abs=0.01)
    assert len(gate.asked) == 1


def test_a_background_that_is_no_file_is_an_error_and_nothing_else_is_lost(tmp_path):
    shown = panel(pictures=dict(beach=tmp_path / "beach.png"))
    before = shown.composite
    shown.controls["backdrop"].value = "beach"
    assert isinstance(shown.error, ImageError) and "no such file" in shown.canvas.error_text
    write_image(tmp_path / "beach.png", PLAIN)
    shown.controls["colour"].value = "#123456"  # tries again
    assert shown.error is None and not torch.equal(shown.composite, before)


def test_the_saved_notebook_gets_a_picture():
    shown = panel()
    shown.controls["backdrop"].value = "colour"
    bundle = shown._repr_mimebundle_()
    drawn = cv2.imdecode(np.frombuffer(b64decode(bundle["image/png"]), np.uint8), 1)[..., ::-1]
    assert "application/vnd.jupyter.widget-view+json" in bundle and drawn.shape == (48, 64, 3)
    assert drawn[0, 0].tolist() == [0x1F, 0x6F, 0x54]


# ---- under the hand


def test_the_trimap_follows_while_the_solver_is_busy(gate):
    shown = MattePanel(IMAGE, MASK)
    assert gate.entered.wait(10)
    widths = []
    for band in (3, 5, 8):
        shown.controls["band"].value = band
        widths.append(int((shown.trimap[0, 24] == UNKNOWN).sum()))
        assert np.array_equal(shown.canvas.layers["trimap"].values, shown.trimap[0].numpy())
        assert shown.canvas.alphas["trimap"] == 1 and status(shown) == "alpha is on its way …"
    assert widths == [12, 20, 32] and shown.alpha is None
    gate.set()
    assert shown.settle(20)
    assert [wish.band for wish in gate.asked] == [2, 8], "those between were never solved"
    assert torch.equal(shown.alpha, shown.trimap.float() / 2)
    assert shown.canvas.alphas == dict(trimap=0, alpha=0, composite=1)


def test_an_answer_for_an_older_mask_is_dropped(gate):
    masks = [MASK, ~MASK]
    shown = MattePanel(IMAGE, lambda: masks[0])
    assert gate.entered.wait(10)
    masks.pop(0)
    shown.cutting.refresh()  # the panel does not know yet
    gate.set()
    shown.settle(20)
    assert shown.alpha is None
    shown.refresh()
    shown.settle(20)
    assert shown.alpha[0, 24, 32] == 0 and shown.alpha[0, 0, 0] == 1


def test_a_mask_is_taken_anew_and_gets_a_band_of_its_own():
    masks = [torch.zeros(1, 200, 200, dtype=torch.bool)]
    image = torch.rand(3, 200, 200, generator=torch.Generator().manual_seed(1))
    shown = panel(image, lambda: masks[-1])
    assert not shown.alpha.any() and not shown.controls["refresh"].disabled
    masks.append(masks[0].clone())
    masks[-1][:, 20:180, 20:180] = True
    shown.controls["refresh"].click()
    shown.settle(60)
    assert shown.controls["band"].value == 8 and shown.alpha[0, 100, 100] == 1
    assert panel().controls["refresh"].disabled, "there is nobody to ask"


def test_a_mask_of_another_size_is_refused_and_the_old_one_kept():
    masks = [MASK]
    shown = panel(IMAGE, lambda: masks[-1])
    before = shown.alpha
    masks.append(MASK[:, 1:])
    with pytest.raises(ValueError, match=r"got torch.bool, \(1, 47, 64\)"):
        shown.refresh()
    shown.controls["refresh"].click()
    assert "got torch.bool, (1, 47, 64)" in str(shown.error) and shown.alpha is before


def test_a_network_is_a_second_way_to_trimaps():
    asked = []

    def network(image, mask):
        asked.append((image.dtype, tuple(image.shape), tuple(mask.shape)))
        return (
            torch.where(mask, FOREGROUND, BACKGROUND)
            .to(torch.uint8)
            .index_fill_(1, torch.tensor([12]), UNKNOWN)
        )

    shown = panel(IMAGE.mul(255).to(torch.uint8), MASK, trimap=network)
    assert not asked and not shown.controls["source"].disabled
    shown.controls["source"].value = "network"
    shown.settle(60)
    assert asked == [(torch.float32, (3, 48, 64), (1, 48, 64))]
    assert shown.trimap[0, 12].eq(UNKNOWN).all() and shown.controls["band"].disabled
    assert panel().controls["source"].disabled


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (MASK.float(), "network: must give uint8 codes (1, 48, 64), got torch.float32"),
        (MASK[:, 1:].to(torch.uint8), "got torch.uint8, (1, 47, 64)"),
        (torch.full_like(MASK, 7, dtype=torch.uint8), "must be uint8 codes 0, 1, 2"),
        (torch.ones_like(MASK, dtype=torch.uint8), "is unknown everywhere"),
        (ZeroDivisionError("no luck"), "no luck"),
    ],
)
def test_what_fails_is_kept_and_shown_and_takes_the_old_matte_away(answer, text):
    def network(image, mask):
        if isinstance(answer, Exception):
            raise answer
        return answer

    shown = panel(IMAGE, MASK, trimap=network)
    shown.controls["source"].value = "network"
    assert shown.settle(60)
    assert text in str(shown.error) and text in shown.canvas.error_text
    assert shown.alpha is None and shown.composite is None
    assert shown.canvas.order == ["trimap"] and status(shown) == "there is no alpha"
    with pytest.raises(type(shown.error)):
        shown.matte()
    shown.controls["source"].value = "band"
    assert shown.settle(60)
    assert shown.error is None and shown.alpha is not None and not shown.canvas.error_text


# ---- files


def test_a_cut_out_holds_colours_and_opacity(tmp_path):
    shown = panel()
    shown.save(tmp_path / "new" / "object.PNG")
    with Image.open(tmp_path / "new" / "object.PNG") as picture:
        rows = np.asarray(picture)
    full = shown.matte()
    assert picture.mode == "RGBA" and [path.name for path in (tmp_path / "new").iterdir()] == [
        "object.PNG"
    ]
    assert np.abs(rows[..., 3] / 255 - full.alpha[0].numpy()).max() <= 0.5 / 255 + 1e-6
    there = rows[..., 3] > 0
    wanted = full.foreground.permute(1, 2, 0).numpy()
    assert np.abs(rows[..., :3] / 255 - wanted)[there].max() <= 0.5 / 255 + 1e-6
    assert not rows[~there].any(), "the room behind is not given away"


def test_other_suffixes_get_the_background(tmp_path):
    shown = panel()
    shown.controls["backdrop"].value = "colour"
    shown.save(tmp_path / "composed.bmp")
    with Image.open(tmp_path / "composed.bmp") as picture:
        assert picture.size == (64, 48) and picture.getpixel((0, 0)) == (0x1F, 0x6F, 0x54)


def test_the_button_writes_and_says_so(tmp_path):
    shown = panel()
    shown.controls["path"].value = str(tmp_path / "a.png")
    shown.controls["save"].click()
    assert shown.settle(60) and (tmp_path / "a.png").is_file()
    assert status(shown).startswith("wrote ") and not shown.controls["save"].disabled


@pytest.mark.parametrize("name", ["a.txt", "", "a"])
def test_a_file_that_cannot_be_written_is_an_error_in_the_panel(tmp_path, name):
    shown = panel()
    shown.controls["path"].value = str(tmp_path / name) if name else ""
    shown.controls["save"].click()
    assert shown.settle(60)
    assert isinstance(shown.error, ImageError) and status(shown) == "nothing was written"
    assert not shown.controls["save"].disabled and not [*tmp_path.iterdir()]


def test_only_png_keeps_transparency(tmp_path):
    found = Matte(MASK.to(torch.uint8), MASK.float(), IMAGE)
    with pytest.raises(ImageError, match="'.jpg' would not keep the transparency, use .png"):
        write_cutout(tmp_path / "a.jpg", found)


# ---- requests


def told(work, rest=0.02) -> tuple[Latest, list]:
    answers = []
    return Latest(work, lambda *all: answers.append(all), rest), answers


def test_an_exception_is_an_answer_and_the_next_request_is_served():
    latest, answers = told(lambda number: 1 / number)
    latest.ask(0)
    assert latest.settle(10)
    latest.ask(2)
    assert latest.settle(10)
    assert answers[0][:2] == (0, None) and isinstance(answers[0][2], ZeroDivisionError)
    assert answers[1] == (2, 0.5, None)


def test_requests_rest_first_and_only_the_newest_is_served():
    latest, answers = told(lambda number: number, rest=0.1)
    start = time.monotonic()
    for number in range(5):
        latest.ask(number)
    assert not latest.settle(0.02) and latest.settle(10)
    assert [answer[0] for answer in answers] == [4] and time.monotonic() - start >= 0.1


def test_the_thread_ends_when_there_is_nothing_to_do():
    before = threading.active_count()
    latest, answers = told(lambda number: number)
    assert latest.settle(1), "nothing was asked"
    latest.ask(1)
    assert latest.settle(10)
    end = time.monotonic() + 5
    while threading.active_count() > before:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert len(answers) == 1
