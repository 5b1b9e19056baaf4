"""A run as callbacks see it: one call of `Model.train` or `Model.fit`, what it trains, and its progress."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

from mindspore import Parameter, nn

from .background import BackgroundThread
from .losses import Losses
from .metrics import Metrics
from .outcome import Outcome
from .progress import Progress
from .shared_copies import Copies
from .step_hooks import StepHooks
from .step_outputs import OutputReader
from .trained_parts import TrainedParts
from .updates import Updates

__all__ = ["Run", "RunActions"]


class RunActions(NamedTuple):
    """Actions that a callback can request for all callbacks of its run."""

    evaluate: Callable[[], None]
    before_checkpoint: Callable[[], None]
    request_stop: Callable[[str, bool, Optional[BaseException]], bool]


class Run:
    """One call of `Model.train` or `Model.fit`. Callbacks read it; only its methods change anything.

    Epochs and steps count from 1 and are absolute: a run with `initial_epoch=5` begins at epoch 6.

    Attributes:
        progress (Progress): the progress of the run, in detail: `initial_epoch`, `is_sinking`, `seconds`, ...
        parts (TrainedParts): what is trained, in detail: `train_network`, `loss_fn`, `optimizers`, `train_dataset`, ...
        metrics (Metrics): the validation values by name, including those expected.
        losses (Losses): the training losses of the epoch so far; reading one waits for the device.
        step_hooks (StepHooks): calls a function before or after each step, or before or after every n-th.
        updates (Updates): which steps update the weights; a step that loss scaling drops, or that only accumulates
            gradients, does not.
        copies (Copies): copies of parameters; equal ones share memory.
        background (BackgroundThread): writes files while training continues.
        outcome (Outcome): how the run ended, or that it has not ended yet.
        notes (list[str]): what the checks have printed about the run that is not an error.
        callbacks (list[Callback]): every callback in the list, including MindSpore's own and the user's.

    Example:
        >>> class Beat(TrainCallback):
        ...     def before_train(self, run):
        ...         run.step_hooks.every(2, self, self.report)
        ...
        ...     def report(self, run):
        ...         self.log(f"step {run.step_in_epoch} of {run.steps_per_epoch}")
        >>> model.train(1, train_dataset, callbacks=[Beat()])
        Beat: step 2 of 4
        Beat: step 4 of 4
    """

    metrics: Metrics

    def __init__(
        self, run_context: Any, callbacks: list[Any], reader: Optional[OutputReader], actions: RunActions
    ) -> None:
        self._context = run_context
        self._args: dict[str, Any] = run_context.original_args()
        self._actions = actions
        self.callbacks: list[Any] = list(self._args["list_callback"])
        self.outcome = Outcome()
        self.notes: list[str] = []
        self.progress = Progress(self._args)
        self.parts = TrainedParts(self._args)
        self.losses = Losses(reader)
        self.updates = Updates(self._args, self.parts.optimizers, self.progress, self.losses.reader)
        self.step_hooks = StepHooks(
            self, self._args, callbacks, self.losses, self.progress.ended_at, self.updates.observe
        )
        self.copies = Copies()
        self.background = BackgroundThread()

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return self.progress.epoch

    @property
    def epochs(self) -> int:
        """The last epoch planned."""
        return self.progress.epochs

    @property
    def step(self) -> int:
        """The current step, counted from the first step of epoch 1."""
        return self.progress.step

    @property
    def step_in_epoch(self) -> int:
        """The current step, within its epoch."""
        return self.progress.step_in_epoch

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps per epoch that the dataset declares; if its batches vary, an epoch may have another."""
        return self.progress.steps_per_epoch

    @property
    def network(self) -> nn.Cell:
        """The network that is trained, found inside the training cell if the Model was given one."""
        return self.parts.network("Run")

    @property
    def weights(self) -> dict[str, Parameter]:
        """The parameters of the network and of its loss by name, without those of an optimizer."""
        return self.parts.weights

    @property
    def batch(self) -> Optional[tuple[Any, ...]]:
        """The columns of the current batch; `None` in sink mode, where batches go to the device unseen."""
        element = self._args.get("train_dataset_element")
        return tuple(element) if element else None

    @property
    def outputs(self) -> Any:
        """What the step's training network returned: a loss, or a tuple that begins with one."""
        return self._args.get("net_outputs")

    @property
    def is_stopping(self) -> bool:
        """Whether any callback has requested a stop."""
        return bool(self._context.get_stop_requested())

    def request_stop(
        self, by: str = "a callback", *, interrupt: bool = False, error: Optional[BaseException] = None
    ) -> bool:
        """Stop training after this step, or after this epoch if its steps are over.

        Args:
            by: the callback that has decided it, for reports about the run. Default: "a callback".
            interrupt: whether this is an interruption, after which a later run may continue, rather than a final
                decision. An epoch that it cuts short is neither evaluated nor counted. Default: False.
            error: an exception that `Model.train` raises after the run has ended as usual and every callback was torn
                down, unless another exception ends the run. The first such exception counts. Default: None.

        Returns:
            Whether this request is the one that stops the run.
        """
        return self._actions.request_stop(by, interrupt, error)

    def replace_batch(self, *columns: Any) -> None:
        """Replace the batch of the step that is about to run; call it from a function of `step_hooks.on_step_begin`.

        Every callback sees the new batch. The arrays that the dataset holds are not changed.

        Args:
            columns: the new columns, as many as the batch has.

        Raises:
            RuntimeError: there is no batch that can be replaced, as in sink mode, or it has another number of columns.
        """
        element = self._args.get("train_dataset_element")
        # MindSpore passes this list object to the step. `Tensor.copy_` would instead write into an array that a Python
        # dataset may have returned, and so change all later epochs.
        if not isinstance(element, list) or len(columns) != len(element):
            told = f"has {len(element)} columns" if isinstance(element, list) else "cannot be replaced"
            raise RuntimeError(f"Run: replace_batch got {len(columns)} columns, but the batch of this step {told}")
        element[:] = columns

    def evaluate(self) -> None:
        """Evaluate the Model now, between two steps, as `Validate` does; every callback observes the results.

        Nothing happens if this step was already evaluated, or if the end of its epoch is about to be evaluated.
        """
        self._actions.evaluate()

    def before_checkpoint(self) -> None:
        """Have every callback check, before weights are kept, that they may be; a callback raises if not."""
        self._actions.before_checkpoint()
