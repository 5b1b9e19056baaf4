"""Which datasets give the same batches after a resume, and what TrainingState says of those that cannot."""

from __future__ import annotations

import contextlib
import functools
import pathlib
import random
import struct
import time
from collections.abc import Iterator
from typing import Any, Callable, Optional

import mindspore as ms
import mindspore.dataset as ds
import mindspore.dataset.transforms as T
import mindspore.dataset.vision as V
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from mindspore.train import Callback, LambdaCallback, TimeMonitor
from mindspore.train import History as MindSporeHistory
from training import dataset, make_model

from ms_callbacks import TrainingState
from ms_callbacks.checkpointing._dataset_order import Order

CAN_BEGIN_WITHIN = hasattr(ds.Dataset, "set_init_step")
within = pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="this MindSpore cannot begin a dataset in its middle")
ROWS, BATCH, EPOCHS = 24, 6, 3
STEPS = ROWS // BATCH
VALUES = np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4)
IMAGES = np.random.RandomState(0).randint(0, 255, (ROWS, 6, 6, 3)).astype(np.uint8)
ALONE = {"num_parallel_workers": 1}
DEFAULT_SEED = 5489  # MindSpore's: with it, each process draws another


# Kinds of datasets


class Rows:
    """A source that can be read anywhere."""

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> tuple[np.ndarray]:
        return (VALUES[index] + np.float32(self.noise and self.noise * np.random.rand()),)


class Stream:
    """A source that is read from its beginning, in an order of its own."""

    def __iter__(self) -> Iterator[tuple[np.ndarray]]:
        return iter([(VALUES[i],) for i in np.random.permutation(ROWS)])

    def __len__(self) -> int:
        return ROWS


class Permuted(ds.Sampler):
    def __iter__(self) -> Iterator[int]:
        yield from np.random.permutation(ROWS).tolist()


def numpy_noise(x: np.ndarray) -> np.ndarray:
    return (x + np.random.rand()).astype(np.float32)


def python_noise(x: np.ndarray) -> np.ndarray:
    return (x + random.random()).astype(np.float32)


def doubled(x: np.ndarray) -> np.ndarray:
    return (x * 2).astype(np.float32)


@T.not_random
def halved(x: np.ndarray) -> np.ndarray:
    return (x / 2).astype(np.float32)


def batch_noise(columns: list[np.ndarray], info: Any) -> tuple[list[np.ndarray]]:
    return ([x + np.float32(np.random.rand()) for x in columns],)


def above(x: np.ndarray) -> bool:
    return bool(x[0] >= 48)


def values(**kwargs: Any) -> ds.Dataset:
    return ds.NumpySlicesDataset({"x": VALUES}, **kwargs)


def images(*operations: Any, shuffle: bool = True, workers: int = 2) -> ds.Dataset:
    source = ds.NumpySlicesDataset({"x": IMAGES}, shuffle=shuffle)
    return source.map(list(operations), "x", num_parallel_workers=workers).batch(BATCH)


def mapped(function: Any, workers: Optional[int] = 1, **kwargs: Any) -> ds.Dataset:
    return values(shuffle=True).map(function, "x", num_parallel_workers=workers, **kwargs).batch(BATCH)


@functools.cache
def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


