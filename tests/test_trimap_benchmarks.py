"Guards of seglab.trimap.benchmarks and comparison: official layouts, composition, units, resuming."

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from seglab.core import FOREGROUND, UNKNOWN, ConfigError, DatasetError
from seglab.io import write_alpha, write_image, write_trimap
from seglab.trimap import benchmarks, comparison
from seglab.trimap.data import TrimapSamples
from seglab.trimap.plan import FitConfig, build_loaders
from seglab.trimap.rough import trimap_from_alpha

SIZES = [(40, 30), (24, 48)]


def picture(size, seed=0):
    "Colours, opacity with a soft disc, and a wide trimap."
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(*(torch.linspace(-1, 1, s) for s in size), indexing="ij")
    alpha = ((0.8 - rows.hypot(columns)) * 5).clamp(0, 1)[None]
    colour = torch.rand(3, *size, generator=generator)
    return colour, alpha, trimap_from_alpha(alpha[None], widen=2)[0]


def fill(folder, layout):
    "A miniature of one set: two pictures of two sizes."
    for number, size in enumerate(SIZES):
        colour, alpha, trimap = picture(size, number)
        root = folder / layout.root
        write_image(root / layout.images / f"x_{number}.jpg", colour)
        write_alpha(root / layout.alphas / f"x_{number}.png", alpha)
        if layout.trimaps:
            write_trimap(root / layout.trimaps / f"x_{number}.png", trimap)


def fill_composition(folder, objects=2, share=3, size=(20, 26), grounds=None):
    "A miniature of Composition-1k; every background has one colour of its own."
    root = folder / "Combined_Dataset" / "Test_set"
    voc = folder / "VOCdevkit" / "VOC2012" / "JPEGImages"
    names = [f"an object {number}.png" for number in range(objects)]
    for number, name in enumerate(names):
        colour, alpha, _ = picture(size, number)
        write_image(root / "Adobe-licensed images" / "fg" / name, colour)
        write_alpha(root / "Adobe-licensed images" / "alpha" / name, alpha)
    files = [f"2008_{number:06d}.png" for number in range(objects * share)]
    for number, file in enumerate(files):
        plain = torch.full((3, 30, 30), number / 10)
        write_image(voc / file, plain if grounds is None else grounds[number])
    (root / "test_fg_names.txt").write_text("\r\n".join(names) + "\r\n")
    (root / "test_bg_names.txt").write_text("\n".join(files) + "\n\n")
    return root, voc


@pytest.mark.parametrize("name", benchmarks.LAYOUTS)
def test_every_official_layout_is_read(name, tmp_path):
    layout = benchmarks.LAYOUTS[name]
    fill(tmp_path, layout)
    source = benchmarks.benchmark(name, tmp_path)
    assert source.names == ["x_0", "x_1"] and len(source) == 2
    for number, size in enumerate(SIZES):
        matte = source.draw(number, np.random.default_rng(0))
        assert matte["image"].shape == (3, *size) and matte["soft"]
        assert torch.allclose(matte["alpha"], picture(size, number)[1], atol=0.5 / 255 + 1e-6)
        trimap = source.human_trimap(number)
        assert (trimap is not None) == (name in benchmarks.BENCHMARKS)
        assert trimap is None or torch.equal(trimap, picture(size, number)[2])


def test_the_parts_of_a_set_lie_in_one_archive(tmp_path):
    for name in ("P3M-10k", "P3M-500-P", "P3M-500-NP"):
        fill(tmp_path, benchmarks.LAYOUTS[name])
    written = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("x_0.*")}
    assert "P3M-10k/train/blurred_image/x_0.jpg" in written
    assert "P3M-10k/validation/P3M-500-NP/original_image/x_0.jpg" in written
    assert "P3M-10k/train/trimap/x_0.png" not in written and len(written) == 8


