"""Which of a network's outputs is meant if it returns a tuple, a list or a dict of them."""

from __future__ import annotations

from typing import Any, Callable, Optional, Union

import numpy as np
from mindspore import Tensor

from .arguments import nearest, quoted

__all__ = ["Place", "check_output", "describe", "find_place", "pick"]

# An index, a key, or a function of the network's whole output; `None` for the only output.
Place = Union[int, str, Callable[[Any], Any], None]

_USUAL_KEY = "logits"


def check_output(owner: str, value: Any) -> Place:
    """Return `value`; raise unless it is an index, a key, a function or `None`."""
    if value is None or (isinstance(value, (int, str)) and not isinstance(value, bool)) or callable(value):
        return value  # type: ignore[no-any-return]
    raise TypeError(
        f"{owner}: output must be an index, a key or a function of the network's output, but got {value!r} "
        f"({type(value).__name__})"
    )


def find_place(owner: str, output: Any, fits: Callable[[Any], bool]) -> Place:
    """Return the place of the only output that can be meant; raise if there is none or several.

    That is the only one, the one called `logits`, or the only one that fits, at any depth.
    """
    if _is_tensor(output):
        return None
    parts = _parts(output)
    if _is_tensor(parts.get(_USUAL_KEY)):
        return _USUAL_KEY
    found = [place for place, part in parts.items() if _is_tensor(part) and (len(parts) == 1 or fits(part))]
    within = [part for part in _deeper(output) if fits(part)]
    if len(found) == 1 and not within:
        return found[0]
    example = next(iter(found or parts), 0)
    why = {0: "none of them fits", 1: "the one that fits is within another"}.get(
        len(found) + len(within), "more than one of them fits"
    )
    raise ValueError(
        f"{owner}: the network gives {describe(output)}, and {why}; say which one holds the class scores, "
        f"such as output={example!r}, or pass a function, such as output=lambda outputs: outputs[{example!r}]"
    )


def pick(owner: str, output: Any, place: Place) -> Any:
    """Return the tensor at `place` among a network's outputs; raise if there is none."""
    if callable(place):
        found = place(output)
    elif place is None:
        found = output
    elif _is_tensor(output):
        raise ValueError(
            f"{owner}: output={place!r} is for a network with several outputs, but this one gives {describe(output)}; "
            f"leave output out"
        )
    else:
        found = _at(owner, output, place)
    if not _is_tensor(found):
        raise ValueError(
            f"{owner}: output must lead to a Tensor, but {_told(place)} gives {describe(found)}; the network gives "
            f"{describe(output)}"
        )
    return found


def describe(output: Any) -> str:
    """Describe a network's output in words: `a Tensor of shape (4, 3)`, `a tuple of (4, 3) and (4, 8)`."""
    if _is_tensor(output):
        return f"a Tensor of shape {tuple(output.shape)}"
    parts = _parts(output)
    if not parts:
        return f"{output!r} ({type(output).__name__})" if np.isscalar(output) else f"a {type(output).__name__}"
    told = [
        f"{place!r}: {tuple(part.shape) if _is_tensor(part) else type(part).__name__}" for place, part in parts.items()
    ]
    return f"a {type(output).__name__} with the shapes {{{', '.join(told)}}}"


def _at(owner: str, output: Any, place: Union[int, str]) -> Any:
    parts = _parts(output)
    if isinstance(place, int) and isinstance(output, (tuple, list)) and -len(output) <= place < len(output):
        return output[place]
    if place in parts:
        return parts[place]
    raise ValueError(
        f"{owner}: output={place!r} is not among the network's outputs ({quoted(parts)}){nearest(place, parts)}"
    )


def _parts(output: Any) -> dict[Any, Any]:
    if isinstance(output, dict):
        return dict(output)
    return dict(enumerate(output)) if isinstance(output, (tuple, list)) else {}


def _deeper(output: Any, depth: int = 0) -> list[Any]:
    """Return the tensors that are nested in parts."""
    if _is_tensor(output):
        return [output] if depth > 1 else []
    return [tensor for part in _parts(output).values() for tensor in _deeper(part, depth + 1)]


def _told(place: Place) -> str:
    return "without one, the network" if place is None else f"output={getattr(place, '__name__', repr(place))}"


def _is_tensor(value: Optional[Any]) -> bool:
    return isinstance(value, (Tensor, np.ndarray))
