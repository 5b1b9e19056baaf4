"""Describe the values that a training step returns, if types and shapes alone do not show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ..core.callback import TrainCallback, only_one
from ..core.names import OF_RUN
from ..core.run import Run
from ..core.step_outputs import Key, OutputReader

__all__ = ["StepOutputs"]


class StepOutputs(TrainCallback):
    """Tell all callbacks of a run where the loss is in the output of a training step, and name the other numbers.

    Without it, the loss is the output itself (the mean, if it is an array of losses), the first element of a tuple or
    list, or `"loss"` in a dictionary. A step that loss scaling dropped is recognised by the second element if that is a
    single `bool`, an 8-bit integer, or an integer followed by a loss scale, as in `(loss, overflow, scale, ...)`; in a
    dictionary by `"overflow"`, `"is_overflow"`, `"found_inf"` or `"dropped"`. Any other single integer there may be a
    flag or a count: it is treated as a flag only if it is 1 and the loss is not finite. A dropped step does not count
    in any mean; after 25 of them in a row, each further one counts as a loss that is NaN, so that a run that only
    overflows ends like any other that is not finite.

    Args:
        loss: the index or key of the loss. Default: None, as described above.
        dropped: the index or key of the flag, which is nonzero for a step that was dropped. Default: None, as described
            above.
        others: other numbers to track, an index or key by name, such as `{"kl": 1}`. Their mean over the epoch can be
            monitored under that name, and appears in `History` and `CSVLogger`; an array counts as its mean.
            Default: None.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: two of them in one list. At the
            first step: the output has no such index or key, or no number there.

    Example:
        >>> outputs = StepOutputs(dropped=2, others={"kl": 1})  # for a step that returns (loss, kl, overflow)
        >>> outputs.others
        {'kl': 1}
    """

    def __init__(
        self, loss: Optional[Key] = None, *, dropped: Optional[Key] = None, others: Optional[Mapping[str, Key]] = None
    ) -> None:
        super().__init__()
        self.loss = _checked("loss", loss)
        self.dropped = _checked("dropped", dropped)
        if others is not None and not isinstance(others, Mapping):
            raise TypeError(
                f"StepOutputs: others must be a dictionary of names, such as {{'kl': 1}}, but got {others!r} "
                f"({type(others).__name__})"
            )
        for name, key in (others or {}).items():
            if not isinstance(name, str) or not name:
                raise TypeError(f"StepOutputs: the names in others must be strings, but got {name!r}")
            if name in OF_RUN:
                raise ValueError(f"StepOutputs: {name!r} in others is a value of every epoch already; choose another")
            if _checked(f"others[{name!r}]", key) is None:
                raise TypeError(f"StepOutputs: others[{name!r}] must be an index or a key, but got None")
        self.others = others

    def check(self, run: Run) -> None:
        """Raise if another callback describes the outputs too."""
        super().check(run)
        alike = [one for one in run.callbacks if isinstance(one, StepOutputs)]
        only_one("StepOutputs", alike, "describe the outputs of a step")

    def output_reader(self) -> OutputReader:
        """Return the reader for the outputs of the run."""
        return OutputReader(self.loss, self.dropped, self.others)


def _checked(name: str, key: Any) -> Optional[Key]:
    if key is not None and (isinstance(key, bool) or not isinstance(key, (int, str))):
        raise TypeError(
            f"StepOutputs: {name} must be the index or the key of a value, but got {key!r} ({type(key).__name__})"
        )
    return key
