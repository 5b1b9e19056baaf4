"""Validate: Model.train gets what Model.fit has."""

from __future__ import annotations

import itertools

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train import Accuracy, Callback, Loss, Metric
from mindspore.train import EarlyStopping as MindSporesEarlyStopping
from training import Network, Recorder, assert_same_weights, dataset, loss_fn, make_model, valid_dataset

from ms_callbacks import (
    BestCheckpoint,
    EarlyStopping,
    LossMonitor,
    ReduceLROnPlateau,
    Robustness,
    Validate,
)


class Counter(Callback):
    """Counts evaluations from outside."""

    def __init__(self, model):
        self.count = 0
        evaluate = model.eval

        def counted(*args, **kwargs):
            self.count += 1
            return evaluate(*args, **kwargs)

        model.eval = counted


def mean_loss(model):
    """The mean loss over all samples, computed one by one, in PYNATIVE mode, where nothing is compiled for it."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    network, loss = model.predict_network, loss_fn("none")
    network.set_train(False)
    losses = [loss(network(images), labels).asnumpy() for images, labels in valid_dataset()]
    return float(np.concatenate(losses).mean())


def test_eval_loss_is_the_mean_over_all_samples(mode):
    """Batches count by their size, and the last one is not all there is."""
    model = make_model()
    validate = Validate(model, valid_dataset())
    model.train(1, dataset(), callbacks=[validate])
    assert validate.results_["eval_loss"] == pytest.approx(mean_loss(model), rel=1e-5)
    assert validate.results_["acc"] == pytest.approx(model.eval(valid_dataset())["acc"])


def test_fit_alone_takes_the_last_batch_and_validate_puts_it_right():
    """In Model.fit no second evaluation is made; its own serves, with eval_loss over all samples."""
    model, seen = make_model(), {}

    class Peek(Callback):
        def on_train_epoch_end(self, run_context):
            seen.update(run_context.original_args()["eval_results"])

    counter = Counter(model)
    model.fit(1, dataset(), valid_dataset(), callbacks=[Peek()])
    assert seen["eval_loss"] != pytest.approx(mean_loss(model), rel=1e-3)
    model = make_model()
    counter = Counter(model)
    model.fit(1, dataset(), valid_dataset(), callbacks=[Validate(model, valid_dataset()), Peek()])
    assert seen["eval_loss"] == pytest.approx(mean_loss(model), rel=1e-5)
    assert counter.count == 0


def test_a_metric_called_loss_appears_as_eval_loss():
    """The Model's own name for it would be mistaken for the training loss."""
    model = make_model(metrics=("acc", "loss"))
    validate = Validate(model, valid_dataset())
    model.train(1, dataset(), callbacks=[validate])
    assert sorted(validate.results_) == ["acc", "eval_loss"]


@pytest.mark.parametrize(
    ("mode", "name", "how"),
    [
        pytest.param(
            *each,
            marks=[] if each in (("graph", "mine", "train"), ("pynative", "loss", "fit")) else [pytest.mark.slow],
        )
        for each in itertools.product(("graph", "pynative"), ("loss", "eval_loss", "mine"), ("train", "fit"))
    ],
    indirect=["mode"],
)
def test_mindspores_loss_metric_is_a_mean_over_samples(mode, how, name):
    """Whatever its name; MindSpore itself takes the mean over batches, of which the last is smaller."""
    model = make_model(metrics={name: Loss(), "acc": Accuracy()})
    validate = Validate(model, valid_dataset())
    if how == "fit":
        model.fit(1, dataset(), valid_dataset(), callbacks=[validate])
    else:
        model.train(1, dataset(), callbacks=[validate])
    expected = mean_loss(model)
    results = dict(validate.results_)
    assert sorted(results) == sorted({"eval_loss", "acc", "eval_loss" if name == "loss" else name})
    results.pop("acc")
    assert list(results.values()) == pytest.approx([expected] * len(results), rel=1e-5)
    assert model.eval(valid_dataset())[name] != pytest.approx(expected, rel=1e-3)


class Constant(Metric):
    """A metric that always says the same."""

    def clear(self):
        pass

    def update(self, *inputs):
        pass

    def eval(self):
        return 42.0


class Largest(Loss):
    """A loss of the user's own: the largest of a batch."""

    def update(self, *inputs):
        self.largest = max(self.largest, float(inputs[0].asnumpy()))

    def clear(self):
        self.largest = 42.0

    def eval(self):
        return self.largest


@pytest.mark.parametrize("how", ["train", "fit"])
@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (Constant, "eval_loss"),
        (Largest, "loss"),
        pytest.param(Constant, "loss", marks=pytest.mark.slow),
        pytest.param(Largest, "eval_loss", marks=pytest.mark.slow),
    ],
)
def test_the_models_own_loss_metric_wins(how, metric, name):
    """Whatever it computes, it is what the user asked for."""
    model = make_model(metrics={name: metric()})
    validate = Validate(model, valid_dataset())
    stopping = EarlyStopping("eval_loss", verbose=0)
    valid = [valid_dataset()] if how == "fit" else []
    getattr(model, how)(1, dataset(), *valid, callbacks=[validate, stopping])
    assert (validate.results_, stopping.best_) == ({"eval_loss": 42.0}, 42.0)


