"""The command line of this package: `ms-callbacks`, or `python -m ms_callbacks`.

Each command is imported when it is used. Only `doctor` starts MindSpore.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Optional

from . import __version__
from .core.console import printable

_DOCTOR = """Report whether MindSpore works here, what it runs on, and how fast. Up to four processes start MindSpore
and measure convolutions and small operations, alternating between the current settings and those of
ms_callbacks.cpu.fast_cpu(). This takes 20 seconds on an idle machine and a minute on a busy one; progress is printed to
standard error. Your environment variables, such as ONEDNN_MAX_CPU_ISA, apply. Exit status: 1 if something is wrong
(MindSpore cannot be started or is incompatible with the installed NumPy, or this folder is not writable), otherwise 0,
even if something is slow."""
_SHOW = """Show what a checkpoint (.ckpt, .safetensors or .int8) or a folder of TrainingState holds: parameters, record,
epoch and callbacks, and whether all of it is intact. MindSpore is not started and need not be installed. Exit
status: 0 if it is intact, 1 if it is damaged, 2 if there is no such file or folder."""
_RUNS = """List the checkpoints and the states of TrainingState in a folder and the folders below it, with what can be
resumed and what is damaged. Hidden folders are left out, and links are followed within the folder only. MindSpore is
not started and need not be installed. Exit status: 0 if nothing is damaged, 1 if something is, 2 if there is no such
folder."""
_STATUSES = "Exit status: 0 if nothing is wrong, 1 if something is wrong or damaged, 2 if the command line is invalid."
_MODES = ("graph", "pynative")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit status."""
    parser, commands = _parser()
    options = parser.parse_args(arguments)
    from ._found import NotHereError  # not needed for --help

    try:
        return _run(options)
    except NotHereError as error:
        commands[options.command].error(printable(str(error)))
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace) -> int:
    if options.command == "show":
        from ._show import show

        return show(options.path, as_json=options.json)
    if options.command == "runs":
        from ._runs import runs

        return runs(options.folder, depth=options.depth, quick=options.quick, as_json=options.json)
    from ._doctor import doctor

    return doctor(options.mode, quick=options.quick, as_json=options.json)


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser and those of the commands."""
    program = "python -m ms_callbacks" if sys.argv[0].endswith("__main__.py") else "ms-callbacks"
    description = "Callbacks for MindSpore's Model.train and Model.fit."
    parser = argparse.ArgumentParser(prog=program, description=description, epilog=_STATUSES)
    parser.add_argument("--version", action="version", version=f"ms_callbacks {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser("doctor", help="report what is wrong or slow on this machine", description=_DOCTOR)
    doctor.add_argument("--mode", choices=_MODES, help="the mode that you train in (default: MindSpore's own)")
    doctor.add_argument("--quick", action="store_true", help="start MindSpore once and measure nothing")
    show = commands.add_parser("show", help="show what a checkpoint or a state holds", description=_SHOW)
    show.add_argument("path", metavar="FILE", help="a checkpoint, a state, or the directory of a TrainingState")
    runs = commands.add_parser("runs", help="list the checkpoints and states in a folder", description=_RUNS)
    runs.add_argument("folder", metavar="DIR", nargs="?", default=".", help="the folder (default: this one)")
    runs.add_argument("--depth", type=_depth, default=6, help="levels of folders below it to search (default: 6)")
    runs.add_argument("--quick", action="store_true", help="compare sizes only, not checksums of whole files")
    named = {"doctor": doctor, "show": show, "runs": runs}
    for command in named.values():
        command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser, named


def _depth(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 100:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 100, but got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
