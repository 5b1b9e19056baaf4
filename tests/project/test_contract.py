"""What holds for every public callback."""

from __future__ import annotations

import inspect
import json
import pathlib
import re

import mindspore as ms
import numpy as np
import pytest
from every_callback import MAKE
from mindspore.train import Callback
from mindspore.train.callback import __all__ as mindspores
from training import assert_same_weights, compiled_model, dataset, make_model, valid_dataset, weights

import ms_callbacks
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
    GracefulStop,
    GradientMonitor,
    History,
    LossMonitor,
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
    MonitorCallback,
    NonFiniteGuard,
    OptunaPruning,
    ProgressBar,
    ReduceLROnPlateau,
    Robustness,
    ShapeInspector,
    StochasticWeightAveraging,
    TrainCallback,
    TrainingState,
    Validate,
)
from ms_callbacks.core.rate_setter import RateSetter
from ms_callbacks.testing import check_callback

OLD_HOOKS = {"begin", "end", "epoch_begin", "epoch_end", "step_begin", "step_end"}
ROOT = pathlib.Path(__file__).parents[2]

every = pytest.mark.parametrize("kind", MAKE, ids=lambda kind: kind.__name__)


def test_every_public_callback_is_under_this_contract():
    """Whatever is a class and public at the top."""
    public = {getattr(ms_callbacks, name) for name in ms_callbacks.__all__}
    of_authors = {ms_callbacks.EpochSummary, ms_callbacks.Evaluation, MonitorCallback, ms_callbacks.Run}
    of_authors |= {ms_callbacks.Needs, ms_callbacks.Outcome, TrainCallback}
    of_authors |= {ms_callbacks.TrackedRun, ms_callbacks.Tracker}
    of_authors |= {ms_callbacks.FigureArtifact, ms_callbacks.TableArtifact, ms_callbacks.TextArtifact}
    assert {one for one in public if inspect.isclass(one)} - of_authors == set(MAKE)
    assert all(issubclass(kind, TrainCallback) for kind in MAKE)


@every
def test_no_old_hook(kind):
    """The old names are called for evaluation too, and Model.fit refuses classes that have them."""
    own = {name for cls in kind.__mro__ if cls.__module__.startswith("ms_callbacks") for name in cls.__dict__}
    assert not own & OLD_HOOKS


CHANGES_TRAINING = (
    AdversarialTraining,
    DynamicLR,
    EarlyStopping,
    EMAWeightAveraging,
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
    ReduceLROnPlateau,
    StochasticWeightAveraging,
)
# As MAKE has them.
READS_EACH_STEP = (EMAWeightAveraging, GradientMonitor, LossMonitor, NonFiniteGuard, ProgressBar, ShapeInspector)
HAS_NO_STATE = (
    AdversarialTraining,
    CallbackProfiler,
    GracefulStop,
    NonFiniteGuard,
    Robustness,
    ShapeInspector,
    TrainingState,
)
VARYING = (
    "data_share elapsed filepath id longest path previous records run runs runs_before samples_per_second saved_at "
    "seconds sha256 started_at step_seconds texts unflushed versions"
).split()


def check(kind, **arguments):
    """BatchAccuracy needs a Model that was made with it: test_batch_accuracy.py has the same checks."""
    check_callback(
        lambda model, folder: MAKE[kind](model, pathlib.Path(folder)),
        changes_training=kind in CHANGES_TRAINING,
        reads_each_step=kind in READS_EACH_STEP,
        has_state=kind not in HAS_NO_STATE,
        varying=VARYING,
        **arguments,
    )


@pytest.mark.parametrize(
    "kind",
    [BestCheckpoint, ConfusionMatrix, EarlyStopping, LRWarmup],
    ids=lambda kind: kind.__name__,
)
def test_it_fulfils_the_contract_that_authors_check_theirs_by(kind):
    """A second run, `train` and `fit`, both orders, an exception, a resume, no read in a step, documented arguments.

    One of each sort here; all of them in both modes are in the slow set.
    """
    check(kind, modes=["PYNATIVE_MODE"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in MAKE if kind is not BatchAccuracy], ids=lambda kind: kind.__name__)