def test_an_evaluation_network_of_ones_own_has_no_eval_loss():
    """Its outputs have no fixed order; that is said before the first step, and other metrics work."""

    class Evaluation(nn.Cell):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def construct(self, images, labels):
            return self.network(images), labels

    plain = make_model()
    network = plain.predict_network
    model = ms.Model(
        network, loss_fn(), nn.SGD(network.trainable_params(), 0.1), metrics={"acc"}, eval_network=Evaluation(network)
    )
    validate = Validate(model, valid_dataset())
    with pytest.raises(ValueError, match=r"monitor 'eval_loss' is not among this run's values \('acc', 'loss'\)"):
        model.train(1, dataset(), callbacks=[validate, EarlyStopping()])
    model.train(1, dataset(), callbacks=[validate])
    assert list(validate.results_) == ["acc"]


def test_a_run_that_evaluates_in_none_of_its_epochs_is_refused_before_the_first_step():
    """By Validate's interval or by Model.fit's."""

    class NoStep(Callback):
        def on_train_step_begin(self, run_context):
            raise AssertionError("a step ran")

    model = make_model()
    validate = Validate(model, valid_dataset(), every_n_epochs=5, on_last=False)
    with pytest.raises(ValueError, match="every_n_epochs=5 with on_last=False evaluates in none of the epochs 1 to 4"):
        model.train(4, dataset(), callbacks=[validate, NoStep()])
    for frequency in (5, [5, 6]):
        with pytest.raises(ValueError, match="needs an evaluation, but this run never evaluates.*valid_frequency"):
            model.fit(4, dataset(), valid_dataset(), frequency, callbacks=[EarlyStopping(), NoStep()])
    model.fit(5, dataset(), valid_dataset(), 5, callbacks=[EarlyStopping(verbose=0)])


def test_a_stop_during_an_epoch_makes_it_the_last():
    """It is evaluated, whatever the interval."""
    model = make_model()

    class Stop(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == 2:
                run_context.request_stop()

    validate = Validate(model, valid_dataset(), every_n_epochs=4)
    model.train(8, dataset(), callbacks=[Stop(), validate])
    assert "acc" in validate.results_


def test_one_evaluation_an_epoch_whoever_needs_it(tmp_path):
    """Four callbacks that look at the results share one evaluation, in any order of the list."""
    outcomes = []
    for order in (1, -1):
        model = make_model()
        counter = Counter(model)
        best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="acc", verbose=0)
        stopping = EarlyStopping("eval_loss", patience=9, verbose=0)
        plateau = ReduceLROnPlateau("eval_loss", patience=0, min_delta=1.0, verbose=0)
        monitor = LossMonitor(per_print_times=0)
        model.train(
            3, dataset(), callbacks=[Validate(model, valid_dataset()), best, stopping, plateau, monitor][::order]
        )
        assert counter.count == 3
        outcomes.append(
            (best.best_, best.best_epoch_, stopping.best_, plateau.wait_, best.load_into(Network())["learning_rate"])
        )
    assert outcomes[0] == outcomes[1]


def test_training_goes_on_as_if_there_had_been_no_evaluation(mode):
    """Losses and weights are the same to the last bit, BatchNorm's statistics too."""
    with_, without = Recorder(), Recorder()
    model = make_model()
    model.train(3, dataset(), callbacks=[with_, Validate(model, valid_dataset())])
    make_model().train(3, dataset(), callbacks=[without])
    assert with_.losses == without.losses
    assert_same_weights(with_.weights[-1], without.weights[-1])


def test_frozen_layers_stay_in_evaluation_mode():
    """A layer that the user has put into evaluation mode is still there after an evaluation."""
    network = Network()
    model = make_model(network=network)
    flags = []

    class Freeze(Callback):
        def on_train_begin(self, run_context):
            network.norm.set_train(False)

        def on_train_step_end(self, run_context):
            flags.append((network.norm.training, network.hidden.training))

    model.train(2, dataset(), callbacks=[Freeze(), Validate(model, valid_dataset())])
    assert set(flags) == {(False, True)}


@pytest.mark.parametrize("how", ["train", "fit"])
def test_an_evaluation_whose_loss_is_nan_counts_as_nan(tmp_path, how):
    """MindSpore makes a plausible accuracy of logits that are NaN; nothing here takes it for the best."""
    model = make_model()
    head = model.predict_network.head.weight
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="acc", verbose=0)
    stopping = EarlyStopping("acc", verbose=0)

    class Spoil(Callback):
        def on_train_step_end(self, run_context):
            ops.assign(head, Tensor(np.full(head.shape, np.nan, np.float32)))

    if how == "fit":
        model.fit(3, dataset(), valid_dataset(), callbacks=[Spoil(), best, stopping])
    else:
        validate = Validate(model, valid_dataset())
        model.train(3, dataset(), callbacks=[Spoil(), validate, best, stopping])
        assert np.isfinite(validate.results_["acc"])
    assert (best.best_, stopping.best_, stopping.stopped_epoch_) == (None, None, 1)
    assert stopping.stop_reason_ == "acc is nan"


