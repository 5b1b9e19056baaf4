"""What authors of callbacks test with: a run by a script, and a contract that finds each way to break it."""

from __future__ import annotations

import os

import mindspore as ms
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train import Callback

from ms_callbacks import EarlyStopping, History, LRStepDecay, TrainCallback, testing
from ms_callbacks.testing import ScriptedRun, check_callback

# The run by a script


def test_callbacks_see_what_is_written():
    """Losses, values, the rate and the places, as of Model.train."""
    history = History()
    run = ScriptedRun([{"acc": 0.5}, None], losses=[[1.0, 3.0], [2.0, 4.0]], steps_per_epoch=2, learning_rate=0.5)
    run.play([history])
    assert history.epoch == [1, 2]
    assert history.history["loss"] == [2.0, 3.0]
    assert history.history["acc"] == [0.5, None]
    assert run.learning_rates == history.history["learning_rate"] == [0.5, 0.5]
    assert run.stopped_epoch == 0


def test_a_stop_ends_the_run():
    """In how many epochs is told; a second play begins with nothing."""
    run = ScriptedRun([{"acc": value} for value in (0.5, 0.4, 0.9)])
    stopping = EarlyStopping("acc", patience=1, verbose=0)
    run.play([stopping])
    assert (run.stopped_epoch, stopping.best_, len(run.learning_rates)) == (2, 0.5, 2)
    run.play([])
    assert (run.stopped_epoch, len(run.learning_rates)) == (0, 3)


def test_a_schedule_sets_the_rate_of_its_optimizer():
    """Of that which was given, too."""
    network = nn.Dense(1, 1)
    optimizer = nn.Momentum(network.trainable_params(), 0.8, 0.9)
    for run in (
        ScriptedRun([None] * 3, learning_rate=0.8),
        ScriptedRun([None] * 3, network=network, optimizer=optimizer),
    ):
        run.play([LRStepDecay(1, 0.5)])
        assert run.learning_rates == pytest.approx([0.8, 0.4, 0.2])
    assert float(optimizer.learning_rate.asnumpy()) == pytest.approx(0.2)


def test_evaluations_between_steps_take_place_where_they_are_written():
    """Counted from the first step of epoch 1, also after an earlier run; those of an epoch's end come beside."""
    seen = []

    class Sees(TrainCallback):
        def after_evaluation(self, run, evaluation):
            seen.append((evaluation.step, evaluation.at_epoch_end, evaluation.results["acc"]))

    evaluations = {3: {"acc": 0.3}, 6: {"acc": 0.6}}
    ScriptedRun([{"acc": 1.0}] * 2, steps_per_epoch=4, evaluations=evaluations).play([Sees()])
    assert seen == [(3, False, 0.3), (4, True, 1.0), (6, False, 0.6), (8, True, 1.0)]
    seen.clear()
    ScriptedRun([None], steps_per_epoch=4, evaluations={6: {"acc": 0.6}}, initial_epoch=1).play([Sees()])
    assert seen == [(6, False, 0.6)]


def test_callbacks_are_left_when_one_raises():
    """In the reverse of their order, with the exception, as MindSpore leaves them."""
    left = []

    class Leaves(Callback):
        def __init__(self, name, hook=None):
            super().__init__()
            self.name = name
            if hook:
                setattr(self, hook, self.fail)

        def fail(self, run_context):
            raise KeyError

        def __exit__(self, kind, *error):
            left.append((self.name, kind))

    with pytest.raises(KeyError):
        ScriptedRun([None]).play([Leaves("one"), Leaves("other", "on_train_epoch_end")])
    assert left == [("other", KeyError), ("one", KeyError)]


# The contract


class Sound(TrainCallback):
    """Counts epochs whose mean loss is below a limit.

    Args:
        limit: what a loss must be below.
    """

    needs_losses = True

    def __init__(self, limit=1.0):
        super().__init__()
        self.limit = limit

    def reset_state(self):
        self.count_ = 0

    def after_epoch(self, run, summary):
        self.count_ += summary.loss < self.limit

    def state_dict(self):
        return {"count": self.count_}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.count_ = state["count"]


def test_a_sound_callback_passes(graph):
    """A class whose arguments have defaults makes its own; the mode that was set stays."""
    check_callback(Sound, modes=["PYNATIVE_MODE"])
    assert ms.get_context("mode") == ms.GRAPH_MODE


