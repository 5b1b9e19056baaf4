"""Average the weights over the steps of training; evaluations, checkpoints and the end of training use the average."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
from mindspore import Parameter

from ..core.arguments import check_bool, check_choice, check_int, check_number
from ..core.callback import TrainCallback
from ..core.parameters import Snapshot, check_parameters
from ..core.placement import Needs
from ..core.run import Run
from ._averages import Averages, averaged

__all__ = ["EMAWeightAveraging"]

_OWNER = "EMAWeightAveraging"


class EMAWeightAveraging(TrainCallback):
    r"""Average the weights exponentially after each optimizer step, and use the average wherever weights are judged.

    After each step, :math:`a \leftarrow d\,a + (1 - d)\,w` with decay :math:`d`, in float32 whatever the type of the
    weights :math:`w` (in half precision, an average with :math:`d` close to 1 would not move). The average is in the
    network while it is evaluated and while callbacks observe the evaluation, so that `BestCheckpoint`, `ExportBest` and
    `EarlyStopping(restore_best_weights=True)` keep averaged weights, and when training ends. In between, training
    continues with its own weights, bit for bit as without this callback. `TrainingState` saves both. The file of
    `BestCheckpoint(save_last=True)` has the weights that training continues with.

    With `warmup`, the decay in the t-th update is at most :math:`(1 + t) / (10 + t)`, as in timm and TensorFlow, so
    that the weights of the beginning are soon forgotten. Only steps that update the weights count: not one that loss
    scaling dropped, or that only accumulates gradients. Before the first update, evaluations see the network's own
    weights.

    Each update reads the weights, for which Python waits for the device; on a CPU it costs about as much as one pass of
    NumPy over the parameters. With several processes, each averages the same weights, and its own BatchNorm statistics.

    Lightning calls this `EMAWeightAveraging` too; in Keras it is `SwapEMAWeights`, with an optimizer that averages.

    Args:
        decay: how much of the average an update keeps, above 0 and below 1. Default: 0.999.
        update_every_n_steps: updates after every n-th optimizer step. Default: 1.
        start_step: how many optimizer steps pass before the first that is averaged, at least 0. Default: 0.
        warmup: whether the decay begins small. Default: True.
        buffers: what is evaluated of parameters that are not trained, such as BatchNorm's statistics: their
            `"average"`, or a `"copy"` of what they are. Default: "average".

    Attributes:
        updates_ (int): how often the average was updated.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: sink mode, where steps are not
            seen; or this process holds only a part of the weights.

    Example:
        >>> averaging = EMAWeightAveraging(decay=0.99)
        >>> best = BestCheckpoint(folder + "/best.ckpt", monitor="acc", verbose=0)  # of averaged weights
        >>> model.train(2, train_dataset, callbacks=[averaging, Validate(model, valid_dataset), best])
        >>> averaging.updates_
        8

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; Tarvainen and Valpola,
    "Mean teachers are better role models", 2017, https://arxiv.org/abs/1703.01780
    """

    transient = ("_parameters", "_own")

    def __init__(
        self,
        decay: float = 0.999,
        *,
        update_every_n_steps: int = 1,
        start_step: int = 0,
        warmup: bool = True,
        buffers: str = "average",
    ) -> None:
        super().__init__()
        self.decay = check_number(_OWNER, "decay", decay, above=0, below=1)
        self.update_every_n_steps = check_int(_OWNER, "update_every_n_steps", update_every_n_steps, 1)
        self.start_step = check_int(_OWNER, "start_step", start_step, 0)
        self.warmup = check_bool(_OWNER, "warmup", warmup)
        self.buffers = check_choice(_OWNER, "buffers", buffers, ("average", "copy"))
        self._own: Optional[Snapshot] = None
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the average of earlier runs."""
        self.updates_ = self._steps = 0
        self._average = Averages()

    def needs(self, run: Run) -> Needs:
        """Return the weights."""
        return super().needs(run) | Needs.WEIGHTS

    def check(self, run: Run) -> None:
        """Raise where steps cannot be seen, or weights could not be written back."""
        super().check(run)
        if run.progress.is_sinking:
            raise ValueError(
                f"{_OWNER}: in sink mode steps run on the device unseen, and cannot be averaged; train with "
                f"dataset_sink_mode=False"
            )
        check_parameters(_OWNER, self._averaged(run))

    def before_train(self, run: Run) -> None:
        """Average after each optimizer step from now on."""
        self._parameters = self._averaged(run)
        self._own = None
        run.step_hooks.on_optimizer_step(self, self._count_step)

    def before_evaluation(self, run: Run) -> None:
        """Put the average into the network."""
        if self.updates_:
            own = Snapshot(self._parameters)
            own.take()
            self._own = own  # first, so that it is put back whatever happens
            self._average.write(self._parameters)

    def end_evaluation(self, run: Run) -> None:
        """Put the network's own weights back."""
        own, self._own = self._own, None
        if own is not None:
            own.restore(together=False)

    def finalize_weights(self, run: Run) -> None:
        """Leave the average in the network; a callback that restores the best weights does so after this."""
        if self.updates_:
            self._average.write(self._parameters)

    def final_weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the average."""
        return self._average.arrays

    def state_dict(self) -> dict[str, Any]:
        """Return how many optimizer steps and updates there were."""
        return {"steps": self._steps, "updates": self.updates_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned, in the next run."""
        super().load_state_dict(state)
        self._steps, self.updates_ = state["steps"], state["updates"]

    def state_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the average, in float32."""
        return self._average.arrays

    def load_state_arrays(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Continue with an average that `state_arrays` returned."""
        self._average = Averages({name: np.array(array) for name, array in arrays.items()})

    def _averaged(self, run: Run) -> dict[str, Parameter]:
        return averaged(run.weights, trained_only=self.buffers == "copy")

    def _count_step(self, run: Run) -> None:
        index = self._steps - self.start_step
        self._steps += 1
        if index >= 0 and index % self.update_every_n_steps == 0:
            done = self.updates_
            decay = min(self.decay, (1 + done) / (10 + done)) if self.warmup else self.decay
            self._average.add(self._parameters, 1 - decay)
            self.updates_ += 1
