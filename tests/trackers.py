"""A tracker that keeps what it is told, and one that misbehaves; for the tests of the loggers."""

from __future__ import annotations

import threading


class Kept:
    """Keeps all calls; `values` is {name: {step: value}} of the last run, without what a resume logs again."""

    def __init__(self):
        self.runs, self.statuses, self.values, self.calls = [], [], {}, []
        self.threads = set()

    def __repr__(self):
        return f"{type(self).__name__}()"

    def start(self, run):
        self.runs.append(run)
        self.values = {} if run.id is None else self.values
        for steps in self.values.values():  # of what an interrupted process has logged too much
            for step in [step for step in steps if step > run.step]:
                del steps[step]
        self.calls.append(("start", run.step))
        return run.id or f"run {len(self.runs)}"

    def log(self, values, step):
        self._call("log", sorted(values), step)
        for name, value in values.items():
            assert type(value) is float
            assert step not in self.values.setdefault(name, {}), (name, step)
            self.values[name][step] = value

    def log_text(self, name, text, step):
        self._call("text", name, step)

    def log_figure(self, name, figure, step):
        self._call("figure", name, step)

    def log_histogram(self, name, values, step):
        self._call("histogram", name, step)

    def flush(self):
        self._call("flush")

    def close(self, status):
        self.statuses.append(status)

    def _call(self, *what):
        self.threads.add(threading.current_thread().name)
        self.calls.append(what)

    def named(self, kind):
        """The names and steps of all calls of a kind."""
        return [call[1:] for call in self.calls if call[0] == kind]


class Hanging(Kept):
    """Hangs in one of its methods until it is released."""

    def __init__(self, method):
        super().__init__()
        self.released, self.entered = threading.Event(), threading.Event()
        self._original = getattr(self, method)
        setattr(self, method, self._hang)

    def _hang(self, *arguments):
        self.entered.set()
        assert self.released.wait(60)
        return self._original(*arguments)


class Failing(Kept):
    """Raises in `log` at some steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def log(self, values, step):
        if step in self.steps:
            raise ConnectionError(f"no route to host at step {step}")
        super().log(values, step)
