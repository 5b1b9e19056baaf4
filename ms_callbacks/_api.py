"""What the package exports, imported all at once: `ms_callbacks` does that when the first of it is used.

Each is imported as itself, which tells type checkers that it is exported.
"""

from .control.check_callbacks import check_callbacks as check_callbacks
from .control.dynamic_lr import DynamicLR as DynamicLR
from .control.early_stopping import EarlyStopping as EarlyStopping
from .control.freeze import freeze as freeze
from .control.lr_cosine_annealing import LRCosineAnnealing as LRCosineAnnealing
from .control.lr_step_decay import LRStepDecay as LRStepDecay
from .control.lr_warmup import LRWarmup as LRWarmup
from .control.reduce_lr_on_plateau import ReduceLROnPlateau as ReduceLROnPlateau
from .control.validate import Validate as Validate
from .explain.confusion_matrix import ConfusionMatrix as ConfusionMatrix
from .explain.grad_cam import grad_cam as grad_cam
from .explain.hard_examples import HardExamples as HardExamples
from .explain.robustness import Robustness as Robustness
from .keep.best_checkpoint import BestCheckpoint as BestCheckpoint
from .keep.export_best import ExportBest as ExportBest
from .keep.graceful_stop import GracefulStop as GracefulStop
from .keep.quantized_weights import load_int8_weights as load_int8_weights
from .keep.quantized_weights import save_int8_weights as save_int8_weights
from .keep.training_state import TrainingState as TrainingState
from .watch.activation_monitor import ActivationMonitor as ActivationMonitor
from .watch.batch_accuracy import BatchAccuracy as BatchAccuracy
from .watch.callback_profiler import CallbackProfiler as CallbackProfiler
from .watch.csv_logger import CSVLogger as CSVLogger
from .watch.history import History as History
from .watch.loss_monitor import LossMonitor as LossMonitor
from .watch.non_finite_guard import NonFiniteGuard as NonFiniteGuard
from .watch.non_finite_guard import replay as replay
from .watch.plot_history import plot_history as plot_history
from .watch.progress_bar import ProgressBar as ProgressBar
from .watch.shape_inspector import ShapeInspector as ShapeInspector
from .watch.step_outputs import StepOutputs as StepOutputs
