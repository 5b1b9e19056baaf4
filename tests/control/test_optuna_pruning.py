"""OptunaPruning: what a trial is told, and how a run ends that its pruner gives up."""

from __future__ import annotations

import copy
import json
import math
import pickle
import types

import numpy as np
import pytest
from every_callback import Trial
from mindspore.train import Callback
from training import Recorder, dataset, make_model, valid_dataset, weights

from ms_callbacks import BestCheckpoint, EarlyStopping, History, OptunaPruning, TrainCallback, TrainingState, Validate
from ms_callbacks.control import optuna_pruning
from ms_callbacks.testing import ScriptedRun


class Strict(Trial):
    """Prunes at the given number; raises where a number is reported twice, or one that is lower than another."""

    def __init__(self, prunes_at=math.inf):
        super().__init__()
        self.prunes_at, self.asked = prunes_at, 0

    def report(self, value, step):
        assert step > max(self.reports, default=0)
        super().report(value, step)

    def should_prune(self):
        self.asked += 1
        assert self.asked == len(self.reports)
        return max(self.reports) >= self.prunes_at


def play(trial, values, monitor="acc", **run):
    pruning = OptunaPruning(trial, monitor, mode="max")
    ScriptedRun([None if value is None else {"acc": value} for value in values], **run).play([pruning])
    return pruning


def test_each_evaluation_is_reported_once_under_its_epoch():
    """An epoch without one is left out; NaN is reported as it is."""
    trial = Strict()
    pruning = play(trial, [0.5, None, 0.4, math.nan], initial_epoch=2)
    assert repr(trial.reports) == repr({3: 0.5, 5: 0.4, 6: math.nan})
    assert (pruning.reported_, pruning.best_, pruning.best_epoch_, pruning.stopped_epoch_) == (6, 0.5, 3, 0)


def test_where_steps_are_evaluated_the_numbers_are_steps():
    """At the ends of epochs too, so that one order holds for all."""
    trial = Strict()
    play(trial, [0.1, None, 0.2], steps_per_epoch=4, evaluations={step: {"acc": step} for step in (2, 4, 6, 8, 10)})
    assert trial.reports == {2: 2, 4: 4, 6: 6, 8: 8, 10: 10, 12: 0.2}


def test_values_of_the_training_steps_have_epochs_as_numbers():
    """Though something else is evaluated between steps."""
    trial = Strict()
    losses = [[1.0, 3.0], [5.0, 7.0]]
    play(trial, [None, None], "loss", steps_per_epoch=2, losses=losses, evaluations={2: {"acc": 1.0}, 3: {"acc": 1.0}})
    assert trial.reports == {1: 2.0, 2: 6.0}


def test_an_evaluation_that_a_callback_asks_for_is_not_reported():
    """It has no number of its own where epochs are the numbers."""

    class Asks(TrainCallback):
        def before_train(self, run):
            run.step_hooks.every(3, self, lambda run: run.evaluate())

    trial, model = Strict(), make_model()
    callbacks = [Asks(), OptunaPruning(trial, "acc"), Validate(model, valid_dataset())]
    model.train(2, dataset(), callbacks=callbacks)
    assert list(trial.reports) == [1, 2]


@pytest.mark.parametrize("fits", [False, True])
def test_train_and_fit_report_the_same(fits):
    """And training does not notice: losses and weights are those of a run without a trial."""
    outcomes = []
    for trial in (None, Strict()):
        model, recorder, history = make_model(), Recorder(), History()
        callbacks = [recorder, history, *([] if trial is None else [OptunaPruning(trial, "acc")])]
        if fits:
            model.fit(4, dataset(), valid_dataset(), valid_frequency=2, callbacks=callbacks)
        else:
            callbacks.append(Validate(model, valid_dataset(), every_n_epochs=2))
            model.train(4, dataset(), callbacks=callbacks)
        outcomes.append((recorder.losses, history.history["acc"]))
    assert outcomes[0] == outcomes[1]
    assert trial.reports == {epoch: value for epoch, value in enumerate(history.history["acc"], 1) if value is not None}
    assert list(trial.reports) == [2, 4]


# A later run


def resumed(pruning, trial):
    other = OptunaPruning(trial, pruning.monitor, mode=pruning.mode)
    other.load_state_dict(json.loads(json.dumps(pruning.state_dict())))
    return other


