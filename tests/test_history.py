"Which epoch is best."

import math

import matplotlib.pyplot as plt
import pytest

from seglab.history import History, learning_curves


@pytest.mark.parametrize(
    "values, higher, epoch",
    [
        ([1, 3, 2], True, 2),
        ([1, 3, 2], False, 1),
        ([2, 2], True, 1),
        ([math.nan, 1, 2], False, 2),
        ([math.inf, 1], False, 2),
        ([math.nan], True, None),
        ([], True, None),
    ],
)
def test_best_row(values, higher, epoch):
    rows = [dict(epoch=n, score=float(value)) for n, value in enumerate(values, 1)]
    history = History(rows, best_by="score", higher_is_better=higher)
    assert (history.best_row or dict(epoch=None))["epoch"] == epoch
    assert math.isnan(history.best) == (epoch is None)


def test_paths_name_only_files_that_exist(tmp_path):
    history = History([], tmp_path)
    assert history.best_path is None and history.last_path is None
    (tmp_path / "last.safetensors").touch()
    assert history.last_path == tmp_path / "last.safetensors" and history.best_path is None


def test_curves_without_scores_and_with_nan():
    row = dict(step=1, seconds=1.0, lr=0.1, loss=1.0, gradient=0.5)
    without = learning_curves(History([dict(epoch=1, **row)]))
    assert [axis.get_title() for axis in without.axes] == ["losses"]
    both = learning_curves(History([dict(epoch=1, **row, iou=math.nan)], best_by="iou"))
    assert [axis.get_title() for axis in both.axes] == ["losses", "scores"]
    assert not plt.get_fignums(), "figures are closed"
