"""LossMonitor: mindvision's lines, with the truth in them."""

from __future__ import annotations

import re
import time

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from training import Recorder, Script, dataset, loss_fn, make_model, valid_dataset

from ms_callbacks import LossMonitor, LRStepDecay, Validate
from ms_callbacks.diagnostics._device_reads import noticed

NUMBER = r"-?\d+\.\d{3}"
STEP = re.compile(
    rf"Epoch:\[ *(\d+)/ *(\d+)\], step:\[ *(\d+)/ *(\d+)\], loss:\[ *({NUMBER})/ *({NUMBER})\], "
    rf"time: *{NUMBER} ms, lr:(\S+)"
)
EPOCH = re.compile(rf"Epoch time: *{NUMBER} ms, per step time: *{NUMBER} ms, avg loss: *({NUMBER})")


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_the_tutorials_lines(capsys, mode):
    """LossMonitor(0.01, interval) prints as in the tutorial: last and mean loss, the rate, the epoch's mean."""
    recorder = Recorder()
    make_model(learning_rate=0.01).train(2, dataset(), callbacks=[LossMonitor(0.01, 2), recorder])
    printed = lines(capsys)
    assert len(printed) == 6
    for index, (line, epoch, step) in enumerate(zip([*printed[:2], *printed[3:5]], [1, 1, 2, 2], [2, 4, 2, 4])):
        found = STEP.fullmatch(line)
        assert found, line
        assert found.group(1, 2, 3, 4, 7) == (str(epoch), "2", str(step), "4", "0.01000")
        of_epoch = recorder.losses[(epoch - 1) * 4 : (epoch - 1) * 4 + step]
        assert float(found[5]) == pytest.approx(of_epoch[-1], abs=6e-4), index
        assert float(found[6]) == pytest.approx(np.mean(of_epoch), abs=6e-4)
    for line, of_epoch in ((printed[2], recorder.losses[:4]), (printed[5], recorder.losses[4:])):
        assert float(EPOCH.fullmatch(line)[1]) == pytest.approx(np.mean(of_epoch), abs=6e-4)


def test_the_mean_of_an_interval(capsys):
    """Of the steps since the line before, within the epoch."""
    losses = [[Tensor(float(value)) for value in (1, 3, 5, 7, 9)], [Tensor(float(value)) for value in (2, 4, 6, 8, 0)]]
    Script().run([LossMonitor(per_print_times=2, mean_of="interval")], [None, None], losses, steps=5)
    found = [STEP.fullmatch(line) for line in lines(capsys)]
    assert [float(each[6]) for each in found if each] == [2.0, 6.0, 2.0, 5.0, 4.0]


def test_an_interval_runs_on_over_the_epochs(capsys):
    """As mindvision counts: every third step, whatever epoch it falls in."""
    make_model().train(2, dataset(), callbacks=[LossMonitor(per_print_times=3)])
    found = [STEP.fullmatch(line) for line in lines(capsys)]
    assert [(each[1], each[3]) for each in found if each] == [("1", "3"), ("2", "2")]


def test_a_run_that_goes_on_prints_at_the_steps_of_one_that_never_stopped(capsys):
    """Steps count from the first of epoch 1, whichever epoch the run begins with."""
    make_model().train(3, dataset(), callbacks=[LossMonitor(per_print_times=3)], initial_epoch=1)
    found = [STEP.fullmatch(line) for line in lines(capsys)]
    assert [(each[1], each[3]) for each in found if each] == [("2", "2"), ("3", "1"), ("3", "4")]


def test_epochs_and_steps_of_a_resumed_run_and_of_sink_mode(capsys):
    """MindSpore counts a resumed run "6/5", and takes the size of a sink for an epoch's where a CPU does not sink."""
    model = make_model()
    model.train(6, dataset(), callbacks=[LossMonitor(per_print_times=4)], initial_epoch=4)
    model.train(1, dataset(), callbacks=[LossMonitor(per_print_times=4)], dataset_sink_mode=True, sink_size=2)
    found = [STEP.fullmatch(line) for line in lines(capsys)]
    assert [each.group(1, 2, 3, 4) for each in found if each] == [
        ("5", "6", "4", "4"),
        ("6", "6", "4", "4"),
        ("1", "1", "4", "4"),
    ]


