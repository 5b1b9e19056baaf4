"""A monitored value: its name, which direction is better, and the best so far. Uses only the standard library.

The comparison is written positively, so that NaN and infinities are never better than anything. It is made in single
precision, as in Keras: a metric is the result of a computation in single precision at best, and whether a value that
is better by exactly `min_delta` counts must not depend on the last bit of a double.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, NamedTuple, Optional

from .arguments import check_choice, check_number, check_text

__all__ = ["BestTracker", "Monitor", "mode_of_class", "place"]

_MODES = ("auto", "min", "max")

# Words in a metric's name that show which direction is better.
_SMALLER_IS_BETTER = frozenset(
    "loss error err mae mse rmse mape perplexity ppl distance nll bce wer cer cost regret".split()
)
_LARGER_IS_BETTER = frozenset(
    "acc accuracy precision recall f1 fscore fbeta dice auc bleu similarity iou miou map psnr ssim r2".split()
)
# Words after them that do not change that.
_QUALIFIERS = frozenset(
    "score rate mean avg average sum total val valid validation eval test train macro micro top1 top5".split()
)
# MindSpore's metric classes; a user's own metric counts as the class that it derives from.
_CLASS_MODES = {
    "Loss": "min",
    "MAE": "min",
    "MSE": "min",
    "Perplexity": "min",
    "HausdorffDistance": "min",
    "MeanSurfaceDistance": "min",
    "RootMeanSquareDistance": "min",
    "Accuracy": "max",
    "Precision": "max",
    "Recall": "max",
    "Fbeta": "max",
    "F1": "max",
    "Dice": "max",
    "BleuScore": "max",
    "TopKCategoricalAccuracy": "max",
}


def mode_of_class(metric: object) -> Optional[str]:
    """Return which direction is better for a metric of this class; `None` if the class does not determine it."""
    return next((_CLASS_MODES[cls.__name__] for cls in type(metric).__mro__ if cls.__name__ in _CLASS_MODES), None)


class Monitor(NamedTuple):
    """A monitored value: its name, which direction is better, and by how much it must be better to count."""

    name: str
    mode: str = "auto"
    min_delta: float = 0.0

    @classmethod
    def checked(cls, owner: str, monitor: Any, mode: Any, min_delta: Any) -> Monitor:
        """Return a monitor from a callback's arguments, or raise an error that names the callback and the argument."""
        return cls(
            check_text(owner, "monitor", monitor),
            check_choice(owner, "mode", mode, _MODES),
            check_number(owner, "min_delta", min_delta, minimum=0),
        )

    def resolve_mode(self, owner: str, metric: object = None) -> Monitor:
        """Return this monitor with `mode` `"min"` or `"max"`, by the metric's class or else the words of its name."""
        own = type(metric)
        if self.mode != "auto":
            better = _CLASS_MODES.get(own.__name__, self.mode)
            if better != self.mode and own.__module__.split(".")[0] == "mindspore":  # a user's own may reverse it
                raise ValueError(
                    f"{owner}: mode={self.mode!r} treats a {'smaller' if self.mode == 'min' else 'larger'} "
                    f"{self.name!r} as better, but it is MindSpore's {own.__name__}; leave mode out, or pass "
                    f"mode={better!r}"
                )
            return self
        of_class = mode_of_class(metric)
        if of_class is not None:
            return self._replace(mode=of_class)
        parts = self.name.lower().replace("-", "_").split("_")
        words = {"".join(parts)}  # "f-score" is one word
        while len(parts) > 1 and (parts[-1] in _QUALIFIERS or parts[-1].isdigit()):
            parts.pop()
        if parts[-1] in _SMALLER_IS_BETTER | _LARGER_IS_BETTER:  # what a last word such as "gap" means is not known
            words.update(parts)
        smaller, larger = bool(words & _SMALLER_IS_BETTER), bool(words & _LARGER_IS_BETTER)
        if smaller == larger:
            raise ValueError(
                f"{owner}: mode='auto' cannot tell whether a smaller or a larger {self.name!r} is better; "
                f"pass mode='min' or mode='max'"
            )
        return self._replace(mode="min" if smaller else "max")

    def is_better(self, value: float, best: Optional[float]) -> bool:
        """Return whether a finite `value` beats `best` by more than `min_delta`; `best=None` is beaten by any."""
        if not math.isfinite(value):
            return False
        if best is None:
            return True
        margin = self.min_delta if self.mode == "min" else -self.min_delta
        return self.is_beyond(value + margin, best)

    def is_beyond(self, value: float, threshold: float) -> bool:
        """Return whether `value` is strictly on the better side of `threshold`, whatever `min_delta`."""
        one, other = _single(value), _single(threshold)
        return one < other if self.mode == "min" else one > other


def _single(value: float) -> float:
    """Return the nearest number in single precision."""
    return ctypes.c_float(value).value


class BestTracker:
    """The best value of one run, where in the run it was observed, and how many observations have passed since.

    Attributes:
        best (float | None): the best value; `None` before the first.
        best_epoch (int): its epoch; 0 before the first.
        best_step (int): its step, where it was observed between two steps; 0 at the end of an epoch.
        wait (int): how many observations have passed since.
    """

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.best: Optional[float] = None
        self.best_epoch = self.best_step = 0
        self.wait = 0

    def observe(self, value: float, epoch: int, step: int = 0) -> bool:
        """Take a value, its epoch, and its step if it was between two steps; return whether it is the best so far."""
        if self.monitor.is_better(value, self.best):
            self.best, self.best_epoch, self.best_step, self.wait = value, epoch, step, 0
            return True
        self.wait += 1
        return False

    @property
    def place(self) -> str:
        """The place in the run where the best was observed, for messages."""
        return place(self.best_epoch, self.best_step)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to continue: numbers and `None` only."""
        return {"best": self.best, "best_epoch": self.best_epoch, "best_step": self.best_step, "wait": self.wait}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self.best, self.best_epoch, self.wait = state["best"], state["best_epoch"], state["wait"]
        self.best_step = state.get("best_step", 0)  # which states before version 0.2 do not have


def place(epoch: int, step: int) -> str:
    """Return a place in a run, for messages: `epoch 3`, or `epoch 3, step 1200` between two steps."""
    return f"epoch {epoch}, step {step}" if step else f"epoch {epoch}"
