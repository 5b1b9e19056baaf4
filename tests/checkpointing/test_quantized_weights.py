"""Weights in 8 bits: what comes back is within half a scale, and what is damaged does not come back at all."""

from __future__ import annotations

import hashlib
import json
import os
import pickle

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mindspore import Parameter, Tensor, nn
from training import Network, Recorder, assert_same_weights, dataset, make_model, valid_dataset, weights

from ms_callbacks.checkpointing.quantized_weights import load_int8_weights, save_int8_weights

LARGEST = float(np.finfo(np.float32).max)


class Holder(nn.Cell):
    """Nothing but parameters."""

    def __init__(self, **arrays):
        super().__init__()
        for name, array in arrays.items():
            setattr(self, name, Parameter(Tensor(array), name=name))


class LeNet(nn.Cell):
    """LeNet with (44,404 parameters for 28 x 28) or without (61,684 for 32 x 32) the usual sizes of its layers."""

    def __init__(self, flat):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, pad_mode="valid", has_bias=False)
        self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid", has_bias=False)
        self.fc1 = nn.Dense(flat, 120)
        self.fc2 = nn.Dense(120, 84)
        self.fc3 = nn.Dense(84, 10)


def there_and_back(folder, array):
    """An array as it comes back, with the record."""
    path = str(folder / "w.int8")
    record = save_int8_weights(Holder(w=array), path)
    other = Holder(w=np.zeros_like(array))
    load_int8_weights(path, other)
    return other.w.asnumpy(), record


def scales_of(array):
    """The scales as they are defined: the largest of a channel over 127, or 1."""
    largest = np.abs(array.astype(np.float64)).reshape(len(array), -1).max(axis=1)
    return np.where(largest == 0, 1, largest / 127).reshape(-1, *[1] * (array.ndim - 1))


@pytest.mark.parametrize(("flat", "parameters"), [(256, 44_404), (400, 61_684)])
def test_a_lenet_takes_at_most_27_hundredths(tmp_path, flat, parameters):
    """Of its float32 parameters, with all that the file needs besides."""
    network = LeNet(flat)
    assert sum(parameter.size for parameter in network.get_parameters()) == parameters
    record = save_int8_weights(network, str(tmp_path / "lenet.int8"))
    assert record["float_bytes"] == 4 * parameters
    assert record["file_bytes"] == os.path.getsize(tmp_path / "lenet.int8")
    assert record["ratio"] == record["file_bytes"] / record["float_bytes"] <= 0.27
    assert 0 < record["relative_error"] <= 0.5 / 127 + 1e-6
    assert record["path"] == str(tmp_path / "lenet.int8")


def test_a_trained_network_comes_back_and_scores_the_same(tmp_path, mode):
    """Convolution and dense weights within half a scale, biases and statistics exactly; saving changes nothing."""
    model = make_model()
    model.train(3, dataset(), callbacks=[])
    network = model.predict_network
    before = weights(network)
    record = save_int8_weights(network, str(tmp_path / "network.int8"))
    assert_same_weights(weights(network), before)
    other = make_model()
    load_int8_weights(str(tmp_path / "network.int8"), other.predict_network)
    loaded = weights(other.predict_network)
    errors = []
    for name, array in before.items():
        if array.ndim < 2:
            np.testing.assert_array_equal(loaded[name], array, err_msg=name)
        else:
            assert (loaded[name] != array).any()
            assert (np.abs(loaded[name] - array) <= scales_of(array) * 0.5001).all()
            errors.append(np.abs(loaded[name].astype(np.float64) - array).max() / np.abs(array).max())
    assert record["relative_error"] == pytest.approx(max(errors))
    assert abs(other.eval(valid_dataset())["acc"] - model.eval(valid_dataset())["acc"]) <= 1 / 30


def test_training_goes_on_from_loaded_weights(tmp_path, mode):
    """Loaded into the network that is training, they are where the optimizer goes on from."""
    model = make_model()
    model.train(1, dataset())
    save_int8_weights(model.predict_network, str(tmp_path / "network.int8"))
    model.train(1, dataset())
    load_int8_weights(str(tmp_path / "network.int8"), model.predict_network)
    loaded, recorder = weights(model.predict_network), Recorder()
    model.train(2, dataset(), callbacks=[recorder])
    for name in ("hidden.weight", "head.weight"):
        assert not np.array_equal(recorder.weights[0][name], loaded[name])
        assert not np.array_equal(recorder.weights[1][name], recorder.weights[0][name])