@pytest.mark.parametrize("how", ["train", "fit"])
def test_evaluation_does_not_count_as_the_epochs_time(capsys, monkeypatch, how):
    """By a clock that stands still but for each step and each evaluation."""
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    class Clock(ms.train.Callback):
        def on_train_step_begin(self, run_context):
            clock[0] += 0.25

        def on_eval_begin(self, run_context):
            clock[0] += 1000

    model = make_model()
    if how == "fit":
        model.fit(2, dataset(), valid_dataset(), callbacks=[Clock(), LossMonitor(per_print_times=2)])
    else:
        model.train(2, dataset(), callbacks=[Clock(), LossMonitor(per_print_times=2), Validate(model, valid_dataset())])
    printed = lines(capsys)
    assert clock[0] == 2000 + 8 * 0.25
    assert [line.split(", avg")[0] for line in printed if line.startswith("Epoch time")] == [
        "Epoch time: 1000.000 ms, per step time: 250.000 ms"
    ] * 2
    assert sum("time:250.000 ms" in line for line in printed if STEP.fullmatch(line)) == 4


def test_zero_prints_the_epochs_only(capsys):
    """One line an epoch."""
    make_model().train(2, dataset(), callbacks=[LossMonitor(per_print_times=0)])
    assert [bool(EPOCH.fullmatch(line)) for line in lines(capsys)] == [True, True]


def test_validation_results_are_printed(capsys):
    """After the epoch's line, where the epoch was evaluated."""
    model = make_model()
    callbacks = [LossMonitor(per_print_times=0), Validate(model, valid_dataset(), every_n_epochs=2, on_last=False)]
    model.train(3, dataset(), callbacks=callbacks)
    printed = lines(capsys)
    assert len(printed) == 4
    assert re.fullmatch(r"Validation: acc: \d\.\d{4}, eval_loss: \d\.\d{4}", printed[2])


def grouped(network):
    head = network.head.trainable_params()
    rest = [one for one in network.trainable_params() if not one.name.startswith("head")]
    return nn.Momentum([{"params": head, "lr": 0.4}, {"params": rest}], 0.1, 0.9)


@pytest.mark.parametrize(
    ("rate", "callbacks", "printed"),
    [
        (0.02, [], ["0.02000"] * 8),
        (0.02, [LRStepDecay(1, 0.5)], ["0.02000"] * 4 + ["0.01000"] * 4),
        ([0.1, 0.09, 0.08, 0.07, 0.06, 0.05, 0.04, 0.03], [], [f"0.{n:02d}000" for n in (10, 9, 8, 7, 6, 5, 4, 3)]),
        (nn.PolynomialDecayLR(0.1, 0.02, 8, 1.0), [], [f"0.{n:02d}000" for n in (10, 9, 8, 7, 6, 5, 4, 3)]),
        (2.5e-6, [], ["2.500e-06"] * 8),
        (grouped, [], ["0.40000/0.10000"] * 8),
    ],
    ids=["float", "scheduled", "list", "schedule", "tiny", "groups"],
)
def test_the_rate_is_the_one_that_the_step_used(capsys, mode, rate, callbacks, printed):
    """Read from the optimizer, without moving a list on (reading it does on MindSpore 2.0)."""
    with np.printoptions(precision=1):  # which makes MindSpore's own scheduler read 0.0
        model = make_model(rate) if callable(rate) and not isinstance(rate, nn.Cell) else make_model(learning_rate=rate)
        model.train(2, dataset(), callbacks=[LossMonitor(), *callbacks])
    assert [found[7] for found in map(STEP.fullmatch, lines(capsys)) if found] == printed


