"""Run the notebooks in a fresh kernel, and compare their outputs with the stored ones, or store the new ones.

`python examples/run_notebooks.py` fails if an output differs by more than its numbers, which differ from machine to
machine; `--update` stores the outputs. Needs `pip install ".[notebook]"`.
"""

from __future__ import annotations

import argparse
import difflib
import os
import pathlib
import re
import sys
import tempfile
from typing import Any

import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).parent
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 600  # for a cell
WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def run(path: pathlib.Path) -> Any:
    """Return a notebook with its outputs, after running it in a folder of its own."""
    notebook = nbformat.read(path, as_version=4)
    environment = {
        **os.environ,
        "GLOG_v": "4",
        "PYTHONPATH": os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]),
    }
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "data").symlink_to(FOLDER / "data")
        client = nbclient.NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            coalesce_streams=True,
            store_widget_state=False,
        )
        client.execute(env=environment)
    return cleaned(notebook)


def cleaned(notebook: Any) -> Any:
    """Return the notebook without what belongs to one machine or one moment: times, warnings, progress bars."""
    notebook.metadata = METADATA
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_of_the_moment(output)]
            for output in cell.outputs:
                if "metadata" in output:
                    output.metadata = {kind: of for kind, of in output.metadata.items() if kind in output.data}
    return notebook


def _is_of_the_moment(output: Any) -> bool:
    return output.get("name") == "stderr" or WIDGET in output.get("data", {})


def differences(stored: Any, ran: Any) -> list[str]:
    """Return the lines in which the outputs differ, numbers and pictures aside."""
    return [
        line
        for number, (before, after) in enumerate(zip(stored.cells, ran.cells), 1)
        for line in difflib.unified_diff(shown(before), shown(after), f"cell {number}", f"cell {number}, run now", n=0)
    ]


def shown(cell: Any) -> list[str]:
    """Return each kind of line that a cell shows once, without numbers; and the kinds of its pictures."""
    lines = []
    for output in cell.get("outputs", []):
        contents = {"text": output.text} if output.output_type == "stream" else output.get("data", {})
        for kind, content in sorted(contents.items()):  # as they are stored
            is_compared = kind.startswith("text") and not (kind == "text/plain" and len(contents) > 1)
            text = "".join(content) if is_compared else ""  # what is shown in place of a table or a picture is not
            rows = re.sub(r'(style|src)="[^"]*"', "", text).replace("</tr>", "\n").splitlines()
            lines += [f"{kind}: {_without_numbers(row)}" for row in rows or [""]]
    return list(dict.fromkeys(lines))


def _without_numbers(line: str) -> str:
    return " ".join(re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", "", line).split())


def main() -> int:
    """Run the notebooks; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=pathlib.Path, default=NOTEBOOKS)
    parser.add_argument("--update", action="store_true", help="store the outputs")
    args = parser.parse_args()
    is_same = True
    for path in args.notebooks:
        ran = run(path)
        found = [] if args.update else differences(nbformat.read(path, as_version=4), ran)
        print(f"{path.name}: {'stored' if args.update else 'differs' if found else 'as stored'}", *found, sep="\n")
        is_same = is_same and not found
        if args.update:
            nbformat.write(ran, path)
    return not is_same


if __name__ == "__main__":
    sys.exit(main())