def test_it_fulfils_the_contract_in_both_modes(kind):
    """GRAPH mode included, where each network is compiled."""
    check(kind)


@every
def test_it_serves_a_first_and_a_second_run(kind, graph, tmp_path):
    """The same object, the second time with sink mode asked for; what it has learnt is there after each."""
    # BatchAccuracy puts a cell of its own into the Model.
    model = compiled_model() if kind is not BatchAccuracy else make_model()
    callback = MAKE[kind](model, tmp_path)
    for sinks in (False, True):
        validate = [] if kind is Validate else [Validate(model, valid_dataset())]
        model.train(2, dataset(24), callbacks=[callback, *validate], dataset_sink_mode=sinks)
        learnt = [name for name in dir(callback) if name.endswith("_") and not name.startswith("_")]
        assert all(getattr(callback, name) is not None for name in learnt)


@every
def test_alone_it_may_stand_without_a_list(kind, tmp_path):
    """`callbacks=callback` is what a user with one writes."""
    model = make_model()
    callback = MAKE[kind](model, tmp_path)
    before = weights(model.predict_network)
    model.fit(1, dataset(), valid_dataset(), callbacks=callback)
    assert not np.array_equal(weights(model.predict_network)["head.weight"], before["head.weight"])


@every
def test_the_same_one_twice_is_refused(kind, tmp_path):
    """Before the first step."""
    model = make_model()
    callback = MAKE[kind](model, tmp_path)

    class NoStep(Callback):
        def on_train_step_begin(self, run_context):
            raise AssertionError("a step ran")

    with pytest.raises(ValueError, match=f"{kind.__name__}: .*(twice; remove one|both)"):
        model.fit(1, dataset(), valid_dataset(), callbacks=[callback, callback, NoStep()])


@every
def test_arguments_after_the_first_are_by_keyword(kind):
    """Except where an existing interface is kept."""
    kept = {
        CSVLogger: ["filename", "separator", "append"],
        LossMonitor: ["learning_rate", "per_print_times"],
        LRCyclic: ["base_lr", "max_lr"],
        LRStepDecay: ["step_size", "gamma"],
        OptunaPruning: ["trial", "monitor"],
        Robustness: ["dataset", "epsilons"],
        Validate: ["model", "dataset"],
    }
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    positional = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert positional == kept.get(kind, positional[:1])


def test_a_loaded_state_is_where_the_next_run_goes_on(tmp_path):
    """Patience, best, rates and the best file go on; the run after that begins anew."""
    model = make_model(learning_rate=0.1)
    make = {
        "stopping": lambda: EarlyStopping("loss", mode="max", patience=9, verbose=0),
        "best": lambda: BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss", mode="max", verbose=0),
        "plateau": lambda: ReduceLROnPlateau("loss", mode="max", patience=3, factor=0.5, verbose=0),
        "monitor": lambda: ActivationMonitor(verbose=0),
        "history": History,
    }
    first = {name: create() for name, create in make.items()}
    model.train(3, dataset(), callbacks=list(first.values()))
    assert first["stopping"].wait_ == first["plateau"].wait_ == 2
    second = {name: create() for name, create in make.items()}
    for name, callback in second.items():
        callback.load_state_dict(json.loads(json.dumps(first[name].state_dict())))
    model.train(4, dataset(), callbacks=list(second.values()), initial_epoch=3)
    assert (second["stopping"].best_epoch_, second["stopping"].wait_) == (1, 3)
    assert second["best"].best_epoch_ == 1
    assert float(model.train_network.optimizer.learning_rate.asnumpy()) == pytest.approx(0.05)
    assert second["history"].epoch == [1, 2, 3, 4]
    model.train(1, dataset(), callbacks=list(second.values()))
    assert (second["stopping"].wait_, second["history"].epoch) == (0, [1])


