"""Log a run to any experiment tracker that has the methods of `Tracker`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ..core.tracker import Tracker
from ._tracker_callback import TrackerCallback

__all__ = ["TrackerLogger"]


class TrackerLogger(TrackerCallback):
    """Log a run to an experiment tracker.

    `TensorBoardLogger`, `MLflowLogger`, `WandbLogger` and `SwanLabLogger` work in the same way, each with its own
    tracker. For another tracker, write a class with the seven methods of `Tracker`.

    All values are logged with the training step, counted from the first step of epoch 1:

    .. code-block:: text

        every n steps       train/loss (the mean of the steps since the last log), train/learning_rate, epoch;
                            with several parameter groups train/learning_rate_1, train/learning_rate_2 and so on
        each evaluation     eval/loss and eval/<metric>, also between two steps
        each epoch          epoch/loss (the mean of the epoch), epoch/learning_rate, epoch/seconds,
                            epoch/samples_per_second, and numbers that other callbacks add, such as gradient norms
        after epoch 1       texts/<name>: the tables and texts that the callbacks of the run have to show, such as the
                            layer table of `ShapeInspector`; again at the end, if they have changed
        at the end          figures/<name>: their figures, such as that of `ConfusionMatrix`

    The hyper-parameters are logged when the run starts, also as `texts/config`: number of epochs and steps, batch size,
    network, number of parameters, loss, optimizer, callbacks with their arguments, versions, and `config`.

    The tracker is called in a separate thread. Training only puts numbers into a queue, and losses and rates are read
    from the device once per interval. If the tracker cannot be started within `timeout` seconds, the run is refused
    before its first step. After that, a tracker that fails or hangs neither stops nor slows down training. The first
    error is printed, later values are still sent, and a message at the end says how many values were lost. If more than
    10,000 calls are waiting, the oldest values of steps are dropped.

    The tracker's run is closed with the status of the run, also after an exception, and after Ctrl-C or another signal
    if `GracefulStop` is in the list; without it, a signal ends the process at once. With `TrainingState`, a resumed run
    continues the same run of the tracker, without duplicate or missing steps: the state holds the numbers that the
    tracker had not flushed yet, and the resumed run logs them again. Texts are logged again then, but not figures and
    histograms. A second run with the same callback is a new run of the tracker.

    With several processes, only the first process logs. `train/loss` is the loss of its own samples; all other values
    are those of all processes. In sink mode on GPU and Ascend (in GRAPH mode), `train/loss` is the mean of the losses
    of the last steps of sinks.

    Args:
        tracker: an object with the methods of `Tracker`.
        every_n_steps: the interval of the values of steps, in steps. Default: 50.
        config: your own hyper-parameters, by name; they replace those above with the same name. Default: None.
        histograms: the interval, in epochs, at which weights/<name>, the distribution of each trained parameter, is
            logged; this copies the weights from the device. Default: None, never.
        figures: when to draw and log figures: "end", at the end of training; "epoch", after each epoch; `None`, never.
            Default: "end".
        timeout: how many seconds to wait for the tracker, once when it starts, and once when it is closed.
            Default: 30.0.

    Attributes:
        id_ (str | None): the id of the tracker's run; `None` before it starts, and if the tracker has none.
        lost_ (int): how many values of the last run did not reach the tracker.

    Raises:
        TypeError, ValueError: an argument is not as described.
        RuntimeError: before the first step: the tracker could not be started.

    Example:
        >>> class Printer:
        ...     def start(self, run):
        ...         print("started with", run.config["optimizer"]["class"])
        ...
        ...     def log(self, values, step):
        ...         print("step", step, sorted(values))
        ...
        ...     def log_text(self, name, text, step):
        ...         print(text.splitlines()[0])
        ...
        ...     def log_figure(self, name, figure, step): ...
        ...
        ...     def log_histogram(self, name, values, step): ...
        ...
        ...     def flush(self): ...
        ...
        ...     def close(self, status):
        ...         print("closed:", status)
        >>> validate = Validate(model, valid_dataset)
        >>> model.train(1, train_dataset, callbacks=[validate, TrackerLogger(Printer(), every_n_steps=2)])
        started with Momentum
        epochs: 1
        step 2 ['epoch', 'train/learning_rate', 'train/loss']
        step 4 ['epoch', 'train/learning_rate', 'train/loss']
        step 4 ['eval/acc', 'eval/loss']
        step 4 ['epoch/learning_rate', 'epoch/loss', 'epoch/samples_per_second', 'epoch/seconds']
        closed: finished
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        every_n_steps: int = 50,
        config: Optional[Mapping[str, Any]] = None,
        histograms: Optional[int] = None,
        figures: Optional[str] = "end",
        timeout: float = 30.0,
    ) -> None:
        if not isinstance(tracker, Tracker):
            methods = sorted(name for name in vars(Tracker) if not name.startswith("_"))
            missing = [name for name in methods if not callable(getattr(tracker, name, None))]
            raise TypeError(
                f"TrackerLogger: tracker must have the methods of ms_callbacks.Tracker, but {type(tracker).__name__} "
                f"has no {', '.join(missing)}"
            )
        super().__init__(tracker, every_n_steps, config, histograms, figures, timeout)
