"""The doctor says what is wrong, what was measured to be slow and what to do about it, and nothing else."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from ms_callbacks import __main__, __version__, _doctor
from ms_callbacks.core import machine
from ms_callbacks.core.mindspore_compat import numpy_mismatch

ROOT = pathlib.Path(__file__).parents[2]

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


def answer(*settings, problems=(), facts=None, **seconds):
    """What one process answers."""
    return {
        "facts": {**FACTS, **(facts or {})},
        "settings": list(settings),
        "seconds": seconds,
        "problems": list(problems),
    }


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Has the processes answer what is written down for them, in turns: as it is, fast, as it is, fast."""
    monkeypatch.chdir(tmp_path)

    def write(*answers):
        left = list(answers)
        asked = []

        def run(mode, setup, label):
            asked.append((mode, setup))
            return left.pop(0)

        monkeypatch.setattr(_doctor, "_run", run)
        return asked

    return write


@pytest.mark.parametrize(
    ("usual", "fast", "advised"),
    [
        ({"convolution": 0.025}, {"convolution": 0.001}, ["faster convolutions,", FAST_CPU]),
        ({"convolution": 0.0012}, {"convolution": 0.001}, ["faster convolutions,", FAST_CPU]),
        ({"convolution": 0.00119}, {"convolution": 0.001}, []),
        ({"convolution": 0.001}, {"convolution": 0.001}, []),
        ({"convolution": 0.001}, {"convolution": 0.002}, []),
        (
            {"convolution": 0.001, "step": 0.1},
            {"convolution": 0.001, "step": 0.01, "graph_step": 0.01},
            ["faster small operations,", FAST_CPU],
        ),
        (
            {"convolution": 0.003, "step": 0.1},
            {"convolution": 0.001, "step": 0.01, "graph_step": 0.001},
            ["faster convolutions and small operations,", FAST_CPU, GRAPH],
        ),
        (
            {"convolution": 0.001, "step": 0.01},
            {"convolution": 0.001, "step": 0.01, "graph_step": 0.001},
            ["faster small operations,", GRAPH],
        ),
    ],
)
def test_it_advises_what_its_own_figures_show(script, capsys, usual, fast, advised):
    """A gain that is printed is a gain that is recommended; slow is not wrong."""
    script(*[answer(LIMIT, BLOCK, **usual), answer(LIMIT, BLOCK, **fast)] * 2)
    assert _doctor.doctor(None) == 0
    printed = capsys.readouterr().out
    said = printed.partition("Advice: ")[2]
    assert all(each in said for each in advised)
    assert [each for each in (FAST_CPU, GRAPH) if each in printed] == [
        each for each in (FAST_CPU, GRAPH) if each in advised
    ]
    assert ("Nothing is wrong, and nothing is slow" in printed) == (not advised)
    assert (f"it sets {LIMIT} and {BLOCK}" in printed) == (FAST_CPU in advised)
    assert f"{1000 * fast['convolution']:.2f} ms after fast_cpu()" in printed


def test_one_slow_run_is_noise(script, capsys):
    """What disturbs a measurement makes it longer, so that the faster of two counts."""
    fast = answer(LIMIT, convolution=0.001)
    script(answer(LIMIT, convolution=0.025), fast, answer(LIMIT, convolution=0.001), fast)
    _doctor.doctor(None)
    assert FAST_CPU not in capsys.readouterr().out
    usual = answer(LIMIT, convolution=0.02)
    script(usual, answer(LIMIT, convolution=0.02), usual, fast)
    _doctor.doctor(None)
    printed = capsys.readouterr().out
    assert FAST_CPU in printed
    assert "20.00 ms as it is, 1.00 ms after fast_cpu(): 20.0 times as fast" in printed


