"""Writes averaging.json: averages of weights and statistics of BatchNorm as PyTorch's `swa_utils` computes them.

Run with PyTorch installed:

    python tests/golden/make_averaging_golden.py
"""

from __future__ import annotations

import json
import pathlib

import torch
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_avg_fn, update_bn


def averages(avg_fn=None) -> list[list[float]]:
    """The average after each of the updates, with the weights of these."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1, bias=False)
    averaged = AveragedModel(model, avg_fn=avg_fn)
    found = []
    for weights in WEIGHTS:
        with torch.no_grad():
            model.weight.copy_(torch.tensor([weights]))
        averaged.update_parameters(model)
        found.append(averaged.module.weight[0].tolist())
    return found


def annealing(base: float, swa_lr: float, length: int, strategy: str) -> dict:
    """The rate of each epoch from the first that is averaged on."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    scheduler = SWALR(optimizer, swa_lr, anneal_epochs=length, anneal_strategy=strategy)
    rates = []
    for _ in range(length + 3):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return {"base": base, "lr": swa_lr, "annealing_epochs": length, "strategy": strategy, "rates": rates}


def statistics() -> dict:
    """The statistics after one pass over batches of different sizes."""
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(2)
    batches = [torch.randn(size, 2, 2, 2) * 3 + 1 for size in (4, 4, 2)]
    update_bn([(batch,) for batch in batches], norm)
    return {
        "batches": [batch.tolist() for batch in batches],
        "mean": norm.running_mean.tolist(),
        "variance": norm.running_var.tolist(),
    }


WEIGHTS = torch.randn(12, 3, generator=torch.Generator().manual_seed(7)).tolist()

if __name__ == "__main__":
    golden = {
        "torch": torch.__version__,
        "weights": WEIGHTS,
        "ema": {str(decay): averages(get_ema_avg_fn(decay)) for decay in (0.5, 0.9, 0.999)},
        "swa": averages(),
        "SWALR": [
            annealing(base, swa_lr, length, strategy)
            for base, swa_lr in ((0.1, 0.02), (0.01, 0.05))
            for length in (1, 4, 10)
            for strategy in ("cos", "linear")
        ],
        "update_bn": statistics(),
    }
    text = json.dumps(golden).replace("}, {", "},\n {").replace("], [[", "],\n [[")
    pathlib.Path(__file__).with_name("averaging.json").write_text(text + "\n")
