"""The validation values of a run: which will come is known before the first step, and what has come is read once."""

from __future__ import annotations

import contextlib

import pytest
from mindspore.train import MAE, Accuracy, Callback, Metric
from training import dataset, make_model, valid_dataset

from ms_callbacks.core import distributed
from ms_callbacks.core.callback import TrainCallback
from ms_callbacks.core.metrics import Caller, EvaluationSource, Metrics, check_columns, find_caller

SEVERAL = {"acc": Accuracy(), "mae": MAE()}


class InDictionary(Metric):
    """A metric of a user's own: nobody knows what it gives before it has given it."""

    def clear(self):
        pass

    def update(self, *inputs):
        pass

    def eval(self):
        return {"f-score": 0.5}


def validated(metrics=SEVERAL, **arguments):
    """The values of a run in which a callback evaluates."""
    return of(EvaluationSource(make_model(metrics=metrics), valid_dataset()), **arguments)


def of(source=None, caller=None, args=None, train_names=("loss",), is_split=False):
    return Metrics({} if args is None else args, train_names, source, caller, is_split)


def trained(metrics=SEVERAL):
    """Those of a `Model.train` in which nobody evaluates."""
    return of(caller=Caller(make_model(metrics=metrics)))


def fitted(metrics=SEVERAL, epochs=(2, 4)):
    """Those of a `Model.fit`."""
    return of(caller=Caller(make_model(metrics=metrics), valid_dataset(), frozenset(epochs)))


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        (validated, ["eval_loss", "acc", "mae"]),
        (fitted, ["eval_loss", "acc", "mae"]),
        (lambda: validated({"loss": Accuracy()}), ["eval_loss"]),
        (lambda: validated({"epoch": Accuracy()}), ["eval_loss", "eval_epoch"]),
        (lambda: validated({"det": InDictionary()}), ["eval_loss", "det"]),
        (trained, []),  # it will never evaluate
        (of, None),  # it cannot be seen
        (lambda: of(EvaluationSource(None, None)), None),
    ],
)
def test_names_are_known_before_the_first_step(metrics, names):
    """As they will be: none of them is one that the run itself has."""
    found = metrics().names
    assert (None if found is None else sorted(found)) == (None if names is None else sorted(names))


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (validated, False),
        (lambda: validated({"det": InDictionary()}), True),
        (trained, False),
        (of, True),
        (lambda: of(EvaluationSource(None, None)), True),
    ],
)
def test_others_may_come_where_a_metric_gives_a_dictionary_or_nothing_can_be_seen(metrics, expected):
    """A metric of a user's own is asked about one batch."""
    assert metrics().may_have_others is expected


@pytest.mark.parametrize(
    ("name", "follows"),
    [("loss", True), ("train_loss", True), ("kl", True), ("val_kl", False), ("val_loss", False), ("acc", False)],
)
def test_values_of_the_training_steps_are_told_from_those_of_an_evaluation(name, follows):
    """By their names alone."""
    assert of(train_names=("loss", "kl")).follows(name) is follows


@pytest.mark.parametrize(
    ("metrics", "name", "kind"),
    [
        (validated, "acc", Accuracy),
        (validated, "val_acc", Accuracy),
        (fitted, "mae", MAE),
        (validated, "eval_loss", type(None)),
        (validated, "val_loss", type(None)),
        (trained, "loss", type(None)),
        (of, "whatever", type(None)),  # the first evaluation shows it
        (lambda: validated({"det": InDictionary()}), "f-score", type(None)),
    ],
)
def test_the_metric_of_a_name(metrics, name, kind):
    """`None` where it has none, or that cannot be seen."""
    assert type(metrics().metric("Watcher", name)) is kind


