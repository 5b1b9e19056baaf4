"""Report what a MindSpore process has and how fast it is, as JSON for the doctor: `python -m ms_callbacks._measure`."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import statistics
import sys
import time
from typing import Any, Callable, Optional

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from . import cpu
from .core.machine import ISA_VARIABLES, onednn, onednn_isa, processor, processor_flags
from .core.mindspore_compat import VERSION, numpy_mismatch

_MODES = {"graph": ms.GRAPH_MODE, "pynative": ms.PYNATIVE_MODE}

_SECONDS = 0.2  # the time to measure each probe

# oneDNN's names of its bit masks; others that 2.x has are of rare processors.
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


def measure(mode: Optional[str], setup: str) -> dict[str, Any]:
    """Return what this process has, what is wrong with it and, on a CPU, how fast it is.

    Args:
        mode: "graph" or "pynative". `None` for MindSpore's default.
        setup: "usual", the current settings; "fast", after fast_cpu(); "quick", the current settings without measuring.
    """
    if mode is not None:
        ms.set_context(mode=_MODES[mode])
    device = ms.get_context("device_target")
    done = cpu.fast_cpu() if setup == "fast" else {}
    seconds = _seconds(setup) if device == "CPU" and setup != "quick" else {}
    facts = {"device": device, **_describe(mode)}  # queries oneDNN, which fixes its settings
    if setup != "fast":
        done = cpu.fast_cpu()  # to learn what it sets here; for this process it is too late
    is_pynative = ms.get_context("mode") == ms.PYNATIVE_MODE
    mismatch = numpy_mismatch()
    return {
        "facts": facts,
        "settings": [setting for setting in done if is_pynative or setting != "launch_blocking()"],
        "seconds": seconds,
        "problems": [mismatch] if mismatch else [],
    }


def _seconds(setup: str) -> dict[str, float]:
    """Return the median seconds of each probe; GRAPH mode's, if the mode differs, only with fast_cpu()."""
    seconds = {"convolution": _median(_convolution())}
    if ms.get_context("mode") == ms.PYNATIVE_MODE:  # GRAPH mode launches whole steps: fast_cpu() changes nothing
        seconds["step"] = _median(_step())
        if setup == "fast":
            ms.set_context(mode=ms.GRAPH_MODE)
            seconds["graph_step"] = _median(_step())
            ms.set_context(mode=ms.PYNATIVE_MODE)
    return seconds


def _convolution() -> Callable[[], object]:
    """Run a forward pass of LeNet's convolutions."""
    network = nn.SequentialCell(nn.Conv2d(1, 6, 5, pad_mode="valid"), nn.Conv2d(6, 16, 5, pad_mode="valid"))
    images = Tensor(np.ones((32, 1, 32, 32), np.float32))
    return lambda: network(images).asnumpy()


def _step() -> Callable[[], object]:
    """Run a training step whose operations are so small that dispatching them dominates."""
    network = nn.SequentialCell(nn.Dense(4, 4), nn.ReLU(), nn.Dense(4, 4))
    optimizer = nn.Momentum(network.trainable_params(), 0.01, 0.9)
    step = nn.TrainOneStepCell(nn.WithLossCell(network, nn.MSELoss()), optimizer)
    batch = Tensor(np.ones((4, 4), np.float32))
    return lambda: step(batch, batch).asnumpy()


def _median(call: Callable[[], object]) -> float:
    """Return the median seconds of a call, without the first, which compiles."""
    call()
    seconds: list[float] = []
    end = time.perf_counter() + _SECONDS
    while not seconds or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _describe(mode: Optional[str]) -> dict[str, Any]:
    """Return the facts about this process."""
    flags = processor_flags()
    vectors = [name for flag, name in [("avx2", "AVX2"), ("avx512f", "AVX-512")] if flag in flags]
    modes = {number: name for name, number in _MODES.items()}
    return {
        "mindspore": VERSION,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "processor": processor().get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "vectors": ", ".join(vectors),
        "onednn": _onednn(),
        "mode": modes[ms.get_context("mode")].upper() + (", MindSpore's default" if mode is None else ""),
        "threads": ms.get_context("runtime_num_threads"),
        "omp_threads": os.environ.get("OMP_NUM_THREADS"),
    }


class _OneDNNVersion(ctypes.Structure):
    """The first fields of oneDNN's dnnl_version_t."""

    _fields_ = [("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int)]


def _onednn() -> Optional[str]:
    """Return the version of oneDNN and the instructions that it uses; `None` if oneDNN cannot be found."""
    library, isa = onednn(), onednn_isa()
    if library is None or isa is None:
        return None
    library.dnnl_version.restype = ctypes.POINTER(_OneDNNVersion)
    version = library.dnnl_version().contents
    name = _ISA_NAMES.get(isa, f"instructions {isa:#x}")
    limits = [f"; {each}={os.environ[each]} is set" for each in ISA_VARIABLES if os.environ.get(each)]
    return f"{version.major}.{version.minor}.{version.patch}, uses {name}{''.join(limits)}"


if __name__ == "__main__":
    print(json.dumps(measure(*json.loads(sys.argv[1]))))