class Undocumented(Sound):
    """Takes more than it tells.

    Args:
        limit: what a loss must be below.
    """

    def __init__(self, limit=1.0, every=2):
        super().__init__(limit)
        self.every = every


class NotKept(Sound):
    """Keeps an argument under another name.

    Args:
        bound: what a loss must be below.
    """

    def __init__(self, bound=1.0):
        super().__init__(bound)


class Changing(Sound):  # its argument
    def after_epoch(self, run, summary):
        super().after_epoch(run, summary)
        self.limit += 1


class Stateless(Sound):  # Returns nothing of what it learns.
    def state_dict(self):
        return {}


class NotPlain(Sound):  # Has a tensor in its state.
    def state_dict(self):
        return {"count": Tensor(self.count_)}


class Forgetful(Sound):  # Does not take its state back.
    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.count_ = 0


class NeverReset(Sound):  # Goes on counting in a second run.
    count_ = 0

    def reset_state(self):
        pass


class Training(Sound):  # Changes the weights at the end of an epoch.
    def after_epoch(self, run, summary):
        super().after_epoch(run, summary)
        for weight in run.network.trainable_params():
            ops.assign(weight, Tensor(weight.asnumpy() * 1.5))


class ByOrder(Sound):  # Learns where it stands in the list.
    def before_train(self, run):
        self.count_ = [each is self for each in run.callbacks].index(True)

    def after_epoch(self, run, summary):
        pass


class LeftOver(Sound):  # Counts steps, and does not begin at 0 again where an epoch was not finished.
    steps = 0

    def before_train(self, run):
        run.step_hooks.on_step_end(self, self.after_step)

    def after_step(self, run):
        self.steps += 1

    def after_epoch(self, run, summary):
        self.count_ += self.steps
        self.steps = 0


class AlwaysNew(Sound):  # Begins at 0 in a run that continues another, too.
    def before_train(self, run):
        self.reset_state()


class Reading(Sound):  # Reads each loss.
    def before_train(self, run):
        run.step_hooks.on_step_end(self, lambda run: float(run.outputs.asnumpy()))


BEFORE = ("check_arguments", "check_runs", "check_resume", "check_reads")  # the parts of the contract, in order


@pytest.mark.parametrize(
    ("kind", "part", "message"),
    [
        (Undocumented, "check_arguments", "every is missing in the Args of its docstring"),
        (NotKept, "check_arguments", "the argument bound is not kept under its own name"),
        (Changing, "check_arguments", "the argument limit was 9.0 and is 11.0 after a run"),
        (Stateless, "check_arguments", "learns count_, but state_dict does not return it"),
        (NotPlain, "check_arguments", "state_dict does not return plain values"),
        (Forgetful, "check_arguments", "was given the state {'count': 2} but returns {'count': 0}"),
        (NeverReset, "check_runs", "in PYNATIVE_MODE: a second run has learnt"),
        (Training, "check_runs", "in PYNATIVE_MODE: a run with it ends with another"),
        (ByOrder, "check_runs", "in PYNATIVE_MODE: a run with the callbacks in reverse order has learnt"),
        (LeftOver, "check_runs", "in PYNATIVE_MODE: a run after one that an exception has ended has learnt"),
        (AlwaysNew, "check_resume", "a run that was interrupted and resumed has learnt"),
        (Reading, "check_reads", "reads from the device 4 times in 4 steps within an epoch"),
    ],
)
def test_each_break_of_the_contract_is_found(kind, part, message, monkeypatch):
    """And told by the callback's name; the parts before the one that finds it are left out."""
    for each in BEFORE[: BEFORE.index(part)]:
        monkeypatch.setattr(testing._Contract, each, lambda *given: None)
    with pytest.raises(AssertionError) as caught:
        check_callback(lambda: kind(9.0), modes=["PYNATIVE_MODE"])
    assert str(caught.value).startswith(kind.__name__)
    assert message in str(caught.value)


def test_a_factory_is_given_what_it_asks_for():
    """The Model, a dataset to validate on, and a folder of its own."""
    given = []

    def make(model, valid_dataset, folder):
        given.append((type(model).__name__, valid_dataset.get_dataset_size(), os.path.isdir(folder)))
        return Stateless(9.0)

    with pytest.raises(AssertionError, match="Stateless"):
        check_callback(make, modes=["PYNATIVE_MODE"])
    assert given == [("Model", 2, True)]
