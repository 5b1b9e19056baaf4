"""Write a network as MindIR or ONNX, read it back, and compare it with the original.

This module handles what `mindspore.export` leaves to its caller, as found on MindSpore 2.0 to 2.10:

- MindIR is written with whatever training flags the network has, including batch statistics and Dropout.
- If it fails, `jit_syntax_level` stays strict (2.8 and newer), and for ONNX the training flags stay off.
- It refuses paths with blanks or non-ASCII letters, leaves its files at mode 0400, and writes several files if the
  parameters are larger than 1 GB.
- Exporting the same network with the same shapes to ONNX a second time fails from 2.8 on with "out of range": the
  first export alters the compiled graph that the second finds.
- MindSpore 2.0 runs a loaded MindIR in GRAPH mode only.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, Optional

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ..core.arguments import quoted
from ..core.forward_hooks import observe
from ..core.mindspore_compat import export_onnx, flags_kept
from ..core.tensors import as_array

__all__ = ["check_format", "export"]

FORMATS = (".mindir", ".onnx")

_Array = np.ndarray[Any, Any]
_Inputs = tuple[Tensor, ...]


def check_format(owner: str, path: str) -> None:
    """Raise unless the extension of `path` is that of a supported format."""
    if os.path.splitext(path)[1] not in FORMATS:
        raise ValueError(f"{owner}: filepath must end in one of {quoted(FORMATS)}, but got {path!r}")


def export(owner: str, network: nn.Cell, inputs: _Inputs, path: str, name: str) -> tuple[Optional[float], str]:
    """Write a network to `path`, read it back and compare the outputs of both for `inputs`.

    The network is left unchanged, including its mode and flags.

    Args:
        owner: the callback to name in errors.
        network: the network.
        inputs: example inputs; the file takes the same shapes and types.
        path: where to write, with the extension of a format.
        name: what to call the file in errors.

    Returns:
        The largest difference of an output, or `None` if nothing installed can run the file; and a sentence about it.
    """
    expected = _outputs(owner, network, inputs)
    with _ready_for_export(network):
        _write(owner, network, inputs, path, name)
        try:
            outputs, verdict = (_mindir_outputs if path.endswith(".mindir") else _onnx_outputs)(path, inputs)
        except Exception as error:
            raise RuntimeError(
                f"{owner}: {name!r} was written but cannot be read back: {_reason(error)}; it was not kept"
            ) from error
    if outputs is None:
        return None, verdict
    difference = _difference(owner, name, expected, outputs)
    return difference, f"read back, its outputs differ by at most {difference:.2g}"


def _outputs(owner: str, network: nn.Cell, inputs: _Inputs) -> list[_Array]:
    """Return the network's outputs for `inputs` in evaluation."""
    seen: list[Any] = []
    try:
        observe(network, inputs, {"": network}, lambda name, cell, inputs, output: seen.append(output))
    except Exception as error:
        shapes = ", ".join(f"{tuple(one.shape)} {one.dtype}" for one in inputs)
        raise ValueError(
            f"{owner}: inputs must be what {type(network).__name__} takes, but it fails on {shapes}: "
            f"{_reason(error)}; pass an example batch as inputs=Tensor(...)"
        ) from error
    return _arrays(seen[-1])


@contextlib.contextmanager
def _ready_for_export(network: nn.Cell) -> Iterator[None]:
    """Use GRAPH mode and evaluation flags within the block, and restore both afterwards."""
    mode = ms.get_context("mode")
    try:
        syntax = {"jit_syntax_level": ms.get_context("jit_syntax_level")}
    except ValueError:  # MindSpore 2.0 does not have it, and so does not change it
        syntax = {}
    with flags_kept(network):
        try:
            ms.set_context(mode=ms.GRAPH_MODE)
            network.set_train(False)
            yield
        finally:
            ms.set_context(mode=mode, **syntax)


