"""Writes torch.json: the rates of PyTorch's own schedulers, call by call of `scheduler.step()`.

`rates` is what training has; `closed`, where PyTorch has it, is the closed form of the same schedule, which it uses
only when `step` is given an epoch. `momenta` is the optimizer's momentum. Run with PyTorch installed:

    python tests/golden/make_torch_golden.py
"""

from __future__ import annotations

import json
import pathlib
import warnings

import torch
from torch.optim import lr_scheduler

LAMBDAS = {
    "inverse": lambda index: 1 / (1 + index),
    "rise and root": lambda index: (index + 1) / 6 if index < 6 else (index - 4) ** -0.5,
}


def make(name: str, optimizer, arguments: dict):
    """Makes a scheduler; one of a sequence is `[name, arguments]`."""
    arguments = dict(arguments)
    if name == "LambdaLR":
        arguments["lr_lambda"] = LAMBDAS[arguments["lr_lambda"]]
    if name == "SequentialLR":
        arguments["schedulers"] = [make(each, optimizer, given) for each, given in arguments["schedulers"]]
    return getattr(lr_scheduler, name)(optimizer, **arguments)


def played(name: str, base: float, count: int, momentum: float = 0.0, closed: bool = True, **arguments) -> dict:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base, momentum=momentum)
    scheduler = make(name, optimizer, arguments)
    found: dict = {"base": base, "arguments": arguments, "rates": []}
    if momentum:
        found.update(momentum=momentum, momenta=[])
    for index in range(count):
        found["rates"].append(optimizer.param_groups[0]["lr"])
        if momentum:
            found["momenta"].append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if index < count - 1:  # OneCycleLR raises one call later
            scheduler.step()
    if closed and hasattr(scheduler, "_get_closed_form_lr"):
        found["closed"] = []
        for index in range(count):
            scheduler.last_epoch = index
            found["closed"].extend(scheduler._get_closed_form_lr())
    return found


def step(base: float, step_size: int, gamma: float) -> dict:
    made = played("StepLR", base, 25, step_size=step_size, gamma=gamma)
    return {"base": base, "step_size": step_size, "gamma": gamma, "rates": made["rates"]}


def cosine(base: float, length: int, eta_min: float) -> dict:
    made = played("CosineAnnealingLR", base, 25, T_max=length, eta_min=eta_min)
    return {"base": base, "T_max": length, "eta_min": eta_min, "rates": made["rates"]}


def one_cycle(total: int, momentum: float = 0.0, max_lr: float = 0.1, **arguments) -> dict:
    return played(
        "OneCycleLR", 0.5, total, momentum, max_lr=max_lr, total_steps=total, cycle_momentum=momentum > 0, **arguments
    )


def cyclic(count: int, momentum: float = 0.0, base: float = 0.5, **arguments) -> dict:
    return played("CyclicLR", base, count, momentum, cycle_momentum=momentum > 0, **arguments)


def sequence(base: float, count: int, milestones: list[int], *schedulers: list) -> dict:
    return played("SequentialLR", base, count, schedulers=list(schedulers), milestones=milestones)


