"""MindSpore's real speed on a CPU: settings that a user has to know of, applied where they help and only there."""

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

_AVX512 = 0x20  # the bit that all of oneDNN's AVX-512 levels have
_QUEUES = {"frontend_queue", "backend_queue"}  # the threads of MindSpore's own to which PYNATIVE mode hands operations
_TOO_LATE = "too late"


def fast_cpu() -> dict[str, str]:
    """Sets up MindSpore for speed on a CPU; called once, before the first operation, in whatever mode.

    What it may do, and where:

    - MindSpore 2.9 and newer, on a processor with AVX-512: `ONEDNN_MAX_CPU_ISA=AVX2` in this process. Their oneDNN
      picks a reference kernel for convolutions on AVX-512, many times slower than the one it has for AVX2. What the
      processor has is read on Linux alone.
    - MindSpore 2.8 and newer: `mindspore.runtime.launch_blocking()`. In PYNATIVE mode, handing each operation to
      another thread costs more than a small operation takes. GRAPH mode hands none over and stays as it is, so this is
      set in either: the mode may change.

    Nothing that the user has set is changed: an environment variable that is there, or `pynative_synchronize`. On a
    GPU or Ascend it does nothing.

    Returns:
        What was done and why, by the name of the setting; empty where there was nothing to do. Where it comes too
        late, because an operation has run already, it says that instead. Each is logged under `ms_callbacks.cpu`, at
        level INFO, or WARNING where it is too late.

    Example:
        >>> done = fast_cpu()
    """
    if ms.get_context("device_target") != "CPU":
        return {}
    done = {}
    version = _version(VERSION)
    limited = any(os.environ.get(name) for name in ISA_VARIABLES)  # to oneDNN, an empty one is none
    if version >= (2, 9) and "avx512f" in processor_flags() and not limited:
        done["ONEDNN_MAX_CPU_ISA=AVX2"] = _limit_onednn()
    if version >= (2, 8) and not launches_block():
        done["launch_blocking()"] = _block_launches()
    for setting, reason in done.items():
        _log.log(logging.WARNING if reason.startswith(_TOO_LATE) else logging.INFO, "%s: %s", setting, reason)
    return done


def _limit_onednn() -> str:
    """Limits oneDNN to AVX2; returns the reason, or that it is too late."""
    os.environ[ISA_VARIABLES[0]] = "AVX2"
    if (onednn_isa() or 0) & _AVX512:
        del os.environ[ISA_VARIABLES[0]]
        return f"{_TOO_LATE}: an operation has run already; call fast_cpu() before the first, or set it in the shell"
    return f"MindSpore {VERSION} runs convolutions by a slow reference kernel on a processor with AVX-512"


def _block_launches() -> str:
    """Has operations launched where they are called; returns the reason, or that it is too late."""
    late = bool(_QUEUES & _threads())
    ms.runtime.launch_blocking()
    if late:
        # Some of MindSpore reads the setting once, at the first operation: what is left of it still helps.
        return f"{_TOO_LATE} to help in full: an operation has run already; call fast_cpu() before the first"
    return "in PYNATIVE mode, handing each operation to another thread costs more than a small operation takes"


def _threads() -> set[str]:
    """The names of this process's threads as Linux has them; none where it does not say."""
    names = set()
    for path in glob.glob("/proc/self/task/*/comm"):
        with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:  # a thread may end meanwhile
            names.add(file.read().strip())
    return names


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
