"""fast_cpu changes what helps on this machine, and nothing that the user has set."""

from __future__ import annotations

import logging

import mindspore as ms
import pytest

from ms_callbacks import cpu


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    synchronize = ms.get_context("pynative_synchronize")
    ms.set_context(pynative_synchronize=False)
    yield
    ms.set_context(pynative_synchronize=synchronize)


def pretend(monkeypatch, version, flags):
    monkeypatch.setattr(ms, "__version__", version)
    monkeypatch.setattr(cpu, "_processor_flags", lambda: set(flags))


@pytest.mark.parametrize(
    ("version", "flags", "mode", "settings"),
    [
        ("2.10.0", ["avx2", "avx512f"], ms.GRAPH_MODE, ["ONEDNN_MAX_CPU_ISA=AVX2"]),
        ("2.9.0", ["avx2", "avx512f"], ms.GRAPH_MODE, ["ONEDNN_MAX_CPU_ISA=AVX2"]),
        ("2.8.0", ["avx2", "avx512f"], ms.GRAPH_MODE, []),
        ("2.10.0", ["avx2"], ms.GRAPH_MODE, []),
        ("2.10.0", [], ms.GRAPH_MODE, []),
        ("2.10.0", ["avx512f"], ms.PYNATIVE_MODE, ["ONEDNN_MAX_CPU_ISA=AVX2", "pynative_synchronize=True"]),
        ("2.8.0", ["avx512f"], ms.PYNATIVE_MODE, ["pynative_synchronize=True"]),
        ("2.0.0", ["avx512f"], ms.PYNATIVE_MODE, []),
    ],
)
def test_it_changes_only_what_helps(monkeypatch, caplog, version, flags, mode, settings):
    """By version, processor and mode; what was done is returned with its reason, and logged."""
    pretend(monkeypatch, version, flags)
    ms.set_context(mode=mode)
    with caplog.at_level(logging.INFO, "ms_callbacks.cpu"):
        done = cpu.fast_cpu()
    assert list(done) == settings
    assert [record.getMessage() for record in caplog.records] == [f"{name}: {reason}" for name, reason in done.items()]
    assert ms.get_context("pynative_synchronize") == ("pynative_synchronize=True" in settings)
    assert (cpu.os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2") == ("ONEDNN_MAX_CPU_ISA=AVX2" in settings)
    assert cpu.fast_cpu() == {}


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