def one_case_a_line(golden: dict) -> str:
    """JSON in which each case is on a line of its own."""
    keys = []
    for key, value in golden.items():
        cases = ",\n".join(f"  {json.dumps(case)}" for case in value) if isinstance(value, list) else ""
        keys.append(f" {json.dumps(key)}: " + (f"[\n{cases}\n ]" if cases else json.dumps(value)))
    return "{\n" + ",\n".join(keys) + "\n}\n"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    golden = {
        "torch": torch.__version__,
        "StepLR": [
            step(0.01, 5, 0.5), step(0.1, 1, 0.9), step(1.0, 7, 0.1), step(0.003, 30, 0.1), step(0.01, 3, 1.5)
        ],
        "CosineAnnealingLR": [
            cosine(0.001, 10, 1e-4), cosine(0.1, 20, 0.0), cosine(0.1, 7, 0.01), cosine(0.001, 25, 0.0),
            cosine(1.0, 1, 0.1)
        ],
        "MultiStepLR": [
            played("MultiStepLR", 0.1, 30, milestones=[8, 21], gamma=0.1),
            played("MultiStepLR", 0.03, 27, milestones=[1, 5, 5, 11], gamma=0.3),
            played("MultiStepLR", 1.0, 25, milestones=[3, 3, 3, 24, 99], gamma=0.77),
            played("MultiStepLR", 0.01, 25, milestones=[2, 13], gamma=1.7),
        ],
        "ExponentialLR": [
            played("ExponentialLR", 0.1, 30, gamma=0.9), played("ExponentialLR", 0.003, 26, gamma=0.37),
            played("ExponentialLR", 0.1, 400, gamma=0.993), played("ExponentialLR", 1e-4, 25, gamma=1.31),
        ],
        "PolynomialLR": [
            played("PolynomialLR", 0.1, 26, total_iters=25, power=1.0),
            played("PolynomialLR", 0.007, 30, total_iters=17, power=2.3),
            played("PolynomialLR", 1.0, 28, total_iters=27, power=0.5),
            played("PolynomialLR", 0.02, 25, total_iters=1, power=3.0),
        ],
        "CosineAnnealingWarmRestarts": [
            played("CosineAnnealingWarmRestarts", 0.1, 30, T_0=7),
            played("CosineAnnealingWarmRestarts", 0.03, 70, T_0=3, T_mult=2, eta_min=0.001),
            played("CosineAnnealingWarmRestarts", 1.0, 45, T_0=1, T_mult=3),
            played("CosineAnnealingWarmRestarts", 0.5, 25, T_0=40, eta_min=0.1),
        ],
        "LambdaLR": [
            played("LambdaLR", 0.1, 25, lr_lambda="inverse"), played("LambdaLR", 0.7, 30, lr_lambda="rise and root"),
        ],
        "OneCycleLR": [
            one_cycle(75), one_cycle(100, 0.9), one_cycle(33, 0.9, pct_start=0.17, anneal_strategy="linear"),
            one_cycle(90, 0.9, three_phase=True), one_cycle(61, 0.9, three_phase=True, pct_start=0.41, div_factor=7.0),
            one_cycle(52, 0.5, max_lr=3.0, base_momentum=0.1, max_momentum=0.7, div_factor=10.0, final_div_factor=50.0),
            one_cycle(40, anneal_strategy="linear", three_phase=True), one_cycle(1), one_cycle(2), one_cycle(7),
        ],
        "CyclicLR": [
            cyclic(60, 0.9, base_lr=0.01, max_lr=0.1, step_size_up=7),
            cyclic(60, 0.9, base_lr=0.001, max_lr=0.05, step_size_up=4, step_size_down=9, mode="triangular2"),
            cyclic(80, 0.9, base_lr=0.02, max_lr=0.3, step_size_up=5, mode="exp_range", gamma=0.97),
            cyclic(50, 0.5, base_lr=0.1, max_lr=0.1, step_size_up=3, base_momentum=0.2, max_momentum=0.6),
            cyclic(40, base_lr=0.003, max_lr=1.0, step_size_up=1, step_size_down=2, mode="triangular2"),
        ],
        "SequentialLR": [
            sequence(0.1, 30, [7], ["StepLR", {"step_size": 2, "gamma": 0.5}], ["ExponentialLR", {"gamma": 0.9}]),
            sequence(
                0.2, 40, [6, 21], ["LambdaLR", {"lr_lambda": "rise and root"}],
                ["CosineAnnealingLR", {"T_max": 15, "eta_min": 0.01}], ["PolynomialLR", {"total_iters": 30}],
            ),
            sequence(
                0.05, 35, [4, 15], ["ExponentialLR", {"gamma": 0.8}], ["MultiStepLR", {"milestones": [2, 5]}],
                ["CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}],
            ),
        ],
    }  # fmt: skip
    pathlib.Path(__file__).with_name("torch.json").write_text(one_case_a_line(golden))