def test_a_resumed_run_reports_nothing_twice(tmp_path):
    """Nor what the trial has from the run that was interrupted but no state has."""
    trial = Strict()

    class Fail(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == 10:
                raise RuntimeError("mine")

    for others in ([Fail()], []):
        model, train, state = make_model(), dataset(), TrainingState(tmp_path)
        epoch = state.resume(model, train, epochs=4)
        callbacks = [OptunaPruning(trial, "acc"), Validate(model, valid_dataset()), state, *others]
        try:
            model.train(4, train, callbacks=callbacks, initial_epoch=epoch)
        except RuntimeError:
            assert list(trial.reports) == [1, 2]
    assert list(trial.reports) == [1, 2, 3, 4]


def test_a_second_run_reports_what_is_beyond_the_first():
    """Optuna warns of a number that comes twice, and ignores it."""
    trial = Strict()
    pruning = OptunaPruning(trial, "acc", mode="max")
    for values in ([0.5, 0.6], [0.1, 0.2, 0.3]):
        trial.study = types.SimpleNamespace(
            directions=[types.SimpleNamespace(name="MAXIMIZE")],
            get_trials=lambda deepcopy: [types.SimpleNamespace(intermediate_values=trial.reports)],
        )
        trial.number = 0
        ScriptedRun([{"acc": value} for value in values]).play([pruning])
    assert trial.reports == {1: 0.5, 2: 0.6, 3: 0.3}
    assert (pruning.best_, pruning.reported_) == (0.3, 3)


# With Optuna


@pytest.fixture
def optuna():
    found = pytest.importorskip("optuna")
    found.logging.set_verbosity(found.logging.ERROR)
    return found


def pruner(optuna, at):
    """Prunes a trial once it has reported so often."""

    class AtReport(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return len(trial.intermediate_values) >= at

    return AtReport()


@pytest.mark.parametrize(
    ("fits", "order"),
    [(False, 1), (True, -1), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((False, -1), (True, 1)))],
)
def test_a_pruned_run_ends_in_good_order_and_then_raises(optuna, tmp_path, fits, order):
    """Files are whole, best weights restored, every callback done; the study counts the trial as pruned."""
    study = optuna.create_study(direction="maximize", pruner=pruner(optuna, 2))
    done = []

    class Sees(TrainCallback):
        def after_train(self, run):
            done.append(("after_train", run.progress.is_over))

        def teardown(self):
            done.append(("teardown", True))

    def objective(trial):
        nonlocal callbacks, model
        model = make_model()
        callbacks = [
            Sees(),
            pruning := OptunaPruning(trial, "acc"),
            best := BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="acc"),
            stopping := EarlyStopping("acc", patience=9, restore_best_weights=True, verbose=0),
            TrainingState(tmp_path / "state"),
            *([] if fits else [Validate(model, valid_dataset())]),
        ]
        named.update(pruning=pruning, best=best, stopping=stopping)
        if fits:
            model.fit(9, dataset(), valid_dataset(), callbacks=callbacks[::order])
        else:
            model.train(9, dataset(), callbacks=callbacks[::order])

    callbacks, model, named = [], None, {}
    study.optimize(objective, n_trials=1)
    (trial,) = study.trials
    assert trial.state.name == "PRUNED"
    assert list(trial.intermediate_values) == [1, 2]
    assert (named["pruning"].stopped_epoch_, named["pruning"].best_) == (2, named["best"].best_)
    assert done == [("after_train", True), ("teardown", True)]
    final = weights(model.predict_network)
    fresh = make_model().predict_network
    named["best"].load_into(fresh)
    for name, array in weights(fresh).items():
        np.testing.assert_array_equal(final[name], array)
    # The run is finished: a script that is started again has nothing left to train, and can tell why.
    model, state = make_model(), TrainingState(tmp_path / "state")
    again = OptunaPruning(trial=Trial(), monitor="acc")
    callbacks = [again, BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="acc"), state]
    state.resume(model, dataset(), epochs=9, callbacks=callbacks[:2])
    assert state.finished_
    assert again.stopped_epoch_ == 2


