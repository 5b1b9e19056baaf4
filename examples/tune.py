"""Search for the best learning rate, batch size and dropout with Optuna, in a study that can be interrupted.

Start it, press Ctrl-C, and start it again: the study is in a file, and an interrupted trial is repeated. Look at the
trials that are pruned after an epoch or two because they are worse than the median of the others at that epoch. The
last lines show the best values. Start it once more with a higher `--trials` to search further.
"""

from __future__ import annotations

import argparse
import functools
import os

import digits
import mindspore as ms
import optuna
from mindspore import nn

from ms_callbacks import GracefulStop, OptunaPruning, Validate

BATCH_SIZES = [32, 64, 128]


def make_network(dropout: float) -> nn.Cell:
    """Return two convolutions with dropout between the dense layers; 33,058 parameters."""
    return nn.SequentialCell(
        nn.Conv2d(1, 8, 3, pad_mode="pad", padding=1, has_bias=True),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(8, 16, 3, pad_mode="pad", padding=1, has_bias=True),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Flatten(),
        nn.Dense(16 * 7 * 7, 40),
        nn.ReLU(),
        nn.Dropout(p=dropout),
        nn.Dense(40, 10),
    )


def objective(args: argparse.Namespace, trial: optuna.Trial) -> float:
    """Train with the values that the study suggests; return the best accuracy."""
    learning_rate = trial.suggest_float("learning_rate", 1e-4, 3e-2, log=True)
    args.batch_size = trial.suggest_categorical("batch_size", BATCH_SIZES)
    network = make_network(trial.suggest_float("dropout", 0.0, 0.6))

    train, valid = digits.load(args)  # MindSpore does not let two Models train on one dataset
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    model = ms.Model(network, loss_fn, nn.Adam(network.trainable_params(), learning_rate), metrics={"acc"})
    pruning, stop = OptunaPruning(trial, "acc"), GracefulStop()
    model.train(args.epochs, train, callbacks=[Validate(model, valid), pruning, stop])
    if stop.signal_:
        trial.study.enqueue_trial(trial.params)  # the next start repeats it
        raise KeyboardInterrupt
    assert pruning.best_ is not None
    return pruning.best_


def repeat_interrupted(study: optuna.Study) -> None:
    """Queue the trials whose process was killed once more; otherwise they would stay unfinished."""
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
        print(f"Trial {trial.number} was interrupted and is repeated")


def report(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Print a line when a trial has ended."""
    state = {"COMPLETE": "trained", "PRUNED": "pruned"}.get(trial.state.name, "failed")
    best = max(trial.intermediate_values.values(), default=0.0)
    epochs = len(trial.intermediate_values)
    print(f"Trial {trial.number}: {state} after epochs: {epochs}, accuracy {best:.4f}, {in_words(trial)}")


def in_words(trial: optuna.trial.FrozenTrial) -> str:
    """Return the hyperparameters of a trial as text."""
    values = trial.params
    rate, size, dropout = (values.get(name, 0) for name in ("learning_rate", "batch_size", "dropout"))
    return f"learning rate {rate:.5f}, batch size {size}, dropout {dropout:.2f}"


def main() -> None:
    """Run the search and print the best trial."""
    options = digits.parser(__doc__, epochs=5)
    options.add_argument("--trials", type=int, default=15, help="total number of trials, earlier ones included")
    options.add_argument(
        "--study", help="SQLite file of the study, used by one process at a time (default: in the output folder)"
    )
    args = options.parse_args()
    digits.start(args)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a trial that fails ends the search with its own traceback

    file = os.path.abspath(args.study or os.path.join(args.output_dir, "tune.db"))
    study = optuna.create_study(
        study_name="digits",
        storage=f"sqlite:///{file}",
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    )
    # With one seed, a continued study would draw the same numbers again.
    study.sampler = optuna.samplers.TPESampler(seed=args.seed + len(study.trials), n_startup_trials=5)
    repeat_interrupted(study)
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    left = args.trials - len(study.get_trials(deepcopy=False, states=ended))
    try:
        if left > 0:
            study.optimize(functools.partial(objective, args), n_trials=left, callbacks=[report])
    except KeyboardInterrupt:
        print("Interrupted: the same command continues the study")
        raise SystemExit(130) from None
    print(f"Best of {len(study.get_trials(deepcopy=False, states=ended))} trials: accuracy {study.best_value:.4f}")
    print(f"With {in_words(study.best_trial)}")


if __name__ == "__main__":
    main()
