"""Draws the curves of a run: loss, metrics and learning rate by epoch."""

from __future__ import annotations

import os
from typing import Any, Union

from ..core._checks import quoted
from ..core._files import check_folder
from ..core._pictures import check_png, figure, save

__all__ = ["plot_history"]

_OWNER = "plot_history"

# Colours that stay apart for colour-blind eyes (Okabe and Ito, 2008), with a marker each besides.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LOSSES = ("loss", "eval_loss")
_NOT_METRICS = (*_LOSSES, "learning_rate", "seconds", "samples_per_second")


def plot_history(history: Any, path: Union[str, os.PathLike[str]]) -> None:
    """Draws a history into a PNG: losses, metrics and learning rate, one below the other, by epoch.

    Args:
        history: a `History` after a run, or a dictionary as its `history`: equally long lists by key, `None` where an
            epoch has no value; a key without any is left out.
        path: where to save, ending in `.png`; its folder must exist. The picture is written whole or not at all.

    Raises:
        TypeError, ValueError: an argument is not as described, or there is nothing to draw.
        ImportError: matplotlib is not installed.
        OSError: the picture cannot be written.

    Example:
        >>> history = History()
        >>> model.train(2, train_dataset, callbacks=[Validate(model, valid_dataset), history])
        >>> plot_history(history, folder + "/curves.png")
    """
    given = getattr(history, "history", history)
    if not isinstance(given, dict) or not all(isinstance(values, (list, tuple)) for values in given.values()):
        raise TypeError(
            f"{_OWNER}: history must be a History, or a dictionary of lists as its `history`, but got "
            f"{type(history).__name__}"
        )
    picture = check_png(_OWNER, "path", path)
    length = max((len(values) for values in given.values()), default=0)
    if not length:
        raise ValueError(f"{_OWNER}: the history holds no epoch; pass one of a run that has finished an epoch")
    kept = {key: values for key, values in given.items() if any(value is not None for value in values)}
    check_folder(_OWNER, picture)
    epochs = getattr(history, "epoch", range(1, length + 1))
    panels = [
        ("loss", [key for key in _LOSSES if key in kept]),
        ("metric", [key for key in kept if key not in _NOT_METRICS]),
        ("learning rate", [key for key in ("learning_rate",) if key in kept]),
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
            points = [(epoch, value) for epoch, value in zip(epochs, kept[key]) if value is not None]
            axes.plot(
                [epoch for epoch, _ in points],
                [value for _, value in points],
                color=_COLOURS[index % len(_COLOURS)],
                marker=_MARKERS[index % len(_MARKERS)],
                markersize=4,
                label=key,
            )
        axes.set_ylabel(title)
        axes.grid(color="0.85")
        axes.locator_params(axis="x", integer=True)
        if len(keys) > 1 or title == "metric":
            axes.legend()
    axes.set_xlabel("epoch")
    canvas.tight_layout()
    save(canvas, picture)