def test_watching_changes_nothing(mode):
    """Losses with and without it are the same, under a list of rates too."""
    listed = [0.1, 0.09, 0.08, 0.07, 0.06, 0.05, 0.04, 0.03]
    with_, without = Recorder(), Recorder()
    make_model(learning_rate=listed).train(2, dataset(), callbacks=[LossMonitor(), with_])
    make_model(learning_rate=listed).train(2, dataset(), callbacks=[without])
    assert with_.losses == without.losses


def test_a_rate_that_is_not_the_optimizers_is_refused_before_the_first_step():
    """What is printed would otherwise be a lie; a list is compared as a list."""
    with pytest.raises(ValueError, match=r"learning_rate 0.1 is not the optimizer's, which is 0.05; leave it out"):
        make_model(learning_rate=0.05).train(1, dataset(), callbacks=[LossMonitor(0.1)])
    listed = [0.1, 0.05, 0.02, 0.01]
    make_model(learning_rate=listed).train(1, dataset(), callbacks=[LossMonitor(listed)])
    with pytest.raises(ValueError, match="is not the optimizer's"):
        make_model(learning_rate=listed).train(1, dataset(), callbacks=[LossMonitor([0.1, 0.2])])
    make_model(learning_rate=0.05).train(1, dataset(), callbacks=[LossMonitor(Tensor(0.05))])


def test_a_second_run_with_a_schedule_is_no_error(capsys):
    """The rate has moved since it was verified, and that is the schedule's doing."""
    model, monitor, decay = make_model(learning_rate=0.1), LossMonitor(0.1, 4), LRStepDecay(1, 0.5)
    for _ in range(2):
        model.train(2, dataset(), callbacks=[monitor, decay])
        assert [found[7] for found in map(STEP.fullmatch, lines(capsys)) if found] == ["0.10000", "0.05000"]


def test_a_rate_is_compared_once_a_schedule_has_set_it(capsys):
    """A schedule with a rate of its own, and a new monitor beside a schedule that goes around again."""
    model = make_model(learning_rate=0.01)
    model.train(1, dataset(), callbacks=[LossMonitor(0.1, 4), LRStepDecay(1, 0.5, learning_rate=0.1)])
    decay = LRStepDecay(1, 0.5)
    model = make_model(learning_rate=0.01)
    for _ in range(2):
        model.train(2, dataset(), callbacks=[decay, LossMonitor(0.01, 4)])
    found = [each[7] for each in map(STEP.fullmatch, lines(capsys)) if each]
    assert found == ["0.10000"] + ["0.01000", "0.00500"] * 2


def test_a_train_network_with_an_optimizer_of_ones_own_has_no_rate(capsys):
    """It trains by means of its own; a dash stands for the rate."""
    script = Script()
    script.optimizer = object()
    script.run([LossMonitor()], [None])
    assert STEP.fullmatch(lines(capsys)[0])[7] == "-"


class Vector(nn.Cell):
    """A loss of one number a sample."""

    def __init__(self):
        super().__init__()
        self.loss = loss_fn("none")

    def construct(self, logits, labels):
        return self.loss(logits, labels)


def test_a_vector_of_losses_shows_its_mean(capsys):
    """reduction='none' gives a loss a sample."""
    model = make_model()
    recorder = []

    class Peek(ms.train.Callback):
        def on_train_step_end(self, run_context):
            recorder.append(run_context.original_args()["net_outputs"].asnumpy())

    model = ms.Model(model.predict_network, Vector(), nn.SGD(model.predict_network.trainable_params(), 0.01))
    model.train(1, dataset(), callbacks=[LossMonitor(per_print_times=0), Peek()])
    assert recorder[0].shape == (12,)
    assert float(EPOCH.fullmatch(lines(capsys)[0])[1]) == pytest.approx(np.mean(recorder), abs=6e-4)


def test_loss_scaling_is_understood(capsys):
    """The outputs are then loss, overflow and scale; a step dropped for its overflow neither counts nor raises."""
    scale = Tensor(1024.0)
    outputs = [
        (Tensor(2.0), Tensor(False), scale),
        (Tensor(float("inf")), Tensor(True), scale),
        (Tensor(3.0), Tensor(False), scale),
    ]
    Script().run([LossMonitor(per_print_times=3)], [None], [outputs], steps=3)
    assert STEP.fullmatch(lines(capsys)[0]).group(5, 6) == ("3.000", "2.500")


