"""Where a run stands: epochs of any number of batches, samples of any kind, and a run that somebody else moves on."""

from __future__ import annotations

import io
import re
import time

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Callback, LambdaCallback
from sinking import sinking_model
from training import Network, Recorder, Samples, dataset, loss_fn, make_model, samples_of, seeded, valid_dataset

from ms_callbacks import (
    BatchAccuracy,
    BestCheckpoint,
    DynamicLR,
    EarlyStopping,
    History,
    LossMonitor,
    LRStepDecay,
    LRWarmup,
    TrainingState,
    Validate,
)
from ms_callbacks.core.callback import TrainCallback
from ms_callbacks.core.lifecycle import Lifecycle
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.core.progress import Progress
from ms_callbacks.diagnostics._device_reads import noticed
from ms_callbacks.monitoring.progress_bar import ProgressBar

BATCH = 4


@pytest.fixture(autouse=True)
def _nothing_to_compile(_fresh):
    """Most of it has nothing to do with the mode; the tests that take `mode` run in both."""
    ms.set_context(mode=ms.PYNATIVE_MODE)


class Batches:
    """Ready batches, as many in each pass as `counts` says; the first pass is the one that MindSpore sizes it by."""

    def __init__(self, declared, counts):
        self.counts = [declared, *counts]
        self.samples = Samples(100, 0)

    def __iter__(self):
        for at in range(0, self.counts.pop(0) * BATCH, BATCH):
            yield self.samples.images[at : at + BATCH], self.samples.labels[at : at + BATCH]


def varying(declared, counts):
    return ds.GeneratorDataset(Batches(declared, counts), ["images", "labels"], shuffle=False)


class Epochs(Callback):
    """Keeps the losses of each epoch, from outside."""

    def __init__(self):
        self.losses = []

    def on_train_epoch_begin(self, run_context):
        self.losses.append([])

    def on_train_step_end(self, run_context):
        self.losses[-1].append(float(run_context.original_args()["net_outputs"].asnumpy()))


VARYING = [
    # what the dataset declares, what comes, and what is told of an epoch's number of steps at each of them
    (3, [3, 3], ["123", "123"], "3 3"),
    (3, [5, 3], ["12345", "123"], "333-- ---"),
    (3, [3, 5, 2], ["123", "12345", "12"], "333 333-- --"),
    (4, [1, 4], ["1", "1234"], "4 ----"),
    (2, [2, 0, 3], ["12", "", "123"], "22  ---"),
    (3, [0, 3], ["", "123"], " ---"),
]


@pytest.mark.parametrize("how", ["train", "fit"])
@pytest.mark.parametrize(("declared", "counts", "steps", "told"), VARYING)
def test_epochs_of_any_number_of_batches(capsys, how, declared, counts, steps, told):
    """Means are of the steps that came; their number is told as long as it holds, and then a dash stands for it."""
    if how == "fit" and counts[0] == 0:
        pytest.skip("MindSpore's own fit fails where the first epoch has no batch")
    history, epochs, file, model = History(), Epochs(), io.StringIO(), make_model()
    callbacks = [LossMonitor(), history, epochs, ProgressBar(file=file, interval=0)]
    valid = [valid_dataset()] if how == "fit" else []
    getattr(model, how)(len(counts), varying(declared, counts), *valid, callbacks=callbacks)
    expected = [np.mean(losses) if losses else None for losses in epochs.losses]
    assert [len(losses) for losses in epochs.losses] == counts
    assert history.history["loss"] == [value if value is None else pytest.approx(value, rel=1e-6) for value in expected]
    known = [list(each) if len(each) != 1 else [each] * len(of_epoch) for each, of_epoch in zip(told.split(" "), steps)]
    expected = [(str(e), s, k) for e, (ss, ks) in enumerate(zip(steps, known), 1) for s, k in zip(ss, ks)]
    printed = capsys.readouterr().out
    assert re.findall(r"Epoch:\[ *(\d+)/ *\d+\], step:\[ *(\d+)/ *(\d+|-)\]", printed) == expected
    assert [text == "-" for text in re.findall(r"per step time: *(\S+) ms", printed)] == [n == 0 for n in counts]
    lines = file.getvalue().splitlines()
    shown = [re.fullmatch(r"Epoch (\d)/\d, step (\d)/(\d|-), .*, (\S+) left", line).groups() for line in lines]
    # A line for each step, and one at the end of the epoch, when more may be known.
    ends = [sum(counts[: epoch + 1]) + epoch for epoch in range(len(counts))]
    assert [each[:3] for index, each in enumerate(shown) if index not in ends] == expected
    assert [shown[index][1] for index in ends] == [str(count) for count in counts]
    assert all(known == "-" or int(step) <= int(known) for _, step, known, _ in shown)
    assert all(left[0] != "-" for *_, left in shown)
    assert shown[-1][3] == "00:00"
    seen = [rate * seconds for rate, seconds in zip(history.history["samples_per_second"], history.history["seconds"])]
    assert seen == pytest.approx([BATCH * count for count in counts])


