"""What `check_callbacks` foresees, and the run itself refuses before its first step: one by one, without a trace."""

from __future__ import annotations

import random

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train import Callback
from training import (
    CLASSES,
    IDIOMS,
    Network,
    assert_same_weights,
    dataset,
    loss_fn,
    make_idiom,
    make_model,
    valid_dataset,
    weights,
)

from ms_callbacks import (
    ActivationMonitor,
    BestCheckpoint,
    ConfusionMatrix,
    CSVLogger,
    EarlyStopping,
    HardExamples,
    History,
    LossMonitor,
    LRCosineAnnealing,
    LRStepDecay,
    LRWarmup,
    ProgressBar,
    ReduceLROnPlateau,
    Robustness,
    ShapeInspector,
    TrainingState,
    Validate,
    check_callbacks,
)


class NoStep(Callback):
    """Nothing may have been learnt."""

    def on_train_step_end(self, run_context):
        raise AssertionError("a step was taken")


def one_hot(data):
    return data.map(lambda label: np.eye(CLASSES, dtype=np.float32)[label], "labels")


def unbatched():
    return ds.GeneratorDataset(
        [(np.zeros((1, 4, 4), np.float32), np.array(0, np.int32))] * 3, ["images", "labels"], shuffle=False
    )


def labelled(label, data=None):
    return (data or dataset()).map(lambda labels: np.full_like(labels, label), "labels")


def wide(data):
    return data.map(lambda images: np.concatenate([images, images], axis=-1), "images")


def validate(data):
    return lambda model, folder: [Validate(model, data())]


CASES = {
    "one-hot validation labels": (
        validate(lambda: one_hot(valid_dataset())),
        "Validate: the first batch of the validation dataset, .*one-hot labels need a loss with sparse=False",
    ),
    "unbatched validation data": (
        validate(unbatched),
        r"Validate: the first batch of the validation dataset, .*it is not batched: call batch\(",
    ),
    "a validation label out of range": (
        validate(lambda: labelled(3, valid_dataset())),
        "label 3 in the validation dataset is out of range: the network has 3 classes, 0 to 2",
    ),
    "a negative validation label": (validate(lambda: labelled(-1, valid_dataset())), "label -1 in the validation"),
    "wider validation images": (
        validate(lambda: wide(valid_dataset())),
        r"Validate: the first batch of the validation dataset, Float32 of shape \(12, 1, 4, 8\), Int32 of shape "
        r"\(12,\), does not go through",
    ),
    "an empty validation set": (
        validate(lambda: dataset(count=5).batch(9, drop_remainder=True)),
        "Validate: the validation dataset is empty",
    ),
    "mode against a metric": (
        lambda model, folder: [Validate(model, valid_dataset()), EarlyStopping("acc", mode="min")],
        "EarlyStopping: mode='min' treats a smaller 'acc' as better, but it is MindSpore's Accuracy.*mode='max'",
    ),
    "a warm-up longer than the run": (lambda model, folder: [LRWarmup(10)], "LRWarmup: the warm-up takes 10 epochs"),
    "a cosine shorter than the run": (
        lambda model, folder: [LRCosineAnnealing(1)],
        "LRCosineAnnealing: .*T_max=1.*(beyond='stay'|beyond=\"stay\")",
    ),
    "a CSV file that is something else": (
        lambda model, folder: [CSVLogger(str(folder / "script.py"))],
        "CSVLogger: .*script.py' is not a training log",
    ),
    "the same callback twice": (lambda model, folder: [history := History(), history], "the same History is in"),
    "a report without an evaluation": (
        lambda model, folder: [ConfusionMatrix()],
        "ConfusionMatrix: needs an evaluation",
    ),
    "class names that are too few": (
        lambda model, folder: [Validate(model, valid_dataset()), HardExamples(2, class_names=["a", "b"])],
        "HardExamples: class_names must have one name for each of the network's 3 classes",
    ),
    "robustness of inputs that are no floats": (
        lambda model, folder: [Robustness(dataset().map(lambda x: x.astype(np.int32), "images"))],
        "Robustness: the dataset's first column must hold floats",
    ),
    "an unfinished run": (
        lambda model, folder: [TrainingState(str(folder / "state"))],
        "state.resume",
    ),
}


