"""Validate(every_n_steps=...): evaluations between steps, which training does not notice and callbacks observe."""

from __future__ import annotations

import csv
import re

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Callback
from training import (
    Recorder,
    assert_same_weights,
    compiled_model,
    dataset,
    make_model,
    valid_dataset,
    weights,
)

from ms_callbacks import (
    BestCheckpoint,
    CSVLogger,
    EarlyStopping,
    ExportBest,
    History,
    LossMonitor,
    NonFiniteGuard,
    ReduceLROnPlateau,
    TrainCallback,
    TrainingState,
    Validate,
    check_callbacks,
)

STEPS = 4  # of an epoch


class Observed(TrainCallback):
    """The place and the kind of each evaluation, and what stood in MindSpore's parameters then."""

    def __init__(self):
        super().__init__()
        self.order, self.places, self.published = [], [], []

    def before_evaluation(self, run):
        self.order.append("before")

    def after_evaluation(self, run, evaluation):
        self.order.append("after")
        self.places.append((evaluation.epoch, evaluation.step, evaluation.at_epoch_end))

    def on_train_step_end(self, run_context):
        self.published.append("eval_results" in run_context.original_args())


class Steps(Callback):
    """The weights after each step."""

    def __init__(self):
        self.after = []

    def on_train_step_end(self, run_context):
        self.after.append(weights(run_context.original_args()["network"]))


def places(epochs=2, how="train", count=48, **arguments):
    model, observed = make_model(), Observed()
    callbacks = [Validate(model, valid_dataset(), **arguments), observed]
    if how == "fit":
        model.fit(epochs, dataset(count), valid_dataset(), callbacks=callbacks)
    else:
        model.train(epochs, dataset(count), callbacks=callbacks)
    assert observed.order == ["before", "after"] * len(observed.places)
    return observed.places


@pytest.mark.parametrize(
    ("mode", "how", "shuffle"),
    [
        pytest.param(
            mode,
            how,
            shuffle,
            marks=[] if shuffle and (how == "train") == (mode == "graph") else [pytest.mark.slow],
        )
        for mode in ("graph", "pynative")
        for how in ("train", "fit")
        for shuffle in (False, True)
    ],
    indirect=["mode"],
)
def test_training_is_what_it_is_without(mode, how, shuffle):
    """Losses, weights and statistics, to the last bit, whatever the datasets draw."""
    ends = []
    for n in (None, 1, 3):
        ms.set_seed(7)
        model = make_model()
        recorder, train = Recorder(), dataset(shuffle=shuffle)
        valid = dataset(30, 12, seed=1, shuffle=shuffle)
        every = [] if n is None else [Validate(model, valid, every_n_steps=n)]
        if how == "fit":
            model.fit(2, train, valid, callbacks=[recorder, *every])
        else:
            model.train(2, train, callbacks=[recorder, *every])
        ends.append((recorder.losses, weights(model.train_network)))
    for losses, after in ends[1:]:
        assert losses == ends[0][0]
        assert_same_weights(after, ends[0][1])


