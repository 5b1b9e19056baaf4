"""What all tests share: MindSpore's real speed, both modes, and tiny data that needs no download."""

from __future__ import annotations

import gc
import gzip
import os
import pathlib
from typing import Any

os.environ.setdefault("GLOG_v", "3")  # MindSpore's own warnings are not ours to test

import mindspore as ms
import pytest

from ms_callbacks.cpu import fast_cpu

MODES = {"graph": ms.GRAPH_MODE, "pynative": ms.PYNATIVE_MODE}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tests whose point is not the mode compile nothing, unless asked to."""
    parser.addoption("--graph", action="store_true", help="run tests that name no mode in GRAPH mode, not PYNATIVE")
    parser.addoption("--matrix", action="store_true", help="print which callback works in which setting of a large run")


def pytest_configure(config: pytest.Config) -> None:
    """The table has all cells, also those that are tried only in the slow set."""
    if config.getoption("matrix"):
        config.option.markexpr = ""


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: some tests do nothing but wait for processes of their own."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    """Every test begins fast and seeded, and in PYNATIVE mode, where nothing is compiled."""
    # MindSpore collects garbage before each compilation, and keeps part of what it has compiled for good: what was
    # imported and what earlier tests have left need not be searched every time.
    gc.collect()
    gc.freeze()
    fast_cpu()
    ms.set_context(mode=MODES["graph" if request.config.getoption("graph") else "pynative"])
    ms.set_seed(1)


@pytest.fixture
def graph() -> None:
    """Runs the test in GRAPH mode, where that is the point."""
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture(params=list(MODES))
def mode(request: pytest.FixtureRequest) -> str:
    """Runs the test in GRAPH mode and again in PYNATIVE mode."""
    ms.set_context(mode=MODES[request.param])
    return request.param


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where a test runs in both modes with other parameters besides, the modes take turns in them by default.

    Each mode and each parameter is tried; that each is right with each is in the slow set.
    """
    by_test: dict[tuple[Any, ...], dict[str, list[pytest.Item]]] = {}
    for item in items:
        spec = getattr(item, "callspec", None)
        if spec is not None and spec.params.get("mode") in MODES and not item.get_closest_marker("slow"):
            others = "-".join(each for each in spec.id.split("-") if each not in MODES)
            test = (item.path, item.parent, getattr(item, "originalname", item.name))
            by_test.setdefault(test, {}).setdefault(others, []).append(item)
    for by_others in by_test.values():
        if len(by_others) > 1 and all(len(alike) == len(MODES) for alike in by_others.values()):
            for number, alike in enumerate(by_others.values()):
                turn = (number + number // 2) % len(MODES)  # of two other parameters, too
                alike[1 - turn].add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the first of the digits that the project carries, where an example need not learn them well."""
    folder = tmp_path_factory.mktemp("digits")
    for path in (pathlib.Path(__file__).parent.parent / "examples" / "data" / "mnist").rglob("*.gz"):
        content, count = gzip.decompress(path.read_bytes()), 820 if path.parent.name == "train" else 200
        header, size = (16, 28 * 28) if "images" in path.name else (8, 1)
        few = content[:4] + count.to_bytes(4, "big") + content[8 : header + count * size]
        (folder / path.parent.name).mkdir(exist_ok=True)
        (folder / path.parent.name / path.stem).write_bytes(few)
    return folder


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were saved, each as it was drawn."""
    from matplotlib.figure import Figure

    drawn: list[Any] = []
    save = Figure.savefig

    def keep_and_save(figure: Any, *args: Any, **kwargs: Any) -> None:
        drawn.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep_and_save)
    return drawn


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints which callback works in which setting, from the tests that have tried it."""
    if not config.getoption("matrix"):
        return
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    found = [value for report in reports for name, value in report.user_properties if name == "matrix"]
    columns = list(dict.fromkeys(setting for _, setting, _ in found))
    terminalreporter.write_line(f"| callback | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for callback in sorted({each for each, _, _ in found}):
        cells = {setting: outcome for each, setting, outcome in found if each == callback}
        terminalreporter.write_line(f"| `{callback}` | {' | '.join(cells.get(one, '') for one in columns)} |")