def prepare(folder):
    """A script beside, and a run that was not finished."""
    (folder / "script.py").write_text("import this\n")

    class Fail(Callback):
        def on_train_epoch_begin(self, run_context):
            if run_context.original_args()["cur_epoch_num"] == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_model().train(3, dataset(), callbacks=[TrainingState(str(folder / "state")), Fail()])


@pytest.mark.parametrize("case", CASES)
def test_it_is_foreseen_and_refused_by_the_run_before_the_first_step(case, tmp_path):
    """In the same words; the weights stay what they were."""
    if case == "an unfinished run":
        prepare(tmp_path)
    (tmp_path / "script.py").write_text("import this\n")
    make, told = CASES[case]
    model = make_model()
    before = weights(model.train_network)
    with pytest.raises(ValueError, match=f"(?s)check_callbacks: 1 problem:\n- .*{told}"):
        check_callbacks(model, dataset(), make(model, tmp_path), epochs=4)
    with pytest.raises((ValueError, TypeError), match=f"(?s){told}"):
        model.train(4, dataset(), callbacks=[*make(model, tmp_path), NoStep()])
    assert_same_weights(weights(model.train_network), before)
    assert (tmp_path / "script.py").read_text() == "import this\n"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (lambda: dataset(count=5).batch(9, drop_remainder=True), "the training dataset is empty"),
        (lambda: wide(dataset()), "Model: the first batch of the training dataset, .*does not go through the network"),
        (lambda: one_hot(dataset()), "Model: .*one-hot labels need a loss with sparse=False"),
        (unbatched, "Model: .*it is not batched"),
        (lambda: labelled(3), "Model: label 3 in the training dataset is out of range"),
        pytest.param(
            lambda: labelled(-1), "Model: label -1 in the training dataset is out of range", marks=pytest.mark.slow
        ),
    ],
    ids=["empty", "wider", "one-hot", "unbatched", "label too high", "label negative"],
)
def test_training_data_that_cannot_be_learnt_from_is_foreseen(graph, data, told):
    """By one batch through network and loss; the run refuses it, or MindSpore does, with nothing learnt."""
    model = make_model()
    before = weights(model.train_network)
    with pytest.raises(ValueError, match=told):
        check_callbacks(model, data(), [Validate(model, valid_dataset())], epochs=1)
    with pytest.raises(Exception):  # noqa: B017, PT011  # MindSpore's own, of several kinds
        model.train(1, data(), callbacks=[Validate(model, valid_dataset()), NoStep()])
    assert_same_weights(weights(model.train_network), before)


@pytest.mark.parametrize("how", ["train", "fit"])
def test_validation_data_is_tried_in_fit_too(how):
    """Where the Model itself evaluates."""
    model = make_model()
    bad = one_hot(valid_dataset())
    with pytest.raises(ValueError, match=r"(Validate|Model\.fit): the first batch of the validation dataset"):
        if how == "fit":
            model.fit(1, dataset(), bad, callbacks=[History(), NoStep()])
        else:
            model.train(1, dataset(), callbacks=[Validate(model, bad), NoStep()])


def test_all_is_told_at_once(tmp_path):
    """Problems of callbacks, of the data and of both together, each a line."""
    (tmp_path / "script.py").write_text("import this\n")
    model = make_model()
    callbacks = [
        Validate(model, one_hot(valid_dataset())),
        EarlyStopping("Accuracy"),
        CSVLogger(str(tmp_path / "script.py")),
        LRWarmup(10),
    ]
    with pytest.raises(ValueError, match="5 problems:") as error:
        check_callbacks(model, labelled(7), callbacks, epochs=2)
    for told in ("did you mean 'acc'", "is not a training log", "10 epochs", "one-hot labels", "label 7"):
        assert told in str(error.value)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ProgressBar(file="x"), "file must be something to print to, such as an open file, but got 'x'"),
        (lambda: BestCheckpoint(save_top_k=0), "save_top_k=0 saves nothing"),
    ],
)
def test_arguments_that_do_nothing_are_refused_when_it_is_made(make, match):
    """Before there is a run."""
    with pytest.raises((TypeError, ValueError), match=match):
        make()


BY_DEFAULT = ("training cell", "own training cell", "two optimizers")  # they differ most


