"""Writes torch.json: the rates of PyTorch's own schedulers, epoch by epoch.

Run with PyTorch installed:

    python tests/golden/make_torch_golden.py
"""

from __future__ import annotations

import json
import pathlib

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

EPOCHS = 25


def rates(base: float, make) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    scheduler = make(optimizer)
    epochs = []
    for _ in range(EPOCHS):
        epochs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return epochs


def step(base: float, step_size: int, gamma: float) -> dict:
    made = rates(base, lambda optimizer: StepLR(optimizer, step_size, gamma))
    return {"base": base, "step_size": step_size, "gamma": gamma, "rates": made}


def cosine(base: float, length: int, eta_min: float) -> dict:
    made = rates(base, lambda optimizer: CosineAnnealingLR(optimizer, length, eta_min))
    return {"base": base, "T_max": length, "eta_min": eta_min, "rates": made}


if __name__ == "__main__":
    golden = {
        "torch": torch.__version__,
        "StepLR": [
            step(0.01, 5, 0.5), step(0.1, 1, 0.9), step(1.0, 7, 0.1), step(0.003, 30, 0.1), step(0.01, 3, 1.5)
        ],
        "CosineAnnealingLR": [
            cosine(0.001, 10, 1e-4), cosine(0.1, 20, 0.0), cosine(0.1, 7, 0.01), cosine(0.001, 25, 0.0),
            cosine(1.0, 1, 0.1)
        ],
    }  # fmt: skip
    pathlib.Path(__file__).with_name("torch.json").write_text(json.dumps(golden, indent=1) + "\n")