@pytest.mark.parametrize(("on_last", "epochs"), [(True, [2, 4, 5]), (False, [2, 4])])
def test_every_n_epochs(on_last, epochs):
    """Evaluates in every n-th epoch, and in the last one if asked to."""
    model = make_model()
    evaluated = []

    class Peek(Callback):
        def on_train_epoch_end(self, run_context):
            args = run_context.original_args()
            if "eval_results" in args:
                evaluated.append(args["cur_epoch_num"])

    validate = Validate(model, valid_dataset(), every_n_epochs=2, on_last=on_last)
    model.train(5, dataset(), callbacks=[validate, Peek()])
    assert evaluated == epochs


@pytest.mark.parametrize("order", [1, -1])
def test_mindspores_own_callbacks_work_under_train(order):
    """They find the results where Model.fit puts them, wherever they stand."""
    model = make_model()
    theirs = MindSporesEarlyStopping("eval_loss", patience=100)
    model.train(1, dataset(), callbacks=[Validate(model, valid_dataset()), theirs][::order])
    assert np.isfinite(theirs.best)


def test_a_models_own_way_to_evaluate_is_taken():
    """Whether it calls callbacks or not."""

    class Own(ms.Model):
        def eval(self, valid_dataset, callbacks=None, dataset_sink_mode=False):
            return {"acc": 0.25}

    plain = make_model()
    model = Own(plain.predict_network, loss_fn(), nn.SGD(plain.predict_network.trainable_params(), 0.1), {"acc"})
    validate = Validate(model, valid_dataset())
    model.train(1, dataset(), callbacks=[validate])
    assert validate.results_ == {"acc": 0.25}


def test_wrong_configuration_is_refused_before_the_first_step():
    """A Model without metrics, an empty dataset, two evaluators."""

    class NoStep(Callback):
        def on_train_step_begin(self, run_context):
            raise AssertionError("a step ran")

    bare = make_model(metrics=None)
    with pytest.raises(ValueError, match="Validate: the Model has no metrics.*metrics={'acc'}"):
        bare.train(1, dataset(), callbacks=[Validate(bare, valid_dataset()), NoStep()])
    model = make_model()
    empty = dataset(4, 12).batch(100, drop_remainder=True)
    with pytest.raises(ValueError, match="Validate: the validation dataset is empty"):
        model.train(1, dataset(), callbacks=[Validate(model, empty), NoStep()])
    two = [Validate(model, valid_dataset()), Validate(model, valid_dataset()), NoStep()]
    with pytest.raises(ValueError, match="Validate and Validate both evaluate the Model"):
        model.train(1, dataset(), callbacks=two)
    with pytest.raises(ValueError, match="the given Model shares no parameter with the one that trains"):
        model.train(1, dataset(), callbacks=[Validate(make_model(), valid_dataset()), NoStep()])
    unlabelled = valid_dataset().project(["images"])
    with pytest.raises(ValueError, match=r"must have two columns, data and label, but it has 1: \['images'\]"):
        model.train(1, dataset(), callbacks=[Validate(model, unlabelled), NoStep()])
    with pytest.raises(ValueError, match="Model.fit: the valid_dataset is empty"):
        model.fit(1, dataset(), empty, callbacks=[EarlyStopping(), NoStep()])
    with pytest.raises(TypeError, match=r"model must be a mindspore.train.Model, but got Network"):
        Validate(Network(), valid_dataset())
    with pytest.raises(TypeError, match="dataset must be a MindSpore dataset, but got list"):
        Validate(model, [])
    for columns in (["images"], ["images", "labels", "labels2"]):
        other = valid_dataset().map(lambda one: (one, one), "labels", ["labels", "labels2"]).project(columns)
        with pytest.raises(
            ValueError, match=f"Model.fit: the valid_dataset must have two .*, but it has {len(columns)}:"
        ):
            model.fit(1, dataset(), other, callbacks=[EarlyStopping(), NoStep()])
    with pytest.raises(ValueError, match="every_n_epochs must be at least 1, but got 0"):
        Validate(model, valid_dataset(), every_n_epochs=0)


def test_what_makes_a_dataset_is_not_one():
    """Of an object with `run()`, such as `vision.Mnist`, the way to one is told."""

    class Maker:
        def run(self):
            return valid_dataset()

    model = make_model()
    with pytest.raises(TypeError, match=r"Validate: dataset must be .*, but got Maker; call its run\(\) for one"):
        Validate(model, Maker())
    with pytest.raises(TypeError, match=r"Robustness: dataset must be .*, but got Maker; call its run\(\) for one"):
        Robustness(Maker())
    model.train(1, dataset(), callbacks=[Validate(model, Maker().run())])