@pytest.mark.parametrize(
    "idiom", [pytest.param(idiom, marks=[] if idiom in BY_DEFAULT else [pytest.mark.slow]) for idiom in IDIOMS]
)
def test_a_sound_list_passes_for_every_idiom(idiom, tmp_path):
    """And leaves weights, flags and random state as they were."""
    model, network = make_idiom(idiom)
    before, flags = weights(model.train_network), [cell.training for _, cell in model.train_network.cells_and_names()]
    states = random.getstate(), np.random.get_state()[1].tolist(), ms.get_seed()
    callbacks = [
        Validate(model, valid_dataset()),
        EarlyStopping("acc"),
        BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="acc"),
        ActivationMonitor(),
        ConfusionMatrix(),
        LossMonitor(),
    ]
    check_callbacks(model, dataset(), callbacks, epochs=2)
    assert_same_weights(weights(model.train_network), before)
    assert [cell.training for _, cell in model.train_network.cells_and_names()] == flags
    assert (random.getstate(), np.random.get_state()[1].tolist(), ms.get_seed()) == states
    model.train(2, dataset(), callbacks=callbacks)
    plain, plain_network = make_idiom(idiom)
    plain.train(2, dataset())
    assert_same_weights(weights(network), weights(plain_network))


def test_what_a_training_cell_makes_impossible_is_foreseen():
    """By name, with the argument to pass."""

    class Pair(nn.Cell):
        def __init__(self):
            super().__init__()
            self.one, self.other = Network(), Network()
            self.optimizer = nn.SGD([*self.one.trainable_params(), *self.other.trainable_params()], 0.1)

        def construct(self, x, label):
            return ops.reduce_mean(self.one(x) - self.other(x))

    model = ms.Model(Pair())
    with pytest.raises(ValueError, match=r"ShapeInspector: cannot tell which .*pass network=\.\.\."):
        check_callbacks(model, dataset(), [ShapeInspector(), History()], epochs=1)


def test_a_network_that_counts_its_passes_is_left_as_it_was():
    """Parameters and Python attributes."""

    class Counts(Network):
        def __init__(self):
            super().__init__()
            self.count = ms.Parameter(Tensor(0, ms.int32), name="count", requires_grad=False)

        def construct(self, x):
            return super().construct(ops.depend(x, ops.assign_add(self.count, Tensor(1, ms.int32))))

    network = Counts()
    model = ms.Model(network, loss_fn(), nn.SGD(network.trainable_params(), 0.1), metrics={"acc"})
    check_callbacks(model, dataset(), [Validate(model, valid_dataset())], epochs=1)
    assert int(network.count.asnumpy()) == 0
    model.train(2, dataset(), callbacks=[Validate(model, valid_dataset()), ShapeInspector(), ConfusionMatrix()])
    assert int(network.count.asnumpy()) == 8


def test_a_metric_that_needs_all_samples_is_not_asked_about_one_batch():
    """As an area under a curve, of which one class alone has none."""

    class Picky(ms.train.Accuracy):
        def eval(self):
            if self._total_num < 30:
                raise ValueError("too few")
            return super().eval()

    model = make_model(metrics={"acc": Picky()})
    check_callbacks(model, dataset(), [Validate(model, valid_dataset())], epochs=1)
    model.train(1, dataset(), callbacks=[Validate(model, valid_dataset())])


class Area(ms.train.Metric):
    """A metric of a user's own, of which nobody knows what it gives before it has given it."""

    def __init__(self, result=0.5):
        super().__init__()
        self.result = result
        self.clear()

    def clear(self):
        self.seen = 0

    def update(self, *inputs):
        self.seen += len(inputs[0].asnumpy())

    def eval(self):
        return self.result


WRONG_NAMES = {
    "EarlyStopping": lambda folder: EarlyStopping("acu", mode="max"),
    "EarlyStopping, auto": lambda folder: EarlyStopping("acu"),
    "BestCheckpoint": lambda folder: BestCheckpoint(folder + "/best.ckpt", monitor="acu"),
    "ReduceLROnPlateau": lambda folder: ReduceLROnPlateau("acu", mode="max"),
    "a template": lambda folder: BestCheckpoint(folder + "/{acu:.2f}.ckpt", monitor="auc", mode="max"),
}


