"""A run as callbacks see it: few names, read-only, absolute numbers, and what a callback can have done."""

from __future__ import annotations

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn
from training import Network, OwnTrainCell, Recorder, Samples, dataset, make_model

from ms_callbacks.core.callback import TrainCallback
from ms_callbacks.core.forward_hooks import settle_numpy
from ms_callbacks.core.run import Run, RunActions
from ms_callbacks.testing import ScriptedRun

PUBLIC = [
    "background",
    "batch",
    "before_checkpoint",
    "callbacks",
    "copies",
    "epoch",
    "epochs",
    "evaluate",
    "is_stopping",
    "losses",
    "metrics",
    "network",
    "notes",
    "outcome",
    "outputs",
    "parts",
    "progress",
    "replace_batch",
    "request_stop",
    "step",
    "step_hooks",
    "step_in_epoch",
    "steps_per_epoch",
    "updates",
    "weights",
]


class Looks(TrainCallback):
    """Keeps what it sees at each moment."""

    def __init__(self, *names):
        super().__init__()
        self.names, self.seen = names, []

    def see(self, run, summary=None):
        self.seen.append(tuple(getattr(run, name) for name in self.names))

    def before_train(self, run):
        run.step_hooks.on_step_end(self, self.see)


class Keeps(TrainCallback):
    """Keeps the run of an epoch's end."""

    def after_epoch(self, run, summary):
        self.kept = run


def test_its_public_names_are_few():
    """What is in more detail stands in `progress`, `parts`, `metrics` and the others."""
    keeps = Keeps()
    ScriptedRun([None]).play([keeps])
    assert [name for name in dir(keeps.kept) if not name.startswith("_")] == PUBLIC
    assert len(PUBLIC) <= 25
    documented = Run.__doc__
    for name in (
        "background",
        "callbacks",
        "copies",
        "losses",
        "metrics",
        "notes",
        "outcome",
        "parts",
        "progress",
        "step_hooks",
    ):
        assert f"        {name} (" in documented, name


def test_where_it_stands_is_read_only():
    """A callback changes what it asks for by a method, and nothing else."""
    keeps = Keeps()
    ScriptedRun([None]).play([keeps])
    places = {"epoch", "epochs", "step", "step_in_epoch", "steps_per_epoch", "network", "weights", "is_stopping"}
    for name in sorted(places | {"batch", "outputs"}):
        with pytest.raises(AttributeError):
            setattr(keeps.kept, name, 1)


@pytest.mark.parametrize("initial_epoch", [0, 3])
def test_epochs_and_steps_are_absolute(initial_epoch):
    """Whatever MindSpore counts from in this call."""
    looks = Looks("epoch", "epochs", "step", "step_in_epoch", "steps_per_epoch")
    ScriptedRun([None] * 2, steps_per_epoch=2, initial_epoch=initial_epoch).play([looks])
    last, before = initial_epoch + 2, 2 * initial_epoch
    assert looks.seen == [
        (initial_epoch + 1, last, before + 1, 1, 2),
        (initial_epoch + 1, last, before + 2, 2, 2),
        (initial_epoch + 2, last, before + 3, 1, 2),
        (initial_epoch + 2, last, before + 4, 2, 2),
    ]


def test_a_step_shows_its_batch_and_its_output():
    """As MindSpore has them; where it goes to the device unseen there is no batch."""
    looks, model = Looks("batch", "outputs"), make_model()
    model.train(1, dataset(12), callbacks=[looks], dataset_sink_mode=False)
    ((images, labels), output) = looks.seen[0]
    assert (images.shape, labels.shape) == ((12, 1, 4, 4), (12,))
    assert np.isfinite(float(output.asnumpy()))
    unseen = Looks("batch", "outputs")
    ScriptedRun([None], losses=[[2.5]]).play([unseen])
    assert unseen.seen == [(None, 2.5)]