def _write(owner: str, network: nn.Cell, inputs: _Inputs, path: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain = os.path.join(folder, "network" + os.path.splitext(path)[1])
        try:
            _export_as_mindspore_does(network, inputs, plain)
        except Exception as error:
            raise RuntimeError(
                f"{owner}: the network {type(network).__name__} cannot be exported to {name!r}: {_reason(error)}; "
                f"{_remedy(path)}"
            ) from error
        written = sorted(os.listdir(folder))
        if written != [os.path.basename(plain)]:
            raise RuntimeError(
                f"{owner}: the network {type(network).__name__} cannot be exported to {name!r}: its parameters are so "
                f"large that MindSpore writes several files ({quoted(written)}); "
                f"keep a checkpoint with BestCheckpoint instead"
            )
        shutil.copyfile(plain, path)


def _export_as_mindspore_does(network: nn.Cell, inputs: _Inputs, path: str) -> None:
    if path.endswith(".mindir"):
        ms.export(network, *inputs, file_name=path, file_format="MINDIR")
        return
    # Recompile graphs that an earlier export has altered; remove this once MindSpore no longer alters them.
    network.compile_cache.difference_update({phase for phase in network.compile_cache if "export.onnx" in phase})
    export_onnx(network, inputs, path)


def _remedy(path: str) -> str:
    if path.endswith(".onnx"):
        return "export to '.mindir', which takes more operators, or replace the operator"
    return "replace what MindSpore cannot compile, or keep a checkpoint with BestCheckpoint instead"


def _mindir_outputs(path: str, inputs: _Inputs) -> tuple[Optional[list[_Array]], str]:
    return _arrays(nn.GraphCell(ms.load(path))(*inputs)), ""


def _onnx_outputs(path: str, inputs: _Inputs) -> tuple[Optional[list[_Array]], str]:
    runtime = _optional("onnxruntime")
    if runtime is not None:
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        return _arrays(session.run(None, {name: one.asnumpy() for name, one in zip(names, inputs)})), ""
    checker = _optional("onnx.checker")
    if checker is None:
        return None, "not compared, because neither onnxruntime nor onnx is installed"
    checker.check_model(path)
    return None, "a valid ONNX file; its outputs were not compared, because onnxruntime is not installed"


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _arrays(outputs: Any) -> list[_Array]:
    """Return all outputs as a flat list, including those within tuples."""
    if isinstance(outputs, (tuple, list)):
        return [array for one in outputs for array in _arrays(one)]
    return [as_array(outputs)]


def _difference(owner: str, name: str, expected: list[_Array], outputs: list[_Array]) -> float:
    """Return the largest difference; raise if it is more than summing in a different order can explain."""
    shapes, others = [one.shape for one in expected], [one.shape for one in outputs]
    if shapes != others:
        raise ValueError(
            f"{owner}: {name!r} gives outputs of shape {others} where the network gives {shapes}; it was not kept"
        )
    worst = 0.0
    for one, other in zip(expected, outputs):
        # Four digits of an output, or five of the largest if an output is nearly zero; three in half precision.
        relative = 1e-4 if one.dtype != np.float16 else 1e-2
        exact, found = one.astype(np.float64), other.astype(np.float64)
        largest = float(np.abs(exact[np.isfinite(exact)]).max(initial=0.0))
        with np.errstate(invalid="ignore"):
            difference = float(np.nan_to_num(np.abs(found - exact), nan=0.0).max(initial=0.0))
        if not np.allclose(found, exact, rtol=relative, atol=relative / 10 * largest, equal_nan=True):
            raise ValueError(
                f"{owner}: {name!r} gives other outputs than the network: they differ by up to {difference:.3g}, "
                f"the largest being {largest:.3g}; it was not kept. This is a fault of MindSpore's export or of the "
                f"network, whose outputs may be random: keep a checkpoint with BestCheckpoint instead"
            )
        worst = max(worst, difference)
    return worst


def _reason(error: Exception) -> str:
    """Return MindSpore's message without the stack traces that follow it."""
    lines = [line.strip() for line in str(error).split("-----")[0].splitlines() if line.strip()]
    return " ".join(lines).rstrip(".;") or type(error).__name__