@pytest.mark.parametrize("name", benchmarks.LAYOUTS)
@pytest.mark.parametrize("part", ["images", "alphas"])
def test_what_is_missing_is_named_and_the_tree_is_shown(name, part, tmp_path):
    layout = benchmarks.LAYOUTS[name]
    fill(tmp_path, layout)
    (next((tmp_path / layout.root / getattr(layout, part)).glob("x_1.*"))).unlink()
    with pytest.raises(DatasetError) as caught:
        benchmarks.benchmark(name, tmp_path)
    said = str(caught.value)
    assert "x_1" in said and benchmarks.tree(name) in said and str(tmp_path) in said
    for words in (f"{layout.images}/", f"{layout.alphas}/", f"{layout.root}/"):
        assert words in benchmarks.tree(name)


def test_missing_trimaps_are_no_error(tmp_path):
    layout = benchmarks.LAYOUTS["AIM-500"]
    fill(tmp_path, layout)
    (tmp_path / layout.root / layout.trimaps / "x_0.png").unlink()
    source = benchmarks.benchmark("AIM-500", tmp_path)
    assert source.human_trimap(0) is None and source.human_trimap(1) is not None


def test_pictures_are_read_when_asked_for_and_not_kept(tmp_path):
    layout = benchmarks.LAYOUTS["AM-200"]
    fill(tmp_path, layout)
    file = tmp_path / layout.root / layout.images / "x_0.jpg"
    content = file.read_bytes()
    file.write_text("this is no picture")
    source = benchmarks.benchmark("AM-200", tmp_path)
    with pytest.raises(ValueError, match="x_0"):
        source.draw(0)
    file.write_bytes(content)
    assert source.draw(0)["image"].shape == (3, *SIZES[0])


def test_sizes_that_disagree_are_refused(tmp_path):
    layout = benchmarks.LAYOUTS["AM-200"]
    fill(tmp_path, layout)
    write_alpha(tmp_path / layout.root / layout.alphas / "x_0.png", torch.ones(1, 8, 8))
    with pytest.raises(ValueError, match="sizes"):
        benchmarks.benchmark("AM-200", tmp_path).draw(0)


@pytest.mark.parametrize("name, measured", [("P3M-10k", "P3M-500-P"), ("AM-2k", "AM-200")])
def test_a_training_set_makes_lessons_and_is_measured_on_its_own_part(name, measured, tmp_path):
    fill(tmp_path, benchmarks.LAYOUTS[name])
    fill(tmp_path, benchmarks.LAYOUTS[measured])
    source = benchmarks.find_pictures("train", name, folder=tmp_path)
    assert source.layout == benchmarks.LAYOUTS[name]
    lesson = TrimapSamples(source, side=32, count=3, augment=True, widen=1)[2]
    assert lesson["image"].shape == (3, 32, 32) and lesson["alpha"].isfinite().all()
    exams = benchmarks.find_pictures("val", name, folder=tmp_path)
    assert exams.layout == benchmarks.LAYOUTS[measured]


@pytest.mark.parametrize("name, measured", [("P3M-10k", "P3M-500-P"), ("AM-2k", "AM-200")])
def test_a_plan_of_training_knows_the_set_by_name(name, measured, tmp_path, monkeypatch):
    fill(tmp_path, benchmarks.LAYOUTS[name])
    fill(tmp_path, benchmarks.LAYOUTS[measured])
    monkeypatch.setenv("SEGLAB_DATA", str(tmp_path))
    config = FitConfig(source=name, side=32, samples=5, batch_size=2)
    lessons, exams = build_loaders(config)
    assert len(lessons.dataset) == 5 and next(iter(lessons))["image"].shape == (2, 3, 32, 32)
    assert len(exams.dataset) == 2


def test_no_test_set_is_trained_on(tmp_path):
    for name in benchmarks.BENCHMARKS:
        with pytest.raises(ConfigError, match="test set"):
            benchmarks.find_pictures("train", name, folder=tmp_path)
    with pytest.raises(ConfigError, match="split"):
        benchmarks.find_pictures("test", "P3M-10k", folder=tmp_path)
    assert len(benchmarks.find_pictures("val", "drawn", 32)) == 12


