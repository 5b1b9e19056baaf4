"""However a project puts network, loss and optimizer into a Model: all of it works, and the same."""

from __future__ import annotations

import inspect
import json

import mindspore as ms
import numpy as np
import pytest
from every_callback import MAKE
from mindspore import Parameter, Tensor, nn, ops
from training import (
    IDIOMS,
    Network,
    NetworkWithLoss,
    assert_same_weights,
    dataset,
    loss_fn,
    make_idiom,
    seeded,
    valid_dataset,
    weights,
)

from ms_callbacks import (
    ActivationMonitor,
    AdversarialTraining,
    BatchAccuracy,
    BestCheckpoint,
    CSVLogger,
    EarlyStopping,
    EMAWeightAveraging,
    ExportBest,
    GradualUnfreezing,
    History,
    LossMonitor,
    LRStepDecay,
    Robustness,
    ShapeInspector,
    StochasticWeightAveraging,
    TrainingState,
    Validate,
    load_int8_weights,
    save_int8_weights,
)
from ms_callbacks.core.mindspore_compat import made_with
from ms_callbacks.core.model_parts import named_parameters, take_apart
from ms_callbacks.core.rate_setter import RateSetter

every_idiom = pytest.mark.parametrize("idiom", IDIOMS)
# What takes a whole run is tried by default with those that have most of their own, in GRAPH mode too.
OWN = ("training cell with loss scale", "own training cell", "two optimizers")


def in_modes(**by_default):
    """Every idiom in both modes; by default the given ones."""
    return pytest.mark.parametrize(
        ("idiom", "mode"),
        [
            pytest.param(idiom, mode, marks=[] if idiom in by_default[mode] else [pytest.mark.slow])
            for mode in ("graph", "pynative")
            for idiom in IDIOMS
        ],
        indirect=["mode"],
    )


with_each_file = pytest.mark.parametrize(
    ("idiom", "save_optimizer"),
    [
        pytest.param(idiom, saves, marks=[] if saves or idiom in OWN else [pytest.mark.slow])
        for idiom in IDIOMS
        for saves in (False, True)
    ],
)
in_both_modes = in_modes(graph=OWN[1:2], pynative=(OWN[0], OWN[2]))
# Those whose loss is within a cell of the user's own, from where it cannot be taken.
OWN_LOSS = ("own with-loss cell", "own training cell")
# They change what is trained, as they should.
THREE = ("LRStepDecay", "LROneCycle", "ReduceLROnPlateau")
STEERING = {kind.__name__ for kind in MAKE if issubclass(kind, RateSetter)} | {"AdversarialTraining"}


def refused(idiom):
    """The callbacks that need a loss function to wrap, or the network without its loss, where there is none."""
    own_loss = {AdversarialTraining, Robustness, ExportBest} if idiom in OWN_LOSS else set()
    one_optimizer = {GradualUnfreezing} if idiom == "two optimizers" else set()
    return own_loss | one_optimizer | ({BatchAccuracy} if idiom != "subclass of Model" else set())


def assert_steps(model, steps):
    """The optimizers' own counts; those of MindSpore 2.0 count only where a rate goes by them."""
    parts = take_apart(*made_with(model))
    if not ms.__version__.startswith("2.0"):
        assert [int(one.global_step.asnumpy().item()) for one in parts.optimizers] == [steps] * len(parts.optimizers)


@every_idiom
def test_the_parts_are_found(idiom):
    """The network alone, or with the loss that is inside a cell of the user's own; the optimizers; what is learnt."""
    model, network = make_idiom(idiom)
    parts = take_apart(*made_with(model))
    if idiom in OWN_LOSS:
        assert isinstance(parts.network, NetworkWithLoss)
        assert parts.loss_fn is None
    else:
        assert parts.network is network
        assert isinstance(parts.loss_fn, nn.SoftmaxCrossEntropyWithLogits)
    assert len(parts.optimizers) == (2 if idiom == "two optimizers" else 1)
    assert {id(one) for one in parts.weights.values()} == {id(one) for one in network.get_parameters()}


def plain_run(idiom):
    model, network = make_idiom(idiom)
    for _ in range(2):
        model.train(1, dataset())
    return weights(network)


