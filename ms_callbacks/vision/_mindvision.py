"""Import mindvision 0.1.0 on a MindSpore that merged some of the modules it needs, without changing anything global."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

from mindspore.dataset import transforms as _transforms
from mindspore.dataset import vision as _vision

__all__ = ["download", "generator", "mnist", "models"]


@contextlib.contextmanager
def _merged_modules() -> Iterator[None]:
    """Make modules that MindSpore merged after 2.0 importable under their old names within the context.

    On a MindSpore that still has them, nothing happens. Remove together with mindvision 0.1.0.
    """
    stand_ins = {}
    for merged in (_transforms, _vision):
        for old in (f"{merged.__name__}.c_transforms", f"{merged.__name__}.py_transforms"):
            if old not in sys.modules and importlib.util.find_spec(old) is None:
                stand_ins[old] = merged
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for old in stand_ins:
            del sys.modules[old]


def _import_mindvision(*names: str) -> list[Any]:
    try:
        with _merged_modules():
            return [importlib.import_module(f"mindvision.{name}") for name in names]
    except ImportError as error:
        raise ImportError(
            f"ms_callbacks.vision needs mindvision 0.1.0 and what it imports ({error}): "
            'pip install "ms-callbacks[vision]"'
        ) from error


models, mnist, generator, download = _import_mindvision(
    "classification.models", "classification.dataset.mnist", "dataset.generator", "dataset.download"
)
