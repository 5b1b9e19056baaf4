"""Train one network in several processes that decide together, and resume after any interruption.

    msrun --worker_num=2 --local_worker_num=2 --join=True --log_dir=output/logs examples/train_distributed.py

starts two processes on this machine; each trains and validates on its own half of the digits. `msrun` runs the first
`python` on the PATH, so activate the virtual environment first. Look at the lines, which only the first process prints,
and at the end: all processes stopped in the same epoch and have the same weights. Kill a process, or press Ctrl-C
(which makes `msrun` kill all of them), and run the same command again: training continues from the latest saved state.
With `bash examples/run_distributed.sh` instead of `msrun --join=True`, on Ctrl-C or a scheduler's SIGTERM the processes
finish the current step and save the state before they exit. The logs are in output/logs. MindSpore's warnings are left
out of them because a process that waits for the others writes dozens; `GLOG_v=2` brings them back.
"""

from __future__ import annotations

import os

os.environ.setdefault("GLOG_v", "3")  # MindSpore reads this when it is imported

import digits
import mindspore as ms
from mindspore import nn
from mindspore.communication import get_group_size, get_rank, init
from whole_way import LeNet5

from ms_callbacks import BestCheckpoint, EarlyStopping, GracefulStop, LossMonitor, LRStepDecay, TrainingState, Validate


def main() -> None:
    """Train on one shard of the data, together with the other processes."""
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
