"""The values of an evaluation: one name and one number each, everywhere."""

from __future__ import annotations

import csv

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from mindspore.train import MAE, Accuracy, Callback, Metric
from training import Script, dataset, make_model, valid_dataset

from ms_callbacks import BestCheckpoint, EarlyStopping, LossMonitor, ProgressBar, Validate
from ms_callbacks.core import distributed
from ms_callbacks.core.metric_values import as_number, check_alike, named, numbers_in, with_numbers
from ms_callbacks.monitoring.csv_logger import CSVLogger
from ms_callbacks.monitoring.history import History

OF_EVERY_EPOCH = ["epoch", "loss", "learning_rate", "seconds", "samples_per_second"]


class Says(Metric):
    """A metric that says, evaluation by evaluation, what is written down."""

    def __init__(self, *values):
        super().__init__()
        self.values = values
        self.evaluations = 0

    def clear(self):
        pass

    def update(self, *inputs):
        pass

    def eval(self):
        self.evaluations += 1
        return self.values[min(self.evaluations, len(self.values)) - 1]


class NoStep(Callback):
    """Fails the test if a step runs."""

    def on_train_step_begin(self, run_context):
        raise AssertionError("a step ran")


def train(metrics, *callbacks, epochs=1):
    """A run whose Model has these metrics; returns what Validate found last."""
    model = make_model(metrics=metrics)
    validate = Validate(model, valid_dataset())
    model.train(epochs, dataset(12), callbacks=[*callbacks, validate])
    return validate.results_


KINDS = {
    "tensor": (Tensor(0.5, ms.float32), 0.5),
    "tensor_of_one": (Tensor([[0.5]], ms.float32), 0.5),
    "tensor_of_half": (Tensor(0.5, ms.float16), 0.5),
    "tensor_of_int": (Tensor(3), 3.0),
    "tensor_of_bool": (Tensor(True), 1.0),
    "float32": (np.float32(0.5), 0.5),
    "int64": (np.int64(3), 3.0),
    "numpy_bool": (np.bool_(False), 0.0),
    "array": (np.array(0.5), 0.5),
    "array_of_one": (np.array([[0.5]], np.float16), 0.5),
    "array_of_bool": (np.array([True]), 1.0),
    "array_of_objects": (np.array([0.5], object), 0.5),
    "list_of_one": ([Tensor([0.5], ms.float32)], 0.5),
    "int": (7, 7.0),
    "bool": (True, 1.0),
    "negative": (-2, -2.0),
}
NO_NUMBERS = {
    "none": None,
    "text": "0.5",
    "empty": np.zeros(0),
    "matrix": np.eye(2),
    "pair": (0.5, 0.5),
    "nothing": [],
    "complex": np.complex64(1j),
    "structure": np.zeros(1, [("x", "f4")]),
    "huge": 10**400,
    "two": Tensor([1.0, 2.0]),
}


