"""Parameters of every kind: kept in memory, in files and in states, and given back as they were."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype
from training import (
    SIZE,
    Network,
    NetworkWithLoss,
    OwnTrainCell,
    assert_same_weights,
    dataset,
    loss_fn,
    seeded,
    valid_dataset,
)

from ms_callbacks import BestCheckpoint, EarlyStopping, LossMonitor, NonFiniteGuard, TrainingState, Validate
from ms_callbacks.core.model_parts import named_parameters

OLD = ms.__version__.startswith("2.0")


def frozen(array, name):
    return Parameter(Tensor(array), name=name, requires_grad=False)


class Complex(Network):
    """Complex numbers that the forward pass writes, as those of a quantum circuit's state."""

    def __init__(self):
        super().__init__()
        self.amplitudes = frozen(np.array([1 + 2j, 3 - 1j], np.complex64), "amplitudes")
        self.turned = Tensor(np.array([2 - 1j, 1j], np.complex64))

    def construct(self, x):
        return super().construct(ops.depend(x, ops.assign(self.amplitudes, self.turned)))


class Masks(Network):
    """Two frozen parameters of one name, which MindSpore tells apart only when they run."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Mask(1.0), Mask(2.0)

    def construct(self, x):
        return self.second(self.first(super().construct(x)))


class Mask(nn.Cell):
    def __init__(self, value):
        super().__init__(auto_prefix=False)
        self.mask = frozen(np.full(3, value, np.float32), "mask")

    def construct(self, x):
        return x * self.mask


class Shared(nn.Cell):
    """Two layers with one matrix."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.one, self.other = nn.Dense(SIZE * SIZE, SIZE * SIZE), nn.Dense(SIZE * SIZE, SIZE * SIZE)
        self.other.weight = self.one.weight
        self.head = nn.Dense(SIZE * SIZE, 3)

    def construct(self, x):
        return self.head(self.other(self.one(self.flatten(x))))


