"""What makes MindSpore slow on this machine, measured: from a step's time alone, a user cannot tell that it is slow.

Each measurement is a process of its own, for oneDNN and MindSpore read some of their settings once: one as the user has
it, and one after `fast_cpu`, in turns.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from typing import Any, Callable, Optional

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from . import cpu
from .core._output import print_line

MODES = {"graph": ms.GRAPH_MODE, "pynative": ms.PYNATIVE_MODE}

_ROUNDS = 2
_SECONDS = 0.2  # of measuring each figure; there are ten at most
_SLOW = 1.5  # times; less may be noise
_TIMEOUT = 120  # seconds; a measurement takes about five

# oneDNN's names of its bit masks; those that 2.x has otherwise are of processors rarely met.
_ISA_NAMES = {
    0x1: "SSE4.1",
    0x3: "AVX",
    0x7: "AVX2",
    0xF: "AVX2_VNNI",
    0x1F: "AVX2_VNNI_2",
    0x27: "AVX512_CORE",
    0x67: "AVX512_CORE_VNNI",
    0xE7: "AVX512_CORE_BF16",
    0x1EF: "AVX512_CORE_FP16",
    0xFEF: "AVX512_CORE_AMX",
    0x1FEF: "AVX512_CORE_AMX_FP16",
}


def doctor(mode: Optional[str]) -> int:
    """Prints what there is, what is slow and how to mend it, for training in `mode` or in MindSpore's default.

    Returns:
        The exit status: 0 when nothing is slow, 1 when something is, 2 when it could not be measured.
    """
    usual, fast = [], []
    try:
        for turn in range(_ROUNDS):
            usual.append(_run(mode, "usual"))
            if turn == 0:
                print_line("\n".join(_facts(usual[0])))
            if usual[0]["device"] != "CPU":
                print_line(
                    f"Nothing is measured: fast_cpu() is for a CPU, and this MindSpore runs on {usual[0]['device']}"
                )
                return 0
            fast.append(_run(mode, "fast"))
    except RuntimeError as error:
        print_line(f"Could not be measured: {error}")
        return 2
    figures, slow = _compare(usual, fast)
    print_line("\n".join([*figures, *(slow or ["Nothing is slow"])]))
    return 1 if slow else 0


def _run(mode: Optional[str], setup: str) -> dict[str, Any]:
    """Measures in a process of its own, in the user's environment."""
    command = [sys.executable, "-m", "ms_callbacks._doctor", json.dumps([mode, setup])]
    environment = dict(os.environ)  # as Python found it: on import, MindSpore sets OMP_NUM_THREADS behind Python's back
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no answer within {_TIMEOUT} s; is the machine busy with other work?") from None
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]  # MindSpore may print around it
    if done.returncode or not answers:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise RuntimeError(f"MindSpore ended with exit status {done.returncode} before the answer, and said:\n{said}")
    answer: dict[str, Any] = json.loads(answers[-1])
    return answer


def _facts(run: dict[str, Any]) -> list[str]:
    """The lines on what there is."""
    return [
        f"MindSpore:   {run['mindspore']} on {run['device']}, Python {run['python']}, NumPy {run['numpy']}",
        f"Processor:   {run['processor']}, {run['cores']} cores, {run['vectors'] or 'AVX2 not known of'}",
        f"oneDNN:      {run['onednn'] or 'not found among what MindSpore has loaded'}",
        f"Mode:        {run['mode']}",
        f"Threads:     {run['threads']} of MindSpore's runtime; OMP_NUM_THREADS {run['omp_threads'] or 'is not set'}",
    ]