class Doubles(TrainCallback):
    """Gives each step twice its inputs, or what it is told to."""

    def __init__(self, columns=lambda batch: (batch[0] * 2.0, batch[1])):
        super().__init__()
        self.columns, self.plain = columns, []

    def before_train(self, run):
        run.step_hooks.on_step_begin(self, self.replace)

    def replace(self, run):
        self.plain.append(run.batch)
        run.replace_batch(*self.columns(run.batch))


def test_a_step_trains_on_the_batch_that_replaces_its_own(mode):
    """The other callbacks see it; the dataset's own arrays stay."""
    settle_numpy()
    samples, looks, recorders = Samples(24, 0), Looks("batch"), [Recorder(), Recorder()]
    arrays = [
        (samples.images[at : at + 12] * scale, samples.labels[at : at + 12]) for scale in (1, 2) for at in (0, 12)
    ]
    pairs, doubled = arrays[:2], arrays[2:]
    for each, callbacks, recorder in ((pairs, [looks, Doubles()], recorders[0]), (doubled, [], recorders[1])):
        data = ds.GeneratorDataset(each, ["images", "labels"], shuffle=False)
        make_model().train(2, data, callbacks=[recorder, *callbacks])
    assert recorders[0].losses == recorders[1].losses
    for step, (batch,) in enumerate(looks.seen[:2]):
        np.testing.assert_array_equal(batch[0].asnumpy(), doubled[step][0])
        np.testing.assert_array_equal(pairs[step][0], samples.images[12 * step :][:12])


def test_a_batch_that_cannot_be_replaced_is_an_error():
    """One with other columns, and one that goes to the device unseen."""
    with pytest.raises(RuntimeError, match="replace_batch got 1 columns, but the batch of this step has 2 columns"):
        make_model().train(1, dataset(12), callbacks=[Doubles(lambda batch: batch[:1])])
    with pytest.raises(RuntimeError, match="replace_batch got 2 columns, but .* cannot be replaced"):
        ScriptedRun([None]).play([Doubles(lambda batch: (0, 0))])


def test_network_and_weights_are_those_that_are_trained():
    """Inside a training cell too; the weights are its own parameters, by their names in a file."""
    network = Network()
    cell = OwnTrainCell(network, nn.SGD(network.trainable_params(), 0.1))
    keeps = Keeps()
    ScriptedRun([None], network=cell).play([keeps])
    run = keeps.kept
    assert run.network is network
    assert run.weights["hidden.weight"] is network.hidden.weight
    assert all(any(one is each for each in network.get_parameters()) for one in run.weights.values())


def test_callbacks_are_all_of_the_list():
    """MindSpore's own and the user's, in their order; a change of that list changes no run."""
    first, last = Keeps(), Keeps()
    listed = [first, Looks(), last]
    ScriptedRun([None]).play(listed)
    assert first.kept is last.kept
    assert first.kept.callbacks == listed


def test_what_it_is_asked_for_is_done_for_all_callbacks():
    """By the actions that it was given, with what they were asked."""
    done = []
    actions = RunActions(
        lambda: done.append("evaluate"),
        lambda: done.append("before_checkpoint"),
        lambda by, interrupt, error: done.append((by, interrupt, error)) or True,
    )
    keeps = Keeps()
    ScriptedRun([None]).play([keeps])

    class Context:
        def original_args(self):
            network = nn.Dense(1, 1)
            args = {"list_callback": [], "train_network": network, "network": network, "train_dataset": None}
            return {**args, "cur_step_num": 0}

        def get_stop_requested(self):
            return len(done) > 2

    run = Run(Context(), [], None, actions)
    assert not run.is_stopping
    run.evaluate()
    run.before_checkpoint()
    assert run.request_stop("Me")
    assert run.request_stop(interrupt=True, error=(error := ValueError()))
    assert done == ["evaluate", "before_checkpoint", ("Me", False, None), ("a callback", True, error)]
    assert run.is_stopping