def test_the_same_number_everywhere(tmp_path, capsys):
    """Whatever a metric returns it in: recorded, logged, shown, monitored and part of a file's name."""
    history, bar = History(), ProgressBar()
    stoppings = {name: EarlyStopping(name, mode="max", verbose=0) for name in KINDS}
    template = "-".join(f"{{{name}:.2f}}" for name in ("tensor", "int", "bool", "array_of_one"))
    best = BestCheckpoint(str(tmp_path / f"{template}.ckpt"), monitor="tensor", mode="max", verbose=0)
    metrics = {name: Says(value) for name, (value, _) in KINDS.items()}
    logger = CSVLogger(str(tmp_path / "log.csv"))
    results = train(metrics, history, bar, LossMonitor(per_print_times=0), *stoppings.values(), best, logger)
    expected = {name: number for name, (_, number) in KINDS.items()}
    assert {name: value for name, value in results.items() if name != "eval_loss"} == expected
    assert all(type(value) is float for value in results.values())
    assert {name: history.history[name] for name in KINDS} == {name: [each] for name, each in expected.items()}
    with open(tmp_path / "log.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert {name: float(row[name]) for name in KINDS} == expected
    assert {name: stopping.best_ for name, stopping in stoppings.items()} == expected
    assert best.best_path_ == str(tmp_path / "0.50-7.00-1.00-0.50.ckpt")
    out, shown = capsys.readouterr()
    for name, number in expected.items():
        assert f", {name} {number:.4f}," in shown
        assert f"{name}: {number:.4f}" in out


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_what_is_no_number_is_none(name):
    """Nothing is made up of several numbers, or of a text."""
    assert as_number(NO_NUMBERS[name]) is None


def test_what_is_no_number_is_named_once(tmp_path, capsys):
    """Whoever looks, in whichever epoch; it is not recorded, and to monitor it is an error that says so."""
    history = History()
    train(
        {"x": Says(np.eye(2)), "y": Says(None), "z": Says({"a": "text"})},
        history,
        LossMonitor(per_print_times=0),
        epochs=3,
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Model: ")]
    assert lines == [
        "Model: the metric 'x' gave an array of shape (2, 2), not a number to monitor or record",
        "Model: the metric 'y' gave None (NoneType), not a number to monitor or record",
        "Model: the metric 'a' gave 'text' (str), not a number to monitor or record",
    ]
    assert sorted(history.history) == sorted([*OF_EVERY_EPOCH[1:], "eval_loss"])
    with pytest.raises(TypeError, match="monitor 'x' must be a single number, but the metric returned array"):
        train({"x": Says(np.eye(2))}, EarlyStopping("x", mode="max"))


@pytest.mark.parametrize(
    ("metrics", "values"),
    [
        ({"det": {"precision": 0.5, "f-score": 1}}, {"precision": 0.5, "f-score": 1.0}),
        ({"det": {}}, {}),
        ({"det": {"a": {"b": 1.0}}}, {"a_b": 1.0}),
        ({"det": {"p": 1.0}, "rec": {"p": 2.0}}, {"det_p": 1.0, "rec_p": 2.0}),
        ({"det": {"p": 1.0}, "p": 2.0}, {"p": 2.0, "det_p": 1.0}),
        ({"det": {0: 1.0, 1: 2.0}}, {"det_0": 1.0, "det_1": 2.0}),
        ({"det": {"": 1.0}}, {"det_": 1.0}),
        ({"det": {"p": 1.0}, "det_p": 3.0, "p": 2.0}, {"det_p": 3.0, "p": 2.0, "det_p_": 1.0}),
        (
            {"det": {"epoch": 1.0, "loss": 2.0, "eval_loss": 3.0}},
            {f"det_{k}": v for k, v in zip(["epoch", "loss", "eval_loss"], [1.0, 2.0, 3.0])},
        ),
        ({"epoch": 1, "step": 2, "seconds": 3}, {"eval_epoch": 1.0, "eval_step": 2.0, "eval_seconds": 3.0}),
        ({"loss": 1.0}, {"eval_loss": 1.0}),
        ({"eval_loss": 2.0, "loss": 1.0}, {"eval_loss": 1.0}),  # of which Model.fit's is that of the last batch
        ({"loss": 1.0, "eval_loss": 2.0}, {"eval_loss": 1.0}),
        ({1: 2.0}, {"1": 2.0}),
    ],
)
def test_names(metrics, values):
    """A dictionary's own keys, unless these are not unique or are the run's own."""
    assert named(metrics) == values


@pytest.mark.parametrize("name", [*OF_EVERY_EPOCH, "step", "train_loss"])
def test_a_metric_with_a_name_of_the_runs_own_gets_another(tmp_path, name):
    """Known before the first step: the columns stay what they are, and the value can be monitored and be in a name."""
    history, logger = History(), CSVLogger(str(tmp_path / "log.csv"))
    best = BestCheckpoint(
        str(tmp_path / f"{{epoch}}-{{eval_{name}:.1f}}.ckpt"), monitor=f"val_{name}", mode="max", verbose=0
    )
    train({name: Says(42)}, history, logger, best)
    assert history.epoch == [1]
    assert history.history[f"eval_{name}"] == [42.0]
    assert all(values != [42.0] for key, values in history.history.items() if key != f"eval_{name}")
    header, row = (tmp_path / "log.csv").read_text().splitlines()
    assert header.split(",") == ["epoch", "loss", *sorted({f"eval_{name}", "eval_loss"}), *OF_EVERY_EPOCH[2:]]
    assert row.split(",")[0] == "1"
    assert (best.best_, best.best_path_) == (42.0, str(tmp_path / "1-42.0.ckpt"))


@pytest.mark.parametrize("names", [("loss", "eval_loss"), ("epoch", "eval_epoch")])
def test_two_metrics_of_one_name_are_refused_before_the_first_step(names):
    """Whichever callbacks there are: one of the two would be lost."""
    with pytest.raises(ValueError, match=f"Model: the metrics .* both give the value '{names[1]}', as the run itself"):
        train({name: Says(1.0) for name in sorted(names, reverse=True)}, NoStep())


def test_a_value_of_a_dictionary_is_monitored_logged_and_part_of_a_name(tmp_path):
    """As any other."""
    history = History()
    best = BestCheckpoint(str(tmp_path / "{epoch}-{f-score:.3f}.ckpt"), monitor="f-score", verbose=0)
    stopping = EarlyStopping("val_precision", patience=0, verbose=0)
    metric = Says({"precision": 0.5, "f-score": 0.7}, {"precision": 0.5, "f-score": 0.75})
    train({"det": metric}, best, history, stopping, epochs=3)
    assert (best.best_, best.best_path_) == (0.75, str(tmp_path / "2-0.750.ckpt"))
    assert (history.history["f-score"], stopping.stopped_epoch_) == ([0.7, 0.75], 2)
    assert "det" not in history.history


def test_an_unknown_name_is_refused_as_soon_as_it_can_be_told(tmp_path):
    """Before the first step, unless a metric of the user's own may have it in a dictionary; then after it was asked."""
    for metrics in ({"acc": Accuracy(), "mae": MAE()}, {"acc": Says(0.5), "mae": Says(0.5)}):
        for name in ("MAE", "val_MAE", "Acc"):
            with pytest.raises(ValueError, match=f"'{name}' is not among .* did you mean '{name[-3:].lower()}'"):
                train(metrics, EarlyStopping(name, mode="max"), NoStep())
    with pytest.raises(ValueError, match="'f-score' is not among"):
        train({"acc": Accuracy()}, EarlyStopping("f-score"), NoStep())
    with pytest.raises(ValueError, match=r"'f-scor' is not among .*'f-score'.* did you mean 'f-score'\?"):
        train({"det": Says({"f-score": 0.5})}, EarlyStopping("f-scor", mode="max"))
    with pytest.raises(ValueError, match=r"unknown field 'ACC'.* did you mean 'acc'\?"):
        train({"acc": Says(0.5)}, BestCheckpoint(str(tmp_path / "{ACC}.ckpt"), monitor="acc"), NoStep())
    with pytest.raises(ValueError, match=r"unknown field 'x'; this run has .*'f-score'"):
        train({"det": Says({"f-score": 0.5})}, BestCheckpoint(str(tmp_path / "{x}.ckpt"), monitor="f-score"))
    with pytest.raises(ValueError, match="mode='auto' cannot tell whether a smaller or a larger 'hmean'"):
        train({"det": Says({"hmean": 0.5})}, EarlyStopping("hmean"), NoStep())


def test_a_value_that_comes_now_and_then(tmp_path):
    """From the third epoch on, or in every second: the run does not end, and an epoch without it is none to observe."""
    history, logger = History(), CSVLogger(str(tmp_path / "log.csv"))
    stopping = EarlyStopping("a", mode="max", patience=1, verbose=0)
    train({"m": Says({"a": 1.0}, {}, {"a": 2.0, "b": 3})}, history, logger, stopping, epochs=3)
    assert (history.history["a"], history.history["b"]) == ([1.0, None, 2.0], [None, None, 3.0])
    assert (stopping.best_, stopping.wait_) == (2.0, 0)
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "a", "b", "eval_loss", *OF_EVERY_EPOCH[2:]]
    assert [(row["epoch"], row["a"], row["b"]) for row in rows] == [
        ("1", "1.0", ""),
        ("2", "", ""),
        ("3", "2.0", "3.0"),
    ]


def test_means_over_processes_reach_into_dictionaries(monkeypatch):
    """Every number is averaged, whatever it came in, and the rest stays; other keys on another process are an error."""
    metrics = {"acc": Tensor(0.5), "n": 3, "m": np.eye(2), "det": {"p": np.float32(0.25), "s": "x"}}
    numbers = numbers_in(metrics)
    assert numbers == [0.5, 3.0, 0.25]
    means = with_numbers(metrics, [each * 2 for each in numbers])
    assert named(means) == {"acc": 1.0, "n": 6.0, "m": metrics["m"], "p": 0.5, "s": "x"}
    check_alike(metrics)
    monkeypatch.setattr(distributed, "gathered", lambda own: np.stack([own, own + 1]))
    with pytest.raises(ValueError, match="did not give the same values .here: acc, n, det/p.*give the same keys"):
        check_alike(metrics)


def test_a_scripted_run_has_the_same_names():
    """Results that Model.fit has published go the same way."""
    history = History()
    Script().run([history], [{"epoch": 9, "det": {"p": Tensor([1])}}])
    assert {key: history.history[key] for key in ("eval_epoch", "p")} == {"eval_epoch": [9.0], "p": [1.0]}
    assert history.epoch == [1]


def test_a_key_of_a_dictionary_that_is_the_runs_own_gets_the_metrics_name_before_it():
    """As one that the training steps give."""
    assert named({"det": {"kl": 1.0}}, ["kl"]) == {"det_kl": 1.0}