class Adapted(nn.Cell):
    """A frozen matrix beside two small ones that are trained, as LoRA has it."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.dense = nn.Dense(SIZE * SIZE, 3)
        self.dense.weight.requires_grad = False
        self.down = Parameter(Tensor(np.full((SIZE * SIZE, 2), 0.1, np.float32)), name="down")
        self.up = Parameter(Tensor(np.full((2, 3), 0.1, np.float32)), name="up")

    def construct(self, x):
        flat = self.flatten(x)
        return self.dense(flat) + ops.matmul(ops.matmul(flat, self.down), self.up)


class Int8(Network):
    """Weights in 8 bits that are only read, and a counter."""

    def __init__(self):
        super().__init__()
        self.table = frozen(np.array([1, -2, 3], np.int8), "table")
        self.calls = frozen(np.zeros((), np.int32), "calls")
        self.flag = frozen(np.array(True), "flag")

    def construct(self, x):
        calls = ops.assign(self.calls, self.calls + 1)
        return super().construct(x) + 0 * (ops.cast(self.table, mstype.float32) + ops.cast(calls, mstype.float32))


KINDS = [Complex, *([] if OLD else [Masks]), Shared, Adapted, Int8]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def make(kind):
    network = seeded(kind())
    return ms.Model(network, loss_fn(), nn.Adam(network.trainable_params(), 0.05), metrics={"acc"}), network


def kept(network):
    return {name: one.asnumpy().copy() for name, one in named_parameters(network).items()}


@every_kind
def test_names_are_the_same_before_and_after_training(kind):
    """In a fresh network, in one that has been trained, and each parameter has one."""
    model, network = make(kind)
    before = list(named_parameters(network))
    assert len(before) == len({id(one) for one in network.get_parameters()})
    model.train(1, dataset())
    assert list(named_parameters(network)) == before


@every_kind
@pytest.mark.parametrize("mode", ["graph", "pynative"], indirect=True)
def test_best_weights_come_back(kind, mode):
    """All of them, to the last bit."""
    model, network = make(kind)
    stopping = EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True, verbose=0)
    first = {}

    class Look(ms.train.Callback):
        def on_train_epoch_end(self, run_context):
            if not first:
                first.update(kept(network))

    model.train(2, dataset(), callbacks=[stopping, Look()])
    assert stopping.best_epoch_ == 1
    assert_same_weights(kept(network), first)


@every_kind
@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
@pytest.mark.parametrize("save_optimizer", [False, True])
def test_a_file_loads_into_a_fresh_network_and_into_the_trained_one(kind, ending, save_optimizer, tmp_path):
    """With the values that it was saved with."""
    model, network = make(kind)
    path = str(tmp_path / f"best.{ending}")
    best = BestCheckpoint(path, monitor="loss", mode="max", save_optimizer=save_optimizer, verbose=0)
    model.train(1, dataset(), callbacks=[best])
    saved = kept(network)
    model.train(1, dataset())
    best.load_into(network)
    assert_same_weights(kept(network), saved)
    _, fresh = make(kind)
    BestCheckpoint(path).load_into(fresh)
    assert_same_weights(kept(fresh), saved)


@every_kind
@pytest.mark.parametrize("mode", [pytest.param("graph", marks=pytest.mark.slow), "pynative"], indirect=True)
def test_a_state_is_resumed(kind, mode, tmp_path):
    """To where a run would be that was never interrupted."""

    class Interrupt(ms.train.Callback):
        def on_train_epoch_begin(self, run_context):
            if run_context.original_args().cur_epoch_num == 3:
                raise KeyboardInterrupt

    model, network = make(kind)
    model.train(3, dataset())
    whole = kept(network)
    model, network = make(kind)
    with pytest.raises(KeyboardInterrupt):
        model.train(3, dataset(), callbacks=[TrainingState(str(tmp_path)), Interrupt()])
    model, network = make(kind)
    state, data = TrainingState(str(tmp_path)), dataset()
    first = state.resume(model, data)
    assert first == 2
    model.train(3, data, callbacks=[state], initial_epoch=first)
    assert_same_weights(kept(network), whole)


def test_nan_in_complex_numbers_is_seen(graph, tmp_path):
    """In the imaginary part too."""
    model, network = make(Complex)
    ops.assign(network.amplitudes, Tensor(np.array([1, complex(0, np.nan)], np.complex64)))
    guard = NonFiniteGuard(str(tmp_path), verbose=0)
    model.train(1, dataset(), callbacks=[guard])  # it was so at the beginning, as a mask may be
    assert guard.dumps_ == []
    network.amplitudes = frozen(np.array([1, 1], np.complex64), "amplitudes")

    class Spoil(ms.train.Callback):
        def on_train_step_begin(self, run_context):
            if run_context.original_args().cur_step_num == 2:
                ops.assign(network.amplitudes, Tensor(np.array([1, complex(0, np.nan)], np.complex64)))

    with pytest.raises(ValueError, match="parameter that is not finite is 'amplitudes'"):
        model.train(1, dataset(), callbacks=[NonFiniteGuard(str(tmp_path), verbose=0), Spoil()])


@pytest.mark.skipif(OLD, reason="MindSpore 2.0 makes no parameters of bfloat16 on a CPU")
@pytest.mark.parametrize(
    "make_callback",
    [
        lambda folder: EarlyStopping("loss", restore_best_weights=True),
        lambda folder: BestCheckpoint(folder + "/best.ckpt", monitor="loss"),
        lambda folder: TrainingState(folder + "/state"),
    ],
    ids=["EarlyStopping", "BestCheckpoint", "TrainingState"],
)
def test_bfloat16_is_refused_on_a_cpu_before_the_first_step(make_callback, tmp_path):
    """Where MindSpore cannot write such parameters."""
    model, network = make(Network)
    try:
        network.extra = Parameter(Tensor(np.ones(2), mstype.bfloat16), name="extra", requires_grad=False)
    except TypeError:
        pytest.skip("this MindSpore makes no parameters of bfloat16 with this NumPy")
    with pytest.raises(ValueError, match="cannot write parameters of bfloat16 on a CPU, and 'extra' is one"):
        model.train(1, dataset(), callbacks=[make_callback(str(tmp_path))])


PREFIXES = {
    "the file has one": (lambda net: net, lambda net: Around(net)),
    "the network has one": (lambda net: Around(net), lambda net: net),
    "both have another": (lambda net: Around(net), lambda net: Around(Around(net))),
}


class Around(nn.Cell):
    def __init__(self, backbone):
        super().__init__()
        self._backbone = backbone

    def construct(self, x):
        return self._backbone(x)


@pytest.mark.parametrize("case", PREFIXES)
@pytest.mark.parametrize("of", ["ours", "MindSpore's", "MindSpore's train network"])
def test_a_prefix_makes_no_difference(case, of, tmp_path):
    """Whichever side has one, in files of ours and of MindSpore's."""
    wrap_loaded, wrap_saved = PREFIXES[case]
    saved = wrap_saved(seeded())
    model = ms.Model(saved, loss_fn(), nn.Adam(saved.trainable_params(), 0.05))
    path = str(tmp_path / "best.ckpt")
    if of == "ours":
        model.train(1, dataset(), callbacks=[BestCheckpoint(path, monitor="loss", mode="max", verbose=0)])
    else:
        model.train(1, dataset())
        ms.save_checkpoint(saved if of == "MindSpore's" else model.train_network, path)
    loaded = wrap_loaded(Network())
    BestCheckpoint(path).load_into(loaded)
    for one, other in zip(loaded.get_parameters(), saved.get_parameters()):
        np.testing.assert_array_equal(one.asnumpy(), other.asnumpy(), err_msg=one.name)