def test_the_steps_of_a_run_are_expected_by_the_epochs_that_are_over():
    """As many as the dataset declares, until an epoch has had others; from then on the mean of those over."""
    expected = []

    class Look(TrainCallback):
        def on_train_step_end(self, run_context):
            expected.append(self.run.progress.steps_expected)

        def after_epoch(self, run, summary):
            expected.append(run.progress.steps_expected)

    make_model().train(3, varying(2, [4, 2, 1]), callbacks=[Look()])
    assert expected == [*(6, 6, 7, 8), 12, *(12, 12), 9, *(9,), 7]


class Away(Callback):
    """Moves a clock on in every step, and much more in whatever else there is."""

    def __init__(self, clock):
        self.clock = clock

    def on_train_step_begin(self, run_context):
        self.clock[0] += 0.25

    def on_train_epoch_end(self, run_context):
        self.clock[0] += 1000

    on_eval_begin = on_train_epoch_end


@pytest.mark.parametrize("how", ["train", "fit"])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("counts", [[3, 3], [5, 2], [1, 4], [3, 0]])
def test_the_seconds_are_those_of_the_steps(monkeypatch, how, order, counts):
    """Of all of them and of nothing else, by a clock that stands still but for steps, evaluations and epochs' ends."""
    clock, history = [0.0], History()
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    valid = [valid_dataset()] if how == "fit" else []
    callbacks = [Away(clock), history, LossMonitor()][::order]
    getattr(make_model(), how)(2, varying(3, counts), *valid, callbacks=callbacks)
    # An epoch without a step has nothing to be told by; it takes what lies before the first of our hooks.
    assert [s for s, n in zip(history.history["seconds"], counts) if n] == [count * 0.25 for count in counts if count]


@pytest.mark.parametrize(
    ("declared", "counts", "read_at"),
    [(3, [3, 3], [3, 6]), (3, [5, 5], [3, 5, 10]), (5, [2, 2], [2, 4])],
)
def test_losses_are_read_once_an_epoch(declared, counts, read_at):
    """Where its last step is expected, and once it is over; not in each step beyond."""
    step = [0]

    class Step(Callback):
        def on_train_step_begin(self, run_context):
            step[0] = run_context.original_args()["cur_step_num"]

    def reads(*callbacks):
        at, model = set(), make_model()
        with noticed(lambda: at.add(step[0])):
            model.train(2, varying(declared, counts), callbacks=[Step(), *callbacks])
        return at

    assert sorted(reads(Losses()) - reads()) == read_at


class Losses(TrainCallback):
    """Follows the losses, and asks for nothing."""

    @property
    def needs_losses(self):
        return True


