"""How many samples a batch has, and an epoch."""

from __future__ import annotations

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor
from mindspore.train import Callback
from training import Samples, Script, dataset, make_model, samples_of

from ms_callbacks import History, LossMonitor
from ms_callbacks.core import distributed
from ms_callbacks.core.lifecycle import Lifecycle
from ms_callbacks.core.samples import size_of
from ms_callbacks.monitoring.csv_logger import CSVLogger


def array(*shape):
    return Tensor(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([array(8, 4), array(8)], 8),
        ((array(8, 4),), 8),
        ([array(8), array(8)], 8),
        ([array(), array(8, 4), array(8)], 8),  # a weight before
        ([array(8, 4), array(8), array()], 8),  # or after
        ([array(), array(8, 4)], 8),
        ([array(3), array(8, 4), array(8)], 8),  # a weight for each class
        ([array(8, 4), array(20)], 8),  # labels laid end to end
        ([array(4), array()], 1),  # not batched
        ([array(), array()], 1),
        ([array()], 1),
        ([2.5, array(8, 4), array(8)], 8),
        ([np.zeros((8, 4)), np.zeros(8)], 8),
        ([np.array(["a", "b"]), array(2, 4)], 2),
        ([["a", "b", "c"], array(3, 4)], 3),  # one for each sample
        ([[{"box": array(1, 4)}, {"box": array(5, 4)}], array(2, 3, 4, 4)], 2),
        ([{"images": array(8, 4), "labels": array(8)}], 8),
        ([{"scale": array(), "text": {"ids": array(8, 4), "mask": array(8, 4)}}], 8),
        ([(array(8, 4), array(8, 2)), array(8)], 8),
        ([np.zeros((0, 4)), np.zeros(0)], 0),
    ],
)
def test_the_size_of_a_batch(columns, expected):
    """The first dimension that its columns have in common; one sample where there is none to be told."""
    assert size_of(columns) == expected


@pytest.mark.parametrize(
    ("count", "batch_size", "drop", "expected"), [(65, 16, False, 65), (65, 16, True, 64), (48, 12, False, 48)]
)
def test_every_batch_counts_by_its_size(tmp_path, mode, count, batch_size, drop, expected):
    """Not by that of the last."""
    history, path = History(), tmp_path / "log.csv"
    source = ds.GeneratorDataset(Samples(count, 0), ["images", "labels"], shuffle=False)
    make_model().train(2, source.batch(batch_size, drop), callbacks=[CSVLogger(str(path)), history])
    assert samples_of(history) == pytest.approx([expected] * 2)
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert [float(row[-1]) * float(row[-2]) for row in rows[1:]] == pytest.approx([expected] * 2)


def test_a_batch_of_another_structure_is_counted_too():
    """Nothing of it may end the run."""
    history, batches = History(), iter([[array(8, 4)], [{"images": array(3, 4)}], [[1, 2]], [array(8, 4)], [array()]])

    class Give(Callback):
        def on_train_step_begin(self, run_context):
            run_context.original_args()["train_dataset_element"] = next(batches)

    Script().run([Give(), history], [None], steps=5)
    assert samples_of(history) == pytest.approx([8 + 3 + 2 + 8 + 1])


def test_batches_that_are_not_seen_are_not_counted():
    """As in sink mode; and not where one of them was not seen."""
    history, batches = History(), iter([(), (), [array(8, 4)], ()])

    class Give(Callback):
        def on_train_step_begin(self, run_context):
            run_context.original_args()["train_dataset_element"] = next(batches)

    Script().run([Give(), history], [None, None], steps=2)
    Script().run([History()], [None])
    assert history.history["samples_per_second"] == [None, None]


def test_nobody_counts_unless_asked():
    """A step of callbacks that do not need the number asks for no batch."""
    asked = []

    class Look(Callback):
        def on_train_end(self, run_context):
            asked.append(Lifecycle.of(run_context).run.progress.samples)

    make_model().train(1, dataset(), callbacks=[LossMonitor(), Look()])
    assert asked == [None]


def test_samples_are_of_all_processes(monkeypatch):
    """Their number is beyond what single precision holds; the seconds are this one's."""
    most = 2**24 + 1
    monkeypatch.setattr(distributed, "gathered", lambda own: np.stack([own, np.array(divmod(most, 2**20), own.dtype)]))
    history = History()
    make_model().train(1, dataset(65, 16), callbacks=[history])
    assert samples_of(history)[0] == pytest.approx(65 + most, abs=1e-6)