def test_a_file_of_mindspores_loads_with_a_word_that_nothing_is_known_of_it(tmp_path, capsys):
    """And says so; what it returns is the path alone."""
    _, network = make(Network)
    path = str(tmp_path / "mindspores.ckpt")
    ms.save_checkpoint(network, path)
    fresh = Network()
    assert BestCheckpoint(path).load_into(fresh) == {"path": path}
    assert_same_weights(kept(fresh), kept(network))
    assert f"{path!r} has no record" in capsys.readouterr().out


class Deeper(Network):
    def __init__(self):
        super().__init__()
        self.more = nn.Dense(3, 3)

    def construct(self, x):
        return self.more(super().construct(x))


@pytest.mark.parametrize("of", ["ours", "MindSpore's"])
@pytest.mark.parametrize(("saved", "loaded"), [(Deeper, Network), (Network, Deeper)])
def test_a_file_of_another_network_is_refused(of, saved, loaded, tmp_path):
    """A deeper one, or a shallower one; nothing is loaded."""
    model, network = make(saved)
    path = str(tmp_path / "best.ckpt")
    if of == "ours":
        model.train(1, dataset(), callbacks=[BestCheckpoint(path, monitor="loss", mode="max", verbose=0)])
    else:
        ms.save_checkpoint(network, path)
    other = loaded()
    before = kept(other)
    with pytest.raises(ValueError, match=r"holds the weights of another network: .*more\.(bias|weight)"):
        BestCheckpoint(path).load_into(other)
    assert_same_weights(kept(other), before)


def test_a_file_that_holds_such_a_network_twice_is_refused(tmp_path):
    """As a teacher and a student: nobody can tell which is meant."""

    class Pair(nn.Cell):
        def __init__(self):
            super().__init__()
            self.student, self.teacher = Network(), Network()

        def construct(self, x):
            return self.student(x) + self.teacher(x)

    pair = Pair()
    path = str(tmp_path / "pair.ckpt")
    ms.save_checkpoint(pair, path)
    with pytest.raises(ValueError, match="holds such a network more than once, under 'student.', 'teacher.'"):
        BestCheckpoint(path).load_into(Network())
    BestCheckpoint(path).load_into(Pair())


def test_monitors_see_all_kinds(tmp_path):
    """A run with all of them together; what validation runs is not counted by the network."""
    model, network = make(Int8)
    callbacks = [Validate(model, valid_dataset()), LossMonitor(), NonFiniteGuard(str(tmp_path))]
    model.train(2, dataset(), callbacks=callbacks)
    assert int(network.calls.asnumpy()) == 8


class Renamed(nn.Cell):
    """A parameter whose name is not its attribute's, and one that stands under two attributes."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.wide_b = Parameter(Tensor(np.full(3, 0.1, np.float32)), name="Wide_b")
        self.dense = nn.Dense(SIZE * SIZE, 3)
        self.table = Parameter(Tensor(np.full(3, 0.2, np.float32)), name="embedding")
        self.same = self.table

    def construct(self, x):
        return self.dense(self.flatten(x)) + self.wide_b + self.table


@pytest.mark.parametrize("save_optimizer", [False, True])
def test_a_parameter_whose_name_is_not_its_attributes(save_optimizer, tmp_path):
    """A cell around the network renames it; a fresh network has the old name."""
    network = NetworkWithLoss(Renamed(), loss_fn())
    model = ms.Model(OwnTrainCell(network, nn.Adam(network.trainable_params(), 0.05)))
    path = str(tmp_path / "best.ckpt")
    best = BestCheckpoint(path, monitor="loss", save_optimizer=save_optimizer, verbose=0)
    model.train(1, dataset(), callbacks=[best])
    for fresh in (Renamed(), NetworkWithLoss(Renamed(), loss_fn())):
        BestCheckpoint(path).load_into(fresh)
        inside = fresh if isinstance(fresh, Renamed) else fresh.backbone
        for one, other in zip(inside.get_parameters(), network.backbone.get_parameters()):
            np.testing.assert_array_equal(one.asnumpy(), other.asnumpy(), err_msg=one.name)
