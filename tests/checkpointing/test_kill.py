"""A best checkpoint survives SIGKILL at any moment of a save."""

from __future__ import annotations

import os
import random
import shutil
import time

import forked
import pytest

from ms_callbacks import BestCheckpoint

KILLS = int(os.environ.get("MS_CALLBACKS_KILLS", "2"))

CHILD = """
import sys
sys.path[:0] = [{tests!r}]
import conftest, mindspore as ms, numpy as np
from mindspore import nn
from training import Script
from ms_callbacks import BestCheckpoint

class Fill(ms.train.Callback):
    # Every element of the epoch's weights is the epoch's number.
    def on_train_epoch_begin(self, run_context):
        epoch = run_context.original_args()["cur_epoch_num"]
        script.network.weight.set_data(ms.Tensor(np.full((5000, 4000), epoch, np.float32)))
        print(epoch, best.best_epoch_, flush=True)

script = Script()
script.network = nn.Dense(4000, 5000, weight_init="zeros", has_bias=False)
best = BestCheckpoint({path!r}, monitor="x", mode="max", overwrite=True, background={background}, verbose=0)
script.run([Fill(), best], [{{"x": float(epoch)}} for epoch in range(1, 1000)])
"""


def told(folder):
    """The last whole line of a child: the epoch that has begun, and the last that it knows to be written."""
    lines = (folder / "stdout").read_text().split("\n")[:-1]
    return tuple(map(int, lines[-1].split())) if lines else (0, 0)


def is_saving(folder):
    return any(name.startswith(".partial-") for name in os.listdir(folder))


@pytest.mark.parametrize(
    ("ending", "background"),
    [("ckpt", True), pytest.param("ckpt", False, marks=pytest.mark.slow), ("safetensors", True)],
)
def test_sigkill_while_saving_an_80_mb_network(tmp_path, ending, background):
    """After each kill the file is whole: the last that the callback had told of as written, or one after it.

    MindSpore's own `save_checkpoint` had lost the old file in 6 of 8 such kills.
    """
    import mindspore as ms
    import numpy as np
    from mindspore import nn

    path = str(tmp_path / f"best.{ending}")
    code = CHILD.format(tests=os.path.dirname(os.path.dirname(__file__)), path=path, background=background)
    random.seed(ending)
    network = nn.Dense(4000, 5000, weight_init="zeros", has_bias=False)
    in_a_save = 0
    for _ in range(KILLS):
        child = forked.start(code, folder=tmp_path)
        while child.is_alive() and not (told(tmp_path)[1] >= 2 and is_saving(tmp_path)):
            time.sleep(0.001)
        child.join(random.uniform(0.0, 0.1))  # a save takes a tenth of a second
        assert child.is_alive(), (tmp_path / "stderr").read_text()
        child.kill()
        child.join()
        begun, written = told(tmp_path)
        in_a_save += is_saving(tmp_path)
        for each in tmp_path.glob(".partial-*"):
            shutil.rmtree(each)
        record = BestCheckpoint(path).load_into(network)
        assert written <= record["epoch"] <= begun
        assert background or begun - 1 <= record["epoch"]
        np.testing.assert_array_equal(network.weight.asnumpy(), np.float32(record["epoch"]))
        assert isinstance(network.weight, ms.Parameter)
    assert in_a_save, "none of the kills fell into a save; the test has tested nothing"
    print(f"\n{ending}: {KILLS} kills, {in_a_save} in the middle of a file, {KILLS} whole")
