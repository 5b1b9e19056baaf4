"""Call the evaluation hooks of a run's callbacks during `Model.eval`, as `Model.fit` calls them."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Optional

import numpy as np
from mindspore import nn
from mindspore.train import Callback, RunContext, TimeMonitor
from mindspore.train import callback as mindspores

__all__ = ["EvalHooks", "eval_labels", "eval_outputs"]

_OLD_HOOKS = frozenset(("begin", "end", "epoch_begin", "epoch_end", "step_begin", "step_end"))
_OF_RUN = ("list_callback", "network")  # names in the parameters of both an evaluation and the run
_PUT_BACK = ("mode", "cur_step_num", "batch_num", "dataset_sink_mode", "net_outputs")


class EvalHooks(Callback):
    """A callback for `Model.eval` that calls those callbacks of a run that `Model.fit` would call, in its order.

    They receive the run's own parameters, which show the evaluation while it lasts, and are entered and exited around
    it. As in `Model.fit`, callbacks with the names of MindSpore's own get no hook, except `TimeMonitor`. Callbacks with
    hooks from before MindSpore 2.0 get none either: `Model.fit` refuses them, because their `step_end` means a training
    step. `at_end` is called with the metrics before the callbacks are notified of the end.
    """

    at_end: Optional[Callable[[dict[str, Any]], None]] = None

    def __init__(self, run_args: Any) -> None:
        super().__init__()
        self._args = run_args
        self._callbacks = [callback for callback in run_args["list_callback"] if _has_part_in_fit(callback)]
        self._context = RunContext(run_args)
        self._left = contextlib.ExitStack()

    def __enter__(self) -> EvalHooks:
        with contextlib.ExitStack() as entered:
            before = {name: self._args[name] for name in _PUT_BACK if name in self._args}
            entered.callback(self._args.update, before)
            for callback in self._callbacks:
                entered.enter_context(callback)
            self._left = entered.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._left.__exit__(*error)

    def on_eval_begin(self, run_context: Any) -> None:
        """Called when the evaluation begins."""
        self._call("on_eval_begin", run_context)

    def on_eval_epoch_begin(self, run_context: Any) -> None:
        """Called after `on_eval_begin`, once the data is available."""
        self._call("on_eval_epoch_begin", run_context)

    def on_eval_step_begin(self, run_context: Any) -> None:
        """Called before each batch."""
        self._call("on_eval_step_begin", run_context)

    def on_eval_step_end(self, run_context: Any) -> None:
        """Called after each batch."""
        self._call("on_eval_step_end", run_context)

    def on_eval_epoch_end(self, run_context: Any) -> None:
        """Called after the last batch."""
        self._call("on_eval_epoch_end", run_context)

    def on_eval_end(self, run_context: Any) -> None:
        """Called when the metrics are known."""
        if self.at_end is not None:
            self.at_end(run_context.original_args()["metrics"])
        self._call("on_eval_end", run_context)

    def _call(self, hook: str, run_context: Any) -> None:
        shown = run_context.original_args()
        self._args.update((name, value) for name, value in shown.items() if name not in (*_OF_RUN, "metrics"))
        for callback in self._callbacks:
            getattr(callback, hook)(self._context)
        if self._context.get_stop_requested():
            run_context.request_stop()


def _has_part_in_fit(callback: Any) -> bool:
    if type(callback).__name__ in mindspores.__all__:
        return isinstance(callback, TimeMonitor)
    return not _OLD_HOOKS & vars(type(callback)).keys()


def eval_outputs(run_context: Any) -> tuple[Any, Any]:
    """Return, in an evaluation hook, the evaluation network's outputs for a batch, and the batch's columns."""
    args = run_context.original_args()
    return args["net_outputs"], args.get("eval_dataset_element")


def eval_labels(run_context: Any) -> Optional[np.ndarray[Any, Any]]:
    """Return, in the hook at the beginning of an evaluation step, the batch's labels; `None` if they are unknown."""
    args = run_context.original_args()
    element = args.get("eval_dataset_element")
    if not isinstance(args.get("eval_network"), nn.WithEvalCell) or not element or len(element) != 2:
        return None
    labels: np.ndarray[Any, Any] = element[1].asnumpy()
    return labels
