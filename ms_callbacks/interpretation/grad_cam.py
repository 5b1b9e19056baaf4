"""Show where in an image a convolutional network sees a class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Union

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..core.arguments import check_int, nearest, quoted
from ..core.atomic_files import check_folder
from ..core.classification import Array, score_rows
from ..core.console import counted, log_line
from ..core.forward_hooks import untouched
from ..core.mindspore_compat import convolutions_2d
from ..core.network_output import Place, check_output, find_place, pick
from ..core.plotting import as_picture, check_image_shape, check_picture, contact_sheet, save
from ..core.tensors import as_array

__all__ = ["grad_cam"]

_OWNER = "grad_cam"
# The weight of the image where the map is drawn over it.
_IMAGE_SHARE = 0.45


def grad_cam(
    network: nn.Cell,
    layer: str,
    images: Any,
    *,
    targets: Union[int, Sequence[int], None] = None,
    output: Place = None,
    picture: Union[str, os.PathLike[str], None] = None,
) -> Array:
    """Compute Grad-CAM: which parts of an image support a class, from the feature maps of one convolution.

    With A_k the convolution's k-th feature map and y the target's logit, alpha_k is the mean of dy/dA_k over all
    positions, and the map is ReLU(sum_k alpha_k A_k), resized bilinearly to the image and divided by its maximum. A map
    that is 0 everywhere (nothing supports the class) stays 0; if the reason is that the gradient itself is exactly 0
    everywhere, for example behind a saturated softmax, a line says so. For a network with a single output, y is the
    output for class 1 and its negative for class 0. The feature maps are the convolution's own output, before any
    activation that follows.

    The network runs in PYNATIVE mode with evaluation flags, whatever the user's mode. The mode, flags, hooks, weights,
    statistics and everything else that its forward pass writes are then restored; your own hooks run. On
    MindSpore 2.8 and 2.9 in GRAPH mode, the next training step is recompiled.

    Args:
        network: an image classifier with one input and an output of shape (n, classes), or for two classes a single
            output of shape (n, 1) or (n,); single-label or multi-label.
        layer: the name of a 2-D convolution in it, such as `"conv2"` or `"backbone.conv2"`, as in
            `network.cells_and_names()`.
        images: a Tensor or array of shape (n, c, h, w), normalised as the network expects; float arrays are converted
            to float32. All images run in one batch.
        targets: the class to explain, one for all images or one for each. Default: None, the class with the highest
            output; required for a network with a single output.
        output: which of several outputs holds the class scores: an index, a key, or a function of the network's whole
            output. Default: None, the only output, the one called `"logits"`, or the only one that fits.
        picture: the path of a PNG that shows each image next to a copy overlaid with its map, brighter where the class
            is seen; for 1 or 3 channels. Needs matplotlib. Default: None.

    Returns:
        The maps: float32 of shape (n, h, w) in [0, 1].

    Raises:
        TypeError, ValueError: an argument is not as described: no such layer, a layer that is not a 2-D convolution, a
            network without any, a layer that the network does not call exactly once, a target out of range, a network
            that is not a classifier or whose output cannot be determined; or the network computes NaN or infinity.
        ImportError: a picture is requested, but matplotlib is not installed.

    Example:
        >>> classifier = nn.SequentialCell(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Dense(48, 3))
        >>> maps = grad_cam(classifier, "0", np.ones((2, 1, 4, 4), np.float32), targets=1)
        >>> maps.shape
        (2, 4, 4)

    Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017,
    https://arxiv.org/abs/1610.02391
    """
    convolution = _convolution(network, layer)
    inputs = _as_inputs(images)
    place = check_output(_OWNER, output)
    path = check_picture(_OWNER, picture)
    if path:
        check_folder(_OWNER, path)
        check_image_shape(_OWNER, tuple(inputs.shape[1:]))
    with untouched(network, inputs):
        features, outputs = _features(network, layer, convolution, inputs)
        if place is None:
            place = find_place(_OWNER, outputs, lambda part: part.ndim in (1, 2) and len(part) == len(inputs))
        scores = score_rows(_OWNER, as_array(pick(_OWNER, outputs, place)))
        classes = _classes(targets, scores)
        gradient = _gradient(network, convolution, inputs, features, place, _signs(classes, scores.shape[1]))
    weights = gradient.mean(axis=(2, 3))
    maps = np.maximum(np.einsum("nk,nkhw->nhw", weights, as_array(features).astype(np.float64)), 0)
    maps = _resized(maps, *inputs.shape[2:])
    if not np.isfinite(maps).all():
        raise ValueError(f"{_OWNER}: the network's values or gradients for these images are NaN or infinite")
    highest = maps.max(axis=(1, 2), keepdims=True)
    flat = np.flatnonzero(~gradient.any(axis=(1, 2, 3)))
    if flat.size:
        log_line(
            f"{_OWNER}: the gradient of the target's output is exactly 0 everywhere for {flat.size} of "
            f"{counted(len(maps), 'image')} (the first is {flat[0]}): their maps are 0 and show nothing"
        )
    maps = (maps / np.where(highest > 0, highest, 1)).astype(np.float32)
    if path:
        _draw(as_array(inputs), maps, classes, path)
    return maps


def _features(network: nn.Cell, name: str, convolution: nn.Cell, inputs: Tensor) -> tuple[Tensor, Any]:
    """Return the convolution's output and the network's whole output."""
    outputs: list[Tensor] = []

    def keep(cell: Any, args: Any, output: Any) -> None:
        outputs.append(output)

    handle = convolution.register_forward_hook(keep)
    try:
        result = network(inputs)
    finally:
        handle.remove()
    if len(outputs) != 1:
        times = f"{len(outputs)} times" if outputs else "never"
        raise ValueError(
            f"{_OWNER}: layer must be called once when the network runs, but {name!r} is called {times}; choose another"
        )
    return outputs[0], result


def _gradient(
    network: nn.Cell, convolution: nn.Cell, inputs: Tensor, features: Tensor, place: Place, signs: Array
) -> Array:
    """Return the gradient of each image's target output with respect to the convolution's output.

    A hook adds zeros to that output, and the gradient is taken with respect to the zeros. This works on MindSpore 2.0
    to 2.10 without changing the network. In evaluation mode images do not influence each other, so one sum is enough.
    """
    chosen = Tensor(signs)

    def target_outputs(zeros: Tensor) -> Tensor:
        def add(cell: Any, args: Any, output: Tensor) -> Tensor:
            return output + zeros

        handle = convolution.register_forward_hook(add)
        try:
            scores = pick(_OWNER, network(inputs), place)
            return ops.reduce_sum(scores.reshape(chosen.shape) * chosen)
        finally:
            handle.remove()

    zeros = Tensor(np.zeros(features.shape, np.float32)).astype(features.dtype)
    return as_array(ms.grad(target_outputs)(zeros)).astype(np.float64)


def _resized(maps: Array, height: int, width: int) -> Array:
    """Resize bilinearly, with half-pixel centres and the border values repeated outside."""

    def weights(size: int, new_size: int) -> Array:
        places = (np.arange(new_size) + 0.5) * size / new_size - 0.5
        return np.stack([np.interp(places, np.arange(size), one) for one in np.eye(size)], axis=1)

    return weights(maps.shape[1], height) @ maps @ weights(maps.shape[2], width).T


def _convolution(network: Any, layer: Any) -> nn.Cell:
    if not isinstance(network, nn.Cell):
        raise TypeError(f"{_OWNER}: network must be a mindspore.nn.Cell, but got {type(network).__name__}")
    if not isinstance(layer, str):
        raise TypeError(f"{_OWNER}: layer must be the name of a layer, but got {layer!r} ({type(layer).__name__})")
    cells = dict(network.cells_and_names())
    kinds = convolutions_2d()
    convolutions = [name for name, cell in cells.items() if name and isinstance(cell, kinds)]
    if not convolutions:
        raise ValueError(f"{_OWNER}: network must have a 2-D convolution, but {type(network).__name__} has none")
    if layer not in cells or not layer:
        advice = nearest(layer, convolutions) or f"; its convolutions are {quoted(convolutions)}"
        raise ValueError(f"{_OWNER}: layer must be in the network, but got {layer!r}{advice}")
    if layer not in convolutions:
        raise ValueError(
            f"{_OWNER}: layer must be a 2-D convolution, but {layer!r} is a {type(cells[layer]).__name__}; the "
            f"network's convolutions are {quoted(convolutions)}"
        )
    return cells[layer]


def _as_inputs(images: Any) -> Tensor:
    if not isinstance(images, (Tensor, np.ndarray)):
        raise TypeError(f"{_OWNER}: images must be a Tensor or a NumPy array, but got {type(images).__name__}")
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            f"{_OWNER}: images must be of shape (n, c, h, w), but got {tuple(images.shape)}; for a single image, "
            f"pass image[None]"
        )
    if isinstance(images, Tensor):
        return images
    return Tensor(images.astype(np.float32) if images.dtype.kind == "f" else images)


def _signs(targets: Array, outputs: int) -> Array:
    """Return the factor of each output: 1 for the target's, else 0; for a single output, -1 for class 0."""
    if outputs == 1:
        return (2 * targets[:, None] - 1).astype(np.float32)
    return np.asarray(np.eye(outputs, dtype=np.float32)[targets])