def test_it_says_what_there_is(script, capsys):
    """Versions, instructions, processor, mode and threads; and what cannot be found, in its line."""
    script(answer(convolution=0.001))
    _doctor.doctor("graph")
    printed = capsys.readouterr().out
    assert all(str(value) in printed for name, value in FACTS.items() if name != "omp_threads")
    assert "OMP_NUM_THREADS is not set" in printed
    script(answer(facts={"onednn": None, "vectors": "", "omp_threads": "4"}, convolution=0.001))
    assert _doctor.doctor("graph") == 0
    printed = capsys.readouterr().out
    assert re.search("oneDNN: +not found", printed)
    assert "OMP_NUM_THREADS 4" in printed


def test_it_measures_in_turns_in_the_mode_asked_for(script):
    """As it is and fast, twice, so that a busy minute of the machine meets both."""
    asked = script(*[answer(LIMIT, convolution=0.001)] * 4)
    assert __main__.main(["doctor", "--mode", "pynative"]) == 0
    assert asked == [("pynative", "usual"), ("pynative", "fast")] * 2
    asked = script(*[answer(LIMIT, convolution=0.001)] * 4)
    assert __main__.main(["doctor"]) == 0
    assert asked[0] == (None, "usual")


@pytest.mark.parametrize("facts", [{}, {"device": "GPU"}, {"device": "Ascend"}])
def test_nothing_is_measured_where_nothing_can_be_gained(script, capsys, facts):
    """Where fast_cpu() has nothing to set, a difference would be noise."""
    asked = script(answer(facts=facts))
    assert _doctor.doctor(None) == 0
    assert asked == [(None, "usual")]
    assert FAST_CPU not in capsys.readouterr().out


@pytest.mark.parametrize(("settings", "advised"), [([LIMIT], True), ([], False)])
def test_quick_starts_mindspore_once(script, capsys, settings, advised):
    """What fast_cpu() sets is known without measuring."""
    asked = script(answer(*settings))
    assert __main__.main(["doctor", "--quick"]) == 0
    assert asked == [(None, "quick")]
    printed = capsys.readouterr().out
    assert (f"it sets {LIMIT} (without --quick, what that gains is measured)" in printed) == advised
    assert ("Nothing is wrong" in printed) == (not advised)


def test_json_is_all_that_it_prints(script, capsys):
    """One strict object: facts, milliseconds, problems and advice."""
    usual, fast = answer(LIMIT, convolution=0.0251), answer(LIMIT, convolution=0.001)
    script(usual, fast, usual, fast)
    assert __main__.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert report["ms_callbacks"] == __version__
    assert report["facts"] == FACTS
    assert report["milliseconds"] == {"convolution": {"as_it_is": 25.1, "after_fast_cpu": 1.0}}
    assert report["problems"] == []
    assert len(report["advice"]) == 1


def test_what_is_wrong_is_said(script, capsys, monkeypatch):
    """Each in its line, and the exit status is 1."""
    script(answer(problems=["this and that"]))
    assert _doctor.doctor(None) == 1
    printed = capsys.readouterr().out
    assert re.search("^Wrong: +this and that$", printed, re.MULTILINE)
    assert "Nothing is wrong" not in printed
    monkeypatch.chdir("/proc" if os.path.isdir("/proc") else "/dev")
    script(answer())
    assert __main__.main(["doctor", "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert len(problems) == 1
    assert "cannot write in the folder" in problems[0]


def test_progress_is_told_beside_the_report(monkeypatch, tmp_path, capsys):
    """Each process in a line: what it measures, how long it took, and how long the others will take."""
    monkeypatch.chdir(tmp_path)
    told = json.dumps(answer(LIMIT, convolution=0.001))
    done = subprocess.CompletedProcess([], 0, stdout=f"[WARNING] of MindSpore's\n{told}\n", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert _doctor.doctor(None, as_json=True) == 0
    printed = capsys.readouterr()
    json.loads(printed.out)
    first, *others = printed.err.splitlines()
    assert first == "doctor: measuring as it is (1 of at most 4) ... 0.0 s"
    assert others == [
        f"doctor: measuring {what} ({number} of at most 4, about 0 s left) ... 0.0 s"
        for number, what in [(2, "after fast_cpu()"), (3, "as it is"), (4, "after fast_cpu()")]
    ]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Traceback\nTypeError: no such operator",
            "MindSpore ended with exit status 1. It said:\nTraceback\nTypeError",
        ),
        ("ModuleNotFoundError: No module named 'mindspore'", "exit status 1; pip install mindspore. It said:"),
    ],
)
def test_what_fails_is_said(monkeypatch, tmp_path, capsys, said, told):
    """With what MindSpore said of it."""
    monkeypatch.chdir(tmp_path)
    failing = subprocess.CompletedProcess([], 1, stdout="", stderr=said)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failing)
    assert _doctor.doctor(None) == 1
    assert told in capsys.readouterr().out


