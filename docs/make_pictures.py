"""Draw the pictures of the pages, with the code that they show, into docs/_static.

    python docs/make_pictures.py                  all of them
    python docs/make_pictures.py plot_lr lr_find   these

Needs `pip install ".[vision,plots]"`. The pictures are stored with at most 256 colours, which keeps them below 60 kB.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile
from typing import Any, Callable

from ms_callbacks import (
    ConfusionMatrix,
    HardExamples,
    History,
    LRCosineAnnealing,
    LRCosineWarmRestarts,
    LRCyclic,
    LRExponential,
    LRLambda,
    LRMultiStep,
    LROneCycle,
    LRPolynomial,
    LRSequence,
    LRStepDecay,
    LRWarmup,
    Validate,
    grad_cam,
    lr_find,
    plot_history,
    plot_lr,
)
from ms_callbacks.cpu import fast_cpu

ROOT = pathlib.Path(__file__).resolve().parents[1]
STATIC = ROOT / "docs" / "_static"
STEPS = 20
SCHEDULES: dict[str, tuple[Any, int]] = {
    "lr_step_decay": (LRStepDecay(step_size=2, gamma=0.5), 6),
    "lr_multi_step": (LRMultiStep([2, 5], gamma=0.1), 6),
    "lr_exponential": (LRExponential(gamma=0.7), 5),
    "lr_cosine_annealing": (LRCosineAnnealing(T_max=5, eta_min=0.001), 6),
    "lr_cosine_warm_restarts": (LRCosineWarmRestarts(2, T_mult=2, eta_min=0.001), 6),
    "lr_polynomial": (LRPolynomial(6, power=0.9), 6),
    "lr_one_cycle": (LROneCycle(max_lr=0.2), 4),
    "lr_cyclic": (LRCyclic(0.01, 0.1, step_size_up=20, mode="triangular2"), 6),
    "lr_lambda": (LRLambda(lambda step: min((step + 1) / 20, (20 / (step + 1)) ** 0.5), by="step"), 4),
    "lr_warmup": (LRWarmup(1, after=LRCosineAnnealing(T_max=4)), 5),
    "lr_sequence": (
        LRSequence([(LRLambda(lambda _: 1.0), 2), (LRCosineAnnealing(T_max=3), 3), (LRLambda(lambda _: 0.02), None)]),
        6,
    ),
    "plot_lr": (LRWarmup(2, after=LROneCycle(0.1, three_phase=True)), 12),
}


def prepare() -> dict[str, Any]:
    """Return the names of the setup `digits`, new ones each time."""
    code = (ROOT / "docs" / "setups" / "digits.py").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(compile(code.replace("examples/data/mnist", str(ROOT / "examples/data/mnist")), "digits.py", "exec"), names)
    return names


def draw_curves(path: str) -> None:
    """Losses, accuracy and rate of eight epochs."""
    names, history = prepare(), History()
    validate = Validate(names["model"], names["valid_dataset"])
    names["model"].train(8, names["train_dataset"], callbacks=[validate, LRCosineAnnealing(8), history])
    plot_history(history, path)


def draw_rates(path: str) -> None:
    """The curve of `lr_find`."""
    names = prepare()
    lr_find(names["model"], names["train_dataset"], min_lr=1e-4, max_lr=1.0, steps=200).plot(path)


def draw_confusion(path: str) -> None:
    """The classes that are taken for others."""
    names = prepare()
    confusion = ConfusionMatrix([str(digit) for digit in range(10)], picture=path)
    callbacks = [Validate(names["model"], names["valid_dataset"]), confusion]
    names["model"].train(4, names["train_dataset"], callbacks=callbacks)


def draw_hard(path: str) -> None:
    """The digits with the highest loss."""
    names = prepare()
    callbacks = [Validate(names["model"], names["valid_dataset"]), HardExamples(12, picture=path)]
    names["model"].train(6, names["train_dataset"], callbacks=callbacks)


def draw_cam(path: str) -> None:
    """Where the network sees a class."""
    names = prepare()
    names["model"].train(4, names["train_dataset"])
    images, _ = next(names["valid_dataset"].create_tuple_iterator(num_epochs=1))
    grad_cam(names["network"], "2", images[:4], picture=path)


PICTURES: dict[str, Callable[[str], None]] = {
    "plot_history": draw_curves,
    "lr_find": draw_rates,
    "confusion_matrix": draw_confusion,
    "hard_examples": draw_hard,
    "grad_cam": draw_cam,
}


def store(drawn: str, path: pathlib.Path) -> None:
    """Write a picture with few colours and at most 900 pixels wide."""
    from PIL import Image

    picture = Image.open(drawn).convert("RGB")
    if picture.width > 900:
        picture = picture.resize((900, round(picture.height * 900 / picture.width)), Image.LANCZOS)
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {picture.width} x {picture.height}, {path.stat().st_size / 1000:.0f} kB")


def main(wanted: list[str]) -> None:
    """Draw the pictures that are wanted, or all."""
    for name in wanted or [*PICTURES, *SCHEDULES]:
        with tempfile.TemporaryDirectory() as folder:
            drawn = f"{folder}/{name}.png"
            if name in SCHEDULES:
                schedule, epochs = SCHEDULES[name]
                rate = None if name == "lr_one_cycle" else 0.05
                plot_lr(schedule, drawn, epochs=epochs, steps_per_epoch=STEPS, learning_rate=rate)
            else:
                PICTURES[name](drawn)
            store(drawn, STATIC / f"{name}.png")


if __name__ == "__main__":
    fast_cpu()
    main(sys.argv[1:])