@pytest.mark.parametrize(
    ("metrics", "name", "message"),
    [
        (validated, "Acc", "monitor 'Acc' is not among .*'acc', 'eval_loss', 'loss', 'mae'.*did you mean 'acc'"),
        (fitted, "val_zebra", r"monitor 'val_zebra' is not among this run's values \(.*'mae'\)$"),
        (
            lambda: validated({"det": InDictionary(), "acc": Accuracy()}),
            "ACC",
            "monitor 'ACC' is not among .*did you mean 'acc'",
        ),
        (trained, "acc", "'acc' needs an evaluation, but this run never evaluates; add Validate.* or use Model.fit"),
        (trained, "val_loss", "'val_loss' needs an evaluation, .* or watch the training loss as 'loss'"),
        (trained, "Loss", "'Loss' needs an evaluation"),
    ],
)
def test_a_name_that_the_run_will_not_have_is_an_error(metrics, name, message):
    """With the nearest; or with what to add."""
    with pytest.raises(ValueError, match=f"^Watcher: {message}"):
        metrics().metric("Watcher", name)


@pytest.mark.parametrize(
    ("metrics", "processes", "message"),
    [
        (validated, 1, None),
        (fitted, 1, None),
        (of, 1, None),  # it cannot be seen
        (trained, 1, "Watcher: 'acc' needs an evaluation"),
        (validated, 2, None),
        (fitted, 2, "Watcher: 'acc' is used by 2 processes together, but Model.fit alone gives each"),
        (of, 2, "2 processes together.*; add Validate"),
    ],
)
def test_whether_the_run_evaluates_is_checked(monkeypatch, metrics, processes, message):
    """For several processes by a callback, which makes it one evaluation."""
    monkeypatch.setattr(distributed, "count", lambda: processes)
    with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
        metrics().check_evaluates("Watcher", "acc")


def test_fit_evaluates_in_some_epochs():
    """Which are known from its arguments; a callback that evaluates does not change that."""
    metrics = fitted(epochs=(2, 4))
    assert metrics.fit_evaluates
    assert [metrics.fit_evaluates_in(epoch) for epoch in range(1, 6)] == [False, True, False, True, False]
    for other in (trained(), validated(), of()):
        assert not other.fit_evaluates
        assert not other.fit_evaluates_in(2)


def test_what_is_evaluated_is_the_callbacks_before_fits():
    """The Model and the dataset; none where nobody evaluates."""
    model, data = make_model(), valid_dataset()
    source = EvaluationSource(model, data)
    both = of(source, Caller(make_model(), valid_dataset(), frozenset([1])))
    assert (both.model, both.dataset) == (model, data)
    fit = of(caller=Caller(model, data, frozenset([1])))
    assert (fit.model, fit.dataset) == (model, data)
    for none in (trained(), of()):
        assert (none.model, none.dataset) == (None, None)


def test_one_batch_shows_the_classes_and_what_the_metrics_give():
    """Once; not where processes share a network, for what compiles first decides there how it is cut."""
    metrics = validated({"acc": Accuracy(), "det": InDictionary()})
    assert metrics.classes is None
    trial = metrics.trial()
    assert (trial.classes, metrics.classes) == (3, 3)
    assert trial.results["det"] == {"f-score": 0.5}
    assert metrics.trial() is trial
    for untried in (validated(is_split=True), trained(), of()):
        assert untried.trial() == (None, None)


# What an evaluation gave


def test_results_stand_where_fit_sets_them():
    """MindSpore's own callbacks find them there; a published loss is `eval_loss`."""
    args = {}
    metrics = of(args=args)
    assert (metrics.published, metrics.is_published, metrics.results) == (None, False, {})
    metrics.publish({"acc": 0.5}, 0.25)
    assert (args["metrics"], args["eval_results"]) == ({"acc": 0.5}, {"acc": 0.5, "eval_loss": 0.25})
    assert metrics.published == {"acc": 0.5, "eval_loss": 0.25}
    assert metrics.is_published
    assert metrics.results == {}, "they are not read before they are asked for"
    assert metrics.read() == metrics.results == {"acc": 0.5, "eval_loss": 0.25}


def test_fits_own_loss_does_not_hide_a_metric_of_that_name():
    """It is that of the last batch."""
    metrics = of(args={"eval_results": {"eval_loss": 9.0, "acc": 0.5}, "metrics": {"eval_loss": 0.25, "acc": 0.5}})
    assert metrics.read() == {"eval_loss": 0.25, "acc": 0.5}


