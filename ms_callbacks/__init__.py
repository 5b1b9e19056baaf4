"""Callbacks for MindSpore's `Model.train` and `Model.fit`, as Keras and Lightning have them.

Importing this package needs MindSpore and NumPy alone and changes nothing global. Beside the callbacks stand
`ms_callbacks.vision` (mindvision's `lenet` and `Mnist` on today's MindSpore) and `ms_callbacks.cpu` (`fast_cpu`).
"""

from .control.dynamic_lr import DynamicLR
from .control.early_stopping import EarlyStopping
from .control.lr_cosine_annealing import LRCosineAnnealing
from .control.lr_step_decay import LRStepDecay
from .control.lr_warmup import LRWarmup
from .control.reduce_lr_on_plateau import ReduceLROnPlateau
from .control.validate import Validate
from .keep.best_checkpoint import BestCheckpoint
from .watch.loss_monitor import LossMonitor
from .watch.shape_inspector import ShapeInspector

__all__ = [
    "BestCheckpoint",
    "DynamicLR",
    "EarlyStopping",
    "LRCosineAnnealing",
    "LRStepDecay",
    "LRWarmup",
    "LossMonitor",
    "ReduceLROnPlateau",
    "ShapeInspector",
    "Validate",
]

__version__ = "0.1.0"
