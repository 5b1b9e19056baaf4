"""`ms_callbacks.vision`: mindvision's samples, made a batch at a time, on every MindSpore."""

from __future__ import annotations

import copy
import inspect
import struct
import sys
from pathlib import Path
from typing import Any

import forked
import mindspore as ms
import numpy as np
import pytest
from mindspore import dataset as ds
from mindspore import nn
from mindspore.dataset import transforms
from mindspore.dataset import vision as operations

pytest.importorskip("mindvision")

from ms_callbacks.vision import Mnist, _batches, _download, _idx, _mindvision, lenet

DIGITS = Path(__file__).parents[2] / "examples" / "data" / "mnist"
GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "mnist.npz")
UNSET_SEED = 5489


def everything(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of one epoch."""
    batches = list(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))
    return np.concatenate([batch[0] for batch in batches]), np.concatenate([batch[1] for batch in batches])


def numbered(folder: Path, count: int) -> Path:
    """An MNIST of `count` training images, each filled with its own number."""
    (folder / "train").mkdir()
    images = np.repeat(np.arange(count, dtype=np.uint8), 28 * 28).tobytes()
    labels = (np.arange(count) % 10).astype(np.uint8).tobytes()
    (folder / "train" / "train-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, count, 28, 28) + images)
    (folder / "train" / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + labels)
    return folder


def numbers(images: np.ndarray) -> list[int]:
    """The numbers of images of `numbered`, back from their normalised pixels."""
    return np.rint((images[:, 0, 0, 0] * 0.3081 + 0.1307) * 255).astype(int).tolist()


def epochs(dataset: Any, count: int) -> list[list[int]]:
    """The numbers in the order of each of `count` epochs of one iterator."""
    iterator = dataset.create_tuple_iterator(num_epochs=count, output_numpy=True)
    return [[number for batch in iterator for number in numbers(batch[0])] for _ in range(count)]


# The import


def test_import_changes_nothing_global(tmp_path: Path) -> None:
    """Importing it leaves no stand-in behind, neither among the modules nor on MindSpore's packages."""
    program = """
import sys
from mindspore import dataset as ds
def state():
    names = {name for name in sys.modules if name.startswith("mindspore.dataset")}
    return names, set(vars(ds.vision)), set(vars(ds.transforms)), ds.config.get_enable_shared_mem()
before = state()
import ms_callbacks
assert not any(name.startswith("mindvision") for name in sys.modules)
import ms_callbacks.vision
old = ("c_transforms", "py_transforms")
after = state()
if hasattr(ds.vision, "c_transforms"):  # MindSpore's own: nothing stands in
    for merged in (ds.vision, ds.transforms):
        assert all(sys.modules[f"{merged.__name__}.{name}"] is getattr(merged, name) is not merged for name in old)
else:
    assert before == after, [a ^ b for a, b in zip(before[:3], after[:3])]
"""
    run = forked.run(program, folder=tmp_path)
    assert run.returncode == 0, run.stderr


def test_without_mindvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where mindvision, or something it needs, is absent, the error says which extra to install and keeps the cause."""
    monkeypatch.setitem(sys.modules, "mindvision.dataset.download", None)
    modules = set(sys.modules)
    with pytest.raises(ImportError, match=r'pip install "ms-callbacks\[vision\]"') as error:
        _mindvision._import_mindvision("dataset.download")
    assert isinstance(error.value.__cause__, ImportError)
    assert set(sys.modules) == modules


def test_signature() -> None:
    """Mnist takes mindvision's arguments, in their order and with their defaults, and is one of its kind."""
    ours, theirs = (inspect.signature(cls.__init__).parameters.values() for cls in (Mnist, _mindvision.mnist.Mnist))
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]
    assert issubclass(Mnist, _mindvision.mnist.Mnist)


def test_files_are_mindvisions() -> None:
    """The files' names and MD5s are those that mindvision publishes."""
    resources = _mindvision.mnist.ParseMnist.resources
    assert {split: tuple(f"{name}.gz" for name in names) for split, names in _idx.FILES.items()} == {
        split: tuple(name for name, _ in files) for split, files in resources.items()
    }
    assert dict(resources["train"] + resources["test"]) == _download.MD5


