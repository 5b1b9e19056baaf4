"""fast_cpu changes what helps on this machine, and nothing that the user has set."""

from __future__ import annotations

import logging
import os
import types

import forked
import mindspore as ms
import pytest

from ms_callbacks import cpu


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setattr(cpu, "onednn_isa", lambda: 0x7)
    monkeypatch.setattr(cpu, "_threads", set)


def pretend(monkeypatch, version, flags):
    blocked = []
    monkeypatch.setattr(cpu, "VERSION", version)
    monkeypatch.setattr(cpu, "processor_flags", lambda: set(flags))
    monkeypatch.setattr(cpu, "launches_block", lambda: bool(blocked))
    runtime = types.SimpleNamespace(launch_blocking=lambda: blocked.append(1))
    monkeypatch.setattr(ms, "runtime", runtime, raising=False)
    return blocked


LIMIT, BLOCK = "ONEDNN_MAX_CPU_ISA=AVX2", "launch_blocking()"


@pytest.mark.parametrize(
    ("version", "flags", "settings"),
    [
        ("2.10.0", ["avx2", "avx512f"], [LIMIT, BLOCK]),
        ("2.9.0", ["avx2", "avx512f"], [LIMIT, BLOCK]),
        ("2.8.0", ["avx2", "avx512f"], [BLOCK]),
        ("2.10.0", ["avx2"], [BLOCK]),
        ("2.10.0", [], [BLOCK]),
        ("2.0.0", ["avx512f"], []),
    ],
)
def test_it_changes_only_what_helps(monkeypatch, caplog, mode, version, flags, settings):
    """By version and processor, in either mode; what was done is returned with its reason, logged, and done once."""
    blocked = pretend(monkeypatch, version, flags)
    with caplog.at_level(logging.INFO, "ms_callbacks.cpu"):
        done = cpu.fast_cpu()
    assert list(done) == settings
    assert [record.getMessage() for record in caplog.records] == [f"{name}: {reason}" for name, reason in done.items()]
    assert {record.levelname for record in caplog.records} <= {"INFO"}
    assert len(blocked) == (BLOCK in settings)
    assert (cpu.os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2") == (LIMIT in settings)
    assert cpu.fast_cpu() == {}


def test_too_late_is_said(monkeypatch, caplog):
    """Where oneDNN has settled on AVX-512 already, nothing is claimed and nothing is left set."""
    pretend(monkeypatch, "2.10.0", ["avx512f"])
    monkeypatch.setattr(cpu, "onednn_isa", lambda: 0x1EF)
    done = cpu.fast_cpu()
    assert done[LIMIT].startswith("too late: an operation has run already")
    assert "ONEDNN_MAX_CPU_ISA" not in cpu.os.environ
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("queue", ["frontend_queue", "backend_queue"])
def test_launches_that_block_too_late_are_said(monkeypatch, caplog, queue):
    """Where MindSpore's threads for PYNATIVE mode run already, the setting helps in part: made, with a warning."""
    blocked = pretend(monkeypatch, "2.10.0", [])
    monkeypatch.setattr(cpu, "_threads", lambda: {"python", queue})
    assert cpu.fast_cpu()[BLOCK].startswith("too late to help in full: an operation has run already")
    assert blocked
    assert [record.levelname for record in caplog.records] == ["WARNING"]


ASK = """
import os
os.environ["GLOG_v"] = "3"
import mindspore as ms, numpy as np
from mindspore import nn
from ms_callbacks import cpu
cpu.processor_flags = lambda: {"avx512f"}
ms.set_context(mode=ms.GRAPH_MODE)
if LATE:
    nn.Conv2d(1, 2, 3)(ms.Tensor(np.ones((1, 1, 8, 8), np.float32))).asnumpy()
done = cpu.fast_cpu()
print(done.get("ONEDNN_MAX_CPU_ISA=AVX2"), (cpu.onednn_isa() or 0) & 0x20)
"""


@pytest.mark.parametrize("late", [False, True])
def test_onednn_itself_is_asked(late, tmp_path):
    """Early, oneDNN has no AVX-512 afterwards; late, on a processor that has it, that it comes too late is said."""
    environment = {name: value for name, value in cpu.os.environ.items() if not name.endswith("MAX_CPU_ISA")}
    code = f"LATE = {late}\n{ASK}"
    done = forked.run(code, folder=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    says, has_avx512 = done.stdout.rsplit(maxsplit=1)
    if says != "None":  # on a MindSpore that needs the setting
        assert ("too late" in says) == (has_avx512 != "0")
        assert late or has_avx512 == "0"


ASK_MINDSPORE = """
import os
os.environ["GLOG_v"] = "3"
import mindspore as ms, numpy as np
from mindspore import ops
from ms_callbacks import cpu
one = ms.Tensor(np.ones((2, 2), np.float32))
if SET:
    ms.runtime.launch_blocking()
if LATE:
    ms.set_context(mode=LATE - 1)
    ops.add(one, one).asnumpy()
print(cpu.fast_cpu().get("launch_blocking()"), cpu.launches_block(), cpu.fast_cpu())
"""


@pytest.mark.skipif(not hasattr(ms, "runtime"), reason="this MindSpore has nothing to set")
@pytest.mark.parametrize(
    ("late", "already_set", "says"),
    [
        (None, False, "in PYNATIVE mode, passing"),
        (None, True, "None"),
        (ms.GRAPH_MODE, False, "in PYNATIVE mode, passing"),
        pytest.param(
            ms.PYNATIVE_MODE,
            False,
            "too late to help in full",
            marks=pytest.mark.skipif(
                not os.path.exists("/proc/self/task"), reason="threads are told of on Linux alone"
            ),
        ),
    ],
)
def test_mindspore_itself_is_asked(late, already_set, says, tmp_path):
    """Whether launches block, and whether operations were handed to its threads already; as GRAPH mode never does."""
    code = f"LATE = {0 if late is None else late + 1}\nSET = {already_set}\n{ASK_MINDSPORE}"
    environment = {**cpu.os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = forked.run(code, folder=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(says)
    assert done.stdout.endswith(" True {}\n")


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_what_the_user_set_stays(monkeypatch, name):
    """Under either name."""
    pretend(monkeypatch, "2.10.0", ["avx512f"])
    monkeypatch.setenv(name, "AVX512_CORE")
    assert LIMIT not in cpu.fast_cpu()
    assert cpu.os.environ[name] == "AVX512_CORE"


def test_an_empty_variable_is_none(monkeypatch):
    """As it is to oneDNN."""
    pretend(monkeypatch, "2.10.0", ["avx512f"])
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "")
    assert LIMIT in cpu.fast_cpu()


def test_on_other_devices_it_does_nothing(monkeypatch):
    """They have no oneDNN to set up."""
    pretend(monkeypatch, "2.10.0", ["avx512f"])
    monkeypatch.setattr(ms, "get_context", lambda name: "Ascend")
    assert cpu.fast_cpu() == {}