@settings(deadline=None, max_examples=150)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=4),
        elements=st.floats(-LARGEST, LARGEST, width=32) | st.floats(-1, 1, width=32),
    )
)
def test_every_weight_comes_back_within_half_a_scale(tmp_path_factory, array):
    """Whatever its size, down to the smallest numbers that there are and up to the largest."""
    loaded, record = there_and_back(tmp_path_factory.mktemp("w"), array)
    assert loaded.dtype == np.float32
    error = np.abs(loaded.astype(np.float64) - array.astype(np.float64))
    # Below the normal numbers a scale is itself a whole number of 1.4e-45s.
    assert (error <= np.maximum(scales_of(array) * 0.50001, 1.5e-45 * 64)).all()
    largest = np.abs(array.astype(np.float64)).max()
    assert record["relative_error"] == (error.max() / largest if largest else 0)


@settings(deadline=None, max_examples=100)
@given(
    data=hnp.arrays(np.int16, hnp.array_shapes(min_dims=2, max_dims=3, max_side=5), elements=st.integers(-127, 127)),
    mantissa=st.integers(1, 2**16),
    exponent=st.integers(-120, 90),
)
def test_weights_on_the_grid_come_back_exactly(tmp_path_factory, data, mantissa, exponent):
    """Whole multiples of a scale, of which the largest is 127."""
    data[(slice(None), *[0] * (data.ndim - 1))] = 127
    array = (data * np.float64(mantissa) * 2.0**exponent).astype(np.float32)
    loaded, record = there_and_back(tmp_path_factory.mktemp("w"), array)
    np.testing.assert_array_equal(loaded, array)
    assert record["relative_error"] == 0


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([127.0, 0.5, 1.5], [127.0, 0.0, 2.0]),  # half to even
        ([-127.0, -0.5, 2.5], [-127.0, 0.0, 2.0]),
        ([127.0, 126.6, -126.4], [127.0, 127.0, -126.0]),
        ([1e-45, 0.0, -1e-45], [1e-45, 0.0, -1e-45]),  # the smallest there is
        ([LARGEST, -LARGEST, 0.0], [LARGEST, -LARGEST, 0.0]),  # no infinity by a rounding
    ],
)
def test_by_hand(tmp_path, channel, expected):
    """One channel, beside another whose scale is its own."""
    array = np.array([channel, [1270.0, 0.0, 10.0]], np.float32)
    loaded, _ = there_and_back(tmp_path, array)
    np.testing.assert_array_equal(loaded, np.array([expected, [1270.0, 0.0, 10.0]], np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_keep_their_type(tmp_path, dtype):
    """Half and double precision, to half a scale and a rounding of their own."""
    array = np.random.RandomState(0).randn(4, 3, 2).astype(dtype)
    array[0, 0, 0] = 6e4
    loaded, record = there_and_back(tmp_path, array)
    assert loaded.dtype == dtype
    assert (np.abs(loaded.astype(float) - array) <= scales_of(array) * (0.5 + 127 * np.finfo(dtype).eps)).all()
    assert record["float_bytes"] == array.nbytes


def test_what_is_not_quantised_comes_back_to_the_last_bit(tmp_path):
    """One dimension or none, whole numbers and truth values; NaN and infinities too."""
    arrays = {
        "bias": np.array([1.1, np.nan, -np.inf], np.float32),
        "count": np.array(7, np.int32),
        "table": np.array([[1, -(2**40)]], np.int64),
        "mask": np.array([[True, False]]),
    }
    save_int8_weights(Holder(**arrays), str(tmp_path / "w.int8"))
    other = Holder(**{name: np.zeros_like(array) for name, array in arrays.items()})
    load_int8_weights(str(tmp_path / "w.int8"), other)
    for name, array in arrays.items():
        loaded = other.parameters_dict()[name].asnumpy()
        assert loaded.dtype == array.dtype
        np.testing.assert_array_equal(loaded, array)


def test_names_that_no_zip_would_take(tmp_path):
    """Slashes, dots, blanks and other alphabets are names like any other."""
    cell = Holder(w=np.eye(2, dtype=np.float32))
    cell.w.name = "../über/权重 .npy"
    save_int8_weights(cell, str(tmp_path / "w.int8"))
    cell.w.set_data(Tensor(np.zeros((2, 2), np.float32)))
    load_int8_weights(str(tmp_path / "w.int8"), cell)
    np.testing.assert_array_equal(cell.w.asnumpy(), np.eye(2))
    assert os.listdir(tmp_path) == ["w.int8"]


def test_the_file_is_as_described(tmp_path):
    """Magic, length, header, scales and whole numbers, digest: to be read without this library."""
    save_int8_weights(Holder(w=np.array([[127.0, -2.0], [0.0, 0.0]], np.float32)), str(tmp_path / "w.int8"))
    content = (tmp_path / "w.int8").read_bytes()
    header = b'[["w","float32",[2,2]]]'
    assert content[:8] == b"ms-int8\n"
    assert content[8:12] == len(header).to_bytes(4, "little")
    assert content[12 : 12 + len(header)] == header
    body = content[12 + len(header) : -32]
    assert body == np.array([1, 1], "<f4").tobytes() + np.array([127, -2, 0, 0], np.int8).tobytes()
    assert content[-32:] == hashlib.sha256(content[:-32]).digest()


# Damage


def refused(path, network, match):
    """Loading raises, names the file and writes nothing."""
    before = weights(network)
    with pytest.raises(ValueError, match=match) as error:
        load_int8_weights(str(path), network)
    assert repr(str(path)) in str(error.value)
    assert "othing was loaded" in str(error.value)
    assert_same_weights(weights(network), before)


def test_a_file_cut_anywhere_or_with_any_bit_flipped_is_refused(tmp_path):
    """Every length and every byte of a small one."""
    path, network = tmp_path / "w.int8", Holder(w=np.ones((2, 2), np.float32), b=np.ones(2, np.float32))
    save_int8_weights(network, str(path))
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position])
        refused(path, network, "damaged or incomplete|is not a file that save_int8_weights wrote")
        flipped = bytearray(whole)
        flipped[position] ^= 4
        path.write_bytes(flipped)
        refused(path, network, "damaged or incomplete|is not a file that save_int8_weights wrote")
    path.write_bytes(whole + b"\0")
    refused(path, network, "damaged or incomplete")


