"""NonFiniteGuard: the step in which a run stops being finite, named, kept and brought back."""

from __future__ import annotations

import json
import math
import os

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from training import (
    Recorder,
    Samples,
    assert_same_weights,
    in_parallel_mode,
    loss_fn,
    make_model,
    valid_dataset,
    weights,
)

from ms_callbacks import DynamicLR, LossMonitor, LRWarmup, NonFiniteGuard, TrainingState, replay
from ms_callbacks.core import progress

STEPS = 8


def dataset(spoilt=None, value=np.nan, whole=False):
    """Eight steps an epoch; `value` in one pixel of step `spoilt`, or in the `whole` of its batch."""
    samples = Samples(12 * STEPS, 0)
    if spoilt is not None:
        batch = samples.images[(spoilt - 1) * 12 : spoilt * 12]
        if whole:
            batch[:] = value
        else:
            batch[3, 0, 1, 1] = value
    return ds.GeneratorDataset(samples, ["images", "labels"], shuffle=False).batch(12)


class Peek(ms.train.Callback):
    """The whole train network after each step, by step, from outside."""

    def __init__(self):
        self.after = {}

    def on_train_step_end(self, run_context):
        args = run_context.original_args()
        self.after[args["cur_step_num"]] = weights(args["train_network"])


def report_of(path):
    with open(os.path.join(path, "report.json"), encoding="utf-8") as file:
        return json.load(file)


def kept(path):
    """The weights in a dump."""
    loaded = ms.load_checkpoint(os.path.join(path, "weights.ckpt"))
    return {name: one.asnumpy().reshape(one.shape) for name, one in loaded.items()}


