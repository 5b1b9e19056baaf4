"""The hooks of an evaluation that a callback makes: those of `Model.fit`, in its order."""

from __future__ import annotations

import re

import pytest
from mindspore.train import Callback, LambdaCallback, TimeMonitor
from mindspore.train import LossMonitor as MindSporesLossMonitor
from training import dataset, make_model, valid_dataset

from ms_callbacks import Validate


class Logs(Callback):
    """Writes down each hook that is called, and what it finds in the run's parameters."""

    def __init__(self, log, name=""):
        super().__init__()
        self.log = log
        self.name = name

    def __enter__(self):
        self.log.append((self.name, "enter"))
        return self

    def __exit__(self, *error):
        self.log.append((self.name, "exit"))


def logging(hook):
    def log(self, run_context):
        args = run_context.original_args()
        known = ("mode", "cur_epoch_num", "epoch_num", "cur_step_num", "batch_num", "dataset_sink_mode")
        found = [args[key] for key in known]
        found += ["eval_network" in args, sorted(args.get("eval_results", ())), sorted(args.get("metrics", ()))]
        outputs = args.get("net_outputs")
        self.log.append((self.name, hook, *found, len(outputs) if isinstance(outputs, tuple) else 1))

    return log


for part in ("train", "eval"):
    for when in ("begin", "end", "epoch_begin", "epoch_end", "step_begin", "step_end"):
        if (part, when) not in (("train", "begin"), ("train", "epoch_begin"), ("train", "step_begin")):
            setattr(Logs, f"on_{part}_{when}", logging(f"on_{part}_{when}"))


class Times(TimeMonitor):
    """A user's own of MindSpore's, which Model.fit calls for its name."""


def run_as(how, place, others, epochs=2, **arguments):
    """The Model trains and is evaluated, by fit or by Validate at some place of the list."""
    model = make_model()
    if how == "fit":
        model.fit(epochs, dataset(24), valid_dataset(), callbacks=others)
    else:
        validate = Validate(model, valid_dataset(), **arguments)
        model.train(epochs, dataset(24), callbacks=[*others[:place], validate, *others[place:]])
    return model


@pytest.mark.parametrize(
    ("mode", "place"),
    [
        *(("pynative", place) for place in (0, 1, 2)),
        ("graph", 1),
        *(pytest.param("graph", place, marks=pytest.mark.slow) for place in (0, 2)),  # the place and the mode are apart
    ],
    indirect=["mode"],
)
def test_evaluation_hooks_are_those_of_fit(mode, place):
    """Each of them, in fit's order, with what fit shows of the run, wherever Validate stands."""
    logs = {}
    for how in ("fit", "train"):
        log = logs[how] = []
        run_as(how, place, [Logs(log, "one"), Logs(log, "other")])
    assert logs["train"] == logs["fit"]
    assert [entry[1] for entry in logs["train"] if entry[0] == "one"].count("on_eval_step_end") == 2 * 3


@pytest.mark.parametrize("place", [0, 3])
def test_mindspores_own_print_the_same_as_under_fit(place, capsys):
    """TimeMonitor and LossMonitor, and one of a user's that derives from them."""
    printed = []
    for how in ("fit", "train"):
        run_as(how, place, [TimeMonitor(), MindSporesLossMonitor(100), Times()])
        printed.append([re.sub(r"[\d.]+ ms", "ms", line) for line in capsys.readouterr().out.splitlines()])
    assert printed[1] == printed[0]
    assert [line for line in printed[1] if line.startswith("Eval result: epoch 2")]
    assert printed[1].count("Eval epoch time: ms, per step time: ms") == 4


def test_who_gets_no_hook_under_fit_gets_none():
    """One with a name of MindSpore's own, and one whose hooks are of before MindSpore 2.0, which fit refuses."""
    called = []

    class Old(Callback):
        def step_end(self, run_context):
            called.append(run_context.original_args()["mode"])

    lambdas = LambdaCallback(on_eval_begin=lambda run_context: called.append("lambda"))
    run_as("fit", 0, [lambdas], epochs=1)
    run_as("train", 0, [lambdas, Old()], epochs=1)
    assert called == ["train"] * 2
    with pytest.raises(ValueError, match="Old callback"):
        run_as("fit", 0, [Old()])


def test_no_hook_where_nothing_is_evaluated():
    """In the epochs that Validate leaves out."""
    log = []
    run_as("train", 0, [Logs(log)], epochs=3, every_n_epochs=2, on_last=False)
    assert [entry[3] for entry in log if entry[1] == "on_eval_begin"] == [2]


def test_an_exception_in_an_evaluation_hook_leaves_the_run_as_it_was():
    """Everybody is left, and the parameters are the training's again."""
    log, seen = [], {}

    class Fails(Callback):
        def on_eval_step_end(self, run_context):
            raise RuntimeError("mine")

    class Last(Callback):
        def on_train_begin(self, run_context):
            self.args = run_context.original_args()

        def __exit__(self, *error):
            seen.update(self.args)

    class Quiet(Last):
        """Has no part in the evaluation."""

    Quiet.__name__ = "History"
    with pytest.raises(RuntimeError, match="mine"):
        run_as("train", 0, [Quiet(), Logs(log), Fails()], epochs=1)
    assert [entry[1] for entry in log if entry[1] in ("enter", "exit")] == ["enter", "enter", "exit", "exit"]
    assert (seen["mode"], seen["cur_step_num"], seen["batch_num"]) == ("train", 2, 2)


@pytest.mark.parametrize("how", ["fit", "train"])
def test_a_stop_asked_for_in_an_evaluation_ends_the_evaluation_alone(how):
    """As MindSpore has it: training does not hear of it."""
    steps = []

    class Stop(Callback):
        def on_eval_step_end(self, run_context):
            run_context.request_stop()

        def on_eval_end(self, run_context):
            steps.append(run_context.original_args()["cur_step_num"])

    run_as(how, 0, [Stop()])
    assert steps == [1, 1]
