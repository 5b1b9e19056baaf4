"""AdversarialTraining: a share of each batch is attacked, within bounds; training is otherwise what it was."""

from __future__ import annotations

import math

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train import Callback
from training import (
    IDIOMS,
    Network,
    NetworkWithLoss,
    Recorder,
    Samples,
    assert_same_weights,
    dataset,
    loss_fn,
    make_idiom,
    make_model,
    seeded,
    valid_dataset,
    weights,
)

from ms_callbacks import AdversarialTraining, BatchAccuracy, Robustness, TrainingState, Validate
from ms_callbacks.core.forward_hooks import settle_numpy
from ms_callbacks.core.run import Run

FREE = (-math.inf, math.inf)
PLAIN = Samples(48, 0).images  # the batches of `dataset()`, in order


class Batches(Callback):
    """The inputs that each step was given, as it ended."""

    def __init__(self):
        self.inputs = []

    def on_train_step_end(self, run_context):
        self.inputs.append(run_context.original_args()["train_dataset_element"][0].asnumpy().copy())


def batches(epsilon=0.3, epochs=1, model=None, data=None, **arguments):
    """The inputs of all steps of a run that is attacked."""
    seen = Batches()
    attack = AdversarialTraining(epsilon, **{"bounds": FREE, **arguments})
    (model or make_model()).train(epochs, data or dataset(), callbacks=[seen, attack])
    return seen.inputs


def distances(inputs, plain):
    """How far each sample was moved, at most."""
    return np.abs(inputs - plain).reshape(len(plain), -1).max(axis=1)


def by_hand(inputs, labels, epsilon):
    """FGSM of a fresh network, in evaluation mode, sample by sample."""
    network, loss = seeded(Network()), loss_fn()
    network.set_train(False)
    moved = []
    for image, label in zip(inputs, labels):
        gradient = ms.grad(lambda x, y: loss(network(x), y))(Tensor(image[None]), Tensor(label[None]))
        moved.append(image + epsilon * np.sign(gradient.asnumpy()[0]))
    return np.stack(moved)


def test_it_is_fgsm(mode):
    """The first batch, attacked whole and from where it stands, is that of the formula."""
    found = batches(share=1.0, random_start=False)[0]
    settle_numpy()
    ms.set_context(mode=ms.PYNATIVE_MODE)
    np.testing.assert_allclose(found, by_hand(PLAIN[:12], Samples(48, 0).labels[:12], 0.3), atol=1e-6)


def test_the_attack_raises_the_loss(mode):
    """Of the very step that trains on it, so the step is given the attacked samples."""
    losses = []
    for epsilon in (1e-30, 0.3):
        recorder = Recorder()
        attack = AdversarialTraining(epsilon, bounds=FREE)
        make_model().train(1, dataset(), callbacks=[recorder, attack])
        losses.append(recorder.losses[0])
    assert losses[1] > losses[0] + 0.1


@pytest.mark.parametrize(("share", "count"), [(0.5, 6), (0.25, 3), (0.04, 1), (0.01, 1), (1.0, 12)])
def test_a_share_of_each_batch_is_replaced(share, count):
    """Rounded, at least one sample, in place; all others stay to the last bit, and others are chosen each time."""
    found = batches(share=share)
    moved = [distances(inputs, PLAIN[12 * at : 12 * at + 12]) > 0 for at, inputs in enumerate(found)]
    assert [int(each.sum()) for each in moved] == [count] * 4
    assert count == 12 or len({tuple(each) for each in moved}) > 1


@pytest.mark.parametrize("random_start", [True, False])
def test_no_element_leaves_the_bounds_or_the_distance(random_start):
    """Although the step from a random start overshoots."""
    low, high = float(PLAIN.min()), float(PLAIN.max())
    for at, inputs in enumerate(batches(0.4, bounds=(low, high), share=1.0, random_start=random_start)):
        assert inputs.min() >= low
        assert inputs.max() <= high
        assert distances(inputs, PLAIN[12 * at : 12 * at + 12]).max() <= 0.4 + 1e-6


def test_a_random_start_is_one():
    """It is not the sign alone: a sample without a gradient has moved too."""
    network = Network()
    model = make_model(network=network)
    ops.assign(network.head.weight, ops.zeros_like(network.head.weight))
    moved = batches(0.4, model=model, share=1.0)[0] - PLAIN[:12]
    assert len(np.unique(moved)) > 100
    assert abs(moved.mean()) < 0.1
    assert 0.3 < np.abs(moved).max() <= 0.4
    ops.assign(network.head.weight, ops.zeros_like(network.head.weight))
    np.testing.assert_array_equal(batches(0.4, model=model, share=1.0, random_start=False)[0], PLAIN[:12])