@in_both_modes
def test_every_callback_serves_twice_and_those_that_watch_change_nothing(idiom, mode, tmp_path):
    """All together: the weights are those of a run without them, to the last bit."""
    plain = plain_run(idiom)
    model, network = make_idiom(idiom)
    left_out = refused(idiom) | {BatchAccuracy, EMAWeightAveraging, StochasticWeightAveraging}
    kinds = [kind for kind in MAKE if kind.__name__ not in STEERING and kind not in left_out]
    callbacks = [MAKE[kind](model, tmp_path) for kind in kinds]
    for each in callbacks:
        if isinstance(each, EarlyStopping):
            each.restore_best_weights = False
    for _ in range(2):
        model.train(1, dataset(), callbacks=callbacks)
    assert_steps(model, 8)
    assert_same_weights(weights(network), plain)


@pytest.mark.slow  # by default each alone is held to it in the first idiom, and all together serve twice in every other
@pytest.mark.parametrize(
    ("idiom", "kind"),
    [
        pytest.param(idiom, kind, id=f"{idiom}-{kind.__name__}")
        for idiom in list(IDIOMS)[1:]
        for kind in MAKE
        if kind not in refused(idiom)
    ],
)
def test_each_alone_keeps_its_contract(graph, idiom, kind, tmp_path):
    """A second run, a state that is plain and comes back, arguments that stay, and the same one twice is refused."""
    model, _ = make_idiom(idiom)
    callback = MAKE[kind](model, tmp_path)
    arguments = list(inspect.signature(kind.__init__).parameters)[1:]
    before = {name: getattr(callback, name) for name in arguments}
    validate = [] if kind is Validate else [Validate(model, valid_dataset(24))]
    for epochs in (2, 1):
        model.train(epochs, dataset(), callbacks=[callback, *validate])
        learnt = [name for name in dir(callback) if name.endswith("_") and not name.startswith("_")]
        assert all(getattr(callback, name) is not None for name in learnt)
        assert {name: getattr(callback, name) for name in arguments} == before
    assert_steps(model, 12)
    state = json.loads(json.dumps(callback.state_dict()))
    other = MAKE[kind](model, tmp_path)
    other.load_state_dict(state)
    assert json.loads(json.dumps(other.state_dict())) == state
    with pytest.raises(ValueError, match=f"{kind.__name__}: .*(twice; remove one|both)"):
        model.train(1, dataset(), callbacks=[callback, callback, *validate])
    assert_steps(model, 12)


@pytest.mark.parametrize(
    ("idiom", "names"),
    [
        *(pytest.param(idiom, THREE, id=f"three of them-{idiom}") for idiom in OWN),
        *(pytest.param(idiom, STEERING, id=f"all of them-{idiom}", marks=pytest.mark.slow) for idiom in IDIOMS),
    ],
)
def test_schedules_set_the_rate(idiom, names, tmp_path):
    """Each of them alone, one after another, in every optimizer."""
    model, _ = make_idiom(idiom)
    for runs, kind in enumerate((kind for kind in MAKE if kind.__name__ in names and kind not in refused(idiom)), 1):
        model.train(2, dataset(), callbacks=[MAKE[kind](model, tmp_path), Validate(model, valid_dataset())])
        assert_steps(model, 8 * runs)


@in_both_modes
def test_the_best_weights_come_back_and_the_optimizer_stays_where_it_is(idiom, mode):
    """Its steps and its rate, as a schedule has set it."""
    model, network = make_idiom(idiom)
    stopping = EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True, verbose=0)
    history = History()
    best = {}

    class Look(ms.train.Callback):
        def on_train_epoch_end(self, run_context):
            best.setdefault(1, weights(network))

    model.train(3, dataset(), callbacks=[stopping, LRStepDecay(1, gamma=0.5), history, Look()])
    assert stopping.best_epoch_ == 1
    assert_same_weights(weights(network), best[1])
    assert_steps(model, 12)
    rates = take_apart(*made_with(model)).optimizers
    assert [float(one.learning_rate.asnumpy()) for one in rates] == pytest.approx([0.05 / 4] * len(rates))
    model.train(1, dataset())  # and training goes on from them
    assert_steps(model, 16)