def test_a_part_that_is_kept_in_evaluation_stays_so(mode):
    """As a frozen backbone's BatchNorm, which training must not move."""

    flags = []

    class Freeze(Callback):
        def on_train_begin(self, run_context):
            run_context.original_args()["network"].norm.set_train(False)

        def on_train_step_end(self, run_context):
            network = run_context.original_args()["network"]
            flags.append((network.training, network.norm.training))

    model = make_model()
    before = model.predict_network.norm.moving_mean.asnumpy().copy()
    model.train(2, dataset(), callbacks=[Freeze(), Validate(model, valid_dataset(), every_n_steps=1)])
    assert set(flags) == {(True, False)}
    np.testing.assert_array_equal(model.predict_network.norm.moving_mean.asnumpy(), before)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"every_n_steps": 2}, [(1, 2, False), (1, 4, True), (2, 6, False), (2, 8, True)]),
        ({"every_n_steps": 3}, [(1, 3, False), (1, 4, True), (2, 6, False), (2, 8, True)]),
        ({"every_n_steps": 3, "every_n_epochs": None}, [(1, 3, False), (2, 6, False), (2, 8, True)]),
        ({"every_n_steps": 4, "every_n_epochs": None, "on_last": False}, [(1, 4, False), (2, 8, False)]),
        ({"every_n_steps": 5, "every_n_epochs": 2}, [(2, 5, False), (2, 8, True)]),
        ({"every_n_steps": 2, "start_epoch": 2}, [(2, 6, False), (2, 8, True)]),
        ({"every_n_steps": 99}, [(1, 4, True), (2, 8, True)]),
        ({"start_epoch": 2}, [(2, 8, True)]),
    ],
)
def test_each_takes_place_once(arguments, expected):
    """Counted over the run; where one between steps and one of an epoch's end coincide, it is that of the end."""
    assert places(**arguments) == expected