class Open(nn.Cell):
    """What is not finite goes through to the loss; the ReLU of `Network` makes 0 of NaN on a CPU."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Conv2d(1, 3, 3, pad_mode="valid")
        self.norm = nn.BatchNorm2d(3)
        self.flatten = nn.Flatten()
        self.head = nn.Dense(12, 3)

    def construct(self, x):
        return self.head(self.flatten(self.norm(self.hidden(x))))


def open_model(learning_rate=0.05):
    return make_model(network=Open(), learning_rate=learning_rate)


class Scaled(nn.Cell):
    """A loss so large that a large rate overflows the weights, while the loss is finite."""

    def __init__(self):
        super().__init__()
        self.loss = loss_fn()

    def construct(self, logits, labels):
        return self.loss(logits, labels) * 1000


class Root(nn.Cell):
    """A loss whose gradient is no number where all logits are 0, though the loss is one."""

    def __init__(self):
        super().__init__()
        self.loss = loss_fn()

    def construct(self, logits, labels):
        return self.loss(logits, labels) + ops.sqrt(ops.reduce_sum(ops.square(logits)))


def with_loss(loss, network=None, learning_rate=0.05):
    model = make_model(network=network)
    network = model.predict_network
    return ms.Model(network, loss, nn.SGD(network.trainable_params(), learning_rate), metrics={"acc"})


@pytest.mark.parametrize(
    ("how", "interval"),
    [
        ("train", 1),
        ("fit", 4),
        ("train", 50),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("fit", 1), ("train", 4), ("fit", 50))),
    ],
)
def test_a_batch_that_is_not_finite_is_named(tmp_path, mode, how, interval):
    """Epoch, step, parameter, layer and column, wherever in an interval it is; and the weights before are kept."""
    model, guard, peek = open_model(), NonFiniteGuard(str(tmp_path), every_n_steps=interval), Peek()
    with pytest.raises(ValueError, match="NonFiniteGuard") as error:
        if how == "train":
            model.train(3, dataset(6), callbacks=[peek, guard], initial_epoch=1)
        else:
            model.fit(3, dataset(6), valid_dataset(24), callbacks=[peek, guard], initial_epoch=1)
    path = str(tmp_path / "epoch-002-step-00006")
    assert guard.dumps_ == [path]
    assert str(error.value) == (
        "NonFiniteGuard: the loss is nan in epoch 2, step 6; the first parameter that is not finite is "
        "'hidden.weight'; the first output that is not finite is that of 'hidden' (Conv2d), whose input was already "
        "not finite; the first gradient that is not finite is that of 'hidden.weight'; column 0 of the batch itself "
        "is not finite: fix the data; "
        f"replay({path!r}, model) repeats the step"
    )
    assert_same_weights(kept(path), peek.after[5])
    assert_same_weights(weights(model.train_network), peek.after[5])
    report = report_of(path)
    assert (report["loss"], report["learning_rates"], report["is_repeated"]) == ("nan", [0.05], True)
    assert report["gradient_norms"]["hidden.weight"] == "nan"
    with np.load(os.path.join(path, "batch.npz"), allow_pickle=False) as batch:
        samples = Samples(12 * STEPS, 0)
        assert np.isnan(batch["column_000"][3, 0, 1, 1])
        np.testing.assert_array_equal(batch["column_001"], samples.labels[60:72])


def test_what_the_loss_hides_is_found(tmp_path, mode):
    """A ReLU makes 0 of NaN on a CPU: the weights before it are lost for good, and the loss stays finite."""
    recorder = Recorder()
    make_model().train(2, dataset(6), callbacks=[recorder, LossMonitor()])
    assert np.isfinite(recorder.losses).all()
    model, guard, peek = make_model(), NonFiniteGuard(str(tmp_path)), Peek()
    with pytest.raises(
        ValueError, match="a parameter is not finite after epoch 1, step 6; .* output .* that of 'hidden'"
    ):
        model.train(2, dataset(6), callbacks=[peek, guard])
    assert_same_weights(weights(model.train_network), peek.after[5])
    seen = replay(guard.dumps_[0], make_model())
    assert (seen.loss, seen.first_layer) == (report_of(guard.dumps_[0])["loss"], "hidden")
    assert seen.first_parameter == "hidden.weight"


class Square(nn.Cell):
    def construct(self, x):
        return ops.square(x) * 1e-3


def test_a_layer_that_overflows_is_named(tmp_path, mode):
    """Not the first layer that sees a pixel that is too large, but the first that can make nothing of it."""
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 5), Square(), nn.Dense(5, 3))
    guard = NonFiniteGuard(str(tmp_path))
    with pytest.raises(ValueError, match=r"that of '2' \(Square\), whose input is finite;.* add a small number"):
        with_loss(loss_fn(), network).train(1, dataset(3, 1e30), callbacks=[guard])
    assert report_of(guard.dumps_[0])["step"] == 3


def head():
    return nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3))


class Block(nn.Cell):
    """A head, whose logits an operator without a cell takes the logarithm of, and a cell after it."""

    def __init__(self, before=None, after=None):
        super().__init__()
        self.before, self.after = before or head(), after

    def construct(self, x):
        x = ops.log(self.before(x))
        return x if self.after is None else self.after(x)


class Around(nn.Cell):
    """Cells in a list, which are called one after the other."""

    def __init__(self, *cells):
        super().__init__()
        self.parts = nn.CellList(list(cells))

    def construct(self, x):
        for cell in self.parts:
            x = cell(x)
        return x


class Pair(nn.Cell):
    """Two inputs and two outputs, of which the second is at fault."""

    def construct(self, x, y):
        return x, ops.sqrt(y)


class Paired(nn.Cell):
    def __init__(self):
        super().__init__()
        self.head, self.pair = head(), Pair()

    def construct(self, x):
        logits = self.head(x)
        return ops.add(*self.pair(logits, logits - 100))


class LogOfLogits(nn.Cell):
    """A loss of a user's, whose logarithm has no value where a logit is negative."""

    def __init__(self):
        super().__init__()
        self.loss = loss_fn()

    def construct(self, logits, labels):
        return self.loss(ops.log(logits), labels)


MENDED = "add a small number before the logarithm, root, power or division there, "


