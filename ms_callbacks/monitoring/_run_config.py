"""Describe a run in plain values for an experiment tracker: what is trained, how, and with which versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any, Optional

import mindspore as ms
import numpy as np

from .. import __version__
from ..core.configuration import arguments_of
from ..core.mindspore_compat import VERSION
from ..core.names import labelled
from ..core.run import Run
from ._secrets import hidden

__all__ = ["flat", "plain", "run_config"]


def run_config(run: Run, own: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the hyper-parameters of a run, and those of the user, which replace others of the same name."""
    parts = run.parts
    sizes = {parameter.name: (parameter.size, parameter.requires_grad) for parameter in run.weights.values()}
    rates = [] if parts.rates is None else parts.rates.read()
    optimizers = [type(optimizer).__name__ for optimizer in parts.optimizers]
    config = {
        "epochs": run.epochs,
        "steps_per_epoch": run.steps_per_epoch,
        "batch_size": _batch_size(parts.train_dataset),
        "network": type(parts.found_network or parts.train_network).__name__,
        "parameters": {
            "total": sum(size for size, _ in sizes.values()),
            "trainable": sum(size for size, is_trained in sizes.values() if is_trained),
        },
        "loss": _name(parts.loss_fn),
        "optimizer": {
            "class": ", ".join(optimizers) or None,
            "learning_rate": rates[0] if len(rates) == 1 else rates or None,
        },
        "mode": "GRAPH_MODE" if ms.get_context("mode") == ms.GRAPH_MODE else "PYNATIVE_MODE",
        "callbacks": {name: _arguments(callback) for name, callback in labelled(_public(run.callbacks))},
        "versions": {
            "mindspore": VERSION,
            "ms_callbacks": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    result: dict[str, Any] = plain({**config, **(own or {})})
    return result


def plain(value: Any) -> Any:
    """Return a value as nested dictionaries and lists of numbers, strings and `None`."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return str(value)


def flat(config: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Return nested dictionaries as one, with keys such as `optimizer.class`; an empty one has no entry."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found.update((f"{key}{separator}{name}", each) for name, each in flat(value, separator).items())
        else:
            found[key] = value
    return found


def _batch_size(dataset: Any) -> Optional[int]:
    try:
        return int(dataset.get_batch_size())
    except Exception:  # a dataset of the user's own, or batches of varying size
        return None


def _name(loss: Any) -> Optional[str]:
    if loss is None:
        return None
    return str(getattr(loss, "__name__", type(loss).__name__))


def _arguments(callback: Any) -> dict[str, Any]:
    """Return the arguments of a callback, without a password in the address of a server, and the like."""
    shown = arguments_of(callback)
    return {
        name: hidden(f"{name}={value}")[len(name) + 1 :] if isinstance(value, str) else value
        for name, value in shown.items()
    }


def _public(callbacks: list[Any]) -> list[Any]:
    """Return the callbacks without those that MindSpore adds itself."""
    return [
        each
        for each in callbacks
        if not (type(each).__module__.startswith("mindspore.") and type(each).__name__.startswith("_"))
    ]
