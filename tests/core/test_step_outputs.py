"""What a training step returns: the loss, dropped steps, other numbers; and what no loss can be told in."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype
from mindspore.train import Callback
from training import NetworkWithLoss, OwnTrainCell, Script, dataset, loss_fn, seeded

from ms_callbacks import BestCheckpoint, CSVLogger, EarlyStopping, History, LossMonitor, StepOutputs
from ms_callbacks.core.losses import MOST_DROPPED


def number(value, dtype=mstype.float32):
    return Tensor(value, dtype)


def flagged(*rest):
    """A step whose loss is NaN, with a flag at the second place."""
    return (number(math.nan), *rest)


DROPPED = {
    "loss, bool tensor, scale": flagged(Tensor(True), number(8.0)),
    "loss, bool tensor": flagged(Tensor(True)),
    "five values, as mindformers has them": flagged(Tensor(True), number(8.0), number(0.1), number(2.0)),
    "seven values": flagged(Tensor(True), number(8.0), number(0.1), number(2.0), None, None),
    "loss, Python bool": flagged(True),
    "loss, Python bool, scale": flagged(True, 8.0),
    "loss, NumPy bool": flagged(np.bool_(True)),
    "loss, int32 flag, scale": flagged(number(1, mstype.int32), number(8.0)),
    "loss, int32 flag": flagged(number(1, mstype.int32)),
    "loss, uint8 flag": flagged(number(1, mstype.uint8)),
    "a flag of shape (1,)": flagged(Tensor([True]), number(8.0)),
    "a list": [number(math.nan), Tensor(True), number(8.0)],
    "a dictionary": {"loss": number(math.nan), "overflow": Tensor(True)},
    "a loss of float16": (number(math.nan, mstype.float16), Tensor(True)),
    "losses of each sample": (Tensor(np.full(3, math.nan, np.float32)), Tensor(True)),
}


@pytest.mark.parametrize("kind", DROPPED)
def test_a_dropped_step_does_not_count(kind):
    """Whatever carries the flag: the mean is that of the other steps, and nothing stops."""
    good = DROPPED[kind]
    if isinstance(good, dict):
        good = {"loss": number(2.0), "overflow": Tensor(False)}
    else:
        flag = good[1]
        good = type(good)([number(2.0), Tensor(flag.asnumpy() * 0) if isinstance(flag, Tensor) else False, *good[2:]])
    history, stopping = History(), EarlyStopping("loss", verbose=0)
    Script().run(
        [history, stopping, LossMonitor()], [None] * 2, losses=[[DROPPED[kind], good], [good, DROPPED[kind]]], steps=2
    )
    assert history.history["loss"] == [2.0, 2.0]
    assert stopping.stop_reason_ == ""


NOT_DROPPED = {
    "a count": flagged(number(37, mstype.int32)),
    "hits": flagged(Tensor([True, True])),
    "another loss": flagged(number(1.0)),
    "a flag that says no": flagged(Tensor(False), number(8.0)),
    "an integer that says no": flagged(number(0, mstype.int32), number(8.0)),
    "a count in a dictionary": {"loss": number(math.nan), "samples": number(1, mstype.int32)},
}


@pytest.mark.parametrize("kind", NOT_DROPPED)
def test_a_loss_that_is_not_finite_is_never_excused_by_something_else(kind):
    """A count or another loss beside it is no flag."""
    with pytest.raises(ValueError, match="the loss is not finite in epoch 1, step 1"):
        Script().run([LossMonitor()], [None], losses=[[NOT_DROPPED[kind]]])


def test_a_step_with_a_finite_loss_and_a_count_of_one_counts():
    """Only a loss that is not finite makes a flag of an integer that may be a count."""
    history = History()
    Script().run(
        [history],
        [None],
        losses=[[(number(2.0), number(1, mstype.int32)), (number(4.0), number(9, mstype.int32))]],
        steps=2,
    )
    assert history.history["loss"] == [3.0]


def test_what_cannot_be_told_can_be_said():
    """A flag that is 1 where the loss is finite, at another place than the second."""
    outputs = [
        [(number(2.0), number(5.0), number(0, mstype.int32)), (number(9.0), number(5.0), number(1, mstype.int32))]
    ]
    history = History()
    Script().run([StepOutputs(dropped=2), history], [None], losses=outputs, steps=2)
    assert history.history["loss"] == [2.0]


LOSSES = {
    "a dictionary": {"loss": number(2.0), "logits": Tensor(np.ones((2, 3), np.float32))},
    "a dictionary with one entry": {"total": number(2.0)},
    "a dictionary with one that ends in loss": {"train_loss": number(2.0), "acc": number(1.0)},
    "a list": [number(2.0), number(9.0)],
    "several losses together": ((number(2.0), number(9.0)), Tensor(False), number(8.0)),
    "a loss of each sample": Tensor([1.0, 3.0], mstype.float32),
    "loss and logits": (number(2.0), Tensor(np.ones((2, 3), np.float32))),
    "a NumPy number": np.float32(2.0),
    "float64": number(2.0, mstype.float64),
    "shape (1, 1)": Tensor([[2.0]], mstype.float32),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_the_loss_is_found(kind, mode):
    """In whatever a step returns."""
    history = History()
    Script().run([history], [None], losses=[[LOSSES[kind]]])
    assert history.history["loss"] == [2.0]


NO_LOSS = {
    "None": (None, "a NoneType"),
    "text": ("2.0", "a str"),
    "an empty tuple": ((), r"a tuple of \(\)"),
    "an empty array": (Tensor(np.zeros((0,), np.float32)), r"a Tensor of Float32 and shape \(0,\)"),
    "a dictionary of two": ({"one": number(1.0), "two": number(2.0)}, "a dictionary of 'one', 'two'"),
    "two losses by name": ({"a_loss": number(1.0), "b_loss": number(2.0)}, "a dictionary of 'a_loss', 'b_loss'"),
    "a tuple of nothing": ((None, number(1.0)), "a tuple of"),
    "complex numbers": (Tensor(np.ones((2,), np.complex64)), "a Tensor of Complex64"),
}


@pytest.mark.parametrize("kind", NO_LOSS)
def test_what_no_loss_can_be_told_in_is_an_error_at_the_first_step(kind):
    """It says what came, and how to say where the loss is."""
    output, told = NO_LOSS[kind]
    script = Script()
    with pytest.raises(TypeError, match=f"the training step returned {told}.*StepOutputs\\(loss=...\\)"):
        script.run([History()], [None, None], losses=[[output, output]] * 2, steps=2)


def test_other_numbers_are_followed_by_name(tmp_path):
    """Monitored, logged, and part of a file's name."""
    outputs = [
        [(number(1.0), number(4.0), number(0.5)), (number(1.0), number(2.0), number(0.5))],
        [(number(1.0), number(9.0), number(0.7)), (number(1.0), number(9.0), number(0.7))],
    ]
    history = History()
    best = BestCheckpoint(str(tmp_path / "{epoch}-{kl:.1f}.ckpt"), monitor="kl", mode="min", verbose=0)
    stopping = EarlyStopping("hits", mode="max", patience=5, verbose=0)
    logger = CSVLogger(str(tmp_path / "log.csv"))
    callbacks = [history, best, stopping, logger, StepOutputs(others={"kl": 1, "hits": 2})]
    Script().run(callbacks, [None, None], losses=outputs, steps=2)
    assert history.history["kl"] == [3.0, 9.0]
    assert history.history["hits"] == pytest.approx([0.5, 0.7])
    assert best.best_path_ == str(tmp_path / "1-3.0.ckpt")
    assert stopping.best_epoch_ == 2
    assert (tmp_path / "log.csv").read_text().startswith("epoch,loss,kl,hits,")