def _compare(usual: list[dict[str, Any]], fast: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The lines on what was measured, and those on what is slow and how to mend it."""
    settings = " and ".join(fast[0]["settings"])
    as_it_is, after = [
        {name: [run[name] for run in runs] for name in ("convolution", "step", "graph_step")} for runs in (usual, fast)
    ]
    figures = [
        f"Convolution: {_ms(as_it_is['convolution'])} as it is, {_ms(after['convolution'])} after fast_cpu()"
        " (LeNet's two, 32 images)",
        f"Dispatch:    {_ms(as_it_is['step'])} as it is, {_ms(after['step'])} after fast_cpu()"
        " (a training step of a tiny network)",
    ]
    probes = {"convolution": "convolutions", "step": "dispatching small operations"}
    slower = [what for probe, what in probes.items() if _is_slow(as_it_is[probe], after[probe])]
    slow = []
    if slower and settings:  # where fast_cpu() has changed nothing, whatever differs is noise
        slow.append(f"Slow:        {' and '.join(slower)}; call ms_callbacks.cpu.fast_cpu() before the first operation")
        slow.append(f"             of your script (here it sets {settings})")
    if None not in after["graph_step"]:
        figures.append(f"GRAPH mode:  {_ms(after['graph_step'])} after fast_cpu() (the same step)")
        if _is_slow(after["step"], after["graph_step"]):
            slow.append("Slow:        small operations in PYNATIVE mode; call ms.set_context(mode=ms.GRAPH_MODE)")
    return figures, slow


def _is_slow(these: list[float], those: list[float]) -> bool:
    """Whether even the fastest of these runs is clearly slower than the slowest of those."""
    return min(these) >= _SLOW * max(those)


def _ms(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.2f} ms"


def _measure(mode: Optional[str], setup: str) -> dict[str, Any]:
    """What this process has, and on a CPU how fast it is."""
    if mode is not None:
        ms.set_context(mode=MODES[mode])
    device = ms.get_context("device_target")
    settings = cpu.fast_cpu() if setup == "fast" else {}
    seconds = _seconds(setup) if device == "CPU" else {}
    # oneDNN is asked last: a question fixes what it uses.
    return {"device": device, "settings": settings, **seconds, **_describe(mode)}


def _seconds(setup: str) -> dict[str, Optional[float]]:
    """The median seconds of each probe; that of GRAPH mode where it is another, and with fast_cpu() alone."""
    seconds = {"convolution": _median(_convolution()), "step": _median(_step())}
    if setup == "fast" and ms.get_context("mode") == ms.PYNATIVE_MODE:
        ms.set_context(mode=ms.GRAPH_MODE)
        graph_step = _median(_step())
        ms.set_context(mode=ms.PYNATIVE_MODE)
        return {**seconds, "graph_step": graph_step}
    return {**seconds, "graph_step": None}


def _convolution() -> Callable[[], object]:
    """A forward pass of LeNet's convolutions."""
    network = nn.SequentialCell(nn.Conv2d(1, 6, 5, pad_mode="valid"), nn.Conv2d(6, 16, 5, pad_mode="valid"))
    images = Tensor(np.ones((32, 1, 32, 32), np.float32))
    return lambda: network(images).asnumpy()


def _step() -> Callable[[], object]:
    """A training step whose operations are so small that it takes what dispatching them takes."""
    network = nn.SequentialCell(nn.Dense(4, 4), nn.ReLU(), nn.Dense(4, 4))
    optimizer = nn.Momentum(network.trainable_params(), 0.01, 0.9)
    step = nn.TrainOneStepCell(nn.WithLossCell(network, nn.MSELoss()), optimizer)
    batch = Tensor(np.ones((4, 4), np.float32))
    return lambda: step(batch, batch).asnumpy()


def _median(call: Callable[[], object]) -> float:
    """The median seconds of a call, after the first, which compiles."""
    call()
    seconds: list[float] = []
    end = time.perf_counter() + _SECONDS
    while not seconds or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _describe(mode: Optional[str]) -> dict[str, Any]:
    """What is printed of this process."""
    flags = cpu._processor_flags()
    vectors = [name for flag, name in [("avx2", "AVX2"), ("avx512f", "AVX-512")] if flag in flags]
    modes = {number: name for name, number in MODES.items()}
    return {
        "mindspore": ms.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "processor": cpu._processor().get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "vectors": ", ".join(vectors),
        "onednn": _onednn(),
        "mode": modes[ms.get_context("mode")].upper() + (", MindSpore's default" if mode is None else ""),
        "threads": ms.get_context("runtime_num_threads"),
        "omp_threads": os.environ.get("OMP_NUM_THREADS"),
    }


class _OneDNNVersion(ctypes.Structure):
    """The start of oneDNN's dnnl_version_t."""

    _fields_ = [("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int)]


def _onednn() -> Optional[str]:
    """The version of oneDNN and the instructions that it uses; `None` where it cannot be found."""
    library, isa = cpu._onednn(), cpu._onednn_isa()
    if library is None or isa is None:
        return None
    library.dnnl_version.restype = ctypes.POINTER(_OneDNNVersion)
    version = library.dnnl_version().contents
    name = _ISA_NAMES.get(isa, f"instructions {isa:#x}")
    limits = [f"; {each}={os.environ[each]} is set" for each in cpu._ISA_VARIABLES if os.environ.get(each)]
    return f"{version.major}.{version.minor}.{version.patch}, uses {name}{''.join(limits)}"


if __name__ == "__main__":
    print(json.dumps(_measure(*json.loads(sys.argv[1]))))
