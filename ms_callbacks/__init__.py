"""Callbacks for MindSpore's `Model.train` and `Model.fit`, as Keras and Lightning have them.

This package only needs MindSpore and NumPy and changes nothing global. Besides the callbacks it has
`ms_callbacks.vision` (mindvision's `lenet` and `Mnist` on current MindSpore) and `ms_callbacks.cpu` (`fast_cpu`).

Each public name is imported on first use (PEP 562), so that `import ms_callbacks` takes no time and needs no MindSpore,
which its command line does without, and `from ms_callbacks import EarlyStopping` imports what that class needs alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = [
    "ActivationMonitor",
    "AdversarialTraining",
    "BatchAccuracy",
    "BestCheckpoint",
    "CSVLogger",
    "CallbackProfiler",
    "ConfusionMatrix",
    "DynamicLR",
    "EMAWeightAveraging",
    "EarlyStopping",
    "EpochSummary",
    "Evaluation",
    "ExportBest",
    "FigureArtifact",
    "GracefulStop",
    "GradientMonitor",
    "GradualUnfreezing",
    "HardExamples",
    "History",
    "LRCosineAnnealing",
    "LRCosineWarmRestarts",
    "LRCyclic",
    "LRExponential",
    "LRLambda",
    "LRMultiStep",
    "LROneCycle",
    "LRPolynomial",
    "LRSequence",
    "LRStepDecay",
    "LRWarmup",
    "LossMonitor",
    "LossSpike",
    "MLflowLogger",
    "MonitorCallback",
    "Needs",
    "NonFiniteGuard",
    "OptunaPruning",
    "Outcome",
    "ProgressBar",
    "ReduceLROnPlateau",
    "Robustness",
    "Run",
    "RunReport",
    "ShapeInspector",
    "StepOutputs",
    "StochasticWeightAveraging",
    "SwanLabLogger",
    "TableArtifact",
    "TensorBoardLogger",
    "TextArtifact",
    "ThroughputMonitor",
    "TimeLimit",
    "TrackedRun",
    "Tracker",
    "TrackerLogger",
    "TrainCallback",
    "TrainingState",
    "Validate",
    "WandbLogger",
    "accumulate_gradients",
    "check_callbacks",
    "freeze",
    "grad_cam",
    "load_int8_weights",
    "lr_find",
    "plot_history",
    "plot_lr",
    "replay",
    "save_int8_weights",
]

__version__ = "0.2.0"

# Where each public name is, so that using one imports what that one needs and nothing else.
_MODULE_OF = {
    "ActivationMonitor": "diagnostics.activation_monitor",
    "AdversarialTraining": "control.adversarial_training",
    "BatchAccuracy": "monitoring.batch_accuracy",
    "BestCheckpoint": "checkpointing.best_checkpoint",
    "CSVLogger": "monitoring.csv_logger",
    "CallbackProfiler": "diagnostics.callback_profiler",
    "ConfusionMatrix": "interpretation.confusion_matrix",
    "DynamicLR": "lr_schedules.dynamic_lr",
    "EMAWeightAveraging": "checkpointing.ema_weight_averaging",
    "EarlyStopping": "control.early_stopping",
    "EpochSummary": "core.observations",
    "Evaluation": "core.observations",
    "ExportBest": "checkpointing.export_best",
    "FigureArtifact": "core.artifacts",
    "GracefulStop": "control.graceful_stop",
    "GradientMonitor": "diagnostics.gradient_monitor",
    "GradualUnfreezing": "control.gradual_unfreezing",
    "HardExamples": "interpretation.hard_examples",
    "History": "monitoring.history",
    "LRCosineAnnealing": "lr_schedules.lr_cosine_annealing",
    "LRCosineWarmRestarts": "lr_schedules.lr_cosine_warm_restarts",
    "LRCyclic": "lr_schedules.lr_cyclic",
    "LRExponential": "lr_schedules.lr_exponential",
    "LRLambda": "lr_schedules.lr_lambda",
    "LRMultiStep": "lr_schedules.lr_multi_step",
    "LROneCycle": "lr_schedules.lr_one_cycle",
    "LRPolynomial": "lr_schedules.lr_polynomial",
    "LRSequence": "lr_schedules.lr_sequence",
    "LRStepDecay": "lr_schedules.lr_step_decay",
    "LRWarmup": "lr_schedules.lr_warmup",
    "LossMonitor": "monitoring.loss_monitor",
    "LossSpike": "monitoring.loss_spike",
    "MLflowLogger": "monitoring.mlflow_logger",
    "MonitorCallback": "core.monitor_callback",
    "Needs": "core.placement",
    "NonFiniteGuard": "diagnostics.non_finite_guard",
    "OptunaPruning": "control.optuna_pruning",
    "Outcome": "core.outcome",
    "ProgressBar": "monitoring.progress_bar",
    "ReduceLROnPlateau": "lr_schedules.reduce_lr_on_plateau",
    "Robustness": "interpretation.robustness",
    "Run": "core.run",
    "RunReport": "monitoring.run_report",
    "ShapeInspector": "diagnostics.shape_inspector",
    "StepOutputs": "monitoring.step_outputs",
    "StochasticWeightAveraging": "checkpointing.stochastic_weight_averaging",
    "SwanLabLogger": "monitoring.swanlab_logger",
    "TableArtifact": "core.artifacts",
    "TensorBoardLogger": "monitoring.tensorboard_logger",
    "TextArtifact": "core.artifacts",
    "ThroughputMonitor": "monitoring.throughput_monitor",
    "TimeLimit": "control.time_limit",
    "TrackedRun": "core.tracker",
    "Tracker": "core.tracker",
    "TrackerLogger": "monitoring.tracker_logger",
    "TrainCallback": "core.callback",
    "TrainingState": "checkpointing.training_state",
    "Validate": "control.validate",
    "WandbLogger": "monitoring.wandb_logger",
    "accumulate_gradients": "control.accumulate_gradients",
    "check_callbacks": "control.check_callbacks",
    "freeze": "control.freeze",
    "grad_cam": "interpretation.grad_cam",
    "load_int8_weights": "checkpointing.quantized_weights",
    "lr_find": "lr_schedules.lr_find",
    "plot_history": "monitoring.plot_history",
    "plot_lr": "lr_schedules.plot_lr",
    "replay": "diagnostics.non_finite_guard",
    "save_int8_weights": "checkpointing.quantized_weights",
}

_MODULES = ("cpu", "testing", "vision")

if TYPE_CHECKING:
    from . import cpu as cpu
    from . import testing as testing
    from . import vision as vision
    from ._api import *
else:  # type checkers must not see this, or they would accept any name

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used."""
        if name in _MODULES:
            try:
                return importlib.import_module(f"{__name__}.{name}")
            except ImportError as error:  # an extra is missing; `help` and `hasattr` expect an AttributeError
                raise AttributeError(f"{__name__}.{name} cannot be imported: {error}") from error
        if name in _MODULE_OF:
            value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
            globals()[name] = value  # and this function is not called for it again
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """List the public names, imported or not."""
        return sorted({*globals(), *__all__, *_MODULES})