def test_a_dropped_step_does_not_count_in_the_other_means():
    """As it does not in the loss's."""
    outputs = [
        [
            {"loss": number(1.0), "kl": number(4.0), "overflow": True},
            {"loss": number(3.0), "kl": number(2.0), "overflow": False},
        ]
    ]
    history = History()
    Script().run([StepOutputs(others={"kl": "kl"}), history], [None], losses=outputs, steps=2)
    assert (history.history["loss"], history.history["kl"]) == ([3.0], [2.0])


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"loss": 1.5}, TypeError, "loss must be the index or the key"),
        ({"loss": True}, TypeError, "loss must be the index or the key"),
        ({"dropped": [1]}, TypeError, "dropped must be the index"),
        ({"others": ["kl"]}, TypeError, "others must be a dictionary of names"),
        ({"others": {"kl": None}}, TypeError, r"others\['kl'\] must be an index or a key"),
        ({"others": {1: 1}}, TypeError, "names in others must be strings"),
        ({"others": {"loss": 1}}, ValueError, "'loss' in others is a value of every epoch already"),
        ({"others": {"seconds": 1}}, ValueError, "'seconds' in others is a value of every epoch already"),
    ],
)
def test_nonsense_is_refused(arguments, error, match):
    """When it is made."""
    with pytest.raises(error, match=f"StepOutputs: .*{match}|StepOutputs: {match}"):
        StepOutputs(**arguments)


