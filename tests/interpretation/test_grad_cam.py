"""grad_cam: maps that agree with a calculation by hand and with finite differences, and no trace left behind."""

from __future__ import annotations

import os
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train import Callback
from training import Network, Recorder, assert_same_weights, dataset, make_model, weights

from ms_callbacks.interpretation.grad_cam import _resized, grad_cam


class Pooled(nn.Cell):
    """Convolution, mean over all places, dense layer: its gradients are known in closed form."""

    def __init__(self, kernel, head):
        super().__init__()
        kernel, head = np.asarray(kernel, np.float32)[..., None, None], np.asarray(head, np.float32)
        self.conv = nn.Conv2d(kernel.shape[1], len(kernel), 1, has_bias=False, weight_init=Tensor(kernel))
        self.head = nn.Dense(len(kernel), len(head), weight_init=Tensor(head))

    def construct(self, x):
        return self.head(self.conv(x).mean((2, 3)))


class Tail(nn.Cell):
    """What follows the convolution of `Deep`: an activation, a second convolution, a dense layer."""

    def __init__(self):
        super().__init__()
        self.conv2 = nn.SequentialCell(nn.Conv2d(3, 4, 3, pad_mode="valid", has_bias=True), nn.Tanh())
        self.flatten = nn.Flatten()
        self.head = nn.Dense(16, 3)

    def construct(self, x):
        return self.head(self.flatten(self.conv2(ops.tanh(x))))