@pytest.mark.parametrize(
    ("network", "loss", "layer", "made_in", "told"),
    [
        # An operator, after every cell, between two, and in a cell around that has no construct of its own called.
        (Block, None, "Block", "Block", "'Block', whose input is finite, and so are the"),
        (
            lambda: Block(after=nn.Identity()),
            None,
            "after",
            "Block",
            "'after' (Identity), whose input was already not finite: an operator in the",
        ),
        (
            lambda: Around(nn.Flatten(), Block(nn.Dense(16, 3), nn.Tanh())),
            None,
            "parts.1.after",
            "parts.1",
            "of 'parts.1'",
        ),
        (lambda: nn.SequentialCell(Block(), nn.Tanh()), None, "0", "0", "'0' (Block), whose input is finite, and so"),
        (lambda: Around(Block(after=nn.Dense(3, 3))), None, "parts.0.after", "parts.0", "(Dense), whose input was"),
        # A cell without cells, of several inputs and outputs.
        (Paired, None, "pair", "pair", "'pair' (Pair), whose inputs are finite; "),
        # The loss.
        (head, LogOfLogits, "LogOfLogits", "LogOfLogits", "that of the loss 'LogOfLogits', whose inputs are finite; "),
    ],
)
def test_the_cell_that_made_it_is_named(tmp_path, network, loss, layer, made_in, told):
    """Also where an operator that no cell holds made it, inside whatever cell calls it."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    model = with_loss(loss_fn() if loss is None else loss(), network())
    guard = NonFiniteGuard(str(tmp_path), on_nonfinite="stop")
    lines = []
    guard.log = lines.append
    model.train(1, dataset(), callbacks=[guard])
    assert told in lines[0]
    assert MENDED in lines[0]
    assert "column" not in lines[0]
    report = report_of(guard.dumps_[0])
    assert (report["step"], report["first_layer"], report["made_in"]) == (1, layer, made_in)
    seen = replay(guard.dumps_[0], with_loss(loss_fn() if loss is None else loss(), network()))
    assert (seen.first_layer, seen.made_in) == (layer, made_in)


def test_a_rate_that_explodes_is_named(tmp_path, mode):
    """The step that makes the weights infinite, whose own loss is finite, is named; not the next, whose loss is not."""
    rates = [0.001] * 5 + [3e38] * 3
    model, guard, peek = with_loss(Scaled()), NonFiniteGuard(str(tmp_path), every_n_steps=7), Peek()
    with pytest.raises(
        ValueError,
        match="a parameter is not finite after epoch 1, step 6;.*all cells and the loss are finite; lower the",
    ):
        model.train(1, dataset(), callbacks=[guard, DynamicLR(rates), peek])
    report = report_of(guard.dumps_[0])
    assert report["learning_rates"] == [3e38]
    assert math.isfinite(report["loss"])
    before = {**peek.after[5], "learning_rate": np.float32(3e38)}  # set before the step
    assert_same_weights(kept(guard.dumps_[0]), before)
    model = with_loss(Scaled(), learning_rate=0.001)
    seen = replay(guard.dumps_[0], model)
    assert (seen.loss, seen.first_layer) == (report["loss"], None)
    assert seen.first_parameter == report["first_parameter"]


class Plain(nn.Cell):
    """Without biases: nothing in, nothing out."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.head = nn.Dense(16, 3, has_bias=False)

    def construct(self, x):
        return self.head(self.flatten(x))


def test_a_gradient_that_is_not_finite_is_named(tmp_path, mode):
    """While the loss and every layer are finite."""
    guard = NonFiniteGuard(str(tmp_path))
    with pytest.raises(ValueError, match="a parameter is not finite after epoch 1, step 5; .* that of 'head.weight'"):
        with_loss(Root(), Plain()).train(1, dataset(5, 0, whole=True), callbacks=[guard])
    report = report_of(guard.dumps_[0])
    assert report["loss"] == pytest.approx(math.log(3))
    assert report["gradient_norms"] == {"head.weight": "nan"}
    seen = replay(guard.dumps_[0], with_loss(Root(), Plain()))
    assert seen.first_parameter == "head.weight"
    assert math.isnan(seen.gradient_norms["head.weight"])


