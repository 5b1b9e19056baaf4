"""Callbacks for MindSpore's `Model.train` and `Model.fit`, as Keras and Lightning have them.

This package only needs MindSpore and NumPy and changes nothing global. Besides the callbacks it has
`ms_callbacks.vision` (mindvision's `lenet` and `Mnist` on current MindSpore) and `ms_callbacks.cpu` (`fast_cpu`).

Everything is imported on first use (PEP 562), so that `import ms_callbacks` takes no time and needs no MindSpore: its
command line answers `--help` without it.
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
    "MonitorCallback",
    "Needs",
    "NonFiniteGuard",
    "OptunaPruning",
    "Outcome",
    "ProgressBar",
    "ReduceLROnPlateau",
    "Robustness",
    "Run",
    "ShapeInspector",
    "StepOutputs",
    "StochasticWeightAveraging",
    "TableArtifact",
    "TextArtifact",
    "ThroughputMonitor",
    "TimeLimit",
    "TrainCallback",
    "TrainingState",
    "Validate",
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

__version__ = "0.1.0"

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
        if name in __all__:
            api = importlib.import_module(f"{__name__}._api")
            globals().update((each, getattr(api, each)) for each in __all__)
            return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """List the public names, imported or not."""
        return sorted({*globals(), *__all__, *_MODULES})
