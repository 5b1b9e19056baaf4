"""Keep layers unchanged while the rest of a network learns."""

from __future__ import annotations

from mindspore import nn

from ..core.arguments import nearest, quoted

__all__ = ["freeze"]


def freeze(network: nn.Cell, *layers: str) -> list[str]:
    """Exclude the parameters of the named layers from training, for fine-tuning.

    Call it before the optimizer is created, and create that with `network.trainable_params()`: an optimizer that
    already holds the parameters would change them anyway, in GRAPH mode by training them, and in PYNATIVE mode through
    its moments and its weight decay. A run with such an optimizer and any callback of this package is refused before
    its first step, and `check_callbacks` reports it; without a callback it goes unnoticed. The statistics of a
    BatchNorm still change: they are not trained but computed from the batches.

    Args:
        network: the network.
        layers: names as in `network.cells_and_names()`, such as `"conv1"` or `"backbone.conv1"`; a cell stands for
            everything inside it.

    Returns:
        The names of the parameters that this call has frozen.

    Raises:
        TypeError: `network` is not an `nn.Cell`, or a name is not a string.
        ValueError: there is no such layer, or it has nothing to freeze; nothing is frozen then.

    Example:
        >>> freeze(network, "1")
        ['1.weight', '1.bias']
    """
    if not isinstance(network, nn.Cell):
        raise TypeError(f"freeze: network must be an nn.Cell, but got {type(network).__name__}")
    cells = {name: cell for name, cell in network.cells_and_names() if name}
    parameters = []
    for name in layers:
        if not isinstance(name, str):
            raise TypeError(f"freeze: layers must be names, as in freeze(network, 'conv1', 'conv2'), but got {name!r}")
        if name not in cells:
            raise ValueError(f"freeze: the network has no layer {name!r} ({quoted(cells)}){nearest(name, cells)}")
        own = [one for one in cells[name].get_parameters() if one.requires_grad]
        if not own:
            raise ValueError(f"freeze: layer {name!r} has no parameter that is trained")
        parameters += own
    for one in parameters:
        one.requires_grad = False
    return [one.name for one in parameters]