def test_a_process_that_does_not_answer_is_given_up(monkeypatch, tmp_path, capsys):
    """It says for how long it has waited."""
    monkeypatch.chdir(tmp_path)

    def late(*_, **__):
        raise subprocess.TimeoutExpired([], 120)

    monkeypatch.setattr(subprocess, "run", late)
    assert _doctor.doctor(None) == 1
    assert "no answer within 120 s; is the machine busy" in capsys.readouterr().out


def test_the_command_runs(tmp_path):
    """It finds the oneDNN of the MindSpore at hand, and heeds the user's variables."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict.fromkeys(machine.ISA_VARIABLES, "AVX2")}
    command = [sys.executable, "-W", "error:::ms_callbacks", "-m", "ms_callbacks", "doctor", "--mode", "graph"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, check=False, cwd=tmp_path
    )
    assert done.returncode == bool(numpy_mismatch()), done.stdout + done.stderr
    for each in ("ms_callbacks", "MindSpore", "Processor", "oneDNN", "Mode: +GRAPH", "Threads", "Convolution"):
        assert re.search(f"^{each}", done.stdout, re.MULTILINE), done.stdout
    # In GRAPH mode, and with oneDNN limited by the user, nothing is left to gain.
    assert re.fullmatch(r"doctor: measuring as it is \(1 of at most 4\) \.\.\. [0-9.]+ s\n", done.stderr)
    assert len(re.findall(r"[0-9.]+ ms", done.stdout)) == 1
    assert ("Nothing is wrong" in done.stdout) == (numpy_mismatch() is None)
    assert (f"NumPy {np.__version__} is installed" in done.stdout) == (numpy_mismatch() is not None)
    if machine.onednn() is not None:
        assert re.search(r"oneDNN: +[0-9]+\.[0-9]+\.[0-9]+, uses ", done.stdout)
        assert "AVX512" not in done.stdout
        assert "ONEDNN_MAX_CPU_ISA=AVX2 is set" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "stdout"),
    [
        ("--help", 0, "usage: ms-callbacks"),
        ("--version", 0, f"ms_callbacks {__version__}"),
        ("doctor --help", 0, "Exit status: 1 if something is wrong"),
        ("", 2, ""),
        ("doctor --mode fast", 2, ""),
    ],
)
def test_the_command_line_answers_without_mindspore(arguments, status, stdout):
    """What is not the doctor's own work needs no import of MindSpore or NumPy, which takes seconds."""
    program = (
        "import sys; sys.modules.update(mindspore=None, numpy=None); sys.argv[0] = 'ms-callbacks'\n"
        "from ms_callbacks.__main__ import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == status, done.stderr
    assert stdout in " ".join(done.stdout.split())
    if status:
        assert "usage: ms-callbacks" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_wrong_mode_is_refused(capsys):
    """With the modes that there are."""
    with pytest.raises(SystemExit) as ended:
        __main__.main(["doctor", "--mode", "fast"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "fast" in said
    assert "graph" in said
    assert "pynative" in said
