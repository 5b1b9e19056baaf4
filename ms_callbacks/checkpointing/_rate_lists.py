"""Resume optimizers that set their own rate from a list or a schedule."""

from __future__ import annotations

from typing import Any, Optional

import mindspore as ms
import numpy as np
from mindspore import nn

from ..core.learning_rates import Rates
from ..core.parameters import Arrays
from ._states import State

__all__ = ["dynamic_rates", "with_lists"]


def dynamic_rates(optimizers: Any) -> Optional[Rates]:
    """Return the rates of optimizers that set their own from a list or a schedule; `None` if none does."""
    if not optimizers or not all(isinstance(one, nn.Optimizer) for one in optimizers):
        return None
    rates = Rates(optimizers)
    return rates if rates.is_dynamic else None


def with_lists(owner: str, rates: Rates, parameters: dict[str, ms.Parameter], state: State, steps: int) -> Arrays:
    """Return a state's parameters, with the optimizer's current lists of rates if those now have another length.

    To extend a run, the optimizer gets a longer list that begins like the one in the state.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    arrays = dict(state.parameters)
    for parameter, _ in rates.lists:
        name = names.get(id(parameter), "")
        saved, now = arrays.get(name), parameter.asnumpy()
        if saved is None or saved.shape == now.shape:
            continue
        if saved.ndim != 1 or now.ndim != 1 or not np.array_equal(saved[:steps], now[:steps]):
            raise ValueError(
                f"{owner}: the optimizer's list of {now.size} learning rates does not begin with the {steps} that the "
                f"interrupted run has used of its {saved.size}; pass a list that does, or the same list as before"
            )
        arrays[name] = now.copy()
    return arrays
