"""What was run and where, for a report: the parts of the run, the machine, the versions, and the command.

Environment variables are never read, and arguments that may hold a secret are hidden.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import mindspore as ms
import numpy as np

from .. import __version__
from ..core import distributed
from ..core.configuration import configuration
from ..core.machine import processor
from ..core.mindspore_compat import size_of_dataset
from ..core.run import Run

__all__ = ["callbacks_of", "command", "facts_of", "hidden"]

_SECRET = (
    r"(?:\w+[_-])*(?:(?:api|access|private|secret)[_-]?key|token|secret|password|passwd|passphrase|credentials?|auth)"
)
# `--api-key value`, `--api-key=value` and `api_key='value'`, and a password within an address.
_OPTION = re.compile(rf"-{{1,2}}{_SECRET}", re.IGNORECASE)
_ASSIGNED = re.compile(rf"(\b{_SECRET}[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s,)]+)", re.IGNORECASE)
_ADDRESS = re.compile(r"(\w+://[^\s/:@]*:)[^\s/@]+@")
_MODES = {ms.GRAPH_MODE: "GRAPH_MODE", ms.PYNATIVE_MODE: "PYNATIVE_MODE"}


def facts_of(run: Run) -> dict[str, Any]:
    """Return what is known of a run before its first step, in plain values; what cannot be found out is left out."""
    facts: dict[str, Any] = {}
    for find in (_of_network, _of_data, _of_mode, _of_machine):
        with contextlib.suppress(Exception):  # a report is no reason to fail
            facts.update(find(run))
    return facts


def callbacks_of(run: Run) -> list[str]:
    """Return each callback of the run with its arguments, as they would be typed."""
    return [hidden(configuration(each)) for each in run.callbacks if not _is_mindspores_own(each)]


def command() -> str:
    """Return the command line of this process, with secrets hidden; `""` in a notebook."""
    if "ipykernel" in sys.modules:
        return ""
    words: list[str] = []
    for word in sys.argv:
        is_value = bool(words) and "=" not in words[-1] and _OPTION.fullmatch(words[-1]) and not word.startswith("-")
        words.append("***" if is_value else shlex.quote(word))
    return hidden(" ".join(["python", *words]))


def hidden(text: str) -> str:
    """Return a text with `***` for each value that is assigned to a name such as `api_key`."""
    return _ADDRESS.sub(r"\1***@", _ASSIGNED.sub(r"\1***", text))


def _of_network(run: Run) -> Iterator[tuple[str, Any]]:
    parts = run.parts
    network = parts.train_network if parts.found_network is None else parts.found_network
    yield "network", type(network).__name__
    sizes = [(math.prod(each.shape), each.requires_grad) for each in run.weights.values()]
    yield "parameters", sum(size for size, _ in sizes)
    yield "trainable", sum(size for size, is_trained in sizes if is_trained)
    loss = parts.loss_fn
    yield "loss_function", "" if loss is None else getattr(loss, "__name__", type(loss).__name__)
    yield "optimizer", ", ".join(type(each).__name__ for each in parts.optimizers)


def _of_data(run: Run) -> Iterator[tuple[str, Any]]:
    yield "steps", run.steps_per_epoch
    if run.metrics.dataset is not None:
        yield "valid_batches", size_of_dataset(run.metrics.dataset)


def _of_mode(run: Run) -> Iterator[tuple[str, Any]]:
    yield "mode", _MODES[ms.get_context("mode")]
    yield "device", str(ms.get_context("device_target"))
    yield "is_sinking", run.progress.is_sinking
    yield "processes", distributed.count()
    yield "parallel_mode", run.parts.parallel_mode
    if (seed := ms.get_seed()) is not None:
        yield "seed", int(seed)


def _of_machine(run: Run) -> Iterator[tuple[str, Any]]:
    versions = {
        "MindSpore": ms.__version__,
        "ms_callbacks": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
    }
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    yield "processor", processor().get("model name") or platform.processor() or platform.machine()
    yield "cores", os.cpu_count() or 1
    yield "system", platform.platform()
    yield "command", command()


def _is_mindspores_own(callback: Any) -> bool:
    """Return whether MindSpore itself has added the callback to the list."""
    return type(callback).__module__.startswith("mindspore.") and type(callback).__name__.startswith("_")