def test_a_stop_between_steps_names_the_step(optuna):
    """In the exception too."""
    study = optuna.create_study(direction="maximize", pruner=pruner(optuna, 2))
    with pytest.raises(optuna.TrialPruned, match=r"pruned after epoch 2, step 5 \(acc: 0.25\)"):
        play(study.ask(), [None] * 3, steps_per_epoch=4, evaluations={2: {"acc": 0.5}, 5: {"acc": 0.25}, 6: {"acc": 1}})
    assert study.trials[0].intermediate_values == {2: 0.5, 5: 0.25}


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (lambda pruners: pruners.MedianPruner(n_startup_trials=1), "in a file"),
        (lambda pruners: pruners.MedianPruner(n_startup_trials=1), "in memory"),
        (lambda pruners: pruners.SuccessiveHalvingPruner(min_resource=1), "in memory"),
        (lambda pruners: pruners.HyperbandPruner(min_resource=1, max_resource=4), "in memory"),
        (lambda pruners: pruners.ThresholdPruner(lower=0.0), "in memory"),
        (lambda pruners: pruners.PatientPruner(pruners.MedianPruner(n_startup_trials=1), 1), "in memory"),
        (lambda pruners: pruners.NopPruner(), "in memory"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of NumPy's, in Optuna
def test_nan_ends_no_study(optuna, make, kept, tmp_path):
    """As a value, and as the last; whichever pruner looks at it."""
    storage = None if kept == "in memory" else f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(direction="maximize", pruner=make(optuna.pruners), storage=storage)
    values = [[0.1, 0.2, 0.3], [math.nan, 0.2, math.nan], [math.nan] * 3, [0.5, math.inf, 0.6]]

    def objective(trial):
        play(trial, values[trial.number])
        return values[trial.number][-1]

    study.optimize(objective, n_trials=4)
    states = [trial.state.name for trial in study.trials]
    assert states[0] == "COMPLETE"
    assert set(states[1:3]) <= {"PRUNED", "FAIL"}
    assert states[3] in ("COMPLETE", "PRUNED")
    assert repr(study.trials[2].intermediate_values[1]) == "nan"


def test_nothing_is_reported_to_optuna_twice(optuna, recwarn):
    """Which would warn; the trial evaluation before the first step is none of the run's."""
    study = optuna.create_study(direction="maximize")
    trial = study.ask()
    for _ in range(2):
        model = make_model()
        model.train(2, dataset(), callbacks=[OptunaPruning(trial, "acc"), Validate(model, valid_dataset())])
    assert not [each for each in recwarn if "already reported" in str(each.message)]
    assert list(study.trials[0].intermediate_values) == [1, 2]


@pytest.mark.parametrize(
    ("study", "monitor", "error"),
    [
        ({"direction": "minimize"}, "acc", r"direction='minimize', but monitor 'acc' .* larger \(mode='max'\); create"),
        ({"direction": "maximize"}, "eval_loss", r"direction='maximize', but monitor 'eval_loss' .* smaller"),
        ({"directions": ["maximize", "minimize"]}, "acc", "the study has 2 objectives"),
        ({"direction": "maximize"}, "accuracy", "did you mean 'acc'"),
    ],
)
def test_what_does_not_fit_the_study_is_refused_before_the_first_step(optuna, study, monitor, error):
    """With both names."""
    model = make_model()
    pruning = OptunaPruning(optuna.create_study(**study).ask(), monitor)
    recorder = Recorder()
    with pytest.raises(ValueError, match=f"OptunaPruning: .*{error}"):
        model.train(1, dataset(), callbacks=[pruning, recorder, Validate(model, valid_dataset())])
    assert recorder.losses == []


def test_a_fixed_trial_tries_an_objective_without_a_study(optuna):
    """As Optuna's own manual does."""
    pruning = play(optuna.trial.FixedTrial({}), [0.5, 0.6])
    assert (pruning.reported_, pruning.best_) == (2, 0.6)


def test_a_copy_shares_the_trial_and_a_pickle_has_none():
    """As one in another process would report to a study of its own."""
    trial = Strict()
    pruning = play(trial, [0.5])
    for each in (copy.copy(pruning), copy.deepcopy(pruning)):
        assert each.trial is trial
        assert (each.best_, each.reported_) == (0.5, 1)
    unpickled = pickle.loads(pickle.dumps(pruning))
    assert (unpickled.trial, unpickled.best_) == (None, 0.5)
    with pytest.raises(ValueError, match="there is no trial; pass the one that the study gives to its objective"):
        ScriptedRun([{"acc": 1.0}]).play([unpickled])


# Several processes


@pytest.mark.parametrize("has_trial", [True, False])
def test_of_several_processes_one_reports_and_all_stop(optuna, monkeypatch, has_trial):
    """The one that has the trial; what it decides, each is told."""

    def gathered(array):
        asked.append(array.tolist())
        other = np.array([not has_trial], np.float32) if len(asked) == 1 else np.zeros(1, np.float32)
        if not has_trial and len(asked) == 3:
            other[:] = 1  # the other has pruned, after its second report
        return np.stack([array, other])

    asked, trial = [], Strict(prunes_at=2)
    monkeypatch.setattr(
        optuna_pruning,
        "distributed",
        types.SimpleNamespace(gathered=gathered, count=lambda: 2, do_together=lambda owner, action: action()),
    )
    with pytest.raises(optuna.TrialPruned, match="pruned after epoch 2"):
        play(trial if has_trial else None, [0.5, 0.4, 0.3])
    assert trial.reports == ({1: 0.5, 2: 0.4} if has_trial else {})
    assert len(asked) == 3


@pytest.mark.parametrize("trial", [0.5, "trial", types.SimpleNamespace(report=1), dict])
def test_what_is_no_trial_is_refused(trial):
    """When it is made."""
    with pytest.raises(TypeError, match="OptunaPruning: trial must be a trial of Optuna"):
        OptunaPruning(trial, "acc")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(("",), "monitor must not be empty"), ((3,), "monitor must be a string"), (("acc", "more"), "positional")],
)
def test_wrong_arguments_are_refused(arguments, error):
    """When it is made."""
    with pytest.raises((TypeError, ValueError), match=error):
        OptunaPruning(Trial(), *arguments)


def test_the_package_needs_no_optuna(monkeypatch):
    """Before a trial is pruned."""
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    play(Strict(), [0.5, 0.4])
    with pytest.raises(ImportError, match=r"optuna.TrialPruned cannot be imported .*install Optuna"):
        play(Strict(prunes_at=2), [0.5, 0.4])


def test_resumed_state_is_taken():
    """For where it was pruned is known afterwards."""
    pruning = play(Strict(), [0.5, 0.4])
    assert resumed(pruning, Trial()).state_dict() == pruning.state_dict()