@with_each_file
def test_the_file_loads_into_the_plain_network(idiom, save_optimizer, tmp_path):
    """Through load_into, and, where it holds the weights alone, through MindSpore's own loader."""
    model, network = make_idiom(idiom)
    path = str(tmp_path / "best.ckpt")
    best = BestCheckpoint(path, monitor="loss", mode="min", save_optimizer=save_optimizer, verbose=0)
    model.train(2, dataset(), callbacks=[best])
    assert best.best_epoch_ == 2
    kept = named_parameters(network)
    fresh = Network()
    record = BestCheckpoint(path).load_into(fresh)
    assert record["with_optimizer"] is save_optimizer
    for name, one in named_parameters(fresh).items():
        np.testing.assert_array_equal(one.asnumpy(), kept[name].asnumpy(), err_msg=name)
    if not save_optimizer and idiom not in OWN_LOSS:
        other = Network()
        missing = ms.load_param_into_net(other, ms.load_checkpoint(path))
        assert not missing or not missing[0]


@with_each_file
def test_the_file_loads_into_what_it_was_saved_from(idiom, save_optimizer, tmp_path):
    """The train network gets the weights, and the optimizer's state where that was saved."""
    model, network = make_idiom(idiom)
    best = BestCheckpoint(
        str(tmp_path / "best.ckpt"), monitor="loss", mode="max", save_optimizer=save_optimizer, verbose=0
    )
    model.train(1, dataset(), callbacks=[best])
    first = weights(network)
    model.train(1, dataset())
    best.load_into(model.train_network)
    assert_same_weights(weights(network), first)
    assert_steps(model, 4 if save_optimizer else 8)


@in_both_modes
def test_a_resumed_run_is_the_one_that_was_never_interrupted(idiom, mode, tmp_path):
    """Weights, moments, rates and BatchNorm's statistics."""

    class Interrupt(ms.train.Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args().cur_step_num == 6:
                raise KeyboardInterrupt

    def callbacks(state):
        return [state, LRStepDecay(1, gamma=0.5), EarlyStopping("loss", mode="min", verbose=0)]

    model, _ = make_idiom(idiom)
    model.train(3, dataset(), callbacks=callbacks(TrainingState(str(tmp_path / "whole"))))
    whole = weights(model.train_network)

    model, _ = make_idiom(idiom)
    with pytest.raises(KeyboardInterrupt):
        model.train(3, dataset(), callbacks=[*callbacks(TrainingState(str(tmp_path / "state"))), Interrupt()])
    model, _ = make_idiom(idiom)
    state, data = TrainingState(str(tmp_path / "state")), dataset()
    first = state.resume(model, data)
    assert first == 1
    model.train(3, data, callbacks=callbacks(state), initial_epoch=first)
    assert_same_weights(weights(model.train_network), whole)


@in_modes(graph=OWN[1:], pynative=IDIOMS)
def test_to_inspect_a_cell_never_runs_its_optimizer(idiom, mode):
    """The table is that of the network inside."""
    model, network = make_idiom(idiom)
    before = weights(model.train_network)
    inputs = [Tensor(np.zeros((2, 1, 4, 4), np.float32)), Tensor(np.zeros(2, np.int32))]
    inspector = ShapeInspector().inspect(model.train_network, *inputs)
    assert_same_weights(weights(model.train_network), before)
    assert sum(row.parameters for row in inspector.rows_) == sum(one.size for one in network.get_parameters())
    if idiom not in OWN_LOSS:
        assert [row.name for row in inspector.rows_] == ["hidden", "norm", "relu", "flatten", "head"]


@every_idiom
def test_int8_weights_are_the_networks(idiom, tmp_path):
    """Of a training cell too; they load into the plain network."""
    model, network = make_idiom(idiom)
    model.train(1, dataset())
    save_int8_weights(model.train_network, str(tmp_path / "network.int8"))
    fresh = Network()
    load_int8_weights(str(tmp_path / "network.int8"), fresh)
    for name, one in named_parameters(fresh).items():
        np.testing.assert_allclose(one.asnumpy(), named_parameters(network)[name].asnumpy(), atol=0.02)


class Gan(nn.Cell):
    """Two networks, each with an optimizer of its own, and none of them called `network`."""

    def __init__(self, generator, discriminator):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.optimizer_g = nn.SGD(generator.trainable_params(), 0.1)
        self.optimizer_d = nn.SGD(discriminator.trainable_params(), 0.1)
        self.loss = NetworkWithLoss(discriminator, loss_fn())
        self.grad = ops.GradOperation(get_by_list=True)

    def construct(self, x, label):
        loss = self.loss(self.generator(x), label)
        return ops.depend(loss, self.optimizer_d(self.grad(self.loss, self.optimizer_d.parameters)(x, label)))


def make_gan():
    gan = Gan(nn.Conv2d(1, 1, 3), seeded())
    return ms.Model(gan), gan


def test_of_several_networks_all_are_kept(tmp_path):
    """Best weights come back to all, and a file loads into each of them."""
    model, gan = make_gan()
    parts = take_apart(gan)
    assert parts.network is None
    assert len(parts.optimizers) == 2
    own = {id(one) for one in [*gan.generator.get_parameters(), *gan.discriminator.get_parameters()]}
    assert {id(one) for one in parts.weights.values()} == own
    path = str(tmp_path / "best.ckpt")
    best = BestCheckpoint(path, monitor="loss", mode="max", verbose=0)
    stopping = EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True, verbose=0)
    model.train(2, dataset(), callbacks=[best, stopping, LossMonitor(), CSVLogger(str(tmp_path / "log.csv"))])
    discriminator = Network()
    BestCheckpoint(path).load_into(discriminator)
    for name, one in named_parameters(discriminator).items():
        np.testing.assert_array_equal(one.asnumpy(), named_parameters(gan.discriminator)[name].asnumpy())