def _classes(targets: Any, scores: Array) -> Array:
    count, outputs = scores.shape
    classes = 2 if outputs == 1 else outputs
    if targets is None and outputs == 1:
        raise ValueError(
            f"{_OWNER}: targets must be given for a network with one output, whose prediction is unknown without "
            f"its threshold: targets=1 for what supports class 1, targets=0 for what opposes it"
        )
    if targets is None:
        return np.asarray(scores.argmax(axis=1))
    if isinstance(targets, (Tensor, np.ndarray)):
        targets = targets.tolist() if isinstance(targets, np.ndarray) else targets.asnumpy().tolist()
    listed = list(targets) if isinstance(targets, Sequence) and not isinstance(targets, str) else [targets] * count
    if len(listed) != count:
        raise ValueError(f"{_OWNER}: targets must be one class, or one for each image ({count}), but got {targets!r}")
    for each in listed:
        if check_int(_OWNER, "targets", each, 0) >= classes:
            raise ValueError(f"{_OWNER}: targets must be classes from 0 to {classes - 1}, but got {each}")
    return np.array(listed)


def _draw(images: Array, maps: Array, classes: Array, path: str) -> None:
    from matplotlib import colormaps

    colours = colormaps["viridis"]  # its brightness rises evenly, also for colour-blind readers
    pictures = []
    for image, one in zip(images, maps):
        plain = as_picture(_OWNER, image)
        over = _IMAGE_SHARE * plain + (1 - _IMAGE_SHARE) * colours(one)[..., :3]
        pictures.append(np.concatenate([plain, over], axis=1))
    save(contact_sheet(pictures, [f"class {each}" for each in classes]), path)