def test_the_step_comes_back_in_a_fresh_model(tmp_path, mode):
    """With its loss, its gradients, its layer; and the model then holds the weights before it, to look around."""
    guard = NonFiniteGuard(str(tmp_path), on_nonfinite="stop")
    first = open_model()
    first.train(1, dataset(6), callbacks=[guard])
    expected = weights(first.train_network)
    model = open_model(0.01)
    flags = [cell.training for _, cell in model.train_network.cells_and_names()]
    for _ in range(2):
        seen = replay(guard.dumps_[0], model)
        assert math.isnan(seen.loss)
        assert (seen.epoch, seen.step) == (1, 6)
        assert (seen.first_layer, seen.first_parameter) == ("hidden", "hidden.weight")
        assert list(seen.gradient_norms) == [one.name for one in model.predict_network.trainable_params()]
        assert_same_weights(weights(model.train_network), expected)
        assert [cell.training for _, cell in model.train_network.cells_and_names()] == flags
    recorder = Recorder()
    model.train(1, dataset(), callbacks=[recorder])
    assert np.isfinite(recorder.losses).all()
    assert recorder.rates == pytest.approx([0.05] * STEPS)


def test_a_finite_step_within_a_dump_is_repeated_to_the_last_bit(tmp_path, mode):
    """The repeated steps before the one that is named had the losses of the run."""
    model, recorder = open_model(), Recorder()
    guard = NonFiniteGuard(str(tmp_path), on_nonfinite="stop", verbose=0)
    model.train(1, dataset(6), callbacks=[guard, LRWarmup(1), recorder])
    assert report_of(guard.dumps_[0])["is_repeated"]
    assert report_of(guard.dumps_[0])["learning_rates"] == pytest.approx([recorder.rates[5]])


@pytest.mark.parametrize("how", ["train", "fit"])
def test_a_run_that_stays_finite_is_the_same_with_it(tmp_path, mode, how):
    """Losses, weights, moments and statistics, to the last bit; and nothing is written."""
    ends = []
    for interval in (None, 1, 3):
        model, recorder = open_model(), Recorder()
        callbacks = [NonFiniteGuard(str(tmp_path), every_n_steps=interval), recorder] if interval else [recorder]
        if how == "train":
            model.train(2, dataset(), callbacks=callbacks)
        else:
            model.fit(2, dataset(), valid_dataset(24), callbacks=callbacks)
        ends.append((recorder.losses, weights(model.train_network)))
    for losses, after in ends[1:]:
        assert losses == ends[0][0]
        assert_same_weights(after, ends[0][1])
    assert os.listdir(tmp_path) == []


def test_stopping_leaves_the_last_finite_weights(tmp_path, capsys, mode):
    """The run ends without an error, in a line; what is evaluated after the epoch is finite."""
    model, peek = open_model(), Peek()
    guard = NonFiniteGuard(str(tmp_path), every_n_steps=4, on_nonfinite="stop")
    model.fit(3, dataset(6), valid_dataset(24), callbacks=[peek, guard])
    assert max(peek.after) == STEPS
    assert_same_weights(weights(model.train_network), peek.after[5])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("NonFiniteGuard: the loss is nan in epoch 1, step 6; ")
    quiet = NonFiniteGuard(str(tmp_path), on_nonfinite="stop", verbose=0)
    model.train(3, dataset(6), callbacks=[quiet])
    assert capsys.readouterr().out == ""
    assert quiet.dumps_ == [str(tmp_path / "epoch-001-step-00006-2")]


@pytest.mark.parametrize(
    ("first", "interval"),
    [
        ("guard", 1),
        ("monitor", 3),
        ("guard", 50),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("monitor", 1), ("guard", 3), ("monitor", 50))),
    ],
)
def test_beside_a_loss_monitor_that_raises(tmp_path, capsys, mode, first, interval):
    """In any order of the list: the step is named and kept."""
    guard, peek = NonFiniteGuard(str(tmp_path), every_n_steps=interval), Peek()
    both = [guard, LossMonitor(per_print_times=1)]
    model = open_model()
    looks_in_step_6 = interval < 50
    raised = "NonFiniteGuard: the loss is nan" if looks_in_step_6 else "LossMonitor: the loss is not finite"
    with pytest.raises(ValueError, match=f"{raised} in epoch 1, step 6"):
        model.train(1, dataset(6), callbacks=[peek, *both[:: 1 if first == "guard" else -1]])
    assert guard.dumps_ == [str(tmp_path / "epoch-001-step-00006")]
    assert_same_weights(kept(guard.dumps_[0]), peek.after[5])
    assert_same_weights(weights(model.train_network), peek.after[5])
    assert ("NonFiniteGuard: the loss is nan in epoch 1, step 6" in capsys.readouterr().out) != looks_in_step_6


