"""fast_cpu changes what helps on this machine, and nothing that the user has set."""

from __future__ import annotations

import logging
import subprocess
import sys
import types

import mindspore as ms
import pytest

from ms_callbacks import cpu


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setitem(cpu._state, "launches_block", False)
    monkeypatch.setattr(cpu, "_onednn_isa", lambda: 0x7)


def pretend(monkeypatch, version, flags):
    blocked = []
    monkeypatch.setattr(ms, "__version__", version)
    monkeypatch.setattr(cpu, "_processor_flags", lambda: set(flags))
    runtime = types.SimpleNamespace(launch_blocking=lambda: blocked.append(1))
    monkeypatch.setattr(ms, "runtime", runtime, raising=False)
    return blocked


@pytest.mark.parametrize(
    ("version", "flags", "mode", "settings"),
    [
        ("2.10.0", ["avx2", "avx512f"], ms.GRAPH_MODE, ["ONEDNN_MAX_CPU_ISA=AVX2"]),
        ("2.9.0", ["avx2", "avx512f"], ms.GRAPH_MODE, ["ONEDNN_MAX_CPU_ISA=AVX2"]),
        ("2.8.0", ["avx2", "avx512f"], ms.GRAPH_MODE, []),
        ("2.10.0", ["avx2"], ms.GRAPH_MODE, []),
        ("2.10.0", [], ms.GRAPH_MODE, []),
        ("2.10.0", ["avx512f"], ms.PYNATIVE_MODE, ["ONEDNN_MAX_CPU_ISA=AVX2", "launch_blocking()"]),
        ("2.8.0", ["avx512f"], ms.PYNATIVE_MODE, ["launch_blocking()"]),
        ("2.0.0", ["avx512f"], ms.PYNATIVE_MODE, []),
    ],
)
def test_it_changes_only_what_helps(monkeypatch, caplog, version, flags, mode, settings):
    """By version, processor and mode; what was done is returned with its reason, and logged; and done once."""
    blocked = pretend(monkeypatch, version, flags)
    ms.set_context(mode=mode)
    with caplog.at_level(logging.INFO, "ms_callbacks.cpu"):
        done = cpu.fast_cpu()
    assert list(done) == settings
    assert [record.getMessage() for record in caplog.records] == [f"{name}: {reason}" for name, reason in done.items()]
    assert len(blocked) == ("launch_blocking()" in settings)
    assert (cpu.os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2") == ("ONEDNN_MAX_CPU_ISA=AVX2" in settings)
    assert cpu.fast_cpu() == {}


def test_too_late_is_said(monkeypatch, caplog):
    """Where oneDNN has settled on AVX-512 already, nothing is claimed and nothing is left set."""
    pretend(monkeypatch, "2.10.0", ["avx512f"])
    monkeypatch.setattr(cpu, "_onednn_isa", lambda: 0x1EF)
    done = cpu.fast_cpu()
    assert list(done) == ["ONEDNN_MAX_CPU_ISA=AVX2"]
    assert done["ONEDNN_MAX_CPU_ISA=AVX2"].startswith("too late: an operation has run already")
    assert "ONEDNN_MAX_CPU_ISA" not in cpu.os.environ
    assert [record.levelname for record in caplog.records] == ["WARNING"]


ASK = """
import os
os.environ["GLOG_v"] = "3"
import mindspore as ms, numpy as np
from mindspore import nn
from ms_callbacks import cpu
cpu._processor_flags = lambda: {"avx512f"}
ms.set_context(mode=ms.GRAPH_MODE)
if LATE:
    nn.Conv2d(1, 2, 3)(ms.Tensor(np.ones((1, 1, 8, 8), np.float32))).asnumpy()
done = cpu.fast_cpu()
print(done, (cpu._onednn_isa() or 0) & 0x20)
"""


@pytest.mark.parametrize("late", [False, True])
def test_onednn_itself_is_asked(late):
    """Early, oneDNN has no AVX-512 afterwards; late, on a processor that has it, that it comes too late is said."""
    environment = {name: value for name, value in cpu.os.environ.items() if not name.endswith("MAX_CPU_ISA")}
    code = f"LATE = {late}\n{ASK}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    says, has_avx512 = done.stdout.rsplit(maxsplit=1)
    if not says.startswith("{'ONEDNN"):
        assert says == "{}"  # a MindSpore that needs no such setting
    else:
        assert ("too late" in says) == (has_avx512 != "0")
        assert late or has_avx512 == "0"


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_what_the_user_set_stays(monkeypatch, name):
    """Under either name."""
    pretend(monkeypatch, "2.10.0", ["avx512f"])
    monkeypatch.setenv(name, "AVX512_CORE")
    assert cpu.fast_cpu() == {}
    assert cpu.os.environ[name] == "AVX512_CORE"


def test_on_other_devices_it_does_nothing(monkeypatch):
    """They have no oneDNN to set up."""
    pretend(monkeypatch, "2.10.0", ["avx512f"])
    monkeypatch.setattr(ms, "get_context", lambda name: "Ascend")
    assert cpu.fast_cpu() == {}


def test_the_processors_flags_are_read_or_none():
    """A set of names on Linux, an empty set elsewhere."""
    assert all(name == name.strip() and " " not in name for name in cpu._processor_flags())
