"""Fine-tune a network from its head down, a few layers more at a time."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from mindspore import nn
from mindspore.train import Model

from ..core.arguments import check_choice, check_int, check_number, quoted
from ..core.callback import TrainCallback, only_one
from ..core.console import counted
from ..core.learning_rates import Rates
from ..core.mindspore_compat import keep_out_of_training, return_to_training, set_training, training_call
from ..core.placement import Needs
from ..core.run import Run
from ._stages import OPTIMIZERS, Stage, find_stages, kind_of, names_of, places_of, renew

__all__ = ["GradualUnfreezing"]

_OWNER = "GradualUnfreezing"


class GradualUnfreezing(TrainCallback):
    """Train some layers from the start and others from a later epoch on, as fastai's gradual unfreezing does.

    MindSpore's optimizers cannot be given parameters later, and they train all parameters that they hold, whatever
    `requires_grad` says. So create the optimizer with one parameter group per stage, as `parameter_groups` returns
    them; the callback holds the rate of a group at 0 until its epoch. Its weights then stay unchanged bit for bit:
    neither moments nor weight decay move them. A rate that a schedule sets for a frozen group takes effect when the
    group is unfrozen; the group does not lose its initial rate.

    Until their epoch, layers with running statistics, such as BatchNorm, normalise by these statistics as in
    evaluation, and the statistics stay unchanged. Dropout is not affected. In GRAPH mode, the training step is compiled
    once more whenever such a layer is unfrozen.

    A group that is unfrozen begins with the moments of a new optimizer, like a group that is added to an optimizer of
    PyTorch. With `Adam`, `LazyAdam` and `AdaMax` it keeps the moments gathered while it was frozen: these optimizers
    count their steps for all groups together, and moments of 0 would make the first steps several times too large.

    Args:
        epochs: by epoch, from 1, the layers that are trained from the beginning of that epoch on: a name as in
            `network.cells_and_names()`, or a list of names; a cell stands for everything inside it. Each parameter that
            is to be trained belongs to exactly one epoch; exclude others with `freeze`.
        rates: by epoch, the learning rate of its layers, if it is not that of `parameter_groups`. Default: None.
        verbose: 1 prints a line when layers are unfrozen, 0 nothing. Default: 1.

    Attributes:
        unfrozen_ (dict[str, int]): the layers that are trained, each with the epoch of its first training.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: a layer that does not exist, has
            no parameter that is trained or overlaps with another, parameters in no group, an optimizer that was not
            made with `parameter_groups`, that is none of `SGD`, `Momentum`, `RMSProp`, `Adam`, `LazyAdam`, `AdaMax` and
            `AdamWeightDecay`, or that holds a list or schedule of rates, several optimizers, or sink mode.

    Example:
        >>> network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 8), nn.ReLU(), nn.Dense(8, 3))
        >>> unfreezing = GradualUnfreezing({1: "3", 2: "1"}, rates={2: 0.001})
        >>> optimizer = nn.Momentum(unfreezing.parameter_groups(network, 0.01), 0.01, 0.9)
        >>> model = ms.Model(network, loss_fn, optimizer)
        >>> model.train(2, train_dataset, callbacks=[unfreezing])
        GradualUnfreezing: epoch 1: trains '3'
        GradualUnfreezing: epoch 2: trains '1' as well
        >>> unfreezing.unfrozen_
        {'3': 1, '1': 2}

    Source: Howard and Ruder, "Universal language model fine-tuning for text classification", 2018,
    https://arxiv.org/abs/1801.06146
    """

    transient = ("_rates", "_stages", "_model", "_frozen")

    def __init__(
        self,
        epochs: Mapping[int, Union[str, Sequence[str]]],
        *,
        rates: Optional[Mapping[int, float]] = None,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(epochs, Mapping) or not epochs:
            raise TypeError(
                f"{_OWNER}: epochs must be layers by epoch, as in {{1: 'head', 3: ['conv1', 'norm1']}}, but got "
                f"{epochs!r}"
            )
        for epoch, layers in epochs.items():
            check_int(_OWNER, "an epoch of epochs", epoch, 1)
            names_of(_OWNER, layers)
        if 1 not in epochs:
            raise ValueError(
                f"{_OWNER}: epochs must say what is trained from epoch 1 on, but its first epoch is {min(epochs)}"
            )
        if rates is not None and not isinstance(rates, Mapping):
            raise TypeError(f"{_OWNER}: rates must be learning rates by epoch, as in {{3: 0.001}}, but got {rates!r}")
        for epoch, rate in (rates or {}).items():
            if epoch not in epochs:
                raise ValueError(f"{_OWNER}: rates has epoch {epoch!r}, but epochs has only {quoted(sorted(epochs))}")
            check_number(_OWNER, f"rates[{epoch}]", rate, above=0)
        self.epochs = epochs
        self.rates = rates
        self.verbose = check_choice(_OWNER, "verbose", verbose, (0, 1))
        self._rates: Optional[Rates] = None
        self._stages: Optional[list[Stage]] = None
        self._model: Optional[Model] = None
        self._frozen: Optional[list[nn.Cell]] = None
        self.reset_state()

    def parameter_groups(self, network: nn.Cell, learning_rate: float) -> list[dict[str, Any]]:
        """Return one parameter group for each epoch, in their order, for any optimizer of `mindspore.nn`.

        Args:
            network: the network that is trained.
            learning_rate: the rate of the groups that have none in `rates`. Pass the optimizer the same.

        Raises:
            TypeError, ValueError: an argument is not as described, or the layers do not fit the network.

        Example:
            >>> unfreezing = GradualUnfreezing({1: "1"}, verbose=0)
            >>> [group["lr"] for group in unfreezing.parameter_groups(network, 0.01)]
            [0.01]
        """
        if not isinstance(network, nn.Cell):
            raise TypeError(f"{_OWNER}: network must be an nn.Cell, but got {type(network).__name__}")
        rate = check_number(_OWNER, "learning_rate", learning_rate, above=0)
        rates = self.rates or {}
        stages = find_stages(_OWNER, self.epochs, network)
        return [{"params": stage.parameters, "lr": float(rates.get(stage.epoch, rate))} for stage in stages]

    def reset_state(self) -> None:
        """Forget which layers were trained in an earlier run."""
        self.unfrozen_: dict[str, int] = {}
        self._planned: Optional[list[float]] = None

    def needs(self, run: Run) -> Needs:
        """Require weights and moments to be complete in this process."""
        return super().needs(run) | Needs.WEIGHTS | Needs.OPTIMIZER

    def check(self, run: Run) -> None:
        """Raise if the layers do not fit the network, or the optimizer's groups do not fit the layers."""
        super().check(run)
        only_one(_OWNER, [one for one in run.callbacks if isinstance(one, GradualUnfreezing)], "freeze layers")
        problem = "steps run on the device unseen, and layers cannot be kept frozen in them"
        run.progress.check_sees_steps(_OWNER, problem)
        stages = find_stages(_OWNER, self.epochs, run.parts.network(_OWNER))
        kind = None if len(run.parts.optimizers) != 1 else kind_of(run.parts.optimizers[0])
        if kind is None or run.parts.rates is None:
            found = ", ".join(type(one).__name__ for one in run.parts.optimizers) or "none"
            raise ValueError(
                f"{_OWNER}: needs one optimizer that leaves weights unchanged while their rate is 0, one of "
                f"{', '.join(OPTIMIZERS)}, but the Model's is {found}"
            )
        if run.parts.rates.is_dynamic:
            raise ValueError(
                f"{_OWNER}: the optimizer holds a list or a schedule of learning rates and sets its rate itself; make "
                f"it with a number, and add a schedule such as LRCosineAnnealing to the callbacks"
            )
        if places_of(run.parts.rates, stages) is None:
            raise ValueError(
                f"{_OWNER}: the optimizer's parameter groups are not those of the {counted(len(stages), 'epoch')}; "
                f"make it with unfreezing = {self!r}: "
                f"nn.{kind}(unfreezing.parameter_groups(network, learning_rate), learning_rate, ...)"
            )

    def before_train(self, run: Run) -> None:
        """Hold the rates of all groups that begin later."""
        super().before_train(run)
        call = training_call()
        self._model = None if call is None else call.model
        self._rates, self._stages = run.parts.rates, find_stages(_OWNER, self.epochs, run.parts.network(_OWNER))
        self._frozen = []
        assert self._rates is not None
        self._at = places_of(self._rates, self._stages) or []
        for stage, place in zip(self._stages, self._at):
            if stage.epoch > 1:
                self._rates.hold(place)
        if self.continues and self._planned is not None and len(self._planned) == len(self._rates):
            self._rates.set(self._planned)  # a state holds the rates as they were: 0 where they were held

    def before_epoch(self, run: Run) -> None:
        """Unfreeze what begins with this epoch."""
        assert self._rates is not None
        assert self._stages is not None
        for stage, place in zip(self._stages, self._at):
            if stage.epoch > run.epoch:
                self._rates.hold(place)
                continue
            if stage.epoch == run.epoch > 1 and not run.progress.steps_skipped:
                renew(run.parts.optimizers[0], stage.parameters)
            self._rates.release(place)
            self.unfrozen_.update({name: stage.epoch for name in stage.layers if name not in self.unfrozen_})
            if self.verbose and stage.epoch == run.epoch and not run.progress.steps_skipped:
                self.log(f"epoch {run.epoch}: trains {quoted(stage.layers)}{' as well' if run.epoch > 1 else ''}")
        self._freeze_statistics(run, [one for one in self._stages if one.epoch > run.epoch and one.normalising])

    def state_dict(self) -> dict[str, Any]:
        """Return the layers that are trained, and the rates of all groups, including those that are held."""
        return {
            "unfrozen": dict(self.unfrozen_),
            "rates": self._planned if self._rates is None else self._rates.planned(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.unfrozen_, self._planned = dict(state["unfrozen"]), state["rates"]

    def teardown(self) -> None:
        """Give all groups their rates, and let all layers learn again, as in a run without this callback."""
        if self._rates is not None:
            self._planned = self._rates.planned()
            for place in self._at:
                self._rates.release(place)
            if self._frozen:
                return_to_training(self.run.parts.train_network, self._frozen)
        self._rates = self._stages = self._model = self._frozen = None

    def _freeze_statistics(self, run: Run, stages: list[Stage]) -> None:
        """Keep the cells of the stages out of training in each step from now on, and only those."""
        frozen = [cell for stage in stages for cell in stage.normalising]
        if self._frozen and len(frozen) != len(self._frozen):
            return_to_training(run.parts.train_network, self._frozen)
        self._frozen = frozen
        names = ",".join(name for stage in stages for name in stage.layers)
        self._phase = f"train.without.{zlib.crc32(names.encode()):08x}"
        run.step_hooks.on_step_begin(self, self._keep_frozen if frozen else None)

    def _keep_frozen(self, run: Run) -> None:
        """Before a step: set the cells to evaluation, if a Model has set all of them to training since."""
        network = run.parts.train_network
        if self._model is not None:  # as the Model does between this and the step
            set_training(self._model, network)
        if network.phase != self._phase:
            keep_out_of_training(network, self._frozen or [], self._phase)