def test_each_channel_has_its_bounds():
    """As images that are normalised by channel need."""
    random = np.random.RandomState(0)
    images = random.uniform(-1, 1, (24, 2, 3, 3)).astype(np.float32)
    images[:, 1] *= 2
    labels = np.zeros(24, np.int32)
    data = ds.GeneratorDataset(list(zip(images, labels[:, None])), ["x", "y"], shuffle=False).batch(12)
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(18, 3))
    model = ms.Model(network, OfColumn(), nn.SGD(network.trainable_params(), 0.1))
    found = batches(0.5, model=model, data=data, bounds=((-1, -2), (1, 2)), share=1.0)[0]
    assert np.abs(found[:, 0]).max() == 1
    assert np.abs(found[:, 1]).max() == 2


class OfColumn(nn.Cell):
    """The cross-entropy with labels of shape (n, 1)."""

    def __init__(self):
        super().__init__()
        self.loss = loss_fn()

    def construct(self, outputs, labels):
        return self.loss(outputs, labels.reshape(-1))


class WithNoise(Network):
    """Draws numbers and moves a counter in its forward pass, whatever its flags; Dropout and BatchNorm by theirs."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(p=0.5)
        self.passes = ms.Parameter(Tensor(0.0), name="passes", requires_grad=False)

    def construct(self, x):
        ops.assign(self.passes, self.passes + 1.0)
        if self.training:
            x = x + 0.5 * ops.standard_normal(x.shape, seed=5)
        return super().construct(x)


@pytest.mark.parametrize("how", ["train", pytest.param("fit", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [pytest.param(Network, marks=pytest.mark.slow), WithNoise])
def test_the_attack_itself_changes_nothing(mode, how, kind, monkeypatch):
    """If its result is thrown away, losses, weights, statistics, counters and random numbers are as without it."""
    monkeypatch.setattr(Run, "replace_batch", lambda run, *columns: None)
    ends = []
    for attack in ([], [AdversarialTraining(0.3, bounds=FREE)]):
        ms.set_seed(7)
        model, recorder = make_model(network=kind()), Recorder()
        valid = [valid_dataset()] if how == "fit" else []
        getattr(model, how)(2, dataset(), *valid, callbacks=[recorder, *attack, Validate(model, valid_dataset())])
        ends.append((recorder.losses, weights(model.train_network)))
    assert ends[0][0] == ends[1][0]
    assert_same_weights(ends[0][1], ends[1][1])


def test_flags_stay_as_they_are(mode):
    """Those of a part that is kept in evaluation too; the step trains with its own."""
    flags = []

    class Freeze(Callback):
        def on_train_begin(self, run_context):
            run_context.original_args()["network"].norm.set_train(False)

        def on_train_step_end(self, run_context):
            network = run_context.original_args()["network"]
            flags.append((network.training, network.norm.training, network.head.training))

    model = make_model()
    before = model.predict_network.norm.moving_mean.asnumpy().copy()
    model.train(1, dataset(), callbacks=[Freeze(), AdversarialTraining(0.1, bounds=FREE)])
    assert set(flags) == {(True, False, True)}
    np.testing.assert_array_equal(model.predict_network.norm.moving_mean.asnumpy(), before)


def test_the_datasets_own_arrays_are_not_written_to(mode):
    """A Python dataset may return the same arrays in each epoch: `Tensor.copy_` on the batch would spoil them."""
    pairs = [(PLAIN[at : at + 12].copy(), Samples(48, 0).labels[at : at + 12]) for at in (0, 12)]
    source = ds.GeneratorDataset(pairs, ["images", "labels"], shuffle=False)
    found = batches(epochs=3, data=source, share=1.0)
    assert all(distances(found[step], PLAIN[12 * (step % 2) :][:12]).min() > 0 for step in range(6))
    for at, (images, _) in enumerate(pairs):
        np.testing.assert_array_equal(images, PLAIN[12 * at : 12 * at + 12])


def test_evaluations_are_of_plain_samples():
    """Those of Validate are what Model.eval says."""
    model = make_model()
    validate = Validate(model, valid_dataset())
    model.train(1, dataset(), callbacks=[AdversarialTraining(9.0, bounds=FREE), validate])
    assert validate.results_["acc"] == pytest.approx(model.eval(valid_dataset())["acc"])


def test_a_batch_of_another_size_is_attacked_too(mode):
    """As the last one of an epoch may be."""
    found = batches(data=dataset(30))
    assert [len(inputs) for inputs in found] == [12, 12, 6]
    assert int((distances(found[2], PLAIN[24:30]) > 0).sum()) == 3


def test_the_seed_and_the_step_decide():
    """Two runs draw alike, also of one object; another seed draws otherwise."""
    first, second, other = batches(), batches(), batches(seed=1)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    attack, found = AdversarialTraining(0.3, bounds=FREE), []
    for _ in range(2):
        seen = Batches()
        make_model().train(1, dataset(), callbacks=[attack, seen])
        found.append(seen.inputs)
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.skipif(not hasattr(ds.Dataset, "set_init_step"), reason="no state within an epoch on this MindSpore")
@pytest.mark.parametrize("at", [2, pytest.param(4, marks=pytest.mark.slow), 5])
def test_a_resume_continues_with_the_same_attacks(tmp_path, at):
    """Within an epoch, at its end and in the next one, to the last bit."""

    class Interrupt(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == at:
                raise KeyboardInterrupt

    def callbacks():
        state = TrainingState(str(tmp_path / "state"), every_n_steps=1, overwrite=True)
        return [state, AdversarialTraining(0.3, bounds=FREE)]

    whole = make_model()
    whole.train(2, dataset(), callbacks=callbacks()[1:])
    model = make_model()
    with pytest.raises(KeyboardInterrupt):
        model.train(2, dataset(), callbacks=[*callbacks(), Interrupt()])
    model, data, resumed = make_model(), dataset(), callbacks()
    begun = resumed[0].resume(model, data, epochs=2)
    model.train(2, data, callbacks=resumed, initial_epoch=begun)
    assert_same_weights(weights(model.train_network), weights(whole.train_network))


@pytest.mark.parametrize("idiom", IDIOMS)
def test_training_cells_are_taken_apart_or_refused_by_name(idiom):
    """As real projects give them to a Model."""
    model, _ = make_idiom(idiom)
    seen, attack = Batches(), AdversarialTraining(0.3, bounds=FREE)
    if idiom.startswith("own"):
        with pytest.raises(ValueError, match="AdversarialTraining: needs a Model with a loss function"):
            model.train(1, dataset(), callbacks=[attack])
        return
    model.train(1, dataset(), callbacks=[attack, seen])
    assert (distances(seen.inputs[0], PLAIN[:12]) > 0).sum() == 6


def test_a_loss_that_counts_counts_each_sample_once(mode):
    """BatchAccuracy counts in the loss function, which the attack runs too."""
    accuracy, network = BatchAccuracy(per_print_times=0), seeded(Network())
    model = ms.Model(network, accuracy.watch(loss_fn()), nn.SGD(network.trainable_params(), 0.1))
    totals = []

    class Count(Callback):
        def on_train_step_end(self, run_context):
            totals.append(int(model.train_network.network._loss_fn.counts.asnumpy()[1]))

    model.train(1, dataset(), callbacks=[accuracy, AdversarialTraining(0.1, bounds=FREE), Count()])
    assert totals == [12, 24, 36, 48]


def test_training_under_attack_withstands_it():
    """What it is for: an accuracy under attack that plain training does not have."""
    accuracies = []
    for attack in ([], [AdversarialTraining(0.5, bounds=FREE, share=1.0)]):
        model = make_model(network=seeded(Network()), learning_rate=0.02)
        robustness = Robustness(dataset(96, 12), (0.0, 0.5), verbose=0)
        model.train(8, dataset(96, 12), callbacks=[*attack, robustness])
        accuracies.append(robustness.accuracies_[0.5])
    assert accuracies[1] > accuracies[0] + 0.02


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epsilon": 0}, ValueError, "epsilon must be finite and above 0, but got 0"),
        ({"epsilon": -0.1}, ValueError, "epsilon must be finite and above 0, but got -0.1"),
        ({"epsilon": math.nan}, ValueError, "epsilon must be finite and above 0, but got nan"),
        ({"epsilon": math.inf}, ValueError, "epsilon must be finite and above 0, but got inf"),
        ({"epsilon": "0.1"}, TypeError, "epsilon must be a number, but got '0.1'"),
        ({"share": 0}, ValueError, "share must be finite and above 0, but got 0"),
        ({"share": 1.5}, ValueError, "share must be at most 1, the whole batch, but got 1.5"),
        ({"share": math.nan}, ValueError, "share must be finite and above 0, but got nan"),
        ({"bounds": None}, TypeError, "bounds must be the lowest and the highest value of an input, .* got None"),
        ({"bounds": 1.0}, TypeError, "bounds must be the lowest and the highest value of an input, .* got 1.0"),
        ({"bounds": (0, 1, 2)}, TypeError, r"bounds must be the lowest and the highest .* got \(0, 1, 2\)"),
        ({"bounds": ("a", "b")}, TypeError, "bounds must be numbers, or one number per channel"),
        ({"bounds": (1.0, 0.0)}, ValueError, r"in bounds, low must be below high, but got \(1.0, 0.0\)"),
        ({"bounds": (0.0, 0.0)}, ValueError, "in bounds, low must be below high"),
        ({"bounds": (0.0, math.nan)}, ValueError, "in bounds, low must be below high"),
        ({"bounds": ((0, 3), (1, 2))}, ValueError, "in bounds, low must be below high"),
        ({"bounds": ((0, 0), (1, 1, 1))}, ValueError, "bounds must be two numbers, or two equally long sequences"),
        ({"bounds": (0, (1, 1))}, ValueError, "bounds must be two numbers, or two equally long sequences"),
        ({"random_start": 1}, TypeError, "random_start must be True or False, but got 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0, but got -1"),
        ({"seed": 0.5}, TypeError, "seed must be a whole number"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    """When it is made."""
    with pytest.raises(error, match=f"AdversarialTraining: {message}"):
        AdversarialTraining(**{"epsilon": 0.1, "bounds": FREE, **arguments})


def test_bounds_are_never_guessed():
    """The network does not reveal them."""
    with pytest.raises(TypeError, match="bounds"):
        AdversarialTraining(0.1)


class Rows:
    """A source whose items are arrays: MindSpore 2.10 fails on NumPy scalars with NumPy 2."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, index):
        return tuple(np.asarray(array[index]) for array in self.arrays)