class Trap:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize("kind", ["pickle", "npz", "npy of objects", "ckpt", "nothing"])
def test_something_else_in_its_place_is_refused(tmp_path, monkeypatch, kind):
    """And nothing is unpickled."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.int8"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
    elif kind == "npz":
        np.savez(tmp_path / "w.npz", w=np.ones((2, 2)))
        os.replace(tmp_path / "w.npz", path)
    elif kind == "npy of objects":
        np.save(tmp_path / "w.npy", np.array([Trap()]), allow_pickle=True)
        os.replace(tmp_path / "w.npy", path)
    elif kind == "ckpt":
        ms.save_checkpoint(Network(), str(tmp_path / "w.ckpt"))
        os.replace(tmp_path / "w.ckpt", path)
    else:
        path.write_bytes(b"")
    refused(path, Holder(w=np.ones((2, 2), np.float32)), "is not a file that save_int8_weights wrote")
    assert not os.path.exists("unpickled")


@pytest.mark.parametrize(
    "header",
    [
        '[["w","float32",[2,2]]',
        "7",
        "{}",
        '{"w":1}',
        '[["w","float32",[2,-2]]]',
        '[["w","float32",[2,2.0]]]',
        '[["w","float32",[1000000000000,1000000000000,1000000000000]]]',
        '[["w","float32",[2,3]]]',
        '[["w","float32",[2,1]]]',
        '[["w","object",[2,2]]]',
        '[["w","V8",[2,2]]]',
        '[["w","nonsense",[2,2]]]',
        '[["w",null,[2,2]]]',
        '[["w",">f4",[2,2]]]',
        '[["w","float32",null]]',
        '[[["w"],"float32",[2,2]]]',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_forged_header_is_refused(tmp_path, header):
    """With a digest that is right."""
    text = header.encode(errors="surrogateescape")
    body = np.ones(2, "<f4").tobytes() + np.ones(4, np.int8).tobytes()
    content = b"ms-int8\n" + len(text).to_bytes(4, "little") + text + body
    (tmp_path / "w.int8").write_bytes(content + hashlib.sha256(content).digest())
    network = Holder(w=np.ones((2, 2), np.float32))
    refused(tmp_path / "w.int8", network, "does not match its own header|holds the weights of another network")


def test_the_weights_of_another_network_are_refused(tmp_path):
    """With what is missing, what is too much and what has another shape."""
    path = str(tmp_path / "w.int8")
    one = np.ones((2, 2), np.float32)
    save_int8_weights(Holder(w=one, v=one), path)
    refused(path, Holder(w=one), "holds the weights of another network: this one has no v. ")
    refused(path, Holder(w=one, v=one, u=one), "another network: the file lacks u")
    refused(
        path, Holder(w=one, v=np.ones((2, 3), np.float32)), r"v is \(2, 2\).* in the file and \(2, 3\).* in the network"
    )


# What cannot be saved


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, value):
    """An earlier file stays."""
    path = str(tmp_path / "w.int8")
    array = np.ones((2, 2), np.float32)
    save_int8_weights(Holder(w=array), path)
    before = open(path, "rb").read()
    array[1, 0] = value
    with pytest.raises(ValueError, match="save_int8_weights: w holds NaN, an infinity or a value beyond float32"):
        save_int8_weights(Holder(w=array), path)
    with pytest.raises(ValueError, match="beyond float32"):
        save_int8_weights(Holder(w=np.array([[1e300]])), path)
    assert open(path, "rb").read() == before


def test_a_type_that_numpy_does_not_know_is_refused_by_name(tmp_path):
    """Where MindSpore has one."""
    cell = nn.Cell()
    try:
        cell.w = Parameter(Tensor(np.ones((2, 2)), ms.bfloat16), name="w")
    except (AttributeError, TypeError):
        pytest.skip("this MindSpore has no bfloat16, or none beside this NumPy")
    with pytest.raises(TypeError, match="save_int8_weights: w is of bfloat16, which cannot be stored; convert it"):
        save_int8_weights(cell, str(tmp_path / "w.int8"))


def test_a_failed_save_leaves_the_earlier_file(tmp_path, monkeypatch):
    """And nothing half-written."""
    path = tmp_path / "w.int8"
    path.write_bytes(b"earlier")

    replace = os.replace

    def full(source, target):
        if target == str(path):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        OSError, match="save_int8_weights: could not save .*No space left.*an earlier file there is untouched"
    ):
        save_int8_weights(Network(), str(path))
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"earlier"]


def test_a_folder_that_takes_no_files_is_refused(tmp_path, monkeypatch):
    """Found before the weights are read, by making a folder there."""

    def refuse(path, *rest):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(PermissionError, match="save_int8_weights: cannot write in the folder"):
        save_int8_weights(Network(), str(tmp_path / "w.int8"))


@pytest.mark.parametrize("call", [save_int8_weights, lambda network, path: load_int8_weights(path, network)])
def test_wrong_arguments_are_refused(tmp_path, call):
    """With what was received and what was expected, by both."""
    for network, path, error, message in [
        ("network", str(tmp_path / "w.int8"), TypeError, "network must be an nn.Cell, but got str"),
        (Network(), str(tmp_path / "w.npz"), ValueError, "filepath must end in '.int8', but got '.*w.npz'"),
        (Network(), "", ValueError, "filepath must not be empty"),
        (Network(), 3, TypeError, "filepath must be a string, but got 3"),
        (Network(), str(tmp_path / "no" / "w.int8"), FileNotFoundError, "does not exist; create it|there is no file"),
    ]:
        with pytest.raises(error, match=f"(save|load)_int8_weights: .*({message})"):
            call(network, path)


def test_the_record_goes_into_json(tmp_path):
    """For a log or a report."""
    record = save_int8_weights(Network(), str(tmp_path / "w.int8"))
    assert json.loads(json.dumps(record)) == record