def _masked_crc(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _crc_table()[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _message(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2, len(content)]) + content


def tfrecords(folder: pathlib.Path, **kwargs: Any) -> ds.Dataset:
    """Two files of TFRecord, of 16 and of 8 rows."""
    files = []
    for name, rows in (("0", VALUES[:16]), ("1", VALUES[16:])):
        files.append(str(folder / f"{name}.tfrecord"))
        with open(files[-1], "wb") as file:
            for row in rows:
                feature = _message(2, _message(1, row.tobytes()))  # a float_list
                record = _message(1, _message(1, _message(1, b"x") + _message(2, feature)))
                length = struct.pack("<Q", len(record))
                file.write(length + _masked_crc(length) + record + _masked_crc(record))
    schema = ds.Schema()
    schema.add_column("x", ms.float32, [4])
    return ds.TFRecordDataset(files, schema, **kwargs)


def lines_of_csv(folder: pathlib.Path, **kwargs: Any) -> ds.Dataset:
    path = folder / "rows.csv"
    path.write_text("".join(f"{row[0]}\n" for row in VALUES))
    return ds.CSVDataset(str(path), ",", [0.0], ["x"], **kwargs)


KINDS: dict[str, tuple[Callable[[pathlib.Path], ds.Dataset], str]] = {
    # its name: how it is made, and the operations for which all batches before the state are drawn again
    "not shuffled": (lambda _: values(shuffle=False).batch(BATCH), ""),
    "shuffled": (lambda _: values(shuffle=True).batch(BATCH), ""),
    "shuffle operation": (lambda _: values(shuffle=False).shuffle(10).batch(BATCH), ""),
    "RandomSampler": (lambda _: values(sampler=ds.RandomSampler(replacement=True, num_samples=ROWS)).batch(BATCH), ""),
    "repeated": (lambda _: values(shuffle=True).take(12).repeat(2).batch(BATCH), ""),
    "zip": (lambda _: ds.zip((values(shuffle=True), values(shuffle=True).rename("x", "y"))).batch(BATCH), ""),
    "marked function": (lambda _: mapped(halved, None), ""),
    "source in Python": (
        lambda _: ds.GeneratorDataset(Rows(), ["x"], shuffle=True).batch(BATCH),
        "Rows in GeneratorDataset",
    ),
    "source with NumPy's noise": (
        lambda _: ds.GeneratorDataset(Rows(1.0), ["x"], shuffle=True).batch(BATCH),
        "Rows in GeneratorDataset",
    ),
    "stream in NumPy's order": (
        lambda _: ds.GeneratorDataset(Stream(), ["x"]).batch(BATCH),
        "Stream in GeneratorDataset",
    ),
    "sampler in Python": (lambda _: values(sampler=Permuted()).batch(BATCH), "Permuted in NumpySlicesDataset"),
    "map with NumPy": (lambda _: mapped(numpy_noise), "numpy_noise in map"),
    "map with random": (lambda _: mapped(python_noise), "python_noise in map"),
    "batch with NumPy": (
        lambda _: values(shuffle=True).batch(
            BATCH, per_batch_map=batch_noise, input_columns=["x"], num_parallel_workers=1
        ),
        "batch_noise in batch",
    ),
    "filter": (lambda _: values(shuffle=True).filter(above, ["x"], num_parallel_workers=1).batch(3), "above in filter"),
    "random transforms": (
        lambda _: images(V.RandomHorizontalFlip(), T.Compose([V.RandomCrop(4)])),
        "RandomHorizontalFlip in map, RandomCrop in map",
    ),
    "random transforms of PIL": (
        lambda _: images(V.ToPIL(), V.RandomHorizontalFlip(), V.RandomCrop(4), V.ToTensor(), workers=1),
        "RandomHorizontalFlip in map, RandomCrop in map",
    ),
    "UniformAugment": (
        lambda _: images(V.UniformAugment([V.HorizontalFlip(), V.VerticalFlip(), V.Invert()], 2)),
        "UniformAugment in map",
    ),
    "TFRecord": (lambda folder: tfrecords(folder, shuffle=True).batch(BATCH), "shuffle of TFRecordDataset"),
    "TFRecord by files": (lambda folder: tfrecords(folder, shuffle=ds.Shuffle.FILES).batch(BATCH), ""),
    "TFRecord not shuffled": (lambda folder: tfrecords(folder, shuffle=False).batch(BATCH), ""),
    "TFRecord, random transform": (
        lambda folder: tfrecords(folder, shuffle=False).map(T.RandomApply([T.Fill(0.0)]), "x").batch(BATCH),
        "RandomApply in map",
    ),
    "CSV": (lambda folder: lines_of_csv(folder, shuffle=True).batch(BATCH), "shuffle of CSVDataset"),
}


# A run


class Mean(nn.Cell):
    """Takes whatever batches there are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter(Tensor(1.0), name="weight")

    def construct(self, *columns: Tensor) -> Tensor:
        return (self.weight * columns[0].astype(ms.float32)).mean()


class Batches(Callback):
    """Keeps what a run trains on, and ends it before a step."""

    def __init__(self, fail_at: int = 0) -> None:
        self.fail_at, self.seen = fail_at, []

    def on_train_step_begin(self, run_context: Any) -> None:
        if self.fail_at and len(self.seen) == self.fail_at:
            raise RuntimeError("mine")

    def on_train_step_end(self, run_context: Any) -> None:
        columns = run_context.original_args()["train_dataset_element"]
        self.seen.append([column.asnumpy().tolist() for column in columns])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def batches_of(
    make: Callable[[], ds.Dataset], state: Optional[TrainingState] = None, fail_at: int = 0, *more: Callback
) -> list[Any]:
    """What a script trains on that begins a run, or resumes it in a process of its own."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    ms.set_seed(1)
    random.seed(1)
    train, network = make(), Mean()
    model = ms.Model(network, None, nn.SGD(network.trainable_params(), 0.01))
    initial_epoch = state.resume(model, train) if state else 0
    batches = Batches(fail_at)
    fails = fail_at or any(isinstance(each, Batches) and each.fail_at for each in more)
    callbacks = [*([state] if state else []), *more, batches]
    with pytest.raises(RuntimeError, match="mine") if fails else contextlib.nullcontext():
        model.train(EPOCHS, train, callbacks=callbacks, initial_epoch=initial_epoch, dataset_sink_mode=False)
    return batches.seen


def state_in(folder: pathlib.Path, **kwargs: Any) -> TrainingState:
    return TrainingState(str(folder / "state"), every_n_steps=1 if CAN_BEGIN_WITHIN else None, **kwargs)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run of each kind trains on that nothing interrupts and nobody watches."""

    @functools.cache
    def seen(kind: str) -> list[Any]:
        folder = tmp_path_factory.mktemp("whole")
        return batches_of(lambda: KINDS[kind][0](folder))

    return seen


@within
@pytest.mark.parametrize(
    ("kind", "fail_at"),
    [
        *(pytest.param(kind, STEPS + 2, id=f"{kind}-within an epoch") for kind in KINDS),
        *(
            pytest.param(
                kind,
                STEPS,
                id=f"{kind}-between two",
                marks=[] if kind in ("random transforms", "TFRecord", "filter") else [pytest.mark.slow],
            )
            for kind in KINDS
        ),
    ],
)
def test_the_batches_after_a_resume_are_the_same(kind, fail_at, whole, tmp_path, capsys):
    """At an epoch's boundary and within it; what is drawn again for that is said by name."""
    make, again = KINDS[kind]
    fail_at = fail_at // 2 if kind == "filter" else fail_at
    before = batches_of(lambda: make(tmp_path), state_in(tmp_path), fail_at)
    assert "draws" not in capsys.readouterr().out
    fast = ds.config.get_fast_recovery()
    after = batches_of(lambda: make(tmp_path), state_in(tmp_path))
    assert before == whole(kind)[:fail_at]
    assert after == whole(kind)[fail_at:]
    out = capsys.readouterr().out
    assert (f"before again and drops them, so that the next are the same, because of {again}; " in out) is bool(again)
    assert ("draws" in out) is bool(again)
    assert "not the same" not in out
    assert ds.config.get_fast_recovery() is fast


@within
@pytest.mark.parametrize("kind", ["random transforms", "TFRecord", "map with NumPy", "stream in NumPy's order"])
def test_without_replay_they_are_others_and_that_is_said(kind, whole, tmp_path, capsys):
    """From the first run on, by name; nothing is drawn again."""
    make, again = KINDS[kind]
    ds.config.set_fast_recovery(True)
    batches_of(lambda: make(tmp_path), state_in(tmp_path, replay=False), STEPS + 1)
    line = f"TrainingState: not the same to the last bit after a resume: {again} (replay=False"
    assert line in capsys.readouterr().out
    after = batches_of(lambda: make(tmp_path), state_in(tmp_path, replay=False))
    out = capsys.readouterr().out
    assert line in out
    assert "draws the batches" not in out
    assert len(after) == EPOCHS * STEPS - STEPS - 1
    assert after != whole(kind)[STEPS + 1 :]


@within
def test_a_state_of_a_resumed_run_is_exact_too(whole, tmp_path):
    """The dataset draws from where the very first run began."""
    make, _ = KINDS["map with NumPy"]
    seen = batches_of(lambda: make(tmp_path), state_in(tmp_path), 3)
    seen += batches_of(lambda: make(tmp_path), state_in(tmp_path), 4)
    seen += batches_of(lambda: make(tmp_path), state_in(tmp_path))
    assert seen == whole("map with NumPy")


@within
@pytest.mark.parametrize("function", [doubled, halved])
def test_numbers_that_a_callback_draws_continue(function, tmp_path):
    """Where the dataset draws none, though it is drawn again."""

    class Draw(Batches):
        def on_train_step_end(self, run_context: Any) -> None:
            self.seen.append((np.random.rand(), random.random()))

    def drawn(state: Optional[TrainingState], fail_at: int = 0) -> list[Any]:
        draw = Draw(fail_at)
        batches_of(lambda: mapped(function), state, 0, draw)
        return draw.seen

    expected = drawn(None)
    assert drawn(state_in(tmp_path), 5) + drawn(state_in(tmp_path)) == expected


# What is said


@pytest.mark.parametrize(
    ("make", "seeded", "drawn", "python", "threads"),
    [
        (lambda: values(shuffle=False), [], [], [], 0),
        (lambda: values(), ["shuffle of NumpySlicesDataset"], [], [], 0),
        (lambda: values(sampler=ds.SequentialSampler()), [], [], [], 0),
        (lambda: values(shuffle=False).shuffle(4), ["shuffle"], [], [], 0),
        (lambda: values(shuffle=False) + values(shuffle=False).shuffle(4), ["shuffle"], [], [], 0),
        (lambda: images(V.HorizontalFlip(), shuffle=False), [], [], [], 0),
        (lambda: images(V.RandomInvert(), shuffle=False), [], ["RandomInvert in map"], [], 0),
        (lambda: images(T.RandomChoice([V.Invert()]), shuffle=False), [], ["RandomChoice in map"], [], 0),
        (
            lambda: images(doubled, V.RandomHorizontalFlip(), shuffle=False),
            [],
            [],
            ["doubled in map", "RandomHorizontalFlip in map"],
            2,
        ),
        (lambda: values(shuffle=False).map(T.Compose([T.Fill(1.0), doubled])), [], [], ["doubled in map"], "default"),
        (
            lambda: values(shuffle=False).map(functools.partial(doubled), num_parallel_workers=1),
            [],
            [],
            ["doubled in map"],
            1,
        ),
        (lambda: values(shuffle=False).map(doubled, python_multiprocessing=True), [], [], ["doubled in map"], 0),
        (lambda: values(shuffle=False).map(halved), [], [], [], 0),
        (lambda: values(shuffle=False).filter(above, num_parallel_workers=1), [], [], ["above in filter"], 1),
        (lambda: values(shuffle=False).filter(halved), [], [], [], 0),
        (lambda: ds.GeneratorDataset([(np.array(1),)], ["x"], shuffle=False), [], [], [], 0),
        (lambda: ds.GeneratorDataset(Stream(), ["x"]), [], [], ["Stream in GeneratorDataset"], 1),
        (lambda: values(sampler=Permuted()), [], [], ["Permuted in NumpySlicesDataset"], 1),
    ],
)
def test_the_operations_of_a_dataset_have_names(make, seeded, drawn, python, threads):
    """Wherever they are in it: samplers, sources, functions, MindSpore's own transforms, and the threads for them."""
    order = Order(make())
    assert (order.seeded, order.drawn, order.python) == (seeded, drawn, python)
    assert order.threads == (ds.config.get_num_parallel_workers() if threads == "default" else threads)


def said(train: ds.Dataset, folder: pathlib.Path, capsys: Any, network: Any = None, optimizer: Any = None) -> str:
    network = network or Mean()
    optimizer = optimizer or nn.SGD(network.trainable_params(), 0.01)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    ms.Model(network, None, optimizer).train(1, train, callbacks=[TrainingState(str(folder / "state"))])
    lines = [line for line in capsys.readouterr().out.splitlines() if "TrainingState" in line]
    assert len(lines) < 2
    return "".join(lines).replace("TrainingState: not the same to the last bit after a resume: ", "")


@within
def test_where_all_is_exact_nothing_is_said(tmp_path, capsys):
    """A line means something."""
    assert said(mapped(numpy_noise), tmp_path, capsys) == ""


@within
def test_functions_in_several_threads_are_named(tmp_path, capsys):
    """No two runs need draw in the same order there."""
    assert said(mapped(numpy_noise, 2), tmp_path, capsys) == (
        "numpy_noise in map (if random numbers are drawn there, in threads that share them: num_parallel_workers=1)"
    )


@within
def test_a_missing_seed_is_said(tmp_path, capsys):
    """Each process then draws others."""
    ds.config.set_seed(DEFAULT_SEED)
    assert said(images(V.RandomHorizontalFlip()), tmp_path, capsys) == (
        "shuffle of NumpySlicesDataset, RandomHorizontalFlip in map (no seed: call mindspore.set_seed first)"
    )


@pytest.mark.skipif(CAN_BEGIN_WITHIN, reason="this MindSpore can begin a dataset in its middle")
def test_an_old_mindspore_begins_again_and_that_is_said(tmp_path, capsys):
    """Orders and draws are those of the first epochs."""
    assert said(images(doubled).shuffle(2), tmp_path, capsys) == (
        "shuffle of NumpySlicesDataset, shuffle (MindSpore 2.0.0 starts a dataset from its first epoch again); "
        "doubled in map (cannot be known: if random numbers are drawn there)"
    )


def test_layers_and_optimizers_that_are_not_exact_are_named(tmp_path, capsys):
    """Dropout draws within the network; RMSProp's kernel rounds in two ways."""

    class Dropped(Mean):
        def __init__(self) -> None:
            super().__init__()
            self.dropout, self.keeps_all = nn.Dropout(p=0.5), nn.Dropout2d(p=0.0)

        def construct(self, x: Tensor) -> Tensor:
            return (self.weight * self.dropout(x)).mean()

    network = Dropped()
    train = values(shuffle=False).batch(BATCH)
    line = said(train, tmp_path, capsys, network, nn.RMSProp(network.trainable_params(), 0.01))
    assert line == (
        "Dropout (random numbers of the network cannot continue); "
        "RMSProp (MindSpore's kernel rounds differently in its first steps of a process)"
    )


@pytest.mark.parametrize("is_listed", [True, False])
def test_optimizers_that_mindspore_does_not_list_are_named(is_listed, tmp_path, capsys):
    """As those that boost_level keeps in a Python list; their moments are not in the state."""

    class Step(nn.Cell):
        def __init__(self, network: nn.Cell) -> None:
            super().__init__()
            self.network = network
            self.optimizer = nn.SGD(network.trainable_params(), 0.01)
            momentum = nn.Momentum(network.trainable_params(), 0.01, 0.9)
            if is_listed:
                self.other = momentum
            self.others = [momentum]

        def construct(self, x: Tensor) -> Tensor:
            return self.network(x)

    ms.set_context(mode=ms.PYNATIVE_MODE)
    train = values(shuffle=False).batch(BATCH)
    ms.Model(Step(Mean())).train(1, train, callbacks=[TrainingState(str(tmp_path / "state"))])
    line = "Step.others (optimizers in a Python list, whose moments MindSpore does not list)"
    assert (line in capsys.readouterr().out) is not is_listed


# Callbacks without a state


class Counting(Callback):
    def __init__(self) -> None:
        self.steps = 0

    def on_train_step_end(self, run_context: Any) -> None:
        self.steps += 1


class Masking(Callback):
    """Learns in an object of its own."""

    def __init__(self) -> None:
        self.masks = {"hidden": np.ones(3)}

    def on_train_epoch_end(self, run_context: Any) -> None:
        self.masks["hidden"][0] = 0


class Half(Counting):
    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}


