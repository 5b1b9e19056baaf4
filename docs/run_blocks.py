"""Run the Python blocks of Markdown pages, and compare what they print with what the pages say.

    python docs/run_blocks.py                           all pages, two at a time
    python docs/run_blocks.py docs/en/start.md          these pages
    python docs/run_blocks.py --update docs/en/start.md  write what was printed into the pages, where it differs
    python docs/run_blocks.py --refresh docs/en/start.md also where only numbers that vary differ

The blocks of a page run one after the other, in one namespace, in a new process and an empty folder that has
`examples/data` of the repository. A ```text block directly after a ```python block is what that block prints:

- `...` matches anything, and white space does not matter, as in doctest.
- `<!-- decimals vary -->` on the line above the ```text block lets numbers with a decimal point differ, and
  `<!-- numbers vary -->` all numbers: times, losses and accuracies are not the same on every processor.
- If the block raises, the text ends with the error: `ValueError: ...`.

A block without a ```text block may print anything. `<!-- setup: digits -->` anywhere in a page runs
`docs/setups/digits.py` first, so that `model`, `network`, `optimizer`, `loss_fn`, `train_dataset` and `valid_dataset`
exist. Pages outside of `docs` get the setup `small` if they name none.

A Chinese page has the same code and output as its English one, except for comments and docstrings; that is checked,
and only the English page runs.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import doctest
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any, NamedTuple, Optional

ROOT = pathlib.Path(__file__).resolve().parents[1]
SETUPS = ROOT / "docs" / "setups"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ERROR = re.compile(r"^[\w.]+(Error|Exception|Interrupt|Pruned|Exit): ", re.MULTILINE)
NUMBERS = {
    "decimals": re.compile(r"-?\d[\d,]*\.\d+(e[-+]?\d+)?"),
    "numbers": re.compile(r"-?\d[\d,]*(\.\d+)?(e[-+]?\d+)?"),
}


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    code: str
    line: int  # of its first line, from 1
    vary: str  # "decimals", "numbers" or ""


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found, lines, number = [], text.splitlines(), 0
    while number < len(lines):
        fence = re.match(r"( *)(```+)(\S*) *$", lines[number])
        number += 1
        if not fence:
            continue
        indent, ticks, language = fence.groups()
        start = number
        while number < len(lines) and lines[number].strip() != ticks:
            number += 1
        above = lines[start - 2] if start > 1 else ""
        varies = re.match(r" *<!-- (decimals|numbers) vary -->", above)
        code = "".join(line[len(indent) :] + "\n" for line in lines[start:number])
        if not language.startswith("{"):  # a directive of MyST
            found.append(Block(language, code, start + 1, varies[1] if varies else ""))
        number += 1
    return found


def steps(page: pathlib.Path) -> list[tuple[Block, Optional[Block]]]:
    """Return each Python block of a page, with the block of what it prints, if there is one."""
    found = blocks(page.read_text(encoding="utf-8"))
    return [
        (block, following if following is not None and following.language == "text" else None)
        for block, following in zip(found, [*found[1:], None])
        if block.language == "python"
    ]


def setup(page: pathlib.Path) -> Optional[pathlib.Path]:
    """Return the file that prepares the names of a page's examples, if it has one."""
    named = re.search(r"<!-- setup: (\w+) -->", page.read_text(encoding="utf-8"))
    default = None if (ROOT / "docs") in page.parents else "small"
    name = named[1] if named else default
    return SETUPS / f"{name}.py" if name else None


def twin(page: pathlib.Path) -> Optional[pathlib.Path]:
    """Return the Chinese page of an English one, if there is one."""
    if (ROOT / "docs" / "en") in page.parents:
        chinese = ROOT / "docs" / "zh" / page.relative_to(ROOT / "docs" / "en")
    else:
        chinese = page.with_name(page.stem + ".zh-CN.md")
    return chinese if chinese.is_file() and chinese != page else None


def all_pages() -> list[pathlib.Path]:
    """Return all pages that run: the English ones, and Chinese ones without an English one."""
    found = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs" / "en").rglob("*.md"))]
    twins = {twin(page) for page in found}
    found += [page for page in sorted((ROOT / "docs" / "zh").rglob("*.md")) if page not in twins]
    return [page for page in found if steps(page)]


def bare(text: str) -> list[tuple[str, str]]:
    """Return the language and the code of a page's blocks, without comments and docstrings."""
    comment, docstring = re.compile(r" *#.*"), re.compile(r'""".*?"""', re.DOTALL)
    return [
        (language, comment.sub("", docstring.sub("", code)) if language in ("python", "py") else code)
        for language, code, _, _ in blocks(text)
    ]


def same_code(page: pathlib.Path) -> Optional[str]:
    """Return where the Chinese page of an English one has other code or output, or `None`."""
    chinese = twin(page)
    if chinese is None:
        return None
    ours, theirs = bare(page.read_text(encoding="utf-8")), bare(chinese.read_text(encoding="utf-8"))
    lines = blocks(chinese.read_text(encoding="utf-8"))
    for number, (one, other) in enumerate(zip(ours, theirs)):
        if one != other:
            place = f"{chinese.relative_to(ROOT)}:{lines[number].line}"
            return f"{place}: not the code or output of {page.relative_to(ROOT)}:\n{other[1]}"
    if len(ours) != len(theirs):
        return f"{chinese.relative_to(ROOT)}: {len(theirs)} blocks, but {page.relative_to(ROOT)} has {len(ours)}"
    return None