class Ended(TrainCallback):
    """The epochs that were learnt to their end."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def after_epoch(self, run, summary):
        self.epochs.append(summary.epoch)


@pytest.mark.parametrize(
    ("declared", "counts", "at", "ended"),
    [
        (3, [3, 3], 2, []),  # in the middle
        (3, [3, 3], 3, [1]),  # after the last step
        (3, [5, 5], 4, []),  # beyond those declared there may be others
        (3, [2, 3], 2, []),  # there may have been another
        (3, [2, 3], 5, [1]),  # not known ahead any more
    ],
)
def test_an_interruption_in_a_step_cuts_an_epoch_short_that_could_have_had_others(declared, counts, at, ended):
    """Of an epoch with the steps that were declared it is known that it is whole."""

    class Interrupt(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == at:
                Lifecycle.of(run_context).run.request_stop(interrupt=True)

    seen = Ended()
    make_model().train(2, varying(declared, counts), callbacks=[Interrupt(), seen])
    assert seen.epochs == ended


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_an_interruption_after_an_epoch_leaves_it_whole(order, count):
    """However many steps it had, for every callback and in any order."""

    class Interrupt(TrainCallback):
        def after_epoch(self, run, summary):
            run.request_stop(interrupt=True)

    seen = Ended()
    make_model().train(2, varying(3, [count, 3]), callbacks=[Interrupt(), seen][::order])
    assert seen.epochs == [1]


@pytest.mark.parametrize("how", ["train", "fit"])
def test_the_accuracy_of_an_epoch_is_that_of_its_steps(mode, how):
    """Of all of them, and of no evaluation."""
    accuracy, network, batches, counts = BatchAccuracy(0), seeded(), [], [2, 5, 0, 1]
    watched = accuracy.watch(loss_fn())
    model = ms.Model(network, watched, nn.Adam(network.trainable_params(), 0.05), metrics={"acc"})

    class Each(Callback):
        def on_train_epoch_begin(self, run_context):
            batches.append([])

        def on_train_step_end(self, run_context):
            batches[-1].append(watched.of_last_batch)

    valid = [valid_dataset()] if how == "fit" else []
    callbacks = [Validate(model, valid_dataset()), accuracy, Each()]
    getattr(model, how)(4, varying(3, counts), *valid, callbacks=callbacks)
    assert [len(each) for each in batches] == counts
    assert accuracy.accuracies_ == pytest.approx([np.mean(each) if each else np.nan for each in batches], nan_ok=True)


def test_filters_and_buckets():
    """Real pipelines whose epochs differ: the number of samples is that of those that came."""
    passes = [0]

    def kept(image, label):
        passes[0] += 1
        return bool((passes[0] * 7) % 5)

    def source():
        return ds.GeneratorDataset(Samples(50, 0), ["images", "labels"], shuffle=False)

    for data in (
        source().filter(kept, ["images", "labels"]).batch(12),
        source().bucket_batch_by_length(["labels"], [1, 2], [5, 3, 8], element_length_function=int),
    ):
        history, seen = History(), []

        class Sizes(Callback):
            def on_train_epoch_begin(self, run_context, seen=seen):
                seen.append(0)

            def on_train_step_end(self, run_context, seen=seen):
                seen[-1] += run_context.original_args()["train_dataset_element"][1].shape[0]

        make_model().train(3, data, callbacks=[history, Sizes()], dataset_sink_mode=False)
        assert samples_of(history) == pytest.approx(seen)
        assert sum(seen) > 100


def test_in_sink_mode_a_sink_is_an_epoch(capsys):
    """Its steps are known, its samples are not, and one that is interrupted at its end is whole."""
    ms.set_context(mode=ms.GRAPH_MODE)  # in the other, MindSpore counts a sink as one step
    history, seen = History(), Ended()

    class Interrupt(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_epoch_num"] == 2:
                Lifecycle.of(run_context).run.request_stop(interrupt=True)

    callbacks = [history, LossMonitor(per_print_times=4), seen, Interrupt()]
    sinking_model().train(3, dataset(), callbacks=callbacks, dataset_sink_mode=True)
    assert re.findall(r"Epoch:\[ *(\d)/ *3\], step:\[ *(\d+)/ *(\d+|-)\]", capsys.readouterr().out) == [
        ("1", "4", "4"),
        ("2", "4", "4"),
    ]
    assert history.history["samples_per_second"] == [None, None]
    assert seen.epochs == [1, 2]


@pytest.mark.skipif(not hasattr(ds.Dataset, "set_init_step"), reason="MindSpore 2.0 cannot begin within an epoch")
@pytest.mark.parametrize("counted_before", [True, False])
def test_an_epoch_that_goes_on_has_the_samples_of_both_runs(tmp_path, counted_before):
    """Where nobody counted them before, their number is not known."""

    class Interrupt(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == 6:
                Lifecycle.of(run_context).run.request_stop(interrupt=True)

    def state():
        return TrainingState(str(tmp_path / "state"))

    own = [History()] if counted_before else []
    make_model().train(3, dataset(44, 12), callbacks=[state(), *own, Interrupt()])
    model, data, keeper, history = make_model(), dataset(44, 12), state(), History()
    model.train(3, data, callbacks=[keeper, history], initial_epoch=keeper.resume(model, data))
    whole = [44.0] * len(history.epoch)
    if not counted_before:
        assert history.history["samples_per_second"][0] is None
        history.history["samples_per_second"][0] = 44 / history.history["seconds"][0]
    assert samples_of(history) == pytest.approx(whole)


# A run that somebody else moves on


class Resume(Callback):
    """As in MindSpore's model repository."""

    def __init__(self, epochs):
        self.epochs = epochs

    def epoch_begin(self, run_context):
        run_context.original_args().cur_epoch_num += self.epochs


