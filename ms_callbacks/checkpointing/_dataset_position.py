"""Where MindSpore begins a dataset in a run that continues, and which random numbers are drawn for its batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

from mindspore import dataset as ds

from ..core import distributed
from ..core.mindspore_compat import CAN_BEGIN_WITHIN
from ..core.run import Run
from ._dataset_order import Order
from ._random import draw_from, drawn_from

__all__ = ["DatasetPosition"]


class DatasetPosition:
    """The position of a run in its dataset.

    Args:
        replay: whether the batches before it are drawn again and dropped, if only that gives the same ones after it.

    Attributes:
        dataset (Dataset | None): the dataset that was moved; `None` for none.
        began (dict | None): the random states of Python and NumPy from which the first run began to draw.
    """

    def __init__(self, replay: bool) -> None:
        self._replay = replay
        self.dataset: Any = None
        self.began: Any = None
        self._order: Optional[Order] = None
        self._fast_recovery: Optional[bool] = None
        self._seeds_of_run: Optional[dict[str, Any]] = None

    def __reduce__(self) -> tuple[type[DatasetPosition], tuple[bool]]:
        return DatasetPosition, (self._replay,)  # a copy of a callback has no dataset

    def begin_at(self, dataset: Any, steps: int) -> Iterator[str]:
        """Make MindSpore begin a dataset after `steps` steps; yield what there is to say of it.

        The earlier batches are replayed if the later ones depend on what is drawn for them.
        """
        self.dataset = dataset
        if not CAN_BEGIN_WITHIN:
            return
        self._fast_recovery = ds.config.get_fast_recovery()
        dataset.set_init_step(steps)
        order = Order(dataset)
        if self._replay and (order.drawn or order.python):
            # MindSpore 2.8 to 2.10 read this when the iterator is created, and turn it off themselves for `shuffle`.
            ds.config.set_fast_recovery(False)
            yield (
                f"draws the batches of the {steps} steps before again and drops them, so that the next are the same, "
                f"because of {', '.join(order.drawn + order.python)}; replay=False skips them instead"
            )

    def reset(self) -> None:
        """Make a dataset that was moved begin at its start again."""
        if self.dataset is not None and CAN_BEGIN_WITHIN:
            self.dataset.set_init_step(0)
            ds.config.set_fast_recovery(self._fast_recovery)
        self.dataset = self._order = None

    @property
    def replays(self) -> bool:
        """Whether MindSpore draws earlier batches again."""
        return CAN_BEGIN_WITHIN and (self._replay or not ds.config.get_fast_recovery())

    def order_of(self, run: Run) -> Order:
        """Return what the order of the batches of a run depends on."""
        if self._order is None:
            self._order = Order(run.parts.train_dataset)
        return self._order

    def begin_draws(self, run: Run, continues: bool) -> None:
        """Save the random states of Python and NumPy from which MindSpore begins to draw batches, or restore them.

        A dataset that draws its batches again has to draw the same numbers as in the first run.
        """
        self._seeds_of_run = None
        if not continues:
            self.began = drawn_from()
        elif self.began and self.replays and self.order_of(run).python and distributed.is_first():
            self._seeds_of_run = drawn_from()
            draw_from(self.began)

    def end_draws(self) -> None:
        """Restore the random states for the run's own code at its first step, unless the dataset draws from them."""
        if self._seeds_of_run is not None:
            now = drawn_from()
            draw_from({kind: saved for kind, saved in self._seeds_of_run.items() if now[kind] == self.began[kind]})
            self._seeds_of_run = None
