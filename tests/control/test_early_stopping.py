"""EarlyStopping: when it stops, and what it gives back."""

from __future__ import annotations

import json
import math
import pathlib

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from mindspore.train import Callback
from training import Recorder, Script, assert_same_weights, compiled_model, dataset, make_model, valid_dataset, weights

from ms_callbacks import EarlyStopping, LRStepDecay, Validate
from ms_callbacks.testing import ScriptedRun

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def stop_epoch(values, script=None, **arguments):
    """The epoch that our EarlyStopping stops in; 0 for none."""
    script = script or Script()
    stopping = EarlyStopping("x", **{"verbose": 0, **arguments})
    script.run([stopping], [None if value is None else {"x": value} for value in values])
    assert stopping.stopped_epoch_ == script.stopped_epoch
    return stopping


def test_decides_as_keras_does():
    """For every argument shared with Keras 3, stop epoch and best are what Keras itself gave, 600 times over."""
    cases = json.loads((GOLDEN / "keras.json").read_text())["early_stopping"]
    assert len(cases) == 600
    script = Script()
    for case in cases:
        ours = stop_epoch(case["values"], script, **case["arguments"])
        assert (ours.stopped_epoch_, ours.best_) == (case["stopped_epoch"], case["best"]), case


@pytest.mark.parametrize(
    ("values", "arguments", "epoch"),
    [
        # The article's run: the best at epoch 6, three misses, stopped at 9.
        ([0.9876, 0.9873, 0.9886, 0.9910, 0.9905, 0.9931, 0.9904, 0.9910, 0.9922, 0.99], {"mode": "max"}, 9),
        # 0.0 is a value like any other, and can be the best.
        ([0.0, 0.0, 0.0, 0.0, 0.0], {"mode": "max", "patience": 3}, 4),
        ([0.2, 0.1, 0.0, 0.1, 0.1], {"mode": "min", "patience": 2}, 5),
        # patience=0 does not stop a run that gets better all the time.
        ([5, 4, 3, 2, 1], {"mode": "min", "patience": 0}, 0),
        ([5, 4, 4, 2, 1], {"mode": "min", "patience": 0}, 3),
        # The first epoch never stops a run.
        ([5], {"mode": "min", "patience": 0, "start_from_epoch": 0}, 0),
        # A baseline that is never beaten uses patience up; it is not min_delta.
        ([0.5, 0.4, 0.3, 0.3], {"mode": "min", "patience": 2, "baseline": 0.1}, 4),
        ([0.5, 0.4, 0.3, 0.2], {"mode": "min", "patience": 1, "baseline": 10.0}, 0),
        # Epochs without evaluation are not observations.
        ([1.0, None, None, 2.0, None, 2.0, None], {"mode": "min", "patience": 2}, 6),
        # Lightning's thresholds and check, each strict.
        ([0.5, 0.9, 0.95], {"mode": "max", "stopping_threshold": 0.9}, 3),
        ([0.5, 3.0, 4.0], {"mode": "min", "divergence_threshold": 3.0}, 3),
        ([0.5, float("nan"), 0.4], {"mode": "min"}, 2),
        ([0.5, float("inf"), 0.4], {"mode": "min"}, 2),
        ([float("nan"), 0.5], {"mode": "min"}, 1),
        # Unchecked, a value that is not finite is one that is not better, not even the first.
        ([float("nan"), 0.5, 0.4, 0.3], {"mode": "min", "patience": 2, "check_finite": False}, 0),
        ([0.5, float("-inf"), float("nan"), 0.4], {"mode": "min", "patience": 2, "check_finite": False}, 3),
    ],
)
def test_stop_epoch(values, arguments, epoch):
    """The exact epoch, for each case."""
    assert stop_epoch(values, **arguments).stopped_epoch_ == epoch


def test_the_value_that_reaches_the_threshold_is_the_best():
    """A run stopped by its success remembers that success, and says so."""
    stopping = stop_epoch([0.5, 0.97, 0.1], mode="max", stopping_threshold=0.95)
    assert (stopping.best_, stopping.best_epoch_) == (0.97, 2)
    assert stopping.stop_reason_ == "x reached 0.97, better than the stopping threshold 0.95"


