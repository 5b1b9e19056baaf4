"""Measure gradients and updates while a network learns, since a training step of MindSpore returns only its loss."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Optional

import numpy as np
from mindspore import Parameter, Tensor

from ..core import distributed
from ..core.arguments import check_bool, check_choice, check_int, check_number
from ..core.artifacts import Artifact, TableArtifact
from ..core.callback import TrainCallback
from ..core.forward_hooks import untouched
from ..core.gradients import loss_and_gradients, loss_of_batch, norm_of
from ..core.learning_rates import without_wrapper
from ..core.mindspore_compat import set_training, stop_recording, training_call
from ..core.parameters import Arrays, views
from ..core.placement import Needs
from ..core.run import Run
from ..core.tensors import as_array

__all__ = ["GradientMonitor"]

_NORM, _RATIO = "grad_norm", "update_ratio"
_MOST_NAMED = 3


class GradientMonitor(TrainCallback):
    """Measure the gradients of every n-th step, and name the layers whose gradients vanish or explode.

    Before such a step, the gradients of its loss are computed for its batch and the current weights, in one additional
    forward and backward pass in PYNATIVE mode. They are the plain gradients: without loss scale, before clipping, and
    without weight decay. The change of the weights in the step is the update that the optimizer made, including all of
    these; its size is usually about 0.001 of the weights. The other steps cost nothing.

    The step itself is unchanged: weights, statistics, flags and random state are restored before it. The exception are
    layers that draw random numbers, such as Dropout: MindSpore cannot restore the state that its kernels draw from, so
    the run draws other numbers than without the monitor, and the measured gradients belong to another mask.

    Each epoch gets two numbers: `grad_norm` and `update_ratio`, the means over its measured steps. They can be
    monitored, and `History` and `CSVLogger` record them. A gradient that is NaN or infinite is reported and does not
    enter the mean; nor does the ratio of a step that does not change the weights, such as one that only accumulates
    gradients. A parameter that is frozen (`requires_grad` is False) or that no optimizer holds is left out. With
    several processes, the gradients are first averaged over them, as in the step.

    The norm of all gradients together is that of Lightning's `grad_norm` and PyTorch's `clip_grad_norm_`. A bias in
    front of a BatchNorm has no gradient and counts as vanishing; create such layers without a bias.

    Args:
        every_n_steps: measure every n-th step, counted from the first step of epoch 1. Default: 50.
        vanishing: the norm of a parameter's gradient below which it vanishes. Default: 1e-7.
        exploding: the norm of a parameter's gradient above which it explodes. Default: 1e3.
        per_parameter: whether each epoch also gets the mean norm for each parameter, as `grad_norm/conv.weight`.
            Default: False.
        verbose: 0 prints nothing; 1 prints a line when a parameter's gradient starts or stops vanishing, exploding or
            being not finite; 2 also prints the two numbers of each measured step. Default: 1.

    Attributes:
        norm_ (float | None): the norm of all gradients together in the last measured step.
        norms_ (dict[str, float]): the same for each parameter.
        update_ratio_ (float | None): the norm of the last measured step's change of all weights, divided by the norm of
            the weights before it.
        update_ratios_ (dict[str, float]): the same for each parameter whose weights are not all 0.
        vanishing_ (dict[str, int]): the parameters whose gradient vanished in the last measured step, and the step in
            which that was first found.
        exploding_ (dict[str, int]): the same for gradients that explode.
        nonfinite_ (dict[str, int]): the same for gradients that are NaN or infinite.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: sink mode on GPU or Ascend, where
            batches cannot be seen, a training cell in which the network cannot be identified, no parameter that is
            trained, or a network that does not return its loss and for which the Model has no loss function.

    Example:
        >>> gradients = GradientMonitor(every_n_steps=2)
        >>> history = History()
        >>> model.train(1, train_dataset, callbacks=[gradients, history])
        >>> history.history["grad_norm"][0] > 0
        True
        >>> sorted(gradients.norms_)
        ['1.bias', '1.weight']

    Source: Bengio, Simard and Frasconi, "Learning long-term dependencies with gradient descent is difficult", 1994.
    """

    transient = ("_before",)

    def __init__(
        self,
        every_n_steps: int = 50,
        *,
        vanishing: float = 1e-7,
        exploding: float = 1e3,
        per_parameter: bool = False,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        owner = "GradientMonitor"
        self.every_n_steps = check_int(owner, "every_n_steps", every_n_steps, 1)
        self.vanishing = check_number(owner, "vanishing", vanishing, minimum=0)
        self.exploding = check_number(owner, "exploding", exploding, above=self.vanishing)
        self.per_parameter = check_bool(owner, "per_parameter", per_parameter)
        self.verbose = check_choice(owner, "verbose", verbose, (0, 1, 2))
        self._before: Optional[Arrays] = None
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the findings of earlier runs."""
        self.norm_: Optional[float] = None
        self.norms_: dict[str, float] = {}
        self.update_ratio_: Optional[float] = None
        self.update_ratios_: dict[str, float] = {}
        self.vanishing_: dict[str, int] = {}
        self.exploding_: dict[str, int] = {}
        self.nonfinite_: dict[str, int] = {}
        self._sums: dict[str, list[float]] = {}  # of the epoch: the sum of each number, and its count

    def needs(self, run: Run) -> Needs:
        """Require the network's output for a batch to be complete in this process."""
        return super().needs(run) | Needs.WEIGHTS | Needs.OUTPUTS

    def summary_names(self, run: Run) -> tuple[str, ...]:
        """Return the names of the numbers that each epoch gets."""
        return (_NORM, _RATIO, *(map(_of_parameter, _trained(run)) if self.per_parameter else ()))

    def check(self, run: Run) -> None:
        """Raise if batches cannot be seen, or there is nothing to measure."""
        super().check(run)
        run.progress.check_sees_steps("GradientMonitor")
        if run.parts.found_network is None:
            raise ValueError(
                f"GradientMonitor: cannot tell which of the cells inside {type(run.parts.train_network).__name__} is "
                f"the network that is trained; let the training cell hold it as self.network"
            )
        if not _trained(run):
            raise ValueError("GradientMonitor: no optimizer holds a parameter whose requires_grad is True")

    def check_batch(self, run: Run) -> None:
        """Raise if the loss of a batch cannot be computed beside the training step."""
        batch, loss_fn = run.batch, run.parts.loss_fn
        if batch is None:  # a scripted run
            return
        try:
            with untouched(run.network, loss_fn, batch):
                loss = loss_of_batch(run.network, loss_fn, batch)
        except Exception as error:
            stop_recording()
            raise ValueError(
                f"GradientMonitor: the network and its loss do not run outside the training step "
                f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0]}); leave GradientMonitor out"
            ) from error
        is_loss = isinstance(loss, Tensor) and loss.is_floating_point() and (loss_fn is not None or loss.size == 1)
        if not is_loss:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else None
            raise ValueError(
                f"GradientMonitor: {type(run.network).__name__} returns "
                f"{f'a tensor of shape {shape}' if shape is not None else 'no tensor'}, which is not a loss, and "
                f"{type(run.parts.train_network).__name__} holds no loss function that can be found; put network and "
                f"loss into nn.WithLossCell, or let the network return its loss"
            )

    def before_train(self, run: Run) -> None:
        """Measure around every n-th step."""
        super().before_train(run)
        run.step_hooks.before_every(self.every_n_steps, self, self._measure_gradients)
        run.step_hooks.every(self.every_n_steps, self, self._measure_update)

    def before_epoch(self, run: Run) -> None:
        """Begin the means of the epoch, unless an earlier run has begun it."""
        if not (self.continues and run.progress.steps_skipped):
            self._sums = {}

    def summary_values(self, run: Run) -> dict[str, Optional[float]]:
        """Return the means over the epoch's measured steps so far."""
        found = {name: self._sums.get(name, [0.0, 0]) for name in self.summary_names(run)}
        return {name: total / count if count else None for name, (total, count) in found.items()}

    def artifacts(self) -> list[Artifact]:
        """Return the norms of the last measured step, parameter by parameter."""
        if self.norm_ is None:
            return []
        findings = {"vanishing": self.vanishing_, "exploding": self.exploding_, "not finite": self.nonfinite_}
        rows = [
            [
                name,
                f"{norm:.3g}",
                f"{self.update_ratios_[name]:.3g}" if name in self.update_ratios_ else "-",
                ", ".join(f"{what} since step {found[name]}" for what, found in findings.items() if name in found),
            ]
            for name, norm in self.norms_.items()
        ]
        ratio = "unknown" if self.update_ratio_ is None else f"{self.update_ratio_:.3g}"
        return [
            TableArtifact(
                "gradients",
                "Gradients in the last measured step",
                ["Parameter", "Gradient norm", "Update ratio", "Finding"],
                rows,
                ("Gradient norm", "Update ratio"),
                f"Together: gradient norm {self.norm_:.4g}, update ratio {ratio}",
            )
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the findings, and the means of the epoch so far."""
        return {
            "norm": self.norm_,
            "norms": dict(self.norms_),
            "update_ratio": self.update_ratio_,
            "update_ratios": dict(self.update_ratios_),
            "vanishing": dict(self.vanishing_),
            "exploding": dict(self.exploding_),
            "nonfinite": dict(self.nonfinite_),
            "sums": {name: list(each) for name, each in self._sums.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.norm_, self.update_ratio_ = state["norm"], state["update_ratio"]
        self.norms_, self.update_ratios_ = dict(state["norms"]), dict(state["update_ratios"])
        self.vanishing_, self.exploding_ = dict(state["vanishing"]), dict(state["exploding"])
        self.nonfinite_ = dict(state["nonfinite"])
        self._sums = {name: list(each) for name, each in state["sums"].items()}

    def teardown(self) -> None:
        """Release the weights of a step that did not end."""
        self._before = None

    def _measure_gradients(self, run: Run) -> None:
        """Compute the gradients of the step that is about to run, and keep the weights before it."""
        call = training_call()
        if call is not None:  # as the Model does between this and the step
            set_training(call.model, run.parts.train_network)
        trained = _trained(run)
        if run.batch is not None:
            _, gradients = loss_and_gradients(run.network, run.parts.loss_fn, run.batch, list(trained.values()))
            self._note_gradients(run, dict(zip(trained, _averaged(gradients))))
        self._before = {name: as_array(view).copy() for name, view in views(trained).items()}

    def _note_gradients(self, run: Run, gradients: Arrays) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            self.norms_ = {name: norm_of(each) for name, each in gradients.items()}
        self.norm_ = _together(self.norms_.values())
        self._add(_NORM, self.norm_)
        if self.per_parameter:
            for name, norm in self.norms_.items():
                self._add(_of_parameter(name), norm)
        kinds = {name: self._kind(norm) for name, norm in self.norms_.items()}
        self._note("not finite", self.nonfinite_, [name for name, kind in kinds.items() if kind == "nonfinite"])
        self._note("exploding", self.exploding_, [name for name, kind in kinds.items() if kind == "exploding"])
        self._note("vanishing", self.vanishing_, [name for name, kind in kinds.items() if kind == "vanishing"])

    def _kind(self, norm: float) -> str:
        if not math.isfinite(norm):
            return "nonfinite"
        return "exploding" if norm > self.exploding else "vanishing" if norm < self.vanishing else ""

    def _note(self, what: str, known: dict[str, int], found: list[str]) -> None:
        """Add what was found to what is known, drop what no longer is, and report the difference."""
        added, gone = [name for name in found if name not in known], [name for name in known if name not in found]
        known.update(dict.fromkeys(added, self.run.step))
        for name in gone:
            del known[name]
        for is_so, names in (("", added), ("no longer ", gone)):
            if names and self.verbose:
                self.log(f"step {self.run.step}: gradient {is_so}{what}: {self._listed(names)}")

    def _listed(self, names: list[str]) -> str:
        """Return the first of the parameters, each with its norm."""
        first = ", ".join(f"{name!r} (norm {self.norms_[name]:.2g})" for name in names[:_MOST_NAMED])
        return first if len(names) <= _MOST_NAMED else f"{first} and {len(names) - _MOST_NAMED} more"

    def _measure_update(self, run: Run) -> None:
        """Compare the weights after the step with those before it."""
        before, self._before = self._before, None
        if before is None:
            return
        after = views(_trained(run))
        weights = {name: norm_of(each) for name, each in before.items()}
        with np.errstate(over="ignore", invalid="ignore"):
            changes = {name: norm_of(as_array(after[name]).astype(np.float64) - each) for name, each in before.items()}
        self.update_ratios_ = {name: changes[name] / norm for name, norm in weights.items() if norm}
        weight = _together(weights.values())
        self.update_ratio_ = _together(changes.values()) / weight if weight else None
        if self.update_ratio_:
            self._add(_RATIO, self.update_ratio_)
        if self.verbose == 2 and self.norm_ is not None:
            ratio = "unknown" if self.update_ratio_ is None else f"{self.update_ratio_:.3g}"
            self.log(f"step {run.step}: gradient norm {self.norm_:.4g}, update ratio {ratio}")

    def _add(self, name: str, value: float) -> None:
        if math.isfinite(value):
            total, count = self._sums.get(name, [0.0, 0])
            self._sums[name] = [total + value, count + 1]


def _trained(run: Run) -> dict[str, Parameter]:
    """Return the parameters that are trained, by name."""
    optimizers = map(without_wrapper, run.parts.optimizers)
    held = {id(one) for each in optimizers for one in getattr(each, "parameters", None) or ()}
    return {name: one for name, one in run.weights.items() if one.requires_grad and (id(one) in held or not held)}


def _averaged(gradients: list[Tensor]) -> list[np.ndarray[Any, Any]]:
    """Return the gradients, averaged over all processes."""
    ranks = distributed.count()
    arrays = [as_array(each) for each in gradients]
    if ranks == 1:
        return arrays
    return [distributed.sums(each.astype(np.float32).reshape(-1)) / ranks for each in arrays]


def _together(norms: Iterable[float]) -> float:
    """Return the norm of all parts together."""
    return math.sqrt(math.fsum(norm * norm for norm in norms)) if (norms := list(norms)) else 0.0


def _of_parameter(name: str) -> str:
    return f"{_NORM}/{name}"
