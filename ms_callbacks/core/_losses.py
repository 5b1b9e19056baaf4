"""The training losses of one epoch, read from the device together and only when somebody asks.

A step hands over its output as it is, without waiting for the device. The read happens where a line is printed or a
decision is taken: then all that have gathered are read in one go.
"""

from __future__ import annotations

import math
from typing import Any, Optional

import mindspore as ms
from mindspore import Tensor
from mindspore import dtype as mstype

from ._tensors import detached, number

__all__ = ["Losses", "loss_of"]

# A bound on what waits unread, so that memory does not grow with the length of an epoch.
_MOST_UNREAD = 1024


class Losses:
    """The losses of the epoch under way."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets all: a new epoch begins."""
        self._unread: list[tuple[int, Any]] = []
        self._is_pynative = ms.get_context("mode") == ms.PYNATIVE_MODE
        self.step = 0  # the last that was handed over
        self._sum = 0.0
        self._count = 0
        self._last: Optional[float] = None
        self._nonfinite_step: Optional[int] = None

    def state_dict(self) -> dict[str, Any]:
        """The epoch so far, in plain numbers."""
        self.read()
        return {
            "step": self.step,
            "sum": self._sum,
            "count": self._count,
            "last": self._last,
            "nonfinite_step": self._nonfinite_step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state that `state_dict` returned."""
        self.step, self._last, self._nonfinite_step = state["step"], state["last"], state["nonfinite_step"]
        self._sum, self._count = state["sum"], state["count"]

    def add(self, step: int, net_outputs: Any) -> None:
        """Takes the output of the epoch's step `step`, from 1."""
        self.step = step
        output = net_outputs if type(net_outputs) is Tensor else _loss_and_overflow(net_outputs)
        self._unread.append((step, _detached(output) if self._is_pynative else output))
        if len(self._unread) >= _MOST_UNREAD:
            self.read()

    @property
    def mean(self) -> Optional[float]:
        """The mean loss of the epoch's steps so far; `None` before the first."""
        self.read()
        return self._sum / self._count if self._count else None

    @property
    def total(self) -> tuple[float, int]:
        """The sum of the losses of the epoch's steps so far, and their count."""
        self.read()
        return self._sum, self._count

    @property
    def last(self) -> Optional[float]:
        """The loss of the last step; `None` before the first."""
        self.read()
        return self._last

    @property
    def nonfinite_step(self) -> Optional[int]:
        """The first step of the epoch whose loss was NaN or infinite; `None` where there was none."""
        self.read()
        return self._nonfinite_step

    def read(self) -> None:
        """Reads all that wait, in one go."""
        for step, output in self._unread:
            loss = _read(output)
            if loss is None:
                continue
            self._last = loss
            self._sum += loss
            self._count += 1
            if self._nonfinite_step is None and not math.isfinite(loss):
                self._nonfinite_step = step
        self._unread.clear()


def loss_of(net_outputs: Any) -> Optional[float]:
    """The loss of one step's output; `None` where loss scaling dropped the step."""
    return _read(_loss_and_overflow(net_outputs))


def _loss_and_overflow(net_outputs: Any) -> Any:
    """The loss of a tuple output, with the overflow flag that loss scaling puts second."""
    if not isinstance(net_outputs, (tuple, list)):
        return net_outputs
    # A step with loss scaling gives loss, overflow and scale; a network of the user's own may give anything.
    flag = net_outputs[1] if len(net_outputs) == 3 else None
    if isinstance(flag, Tensor) and flag.dtype == mstype.bool_ and flag.size == 1:
        return net_outputs[0], flag
    return net_outputs[0]


def _detached(output: Any) -> Any:
    return tuple(map(detached, output)) if isinstance(output, tuple) else detached(output)


def _read(output: Any) -> Optional[float]:
    loss, overflow = output if isinstance(output, tuple) else (output, None)
    if overflow is not None and number(overflow):
        return None  # the step was dropped by loss scaling: nothing was learnt from its loss
    return number(loss)