def test_what_is_evaluated_after_the_stop_changes_nothing():
    """The end of an epoch that it has stopped between two steps may be evaluated once more, as in Model.fit."""
    stopping = EarlyStopping("x", mode="min", patience=1, verbose=0)
    run = ScriptedRun([{"x": 0.5}], steps_per_epoch=4, evaluations={1: {"x": 1.0}, 2: {"x": 2.0}})
    run.play([stopping])
    assert (stopping.stopped_epoch_, stopping.stopped_step_, stopping.best_) == (1, 2, 1.0)
    assert stopping.stop_reason_ == "x was not better than 1 (epoch 1, step 1) once"


def test_a_second_run_begins_anew():
    """Nothing of the first run counts in the second."""
    script, stopping = Script(), EarlyStopping("x", mode="min", patience=1, verbose=0)
    script.run([stopping], [{"x": 1.0}, {"x": 2.0}])
    assert stopping.stopped_epoch_ == 2
    script.run([stopping], [{"x": 9.0}, {"x": 8.0}])
    assert (stopping.stopped_epoch_, stopping.best_, stopping.best_epoch_, stopping.wait_) == (0, 8.0, 2, 0)
    assert stopping.stop_reason_ == ""


def test_says_why_it_stopped(capsys):
    """The line names the epoch, the monitor, the best and the patience used."""
    stop_epoch([1.0, 2.0, 3.0], mode="min", patience=2, verbose=1)
    assert capsys.readouterr().out == (
        "EarlyStopping: stopped after epoch 3: x was not better than 1 (epoch 1) 2 times in a row\n"
    )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1.0, 2.0], "x was not better than 1 (epoch 1) once"),
        ([math.nan] * 2, "x has not been finite in 2 observations"),
    ],
)
def test_numbers_agree_with_their_nouns(values, told):
    """Once, or several times in a row."""
    stopping = EarlyStopping("x", mode="min", patience=1, check_finite=False, verbose=0)
    Script().run([stopping], [{"x": value} for value in values])
    assert stopping.stop_reason_ == told


def test_a_line_an_epoch(capsys):
    """With losses, validation, the rate as a number, the best so far and the misses."""
    script = Script(0.05)
    losses = [[ms.Tensor(value)] for value in (0.5, 0.25, 0.125, 0.1)]
    results = [{"x": 1.0, "eval_loss": 2.0}, {"x": 0.5, "eval_loss": 1.0}, None, {"x": 0.75, "eval_loss": 1.5}]
    script.run([EarlyStopping("x", mode="min", patience=3, verbose=2)], results, losses)
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 1/4: loss 0.5, x 1, eval_loss 2, learning_rate 0.05; best x 1 (epoch 1), misses 0/3",
        "Epoch 2/4: loss 0.25, x 0.5, eval_loss 1, learning_rate 0.05; best x 0.5 (epoch 2), misses 0/3",
        "Epoch 3/4: loss 0.125, learning_rate 0.05; best x 0.5 (epoch 2), misses 0/3",
        "Epoch 4/4: loss 0.1, x 0.75, eval_loss 1.5, learning_rate 0.05; best x 0.5 (epoch 2), misses 1/3",
    ]


class Scramble(Callback):
    """Replaces each epoch's validation accuracy by a written one, so that the best epoch is known."""

    def __init__(self, values):
        self.values = values

    def on_eval_end(self, run_context):
        args = run_context.original_args()
        args["metrics"] = {"acc": self.values[args["cur_epoch_num"] - 1]}
        args["eval_results"] = dict(args["metrics"])


