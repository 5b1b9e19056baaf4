"""All public names of the package, for type checkers, which do not follow imports on first use. Nothing imports this.

Each is imported under its own name, which marks it as exported. `_MODULE_OF` in `__init__.py` says the same to Python,
and a test holds that the two agree.
"""

from .checkpointing.best_checkpoint import BestCheckpoint as BestCheckpoint
from .checkpointing.ema_weight_averaging import EMAWeightAveraging as EMAWeightAveraging
from .checkpointing.export_best import ExportBest as ExportBest
from .checkpointing.quantized_weights import load_int8_weights as load_int8_weights
from .checkpointing.quantized_weights import save_int8_weights as save_int8_weights
from .checkpointing.stochastic_weight_averaging import StochasticWeightAveraging as StochasticWeightAveraging
from .checkpointing.training_state import TrainingState as TrainingState
from .control.accumulate_gradients import accumulate_gradients as accumulate_gradients
from .control.adversarial_training import AdversarialTraining as AdversarialTraining
from .control.check_callbacks import check_callbacks as check_callbacks
from .control.early_stopping import EarlyStopping as EarlyStopping
from .control.freeze import freeze as freeze
from .control.graceful_stop import GracefulStop as GracefulStop
from .control.gradual_unfreezing import GradualUnfreezing as GradualUnfreezing
from .control.optuna_pruning import OptunaPruning as OptunaPruning
from .control.time_limit import TimeLimit as TimeLimit
from .control.validate import Validate as Validate
from .core.artifacts import FigureArtifact as FigureArtifact
from .core.artifacts import TableArtifact as TableArtifact
from .core.artifacts import TextArtifact as TextArtifact
from .core.callback import TrainCallback as TrainCallback
from .core.monitor_callback import MonitorCallback as MonitorCallback
from .core.observations import EpochSummary as EpochSummary
from .core.observations import Evaluation as Evaluation
from .core.outcome import Outcome as Outcome
from .core.placement import Needs as Needs
from .core.run import Run as Run
from .diagnostics.activation_monitor import ActivationMonitor as ActivationMonitor
from .diagnostics.callback_profiler import CallbackProfiler as CallbackProfiler
from .diagnostics.gradient_monitor import GradientMonitor as GradientMonitor
from .diagnostics.non_finite_guard import NonFiniteGuard as NonFiniteGuard
from .diagnostics.non_finite_guard import replay as replay
from .diagnostics.shape_inspector import ShapeInspector as ShapeInspector
from .interpretation.confusion_matrix import ConfusionMatrix as ConfusionMatrix
from .interpretation.grad_cam import grad_cam as grad_cam
from .interpretation.hard_examples import HardExamples as HardExamples
from .interpretation.robustness import Robustness as Robustness
from .lr_schedules.dynamic_lr import DynamicLR as DynamicLR
from .lr_schedules.lr_cosine_annealing import LRCosineAnnealing as LRCosineAnnealing
from .lr_schedules.lr_cosine_warm_restarts import LRCosineWarmRestarts as LRCosineWarmRestarts
from .lr_schedules.lr_cyclic import LRCyclic as LRCyclic
from .lr_schedules.lr_exponential import LRExponential as LRExponential
from .lr_schedules.lr_find import lr_find as lr_find
from .lr_schedules.lr_lambda import LRLambda as LRLambda
from .lr_schedules.lr_multi_step import LRMultiStep as LRMultiStep
from .lr_schedules.lr_one_cycle import LROneCycle as LROneCycle
from .lr_schedules.lr_polynomial import LRPolynomial as LRPolynomial
from .lr_schedules.lr_sequence import LRSequence as LRSequence
from .lr_schedules.lr_step_decay import LRStepDecay as LRStepDecay
from .lr_schedules.lr_warmup import LRWarmup as LRWarmup
from .lr_schedules.plot_lr import plot_lr as plot_lr
from .lr_schedules.reduce_lr_on_plateau import ReduceLROnPlateau as ReduceLROnPlateau
from .monitoring.batch_accuracy import BatchAccuracy as BatchAccuracy
from .monitoring.csv_logger import CSVLogger as CSVLogger
from .monitoring.history import History as History
from .monitoring.loss_monitor import LossMonitor as LossMonitor
from .monitoring.loss_spike import LossSpike as LossSpike
from .monitoring.plot_history import plot_history as plot_history
from .monitoring.progress_bar import ProgressBar as ProgressBar
from .monitoring.run_report import RunReport as RunReport
from .monitoring.step_outputs import StepOutputs as StepOutputs
from .monitoring.throughput_monitor import ThroughputMonitor as ThroughputMonitor