@pytest.mark.parametrize("case", WRONG_NAMES)
def test_a_wrong_name_is_found_beside_a_metric_of_a_users_own(case, tmp_path):
    """For one batch has shown that it gives a number."""
    model = make_model(metrics={"auc": Area()})
    make = WRONG_NAMES[case]
    validation = valid_dataset()
    with pytest.raises(ValueError, match=r"check_callbacks: 1 problem:\n- .*'acu'.*did you mean 'auc'"):
        check_callbacks(model, dataset(), [Validate(model, validation), make(str(tmp_path))], epochs=1)
    with pytest.raises(ValueError, match="did you mean 'auc'"):
        model.train(1, dataset(), callbacks=[Validate(model, validation), make(str(tmp_path)), NoStep()])


def test_names_that_only_a_whole_evaluation_shows_are_not_refused_before_it(tmp_path):
    """A dictionary may hold others for other batches."""
    model = make_model(metrics={"by class": Area({"cat": 0.5})})
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="dog", mode="max")
    check_callbacks(model, dataset(), [Validate(model, valid_dataset()), best], epochs=1)
    with pytest.raises(ValueError, match="monitor 'dog' is not among this run's values"):
        model.train(1, dataset(), callbacks=[Validate(model, valid_dataset()), best])


def test_a_resumed_run_within_an_epoch_raises_no_false_alarm(tmp_path):
    """A schedule enters where the state says."""
    if not hasattr(ds.Dataset, "set_init_step"):
        pytest.skip("this MindSpore cannot begin a dataset in its middle")

    class Fail(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == 11:
                raise KeyboardInterrupt

    def callbacks():
        return [TrainingState(str(tmp_path), every_n_steps=1), LRStepDecay(1, gamma=0.5)]

    with pytest.raises(KeyboardInterrupt):
        make_model().train(5, dataset(), callbacks=[*callbacks(), Fail()])
    model, data, resumed = make_model(), dataset(), callbacks()
    first = resumed[0].resume(model, data)
    assert first == 2
    check_callbacks(model, data, resumed, epochs=5, initial_epoch=first)
    model.train(5, data, callbacks=resumed, initial_epoch=first)
    whole = make_model()
    whole.train(5, dataset(), callbacks=[LRStepDecay(1, gamma=0.5)])
    assert_same_weights(weights(model.train_network), weights(whole.train_network))


def test_a_rate_that_is_not_the_optimizers_is_foreseen():
    """Unless a schedule is still to set its first."""
    model = make_model()
    with pytest.raises(ValueError, match="LossMonitor: learning_rate 0.1 is not the optimizer's, which is 0.05"):
        check_callbacks(model, dataset(), [LossMonitor(0.1)], epochs=2)
    check_callbacks(model, dataset(), [LossMonitor(0.05), LRStepDecay(1)], epochs=2)


def test_inputs_that_the_network_does_not_take_are_foreseen():
    """With what it takes; of a table without training too."""
    model, network = make_idiom("own with-loss cell")
    image = Tensor(np.zeros((2, 1, 4, 4), np.float32))
    told = r"ShapeInspector: NetworkWithLoss takes \(x, label\), but inputs has 1: missing .*'label'"
    with pytest.raises(ValueError, match=told):
        check_callbacks(model, dataset(), [ShapeInspector(inputs=image)], epochs=1)
    with pytest.raises(ValueError, match=told):
        ShapeInspector().inspect(model.train_network, image)
    assert ShapeInspector(inputs=image, network=network).inspect(network).rows_


def test_fit_without_a_place_for_the_loss_is_foreseen():
    """MindSpore's fit fails there after an epoch."""
    network = Network()
    model = ms.Model(
        network,
        loss_fn(),
        nn.SGD(network.trainable_params(), 0.1),
        metrics={"auc": Area()},
        eval_network=nn.WithEvalCell(network, loss_fn()),
    )
    with pytest.raises(ValueError, match=r"Model\.fit: .*call Model\.train with Validate"):
        check_callbacks(model, dataset(), [History()], epochs=1, valid_dataset=valid_dataset())
    with pytest.raises(ValueError, match=r"Model\.fit: .*call Model\.train with Validate"):
        model.fit(1, dataset(), valid_dataset(), callbacks=[History(), NoStep()])