def test_best_weights_come_back_bit_for_bit_and_training_goes_on(mode):
    """The network ends with the best epoch's weights, BatchNorm's statistics too; the optimizer learns on from them.

    In PYNATIVE mode of MindSpore 2.8 and newer, weights restored by `set_data` would be frozen from then on.
    """
    model = make_model()
    recorder = Recorder()
    stopping = EarlyStopping("acc", patience=2, restore_best_weights=True, verbose=0)
    model.fit(9, dataset(), valid_dataset(), callbacks=[stopping, recorder, Scramble([0.1, 0.5, 0.4, 0.5, 0.9])])
    assert (stopping.stopped_epoch_, stopping.best_epoch_) == (4, 2)
    restored = weights(model.train_network.network if hasattr(model.train_network, "network") else model.train_network)
    best = recorder.weights[1]
    assert_same_weights({name: restored[name] for name in best}, best)

    after = Recorder()
    model.train(2, dataset(), callbacks=[after])
    for name in ("hidden.weight", "head.weight", "norm.moving_mean"):
        assert not np.array_equal(after.weights[0][name], best[name]), name
        assert not np.array_equal(after.weights[1][name], after.weights[0][name]), name


def test_only_the_network_is_restored():
    """The optimizer's moments, step and rate stay where the run left them."""
    model = make_model()
    seen = {}

    class Peek(Callback):
        def on_train_epoch_end(self, run_context):
            seen.update(weights(run_context.original_args()["optimizer"]))

    stopping = EarlyStopping("acc", patience=1, restore_best_weights=True, verbose=0)
    callbacks = [stopping, LRStepDecay(1, 0.5), Peek(), Scramble([0.5, 0.4])]
    model.fit(3, dataset(), valid_dataset(), callbacks=callbacks)
    assert stopping.best_epoch_ == 1
    now = weights(model.train_network)
    moments = [name for name in seen if name.startswith(("moment", "learning_rate", "beta"))]
    assert moments
    for name in moments:
        np.testing.assert_array_equal(now[name], seen[name])


@pytest.mark.parametrize("ending", ["finishes", "is stopped by another", "raises"])
def test_best_weights_come_back_however_the_run_ends(ending):
    """Not only where this callback stops the run."""
    model = make_model()
    recorder = Recorder()

    class End(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_epoch_num"] == 3:
                if ending == "raises":
                    raise KeyboardInterrupt
                if ending == "is stopped by another":
                    run_context.request_stop()

    stopping = EarlyStopping("acc", patience=9, restore_best_weights=True, verbose=0)
    callbacks = [stopping, recorder, Scramble([0.9, 0.1, 0.2]), End()]
    if ending == "raises":
        with pytest.raises(KeyboardInterrupt):
            model.fit(3, dataset(), valid_dataset(), callbacks=callbacks)
    else:
        model.fit(3, dataset(), valid_dataset(), callbacks=callbacks)
    now = weights(model.predict_network)
    assert_same_weights(now, recorder.weights[0])


@pytest.mark.parametrize("monitor", ["loss", "train_loss", "eval_loss", "val_loss", "acc", "val_acc"])
def test_every_name_a_user_knows_can_be_monitored(monitor, mode):
    """Under Model.train with Validate, in both modes."""
    model = compiled_model() if mode == "graph" else make_model()
    stopping = EarlyStopping(monitor, verbose=0)
    validate = Validate(model, valid_dataset())
    model.train(2, dataset(), callbacks=[stopping, validate])
    if monitor not in ("loss", "train_loss"):
        assert stopping.best_ in (validate.results_["acc"], validate.results_["eval_loss"]) or stopping.wait_
    assert stopping.best_epoch_ in (1, 2)


def test_loss_is_the_mean_of_the_epoch():
    """Not the loss of the last batch, as MindSpore's own takes it."""
    model, recorder = make_model(), Recorder()
    stopping = EarlyStopping("loss", verbose=0)
    model.train(1, dataset(), callbacks=[stopping, recorder])
    assert stopping.best_ == pytest.approx(np.mean(recorder.losses), rel=1e-6)
    assert abs(stopping.best_ - recorder.losses[-1]) > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patience": -1}, "patience must be at least 0, but got -1"),
        ({"patience": 1.5}, "patience must be a whole number, but got 1.5"),
        ({"patience": True}, "patience must be a whole number"),
        ({"mode": "maximum"}, "mode must be one of 'auto', 'min', 'max', but got 'maximum'"),
        ({"min_delta": -0.1}, "min_delta must be finite and at least 0, but got -0.1"),
        ({"min_delta": float("nan")}, "min_delta must be finite"),
        ({"min_delta": float("inf")}, "min_delta must be finite"),
        ({"min_delta": "0.1"}, "min_delta must be a number, but got '0.1'"),
        ({"baseline": float("nan")}, "baseline must be finite"),
        ({"start_from_epoch": -2}, "start_from_epoch must be at least 0"),
        ({"restore_best_weights": 1}, "restore_best_weights must be True or False, but got 1"),
        ({"verbose": 3}, "verbose must be one of 0, 1, 2, but got 3"),
        ({"monitor": ""}, "monitor must not be empty"),
        ({"monitor": None}, "monitor must be a string, but got None"),
    ],
)
def test_wrong_arguments_are_refused_where_it_is_made(arguments, message):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match=f"EarlyStopping: {message}"):
        EarlyStopping(**arguments)


