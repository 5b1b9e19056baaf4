"""A Model that trained for a trial is what it was before, bit for bit."""

from __future__ import annotations

import random

import mindspore as ms
import numpy as np
import pytest
from conftest import MODES
from mindspore import Parameter, Tensor, nn, ops
from training import IDIOMS, Network, Recorder, assert_same_weights, dataset, make_idiom, make_model, weights

from ms_callbacks.core.kept_model import check_can_be_kept, kept_model


def state(model):
    """All that a run changes, but for what MindSpore notes when it compiles."""
    flags = {name: cell.training for name, cell in model.train_network.cells_and_names()}
    noted = {name: value for name, value in vars(model).items() if not isinstance(value, nn.Cell)}
    drawn = (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2:])
    generator = ms.get_rng_state().asnumpy().tolist() if hasattr(ms, "get_rng_state") else None
    return flags, noted, drawn, generator


FEW = ("network, loss, optimizer", "training cell with loss scale", "two optimizers")


@pytest.mark.parametrize("idiom", [pytest.param(one, marks=[] if one in FEW else pytest.mark.slow) for one in IDIOMS])
def test_everything_is_restored(idiom):
    """Whatever the Model was made of: weights, statistics, moments, steps, rates, flags, counters, random states."""
    model, _ = make_idiom(idiom)
    model.train(1, dataset())
    held, before = weights(model.train_network), state(model)
    with kept_model(model):
        model.train(2, dataset(shuffle=True))
        random.random(), np.random.rand()
        assert state(model) != before
        assert any(not np.array_equal(held[name], array) for name, array in weights(model.train_network).items())
    assert_same_weights(weights(model.train_network), held)
    assert state(model) == before


def test_also_after_a_run_in_a_graph(graph):
    """And the next run is not compiled again."""
    model = make_model()
    model.train(1, dataset())
    held, before = weights(model.train_network), state(model)
    compiled = set(model.train_network._compile_cache) if hasattr(model.train_network, "_compile_cache") else None
    with kept_model(model):
        model.train(1, dataset())
    assert_same_weights(weights(model.train_network), held)
    assert state(model) == before
    if compiled is not None:
        assert set(model.train_network._compile_cache) == compiled


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_also_after_an_exception(error):
    """In the middle of an epoch, whose dataset draws from NumPy in threads of its own."""

    class Interrupt(ms.train.Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == 3:
                raise error("now")

    def noisy(image):
        return image + np.random.rand(*image.shape).astype(np.float32)

    model = make_model()
    data = dataset().map(noisy, "images", num_parallel_workers=1)
    held, before = weights(model.train_network), state(model)
    with pytest.raises(error, match="now"), kept_model(model):
        model.train(3, data, callbacks=[Interrupt()])
    assert_same_weights(weights(model.train_network), held)
    assert state(model) == before


def test_also_after_an_exception_in_the_network():
    """Which leaves MindSpore recording for a gradient in PYNATIVE mode; a compiled network raises nothing itself."""
    ms.set_context(mode=ms.PYNATIVE_MODE)

    class Failing(Network):
        def __init__(self):
            super().__init__()
            self.calls = 0
            self.seen = []

        def construct(self, x):
            self.calls += 1
            self.seen.append(self.calls)
            self.last_shape = x.shape
            if self.calls == 3:
                raise ValueError("third call")
            return super().construct(x)

    model = make_model(network=Failing())
    held, before = weights(model.train_network), state(model)
    with pytest.raises(ValueError, match="third call"), kept_model(model):
        model.train(1, dataset())
    assert_same_weights(weights(model.train_network), held)
    assert state(model) == before
    network = model.predict_network
    assert (network.calls, network.seen, hasattr(network, "last_shape")) == (0, [], False)
    network.calls = 10
    model.train(1, dataset())
    assert network.calls == 14
    assert not np.array_equal(weights(network)["head.weight"], held["head.weight"])


def test_optimizers_in_a_python_list_are_restored():
    """Which MindSpore does not find in the cell, as with `boost_level`."""
    model = make_model()
    optimizer = model.train_network.optimizer
    inner = nn.Adam(optimizer.parameters, 0.1)
    model.train_network.held = [inner]
    held = {one.name: one.asnumpy().copy() for one in inner.get_parameters()}
    with kept_model(model):
        inner(tuple(Tensor(np.ones(one.shape, np.float32)) for one in inner.parameters))
    assert_same_weights({one.name: one.asnumpy() for one in inner.get_parameters()}, held)


def test_what_cannot_be_exact_is_named():
    """Nothing otherwise; a Dropout that keeps everything draws nothing."""

    class WithDropout(Network):
        def __init__(self, p):
            super().__init__()
            self.drop = nn.Dropout(p=p)

    def notes_of(model):
        with kept_model(model) as notes:
            return notes

    assert notes_of(make_model()) == []
    assert notes_of(make_model(network=WithDropout(0.0))) == []
    (note,) = notes_of(make_model(network=WithDropout(0.5)))
    assert note.startswith("Dropout: MindSpore cannot restore the random numbers")
    (note,) = notes_of(make_model(lambda network: nn.RMSProp(network.trainable_params(), 0.1)))
    assert note.startswith("RMSProp: ")


@pytest.mark.parametrize("name", ["graph", "pynative"])
def test_operators_that_draw_are_named_in_a_graph(name):
    """Their kernels count on; in PYNATIVE mode, the numbers drawn next are those that would have been."""

    class Drawing(Network):
        def construct(self, x):
            logits = self.head(self.flatten(self.relu(self.norm(self.hidden(x)))))
            return logits * ops.uniform(logits.shape, Tensor(0.5), Tensor(1.5))

    ms.set_context(mode=MODES[name])

    def run(find):
        model, recorder = make_model(network=Drawing()), Recorder()
        notes = []
        if find:
            with kept_model(model) as notes:
                model.train(1, dataset())
        model.train(1, dataset(), callbacks=[recorder])
        return recorder.losses, notes

    losses, notes = run(True)
    if name == "graph":
        assert any(note.startswith("uniform: MindSpore cannot restore") for note in notes)
    else:
        assert (losses, notes) == run(False)


def test_what_cannot_be_restored_is_refused(monkeypatch):
    """A parameter without values, as `nn.utils.no_init_parameters` makes it, has none to restore."""
    check_can_be_kept("owner", make_model())
    model = make_model()
    weight = model.predict_network.head.weight
    monkeypatch.setitem(check_can_be_kept.__globals__, "is_uninitialised", lambda parameter: parameter is weight)
    with pytest.raises(ValueError, match=r"owner: the parameter 'head.weight' has no values yet.*load a checkpoint"):
        check_can_be_kept("owner", model)


def test_bfloat16_is_refused_on_a_cpu():
    """Which cannot write it."""
    model = make_model()
    try:
        model.predict_network.half = Parameter(Tensor(np.ones(2), ms.bfloat16), name="half", requires_grad=False)
    except (AttributeError, TypeError):
        pytest.skip("this MindSpore makes no parameters of bfloat16 with this NumPy")
    with pytest.raises(ValueError, match="owner: MindSpore cannot write parameters of bfloat16 on a CPU"):
        check_can_be_kept("owner", model)
