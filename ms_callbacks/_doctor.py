"""Find out what is wrong with an installation, and measure what makes MindSpore slow on this machine.

A step's time alone does not show a user that it is slow. Each measurement runs in a process of its own, because oneDNN
and MindSpore read some of their settings only once: processes with the user's settings alternate with processes that
call `fast_cpu`. This module does not import MindSpore, so that it can report why the import fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any, Optional

from . import __version__
from .core.atomic_files import check_folder
from .core.console import print_line

__all__ = ["doctor"]

_TURNS = 2  # measurements each, as it is and after fast_cpu()
_GAIN = 1.2  # times faster; less may be noise
_TIMEOUT = 120  # seconds; a process takes about five

# What is measured: the label of its line, what is slow if it is slow, and what it does.
_PROBES = {
    "convolution": ("Convolution:", "convolutions", "LeNet's two, 32 images"),
    "step": ("Step:", "small operations", "training a tiny network in PYNATIVE mode"),
}


def doctor(mode: Optional[str], *, quick: bool = False, as_json: bool = False) -> int:
    """Print the facts, what is wrong or slow, and how to fix it; progress goes to standard error.

    Args:
        mode: "graph" or "pynative", the mode that the user trains in. `None` for MindSpore's default.
        quick: start MindSpore once and measure nothing. Default: False.
        as_json: print one JSON object instead of lines. Default: False.

    Returns:
        The exit status: 1 if something is wrong, otherwise 0.
    """
    report = _examine(mode, quick)
    print_line(json.dumps(report, indent=2, allow_nan=False) if as_json else "\n".join(_lines(report)))
    return 1 if report["problems"] else 0


def _examine(mode: Optional[str], quick: bool) -> dict[str, Any]:
    """Return everything that is reported."""
    report: dict[str, Any] = {
        "ms_callbacks": __version__,
        "facts": {},
        "milliseconds": {},
        "problems": [],
        "advice": [],
    }
    try:
        check_folder("BestCheckpoint", "best.ckpt")
    except OSError as error:
        report["problems"].append(str(error))
    try:
        usual, fast = _processes(mode, quick)
    except RuntimeError as error:
        report["problems"].append(str(error))
        return report
    report["facts"] = usual[0]["facts"]
    report["problems"] += usual[0]["problems"]
    report["milliseconds"] = _fastest(usual, fast)
    report["advice"] = _advice(report["milliseconds"], usual[0]["settings"])
    return report


def _processes(mode: Optional[str], quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the answers of the processes as it is, and of those after fast_cpu() if that can make anything faster."""
    if quick:
        return [_run(mode, "quick", "starting MindSpore")], []
    labels = {"usual": "as it is", "fast": "after fast_cpu()"}
    answers: dict[str, list[dict[str, Any]]] = {"usual": [], "fast": []}
    total, start = 2 * _TURNS, time.monotonic()
    for done, setup in enumerate(["usual", "fast"] * _TURNS):
        left = f", about {(time.monotonic() - start) / done * (total - done):.0f} s left" if done else ""
        label = f"measuring {labels[setup]} ({done + 1} of at most {total}{left})"
        answers[setup].append(_run(mode, setup, label))
        if not answers["usual"][0]["settings"]:
            break
    return answers["usual"], answers["fast"]


def _run(mode: Optional[str], setup: str, label: str) -> dict[str, Any]:
    """Return the answer of `_measure`, run in a process of its own in the user's environment."""
    command = [sys.executable, "-m", "ms_callbacks._measure", json.dumps([mode, setup])]
    print(f"doctor: {label} ... ", end="", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no answer within {_TIMEOUT} s; is the machine busy with other work?") from None
    finally:
        print(f"{time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]  # MindSpore may print too
    if done.returncode or not answers:
        said = (done.stderr or done.stdout).strip()[-2000:]
        missing = "; pip install mindspore" if "No module named 'mindspore'" in said else ""
        raise RuntimeError(f"MindSpore ended with exit status {done.returncode}{missing}. It said:\n{said}")
    answer: dict[str, Any] = json.loads(answers[-1])
    return answer


def _fastest(usual: list[dict[str, Any]], fast: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the lowest time of each probe in milliseconds, because disturbances only make a measurement longer."""
    fewest: dict[str, dict[str, float]] = {}
    for setup, answers in (("as_it_is", usual), ("after_fast_cpu", fast)):
        for probe in answers[0]["seconds"] if answers else ():
            seconds = min(answer["seconds"][probe] for answer in answers)
            fewest.setdefault(probe, {})[setup] = round(seconds * 1000, 3)
    return fewest


def _advice(milliseconds: dict[str, dict[str, float]], settings: list[str]) -> list[str]:
    """Return what makes training faster here. `settings` are those that fast_cpu() applies."""
    call = (
        f"call ms_callbacks.cpu.fast_cpu() before the first operation of your script; it sets {' and '.join(settings)}"
    )
    advice = []
    faster = [words for probe, (_, words, _) in _PROBES.items() if _gain(milliseconds.get(probe, {})) >= _GAIN]
    if faster:
        advice.append(f"for faster {' and '.join(faster)}, {call}")
    elif settings and not milliseconds:
        advice.append(f"{call} (without --quick, what that gains is measured)")
    if "graph_step" in milliseconds:
        graph_step, step = milliseconds["graph_step"]["after_fast_cpu"], milliseconds["step"]["after_fast_cpu"]
        if step >= _GAIN * graph_step:
            advice.append("for faster small operations, train in GRAPH mode: ms.set_context(mode=ms.GRAPH_MODE)")
    return advice


def _gain(figures: dict[str, float]) -> float:
    """Return how many times faster a probe is after fast_cpu(); 1 if that was not measured."""
    return figures["as_it_is"] / figures["after_fast_cpu"] if len(figures) == 2 else 1


def _lines(report: dict[str, Any]) -> list[str]:
    """Return the lines of the printed report."""
    facts = report["facts"]
    lines = [f"ms_callbacks: {report['ms_callbacks']}"]
    if facts:
        lines += [
            f"MindSpore:    {facts['mindspore']} on {facts['device']}",
            f"Python:       {facts['python']}, NumPy {facts['numpy']}",
            f"Processor:    {facts['processor']}, {facts['cores']} cores, {facts['vectors'] or 'AVX2 not known of'}",
            f"oneDNN:       {facts['onednn'] or 'not found among what MindSpore has loaded'}",
            f"Mode:         {facts['mode']}",
            f"Threads:      {facts['threads']} of MindSpore's runtime; "
            f"OMP_NUM_THREADS {facts['omp_threads'] or 'is not set'}",
        ]
    for probe, (label, _, what) in _PROBES.items():
        if probe in report["milliseconds"]:
            figures = report["milliseconds"][probe]
            after = ""
            if len(figures) == 2:
                after = f", {figures['after_fast_cpu']:.2f} ms after fast_cpu(): {_gain(figures):.1f} times as fast"
            lines.append(f"{label:<13} {figures['as_it_is']:.2f} ms as it is{after} ({what})")
    if "graph_step" in report["milliseconds"]:
        graph_step = report["milliseconds"]["graph_step"]["after_fast_cpu"]
        lines.append(f"GRAPH mode:   {graph_step:.2f} ms after fast_cpu() (the same step)")
    lines += [f"Wrong:        {problem}" for problem in report["problems"]]
    lines += [f"Advice:       {advice}" for advice in report["advice"]]
    if not report["problems"] and not report["advice"]:
        lines.append("Nothing is wrong, and nothing is slow" if report["milliseconds"] else "Nothing is wrong")
    return lines