class NoStep(Callback):
    """Fails the test if a step runs."""

    def on_train_step_begin(self, run_context):
        raise AssertionError("a step ran")


@pytest.mark.parametrize("run", ["train", "fit"])
def test_an_unknown_monitor_is_refused_before_the_first_step(run):
    """With the nearest name that there is."""
    model = make_model()
    stopping = EarlyStopping("accuracy", mode="max")
    message = r"monitor 'accuracy' is not among this run's values \('acc', 'eval_loss', 'loss'\); did you mean 'acc'\?"
    with pytest.raises(ValueError, match=message):
        if run == "train":
            model.train(1, dataset(), callbacks=[stopping, Validate(model, valid_dataset()), NoStep()])
        else:
            model.fit(1, dataset(), valid_dataset(), callbacks=[stopping, NoStep()])


def test_a_run_that_never_evaluates_is_refused_before_the_first_step():
    """Model.train without Validate has nothing to watch but the training loss."""
    model = make_model()
    with pytest.raises(ValueError, match=r"'eval_loss' needs an evaluation.*add Validate\(model, valid_dataset\)"):
        model.train(1, dataset(), callbacks=[EarlyStopping(), NoStep()])


@pytest.mark.parametrize("value", [np.array([0.1, 0.2]), "0.5", None])
def test_a_metric_that_is_not_a_number_is_refused(value):
    """A vector or anything else cannot be compared."""
    with pytest.raises(TypeError, match="monitor 'x' must be a single number"):
        Script().run([EarlyStopping("x", mode="min")], [{"x": value}])


@pytest.mark.parametrize("value", [np.float32(0.5), np.array(0.5), np.array([0.5]), ms.Tensor(0.5), 1])
def test_a_number_in_any_wrapping_is_taken(value):
    """NumPy scalars, arrays and Tensors of one element are numbers."""
    stopping = EarlyStopping("x", mode="min", verbose=0)
    Script().run([stopping], [{"x": value}])
    assert stopping.best_ == float(np.asarray(value.asnumpy() if isinstance(value, ms.Tensor) else value).item())


def test_state_goes_on_where_it_was():
    """A new object with the old one's state waits no longer than the old one would have."""
    one = EarlyStopping("x", mode="min", patience=3, verbose=0)
    Script().run([one], [{"x": 1.0}, {"x": 2.0}])
    other = EarlyStopping("x", mode="min", patience=3, verbose=0)
    other.load_state_dict(one.state_dict())
    assert (other.best_, other.best_epoch_, other.wait_) == (1.0, 1, 1)


def epochs_of_a_loop(stopping, values):
    """Calls `train` for one epoch after the other, as a script may, until it has stopped; how many it took."""
    script = Script()
    for count, value in enumerate(values, 1):
        script.run([stopping], [{"acc": value}])
        if stopping.stopped_epoch_:
            return count
    return 0


