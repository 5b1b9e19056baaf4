"""Keep an exponential moving average of the weights for evaluations, checkpoints and the final network."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
from mindspore import Parameter

from ..core.arguments import check_bool, check_choice, check_int, check_number
from ..core.parameters import Snapshot
from ..core.run import Run
from ._averages import Averages, AveragingCallback, averaged

__all__ = ["EMAWeightAveraging"]

_OWNER = "EMAWeightAveraging"


class EMAWeightAveraging(AveragingCallback):
    r"""Keep an exponential moving average (EMA) of the weights; evaluate it, save it, and finish training with it.

    After each optimizer step, the average :math:`a` becomes :math:`d\,a + (1 - d)\,w` with decay :math:`d` and weights
    :math:`w`. It is computed in float32, because in half precision an average with :math:`d` close to 1 would not
    change. The network holds the average during each evaluation and while callbacks observe it. `BestCheckpoint`,
    `ExportBest` and `EarlyStopping(restore_best_weights=True)` therefore keep averaged weights. The network also holds
    the average when training ends. In between, training continues with the trained weights, bit for bit as without
    this callback. `TrainingState` saves both. The file of `BestCheckpoint(save_last=True)` has the trained weights.

    With `warmup`, the decay after :math:`t` updates is at most :math:`(1 + t) / (10 + t)`, as in timm and TensorFlow,
    so that the initial weights soon lose their influence. Only steps that update the weights count. A step that loss
    scaling dropped, or that only accumulates gradients, does not count. Before the first update, evaluations use the
    trained weights.

    Each update reads the weights, so Python waits for the device. On a CPU, an update costs about as much as the same
    computation in NumPy. With several processes, each process averages the same weights and its own BatchNorm
    statistics.

    Lightning's callback has the same name. In Keras, `SwapEMAWeights` does the same with an optimizer that averages.

    Args:
        decay: the fraction of the average that an update keeps, above 0 and below 1. Default: 0.999.
        update_every_n_steps: the average is updated after every n-th optimizer step. Default: 1.
        start_step: the number of optimizer steps before the first one that is averaged, at least 0. Default: 0.
        warmup: whether the decay starts small. Default: True.
        buffers: how to treat parameters that are not trained, such as BatchNorm's statistics: `"average"` uses their
            average, `"copy"` their current values. Default: "average".

    Attributes:
        updates_ (int): the number of updates of the average.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: sink mode, where callbacks do not
            see single steps; another callback averages the weights too; or this process holds only a part of them.

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

    def check(self, run: Run) -> None:
        """Raise in sink mode, or as for any average."""
        super().check(run)
        problem = "steps run on the device unseen, so weights cannot be averaged after each"
        run.progress.check_sees_steps(_OWNER, problem)

    def before_train(self, run: Run) -> None:
        """Register the update of the average after each optimizer step."""
        self._parameters = self._averaged(run)
        self._own = None
        run.step_hooks.on_optimizer_step(self, self._count_step)

    def before_evaluation(self, run: Run) -> None:
        """Put the average into the network."""
        if self.updates_:
            own = Snapshot(self._parameters)
            own.take()
            self._own = own  # stored before the write, so that the weights are put back even if the write fails
            self._average.write(self._parameters)

    def end_evaluation(self, run: Run) -> None:
        """Put the trained weights back."""
        own, self._own = self._own, None
        if own is not None:
            own.restore(together=False)

    def finalize_weights(self, run: Run) -> None:
        """Write the average into the network; callbacks that restore the best weights run after this."""
        if self.updates_:
            self._average.write(self._parameters)

    def final_weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the average."""
        return self._average.arrays

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers of optimizer steps and of updates."""
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
