"""What is refused when the class of a callback is made, because it would fail hours later, or never be called."""

from __future__ import annotations

import difflib
import inspect

from .phases import Phases

__all__ = ["check_class", "check_hooks"]

# What to override, where MindSpore's hook runs a phase for all callbacks.
_PHASES = {
    "on_train_begin": "before_train",
    "on_train_epoch_begin": "before_epoch",
    "on_train_epoch_end": "after_epoch",
    "on_train_end": "after_train",
}
_STEP = "run.step_hooks.on_step_begin, on_step_end or every, in before_train"
# Hooks of Keras, of Lightning, and of MindSpore before 2.0, none of which is called.
_ELSEWHERE = {
    "begin": "before_train(run)",
    "end": "after_train(run)",
    "epoch_begin": "before_epoch(run)",
    "epoch_end": "after_epoch(run, summary)",
    "step_begin": _STEP,
    "step_end": _STEP,
    "on_epoch_begin": "before_epoch(run)",
    "on_epoch_end": "after_epoch(run, summary)",
    "on_batch_begin": _STEP,
    "on_batch_end": _STEP,
    "on_train_batch_begin": _STEP,
    "on_train_batch_start": _STEP,
    "on_train_batch_end": _STEP,
    "on_train_start": "before_train(run)",
    "on_fit_start": "before_train(run)",
    "on_fit_end": "after_train(run)",
    "on_train_epoch_start": "before_epoch(run)",
    "on_test_begin": "before_evaluation(run)",
    "on_test_end": "after_evaluation(run, evaluation)",
    "on_validation_start": "before_evaluation(run)",
    "on_validation_end": "after_evaluation(run, evaluation)",
    "on_validation_epoch_end": "after_evaluation(run, evaluation)",
}
_READ_ONLY = ("in_run", "run")  # properties of every callback


def check_hooks(cls: type) -> None:
    """Raise if a class overrides a hook of MindSpore's that runs a phase, and does not call the base's."""
    for hook, phase in _PHASES.items():
        method = inspect.unwrap(vars(cls)[hook]) if hook in vars(cls) else None
        if inspect.isfunction(method) and hook not in method.__code__.co_names:
            raise TypeError(
                f"{cls.__name__}: {hook} is overridden without a call of super().{hook}(run_context), and what its "
                f"base class does there would be lost; override {phase}(run) instead"
            )


def check_class(cls: type) -> None:
    """Raise if a class has a phase that cannot be called under its name, or an argument that would hide one."""
    phases = {name: method for name, method in vars(Phases).items() if inspect.isfunction(method)}
    for name, method in vars(cls).items():
        if not inspect.isfunction(method):
            continue
        if name in phases:
            expected = list(inspect.signature(phases[name]).parameters)
            try:
                inspect.signature(method).bind(*expected)
            except TypeError:
                raise TypeError(
                    f"{cls.__name__}: {name}{inspect.signature(method)} is called as "
                    f"{name}({', '.join(expected[1:])}); define it as {name}({', '.join(expected)})"
                ) from None
        elif name in _ELSEWHERE:
            raise TypeError(f"{cls.__name__}: {name} is never called; use {_ELSEWHERE[name]} instead")
        elif name.startswith(("before_", "after_")) and (close := difflib.get_close_matches(name, phases, 1, 0.85)):
            raise TypeError(f"{cls.__name__}: {name} is not a phase and is never called; did you mean {close[0]!r}?")
    taken = [
        name
        for name in (inspect.signature(vars(cls)["__init__"]).parameters if "__init__" in vars(cls) else ())
        if name not in vars(cls) and (name in _READ_ONLY or (name in vars(Phases) and not name.startswith("_")))
    ]
    if taken:
        raise TypeError(
            f"{cls.__name__}: the argument {taken[0]!r} has the name of something that every callback has, and could "
            f"not be kept under it; choose another name"
        )