class Deep(nn.Cell):
    """A convolution with more to come, so that its gradients differ from place to place."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, pad_mode="valid", has_bias=True)
        self.tail = Tail()
        self.norm = nn.BatchNorm2d(3)
        self.dropout = nn.Dropout(p=0.5)

    def construct(self, x):
        return self.dropout(self.tail(self.norm(self.conv1(x))))


def seeded(network):
    for index, parameter in enumerate(network.trainable_params()):
        values = np.random.RandomState(index).randn(*parameter.shape) * 0.7
        parameter.set_data(Tensor(values.astype(np.float32)))
    return network


def images(count=3, size=6, seed=0):
    return np.random.RandomState(seed).randn(count, 1, size, size).astype(np.float32)


def test_a_case_computed_by_hand(mode):
    """With a mean and a dense layer behind it, alpha_k is the dense weight divided by the number of places."""
    kernel, head = [[1.0, 0.5], [-2.0, 1.0], [0.5, -1.5]], [[1.0, 0.5, 0.2], [-1.0, 0.25, 2.0]]
    batch = np.random.RandomState(0).randn(2, 2, 4, 4).astype(np.float32)
    maps = grad_cam(Pooled(kernel, head), "conv", batch, targets=[0, 1])
    for one, image, target in zip(maps, batch, (0, 1)):
        features = np.einsum("kc,chw->khw", kernel, image)
        expected = np.maximum(np.einsum("k,khw->hw", np.array(head[target]) / 16, features), 0)
        np.testing.assert_allclose(one, expected / expected.max(), atol=1e-6)
    assert maps.dtype == np.float32


def test_numbers_to_read():
    """The image is [[1, -1], [3, 2]], and the class likes what is bright: 1, nothing, 3 and 2 thirds."""
    image = np.array([[[[1, -1], [3, 2]]]], np.float32)
    maps = grad_cam(Pooled([[2.0]], [[1.0], [-1.0]]), "conv", image, targets=0)
    np.testing.assert_allclose(maps[0], [[1 / 3, 0], [1, 2 / 3]], rtol=1e-6)


@pytest.mark.parametrize("layer", ["conv1", "tail.conv2.0"])
def test_finite_differences(mode, layer):
    """Moving each place of the feature maps by a little gives the same maps."""
    network, batch = seeded(Deep()), images()
    maps = grad_cam(network, layer, batch, targets=[2, 0, 1])

    ms.set_context(mode=ms.PYNATIVE_MODE)
    network.set_train(False)
    if layer == "conv1":
        features = network.conv1(Tensor(batch)).asnumpy()

        def rest(values):
            return network.tail(network.norm(values))
    else:
        features = network.tail.conv2[0](ops.tanh(network.norm(network.conv1(Tensor(batch))))).asnumpy()

        def rest(values):
            return network.tail.head(network.tail.flatten(ops.tanh(values)))

    step = 0.02
    alphas = np.zeros(features.shape[:2])
    for channel in range(features.shape[1]):
        for row in range(features.shape[2]):
            for column in range(features.shape[3]):
                moved = np.zeros_like(features)
                moved[:, channel, row, column] = step
                rise = rest(Tensor(features + moved)).asnumpy() - rest(Tensor(features - moved)).asnumpy()
                alphas[:, channel] += rise[[0, 1, 2], [2, 0, 1]] / (2 * step)
    alphas /= features.shape[2] * features.shape[3]
    small = np.maximum(np.einsum("nk,nkhw->nhw", alphas, features), 0)
    expected = _resized(small, 6, 6)
    expected /= expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(maps, expected, atol=5e-3)
    assert (maps.max(axis=(1, 2)) == 1).all()


def test_bilinear_with_half_pixels():
    """Known numbers: the border is carried on, and between centres values run straight."""
    np.testing.assert_allclose(
        _resized(np.array([[[0.0, 1.0], [2.0, 3.0]]]), 4, 4)[0],
        [[0, 0.25, 0.75, 1], [0.5, 0.75, 1.25, 1.5], [1.5, 1.75, 2.25, 2.5], [2, 2.25, 2.75, 3]],
    )
    np.testing.assert_allclose(_resized(np.ones((1, 1, 1)), 3, 2), np.ones((1, 3, 2)))
    np.testing.assert_allclose(_resized(np.arange(4.0).reshape(1, 1, 4), 1, 2), [[[0.5, 2.5]]])


def test_targets():
    """The predicted classes, one for all, one for each; each image by itself."""
    network, batch = seeded(Deep()), images()
    network.set_train(False)
    predicted = network(Tensor(batch)).asnumpy().argmax(axis=1)
    maps = grad_cam(network, "conv1", batch)
    np.testing.assert_array_equal(maps, grad_cam(network, "conv1", Tensor(batch), targets=predicted))
    np.testing.assert_array_equal(maps, grad_cam(network, "conv1", batch, targets=[int(each) for each in predicted]))
    np.testing.assert_array_equal(
        grad_cam(network, "conv1", batch, targets=1), grad_cam(network, "conv1", batch, targets=(1, 1, 1))
    )
    np.testing.assert_allclose(grad_cam(network, "conv1", batch[1:2])[0], maps[1], atol=1e-5)


def test_where_nothing_speaks_for_the_class_the_map_is_zero():
    """Not NaN."""
    maps = grad_cam(Pooled([[1.0]], [[1.0], [-1.0]]), "conv", np.ones((1, 1, 3, 3), np.float32), targets=1)
    np.testing.assert_array_equal(maps, np.zeros((1, 3, 3)))


@pytest.mark.parametrize("training", [True, False])
def test_everything_is_left_as_it_was(mode, training):
    """Weights, statistics, flags, mode and outputs; and evaluation mode is used, whatever the flags."""
    network, batch = seeded(Deep()), images()
    network.set_train(training)
    network.norm.set_train(not training)
    state = weights(network)
    flags = [(name, cell.training) for name, cell in network.cells_and_names()]
    before = ms.get_context("mode")
    maps = grad_cam(network, "conv1", batch)
    assert ms.get_context("mode") == before
    assert [(name, cell.training) for name, cell in network.cells_and_names()] == flags
    assert_same_weights(weights(network), state)
    assert not network.conv1._forward_hook
    network.set_train(False)
    np.testing.assert_array_equal(grad_cam(network, "conv1", batch), maps)


def test_training_goes_on_as_if_nothing_had_been_looked_at(mode):
    """Losses and weights are the same to the last bit, also of a network with frozen layers."""

    class Look(Callback):
        def on_train_step_end(self, run_context):
            args = run_context.original_args()
            if args.cur_step_num in (1, 3):
                grad_cam(args.network, "hidden", args.train_dataset_element[0])

    outcomes = []
    for callbacks in ([], [Look()]):
        network = Network()
        network.head.weight.requires_grad = False
        model, recorder = make_model(network=network), Recorder()
        model.train(2, dataset(), callbacks=[*callbacks, recorder])
        outcomes.append((recorder.losses, weights(model.train_network)))
    assert outcomes[0][0] == outcomes[1][0]
    assert_same_weights(outcomes[0][1], outcomes[1][1])


def test_an_error_within_the_network_leaves_everything_as_it_was(graph):
    """The hooks and the mode too."""
    network = seeded(Deep())
    with pytest.raises(Exception, match=r"."):
        grad_cam(network, "conv1", np.zeros((1, 2, 6, 6), np.float32))
    assert not network.conv1._forward_hook
    assert ms.get_context("mode") == ms.GRAPH_MODE
    assert network.dropout.training is False


class Oddities(nn.Cell):
    """Convolutions that are called twice, or never."""

    def __init__(self):
        super().__init__()
        self.twice, self.never = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)
        self.head = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 2))

    def construct(self, x):
        return self.head(self.twice(self.twice(x)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layer": "conv_1"}, ValueError, "layer must be in the network, but got 'conv_1'; did you mean 'conv1'?"),
        ({"layer": "xyz"}, ValueError, "but got 'xyz'; its convolutions are 'conv1', 'tail.conv2.0'"),
        ({"layer": ""}, ValueError, "layer must be in the network, but got ''"),
        ({"layer": "tail.head"}, ValueError, "layer must be a 2-D convolution, but 'tail.head' is a Dense; .* 'conv1'"),
        ({"layer": "tail"}, ValueError, "layer must be a 2-D convolution, but 'tail' is a Tail"),
        ({"layer": 1}, TypeError, "layer must be the name of a layer, but got 1"),
        ({"network": nn.Dense(2, 2)}, ValueError, "network must have a 2-D convolution, but Dense has none"),
        ({"network": print}, TypeError, "network must be a mindspore.nn.Cell, but got builtin"),
        ({"network": Oddities(), "layer": "twice", "images": images(1, 4)}, ValueError, "'twice' is called 2 times"),
        ({"network": Oddities(), "layer": "never", "images": images(1, 4)}, ValueError, "'never' is called never"),
        ({"network": nn.Conv2d(1, 2, 3), "layer": "x"}, ValueError, "network must have a 2-D convolution"),
        (
            {"network": nn.SequentialCell(nn.Conv2d(1, 2, 3)), "layer": "0"},
            ValueError,
            "needs a network whose output is of shape .n, classes., but this one gives an output of shape .3, 2, 6, 6.",
        ),
        ({"images": [[1.0]]}, TypeError, "images must be a Tensor or a NumPy array, but got list"),
        ({"images": images()[0]}, ValueError, "images must be of shape .n, c, h, w., but got .1, 6, 6.; .*image.None."),
        ({"images": images()[:0]}, ValueError, "images must be of shape"),
        ({"images": images() * np.nan}, ValueError, "values or gradients for these images are NaN or infinite"),
        ({"targets": 3}, ValueError, "targets must be classes from 0 to 2, but got 3"),
        ({"targets": -1}, ValueError, "targets must be at least 0, but got -1"),
        ({"targets": [0, 1]}, ValueError, "targets must be one class, or one for each image .3., but got .0, 1."),
        ({"targets": 0.5}, TypeError, "targets must be a whole number, but got 0.5"),
        ({"targets": "0"}, TypeError, "targets must be a whole number, but got '0'"),
        ({"picture": "map.jpg"}, ValueError, "picture must end in '.png'"),
        ({"picture": "/no/such/folder/map.png"}, FileNotFoundError, "the folder '/no/such/folder' .* does not exist"),
    ],
)
def test_bad_input(graph, arguments, error, message):
    """Each is named, with what to do."""
    given = {"network": seeded(Deep()), "layer": "conv1", "images": images(), **arguments}
    with pytest.raises(error, match=f"grad_cam: .*{message}"):
        grad_cam(given.pop("network"), given.pop("layer"), given.pop("images"), **given)
    assert ms.get_context("mode") == ms.GRAPH_MODE


def test_a_transposed_convolution_whose_maps_are_larger_than_the_image():
    """They are made smaller."""
    network = nn.SequentialCell(nn.Conv2dTranspose(1, 2, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Dense(128, 3))
    assert grad_cam(seeded(network), "0", images(2, 4)).shape == (2, 4, 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_picture(tmp_path, channels):
    """Each image, and beside it its map over it; a file and nothing else."""
    from matplotlib.image import imread

    network = nn.SequentialCell(nn.Conv2d(channels, 2, 3), nn.Tanh(), nn.Flatten(), nn.Dense(72, 3))
    batch = np.random.RandomState(0).randn(2, channels, 6, 6)
    path = tmp_path / "maps.png"
    without = grad_cam(seeded(network), "0", batch)
    np.testing.assert_array_equal(grad_cam(network, "0", batch, picture=path), without)
    assert imread(path).shape[1] > 300
    assert os.listdir(tmp_path) == ["maps.png"]


def test_a_picture_of_two_channels_is_refused(tmp_path):
    """Before anything is computed."""
    network = nn.SequentialCell(nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Dense(72, 3))
    with pytest.raises(ValueError, match="grad_cam: picture needs images of shape .* of shape .2, 6, 6."):
        grad_cam(network, "0", np.zeros((1, 2, 6, 6)), picture=tmp_path / "maps.png")


def test_without_matplotlib(monkeypatch):
    """Only a picture needs it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    network = Pooled([[1.0]], [[1.0], [2.0]])
    assert grad_cam(network, "conv", images(1)).shape == (1, 6, 6)
    with pytest.raises(ImportError, match="grad_cam: a picture needs matplotlib"):
        grad_cam(network, "conv", images(1), picture="maps.png")