@pytest.mark.parametrize(
    ("arguments", "output", "match"),
    [
        ({"loss": 3}, (number(1.0), number(2.0)), "which has no 3 for 'loss'"),
        ({"loss": "total"}, {"loss": number(1.0)}, "which has no 'total' for 'loss'"),
        ({"dropped": 2}, (number(1.0), number(2.0)), "which has no 2 for 'dropped'"),
        ({"others": {"kl": 5}}, (number(1.0), number(2.0)), "which has no 5 for 'kl'"),
        ({"others": {"kl": 1}}, (number(1.0), "x"), "a str for 'kl', which is not a number"),
        ({"others": {"kl": 1}}, number(1.0), "StepOutputs expects several values"),
    ],
)
def test_an_output_without_what_was_named_is_an_error_at_the_first_step(arguments, output, match):
    """By name."""
    with pytest.raises(TypeError, match=match):
        Script().run([StepOutputs(**arguments), History()], [None], losses=[[output]])


def test_overflow_without_end_is_a_run_that_is_not_finite():
    """After so many dropped steps in a row that no loss scale is to blame, over the epochs."""
    outputs = [[(number(math.nan), Tensor(True), number(1.0))] * 10] * 4
    history, stopping, script = History(), EarlyStopping("loss", verbose=0), Script()
    script.run([history, stopping], [None] * 4, losses=outputs, steps=10)
    assert history.history["loss"][:2] == [None, None]
    assert math.isnan(history.history["loss"][2])
    assert stopping.stopped_epoch_ == 3
    with pytest.raises(
        ValueError, match="25 steps in a row were dropped because of overflow, the last in epoch 3, step 5"
    ):
        Script().run([LossMonitor(per_print_times=0)], [None] * 4, losses=outputs, steps=10)


def test_one_good_step_ends_a_row_of_dropped_ones():
    """A loss scale that comes down in its first steps is no trouble."""
    bad, good = (number(math.nan), Tensor(True), number(1.0)), (number(1.0), Tensor(False), number(1.0))
    epoch = [bad] * (MOST_DROPPED - 1) + [good]
    history = History()
    Script().run([history, LossMonitor(per_print_times=0)], [None] * 2, losses=[epoch] * 2, steps=MOST_DROPPED)
    assert history.history["loss"] == [1.0, 1.0]


@pytest.mark.parametrize("mode", ["graph", "pynative"], indirect=True)
def test_a_real_network_with_two_losses(mode):
    """Through Model.train, in both modes."""

    class TwoLosses(OwnTrainCell):
        def construct(self, x, label):
            loss = self.network(x, label)
            gradients = self.grad(self.network, self.weights)(x, label)
            loss = ops.depend(loss, self.optimizer(gradients))
            return loss, loss * 2

    network = NetworkWithLoss(seeded(), loss_fn())
    model = ms.Model(TwoLosses(network, nn.Adam(network.trainable_params(), 0.05)))
    seen = []

    class Look(Callback):
        def on_train_step_end(self, run_context):
            seen.append([float(one.asnumpy()) for one in run_context.original_args()["net_outputs"]])

    history = History()
    model.train(2, dataset(), callbacks=[StepOutputs(others={"twice": 1}), history, Look()])
    by_epoch = np.array(seen).reshape(2, 4, 2).mean(axis=1)
    assert history.history["loss"] == pytest.approx(by_epoch[:, 0])
    assert history.history["twice"] == pytest.approx(by_epoch[:, 1])