@every
@pytest.mark.parametrize("columns", [["images"], ["images", "labels", "more"]])
def test_a_dataset_with_other_columns_fails_in_mindspores_words(kind, columns, tmp_path):
    """They are clear and come before the first step; nothing of ours fails before them in words that are less so."""
    model = make_model()
    before = weights(model.predict_network)
    other = dataset().map(lambda labels: (labels, labels), "labels", ["labels", "more"]).project(columns)
    validate = [] if kind is Validate else [Validate(model, valid_dataset())]
    with pytest.raises(ValueError, match=f"'train_dataset' should return two elements, but got {len(columns)}"):
        model.train(1, other, callbacks=[MAKE[kind](model, tmp_path), *validate])
    assert_same_weights(weights(model.predict_network), before)


@every
def test_nonsense_is_refused(kind):
    """An argument that does not exist is an error, never passed over."""
    with pytest.raises(TypeError):
        kind(nonsense=1)


@every
def test_it_is_documented(kind):
    """Arguments, what a run learns, errors and an example, in the class; a row and a page in both languages."""
    doc = inspect.getdoc(kind)
    arguments = list(inspect.signature(kind.__init__).parameters)[1:]
    for section in (["Args:"] if arguments else []) + ["Raises:", "Example:"]:
        assert section in doc
    for name in arguments:
        assert f"    {name}: " in doc, name
    for language in ("en", "zh"):
        folder = ROOT / "docs" / language / "callbacks"
        row = re.search(
            rf"^\| \[`{kind.__name__}`\]\((\w+\.md)\) \|", (folder / "index.md").read_text(encoding="utf-8"), re.M
        )
        assert row, f"no row for {kind.__name__} in {folder / 'index.md'}"
        assert (folder / row[1]).is_file(), f"no page {folder / row[1]}"


@pytest.mark.parametrize("monitor", ["loss", "acc"])
def test_a_subclass_may_have_hooks_of_its_own_in_a_step(monitor):
    """Whether or not the callback acts there itself."""

    class Mine(EarlyStopping):
        steps = 0

        def on_train_step_end(self, run_context):
            super().on_train_step_end(run_context)
            self.steps += 1

    model, mine = make_model(), Mine(monitor)
    for _ in range(2):
        model.train(2, dataset(), callbacks=[mine, Validate(model, valid_dataset())])
        assert mine.best_ is not None
    assert mine.steps == 16


def test_all_of_them_together_in_any_order(tmp_path):
    """One rate setter, everything else, forwards and backwards: the same decisions."""
    outcomes = []
    for order in (1, -1):
        model = make_model()
        others = (RateSetter, StochasticWeightAveraging)  # whose average would be replaced by the best weights
        kinds = [kind for kind in MAKE if not issubclass(kind, others) or kind is LRStepDecay]
        callbacks = [MAKE[kind](model, tmp_path) for kind in kinds][::order]
        model.train(3, dataset(), callbacks=callbacks)
        by_kind = {type(callback): callback for callback in callbacks}
        best, stopping = by_kind[BestCheckpoint], by_kind[EarlyStopping]
        outcomes.append((best.best_, best.best_epoch_, stopping.best_, stopping.wait_, by_kind[Validate].results_))
    assert outcomes[0] == outcomes[1]


def test_names_that_mindspore_takes_for_its_own_get_by_without_evaluation_hooks():
    """Model.fit calls no evaluation hook of a class with such a name; ours that share one have none to be called."""
    for kind in MAKE:
        if kind.__name__ in mindspores:
            own = [
                cls for cls in kind.__mro__ if cls.__module__.startswith("ms_callbacks") and cls is not TrainCallback
            ]
            assert not [name for cls in own for name in vars(cls) if name.startswith("on_eval")], kind


def test_a_user_exception_leaves_everything_in_order(graph, tmp_path):
    """After one in a step, a new run with the same objects works."""

    class Fail(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == 6:
                raise RuntimeError("mine")

    model = make_model()
    callbacks = [
        MAKE[kind](model, tmp_path) for kind in (BestCheckpoint, EarlyStopping, LossMonitor, LRStepDecay, Validate)
    ]
    with pytest.raises(RuntimeError, match="mine"):
        model.train(3, dataset(), callbacks=[*callbacks, Fail()])
    model.train(3, dataset(), callbacks=callbacks)
    assert callbacks[1].best_epoch_ >= 1
    assert ms.get_context("mode") == ms.GRAPH_MODE