def test_beside_a_training_state_the_run_goes_on_from_before(tmp_path):
    """The state is that of the last epoch that was finite; with the data mended, the run goes on from it."""

    def run(data):
        model = open_model()
        state = TrainingState(str(tmp_path / "state"))
        initial_epoch = state.resume(model, data)
        guard = NonFiniteGuard(str(tmp_path / "dumps"))
        rates = DynamicLR([0.05] * (STEPS + 3) + [3e38 if data is not mended else 0.05] * (STEPS * 2 - 3))
        model.train(3, data, callbacks=[guard, state, rates], initial_epoch=initial_epoch)
        return initial_epoch

    mended = dataset()
    with pytest.raises(ValueError, match="in epoch 2, step [45]|after epoch 2, step 4"):
        run(dataset())
    assert run(mended) == 1


@pytest.mark.skipif(not hasattr(ds.Dataset, "set_init_step"), reason="no state within an epoch on this MindSpore")
@pytest.mark.parametrize("order", [1, -1])
def test_no_state_is_kept_unseen(tmp_path, mode, order):
    """However rarely the guard looks: what a later run goes on from is finite."""
    model, peek = open_model(), Peek()
    callbacks = [
        NonFiniteGuard(str(tmp_path / "dumps")),
        TrainingState(str(tmp_path / "state"), every_n_steps=2, keep=1),
    ]
    with pytest.raises(ValueError, match="NonFiniteGuard: the loss is nan in epoch 1, step 6"):
        model.train(2, dataset(6), callbacks=[peek, *callbacks[::order]])
    assert max(peek.after) == 6
    model, data = open_model(), dataset()
    state, recorder = TrainingState(str(tmp_path / "state")), Recorder()
    initial_epoch = state.resume(model, data)
    assert_same_weights(weights(model.train_network), peek.after[4])
    callbacks = [NonFiniteGuard(str(tmp_path / "more")), state, recorder]
    model.train(2, data, callbacks=callbacks, initial_epoch=initial_epoch)
    assert len(recorder.losses) == 12
    alone = Recorder()
    open_model().train(2, dataset(), callbacks=[alone])
    assert recorder.losses == alone.losses[4:]


