"""MindSpore at full speed on a CPU: settings that are easy to miss, applied only where they help."""

from __future__ import annotations

import contextlib
import glob
import logging
import os

import mindspore as ms

from .core.machine import ISA_VARIABLES, onednn_isa, processor_flags
from .core.mindspore_compat import VERSION, launches_block

__all__ = ["fast_cpu"]

_log = logging.getLogger("ms_callbacks").getChild("cpu")
_log.parent = logging.getLogger()  # not `ms_callbacks`, which prints

_AVX512 = 0x20  # the bit common to all of oneDNN's AVX-512 levels
_QUEUES = {"frontend_queue", "backend_queue"}  # MindSpore's threads that execute operations in PYNATIVE mode
_TOO_LATE = "too late"


def fast_cpu() -> dict[str, str]:
    """Set up MindSpore for speed on a CPU; call it once, before the first operation, in any mode.

    It sets, as needed:

    - MindSpore 2.9 and newer, on a processor with AVX-512: `ONEDNN_MAX_CPU_ISA=AVX2` in this process. On AVX-512 their
      oneDNN picks a reference kernel for convolutions that is many times slower than its AVX2 kernel. The processor's
      features are only read on Linux.
    - MindSpore 2.8 and newer: `mindspore.runtime.launch_blocking()`. In PYNATIVE mode, passing each operation to
      another thread costs more than a small operation itself. GRAPH mode passes on no operations and is unaffected, so
      this is set in both modes, because the mode may change.

    Settings made by the user are not changed: an existing environment variable, or `pynative_synchronize`. On a GPU or
    Ascend it does nothing.

    Returns:
        What was done and why, by the name of the setting; empty if there was nothing to do. If it is too late, because
        an operation has already run, the value says so instead. Each entry is logged under `ms_callbacks.cpu`, at level
        INFO, or WARNING if it is too late.

    Example:
        >>> done = fast_cpu()
    """
    if ms.get_context("device_target") != "CPU":
        return {}
    done = {}
    version = _version(VERSION)
    limited = any(os.environ.get(name) for name in ISA_VARIABLES)  # oneDNN ignores an empty one
    if version >= (2, 9) and "avx512f" in processor_flags() and not limited:
        done["ONEDNN_MAX_CPU_ISA=AVX2"] = _limit_onednn()
    if version >= (2, 8) and not launches_block():
        done["launch_blocking()"] = _block_launches()
    for setting, reason in done.items():
        _log.log(logging.WARNING if reason.startswith(_TOO_LATE) else logging.INFO, "%s: %s", setting, reason)
    return done


def _limit_onednn() -> str:
    """Limit oneDNN to AVX2; return the reason, or that it is too late."""
    os.environ[ISA_VARIABLES[0]] = "AVX2"
    if (onednn_isa() or 0) & _AVX512:
        del os.environ[ISA_VARIABLES[0]]
        return f"{_TOO_LATE}: an operation has run already; call fast_cpu() before the first, or set it in the shell"
    return f"MindSpore {VERSION} runs convolutions with a slow reference kernel on a processor with AVX-512"


def _block_launches() -> str:
    """Have operations launched where they are called; return the reason, or that it is too late."""
    late = bool(_QUEUES & _threads())
    ms.runtime.launch_blocking()
    if late:
        # Some parts of MindSpore read the setting only once, at the first operation; for the others it still helps.
        return f"{_TOO_LATE} to help in full: an operation has run already; call fast_cpu() before the first"
    return "in PYNATIVE mode, passing each operation to another thread costs more than a small operation itself"


def _threads() -> set[str]:
    """Return the names of this process's threads on Linux; empty elsewhere."""
    names = set()
    for path in glob.glob("/proc/self/task/*/comm"):
        with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:  # a thread may end in the meantime
            names.add(file.read().strip())
    return names


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
