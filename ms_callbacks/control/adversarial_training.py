"""Train on adversarial samples, so that small changes to an input mislead the network less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype

from ..core import distributed
from ..core.arguments import check_bool, check_int, check_number
from ..core.callback import TrainCallback, only_one
from ..core.fgsm import InputGradient, between_steps
from ..core.mindspore_compat import is_uninitialised
from ..core.parameters import Snapshot
from ..core.placement import Needs
from ..core.run import Run
from ..core.tensors import as_array

__all__ = ["AdversarialTraining"]

_OWNER = "AdversarialTraining"
# The step size of fast adversarial training, in epsilons. From a random start, it may exceed epsilon; it is clipped.
_OVERSHOOT = 1.25
# The fraction of the range by which inputs may exceed the bounds, because users round the bounds.
_TOLERANCE = 0.01

Bound = Union[float, Sequence[float]]


class AdversarialTraining(TrainCallback):
    """Attack a share of the samples of each batch by FGSM before the step trains on the batch.

    As in the fast gradient sign method (FGSM), a sample x becomes x + epsilon * sign(dloss/dx), clipped to `bounds`.
    Labels and the order of the samples do not change. With `random_start`, a sample is first moved by a random amount
    of at most epsilon per element, then by 1.25 epsilon along the sign, and is clipped to a distance of epsilon.
    Without a random start, networks can learn to hide their gradient; they then resist only this attack.

    The gradient is computed with the weights before the step, in evaluation mode: BatchNorm normalises by its running
    statistics and does not change them, Dropout drops nothing, and MindSpore's random state does not change. Your own
    hooks of the network are called. In GRAPH mode, the attack is compiled once for each batch size, so batch the
    dataset with `drop_remainder=True`. Every step has an additional forward and backward pass for the attacked samples.

    The training loss is the loss of the batch with its attacked samples. It is higher than that of the plain batch.
    Other callbacks see the batch with its attacked samples too. Evaluations use plain samples. The callback never
    writes into the arrays that the dataset holds. With several processes, each attacks the batches of its own shard.

    The random choices (which samples are attacked, and their starts) depend only on `seed`, the step and the process.
    The callback therefore has no state: a resumed run and a second run make the same choices as a first one.

    Args:
        epsilon: how far to move each element, in the units of the network's input, as in `Robustness`; above 0. If
            MNIST is normalised with a standard deviation of 0.3081, 0.1 is 3 % of the range from black to white.
        bounds: the lowest and the highest value of an input, (low, high), in the same units; for pixels in [0, 1] that
            are normalised with mean and std, `((0 - mean) / std, (1 - mean) / std)`. Each is a number, or a sequence
            with one number per channel (axis 1). Infinity means no bound.
        share: the fraction of each batch to attack, above 0 and at most 1. The number of samples is rounded and is at
            least 1. Default: 0.5.
        random_start: whether to start from a random point nearby. Default: True.
        seed: the seed of the random choices, at least 0. Default: 0.

    Raises:
        TypeError, ValueError: an argument is not as described.
        ValueError: before the first step: sink mode, where batches cannot be replaced; a Model without a loss function;
            another `AdversarialTraining` in the list; inputs that are not floats, or that lie outside the bounds by
            more than 1 % of their range; a batch that is not one column of inputs and one of labels, with one label
            per sample.

    Example:
        >>> robust = AdversarialTraining(0.1, bounds=(-float("inf"), float("inf")))
        >>> model.train(1, train_dataset, callbacks=[robust, Robustness(valid_dataset, (0.0, 0.1))])
        Robustness: epsilon 0: accuracy ... (... of 48 samples)
        Robustness: epsilon 0.1: accuracy ... (... of 48 samples)

    Source: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", 2015, https://arxiv.org/abs/1412.6572;
    the random start: Wong et al., "Fast is better than free", 2020, https://arxiv.org/abs/2001.03994
    """

    transient = ("_attack", "_written")

    def __init__(
        self,
        epsilon: float,
        *,
        bounds: tuple[Bound, Bound],
        share: float = 0.5,
        random_start: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.epsilon = check_number(_OWNER, "epsilon", epsilon, above=0.0)
        self._low, self._high = _checked(bounds)
        self.bounds = bounds
        self.share = check_number(_OWNER, "share", share, above=0.0)
        if self.share > 1:
            raise ValueError(f"{_OWNER}: share must be at most 1, the whole batch, but got {share}")
        self.random_start = check_bool(_OWNER, "random_start", random_start)
        self.seed = check_int(_OWNER, "seed", seed, 0)
        self._attack: Optional[_Attack] = None
        self._written: Optional[dict[str, Parameter]] = None

    def needs(self, run: Run) -> Needs:
        """Require that this process computes the whole output of the network for a batch."""
        return super().needs(run) | Needs.OUTPUTS

    def check(self, run: Run) -> None:
        """Raise if batches cannot be replaced, or if there is no loss function to attack with."""
        super().check(run)
        only_one(_OWNER, [each for each in run.callbacks if isinstance(each, AdversarialTraining)], "replace samples")
        run.progress.check_sees_steps(_OWNER, "batches go to the device unseen and cannot be replaced")
        if run.parts.loss_fn is None:
            raise ValueError(
                f"{_OWNER}: needs a Model with a loss function, such as Model(network, loss_fn, optimizer), or a "
                f"training cell around nn.WithLossCell(network, loss_fn)"
            )
        run.parts.network(_OWNER)

    def check_batch(self, run: Run) -> None:
        """Raise if the batch cannot be attacked; compile the attack, and find the parameters that it changes."""
        batch = run.batch or ()
        self._check_columns(batch)
        network, loss_fn = run.network, run.parts.loss_fn
        low, high = (_broadcast(bound, batch[0]) for bound in (self._low, self._high))
        known = self._attack  # compiled in an earlier run
        if known is None or not known.input_gradient.is_of(network, loss_fn) or known.low.shape != low.shape:
            self._attack = _Attack(network, loss_fn, self.epsilon, low, high, self.random_start)
        self._written = {
            name: one for name, one in run.weights.items() if not one.requires_grad and not is_uninitialised(one)
        }
        before = Snapshot(self._written)
        before.take()
        self._attacked(run)
        self._written = before.changed()
        Snapshot(self._written, before.arrays).restore(together=False)

    def before_train(self, run: Run) -> None:
        """Register the attack before each step."""
        run.step_hooks.on_step_begin(self, self._replace)

    def _replace(self, run: Run) -> None:
        """Replace the batch by one with attacked samples; restore what the forward pass has written."""
        if not self._written:
            run.replace_batch(*self._attacked(run))
            return
        before = Snapshot(self._written)
        before.take()
        run.replace_batch(*self._attacked(run))
        before.restore(together=False)

    def _attacked(self, run: Run) -> tuple[Tensor, Tensor]:
        """Return the inputs of the batch with a share of them attacked, and the labels."""
        inputs, labels = run.batch or ()
        count = inputs.shape[0]
        random = np.random.default_rng((self.seed, run.step, distributed.place()))
        chosen = random.permutation(count)[: max(1, int(self.share * count + 0.5))]
        shape = (len(chosen), *inputs.shape[1:]) if self.random_start else (1,) * inputs.ndim
        noise = random.random(shape, np.float32) if self.random_start else np.zeros(shape, np.float32)
        assert self._attack is not None  # made in check_batch
        with between_steps(self._attack):
            return self._attack(inputs, labels, Tensor(chosen.astype(np.int32)), Tensor(noise)), labels

    def _check_columns(self, batch: tuple[Any, ...]) -> None:
        if len(batch) != 2:
            raise ValueError(
                f"{_OWNER}: the training dataset must have two columns, inputs and labels, but has {len(batch)}"
            )
        inputs, labels = batch
        if not inputs.is_floating_point():
            raise ValueError(
                f"{_OWNER}: the inputs must be floats, for a gradient to exist, but are {inputs.dtype}; scale them to "
                f"floats in the dataset"
            )
        if inputs.ndim == 0 or labels.ndim == 0 or inputs.shape[0] != labels.shape[0]:
            raise ValueError(
                f"{_OWNER}: needs one label per sample, batch first, but the inputs are of shape {tuple(inputs.shape)} "
                f"and the labels of shape {tuple(labels.shape)}; call batch on the dataset"
            )
        if self._low.ndim and (inputs.ndim < 2 or inputs.shape[1] != len(self._low)):
            raise ValueError(
                f"{_OWNER}: bounds has {len(self._low)} channels, but the inputs are of shape {tuple(inputs.shape)}, "
                f"where axis 1 is the channels"
            )
        values = as_array(inputs).astype(np.float32)
        low, high = (_broadcast(bound, inputs) for bound in (self._low, self._high))
        finite = np.isfinite(low) & np.isfinite(high)
        slack = _TOLERANCE * (np.where(finite, high, 0) - np.where(finite, low, 0))
        if (values < low - slack).any() or (values > high + slack).any():
            raise ValueError(
                f"{_OWNER}: inputs of the first batch lie outside the bounds {self.bounds}: from {values.min():g} to "
                f"{values.max():g}; bounds are those of the normalised input, ((0 - mean) / std, (1 - mean) / std)"
            )


class _Attack(nn.Cell):
    """Move the chosen samples of a batch along the sign of their gradient."""

    def __init__(self, network: nn.Cell, loss_fn: Any, epsilon: float, low: Any, high: Any, random_start: bool) -> None:
        super().__init__(auto_prefix=False)
        self.input_gradient = InputGradient(network, loss_fn)
        self.epsilon = epsilon
        self.step = epsilon * (_OVERSHOOT if random_start else 1.0)
        self.low, self.high = Tensor(low), Tensor(high)
        self.random_start = random_start
        self.scatter = ops.TensorScatterUpdate()

    def construct(self, inputs: Tensor, labels: Tensor, chosen: Tensor, noise: Tensor) -> Tensor:
        """Return the inputs after an attack on the samples at `chosen`; `noise` is in [0, 1)."""
        clean = ops.gather(inputs, chosen, 0)
        plain = ops.cast(clean, mstype.float32)
        lowest = ops.maximum(plain - self.epsilon, self.low)
        highest = ops.minimum(plain + self.epsilon, self.high)
        start = plain
        if self.random_start:
            start = ops.minimum(ops.maximum(plain + self.epsilon * (2.0 * noise - 1.0), lowest), highest)
        gradient = self.input_gradient(ops.cast(start, clean.dtype), ops.gather(labels, chosen, 0))
        moved = start + self.step * ops.sign(ops.cast(gradient, mstype.float32))
        moved = ops.minimum(ops.maximum(moved, lowest), highest)
        return self.scatter(inputs, chosen.reshape(-1, 1), ops.cast(moved, inputs.dtype))


def _checked(bounds: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the two bounds as arrays of shape () or (channels,); raise unless the first is below the second."""
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise TypeError(
            f"{_OWNER}: bounds must be the lowest and the highest value of an input, (low, high), such as "
            f"((0 - mean) / std, (1 - mean) / std), but got {bounds!r}"
        )
    try:
        low, high = (np.asarray(each, np.float32) for each in bounds)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{_OWNER}: bounds must be numbers, or one number per channel, but got {bounds!r}") from error
    if low.shape != high.shape or low.ndim > 1:
        raise ValueError(f"{_OWNER}: bounds must be two numbers, or two equally long sequences, but got {bounds!r}")
    if not (low < high).all():  # false for NaN too
        raise ValueError(f"{_OWNER}: in bounds, low must be below high, but got {bounds!r}")
    return low, high


def _broadcast(bound: np.ndarray[Any, Any], inputs: Tensor) -> np.ndarray[Any, Any]:
    """Return a bound in a shape that broadcasts to the inputs, with the channels on axis 1."""
    return bound.reshape(-1, *(1,) * (inputs.ndim - 2)) if bound.ndim else bound
