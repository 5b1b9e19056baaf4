"""plot_lr: a picture of a schedule, without training."""

from __future__ import annotations

import sys

import pytest

from ms_callbacks import (
    LRCosineAnnealing,
    LRExponential,
    LROneCycle,
    LRSequence,
    LRWarmup,
    ReduceLROnPlateau,
    plot_lr,
)

pytest.importorskip("matplotlib")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures = []
    monkeypatch.setattr(
        sys.modules["ms_callbacks.lr_schedules.plot_lr"], "save", lambda canvas, path: figures.append(canvas)
    )
    return figures


def lines(figure):
    """What each panel shows: its title, and its points."""
    return {axes.get_ylabel(): axes.lines[0].get_xydata().tolist() for axes in figure.axes}


def test_the_picture_is_a_png(tmp_path):
    """Complete, and of a schedule that can be used afterwards."""
    path = tmp_path / "lr.png"
    plot_lr(LRExponential(0.5), path, epochs=3, steps_per_epoch=4)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_by_epoch_a_rate_holds_until_the_next(drawn, tmp_path):
    """Also the last, until the end of the run; without the optimizer's rate, as a multiple of it."""
    plot_lr(LRExponential(0.5), tmp_path / "a.png", epochs=3, steps_per_epoch=4)
    plot_lr(LRExponential(0.5), tmp_path / "a.png", epochs=2, steps_per_epoch=4, learning_rate=0.1)
    plot_lr(LRExponential(0.5, learning_rate=[0.4, 0.2]), tmp_path / "a.png", epochs=1, steps_per_epoch=4)
    assert lines(drawn[0]) == {"learning rate / initial one": [[0, 1], [1, 0.5], [2, 0.25], [3, 0.25]]}
    assert lines(drawn[1]) == {"learning rate": [[0, 0.1], [1, 0.05], [2, 0.05]]}
    assert lines(drawn[2]) == {"learning rate": [[0, 0.4], [1, 0.4]]}


def test_by_step_each_step_has_its_place(drawn, tmp_path):
    """And the momentum a panel of its own, where there is one."""
    plot_lr(LROneCycle(0.1), tmp_path / "a.png", epochs=2, steps_per_epoch=5)
    panels = lines(drawn[0])
    assert list(panels) == ["learning rate", "momentum"]
    assert [x for x, _ in panels["learning rate"]] == pytest.approx([index / 5 for index in range(11)])
    assert panels["learning rate"][0][1] == pytest.approx(0.004)
    assert panels["momentum"][0][1] == pytest.approx(0.95)
    plot_lr(LROneCycle(0.1, cycle_momentum=False), tmp_path / "a.png", epochs=2, steps_per_epoch=5)
    assert list(lines(drawn[1])) == ["learning rate"]


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        (ReduceLROnPlateau("loss"), {}, "plot_lr: schedule must be one that is known before the run"),
        (LRWarmup(1, after=ReduceLROnPlateau("loss")), {}, "schedule must be one that is known before the run"),
        (0.1, {}, "schedule must be one that is known before the run, such as LROneCycle, but got 0.1"),
        (LRExponential(0.5), {"epochs": 0}, "plot_lr: epochs must be at least 1"),
        (LRExponential(0.5), {"steps_per_epoch": 1.5}, "plot_lr: steps_per_epoch must be a whole number"),
        (LRExponential(0.5), {"learning_rate": 0}, "plot_lr: learning_rate must be finite and above 0"),
        (LRExponential(0.5), {"path": "a.pdf"}, "plot_lr: path must end in '.png'"),
        (LRCosineAnnealing(3), {"epochs": 9}, "LRCosineAnnealing: with T_max=3"),
        (LRSequence([(LRExponential(0.5), 3)]), {"epochs": 9}, "LRSequence: the schedules take 3 epochs"),
    ],
)
def test_what_cannot_be_drawn_is_refused(schedule, arguments, message, tmp_path):
    """In the words of the run where it is the run that would not work."""
    with pytest.raises((TypeError, ValueError), match=message):
        plot_lr(schedule, **{"path": tmp_path / "a.png", "epochs": 3, "steps_per_epoch": 4, **arguments})
