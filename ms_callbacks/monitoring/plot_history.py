"""Draw the curves of a run: loss, metrics and learning rate by epoch."""

from __future__ import annotations

import math
import os
from typing import Any, Optional, Union

from ..core.arguments import quoted
from ..core.atomic_files import check_folder
from ..core.names import OF_RUN
from ..core.plotting import Picture, check_matplotlib, check_png, figure, save

__all__ = ["plot_history"]

_OWNER = "plot_history"

# Colours that colour-blind people can distinguish (Okabe and Ito, 2008), each also with its own marker.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LOSSES = ("loss", "train_loss", "eval_loss", "val_loss")
_RATE = "learning_rate"
_NOT_METRICS = (*_LOSSES, *OF_RUN)


def plot_history(history: Any, path: Union[str, os.PathLike[str], None] = None) -> Optional[Picture]:
    """Draw a history as a PNG: losses, metrics and learning rate, one below the other, by epoch.

    The learning rate is drawn as steps: a rate holds until the epoch that has another. Whatever is neither a loss nor a
    metric (`step`, `seconds`, `samples_per_second`) is left out.

    Args:
        history: a `History` after a run, or a dictionary like its `history`: equally long lists by key, with `None`,
            NaN or `""` where an epoch has no value; a key without any value is left out. The columns of a `CSVLogger`
            are also such a dictionary, as read by `pandas.read_csv("log.csv").to_dict("list")` or the module `csv`; if
            there is a key `epoch`, it is the axis.
        path: where to save, ending in `.png`; its folder must exist. The picture is written completely or not at all.
            Default: None, nothing is written; a notebook shows what is returned.

    Returns:
        The picture if there is no path; a notebook shows it below a cell that ends with the call.

    Raises:
        TypeError, ValueError: an argument is not as described, such as a value that is not a number, or there is
            nothing to draw.
        ImportError: matplotlib is not installed.
        OSError: the picture cannot be written.

    Example:
        >>> history = History()
        >>> model.train(2, train_dataset, callbacks=[Validate(model, valid_dataset), history])
        >>> plot_history(history, folder + "/curves.png")

    From a file:
        >>> log = CSVLogger(folder + "/log.csv")
        >>> model.train(2, train_dataset, callbacks=[log])
        >>> with open(folder + "/log.csv", newline="") as file:
        ...     header, *rows = csv.reader(file)
        >>> plot_history(dict(zip(header, zip(*rows))), folder + "/from_csv.png")
    """
    given = getattr(history, "history", history)
    if not isinstance(given, dict) or not all(isinstance(values, (list, tuple)) for values in given.values()):
        raise TypeError(
            f"{_OWNER}: history must be a History, or a dictionary of lists as its `history`, but got "
            f"{type(history).__name__}"
        )
    if path is None:
        check_matplotlib(_OWNER)
    else:
        path = check_png(_OWNER, "path", path)
    length = max((len(values) for values in given.values()), default=0)
    if not length:
        raise ValueError(f"{_OWNER}: the history holds no epoch; pass one of a run that has finished an epoch")
    numbers = {str(key): [_number(key, value) for value in values] for key, values in given.items()}
    kept = {key: values for key, values in numbers.items() if any(value is not None for value in values)}
    if path is not None:
        check_folder(_OWNER, path)
    epochs = getattr(history, "epoch", kept.get("epoch", range(1, length + 1)))
    panels = [
        ("loss", [key for key in _LOSSES if key in kept]),
        ("metric", [key for key in kept if key not in _NOT_METRICS]),
        ("learning rate", [key for key in (_RATE,) if key in kept]),
    ]
    panels = [(title, keys) for title, keys in panels if keys]
    if not panels:
        raise ValueError(
            f"{_OWNER}: the history needs a value of a loss, a metric or the learning rate, but has none under "
            f"{quoted(given)}"
        )
    canvas = figure(7, 2.4 * len(panels))
    for place, (title, keys) in enumerate(panels, 1):
        axes = canvas.add_subplot(len(panels), 1, place)
        for index, key in enumerate(keys):
            points = [(epoch, value) for epoch, value in zip(epochs, kept[key]) if None not in (epoch, value)]
            axes.plot(
                [epoch for epoch, _ in points],
                [value for _, value in points],
                color=_COLOURS[index % len(_COLOURS)],
                marker=_MARKERS[index % len(_MARKERS)],
                markersize=4,
                drawstyle="steps-post" if key == _RATE else "default",
                label=key,
            )
        axes.set_ylabel(title)
        axes.grid(color="0.85")
        axes.locator_params(axis="x", integer=True)
        axes.legend()
    axes.set_xlabel("epoch")
    if path is None:
        return Picture(canvas)
    save(canvas, path)
    return None


def _number(key: Any, value: Any) -> Optional[float]:
    """Return a value as a number, also if it is text from a CSV file; `None` if there is none."""
    try:
        number = None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{_OWNER}: the history needs numbers, or None, but has {value!r} under {str(key)!r}; leave that key out"
        ) from None
    return None if number is None or math.isnan(number) else number