def test_lenet() -> None:
    """Lenet is mindvision's own, with 61,684 parameters, and classifies 32 x 32 images."""
    network = lenet(num_classes=10, num_channel=1)
    assert lenet.__module__ == "mindvision.classification.models.lenet"
    assert sum(parameter.size for parameter in network.trainable_params()) == 61_684
    assert network(ms.Tensor(np.zeros((2, 1, 32, 32), np.float32))).shape == (2, 10)


# The values


@pytest.mark.parametrize("resize", [32, 28, 20, (40, 24)])
def test_golden(resize: Any) -> None:
    """The images and labels are those of mindvision as published on MindSpore 2.0."""
    images, labels = everything(Mnist(DIGITS, "test", batch_size=100, shuffle=False, resize=resize).run())
    name = f"{resize}" if isinstance(resize, int) else f"{resize[0]}x{resize[1]}"
    np.testing.assert_allclose(images[:8], GOLDEN[f"images_{name}"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), GOLDEN[f"mean_{name}"], rtol=0, atol=1e-5)
    squares = np.square(images, dtype=np.float64).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(squares, GOLDEN[f"mean_square_{name}"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(labels, GOLDEN["labels"])


@pytest.mark.parametrize("size", [(32, 32), (14, 14), (1, 1), (7, 50), (56, 13), (85, 27)])
def test_resize_is_mindspores(size: tuple[int, int]) -> None:
    """Growing and shrinking give the numbers of MindSpore's own operations as installed, on the hardest of images."""
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    theirs = pixels[..., np.newaxis].astype(np.float32)
    for operation in (
        operations.Resize(size, operations.Inter.LINEAR),
        operations.Rescale(1 / 255, 0.0),
        operations.Rescale(1 / 0.3081, -0.1307 / 0.3081),
    ):
        theirs = operation(theirs)
    batches = _batches.Batches(pixels[np.newaxis], np.zeros(1, np.int32), size, 1, 1, False, None, None)
    ours = next(iter(batches))[0]
    assert ours.shape == (1, 1, *size)
    np.testing.assert_allclose(ours[0, 0], theirs.reshape(size), rtol=0, atol=1e-5)


def test_rows_are_plain_arrays() -> None:
    """What goes to MindSpore are C-ordered arrays without a stride of 0, which it would copy value by value."""
    dataset = Mnist(DIGITS, "test").run()
    images, labels = next(iter(dataset.source))
    assert (type(images), images.dtype, images.shape) == (np.ndarray, np.float32, (32, 1, 32, 32))
    assert images.strides == (4096, 4096, 128, 4)
    assert (type(labels), labels.dtype, labels.shape) == (np.ndarray, np.int32, (32,))


# The dataset


def test_sizes() -> None:
    """The dataset says how many batches an epoch has, how large they are, and what its columns are called."""
    dataset = Mnist(DIGITS, "test", batch_size=300, repeat_num=2).run()
    assert dataset.get_dataset_size() == 6  # three whole batches of 1,000 samples, twice
    assert dataset.get_batch_size() == 300
    assert dataset.get_col_names() == ["image", "label"]
    assert [batch["label"].shape for batch in dataset.create_dict_iterator(num_epochs=1)] == [(300,)] * 6


def test_drops_what_fills_no_batch(tmp_path: Path) -> None:
    """Without shuffling, an epoch is the samples in the order of the file, without those that fill no batch."""
    dataset = Mnist(numbered(tmp_path, 11), shuffle=False, batch_size=3).run()
    assert epochs(dataset, 2) == [list(range(9))] * 2


@pytest.mark.parametrize("shuffle", [True, None])
def test_shuffles(tmp_path: Path, shuffle: bool | None) -> None:
    """Shuffling, which None asks for too, gives each epoch all samples in an order of its own."""
    orders = epochs(Mnist(numbered(tmp_path, 100), shuffle=shuffle, batch_size=10).run(), 3)
    assert [sorted(order) for order in orders] == [list(range(100))] * 3
    assert len({tuple(order) for order in [*orders, list(range(100))]}) == 4


def test_none_shuffles_as_mindspore_does(tmp_path: Path) -> None:
    """MindSpore's own dataset of single samples takes None for shuffling as well."""
    samples = Mnist(numbered(tmp_path, 100), target_transform=lambda label: label, batch_size=10).run()
    assert numbers(everything(samples)[0]) != list(range(100))


def test_seed(tmp_path: Path) -> None:
    """The seed settles the orders of all epochs, of each iterator from its beginning."""
    dataset = Mnist(numbered(tmp_path, 100), shuffle=True, batch_size=10).run()
    ms.set_seed(7)
    first = epochs(dataset, 3)
    assert epochs(dataset, 3) == first
    ds.config.set_seed(8)
    assert epochs(dataset, 3) != first
    ds.config.set_seed(7)
    assert epochs(Mnist(tmp_path, shuffle=True, batch_size=10).run(), 3) == first


def test_no_seed(tmp_path: Path) -> None:
    """Without a seed each iterator has an order of its own."""
    ds.config.set_seed(UNSET_SEED)
    dataset = Mnist(numbered(tmp_path, 100), shuffle=True, batch_size=10).run()
    assert epochs(dataset, 1) != epochs(dataset, 1)


def test_repeat(tmp_path: Path) -> None:
    """With repeat_num an epoch is that many passes, each over all samples in an order of its own."""
    first, second = epochs(Mnist(numbered(tmp_path, 50), batch_size=10, repeat_num=2).run(), 2)
    passes = [first[:50], first[50:], second[:50], second[50:]]
    assert [sorted(order) for order in passes] == [list(range(50))] * 4
    assert len({tuple(order) for order in passes}) == 4


def test_two_iterators_at_once(tmp_path: Path) -> None:
    """Two iterators that take turns each give what one alone gives."""
    dataset = Mnist(numbered(tmp_path, 40), batch_size=10).run()
    alone = epochs(dataset, 1)[0]
    pair = [dataset.create_tuple_iterator(num_epochs=1, output_numpy=True) for _ in range(2)]
    taken: list[list[int]] = [[], []]
    for batches in zip(*pair):
        for order, batch in zip(taken, batches):
            order.extend(numbers(batch[0]))
    assert taken == [alone, alone]


PIPELINES = {
    "plain": lambda dataset: dataset,
    "map": lambda dataset: dataset.map(lambda image: image, "image"),
    "take": lambda dataset: dataset.take(6),
    "skip": lambda dataset: dataset.skip(2),
    "repeat": lambda dataset: dataset.repeat(2),
    "rebatched": lambda dataset: dataset.batch(2),
    "shuffle": lambda dataset: dataset.shuffle(3),
}


@pytest.mark.skipif(not hasattr(ds.Dataset, "set_init_step"), reason="MindSpore 2.0 cannot begin in the middle")
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("step", [3, 8, 13])
def test_begins_in_the_middle(tmp_path: Path, step: int, pipeline: str, fast: bool) -> None:
    """set_init_step goes on with the batches that an uninterrupted run would have had, whatever comes after."""

    def make() -> Any:
        ds.config.set_seed(5)
        return PIPELINES[pipeline](Mnist(numbered_folder, batch_size=10, repeat_num=2).run())

    def taken(dataset: Any, rounds: int) -> list[int]:
        iterator = dataset.create_tuple_iterator(num_epochs=4, output_numpy=True)
        return [number for _ in range(rounds) for batch in iterator for number in numbers(batch[0])]

    numbered_folder = numbered(tmp_path, 40)  # eight batches an epoch
    seed, was_fast = ds.config.get_seed(), ds.config.get_fast_recovery()
    try:
        whole = taken(make(), 4)
        resumed = make()
        size = resumed.get_dataset_size()
        resumed.set_init_step(step)
        ds.config.set_fast_recovery(fast)  # MindSpore itself switches it off, for good, where it meets a shuffle
        rest = taken(resumed, 4 - step // size)
    finally:
        ds.config.set_seed(seed)
        ds.config.set_fast_recovery(was_fast)
    assert rest == whole[step * len(whole) // (4 * size) :]


@pytest.mark.parametrize(("count", "shards"), [(10, 2), (10, 3), (10, 4), (2, 3), (2, 5)])
def test_shards(tmp_path: Path, count: int, shards: int) -> None:
    """Each shard has the samples that MindSpore's own GeneratorDataset gives it."""
    folder = numbered(tmp_path, count)
    for shard in range(shards):
        ours = Mnist(folder, shuffle=False, batch_size=1, num_shards=shards, shard_id=shard).run()
        samples = [np.asarray(number) for number in range(count)]
        theirs = ds.GeneratorDataset(samples, "number", shuffle=False, num_shards=shards, shard_id=shard)
        expected = [int(row[0]) for row in theirs.create_tuple_iterator(num_epochs=1, output_numpy=True)]
        assert epochs(ours, 1) == [expected]
        assert ours.get_dataset_size() == theirs.get_dataset_size()


@pytest.mark.parametrize("seed", [UNSET_SEED, 3])
def test_shuffled_shards(tmp_path: Path, seed: int) -> None:
    """Shards that shuffle divide all samples among them in each epoch, and anew in the next, with or without a seed."""
    ds.config.set_seed(seed)
    folder = numbered(tmp_path, 40)
    shards = [epochs(Mnist(folder, batch_size=5, num_shards=2, shard_id=shard).run(), 2) for shard in range(2)]
    for epoch in range(2):
        assert sorted(shards[0][epoch] + shards[1][epoch]) == list(range(40))
    assert sorted(shards[0][0]) != sorted(shards[0][1])


def test_copies_share_the_images() -> None:
    """MindSpore copies a dataset for each iterator; the images are not copied with it."""
    dataset = Mnist(DIGITS, "test").run()
    assert copy.deepcopy(dataset).source.images is dataset.source.images


@pytest.mark.parametrize("mode", ["graph", pytest.param("pynative", marks=pytest.mark.slow)], indirect=True)
def test_trains(mode: str, few_digits: Path) -> None:
    """Model.train runs several epochs of whole batches on it, and Model.eval finds that the network has learnt."""

    class Steps(ms.Callback):
        count = 0

        def on_train_step_end(self, run_context: Any) -> None:
            self.count += 1

    network, steps = lenet(), Steps()
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    model = ms.Model(network, loss, nn.Adam(network.trainable_params(), 0.004), metrics={"acc"})
    model.train(2, Mnist(few_digits, "train", batch_size=20).run(), callbacks=[steps], dataset_sink_mode=False)
    assert steps.count == 82
    assert model.eval(Mnist(few_digits, "test", batch_size=100).run(), dataset_sink_mode=False)["acc"] > 0.7


def test_run_twice(tmp_path: Path) -> None:
    """Each run() makes a dataset of its own: batches of batches do not come of it."""
    mnist = Mnist(numbered(tmp_path, 20), shuffle=False, batch_size=10, target_transform=lambda label: label)
    assert mnist.run().get_dataset_size() == mnist.run().get_dataset_size() == 2


def test_shared_memory_stays(tmp_path: Path) -> None:
    """Unlike mindvision's own, making a dataset leaves MindSpore's shared memory switched on."""
    before = ds.config.get_enable_shared_mem()
    ds.config.set_enable_shared_mem(True)
    try:
        Mnist(numbered(tmp_path, 10), batch_size=5).run()
        assert ds.config.get_enable_shared_mem()
    finally:
        ds.config.set_enable_shared_mem(before)


# Transforms of the user's


def test_transform(tmp_path: Path) -> None:
    """A transform is given one float32 image of height, width and channel at a time, with values 0 to 255."""
    seen = []

    def transform(image: np.ndarray) -> np.ndarray:
        seen.append((image.shape, image.dtype, float(image.max())))
        return image[:2, :3, 0] / 255

    mnist = Mnist(numbered(tmp_path, 20), transform=transform, shuffle=False, batch_size=5, num_parallel_workers=2)
    images, labels = everything(mnist.run())
    assert sorted(seen) == [((28, 28, 1), np.float32, float(number)) for number in range(20)]
    np.testing.assert_allclose(images[:, 1, 2] * 255, range(20), rtol=0, atol=1e-4)
    assert images.shape == (20, 2, 3)
    assert labels.dtype == np.int32


def test_transforms_of_mindspores() -> None:
    """A list of MindSpore's own operations is mapped in its order."""
    steps = [operations.Resize((20, 20)), operations.Rescale(1 / 255, 0.0), operations.HWC2CHW()]
    mnist = Mnist(DIGITS, "test", steps, transforms.OneHot(10), batch_size=100, shuffle=False)
    images, labels = everything(mnist.run())
    np.testing.assert_allclose((images[:8] - 0.1307) / 0.3081, GOLDEN["images_20"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(labels.argmax(axis=1), GOLDEN["labels"])


def test_target_transform() -> None:
    """A target transform alone sees one label at a time, may return a scalar, and leaves the images as they are."""
    shapes = set()

    def target_transform(label: np.ndarray) -> np.ndarray:
        shapes.add((label.shape, label.dtype))
        return np.int32(label % 2)

    dataset = Mnist(DIGITS, "test", target_transform=target_transform, batch_size=100, shuffle=False).run()
    images, labels = everything(dataset)
    assert shapes == {((), np.dtype(np.int32))}
    np.testing.assert_array_equal(labels, GOLDEN["labels"] % 2)
    np.testing.assert_allclose(images[:8], GOLDEN["images_32"], rtol=0, atol=1e-5)


def test_infer(tmp_path: Path) -> None:
    """With split 'infer' a folder's grey images come through the default transform, numbered, without a channel."""
    image = pytest.importorskip("PIL.Image")
    pixels = [_idx.read_images(DIGITS / "test" / "t10k-images-idx3-ubyte.gz")[number] for number in range(2)]
    for number in range(2):
        image.fromarray(pixels[number]).save(tmp_path / f"{number}.png")
    mnist = Mnist(tmp_path, "infer", batch_size=2, shuffle=False)
    assert sorted(Path(path).name for path in mnist.image) == ["0.png", "1.png"]
    images, labels = everything(mnist.run())
    assert images.shape == (2, 32, 32)
    assert labels.tolist() == [0, 1]


# What is refused, and downloading


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, {"split": "valid"}, "split must be 'train', 'test' or 'infer', got 'valid'"),
        (TypeError, {"shuffle": 1}, "shuffle must be True, False or None, got 1"),
        (ValueError, {"batch_size": 0}, "batch_size must be an int of at least 1, got 0"),
        (ValueError, {"batch_size": True}, "batch_size must be an int of at least 1, got True"),
        (ValueError, {"repeat_num": -1}, "repeat_num must be an int of at least 1, got -1"),
        (ValueError, {"resize": 32.0}, "resize must be an int of at least 1, got 32.0"),
        (ValueError, {"resize": (32, 0)}, "resize must be an int of at least 1, got 0"),
        (ValueError, {"resize": (32,)}, r"resize must be an int or a pair \(height, width\), got \(32,\)"),
        (ValueError, {"split": "infer", "download": True}, "nothing to download for split 'infer'"),
        (FileNotFoundError, {"path": "no/such/folder"}, "neither 't10k-images-idx3-ubyte' nor"),
        (ValueError, {"num_shards": 2}, "num_shards and shard_id need to be passed in together"),
        (ValueError, {"num_shards": 2, "shard_id": 2}, "shard_id"),
    ],
)
def test_refuses(error: type[Exception], arguments: dict[str, Any], message: str) -> None:
    """Wrong arguments are errors when the dataset is made, and say what was given and what is expected."""
    with pytest.raises(error, match=message):
        Mnist(**{"path": DIGITS, "split": "test", **arguments})


def test_batch_too_large() -> None:
    """A batch larger than the shard is an error, not an epoch without steps."""
    mnist = Mnist(DIGITS, "test", batch_size=501, num_shards=2, shard_id=0)
    with pytest.raises(ValueError, match="batch_size 501 is larger than the 500 samples of this split or shard"):
        mnist.run()


def test_downloads_nothing_where_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """With download=True files that are there and whole, raw or compressed, are used as they are."""
    monkeypatch.setattr(_download, "MIRRORS", ())
    assert Mnist(DIGITS, "test", download=True).image.shape == (1000, 28, 28, 1)


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_downloads_what_is_amiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    """With download=True exactly those files are fetched that are missing or damaged."""
    labels = numbered(tmp_path, 10) / "train" / "train-labels-idx1-ubyte"
    whole = labels.read_bytes()
    labels.unlink()
    if damage == "damaged":
        labels.write_bytes(whole[:-1])
    fetched = []

    def download(folder: Path, name: str) -> None:
        fetched.append(folder / name)
        (folder / name).write_bytes(whole)

    monkeypatch.setattr(_download, "download", download)
    assert Mnist(tmp_path, download=True, batch_size=5).label.tolist() == list(range(10))
    assert fetched == [labels]
