"""NumPy 2, which MindSpore up to 2.10 does not work with, is named where it is the reason, and only there."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any, Callable, Optional

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore.dataset import transforms
from training import dataset, make_model

from ms_callbacks import EarlyStopping, Validate, check_callbacks
from ms_callbacks.core import mindspore_compat
from ms_callbacks.core.mindspore_compat import numpy_mismatch

IMAGES = np.ones((8, 1, 4, 4), np.float32)


def generated() -> Iterator[tuple[np.ndarray, Any]]:
    """What a generator function gives, whose end MindSpore finds by running it."""
    for i in range(8):
        yield IMAGES[i], np.int32(i % 3)


SOURCES: dict[str, Callable[[], Any]] = {
    "int": lambda: [(IMAGES[i], i % 3) for i in range(8)],
    "np.int32": lambda: [(IMAGES[i], np.int32(i % 3)) for i in range(8)],
    "np.int64": lambda: [(IMAGES[i], np.int64(i % 3)) for i in range(8)],
    "array": lambda: [(IMAGES[i], np.array(i % 3)) for i in range(8)],
    "generator": lambda: generated,
}


def ordinary(source: str) -> ds.Dataset:
    """A dataset as most users write it."""
    if source == "slices":
        data = ds.NumpySlicesDataset((IMAGES, np.arange(8) % 3), ["image", "label"])
    else:
        data = ds.GeneratorDataset(SOURCES[source](), ["image", "label"])
    return data.map(transforms.TypeCast(ms.int32), "label").batch(4)


@pytest.mark.parametrize("source", [*SOURCES, "slices"])
def test_ordinary_data_trains_or_the_reason_is_named(source: str) -> None:
    """With NumPy 1 all go through; with NumPy 2 one line says what to run, for training and validation data."""
    model = make_model()
    for train, callbacks in (
        (ordinary(source), [EarlyStopping("loss", mode="min")]),
        (dataset(), [Validate(model, ordinary(source)), EarlyStopping("acc")]),
    ):
        if np.__version__ < "2" or source == "array":
            check_callbacks(model, train, callbacks, epochs=1)
        else:
            with pytest.raises(ValueError, match='run pip install "numpy<2"$') as error:
                check_callbacks(model, train, callbacks, epochs=1)
            assert f"NumPy {np.__version__} is installed" in str(error.value)


def test_what_else_is_wrong_with_a_dataset_is_said_as_mindspore_says_it() -> None:
    """Also where NumPy 2 is installed, and together with what else is wrong."""

    class Broken:
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            raise OSError("no such picture")

    train = ds.GeneratorDataset(Broken(), ["image", "label"]).batch(2)
    with pytest.raises(ValueError, match="no such picture") as error:
        check_callbacks(make_model(), train, [EarlyStopping("acc")], epochs=1)
    assert "check_callbacks: 2 problems:\n" in str(error.value)
    assert "EarlyStopping: 'acc' needs an evaluation" in str(error.value)
    assert "numpy<2" not in str(error.value)


def chain(*texts: str) -> Exception:
    """An error with the earlier ones that it comes from."""
    first, *rest = texts
    error = RuntimeError(first)
    if rest:
        error.__context__ = chain(*rest)
    return error


COPY = "Unable to avoid copy while creating an array as requested."
COMPILED = "numpy.core.multiarray failed to import"


@pytest.mark.parametrize(
    ("mindspore", "numpy", "error", "is_named"),
    [
        ("2.10.0", "2.0.0", None, True),
        ("2.7.0", "2.4.6", None, True),
        ("2.0.0", "2.0.2", None, True),
        ("2.10.0", "1.26.4", None, False),
        ("2.11.0", "2.4.6", None, False),
        ("3.0.0", "2.4.6", None, False),
        ("2.10.0", "2.4.6", chain(f"ValueError: {COPY}"), True),
        ("2.10.0", "2.4.6", chain("returned a result with an exception set", COMPILED), True),
        ("2.10.0", "2.4.6", chain("the shapes differ"), False),
        ("2.10.0", "1.26.4", chain(COPY), False),
    ],
)
def test_it_is_known_by_the_versions_and_by_what_the_error_says(
    monkeypatch: pytest.MonkeyPatch, mindspore: str, numpy: str, error: Optional[Exception], is_named: bool
) -> None:
    """Both versions are told."""
    monkeypatch.setattr(mindspore_compat, "VERSION", mindspore)
    monkeypatch.setattr(np, "__version__", numpy)
    said = numpy_mismatch(error)
    assert (said is not None) == is_named
    if said:
        assert said.startswith(f"MindSpore {mindspore} needs NumPy 1, but NumPy {numpy} is installed")


def test_the_size_of_a_dataset_is_asked_without_collecting_garbage(monkeypatch):
    """MindSpore would take a live iterator for one of its own where garbage is collected meanwhile."""
    seen = []

    class Data:
        def get_dataset_size(self):
            seen.append(gc.isenabled())
            return 3

    assert mindspore_compat.size_of_dataset(Data()) == 3
    assert gc.isenabled()
    gc.disable()
    try:
        assert mindspore_compat.size_of_dataset(Data()) == 3
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert seen == [False, False]