def test_results_of_an_evaluation_between_steps_do_not_pass_for_later_ones():
    """They are removed before the next; what somebody else has published since stays."""
    args = {}
    metrics = of(args=args)
    metrics.publish({"acc": 0.5}, 0.25)
    metrics.read(at_epoch_end=False)
    assert not metrics.is_published, "of this epoch's end"
    metrics.remove_earlier()
    assert (args, metrics.published, metrics.results, metrics.read()) == ({}, None, {}, {})
    metrics.publish({"acc": 0.5}, 0.25)
    metrics.read(at_epoch_end=False)
    metrics.publish({"acc": 0.75}, 0.5)  # as by fit
    assert metrics.is_published
    metrics.remove_earlier()
    assert metrics.read() == {"acc": 0.75, "eval_loss": 0.5}
    metrics.remove_earlier()
    assert metrics.published == {"acc": 0.75, "eval_loss": 0.5}, "the end of an epoch is MindSpore's to remove"


def test_the_names_so_far_are_those_of_all_evaluations():
    """For a value need not come every time; another's is kept as it was."""
    metrics = of(args={})
    metrics.publish({"det": {"a": 1.0}}, None)
    metrics.read()
    earlier = metrics.names_so_far
    metrics.publish({"det": {"b": 1.0}}, None)
    metrics.read()
    assert (earlier, metrics.names_so_far) == ({"a"}, {"a", "b"})
    assert metrics.results == {"b": 1.0}


def test_a_value_with_a_name_of_the_training_steps_gets_another():
    """The names that `StepOutputs` gives are the run's own."""
    metrics = of(args={}, train_names=("loss", "kl"))
    metrics.publish({"det": {"kl": 1.0}}, None)
    assert metrics.read() == {"det_kl": 1.0}


def test_what_is_no_number_is_told_once(capsys):
    """Whatever comes later of that name."""
    metrics = of(args={})
    for value in ("text", None, 1.0, "text"):
        metrics.publish({"x": value}, None)
        metrics.read()
    told = "Model: the metric 'x' gave 'text' (str), not a number to monitor or record\n"
    assert capsys.readouterr().out == told


# The call


class Finds(TrainCallback):
    """Finds the call that it is in."""

    def before_train(self, run):
        self.found = find_caller()


@pytest.mark.parametrize(
    ("frequency", "initial_epoch", "evaluated"),
    [
        (1, 0, {1, 2, 3}),
        (2, 0, {2}),
        (3, 1, {3}),
        ([1, 3], 0, {1, 3}),
        ([1, 3], 1, {3}),
        (4, 0, set()),
        ([5], 0, set()),
    ],
)
def test_the_call_of_fit_is_found_with_the_epochs_that_it_evaluates(frequency, initial_epoch, evaluated):
    """As MindSpore has them; a dataset that it never evaluates is none."""
    model, data, finds = make_model(), valid_dataset(), Finds()
    model.fit(3, dataset(12), data, valid_frequency=frequency, callbacks=[finds], initial_epoch=initial_epoch)
    assert finds.found == (model, data if evaluated else None, frozenset(evaluated))


def test_the_call_of_train_is_found():
    """And none where there is none, as in a script."""
    model, finds = make_model(), Finds()
    model.train(1, dataset(12), callbacks=[finds])
    assert (finds.found.model, finds.found.valid_dataset) == (model, None)
    assert find_caller() is None


def test_an_empty_validation_set_is_refused_before_the_first_step():
    """MindSpore would never evaluate, without a word."""

    class NoStep(Callback):
        def on_train_step_begin(self, run_context):
            raise AssertionError("a step ran")

    empty = valid_dataset().batch(9, drop_remainder=True)
    with pytest.raises(ValueError, match="Model.fit: the valid_dataset is empty and would never be evaluated; a batch"):
        make_model().fit(1, dataset(12), empty, callbacks=[Finds(), NoStep()])


@pytest.mark.parametrize(("columns", "is_wrong"), [(["images"], True), (["images", "labels"], False)])
def test_an_evaluation_takes_data_and_label(columns, is_wrong):
    """Unless the Model has an evaluation network of its own."""
    data = valid_dataset().project(columns)
    message = r"Owner: the dataset must have two columns, data and label, but it has 1: \['images'\]; name them with"
    with pytest.raises(ValueError, match=message) if is_wrong else contextlib.nullcontext():
        check_columns("Owner: the dataset", make_model(), data)
