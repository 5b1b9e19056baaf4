"""ReduceLROnPlateau: when the rate is lowered, and to what."""

from __future__ import annotations

import json
import pathlib

import mindspore as ms
import pytest
from training import Script, dataset, make_model

from ms_callbacks import ReduceLROnPlateau

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "keras.json"


def test_decides_as_keras_does():
    """For every argument, rate and best after each epoch are what Keras itself gave, 600 times over."""
    cases = json.loads(GOLDEN.read_text())["reduce_lr_on_plateau"]
    assert len(cases) == 600
    script = Script()
    for case in cases:
        plateau = ReduceLROnPlateau("x", verbose=0, **case["arguments"])
        script.optimizer.learning_rate.set_data(ms.Tensor(0.5, ms.float32))
        rates = script.run([plateau], [{"x": value} for value in case["values"]])
        assert rates == pytest.approx(case["rates"], rel=1e-6), case
        assert plateau.best_ == case["best"], case


@pytest.mark.parametrize(
    ("values", "arguments", "rates"),
    [
        ([1, 1, 1, 1], {"patience": 1}, [0.8, 0.4, 0.2, 0.1]),
        ([1, 1, 1, 1], {"patience": 2}, [0.8, 0.8, 0.4, 0.4]),
        ([1, 1, 1, 1, 1], {"patience": 1, "cooldown": 2}, [0.8, 0.4, 0.4, 0.2, 0.2]),
        ([1, 1, 1, 1], {"patience": 1, "min_lr": 0.3}, [0.8, 0.4, 0.3, 0.3]),
        ([1, None, 1, None], {"patience": 1}, [0.8, 0.8, 0.4, 0.4]),
        # NaN is not better, not even as the first.
        ([float("nan"), 5.0, 4.0, 3.0], {"patience": 2}, [0.8, 0.8, 0.8, 0.8]),
    ],
)
def test_rates(values, arguments, rates):
    """The rate after each epoch."""
    plateau = ReduceLROnPlateau("x", mode="min", factor=0.5, verbose=0, **arguments)
    results = [None if value is None else {"x": value} for value in values]
    assert Script(0.8).run([plateau], results) == pytest.approx(rates)


def test_lowers_the_rate_of_a_real_run(mode, capsys):
    """In both modes, watching the training loss; a line says so."""
    model = make_model(learning_rate=0.1)
    plateau = ReduceLROnPlateau("loss", min_delta=100, patience=1, factor=0.5)
    model.train(3, dataset(), callbacks=[plateau])
    assert float(model.train_network.optimizer.learning_rate.asnumpy()) == pytest.approx(0.025)
    assert "ReduceLROnPlateau: learning rate 0.05 from epoch 3 on: loss was not better than" in capsys.readouterr().out


def test_a_second_run_waits_anew():
    """Best and wait are forgotten; the rate stays where it is, as in Keras."""
    script, plateau = Script(0.8), ReduceLROnPlateau("x", mode="min", factor=0.5, patience=1, verbose=0)
    assert script.run([plateau], [{"x": 1.0}, {"x": 2.0}]) == pytest.approx([0.8, 0.4])
    assert script.run([plateau], [{"x": 9.0}, {"x": 9.0}]) == pytest.approx([0.4, 0.2])


def test_state_goes_on_where_it_was():
    """A new object with the old one's state waits no longer than the old one would have."""
    one = ReduceLROnPlateau("x", mode="min", patience=3, cooldown=5, verbose=0)
    Script().run([one], [{"x": 1.0}] * 4)
    other = ReduceLROnPlateau("x", mode="min", patience=3, cooldown=5, verbose=0)
    other.load_state_dict(one.state_dict())
    assert other.state_dict() == one.state_dict()
    assert other.state_dict()["cooling"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 1.0}, "factor must be finite and above 0 and below 1, but got 1.0"),
        ({"factor": 0}, "factor must be finite and above 0 and below 1, but got 0"),
        ({"patience": -1}, "patience must be at least 0"),
        ({"cooldown": 1.5}, "cooldown must be a whole number"),
        ({"min_lr": -1e-3}, "min_lr must be finite and at least 0"),
        ({"min_delta": float("nan")}, "min_delta must be finite"),
        ({"mode": "up"}, "mode must be one of"),
    ],
)
def test_wrong_arguments_are_refused_where_it_is_made(arguments, message):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match=f"ReduceLROnPlateau: {message}"):
        ReduceLROnPlateau(**arguments)