class Dropping(Open):
    """Draws random numbers in each step."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(p=0.5)

    def construct(self, x):
        return self.head(self.drop(self.flatten(self.norm(self.hidden(x)))))


def test_what_cannot_be_repeated_is_said(tmp_path, mode):
    """With Dropout the step is the one whose loss was not finite, and the weights are finite ones before it."""
    model, guard = make_model(network=Dropping()), NonFiniteGuard(str(tmp_path))
    with pytest.raises(ValueError, match="the loss is nan in epoch 1, step 6;.*could not be repeated exactly, as with"):
        model.train(1, dataset(6), callbacks=[guard])
    report = report_of(guard.dumps_[0])
    assert not report["is_repeated"]
    assert 1 <= report["weights_before_step"] < 6
    assert all(np.isfinite(array).all() for array in kept(guard.dumps_[0]).values())
    assert math.isnan(replay(guard.dumps_[0], make_model(network=Dropping())).loss)


def test_weights_that_another_spoils_are_said_to_be_anothers_work(tmp_path, mode):
    """The steps themselves are finite when repeated."""

    class Spoil(ms.train.Callback):
        def on_train_step_begin(self, run_context):
            args = run_context.original_args()
            if args["cur_step_num"] == 4:
                head = args["network"].head.weight
                ops.assign(head, Tensor(np.full(head.shape, np.nan, np.float32)))

    guard = NonFiniteGuard(str(tmp_path))
    with pytest.raises(ValueError, match="the loss is nan in epoch 1, step 4;.*something else writes the weights"):
        open_model().train(1, dataset(), callbacks=[guard, Spoil()])
    assert all(np.isfinite(array).all() for array in kept(guard.dumps_[0]).values())


class Masked(Plain):
    """Holds a mask of minus infinities, as attention does."""

    def __init__(self):
        super().__init__()
        self.mask = ms.Parameter(Tensor(np.array([0, 0, -np.inf], np.float32)), requires_grad=False, name="mask")

    def construct(self, x):
        return self.head(self.flatten(x)) + 0 * ops.exp(self.mask)


def test_what_is_infinite_on_purpose_is_let_be(tmp_path, mode):
    """What was not finite before the first step is no finding; weights that were not are pointed to."""
    model = with_loss(loss_fn(), Masked())
    model.train(1, dataset(), callbacks=[NonFiniteGuard(str(tmp_path), every_n_steps=1)])
    model = open_model()
    model.predict_network.head.weight.set_data(Tensor(np.full((3, 12), np.nan, np.float32)))
    with pytest.raises(ValueError, match="step 1;.*'head.weight' was already not finite at the beginning of the run"):
        model.train(1, dataset(), callbacks=[NonFiniteGuard(str(tmp_path))])


class Dropped(nn.Cell):
    """A train network whose step loss scaling has dropped: loss, overflow and scale."""

    def __init__(self):
        super().__init__()
        self.network = Plain()

    def construct(self, images, labels):
        return ops.reduce_sum(self.network(images)) * np.inf, Tensor(True), Tensor(1.0)


def test_a_step_that_loss_scaling_drops_is_no_finding(tmp_path):
    """Nothing was learnt from its loss."""
    guard = NonFiniteGuard(str(tmp_path), every_n_steps=1)
    ms.Model(Dropped()).train(1, dataset(), callbacks=[guard])
    assert guard.dumps_ == []


@pytest.mark.parametrize("kind", ["a train network", "a network with its loss inside"])
def test_models_of_other_kinds(tmp_path, mode, kind):
    """A Model of a whole train network, and one without a loss function."""

    def make():
        network = open_model().predict_network
        inner = nn.WithLossCell(network, loss_fn())
        optimizer = nn.Momentum(network.trainable_params(), 0.05, 0.9)
        if kind == "a train network":
            return ms.Model(nn.TrainOneStepCell(inner, optimizer))
        return ms.Model(inner, optimizer=optimizer)

    model, guard, peek = make(), NonFiniteGuard(str(tmp_path)), Peek()
    with pytest.raises(
        ValueError, match="the loss is nan in epoch 1, step 6; .* that of .hidden. .*; the first gradient"
    ):
        model.train(1, dataset(6), callbacks=[guard, peek])
    assert_same_weights(kept(guard.dumps_[0]), peek.after[5])
    fresh = make()
    seen = replay(guard.dumps_[0], fresh)
    assert math.isnan(seen.loss)
    assert seen.first_layer == report_of(guard.dumps_[0])["first_layer"]
    assert_same_weights(weights(fresh.train_network), peek.after[5])


def test_a_users_exception_is_told_and_not_ours(tmp_path, capsys):
    """Where the steps before it were finite, nothing is written or printed."""

    class Fail(ms.train.Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == 3:
                raise RuntimeError("mine")

    guard, model = NonFiniteGuard(str(tmp_path)), open_model()
    for callbacks in ([guard, Fail()], [Fail(), guard]):
        with pytest.raises(RuntimeError, match="mine"):
            model.train(1, dataset(), callbacks=callbacks)
    assert (os.listdir(tmp_path), capsys.readouterr().out) == ([], "")
    model.train(1, dataset(), callbacks=[guard])


def test_the_newest_dumps_stay(tmp_path):
    """As many as asked for; whatever else is in the folder stays too."""
    (tmp_path / "epoch-001-step-00001").mkdir()
    (tmp_path / "mine").mkdir()
    model, paths = open_model(), []
    guard = NonFiniteGuard(str(tmp_path), keep=2, on_nonfinite="stop", verbose=0)
    for step in (7, 2, 2):
        model.train(1, dataset(step), callbacks=[guard])
        paths += guard.dumps_
    assert sorted(os.listdir(tmp_path)) == [
        "epoch-001-step-00001",
        "epoch-001-step-00002",
        "epoch-001-step-00002-2",
        "mine",
    ]
    assert [os.path.exists(path) for path in paths] == [False, True, True]


def test_a_dump_that_cannot_be_written_leaves_the_finding(tmp_path, monkeypatch):
    """A full disk costs the dump, not the message."""

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    guard = NonFiniteGuard(str(tmp_path))
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(ValueError, match="the loss is nan in epoch 1, step 6;.*could not be written: .*No space left"):
        open_model().train(1, dataset(6), callbacks=[guard])
    assert (guard.dumps_, os.listdir(tmp_path)) == ([], [])


class NoStep(ms.train.Callback):
    def on_train_step_begin(self, run_context):
        raise AssertionError("a step ran")


def test_what_it_cannot_do_is_refused_before_the_first_step(tmp_path, monkeypatch):
    """A folder that cannot be written, sink mode, and several processes."""
    (tmp_path / "file").write_text("")

    def train(path, parallel_mode="stand_alone"):
        model = in_parallel_mode(parallel_mode, open_model())
        model.train(1, dataset(), callbacks=[NonFiniteGuard(str(path)), NoStep()])

    with pytest.raises(OSError, match="NonFiniteGuard: cannot make the folder dump_dir="):
        train(tmp_path / "file" / "dumps")
    with pytest.raises(OSError, match="NonFiniteGuard: cannot write in the folder '/proc'"):
        train("/proc")
    with monkeypatch.context() as patch:
        patch.setattr(progress.Progress, "is_sinking", property(lambda self: True))
        with pytest.raises(ValueError, match="NonFiniteGuard: in sink mode .* dataset_sink_mode=False"):
            train(tmp_path)
    with pytest.raises(ValueError, match="NonFiniteGuard: one process cannot repeat the steps of several"):
        train(tmp_path, "data_parallel")


@pytest.fixture
def dump(tmp_path):
    guard = NonFiniteGuard(str(tmp_path), on_nonfinite="stop", verbose=0)
    open_model().train(1, dataset(6), callbacks=[guard])
    return guard.dumps_[0]


@pytest.mark.parametrize("name", ["weights.ckpt", "batch.npz", "report.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_dump_is_refused(dump, name, damage):
    """Nothing is loaded from it."""
    path = os.path.join(dump, name)
    with open(path, "rb") as file:
        content = bytearray(file.read())
    os.remove(path)
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    if damage != "gone":
        with open(path, "wb") as file:
            file.write(content if damage == "flipped" else content[: len(content) // 2])
    model = open_model()
    before = weights(model.train_network)
    with pytest.raises(ValueError, match="replay: .* is damaged or incomplete: .*; nothing was loaded"):
        replay(dump, model)
    assert_same_weights(weights(model.train_network), before)


def test_a_dump_of_another_network_is_refused(dump):
    """By the names that differ; so is what is no dump, and no model."""
    model = with_loss(loss_fn(), Plain())
    before = weights(model.train_network)
    with pytest.raises(ValueError, match="replay: .* holds the weights of another network: .*has no .*hidden.weight"):
        replay(dump, model)
    assert_same_weights(weights(model.train_network), before)
    with pytest.raises(FileNotFoundError, match="replay: there is no folder '.*nowhere'"):
        replay(dump + "nowhere", model)
    with pytest.raises(TypeError, match="replay: model must be a mindspore.train.Model, but got Plain"):
        replay(dump, model.predict_network)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dump_dir": 1}, "dump_dir must be a string"),
        ({"dump_dir": ""}, "dump_dir must not be empty"),
        ({"every_n_steps": 0}, "every_n_steps must be at least 1, but got 0"),
        ({"every_n_steps": 1.5}, "every_n_steps must be a whole number"),
        ({"keep": 0}, "keep must be at least 1, but got 0"),
        ({"on_nonfinite": "warn"}, "on_nonfinite must be one of 'raise', 'stop', but got 'warn'"),
        ({"verbose": 2}, "verbose must be one of 0, 1, but got 2"),
    ],
)
def test_wrong_arguments_are_refused_where_it_is_made(arguments, message):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match=f"NonFiniteGuard: {message}"):
        NonFiniteGuard(**{"dump_dir": "dumps", **arguments})
