"""The command `ms-callbacks`, or `python -m ms_callbacks`: what can be asked of this package from a shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Optional

from . import __version__
from ._doctor import MODES, doctor

_DOCTOR = """Says whether MindSpore works here, what it runs on, and how fast. Up to four processes start MindSpore and
measure convolutions and small operations, in turns as it is and after ms_callbacks.cpu.fast_cpu(). That takes 20
seconds on an idle machine and a minute on a busy one; progress goes to the standard error. Your environment variables,
such as ONEDNN_MAX_CPU_ISA, are in force. Exit status: 1 when something is wrong (MindSpore cannot be started or does
not go with the installed NumPy, or nothing can be written in this folder), else 0, even where something is slow."""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit status."""
    program = "python -m ms_callbacks" if sys.argv[0].endswith("__main__.py") else "ms-callbacks"
    parser = argparse.ArgumentParser(prog=program, description="Callbacks for MindSpore's Model.train and Model.fit.")
    parser.add_argument("--version", action="version", version=f"ms_callbacks {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("doctor", help="say what is wrong or slow on this machine", description=_DOCTOR)
    command.add_argument("--mode", choices=MODES, help="the mode that you train in (default: MindSpore's own)")
    command.add_argument("--quick", action="store_true", help="start MindSpore once and measure nothing")
    command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    return doctor(options.mode, quick=options.quick, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
