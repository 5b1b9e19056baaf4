"""What callbacks have to show is the same as what they print."""

from __future__ import annotations

import numpy as np
import pytest
from training import dataset, make_model

from ms_callbacks import (
    CallbackProfiler,
    ConfusionMatrix,
    EarlyStopping,
    FigureArtifact,
    GradientMonitor,
    HardExamples,
    ShapeInspector,
    TableArtifact,
    TextArtifact,
    TrainCallback,
    Validate,
)


class Nothing(TrainCallback):
    """Shows nothing."""


def test_a_callback_shows_nothing_unless_it_says_so():
    """Nor does one of the package before a run."""
    shown = [Nothing(), EarlyStopping("acc"), ShapeInspector(), ConfusionMatrix(), HardExamples(), CallbackProfiler()]
    assert [each.artifacts() for each in [*shown, GradientMonitor()]] == [[]] * 7


def test_after_a_run_tables_and_figures_are_there(capsys):
    """As many rows as the callback has learnt; each text is part of what was printed."""
    inspector, matrix, hard = ShapeInspector(), ConfusionMatrix(), HardExamples(3)
    gradients, profiler = GradientMonitor(2, verbose=0), CallbackProfiler()
    trained = make_model()
    listed = [Validate(trained, dataset(seed=1)), inspector, matrix, hard, gradients, profiler]
    trained.train(1, dataset(), callbacks=listed)
    printed = capsys.readouterr().out
    shown = {each.name: each for one in listed for each in one.artifacts() if isinstance(each, TableArtifact)}
    assert set(shown) == {"layer_table", "confusion_matrix", "hard_examples", "gradients", "callback_times"}
    for name in ("layer_table", "hard_examples", "callback_times"):
        assert str(shown[name]) in printed
    assert all(len(row) == len(each.header) for each in shown.values() for row in each.rows)
    assert all(set(each.right) <= set(each.header) for each in shown.values())
    assert all(isinstance(cell, str) for each in shown.values() for row in each.rows for cell in row)
    counts = [[int(cell) for cell in row[1:-1]] for row in shown["confusion_matrix"].rows]
    assert np.array_equal(counts, matrix.matrix_)
    assert len(shown["hard_examples"].rows) == len(shown["hard_examples"].images) == 3
    assert all(each.shape[2] == 3 for each in shown["hard_examples"].images)
    assert [row[0] for row in shown["gradients"].rows] == [one.name for one in trained._network.trainable_params()]
    figures = [each for one in listed for each in one.artifacts() if isinstance(each, FigureArtifact)]
    assert [each.name for each in figures] == ["confusion_matrix", "hard_examples"]


def test_shades_are_the_share_of_the_true_class_that_is_mistaken():
    """The diagonal, the names and the last column are not shaded."""
    matrix = ConfusionMatrix(class_names=["a", "b"])
    matrix.load_state_arrays({"matrix": np.array([[3, 1], [0, 0]])})
    (table, _) = matrix.artifacts()
    assert table.header == ["True class", "a", "b", "Error"]
    assert [list(row) for row in table.rows] == [["a", "3", "1", "25.00 %"], ["b", "0", "0", "-"]]
    expected = [[np.nan, np.nan, 1.0, np.nan], [np.nan, 0.0, np.nan, np.nan]]
    np.testing.assert_array_equal(table.shades, expected)


def test_many_classes_have_a_text_in_place_of_a_matrix():
    """A table of 1,000 columns is of no use."""
    matrix = ConfusionMatrix()
    matrix.load_state_arrays({"matrix": np.eye(1000, dtype=np.int64)})
    (text, _) = matrix.artifacts()
    assert isinstance(text, TextArtifact)
    assert "0 of 1000 samples wrong" in text.text


def test_a_figure_is_drawn_only_on_request(pictures):
    """And holds the same as the picture."""
    pytest.importorskip("matplotlib")
    matrix = ConfusionMatrix()
    matrix.load_state_arrays({"matrix": np.array([[3, 1], [0, 2]])})
    (_, figure) = matrix.artifacts()
    assert [each.get_text() for each in figure.draw().axes[0].texts] == ["3", "1", "2"]
    assert not pictures


def test_samples_that_are_no_images_have_no_figure():
    """The table is there all the same."""
    hard = HardExamples(1)
    state = {"examples": [{"index": 0, "label": 1, "prediction": 0, "probability": 0.5, "loss": 1.0}]}
    hard.load_state_dict(state)
    hard.load_state_arrays({"0": np.zeros(4, np.float32)})
    (table,) = hard.artifacts()
    assert (len(table.rows), list(table.images)) == (1, [])


def test_a_notebook_shows_what_a_callback_has_to_show():
    """Tables and texts, escaped; without any, it shows the configuration, as for every callback."""

    class Shows(TrainCallback):
        def artifacts(self):
            return [
                TextArtifact("motto", "A <b> title", "small < large"),
                TableArtifact("sizes", "Sizes", ["Layer"], [["<script>"]]),
            ]

    shown = Shows()._repr_html_()
    assert "<div>A &lt;b&gt; title</div><pre>small &lt; large</pre>" in shown
    assert "&lt;script&gt;</th>" in shown
    assert "<script>" not in shown
    assert EarlyStopping("acc")._repr_html_() is None
    assert ConfusionMatrix()._repr_html_() is None, "before a run"
