"""What the processor can do, and the oneDNN that MindSpore has loaded."""

from __future__ import annotations

import ctypes
from typing import Optional

__all__ = ["ISA_VARIABLES", "onednn", "onednn_isa", "processor", "processor_flags"]

# oneDNN reads the first of these, and the second is its name of old.
ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def onednn_isa() -> Optional[int]:
    """The instructions that oneDNN uses from now on, as its bit mask; `None` where it cannot be asked.

    oneDNN reads its variable when it is first asked or used, and then never again.
    """
    ask = getattr(onednn(), "dnnl_get_effective_cpu_isa", None)
    return None if ask is None else int(ask())


def onednn() -> Optional[ctypes.CDLL]:
    """The oneDNN that MindSpore has loaded, which it does on import; `None` where it cannot be found."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as file:
            # The path is the sixth column, and may have spaces in it.
            paths = [line.rstrip("\n").split(maxsplit=5)[5] for line in file if "libdnnl.so" in line]
        return ctypes.CDLL(paths[0]) if paths else None
    except OSError:  # no Linux, or the file has been replaced since
        return None


def processor_flags() -> set[str]:
    """The processor's features as Linux names them; none where it does not say."""
    return set(processor().get("flags", "").split())


def processor() -> dict[str, str]:
    """What Linux says of the first processor; nothing where it does not say."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            first = file.read().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
