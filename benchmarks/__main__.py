"""Run the benchmarks, each in a process of its own, and print one table of all rows."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys

import mindspore as ms
import numpy as np

from benchmarks._measure import Row

HERE = pathlib.Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("[a-z]*.py"))


def main() -> None:
    """Run the requested benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which to run: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=9, help="how often each is measured")
    parser.add_argument(
        "--data-dir", help="folder with MNIST's train/ and test/, for benchmarks that need the real data"
    )
    parser.add_argument(
        "--peers-python", metavar="PATH", help="Python of an environment with Keras and Lightning, for peers"
    )
    parser.add_argument("--json", metavar="FILE", help="file to which the rows and the machine are also written")
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")

    machine = describe()
    print(", ".join(machine.values()))
    print(f"{'row':76}  {'median':>12}  {'quartiles':>22}  {'target':>14}")
    rows = []
    for name in args.names or NAMES:
        for row in measured(name, args):
            rows.append({"benchmark": name, "what": row.what, "unit": row.unit, "values": row.values})
            rows[-1].update(median=row.median, at_least=row.at_least, at_most=row.at_most, holds=row.holds)
            print(line(row), flush=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


def measured(name: str, args: argparse.Namespace) -> list[Row]:
    """Return the rows of one benchmark."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--rounds", str(args.rounds)]
    command += ["--data-dir", args.data_dir] if args.data_dir else []
    command += ["--peers-python", args.peers_python] if args.peers_python else []
    done = subprocess.run(
        command,
        cwd=HERE.parent,
        env={"GLOG_v": "3", **os.environ},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def line(row: Row) -> str:
    """Format one line of the table."""
    low, high = row.quartiles
    target = "" if row.holds is None else f"≥ {row.at_least:g}" if row.at_least is not None else f"≤ {row.at_most:g}"
    verdict = {None: "", True: "holds", False: "MISSED"}[row.holds]
    return (
        f"{row.what:76}  {number(row.median, row.unit):>12}  "
        f"{number(low, row.unit) + ' … ' + number(high, row.unit):>22}  {target:>8} {verdict}"
    ).rstrip()


def number(value: float, unit: str) -> str:
    """Format three digits and the unit."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{text}×" if unit == "×" else f"{text} {unit}"


def describe() -> dict[str, str]:
    """Describe the machine, and the versions of what is measured."""
    processor = platform.processor() or platform.machine()
    information = pathlib.Path("/proc/cpuinfo")
    if information.exists():
        names = [each for each in information.read_text().splitlines() if each.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor,
        "cores": f"{os.cpu_count()} cores",
        "load": f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown",
        "python": f"Python {platform.python_version()}",
        "mindspore": f"MindSpore {ms.__version__}",
        "numpy": f"NumPy {np.__version__}",
    }


if __name__ == "__main__":
    main()