class NewResume(Callback):
    """The same under the hook's newer name, which `Model.fit` takes too."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_begin(self, run_context):
        run_context.original_args().cur_epoch_num += self.epochs


def lambda_resume(epochs):
    def move(run_context):
        run_context.original_args().cur_epoch_num += epochs

    return LambdaCallback(on_train_epoch_begin=move)


def outcome(folder, capsys, place=None, resume=None):
    """What nine callbacks make of epochs 4 to 6: those of a run with `initial_epoch`, or of one that is moved there."""
    model, recorder, history = make_model(learning_rate=0.1), Recorder(), History()
    best = BestCheckpoint(str(folder / "best-{epoch}.ckpt"), monitor="loss", save_top_k=-1, verbose=0)
    stopping, file = EarlyStopping("loss", patience=9, verbose=0), io.StringIO()
    state = TrainingState(str(folder / "state"), keep=9)
    callbacks = [LossMonitor(per_print_times=5), LRStepDecay(1, 0.5), best, stopping, history, state, recorder]
    callbacks += [Validate(model, valid_dataset(), every_n_epochs=4, on_last=False)]
    callbacks += [ProgressBar(file=file, interval=3600)]
    if resume is None:
        model.train(6, dataset(), callbacks=callbacks, initial_epoch=3)
    else:
        callbacks.insert(place, resume)
        model.train(3, dataset(), callbacks=callbacks)
    return [
        history.epoch,
        recorder.rates,
        re.findall(r"Epoch:\[.*?\], step:\[.*?\]", capsys.readouterr().out),
        (best.best_epoch_, stopping.best_epoch_),
        [acc is None for acc in history.history["acc"]],
        re.findall(r"Epoch \S+, step \S+", file.getvalue()),
        sorted(path.name for path in folder.rglob("*") if path.suffix != ".json"),
    ]


def test_the_place_of_one_who_moves_the_run_does_not_matter(tmp_path, capsys):
    """Rates, lines, records and files are those of a run with `initial_epoch`; one state for each boundary."""
    (tmp_path / "told").mkdir()
    told = outcome(tmp_path / "told", capsys)
    assert told[0] == [4, 5, 6]
    assert [name for name in told[-1] if name.startswith("state-")] == [
        f"state-0000000{number}" for number in (1, 2, 3)
    ]
    for place, resume in [(0, Resume(3)), (1, Resume(3)), (2, Resume(3)), (9, NewResume(3)), (9, lambda_resume(3))]:
        folder = tmp_path / f"{place} {type(resume).__name__}"
        folder.mkdir()
        assert outcome(folder, capsys, place, resume) == told, (place, resume)


@pytest.mark.parametrize("order", [1, -1])
def test_a_plan_is_checked_for_the_epochs_that_the_run_was_moved_to(order):
    """Before the first step: a list that is too short for them, and a schedule that stands beyond its warm-up."""

    class NoStep(Callback):
        def on_train_step_end(self, run_context):
            raise AssertionError("a step ran")

    with pytest.raises(ValueError, match=r"but 6 epochs"):
        make_model().train(3, dataset(), callbacks=[DynamicLR([0.1] * 5), NoStep(), Resume(3)][::order])
    recorder = Recorder()
    make_model(learning_rate=0.1).train(1, dataset(), callbacks=[LRWarmup(1), recorder, Resume(3)][::order])
    assert recorder.rates == pytest.approx([0.1] * 4)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("counts", [[0, 2], [2, 2]])
def test_a_first_epoch_without_a_step_is_moved_too(order, counts):
    """It is known at its end."""
    history = History()
    make_model(learning_rate=0.1).train(
        2, varying(2, counts), callbacks=[history, LRStepDecay(1, 0.5), Resume(3)][::order]
    )
    assert history.epoch == [4, 5]
    assert history.history["learning_rate"] == [0.0125, 0.00625]


@pytest.mark.parametrize("order", [1, -1])
def test_a_second_run_is_not_moved_by_the_first(order):
    """And one that looks on at the beginning of an epoch moves nothing."""

    class LookOn(Callback):
        def on_train_epoch_begin(self, run_context):
            self.epoch = run_context.original_args()["cur_epoch_num"]

    history, decay, model = History(), LRStepDecay(1, 0.5), make_model(learning_rate=0.1)
    for other, epochs in ((Resume(3), [4, 5]), (LookOn(), [1, 2])):
        model.train(2, dataset(), callbacks=[history, decay, other][::order])
        assert history.epoch == epochs
    assert history.history["learning_rate"] == [0.1, 0.05]


def test_the_first_step_finds_what_the_beginning_of_its_epoch_does(mode):
    """Also where that has had to wait: a rate that was set, before any other looks at it."""
    model = make_model(network=Network(), learning_rate=0.01)
    callbacks = [LossMonitor(0.1), LRStepDecay(1, 0.5, learning_rate=0.1), Resume(0)]
    recorder = Recorder()
    model.train(2, dataset(), callbacks=[*callbacks, recorder])
    assert recorder.rates == pytest.approx([0.1] * 4 + [0.05] * 4)


def test_what_is_done_in_a_pause_takes_no_time_of_the_epoch(monkeypatch):
    """By the clock and by the seconds; an exception ends the pause too."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    progress = Progress({"cur_step_num": 0, "cur_epoch_num": 1, "epoch_num": 1, "batch_num": 4})
    progress._declared_steps = 4
    progress.open_epoch()
    began = progress.clock()
    now[0] += 2.0
    with pytest.raises(KeyError), progress.pausing():
        now[0] += 30.0
        raise KeyError
    now[0] += 1.0
    assert (progress.seconds, progress.clock() - began) == (3.0, 3.0)