class Timing(Callback):
    def on_train_epoch_begin(self, run_context: Any) -> None:
        self.began = time.time()


class Configured(Callback):
    def __init__(self) -> None:
        self.network, self.limits = Mean(), [1, 2]


def test_callbacks_that_learn_and_have_no_state_are_named_at_a_resume(tmp_path, capsys):
    """The user's own whose attributes change, and MindSpore's own that learn; no others, and nothing in a first run."""

    def train(*more: Callback) -> None:
        model, data, state = make_model(), dataset(), TrainingState(str(tmp_path / "state"))
        initial_epoch = state.resume(model, data)
        learning = [Counting(), Counting(), Masking(), Half(), MindSporeHistory()]
        others = [Timing(), Configured(), TimeMonitor(), LambdaCallback(on_train_epoch_end=lambda _: None)]
        model.train(3, data, callbacks=[*learning, *others, state, *more], initial_epoch=initial_epoch)

    class Fail(Callback):
        def on_train_epoch_begin(self, run_context: Any) -> None:
            if run_context.original_args()["cur_epoch_num"] == 2:
                raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        train(Fail())
    assert "state_dict" not in capsys.readouterr().out
    train()
    lines = [line for line in capsys.readouterr().out.splitlines() if "what it has learnt" in line]
    ends = ["no state_dict"] * 3 + ["no load_state_dict", "no state_dict"]
    names = ["Counting", "Counting 2", "Masking", "Half", "History"]
    assert lines == [
        f"TrainingState: {name} has {end}; what it has learnt is not resumed" for name, end in zip(names, ends)
    ]
