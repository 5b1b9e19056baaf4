"""Writes keras.json: what Keras itself decides for generated sequences of values.

Run with Keras 3 installed, on any backend:

    KERAS_BACKEND=torch python tests/golden/make_keras_golden.py
"""

from __future__ import annotations

import json
import pathlib
import random

import keras

CASES = 600
SPECIAL = [0.0, 0.1, 0.2, 0.3, 0.30000000000000004, -0.1, 1.0, 1.1]


class Model:
    """As much of a Keras model as its callbacks look at."""

    def __init__(self) -> None:
        self.stop_training = False
        self.optimizer = type("Optimizer", (), {"learning_rate": 0.5})()


def values(rng: random.Random) -> list[float]:
    """A sequence with many ties, margins that are just met, and a trend now and then."""
    kind = rng.randrange(3)
    length = rng.randint(1, 24)
    if kind == 0:
        return [rng.choice(SPECIAL) for _ in range(length)]
    if kind == 1:
        return [round(rng.uniform(-1, 1), 1) for _ in range(length)]
    start, slope = rng.uniform(-5, 5), rng.uniform(-0.3, 0.3)
    return [round(start + slope * index + rng.gauss(0, 0.4), 4) for index in range(length)]


def early_stopping(rng: random.Random) -> dict:
    arguments = {
        "mode": rng.choice(["min", "max"]),
        "patience": rng.randint(0, 5),
        "min_delta": rng.choice([0.0, 0.1, 0.2, 1e-4]),
        "baseline": rng.choice([None, None, -1.0, 0.0, 0.25, 10.0]),
        "start_from_epoch": rng.choice([0, 0, 0, 1, 4]),
    }
    sequence = values(rng)
    callback = keras.callbacks.EarlyStopping("x", **arguments)
    callback.set_model(Model())
    callback.on_train_begin()
    stopped = 0
    for epoch, value in enumerate(sequence):
        callback.on_epoch_end(epoch, {"x": value})
        if callback.model.stop_training:
            stopped = epoch + 1
            break
    return {"arguments": arguments, "values": sequence, "stopped_epoch": stopped, "best": callback.best}


def reduce_lr_on_plateau(rng: random.Random) -> dict:
    arguments = {
        "mode": rng.choice(["min", "max"]),
        "factor": rng.choice([0.5, 0.25]),
        "patience": rng.randint(0, 4),
        "min_delta": rng.choice([0.0, 0.1, 1e-4]),
        "cooldown": rng.randint(0, 3),
        "min_lr": rng.choice([0.0, 0.0, 0.125, 0.1, 1.0]),
    }
    sequence = values(rng)
    callback = keras.callbacks.ReduceLROnPlateau("x", **arguments)
    callback.set_model(Model())
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(sequence):
        callback.on_epoch_end(epoch, {"x": value})
        rates.append(float(callback.model.optimizer.learning_rate))
    return {"arguments": arguments, "values": sequence, "rates": rates, "best": callback.best}


if __name__ == "__main__":
    rng = random.Random(0)
    golden = {
        "keras": keras.__version__,
        "early_stopping": [early_stopping(rng) for _ in range(CASES)],
        "reduce_lr_on_plateau": [reduce_lr_on_plateau(rng) for _ in range(CASES)],
    }
    path = pathlib.Path(__file__).with_name("keras.json")
    cases = ",\n".join(
        f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in golden[name]) + "\n]"
        for name in ("early_stopping", "reduce_lr_on_plateau")
    )
    path.write_text(f'{{"keras": "{golden["keras"]}",\n{cases}}}\n')
