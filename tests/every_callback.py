"""How each public callback is made, for the tests that try all of them."""

from __future__ import annotations

from trackers import Kept
from training import valid_dataset

from ms_callbacks import (
    ActivationMonitor,
    AdversarialTraining,
    BatchAccuracy,
    BestCheckpoint,
    CallbackProfiler,
    ConfusionMatrix,
    CSVLogger,
    DynamicLR,
    EarlyStopping,
    EMAWeightAveraging,
    ExportBest,
    GracefulStop,
    GradientMonitor,
    GradualUnfreezing,
    HardExamples,
    History,
    LossMonitor,
    LossSpike,
    LRCosineAnnealing,
    LRCosineWarmRestarts,
    LRCyclic,
    LRExponential,
    LRLambda,
    LRMultiStep,
    LROneCycle,
    LRPolynomial,
    LRSequence,
    LRStepDecay,
    LRWarmup,
    MLflowLogger,
    NonFiniteGuard,
    OptunaPruning,
    ProgressBar,
    ReduceLROnPlateau,
    Robustness,
    RunReport,
    ShapeInspector,
    StepOutputs,
    StochasticWeightAveraging,
    SwanLabLogger,
    TensorBoardLogger,
    ThroughputMonitor,
    TimeLimit,
    TrackerLogger,
    TrainingState,
    Validate,
    WandbLogger,
)
from ms_callbacks.core.model_parts import take_apart


class Trial:
    """Stands in for a trial of Optuna, which need not be installed: keeps what is reported, and prunes nothing."""

    def __init__(self):
        self.reports = {}

    def report(self, value, step):
        self.reports[step] = value

    def should_prune(self):
        return False


def watched(model):
    """BatchAccuracy needs the Model's loss function wrapped: this one wraps the Model's own."""
    accuracy = BatchAccuracy()
    model._loss_fn = accuracy.watch(model._loss_fn)
    model._train_network = model._build_train_network()
    return accuracy


def without_client(logger):
    """The client of a tracker need not be installed: the same logger with a tracker in memory."""
    logger.tracker, logger._package = Kept(), ""
    return logger


def parts_of(model):
    """The layers of a Model's network that are trained; those of one group, so that any optimizer will do."""
    network = take_apart(model.train_network).network
    return [name for name, cell in network.cells_and_names() if name and "." not in name and cell.trainable_params()]


def inverse(index):
    """What LRLambda multiplies the rate by."""
    return 1 / (1 + index)


MAKE = {
    ActivationMonitor: lambda model, folder: ActivationMonitor(),
    AdversarialTraining: lambda model, folder: AdversarialTraining(0.1, bounds=(-9.0, 9.0)),
    BatchAccuracy: lambda model, folder: watched(model),
    CallbackProfiler: lambda model, folder: CallbackProfiler(),
    CSVLogger: lambda model, folder: CSVLogger(str(folder / "log.csv")),
    ConfusionMatrix: lambda model, folder: ConfusionMatrix(),
    ExportBest: lambda model, folder: ExportBest(str(folder / "best.mindir"), monitor="acc"),
    GracefulStop: lambda model, folder: GracefulStop(),
    GradientMonitor: lambda model, folder: GradientMonitor(2, verbose=0),
    GradualUnfreezing: lambda model, folder: GradualUnfreezing({1: parts_of(model)}, verbose=0),
    HardExamples: lambda model, folder: HardExamples(4),
    History: lambda model, folder: History(),
    Robustness: lambda model, folder: Robustness(valid_dataset(24), (0.0, 0.1)),
    RunReport: lambda model, folder: RunReport(str(folder / "report.html")),
    ProgressBar: lambda model, folder: ProgressBar(interval=0),
    BestCheckpoint: lambda model, folder: BestCheckpoint(str(folder / "best.ckpt"), monitor="acc"),
    DynamicLR: lambda model, folder: DynamicLR([0.1] * 16),
    EMAWeightAveraging: lambda model, folder: EMAWeightAveraging(decay=0.9),
    EarlyStopping: lambda model, folder: EarlyStopping("acc", restore_best_weights=True),
    LossMonitor: lambda model, folder: LossMonitor(),
    LossSpike: lambda model, folder: LossSpike(window=4, threshold=1.0, accept_after=2),
    LRCosineAnnealing: lambda model, folder: LRCosineAnnealing(5),
    LRCosineWarmRestarts: lambda model, folder: LRCosineWarmRestarts(3),
    LRCyclic: lambda model, folder: LRCyclic(0.01, 0.05, step_size_up=3),
    LRExponential: lambda model, folder: LRExponential(0.9),
    LRLambda: lambda model, folder: LRLambda(inverse),
    LRMultiStep: lambda model, folder: LRMultiStep([1, 3]),
    LROneCycle: lambda model, folder: LROneCycle(0.05),
    LRPolynomial: lambda model, folder: LRPolynomial(30),
    LRSequence: lambda model, folder: LRSequence([(LRExponential(0.9), None)]),
    LRStepDecay: lambda model, folder: LRStepDecay(1),
    LRWarmup: lambda model, folder: LRWarmup(1, after=LRStepDecay(1)),
    NonFiniteGuard: lambda model, folder: NonFiniteGuard(str(folder / "nonfinite"), every_n_steps=3),
    OptunaPruning: lambda model, folder: OptunaPruning(Trial(), "acc"),
    ReduceLROnPlateau: lambda model, folder: ReduceLROnPlateau("acc"),
    ShapeInspector: lambda model, folder: ShapeInspector(show_values_at=(2,)),
    MLflowLogger: lambda model, folder: without_client(MLflowLogger()),
    SwanLabLogger: lambda model, folder: without_client(SwanLabLogger()),
    TensorBoardLogger: lambda model, folder: without_client(TensorBoardLogger(str(folder / "runs"))),
    TrackerLogger: lambda model, folder: TrackerLogger(Kept()),
    WandbLogger: lambda model, folder: without_client(WandbLogger()),
    StepOutputs: lambda model, folder: StepOutputs(),
    TimeLimit: lambda model, folder: TimeLimit(hours=1),
    StochasticWeightAveraging: lambda model, folder: StochasticWeightAveraging(1),
    ThroughputMonitor: lambda model, folder: ThroughputMonitor(4, tokens=16, peak_flops=1e12),
    TrainingState: lambda model, folder: TrainingState(str(folder / "state"), overwrite=True),
    Validate: lambda model, folder: Validate(model, valid_dataset(24)),
}
