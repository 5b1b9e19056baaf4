"""MindSpore's real speed on a CPU: settings that a user has to know of, applied where they help and only there."""

from __future__ import annotations

import ctypes
import logging
import os
from typing import Any, Optional

import mindspore as ms

__all__ = ["fast_cpu"]

_log = logging.getLogger("ms_callbacks.cpu")

# oneDNN reads the first of these, and the second is its name of old.
_ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_AVX512 = 0x20  # the bit that all of oneDNN's AVX-512 levels have
_TOO_LATE = "too late"
_state = {"launches_block": False}


def fast_cpu() -> dict[str, str]:
    """Sets up MindSpore for speed on a CPU; called once, before the first operation.

    What it may do, and where:

    - MindSpore 2.9 and newer, on a processor with AVX-512: `ONEDNN_MAX_CPU_ISA=AVX2` in this process. Their oneDNN
      picks a reference kernel for convolutions on AVX-512, many times slower than the one it has for AVX2.
    - MindSpore 2.8 and newer, in PYNATIVE mode: `mindspore.runtime.launch_blocking()`. Dispatching each operation to
      another thread costs more than a small operation takes.

    Nothing that the user has set is changed: an environment variable that is there, or `pynative_synchronize`. On a
    GPU or Ascend it does nothing. Call it after setting the mode.

    Returns:
        What was done and why, by the name of the setting; empty where there was nothing to mend. Where it comes too
        late, because an operation has run already, it says that instead. Each is logged under `ms_callbacks.cpu`, at
        level INFO, or WARNING where it is too late.

    Example:
        >>> ms.set_context(mode=ms.GRAPH_MODE)
        >>> done = fast_cpu()
    """
    if ms.get_context("device_target") != "CPU":
        return {}
    done = {}
    version = _version(ms.__version__)
    if version >= (2, 9) and "avx512f" in _processor_flags() and not any(name in os.environ for name in _ISA_VARIABLES):
        done["ONEDNN_MAX_CPU_ISA=AVX2"] = _limit_onednn()
    if version >= (2, 8) and ms.get_context("mode") == ms.PYNATIVE_MODE and not _launches_block():
        ms.runtime.launch_blocking()
        _state["launches_block"] = True
        done["launch_blocking()"] = (
            "in PYNATIVE mode, handing each operation to another thread costs more than a small operation takes"
        )
    for setting, reason in done.items():
        _log.log(logging.WARNING if reason.startswith(_TOO_LATE) else logging.INFO, "%s: %s", setting, reason)
    return done


def _limit_onednn() -> str:
    """Limits oneDNN to AVX2; returns the reason, or that it is too late."""
    os.environ[_ISA_VARIABLES[0]] = "AVX2"
    if (_onednn_isa() or 0) & _AVX512:
        del os.environ[_ISA_VARIABLES[0]]
        return f"{_TOO_LATE}: an operation has run already; call fast_cpu() before the first, or set it in the shell"
    return f"MindSpore {ms.__version__} runs convolutions by a slow reference kernel on a processor with AVX-512"


def _onednn_isa() -> Optional[int]:
    """The instructions that oneDNN uses from now on, as its bit mask; `None` where it cannot be asked.

    oneDNN reads its variable when it is first asked or used, and then never again.
    """
    try:
        with open("/proc/self/maps", encoding="utf-8") as file:
            paths = [line.split()[-1] for line in file if "libdnnl.so" in line]
    except OSError:
        return None
    ask = getattr(ctypes.CDLL(paths[0]), "dnnl_get_effective_cpu_isa", None) if paths else None
    return None if ask is None else int(ask())


def _launches_block() -> bool:
    # MindSpore tells of its old setting for this, but not of the new one.
    return _state["launches_block"] or bool(ms.get_context("pynative_synchronize"))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _processor_flags() -> set[str]:
    """The processor's features as Linux names them; none where it does not say."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines: list[Any] = [line for line in file if line.startswith("flags")]
    except OSError:
        return set()
    return set(lines[0].partition(":")[2].split()) if lines else set()