def columns(**arrays):
    return ds.GeneratorDataset(Rows(*arrays.values()), list(arrays), shuffle=False).batch(4)


X, Y = np.zeros((8, 1, 4, 4), np.float32), np.zeros(8, np.int32)


@pytest.mark.parametrize(
    ("data", "bounds", "message"),
    [
        (lambda: columns(x=X.astype(np.int32), y=Y), FREE, "the inputs must be floats, .* but are Int32"),
        (lambda: columns(x=X.astype(np.uint8), y=Y), FREE, "the inputs must be floats, .* but are UInt8"),
        (lambda: columns(x=X + 2.8, y=Y), (0, 1), r"outside the bounds \(0, 1\): from 2.8 to 2.8; .*normalised input"),
        (lambda: columns(x=X - 0.4, y=Y), (0, 1), r"outside the bounds \(0, 1\): from -0.4 to -0.4"),
        (lambda: columns(x=X, y=Y), ((0, 0), (1, 1)), r"bounds has 2 channels, but .* of shape \(4, 1, 4, 4\)"),
    ],
)
def test_a_batch_that_cannot_be_attacked_is_refused_before_the_first_step(graph, data, bounds, message):
    """Instead of training on samples that make no sense."""
    model = make_model()
    before = weights(model.train_network)
    with pytest.raises(ValueError, match=f"AdversarialTraining: .*{message}"):
        model.train(1, data(), callbacks=[AdversarialTraining(0.1, bounds=bounds)])
    assert_same_weights(weights(model.train_network), before)