@pytest.mark.parametrize("kind", [ShapeInspector, ActivationMonitor])
def test_what_cannot_be_taken_apart_is_refused_with_the_argument_to_pass(kind):
    """Before the first step."""
    model, gan = make_gan()
    before = weights(gan)
    with pytest.raises(ValueError, match=f"{kind.__name__}: cannot tell which .* inside Gan .*pass network="):
        model.train(1, dataset(), callbacks=[kind()])
    assert_same_weights(weights(gan), before)


@pytest.mark.parametrize("kind", [ShapeInspector, ActivationMonitor])
def test_the_network_to_look_at_can_be_named(kind):
    """And is looked at with the columns that it takes."""
    model, gan = make_gan()
    looking = kind(network=gan.discriminator)
    model.train(1, dataset(), callbacks=[looking])
    if kind is ShapeInspector:
        assert [row.name for row in looking.rows_] == ["hidden", "norm", "relu", "flatten", "head"]


class Margin(nn.Cell):
    """A loss with weights of its own, as ArcFace has them."""

    def __init__(self):
        super().__init__()
        self.weight = Parameter(Tensor(np.eye(3, dtype=np.float32)))
        self.loss = loss_fn()

    def construct(self, logits, label):
        return self.loss(ops.matmul(logits, self.weight), label)


@pytest.mark.parametrize("how", ["network, loss, optimizer", "training cell"])
def test_a_loss_with_weights_is_kept_with_the_network(how, tmp_path):
    """Restored, saved and loaded; the network alone can be loaded too."""

    def make():
        network, margin = seeded(), Margin()
        optimizer = nn.Adam([*network.trainable_params(), *margin.trainable_params()], 0.05)
        if how == "training cell":
            return ms.Model(nn.TrainOneStepCell(nn.WithLossCell(network, margin), optimizer)), network, margin
        return ms.Model(network, margin, optimizer), network, margin

    model, network, margin = make()
    path = str(tmp_path / "best.ckpt")
    best = BestCheckpoint(path, monitor="loss", mode="max", verbose=0)
    model.train(1, dataset(), callbacks=[best])
    first, margin_first = weights(network), margin.weight.asnumpy().copy()
    stopping = EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True, verbose=0)
    model.train(3, dataset(), callbacks=[stopping])
    assert stopping.best_epoch_ == 1
    assert not np.array_equal(margin.weight.asnumpy(), margin_first)
    best.load_into(model.train_network)
    assert_same_weights(weights(network), first)
    np.testing.assert_array_equal(margin.weight.asnumpy(), margin_first)
    other_model, other, other_margin = make()
    BestCheckpoint(path).load_into(other)
    assert_same_weights(weights(other), first)
    assert not np.array_equal(other_margin.weight.asnumpy(), margin_first)
    BestCheckpoint(path).load_into(other_model.train_network)
    np.testing.assert_array_equal(other_margin.weight.asnumpy(), margin_first)