def test_saving_a_state_takes_no_time_of_an_epoch(tmp_path, monkeypatch):
    """Neither within one nor between two; as an evaluation takes none."""
    shift = [0.0]
    clock, keep = time.perf_counter, TrainingState._keep
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + shift[0])

    def keep_for_long(self, *arguments, **named):
        keep(self, *arguments, **named)
        shift[0] += 1000.0

    monkeypatch.setattr(TrainingState, "_keep", keep_for_long)
    history = History()
    state = TrainingState(tmp_path / "state", every_n_steps=2 if CAN_BEGIN_WITHIN else None)
    make_model().train(2, dataset(), callbacks=[history, state])
    assert shift[0] >= (4000 if CAN_BEGIN_WITHIN else 2000)
    assert max(history.history["seconds"]) < 1000


@pytest.mark.parametrize("is_known", [True, False])
def test_the_loss_of_each_step_may_be_called_for(is_known, monkeypatch):
    """An error says what to do where the device keeps them."""
    progress = Progress({})
    monkeypatch.setattr(Progress, "sees_each_loss", is_known)
    if is_known:
        progress.check_sees_each_loss("Mine", "leave it out")
    else:
        with pytest.raises(ValueError, match=r"Mine: in sink mode .*dataset_sink_mode=False, or leave it out"):
            progress.check_sees_each_loss("Mine", "leave it out")
