"""MindSpore's real speed on a CPU: settings that a user has to know of, applied where they help and only there."""

from __future__ import annotations

import logging
import os
from typing import Any

import mindspore as ms

__all__ = ["fast_cpu"]

_log = logging.getLogger("ms_callbacks.cpu")

# oneDNN reads the first of these, and the second is its name of old.
_ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def fast_cpu() -> dict[str, str]:
    """Sets up MindSpore for speed on a CPU; called once, before the first operation.

    What it may do, and where:

    - MindSpore 2.9 and newer, on a processor with AVX-512: `ONEDNN_MAX_CPU_ISA=AVX2` in this process. Their oneDNN
      picks a reference kernel for convolutions on AVX-512, many times slower than the one it has for AVX2.
    - MindSpore 2.8 and newer, in PYNATIVE mode: `pynative_synchronize=True`. Dispatching each operation to another
      thread costs more than a small operation takes.

    Nothing that the user has set is changed: an environment variable that is there, or a `pynative_synchronize` that
    is on. On a GPU or Ascend it does nothing. Call it again after changing the mode; GRAPH mode needs only the first.

    Returns:
        What was done and why, by the name of the setting; empty where there was nothing to mend. Each is logged at
        level INFO under `ms_callbacks.cpu`, too.

    Example:
        >>> done = fast_cpu()
        >>> ms.set_context(mode=ms.GRAPH_MODE)
    """
    if ms.get_context("device_target") != "CPU":
        return {}
    done = {}
    version = _version(ms.__version__)
    if version >= (2, 9) and "avx512f" in _processor_flags() and not any(name in os.environ for name in _ISA_VARIABLES):
        os.environ[_ISA_VARIABLES[0]] = "AVX2"
        done["ONEDNN_MAX_CPU_ISA=AVX2"] = (
            f"MindSpore {ms.__version__} runs convolutions by a slow reference kernel on a processor with AVX-512"
        )
    if version >= (2, 8) and ms.get_context("mode") == ms.PYNATIVE_MODE and not ms.get_context("pynative_synchronize"):
        ms.set_context(pynative_synchronize=True)
        done["pynative_synchronize=True"] = (
            "in PYNATIVE mode, handing each operation to another thread costs more than a small operation takes"
        )
    for setting, reason in done.items():
        _log.info("%s: %s", setting, reason)
    return done


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
