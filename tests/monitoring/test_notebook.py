"""In a real kernel, as a notebook has it; skipped without ipykernel and ipywidgets, which the test extra leaves out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

manager = pytest.importorskip("jupyter_client.manager")
pytest.importorskip("ipykernel")
pytest.importorskip("ipywidgets")

SECONDS = 120  # for a kernel that hangs

SETUP = """
import signal, time
import conftest
import mindspore as ms
from mindspore.train import Callback
from training import dataset, make_model
from ms_callbacks import GracefulStop, History, LossMonitor, ProgressBar
ms.set_context(mode=ms.GRAPH_MODE)

class Say(Callback):
    def on_train_step_end(self, run_context):
        if run_context.original_args()["cur_step_num"] == 5:
            print("ready", flush=True)

model = make_model()
"""

RunCell = Callable[..., tuple[str, list[str]]]


@pytest.fixture(scope="module")
def run_cell() -> Iterator[RunCell]:
    """Runs a cell, presses the stop button once it has printed `ready`; returns its text and its other outputs."""
    here = os.path.dirname(os.path.dirname(__file__))
    path = os.pathsep.join([os.path.dirname(here), here, os.environ.get("PYTHONPATH", "")])
    kernel, client = manager.start_new_kernel(env={**os.environ, "PYTHONPATH": path})

    def run(code: str) -> tuple[str, list[str]]:
        text, others, is_stopped = "", [], False
        cell, until = client.execute(code), time.monotonic() + SECONDS
        while time.monotonic() < until:
            assert kernel.is_alive(), (text, others)
            try:
                message = client.get_iopub_msg(timeout=1)
            except Exception:  # Empty, when nothing has come
                continue
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != cell:
                continue
            if kind == "status" and content["execution_state"] == "idle":
                return text, others
            if kind == "stream":
                text += content["text"]
            elif kind == "error":
                others.append(content["ename"])
            elif kind == "display_data":
                others.extend(content["data"])
            if "ready" in text and not is_stopped:
                is_stopped = True
                kernel.interrupt_kernel()
        raise AssertionError(f"no end of the cell: {text}, {others}")

    yield run
    client.stop_channels()
    kernel.shutdown_kernel(now=True)


def test_the_stop_button_interrupts_the_run_and_leaves_the_kernel(run_cell: RunCell) -> None:
    """With any callback of ours, in a step; the model trains on, and what runs after it can be stopped as well."""
    assert run_cell(SETUP) == ("", [])
    _, others = run_cell("model.train(5000, dataset(), callbacks=[History(), Say()])")
    assert others == ["KeyboardInterrupt"]
    text, others = run_cell(
        "model.train(1, dataset(), callbacks=[History()])\n"
        "print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, 'ready', flush=True)\ntime.sleep(60)"
    )
    assert (text, others) == ("True ready\n", ["KeyboardInterrupt"])


def test_with_graceful_stop_the_cell_ends_in_good_order(run_cell: RunCell) -> None:
    """And the signal is named."""
    run_cell(SETUP)
    text, others = run_cell("stop = GracefulStop()\nmodel.train(5000, dataset(), callbacks=[stop, Say()])")
    assert "GracefulStop: stopped by SIGINT in epoch" in text
    assert others == []


def test_the_bar_is_a_widget(run_cell: RunCell) -> None:
    """One, and LossMonitor's lines beside it."""
    run_cell(SETUP)
    text, others = run_cell("model.train(2, dataset(), callbacks=[ProgressBar(refresh=0), LossMonitor(0.05, 4)])")
    assert sum(kind == "application/vnd.jupyter.widget-view+json" for kind in others) == 1
    assert text.count("\n") == 4
    assert "%|" not in text