class Among(nn.Cell):
    """A network whose logits come among other outputs."""

    def __init__(self, network, shape):
        super().__init__()
        self.network, self.shape = network, shape

    def construct(self, x):
        y = self.network(x)
        if self.shape == "flat":
            return y.reshape(-1)
        if self.shape == "dict":
            return {"features": y.sum(1), "logits": y}
        if self.shape == "tuple":
            return y.sum(), y
        return y, -y


def last(outputs):
    return outputs[-1]


@pytest.mark.parametrize(
    ("shape", "output", "sign"),
    [("dict", None, 1), ("tuple", None, 1), ("tuple", 1, 1), ("both", 0, 1), ("both", 1, -1), ("both", last, -1)],
)
def test_outputs_of_every_shape(mode, shape, output, sign):
    """The obvious one is found, another can be named."""
    kernel, head = [[1.0], [-2.0]], np.array([[1.0, 0.5], [-1.0, 2.0]])
    found = grad_cam(Among(Pooled(kernel, head), shape), "network.conv", images(), targets=1, output=output)
    np.testing.assert_array_equal(found, grad_cam(Pooled(kernel, sign * head), "conv", images(), targets=1))
    assert found.any()


@pytest.mark.parametrize("shape", ["plain", "flat"])
def test_one_output_speaks_for_class_1_and_against_class_0(mode, shape):
    """As one of two outputs that differ in their sign alone."""
    kernel, head = [[1.0], [-2.0]], np.array([[1.0, 0.5]])
    one = Pooled(kernel, head)
    network, layer = (Among(one, "flat"), "network.conv") if shape == "flat" else (one, "conv")
    two = Pooled(kernel, np.concatenate([-head, head]))
    for targets in (0, 1, [1, 0, 1]):
        found = grad_cam(network, layer, images(), targets=targets)
        np.testing.assert_allclose(found, grad_cam(two, "conv", images(), targets=targets), atol=1e-6)
    with pytest.raises(ValueError, match="targets must be given for a network with one output"):
        grad_cam(network, layer, images())
    with pytest.raises(ValueError, match="targets must be classes from 0 to 1, but got 2"):
        grad_cam(network, layer, images(), targets=2)


def test_a_gradient_that_is_exactly_zero_is_told(capsys):
    """A map of zeros says that nothing speaks for the class, which is not known then."""
    kernel = [[1.0], [-2.0]]
    assert not grad_cam(Pooled(kernel, [[0.0, 0.0], [1.0, 1.0]]), "conv", images(), targets=[1, 0, 0])[1:].any()
    assert "exactly 0 everywhere for 2 of 3 images (the first is 1)" in capsys.readouterr().out
    grad_cam(Pooled([[1.0]], [[-1.0]]), "conv", np.ones((1, 1, 3, 3), np.float32), targets=1)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("shape", "output", "message"),
    [("both", None, "more than one of them fits"), ("tuple", 0, "gives a single number"), ("dict", "x", "'x' is not")],
)
def test_outputs_that_cannot_be_told(shape, output, message):
    """Are listed."""
    network = Among(Pooled([[1.0], [-2.0]], [[1.0, 0.5], [-1.0, 2.0]]), shape)
    with pytest.raises(ValueError, match=f"grad_cam: .*{message}"):
        grad_cam(network, "network.conv", images(), output=output)