def test_each_train_is_a_new_run_unless_it_is_told_otherwise():
    """In a loop of one epoch each, patience goes over all of the calls."""
    values = [0.1, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert epochs_of_a_loop(EarlyStopping("acc", patience=2, verbose=0), values) == 0
    stopping = EarlyStopping("acc", patience=2, reset_on_train_begin=False, verbose=0)
    assert epochs_of_a_loop(stopping, values) == 4
    assert (stopping.stopped_epoch_, stopping.best_epoch_, stopping.best_, stopping.wait_) == (4, 2, 0.5, 2)


@pytest.mark.parametrize("patience", [0, 1, 2, 3])
@pytest.mark.parametrize("start_from_epoch", [0, 2])
def test_a_loop_decides_as_one_run_does(patience, start_from_epoch):
    """At the same epoch, with the same best."""
    values = [0.3, 0.5, 0.4, 0.45, 0.6, 0.5, 0.5, 0.5, 0.5]
    arguments = {"patience": patience, "start_from_epoch": start_from_epoch, "verbose": 0}
    whole, looped = EarlyStopping("acc", **arguments), EarlyStopping("acc", reset_on_train_begin=False, **arguments)
    Script().run([whole], [{"acc": value} for value in values])
    epochs_of_a_loop(looped, values)
    for name in ("stopped_epoch_", "best_", "best_epoch_", "wait_", "stop_reason_"):
        assert getattr(looped, name) == getattr(whole, name), name


def test_a_loop_with_initial_epoch_counts_its_own_epochs():
    """`train(e, ..., initial_epoch=e - 1)`: the epochs are what they say."""
    model, stopping = make_model(), EarlyStopping("loss", mode="max", patience=2, reset_on_train_begin=False, verbose=0)
    for epoch in range(1, 9):
        model.train(epoch, dataset(), callbacks=[stopping], initial_epoch=epoch - 1)
        if stopping.stopped_epoch_:
            break
    assert (stopping.best_epoch_, stopping.stopped_epoch_) == (1, 3)


@pytest.mark.parametrize("how", ["it stops", "it is asked to"])
def test_in_a_loop_the_best_weights_come_back_at_its_end_and_not_before(how, mode):
    """In the call in which it stops, or when restore is called."""
    model = make_model()
    network = model.predict_network
    stopping = EarlyStopping(
        "loss", mode="max", patience=2, restore_best_weights=True, reset_on_train_begin=False, verbose=0
    )
    reached = []
    for _ in range(3 if how == "it stops" else 2):
        model.train(1, dataset(), callbacks=[stopping])
        reached.append(weights(network))
    plain = make_model()
    for each in reached[:2]:
        plain.train(1, dataset())
        assert_same_weights(each, weights(plain.predict_network))
    stopping.restore()  # has nothing to do where it has stopped
    assert bool(stopping.stopped_epoch_) == (how == "it stops")
    assert_same_weights(weights(network), reached[0])


@pytest.mark.parametrize("check_finite", [True, False])
def test_weights_that_hold_nan_are_none_to_come_back_to(check_finite):
    """Whatever the metric says of them; with check_finite the run stops there."""

    class Spoil(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_epoch_num"] == 2:
                script.network.bias.set_data(Tensor(np.full(1, np.nan, np.float32)))

    script = Script()
    good = script.network.bias.asnumpy().copy()
    stopping = EarlyStopping("acc", patience=5, restore_best_weights=True, check_finite=check_finite, verbose=0)
    script.run([Spoil(), stopping], [{"acc": 0.1}, {"acc": 0.9}, {"acc": 0.9}])
    assert (stopping.best_, stopping.best_epoch_) == (0.1, 1)
    np.testing.assert_array_equal(script.network.bias.asnumpy(), good)
    assert stopping.stop_reason_ == ("the weights hold NaN ('bias')" if check_finite else "")
    assert stopping.stopped_epoch_ == (2 if check_finite else 0)
