"""The doctor says what is slow where it was measured to be, how to mend it, and nothing else."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

from ms_callbacks import __main__, _doctor, cpu

ROOT = pathlib.Path(__file__).parent.parent

FACTS = {
    "mindspore": "2.10.0",
    "device": "CPU",
    "python": "3.11.7",
    "numpy": "1.26.4",
    "processor": "A Processor",
    "cores": 2,
    "vectors": "AVX2, AVX-512",
    "onednn": "3.10.1, uses AVX512_CORE_FP16",
    "mode": "GRAPH",
    "threads": 2,
    "omp_threads": None,
}
LIMIT, BLOCK = "ONEDNN_MAX_CPU_ISA=AVX2", "launch_blocking()"
FAST_CPU = "ms_callbacks.cpu.fast_cpu()"
GRAPH = "ms.set_context(mode=ms.GRAPH_MODE)"


def run(convolution=0.001, step=0.001, graph_step=None, settings=(), **facts):
    """What one measurement answers."""
    figures = {"convolution": convolution, "step": step, "graph_step": graph_step}
    return {**FACTS, **figures, "settings": dict.fromkeys(settings, "why"), **facts}


@pytest.fixture
def script(monkeypatch):
    """Has the measurements answer what is written down for them, in turns: as it is, fast, as it is, fast."""

    def write(*answers):
        left = list(answers)
        asked = []

        def answer(mode, setup):
            asked.append((mode, setup))
            return left.pop(0)

        monkeypatch.setattr(_doctor, "_run", answer)
        return asked

    return write


@pytest.mark.parametrize(
    ("usual", "fast", "slow"),
    [
        ({"convolution": 0.025}, {"settings": [LIMIT]}, ["convolutions", FAST_CPU, LIMIT]),
        ({"step": 0.1}, {"settings": [BLOCK]}, ["dispatching small operations", FAST_CPU, BLOCK]),
        ({"convolution": 0.0014}, {"settings": [LIMIT, BLOCK]}, []),
        ({}, {"settings": [LIMIT, BLOCK]}, []),
        # Where fast_cpu() has set nothing, a difference is noise.
        ({"convolution": 0.025, "step": 0.1}, {"settings": []}, []),
        ({"mode": "PYNATIVE"}, {"step": 0.006, "graph_step": 0.0005}, [GRAPH]),
        ({"mode": "PYNATIVE"}, {"step": 0.001, "graph_step": 0.0009}, []),
    ],
)
def test_it_says_what_is_slow_and_how_to_mend_it(script, capsys, usual, fast, slow):
    """Only what was measured to be, and the exit status tells the same."""
    script(run(**usual), run(**fast), run(**usual), run(**fast))
    assert _doctor.doctor(None) == bool(slow)
    printed = capsys.readouterr().out
    assert ("Nothing is slow" in printed) == (not slow)
    said = printed.partition("Slow: ")[2]
    assert all(each in said for each in slow)
    assert [each for each in (FAST_CPU, GRAPH) if each in printed] == [
        each for each in (FAST_CPU, GRAPH) if each in slow
    ]
    assert len(printed.splitlines()) <= 12


def test_one_slow_run_is_noise(script, capsys):
    """Both have to be slower than either of those that fast_cpu() has set up."""
    script(run(convolution=0.025), run(settings=[LIMIT]), run(convolution=0.001), run(settings=[LIMIT]))
    assert _doctor.doctor(None) == 0
    script(run(step=0.02), run(settings=[BLOCK]), run(step=0.02), run(step=0.02, settings=[BLOCK]))
    assert _doctor.doctor(None) == 0


def test_it_says_what_there_is(script, capsys):
    """Versions, instructions, processor, mode and threads; and what cannot be found, in its line."""
    script(*[run()] * 4)
    _doctor.doctor("graph")
    printed = capsys.readouterr().out
    assert all(str(value) in printed for name, value in FACTS.items() if name != "omp_threads")
    assert "OMP_NUM_THREADS is not set" in printed
    script(*[run(onednn=None, vectors="", omp_threads="4")] * 4)
    assert _doctor.doctor("graph") == 0
    printed = capsys.readouterr().out
    assert re.search("oneDNN: +not found", printed)
    assert "OMP_NUM_THREADS 4" in printed


def test_it_measures_in_turns_in_the_mode_asked_for(script):
    """As it is and fast, twice, so that a busy minute of the machine meets both."""
    asked = script(*[run()] * 4)
    assert __main__.main(["doctor", "--mode", "pynative"]) == 0
    assert asked == [("pynative", "usual"), ("pynative", "fast")] * 2
    asked = script(*[run()] * 4)
    assert __main__.main(["doctor"]) == 0
    assert asked[0] == (None, "usual")


@pytest.mark.parametrize("device", ["GPU", "Ascend"])
def test_on_other_devices_nothing_is_measured(script, capsys, device):
    """It says so; nothing is wrong."""
    script({**FACTS, "device": device, "settings": {}})
    assert _doctor.doctor(None) == 0
    assert (
        f"Nothing is measured: fast_cpu() is for a CPU, and this MindSpore runs on {device}" in capsys.readouterr().out
    )


def test_what_fails_is_said(monkeypatch, capsys):
    """With what MindSpore said of it, and a status of its own."""
    failing = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback\nTypeError: no such operator")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failing)
    assert _doctor.doctor(None) == 2
    printed = capsys.readouterr().out
    assert "Could not be measured: MindSpore ended with exit status 1" in printed
    assert "TypeError: no such operator" in printed

    def late(*_, **__):
        raise subprocess.TimeoutExpired([], 120)

    monkeypatch.setattr(subprocess, "run", late)
    assert _doctor.doctor(None) == 2
    assert "no answer within 120 s; is the machine busy" in capsys.readouterr().out


def test_the_command_runs():
    """It finds the oneDNN of the MindSpore at hand, heeds the user's variables, and says what it has measured."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict.fromkeys(cpu._ISA_VARIABLES, "AVX2")}
    command = [sys.executable, "-W", "error:::ms_callbacks", "-m", "ms_callbacks", "doctor", "--mode", "graph"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    for each in ("MindSpore: ", "Processor: ", "oneDNN: ", "Mode: +GRAPH", "Threads: ", "Convolution: ", "Dispatch: "):
        assert re.search(f"^{each}", done.stdout, re.MULTILINE), done.stdout
    assert (done.returncode == 0) == ("Nothing is slow" in done.stdout)
    assert len(re.findall(r"[0-9.]+ ms", done.stdout)) == 4
    if cpu._onednn() is not None:
        assert re.search(r"oneDNN: +[0-9]+\.[0-9]+\.[0-9]+, uses ", done.stdout)
        assert "AVX512" not in done.stdout
        assert "ONEDNN_MAX_CPU_ISA=AVX2 is set" in done.stdout


def test_a_wrong_mode_is_refused(capsys):
    """With the modes that there are."""
    with pytest.raises(SystemExit) as ended:
        __main__.main(["doctor", "--mode", "fast"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "fast" in said
    assert "graph" in said
    assert "pynative" in said


def test_the_help_tells_of_the_exit_status(capsys):
    """For those who call it in a script."""
    with pytest.raises(SystemExit):
        __main__.main(["doctor", "--help"])
    assert "0 when nothing is slow, 1 when something is, 2 when it" in " ".join(capsys.readouterr().out.split())
