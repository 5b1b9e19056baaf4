"""The command line of this package: `ms-callbacks`, or `python -m ms_callbacks`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Optional

from . import __version__
from ._doctor import MODES, doctor

_DOCTOR = """Report whether MindSpore works here, what it runs on, and how fast. Up to four processes start MindSpore
and measure convolutions and small operations, alternating between the current settings and those of
ms_callbacks.cpu.fast_cpu(). This takes 20 seconds on an idle machine and a minute on a busy one; progress is printed to
standard error. Your environment variables, such as ONEDNN_MAX_CPU_ISA, apply. Exit status: 1 if something is wrong
(MindSpore cannot be started or is incompatible with the installed NumPy, or this folder is not writable), otherwise 0,
even if something is slow."""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit status."""
    program = "python -m ms_callbacks" if sys.argv[0].endswith("__main__.py") else "ms-callbacks"
    parser = argparse.ArgumentParser(prog=program, description="Callbacks for MindSpore's Model.train and Model.fit.")
    parser.add_argument("--version", action="version", version=f"ms_callbacks {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("doctor", help="report what is wrong or slow on this machine", description=_DOCTOR)
    command.add_argument("--mode", choices=MODES, help="the mode that you train in (default: MindSpore's own)")
    command.add_argument("--quick", action="store_true", help="start MindSpore once and measure nothing")
    command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    return doctor(options.mode, quick=options.quick, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