@pytest.mark.parametrize("n", [1, 2, 4])
def test_fits_own_evaluation_is_not_doubled(n):
    """At the end of an epoch MindSpore evaluates by itself."""
    expected = [(1 + (step - 1) // STEPS, step, step % STEPS == 0) for step in range(n, 9, n)]
    assert places(how="fit", every_n_steps=n) == expected


def test_the_end_of_an_epoch_whose_length_is_not_known_is_not_doubled():
    """That a step was the last is known when the epoch ends; what was observed after it is the epoch's."""

    class Samples:
        def __init__(self):
            self.epoch = 0

        def __iter__(self):
            self.epoch += 1
            for _ in range(12 * (4, 6, 5)[min(self.epoch, 3) - 1]):
                yield np.zeros((1, 4, 4), np.float32), np.zeros((), np.int32)

        def __len__(self):
            return 48

    model, observed, history = make_model(), Observed(), History()
    data = ds.GeneratorDataset(Samples(), ["images", "labels"], shuffle=False).batch(12)
    model.train(3, data, callbacks=[Validate(model, valid_dataset(), every_n_steps=5), observed, history])
    assert observed.places == [(1, 4, True), (2, 5, False), (2, 10, False), (3, 15, False)]
    assert None not in history.history["acc"]


def test_between_steps_results_stand_where_fit_puts_them_until_the_epoch_ends():
    """An epoch that is not evaluated at its end has none there, so that MindSpore's own callbacks take none for its."""
    at_ends = []

    class AtEnd(Callback):
        def on_train_epoch_end(self, run_context):
            at_ends.append(run_context.original_args().get("eval_results"))

    model, observed = make_model(), Observed()
    validate = Validate(model, valid_dataset(), every_n_steps=3, every_n_epochs=None, on_last=False)
    model.train(2, dataset(), callbacks=[AtEnd(), validate, observed])
    assert observed.published == [False, False, True, True, False, True, True, True]
    assert at_ends == [None, None]
    assert set(validate.results_) == {"acc", "eval_loss"}


def test_patience_counts_observations_and_the_weights_are_those_of_the_step(mode, capsys):
    """A run may stop within an epoch, which is not evaluated again at its end."""
    model = make_model()
    steps, stopping = (
        Steps(),
        EarlyStopping("eval_loss", mode="auto", patience=3, min_delta=9.0, restore_best_weights=True),
    )
    observed = Observed()
    model.train(5, dataset(), callbacks=[Validate(model, valid_dataset(), every_n_steps=1), steps, stopping, observed])
    assert observed.places == [(1, 1, False), (1, 2, False), (1, 3, False), (1, 4, True)]
    assert (stopping.stopped_epoch_, stopping.stopped_step_, stopping.best_epoch_, stopping.wait_) == (1, 0, 1, 3)
    assert_same_weights(weights(model.predict_network), steps.after[0])
    stopped, restored = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"EarlyStopping: stopped after epoch 1: eval_loss .* \(epoch 1, step 1\) 3 times in a row", stopped
    )
    assert restored.startswith("EarlyStopping: restored the weights of epoch 1, step 1 (")
    stopping = EarlyStopping("eval_loss", patience=4, min_delta=9.0, verbose=1)
    model.train(5, dataset(), callbacks=[Validate(model, valid_dataset(), every_n_steps=1), stopping, steps])
    assert (stopping.stopped_epoch_, stopping.stopped_step_) == (2, 5)
    assert len(steps.after) == 4 + 5
    assert "EarlyStopping: stopped after epoch 2, step 5: " in capsys.readouterr().out


def test_the_best_checkpoint_is_of_the_step_that_was_the_best(graph, tmp_path, capsys):
    """Whether that was between steps or at the end of an epoch; the record tells which."""
    model = compiled_model()
    steps = Steps()
    best = BestCheckpoint(str(tmp_path / "{epoch}-{step}.ckpt"), monitor="eval_loss", save_top_k=-1)
    model.train(2, dataset(), callbacks=[best, Validate(model, valid_dataset(), every_n_steps=1), steps])
    names = sorted(path.name for path in tmp_path.glob("*.ckpt"))
    assert names == [f"{1 + (step - 1) // 4}-{step}.ckpt" for step in range(1, 9)]
    record = best.load_into(model.predict_network)
    assert record["between_steps"] == (record["step"] % STEPS != 0)
    assert_same_weights(weights(model.predict_network), steps.after[record["step"] - 1])
    assert re.search(r"in epoch 1, step 1 is the best so far: saved ", capsys.readouterr().out)
    with pytest.raises(ValueError, match=r"BestCheckpoint: save_top_k=2 needs \{step\} in the filepath"):
        two = BestCheckpoint(str(tmp_path / "{epoch}.ckpt"), monitor="acc", save_top_k=2)
        model.train(1, dataset(), callbacks=[two, Validate(model, valid_dataset(), every_n_steps=1)])


def test_the_export_is_of_the_step_that_was_the_best(graph, tmp_path, capsys):
    """Which the line names."""
    model = make_model()
    exporting = ExportBest(str(tmp_path / "best.mindir"), monitor="eval_loss", mode="min")
    model.train(1, dataset(), callbacks=[exporting, Validate(model, valid_dataset(), every_n_steps=1)])
    assert re.search(r"exported the weights of epoch 1(, step [123])? \(eval_loss", capsys.readouterr().out)


def test_the_rate_is_lowered_between_steps(capsys):
    """From the next step on; what is recorded of the evaluation is the rate before."""
    model, history, recorder = make_model(learning_rate=0.1), History(), Recorder()
    plateau = ReduceLROnPlateau("eval_loss", factor=0.5, patience=2, min_delta=9.0)
    callbacks = [plateau, history, recorder, Validate(model, valid_dataset(), every_n_steps=1)]
    model.train(1, dataset(), callbacks=callbacks)
    assert recorder.rates == pytest.approx([0.1, 0.1, 0.05, 0.05])  # which it reads after the evaluation
    assert [each["learning_rate"] for each in history.evaluations_] == pytest.approx([0.1, 0.1, 0.1])
    assert history.history["learning_rate"] == pytest.approx([0.05])
    assert "learning rate 0.05 from step 4 on: " in capsys.readouterr().out


def test_histories_and_logs_have_them_beside_the_epochs(tmp_path, capsys):
    """The epochs' values are as they would be; each evaluation between steps has an entry, a row and a line."""
    model, history = make_model(), History()
    log, validate = CSVLogger(str(tmp_path / "log.csv")), Validate(model, valid_dataset(), every_n_steps=3)
    model.train(2, dataset(), callbacks=[history, log, LossMonitor(per_print_times=0), validate])
    bare, plain = make_model(), History()
    bare.train(2, dataset(), callbacks=[plain, Validate(bare, valid_dataset())])
    for key in ("loss", "acc", "eval_loss", "learning_rate"):
        assert history.history[key] == plain.history[key]
    assert [(each["epoch"], each["step"]) for each in history.evaluations_] == [(1, 3), (2, 6)]
    assert set(history.evaluations_[0]) == {"epoch", "step", "loss", "acc", "eval_loss", "learning_rate", "seconds"}
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3"), ("1", "4"), ("2", "6"), ("2", "8")]
    assert [float(row["loss"]) for row in rows[1::2]] == history.history["loss"]
    assert [float(row["acc"]) for row in rows[::2]] == [each["acc"] for each in history.evaluations_]
    lines = [line for line in capsys.readouterr().out.splitlines() if "validation: " in line]
    assert [
        re.match(r"Epoch:\[  (\d)/  2\], step:\[    (\d)/    4\], validation: acc: ", line).groups() for line in lines
    ] == [
        ("1", "3"),
        ("2", "2"),
    ]


def test_the_time_of_an_evaluation_is_none_of_the_epochs(monkeypatch):
    """Of the steps alone, with evaluations between them or without."""
    model, history = make_model(), History()
    clock = [0.0]
    monkeypatch.setattr("ms_callbacks.core.progress.time.perf_counter", lambda: clock[0])
    run_evaluation = Validate.run_evaluation

    def slow(self, run):
        clock[0] += 100.0
        run_evaluation(self, run)

    class Tick(Callback):
        def on_train_step_begin(self, run_context):
            clock[0] += 1.0

    monkeypatch.setattr(Validate, "run_evaluation", slow)
    validate = Validate(model, valid_dataset(), every_n_steps=1)
    model.train(1, dataset(), callbacks=[Tick(), history, validate])
    assert history.history["seconds"] == [4.0]
    assert [each["seconds"] for each in history.evaluations_] == [1.0, 2.0, 3.0]


@pytest.mark.skipif(not hasattr(ds.Dataset, "set_init_step"), reason="no state within an epoch on this MindSpore")
@pytest.mark.parametrize("at", [5, *(pytest.param(step, marks=pytest.mark.slow) for step in (6, 7))])
def test_a_resume_within_an_epoch_keeps_what_was_observed(tmp_path, at):
    """Patience, best, records and files are those of a run that was never interrupted."""

    class Interrupt(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == at:
                raise KeyboardInterrupt

    def callbacks(model, folder):
        return {
            "state": TrainingState(str(folder / "state"), every_n_steps=1),
            "stopping": EarlyStopping("eval_loss", patience=50, min_delta=0.05, restore_best_weights=True, verbose=0),
            "best": BestCheckpoint(str(folder / "best.ckpt"), monitor="acc", verbose=0),
            "plateau": ReduceLROnPlateau("eval_loss", patience=2, min_delta=0.2, verbose=0),
            "history": History(),
            "validate": Validate(model, valid_dataset(), every_n_steps=2, every_n_epochs=2),
        }

    def outcome(model, by_name):
        history = by_name["history"]
        kept = {key: values for key, values in history.history.items() if "second" not in key}
        evaluations = [{key: each[key] for key in each if key != "seconds"} for each in history.evaluations_]
        stopping, plateau, best = (by_name[name] for name in ("stopping", "plateau", "best"))
        observed = [(one.best_, one.best_epoch_, one.wait_) for one in (stopping, plateau)]
        return kept, evaluations, observed, best.best_, best.best_epoch_, weights(model.train_network)

    (tmp_path / "whole").mkdir()
    model = make_model()
    whole = callbacks(model, tmp_path / "whole")
    model.train(3, dataset(), callbacks=list(whole.values()))
    expected = outcome(model, whole)
    model = make_model()
    with pytest.raises(KeyboardInterrupt):
        model.train(3, dataset(), callbacks=[*callbacks(model, tmp_path).values(), Interrupt()])
    model, data = make_model(), dataset()
    resumed = callbacks(model, tmp_path)
    begun = resumed["state"].resume(model, data, epochs=3)
    model.train(3, data, callbacks=list(resumed.values()), initial_epoch=begun)
    *found, after = outcome(model, resumed)
    assert tuple(found) == expected[:-1]
    assert_same_weights(after, expected[-1])


def test_a_guard_checks_the_steps_before_weights_are_kept(tmp_path, mode):
    """However rarely it looks by itself."""
    model = make_model(optimizer=lambda network: nn.SGD(network.trainable_params(), 3e38))
    guard = NonFiniteGuard(str(tmp_path / "dumps"), every_n_steps=50)
    stopping = EarlyStopping("acc", restore_best_weights=True, check_finite=False)
    validate = Validate(model, valid_dataset(), every_n_steps=1)
    with pytest.raises(ValueError, match="NonFiniteGuard: .* epoch 1, step [12]"):
        model.train(2, dataset(), callbacks=[validate, stopping, guard])


def test_a_callback_may_evaluate_when_it_wants():
    """By `run.evaluate`, where a callback evaluates at all."""

    class Now(TrainCallback):
        def before_train(self, run):
            run.step_hooks.on_step_end(self, self.maybe)

        def maybe(self, run):
            if run.step == 2:
                run.evaluate()

    model, observed = make_model(), Observed()
    model.train(1, dataset(), callbacks=[Now(), Validate(model, valid_dataset()), observed])
    assert observed.places == [(1, 2, False), (1, 4, True)]
    with pytest.raises(ValueError, match=r"Run: evaluate needs a callback that evaluates; add Validate"):
        model.train(1, dataset(), callbacks=[Now()])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"every_n_steps": 0}, "every_n_steps must be at least 1, but got 0"),
        ({"every_n_steps": 1.5}, "every_n_steps must be"),
        ({"every_n_epochs": None}, "with every_n_epochs=None, pass every_n_steps to say when to evaluate"),
        ({"start_epoch": 0}, "start_epoch must be at least 1, but got 0"),
        ({"start_epoch": 3}, "start_epoch=3 evaluates in none of the epochs 1 to 2"),
        (
            {"every_n_steps": 9, "every_n_epochs": 3, "on_last": False},
            "every_n_steps=9 and every_n_epochs=3 with on_last",
        ),
    ],
)
def test_what_would_never_evaluate_is_refused(arguments, error):
    """Where it is made, or before the first step; `check_callbacks` says the same."""
    model = make_model()
    with pytest.raises((TypeError, ValueError), match=re.escape(f"Validate: {error}")):
        model.train(2, dataset(), callbacks=[Validate(model, valid_dataset(), **arguments)])
    with pytest.raises((TypeError, ValueError), match=re.escape(f"Validate: {error}")):
        check_callbacks(model, dataset(), [Validate(model, valid_dataset(), **arguments)], epochs=2)


def test_in_sink_mode_steps_are_not_seen(graph):
    """Before the first step."""
    model = make_model()
    validate = Validate(model, valid_dataset(), every_n_steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ms_callbacks.core.progress.Progress.is_sinking", property(lambda progress: True))
        with pytest.raises(ValueError, match="Validate: in sink mode .* or pass a smaller sink_size"):
            model.train(1, dataset(), callbacks=[validate])


@pytest.mark.parametrize(
    "phase", ["before_evaluation", "after_evaluation", "before_train", "after_epoch", "after_train"]
)
def test_an_evaluation_is_for_between_two_steps(phase):
    """Not for within another one, nor where no epoch is under way."""

    def evaluate(self, run, *others):
        run.evaluate()

    model = make_model()
    asking = type("Asks", (TrainCallback,), {phase: evaluate})()
    what = "an evaluation is under way" if "evaluation" in phase else "no epoch is"
    with pytest.raises(RuntimeError, match=f"Run: evaluate is for use between two steps, but {what}"):
        model.train(1, dataset(), callbacks=[asking, Validate(model, valid_dataset(), every_n_steps=2)])