def test_bounds_may_be_rounded():
    """To 1 % of their range: what lies outside by less is attacked, and attacked samples are within."""
    attacked = batches(data=columns(x=X - 0.4242, y=Y), bounds=(-0.4, 2.8), share=1.0)
    assert np.min(X - 0.4242) < -0.4
    assert min(float(one.min()) for one in attacked) >= np.float32(-0.4)


def test_what_cannot_be_attacked_is_refused(monkeypatch):
    """Sink mode, a network that computes its own loss, a second one."""
    model, attack = make_model(), AdversarialTraining(0.1, bounds=FREE)
    with pytest.raises(ValueError, match="AdversarialTraining and AdversarialTraining both replace samples"):
        model.train(1, dataset(), callbacks=[attack, AdversarialTraining(0.2, bounds=FREE)])
    network = Network()
    own = ms.Model(NetworkWithLoss(network, loss_fn()), optimizer=nn.SGD(network.trainable_params(), 0.1))
    with pytest.raises(ValueError, match="AdversarialTraining: needs a Model with a loss function"):
        own.train(1, dataset(), callbacks=[attack])
    monkeypatch.setattr("ms_callbacks.core.progress.Progress.is_sinking", property(lambda progress: True))
    with pytest.raises(ValueError, match="AdversarialTraining: in sink mode .*dataset_sink_mode=False"):
        model.train(1, dataset(), callbacks=[attack])


def test_another_network_and_other_inputs_in_a_second_run():
    """The attack is compiled for what it attacks."""
    attack = AdversarialTraining(0.3, bounds=FREE, share=1.0, random_start=False)
    for network, data in ((Network(), dataset()), (nn.Dense(4, 3), columns(x=X[:, 0, 0], y=Y))):
        seen = Batches()
        optimizer = nn.SGD(network.trainable_params(), 0.1)
        ms.Model(network, loss_fn(), optimizer).train(1, data, callbacks=[attack, seen])
        assert seen.inputs[0].any()


def test_its_repr_is_its_configuration():
    """As it was given."""
    attack = AdversarialTraining(0.1, bounds=(-0.4, 2.8), share=0.25)
    assert repr(attack) == "AdversarialTraining(epsilon=0.1, bounds=(-0.4, 2.8), share=0.25)"