def matches(wanted: str, got: str, vary: str = "") -> bool:
    """Return whether what a block printed is what the page says."""
    if vary:
        wanted, got = (NUMBERS[vary].sub("0", re.sub(r"-{3,}", "---", text)) for text in (wanted, got))
    return doctest.OutputChecker().check_output(wanted, got, FLAGS)


def execute(page: pathlib.Path) -> list[Optional[str]]:
    """Run the blocks of a page here, and return what each printed; stops after the first that must not raise."""
    names: dict[str, Any] = {"__name__": "__main__"}
    prepared = setup(page)
    if prepared is not None:
        exec(compile(prepared.read_text(encoding="utf-8"), str(prepared), "exec"), names)
    printed: list[Optional[str]] = []
    for block, text in steps(page):
        output = io.StringIO()
        code = "\n" * (block.line - 1) + block.code  # so that tracebacks have the line of the page
        try:
            with contextlib.redirect_stdout(output):
                exec(compile(code, str(page), "exec"), names)
        except BaseException as error:
            if text is None or not (ERROR.search(text.code) or not text.code.strip()):
                traceback.print_exc()
                return printed
            output.write(f"{type(error).__name__}: {error}\n")
        printed.append(output.getvalue())
    return printed


def run(page: pathlib.Path) -> tuple[list[str], str, float]:
    """Run a page in a process of its own; return what each block printed, what went wrong, and the seconds."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "examples").mkdir()
        (pathlib.Path(folder) / "examples" / "data").symlink_to(ROOT / "examples" / "data")
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        quiet = {"GLOG_v": "4", "MPLBACKEND": "agg", "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, __file__, "--here", str(page)]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **quiet}, capture_output=True, encoding="utf-8", errors="replace"
        )
    seconds = time.monotonic() - start
    marker = done.stdout.rfind("\nBLOCKS ")
    if marker < 0:
        return [], f"{page.relative_to(ROOT)}: exit status {done.returncode}\n{done.stderr[-3000:]}", seconds
    printed = json.loads(done.stdout[marker + len("\nBLOCKS ") :])
    code = steps(page)
    if len(printed) < len(code):
        line = code[len(printed)][0].line
        return printed, f"{page.relative_to(ROOT)}:{line}: this block raises\n{done.stderr[-3000:]}", seconds
    return printed, "", seconds


def differences(page: pathlib.Path, printed: list[str]) -> str:
    """Return where a page says something else than its blocks have printed."""
    found = []
    for (_, text), got in zip(steps(page), printed):
        if text is not None and not matches(text.code, got, text.vary):
            place = f"{page.relative_to(ROOT)}:{text.line}"
            found.append(f"{place}: the page says\n{text.code}\nbut the block prints\n{got}")
    return "\n".join(found)


def update(page: pathlib.Path, printed: list[str], *, refresh: bool = False) -> None:
    """Write what the blocks have printed into a page and into its Chinese one, where it differs."""
    for each in filter(None, [page, twin(page)]):
        lines = each.read_text(encoding="utf-8").splitlines()
        for (_, text), got in reversed(list(zip(steps(each), printed))):
            if text is None:
                continue
            exact = refresh and "..." not in text.code  # what has been shortened by hand stays
            if not matches(text.code, got, "" if exact else text.vary):
                first = text.line - 1
                lines[first : first + text.code.count("\n")] = [line.rstrip() for line in got.splitlines()]
        each.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check(page: pathlib.Path, *, updating: bool = False, refresh: bool = False) -> tuple[str, float]:
    """Run a page and compare; return what is wrong with it, and the seconds that it took."""
    printed, failure, seconds = run(page)
    if updating or refresh:
        update(page, printed, refresh=refresh)
    return failure or differences(page, printed) or same_code(page) or "", seconds


def main() -> int:
    """Check the pages of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=pathlib.Path, help="Markdown files; without any, all pages")
    parser.add_argument("--update", action="store_true", help="write what was printed into the pages")
    parser.add_argument("--refresh", action="store_true", help="the same, also where only numbers that vary differ")
    parser.add_argument("--jobs", type=int, default=2, help="how many pages run at a time")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        printed = execute(options.pages[0])
        print("\nBLOCKS " + json.dumps(printed), flush=True)
        return 0
    pages = [page.resolve() for page in options.pages] or all_pages()
    failed, start = 0, time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        running = {pool.submit(check, page, updating=options.update, refresh=options.refresh): page for page in pages}
        for done in concurrent.futures.as_completed(running):
            failure, seconds = done.result()
            failed += bool(failure)
            print(
                f"{'FAILED' if failure else 'passed'} {running[done].relative_to(ROOT)} ({seconds:.1f} s)", flush=True
            )
            if failure:
                print(failure, flush=True)
    print(f"{len(pages)} pages, {failed} failed, in {time.monotonic() - start:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
