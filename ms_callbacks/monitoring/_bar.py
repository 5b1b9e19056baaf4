"""Draw a bar with tqdm, on a terminal or in a notebook, that shows what matters most in the available width."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Sequence
from typing import Any, Callable

from ..core.console import SafeStream, print_line, set_printer

__all__ = ["Bar", "Clock", "find_tqdm", "is_notebook"]

_LEAST_BAR = " " * 10


class Bar:
    """A bar for a run of `total` steps, of which `done` are done; lines of this package appear above it."""

    def __init__(self, stream: SafeStream, epoch: str, done: int, total: int, refresh: float) -> None:
        kind = find_tqdm(is_notebook(stream))
        self._is_widget = kind is not find_tqdm()
        self._bar = kind(
            total=total,
            initial=done,
            file=stream,
            mininterval=refresh,
            dynamic_ncols=self._is_widget or not is_notebook(stream),  # a notebook's stream has no fixed width
            unit="step",
            bar_format=f"Epoch {epoch}: {{percentage:3.0f}}%|{{bar}}|",
        )
        if not self._is_widget:
            set_printer(self._print_above)

    def show(self, epoch: str, parts: Sequence[str], done: int, total: int) -> None:
        """Show epoch and percentage, and as many of the parts as fit; the first matters most."""
        bar = self._bar
        bar.total = total
        if self._is_widget:
            bar.container.children[1].max = total
        bar.bar_format = self._fitting(epoch, [part.replace("{", "{{").replace("}", "}}") for part in parts])
        if done == bar.n or not bar.update(done - bar.n):  # `update` draws only at intervals
            bar.refresh()

    def restart_clock(self, done: int) -> None:
        """Compute speed and time left from the steps to come only."""
        self._bar.n = self._bar.last_print_n = self._bar.initial = done
        self._bar.last_print_t = time.time()

    def close(self) -> None:
        """Leave the bar as it is, and print lines normally again."""
        set_printer()
        self._bar.close()

    def _fitting(self, epoch: str, parts: Sequence[str]) -> str:
        """Return the most detailed form that fits the terminal's width."""
        first, *others = parts
        forms = [f"{epoch} {{percentage:.0f}}% {first}"]
        left = "", " {n_fmt}/{total_fmt}", " {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"
        forms += [f"Epoch {epoch}: {{percentage:3.0f}}%{each}, {first}" for each in left]
        rest = [first, *others, "{rate_fmt}"]
        whole = f"Epoch {epoch}: {{percentage:3.0f}}%|{{bar}}|{left[-1]}"
        forms += [", ".join([whole, *rest[:count]]) for count in range(1, len(rest) + 1)]
        columns = None if self._is_widget else self._bar.format_dict["ncols"]
        return next((form for form in reversed(forms) if columns is None or self._width(form) <= columns), forms[0])

    def _width(self, form: str) -> int:
        from tqdm.utils import disp_len

        given = {**self._bar.format_dict, "ncols": None, "bar_format": form.replace("{bar}", _LEAST_BAR)}
        return int(disp_len(self._bar.format_meter(**given)))

    def _print_above(self, line: str) -> None:
        with self._bar.external_write_mode():
            print_line(line)


class Clock:
    """Calls `tick` with the seconds so far, at an interval, from a separate thread, until it is stopped."""

    def __init__(self, interval: float, tick: Callable[[float], None]) -> None:
        self._interval, self._tick = interval, tick
        self._began, self._is_over = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="ms_callbacks-clock", daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """End the thread; return the seconds."""
        self._is_over.set()
        self._thread.join()
        return time.monotonic() - self._began

    def _run(self) -> None:
        while not self._is_over.wait(self._interval):
            self._tick(time.monotonic() - self._began)


def find_tqdm(in_notebook: bool = False) -> Any:
    """Return the class of tqdm's bar; in a notebook, that of its widget if ipywidgets is installed."""
    try:
        from tqdm import tqdm

        if in_notebook:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it is experimental, or that there is no widget
                from tqdm.autonotebook import tqdm
    except ImportError as error:
        raise ImportError("ProgressBar needs tqdm: pip install 'ms-callbacks[progress]'") from error
    return tqdm


def is_notebook(stream: SafeStream) -> bool:
    """Return whether a stream is a notebook's, which can redraw a line although it is not a terminal."""
    return stream.kind.__module__.startswith("ipykernel.")
