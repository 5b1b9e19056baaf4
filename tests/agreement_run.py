"""One of two processes that train together: with the same callbacks, each alone, and with what the other has not."""

from __future__ import annotations

import contextlib
import gc
import json
import pathlib
import shutil
import sys
from typing import Any

import mindspore as ms
from every_callback import MAKE, watched
from mindspore.communication import get_rank, init
from training import dataset, make_model, valid_dataset

from ms_callbacks import BatchAccuracy, CSVLogger, EarlyStopping, History, LossMonitor, TrainingState, Validate, lr_find
from ms_callbacks.cpu import fast_cpu


def outcome_of(action: Any) -> str:
    """What came of it: nothing to tell, or the error."""
    try:
        action()
    except (OSError, RuntimeError, ValueError) as error:
        return str(error)
    return ""


def disagreements(folder: pathlib.Path, rank: int) -> dict[str, Any]:
    """What each process is given; by the name of the case."""

    def train(*callbacks: Any, batches: int = 2, epochs: int = 1) -> None:
        model = make_model()
        model.train(epochs, dataset(12 * batches), callbacks=[*callbacks, Validate(model, valid_dataset())])

    def resume(name: str, change: Any) -> None:
        directory = folder / f"{name}-{rank}"
        shutil.copytree(folder / "state", directory)
        if rank == 1:
            change(directory)
        TrainingState(str(directory)).resume(make_model(), dataset(24), epochs=3)

    def damage(directory: pathlib.Path) -> None:
        for path in directory.glob("state-*/weights.ckpt"):
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-1])

    return {
        "another configuration": lambda: train(EarlyStopping("acc", patience=4 + rank)),
        "one more": lambda: train(*([History()] if rank == 0 else [])),
        "others": lambda: train(History() if rank == 0 else LossMonitor(per_print_times=0)),
        "another order": lambda: train(*[History(), LossMonitor(per_print_times=0)][:: 1 - 2 * rank]),
        "other batches": lambda: train(History(), batches=2 + rank),
        "other epochs": lambda: train(History(), epochs=1 + rank),
        "other paths and lines": lambda: train(
            EarlyStopping("acc", verbose=rank), CSVLogger(str(folder / f"log-{rank}.csv"))
        ),
        "states": lambda: train(TrainingState(str(folder / "state"))),
        "a folder without states": lambda: resume("apart", shutil.rmtree),
        "a damaged folder": lambda: resume("damaged", damage),
        "copies": lambda: resume("copies", lambda directory: None),
    }


def main() -> None:
    folder, what = pathlib.Path(sys.argv[1]), sys.argv[2]
    ms.set_context(mode=ms.PYNATIVE_MODE, device_target="CPU")
    fast_cpu()
    gc.freeze()
    with contextlib.suppress(SystemError):  # with NumPy 2, as the first operator of a process that takes a number does
        ms.Tensor([1.0]).reshape(1, -1)
    init()
    rank = get_rank()
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True)
    if what == "one has none":
        make_model().train(2, dataset(), callbacks=[History()] if rank == 0 else [])
        return
    told = {name: outcome_of(act) for name, act in disagreements(folder, rank).items()}
    for kind in MAKE:
        model, own = make_model(), folder / kind.__name__
        own.mkdir(exist_ok=True)
        callback = watched(model) if kind is BatchAccuracy else MAKE[kind](model, own)
        besides = [] if kind is Validate else [Validate(model, valid_dataset())]
        told[kind.__name__] = outcome_of(lambda c=callback, b=besides, m=model: m.train(1, dataset(24), [c, *b]))
    # Each on data of its own.
    found = lr_find(make_model(), dataset(seed=rank), steps=60, max_lr=10.0)
    told["lr_find"] = json.dumps([found.losses, found.suggestions, found.reason])
    (folder / f"told-{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
