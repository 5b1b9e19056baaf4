"""Callbacks for MindSpore's `Model.train` and `Model.fit`, as Keras and Lightning have them.

Importing this package needs MindSpore and NumPy alone and changes nothing global. Beside the callbacks stand
`ms_callbacks.vision` (mindvision's `lenet` and `Mnist` on today's MindSpore) and `ms_callbacks.cpu` (`fast_cpu`).
"""

from .control.check_callbacks import check_callbacks
from .control.dynamic_lr import DynamicLR
from .control.early_stopping import EarlyStopping
from .control.freeze import freeze
from .control.lr_cosine_annealing import LRCosineAnnealing
from .control.lr_step_decay import LRStepDecay
from .control.lr_warmup import LRWarmup
from .control.reduce_lr_on_plateau import ReduceLROnPlateau
from .control.validate import Validate
from .explain.confusion_matrix import ConfusionMatrix
from .explain.grad_cam import grad_cam
from .explain.hard_examples import HardExamples
from .explain.robustness import Robustness
from .keep.best_checkpoint import BestCheckpoint
from .keep.export_best import ExportBest
from .keep.graceful_stop import GracefulStop
from .keep.quantized_weights import load_int8_weights, save_int8_weights
from .keep.training_state import TrainingState
from .watch.activation_monitor import ActivationMonitor
from .watch.batch_accuracy import BatchAccuracy
from .watch.callback_profiler import CallbackProfiler
from .watch.csv_logger import CSVLogger
from .watch.history import History
from .watch.loss_monitor import LossMonitor
from .watch.non_finite_guard import NonFiniteGuard, replay
from .watch.plot_history import plot_history
from .watch.progress_bar import ProgressBar
from .watch.shape_inspector import ShapeInspector
from .watch.step_outputs import StepOutputs

__all__ = [
    "ActivationMonitor",
    "BatchAccuracy",
    "BestCheckpoint",
    "CSVLogger",
    "CallbackProfiler",
    "ConfusionMatrix",
    "DynamicLR",
    "EarlyStopping",
    "ExportBest",
    "GracefulStop",
    "HardExamples",
    "History",
    "LRCosineAnnealing",
    "LRStepDecay",
    "LRWarmup",
    "LossMonitor",
    "NonFiniteGuard",
    "ProgressBar",
    "ReduceLROnPlateau",
    "Robustness",
    "ShapeInspector",
    "StepOutputs",
    "TrainingState",
    "Validate",
    "check_callbacks",
    "freeze",
    "grad_cam",
    "load_int8_weights",
    "plot_history",
    "replay",
    "save_int8_weights",
]

__version__ = "0.1.0"
