"""Several processes train one network, decide together, and go on after any interruption with the same command.

    msrun --worker_num=2 --local_worker_num=2 --join=True --log_dir=output/logs examples/train_distributed.py

starts two on this machine; each trains and validates on its own half of the digits. `msrun` runs the `python` that is
first on the PATH, so activate the virtual environment before. Look at the lines, which are printed by the first process
alone, and at the end: every process stopped in the same epoch and has the same weights. Kill a process, or break it off
by Ctrl-C, at which `msrun` kills them all, and start it again: it continues where the latest state was saved. With
`bash examples/run_distributed.sh` in place of `msrun --join=True`, Ctrl-C or a scheduler's SIGTERM ends the step under
way, and the state is saved before the processes exit. Their logs lie in output/logs. MindSpore's warnings are left out
of them, for a process that waits for the others writes dozens; `GLOG_v=2` brings them back.
"""

from __future__ import annotations

import os

os.environ.setdefault("GLOG_v", "3")  # MindSpore reads it when it is imported

import digits
import mindspore as ms
from mindspore import nn
from mindspore.communication import get_group_size, get_rank, init
from whole_way import LeNet5

from ms_callbacks import BestCheckpoint, EarlyStopping, GracefulStop, LossMonitor, LRStepDecay, TrainingState, Validate


def main() -> None:
    """Trains on one shard of the data, together with the others."""
    args = digits.parser(__doc__, epochs=12, batch_size=32, learning_rate=1e-3).parse_args()
    digits.start(args)
    init()
    rank, ranks = get_rank(), get_group_size()
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True)
    train, valid = digits.load(args, num_shards=ranks, shard_id=rank)

    network = LeNet5()
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    model = ms.Model(network, loss_fn, nn.Adam(network.trainable_params(), args.learning_rate), metrics={"acc"})
    state = TrainingState(os.path.join(args.output_dir, "state"))
    stopping = EarlyStopping("acc", patience=3, restore_best_weights=True, verbose=2)
    callbacks = [
        LRStepDecay(5, gamma=0.5),
        LossMonitor(per_print_times=0),
        Validate(model, valid),
        stopping,
        BestCheckpoint(os.path.join(args.output_dir, "distributed.ckpt"), monitor="acc", overwrite=True, verbose=0),
        state,
        GracefulStop(),
    ]
    initial_epoch = state.resume(model, train, epochs=args.epochs)
    if not state.finished_:
        model.train(args.epochs, train, callbacks=callbacks, initial_epoch=initial_epoch)
    checksum = sum(float(parameter.asnumpy().astype("float64").sum()) for parameter in network.get_parameters())
    print(f"Process {rank} of {ranks}: best epoch {stopping.best_epoch_}, sum of all weights {checksum:.9f}")


if __name__ == "__main__":
    main()
