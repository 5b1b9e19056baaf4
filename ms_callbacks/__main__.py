"""`python -m ms_callbacks`: what can be asked of this package from a shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Optional

from ._doctor import MODES, doctor

_DOCTOR = """Tells what MindSpore, oneDNN, processor, mode and threads you have, measures for about two seconds how fast
they are before and after ms_callbacks.cpu.fast_cpu(), and says what is slow and how to mend it. Your environment
variables, such as ONEDNN_MAX_CPU_ISA, are in force. Exit status: 0 when nothing is slow, 1 when something is, 2 when it
could not be measured."""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m ms_callbacks", description="Callbacks for MindSpore.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("doctor", help="says what is slow on this machine's CPU", description=_DOCTOR)
    command.add_argument(
        "--mode", choices=MODES, help="the mode that you train in (MindSpore's own default if not given)"
    )
    return doctor(parser.parse_args(arguments).mode)


if __name__ == "__main__":
    sys.exit(main())