# Losses that are no numbers


class Spoil(ms.train.Callback):
    """Makes a weight NaN before a step."""

    def __init__(self, epoch, step):
        self.at = (epoch - 1) * 4 + step

    def on_train_step_begin(self, run_context):
        args = run_context.original_args()
        if args["cur_step_num"] == self.at:
            head = args["network"].head.weight
            ms.ops.assign(head, Tensor(np.full(head.shape, np.nan, np.float32)))


@pytest.mark.parametrize("interval", [0, 1, 3])
def test_a_loss_that_is_not_finite_raises(mode, interval):
    """With epoch, step and parameter, at whatever interval the lines come."""
    callbacks = [Spoil(2, 3), LossMonitor(per_print_times=interval)]
    with pytest.raises(
        ValueError, match=r"LossMonitor: the loss is not finite in epoch 2, step 3; the first .* is '"
    ) as e:
        make_model().train(3, dataset(), callbacks=callbacks)
    # The step has spread it over the network: the first parameter in the network's order is named.
    assert "'hidden.weight'" in str(e.value)


def test_it_can_stop_or_go_on_instead(capsys):
    """A line says the same; it comes once an epoch."""
    recorder = Recorder()
    make_model().train(
        3, dataset(), callbacks=[Spoil(2, 1), LossMonitor(per_print_times=0, on_nonfinite="stop"), recorder]
    )
    assert len(recorder.losses) == 8
    assert lines(capsys)[1].startswith("LossMonitor: the loss is not finite in epoch 2, step 1; the first parameter")
    recorder = Recorder()
    make_model().train(3, dataset(), callbacks=[Spoil(2, 1), LossMonitor(on_nonfinite="warn"), recorder])
    assert len(recorder.losses) == 12
    assert [line for line in lines(capsys) if line.startswith("LossMonitor")][1:] == [
        "LossMonitor: the loss is not finite in epoch 3, step 1; the first parameter that is not finite is "
        "'hidden.weight'; lower the learning rate, clip gradients, or inspect that batch"
    ]


def test_a_loss_that_is_not_finite_in_a_tuple_is_seen():
    """MindSpore's own monitor does not look there."""
    losses = [[(Tensor(1.0), Tensor([1.0])), (Tensor(float("inf")), Tensor([1.0]))]]
    with pytest.raises(ValueError, match="not finite in epoch 1, step 2; all parameters are finite"):
        Script().run([LossMonitor(per_print_times=0)], [None], losses, steps=2)


def test_losses_are_read_at_the_interval_only():
    """Between two lines nothing waits for the device."""
    reads: list[int] = []
    script_step = [0]

    class Step(ms.train.Callback):
        def on_train_step_begin(self, run_context):
            script_step[0] = run_context.original_args()["cur_step_num"]

    losses = [[Tensor(1.0) for _ in range(12)]]
    script = Script()
    with noticed(lambda: reads.append(script_step[0])):
        script.run([Step(), LossMonitor(per_print_times=5)], [None], losses, steps=12)
    assert set(reads) == {5, 10, 12}  # two lines, the epoch


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per_print_times": -1}, "per_print_times must be at least 0, but got -1"),
        ({"per_print_times": 1.5}, "per_print_times must be a whole number"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite must be one of 'raise', 'stop', 'warn', but got 'ignore'"),
        ({"learning_rate": "fast"}, "learning_rate must be a number or a list of numbers, but got 'fast'"),
        ({"learning_rate": "0.1"}, "learning_rate must be a number or a list of numbers, but got '0.1'"),
        ({"learning_rate": []}, "learning_rate must be a number"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number"),
    ],
)
def test_wrong_arguments_are_refused_where_it_is_made(arguments, message):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match=f"LossMonitor: {message}"):
        LossMonitor(**arguments)