def test_background_i_of_foreground_k_is_number_share_k_plus_i(tmp_path):
    fill_composition(tmp_path)
    source = benchmarks.benchmark("Composition-1k", tmp_path)
    assert source.names == [f"an object {k}_{i}" for k in range(2) for i in range(3)]
    for index in range(6):
        matte = source.draw(index)
        empty = matte["alpha"][0] == 0
        assert matte["name"] == source.names[index] and empty.any()
        assert (matte["image"][:, empty] * 255).round().eq(round(255 * index / 10)).all()
        assert torch.equal(matte["alpha"], source.draw(index // 3 * 3)["alpha"])


def pixel_by_pixel(foreground, alpha, background):
    "Composition with whole numbers and a loop over pixels, written from the rule in words."
    rows, columns = foreground.shape[:2]
    wide, high = background.width, background.height
    ratio = max(columns / wide, rows / high)
    if ratio > 1:
        size = (int(np.ceil(wide * ratio)), int(np.ceil(high * ratio)))
        background = background.resize(size, Image.BICUBIC)
    background = background.crop((0, 0, columns, rows))
    made = np.empty((rows, columns, 3), np.uint8)
    for y in range(rows):
        for x in range(columns):
            opacity = int(alpha[y, x]) / 255
            for c in range(3):
                front, back = int(foreground[y, x, c]), background.getpixel((x, y))[c]
                made[y, x, c] = int(opacity * front + (1 - opacity) * back)
    return made


@pytest.mark.parametrize("ground", [(9, 7), (30, 40), (40, 8), (8, 40), (20, 26), (19, 60)])
def test_composites_equal_a_loop_over_pixels(ground, tmp_path):
    generator = torch.Generator().manual_seed(3)
    grounds = [torch.rand(3, *ground, generator=generator)]
    root, voc = fill_composition(tmp_path, 1, 1, grounds=grounds)
    found = benchmarks.benchmark("Composition-1k", tmp_path).draw(0)["image"]
    parts = root / "Adobe-licensed images"
    colour = np.asarray(Image.open(parts / "fg" / "an object 0.png"))
    alpha = np.asarray(Image.open(parts / "alpha" / "an object 0.png"))
    expected = pixel_by_pixel(colour, alpha, Image.open(voc / "2008_000000.png"))
    assert np.array_equal((found * 255).round().permute(1, 2, 0).numpy(), expected)


def test_official_trimaps_of_composites_are_found_by_their_own_names(tmp_path):
    root, _ = fill_composition(tmp_path)
    trimap = picture((20, 26))[2]
    write_trimap(root / "Adobe-licensed images" / "trimaps" / "an object 1_2.png", trimap)
    source = benchmarks.benchmark("Composition-1k", tmp_path)
    found = [source.human_trimap(index) is not None for index in range(6)]
    assert found == [False] * 5 + [True] and torch.equal(source.human_trimap(5), trimap)


@pytest.mark.parametrize(
    "missing",
    [
        "Combined_Dataset/Test_set/test_fg_names.txt",
        "Combined_Dataset/Test_set/test_bg_names.txt",
        "Combined_Dataset/Test_set/Adobe-licensed images/fg/an object 1.png",
        "Combined_Dataset/Test_set/Adobe-licensed images/alpha/an object 0.png",
        "VOCdevkit/VOC2012/JPEGImages/2008_000004.png",
    ],
)
def test_a_missing_file_of_composition_is_named_before_anything_is_drawn(missing, tmp_path):
    fill_composition(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(DatasetError) as caught:
        benchmarks.benchmark("Composition-1k", tmp_path)
    assert missing in str(caught.value) and benchmarks.tree("Composition-1k") in str(caught.value)


def test_lists_of_unequal_length_are_refused(tmp_path):
    root, _ = fill_composition(tmp_path)
    (root / "test_bg_names.txt").write_text("2008_000000.png\n" * 5)
    with pytest.raises(DatasetError, match="2 foregrounds, 5 backgrounds"):
        benchmarks.benchmark("Composition-1k", tmp_path)


def test_what_is_there_is_found_and_what_is_not_is_told(tmp_path, monkeypatch):
    fill(tmp_path, benchmarks.LAYOUTS["AM-200"])
    monkeypatch.setenv("SEGLAB_DATA", str(tmp_path))
    found, absent = benchmarks.find_benchmarks("benchmarks")
    assert list(found) == ["AM-200"] and len(absent) == 4
    assert all(benchmarks.tree(name) in said for name, said in absent.items())
    with pytest.raises(DatasetError, match="P3M-500-P is not complete"):
        benchmarks.find_benchmarks("AM-200, P3M-500-P")
    with pytest.raises(ConfigError, match="did you mean"):
        benchmarks.find_benchmarks("AM-20")
    monkeypatch.setenv("SEGLAB_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetError) as caught:
        benchmarks.find_benchmarks("benchmarks")
    assert all(benchmarks.tree(name) in str(caught.value) for name in benchmarks.BENCHMARKS)


# scores


def test_scores_have_the_units_of_published_tables():
    target = torch.zeros(1, 10, 10)
    target[:, :, 5:] = 1
    answer = trimap_from_alpha(target[None])[0]
    answer[:, 0, :4] = FOREGROUND  # four pixels that are background: alpha is wrong by one
    official = trimap_from_alpha(target[None])[0]
    official[:, 0, 2:7] = UNKNOWN  # two of the four lie where the official trimap is unknown
    given = dict(image=torch.rand(3, 10, 10), alpha=target, human=official)
    scores = comparison.score_trimap(answer, given)
    assert scores["sad"] == pytest.approx(4 / 1000) and scores["unknown_sad"] == pytest.approx(
        2 / 1000
    )
    assert scores["mse"] == pytest.approx(4 / 100) == scores["mad"]
    assert scores["unknown_mse"] == pytest.approx(2 / 5) == scores["unknown_mad"]
    assert scores["background_iou"] == pytest.approx(46 / 50)
    assert scores["foreground_iou"] == pytest.approx(50 / 54)
    assert np.isnan(scores["unknown_iou"]), "unknown in neither trimap"
    assert scores["official_iou"] == pytest.approx((46 / 50 + 0 + 48 / 54) / 3, abs=0.02)


def test_grad_is_close_to_that_of_the_portrait_benchmark():
    "P3M, AIM and AM divide the squares of SciPy's Gaussian derivatives by ten."
    _, alpha, _ = picture((60, 80))
    blurred = torch.from_numpy(gaussian_filter(alpha[0].numpy(), 2))[None]
    region = torch.ones_like(alpha, dtype=torch.bool)[None]
    lengths = [
        np.hypot(*(gaussian_filter(x[0].numpy(), 1.4, order=order) for order in [(1, 0), (0, 1)]))
        for x in (alpha, blurred)
    ]
    theirs = np.square(lengths[0] - lengths[1]).sum() / 10
    ours = comparison.ALPHA_SCORES["grad"](blurred[None], alpha[None], region).item()
    assert 0.95 < ours / theirs < 0.99


def test_a_trimap_without_any_certainty_has_no_errors(tmp_path):
    fill(tmp_path, benchmarks.LAYOUTS["AM-200"])
    source = benchmarks.benchmark("AM-200", tmp_path)
    file = tmp_path / "rows.csv"
    lost = lambda image, mask: torch.full_like(mask, UNKNOWN, dtype=torch.uint8)  # noqa: E731
    comparison.score_benchmark(dict(network=lost), source, file, limit=1)
    table = comparison.score_benchmark(dict(network=lost), source, file)
    network = table.xs("network", level="trimap")
    assert network["mse"].isna().all() and network["unknown_area"].eq(1).all()
    assert table.xs("official", level="trimap")["mse"].notna().all()


class Killed(Exception):
    "What ends a run before its time."


def band(image, mask):
    return comparison.trimap_from_mask(mask[None], 2)[0]


BAND = dict(network=band)


def test_a_killed_run_continues_where_it_stopped(tmp_path):
    fill_composition(tmp_path)
    source = benchmarks.benchmark("Composition-1k", tmp_path)
    source.names[3] = "NA"  # a name that CSV readers like to take for a missing value
    source.names[4] = "007"
    whole = comparison.score_benchmark(BAND, source, tmp_path / "whole.csv", bands=[3])
    asked = []

    def mortal(image, mask):
        asked.append(len(asked))
        if len(asked) == 4:
            raise Killed
        return band(image, mask)

    file = tmp_path / "parts" / "rows.csv"
    with pytest.raises(Killed):
        comparison.score_benchmark(dict(network=mortal), source, file, bands=[3])
    assert [path.name for path in file.parent.iterdir()] == ["rows.csv"], "nothing half written"
    again = comparison.score_benchmark(dict(network=mortal), source, file, bands=[3])
    assert len(asked) == 7, "three pictures, the one that died, and three more"
    pd.testing.assert_frame_equal(again, whole, check_exact=True)
    assert comparison.score_benchmark(dict(network=None), source, file, bands=[3]).equals(again), (
        "all is there"
    )


@pytest.mark.parametrize(
    "other", [dict(solver="knn"), dict(longest=12), dict(settings="b"), dict(bands=[2])]
)
def test_rows_of_other_settings_are_refused(other, tmp_path):
    fill(tmp_path, benchmarks.LAYOUTS["AM-200"])
    source = benchmarks.benchmark("AM-200", tmp_path)
    file = tmp_path / "rows.csv"
    comparison.score_benchmark(BAND, source, file, limit=1)
    with pytest.raises(ConfigError, match="move it away"):
        comparison.score_benchmark(BAND, source, file, **other)


def test_knn_is_another_method(tmp_path):
    fill(tmp_path, benchmarks.LAYOUTS["AM-200"])
    source = benchmarks.benchmark("AM-200", tmp_path)
    tables = [
        comparison.score_benchmark(BAND, source, tmp_path / f"{m}.csv", solver=m, limit=1)
        for m in ("closed_form", "knn")
    ]
    mse = [table["mse"].xs("network", level="trimap").item() for table in tables]
    assert mse[0] != mse[1] and all(0 < value < 0.2 for value in mse)


def test_every_published_number_has_an_origin():
    table = comparison.published()
    assert table[["benchmark", "method", "sees", "region", "origin"]].map(len).gt(0).all(axis=None)
    assert set(table["benchmark"]) <= set(benchmarks.BENCHMARKS)
    assert table["region"].isin(["whole", "unknown"]).all()
    scores = table[["sad", "mse", "mad", "grad", "conn", "iou"]]
    assert scores.notna().any(axis=1).all()
    assert table[["mse", "mad", "iou"]].max().lt(1).all(), "plain fractions"
    gfm = table.query("benchmark == 'P3M-500-P' and method == 'GFM'").iloc[0]
    assert (gfm["sad"], gfm["mse"], gfm["sees"]) == (13.20, 0.0050, "photograph")


def test_ours_and_theirs_never_share_a_column(tmp_path):
    tables = {}
    for name in ("AIM-500", "P3M-500-P"):
        fill(tmp_path, benchmarks.LAYOUTS[name])
        source = benchmarks.benchmark(name, tmp_path)
        tables[name] = comparison.score_benchmark(BAND, source, tmp_path / f"{name}.csv")
    both = comparison.side_by_side(tables)
    filled = both.notna().T.groupby(level=0).any().T
    assert (filled["measured here"] ^ filled["reported"]).all()
    assert list(dict.fromkeys(both.index.get_level_values("benchmark"))) == list(tables)
    row = both.xs(("AIM-500", "unknown", "seglab, network"), level=(0, 1, 2))["measured here"]
    mean = tables["AIM-500"].xs("network", level="trimap")["unknown_sad"].mean()
    assert row["sad"].item() == pytest.approx(mean)
    assert both.xs("P3M-Net", level="method")["reported"]["mse"].item() == 0.0026


def test_a_set_without_publications_can_be_tabled(tmp_path):
    fill(tmp_path, benchmarks.LAYOUTS["AM-200"])
    source = benchmarks.benchmark("AM-200", tmp_path)
    source.human_trimap = lambda index: None
    table = comparison.score_benchmark(BAND, source, tmp_path / "rows.csv")
    both = comparison.side_by_side({"drawn": table})
    assert set(both.index.get_level_values("region")) == {"whole"} and len(both) == 2
