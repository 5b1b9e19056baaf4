"""What was run and where, for a report: the parts of the run, the machine, the versions, and the command.

Environment variables are never read, and arguments that may hold a secret are hidden.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
from collections.abc import Iterator
from typing import Any

import mindspore as ms
import numpy as np

from .. import __version__
from ..core import distributed
from ..core.configuration import configuration
from ..core.machine import processor
from ..core.mindspore_compat import VERSION, size_of_dataset
from ..core.run import Run
from ._report_html import Markup, both, mark_up, name
from ._secrets import command, hidden

__all__ = ["callbacks_of", "facts_of", "facts_section"]

_ORDER = (
    "network parameters loss_function optimizer train_data valid_data mode processes seed versions processor system "
    "command started ended"
).split()
_MODES = {ms.GRAPH_MODE: "GRAPH_MODE", ms.PYNATIVE_MODE: "PYNATIVE_MODE"}


def facts_of(run: Run) -> dict[str, Any]:
    """Return what is known of a run before its first step, in plain values; what cannot be found out is left out."""
    facts: dict[str, Any] = {}
    for find in (_of_network, _of_data, _of_mode, _of_machine):
        with contextlib.suppress(Exception):  # a report is no reason to fail
            facts.update(find(run))
    return facts


def facts_section(
    facts: dict[str, Any], epochs: list[dict[str, Any]], steps: int, started_at: str, ended_at: str
) -> Markup:
    """Return the facts as a table, with the size of the training data and the time of the run."""
    samples = next((row["samples"] for row in reversed(epochs) if row["steps"] == steps), None)
    train_data = both("steps_only", steps=f"{steps:,}")
    if samples:
        train_data = both("samples_and_steps", samples=f"{samples:,}", steps=f"{steps:,}")
    shown = {**_shown(facts), "train_data": train_data, "started": name(started_at), "ended": name(ended_at)}
    rows = [(key, shown[key]) for key in _ORDER if key in shown]
    lines = "".join(f'<tr><th scope="row">{both(key)}</th><td>{mark_up(value)}</td></tr>' for key, value in rows)
    return Markup(
        f'<section><h2 id="run">{both("run")}</h2><div class="box"><table class="facts" aria-labelledby="run">'
        f"<tbody>{lines}</tbody></table></div></section>"
    )


def _shown(facts: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {key: name(facts[key]) for key in ("network", "versions", "system", "seed") if key in facts}
    if "parameters" in facts:
        whole, trained = f"{facts['parameters']:,}", f"{facts['trainable']:,}"
        shown["parameters"] = whole if whole == trained else both("trainable_of", all=whole, trainable=trained)
    if "loss_function" in facts:
        shown["loss_function"] = name(facts["loss_function"]) if facts["loss_function"] else both("own_loss")
    if facts.get("optimizer"):
        shown["optimizer"] = name(facts["optimizer"])
    if "valid_batches" in facts:
        shown["valid_data"] = both("batches", count=f"{facts['valid_batches']:,}")
    if "is_sinking" in facts:
        shown["mode"] = both("sinking" if facts["is_sinking"] else "not_sinking", **_among(facts, "mode", "device"))
    if facts.get("processes", 1) > 1:
        shown["processes"] = both("processes_in", count=facts["processes"], mode=facts["parallel_mode"])
    if "processor" in facts:
        shown["processor"] = both("cores", name=name(facts["processor"]), count=facts["cores"])
    if "command" in facts:
        shown["command"] = Markup(f"<code>{name(facts['command'])}</code>") if facts["command"] else both("in_notebook")
    return shown


def _among(facts: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: facts[key] for key in keys}


def callbacks_of(run: Run) -> list[str]:
    """Return each callback of the run with its arguments, as they would be typed."""
    return [hidden(configuration(each)) for each in run.callbacks if not _is_mindspores_own(each)]


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
        "MindSpore": VERSION,
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
