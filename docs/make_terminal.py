"""Draw docs/_static/terminal.png: what `examples/train_lenet.py` prints in a terminal, with its middle left out.

    python docs/make_terminal.py

Needs Chromium, which renders the text.
"""

from __future__ import annotations

import html
import pathlib
import shutil
import subprocess
import sys
import tempfile

from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
COMMAND = "examples/train_lenet.py"
FIRST, LAST = 21, 13  # lines shown from the beginning and from the end
WIDTH, LINE = 1060, 18  # pixels
PAGE = f"""<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #1e1e2e; color: #e6e6ef; padding: 16px 20px;
  font: 12.5px/{LINE}px "DejaVu Sans Mono", Menlo, Consolas, monospace; }}
pre {{ margin: 0; font: inherit; }}
.prompt {{ color: #9ece6a; }} .left-out {{ color: #8b8ba7; }}
</style><pre><span class="prompt">$</span> python {COMMAND}
FIRST
<span class="left-out">...</span>
LAST</pre>"""


def main() -> None:
    """Run the example, and draw what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / COMMAND)]
        run = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        lines = run.stdout.splitlines()
        page = pathlib.Path(folder) / "terminal.html"
        first, last = (html.escape("\n".join(part)) for part in (lines[:FIRST], lines[-LAST:]))
        page.write_text(PAGE.replace("FIRST", first).replace("LAST", last), encoding="utf-8")
        browser = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
        picture = ROOT / "docs" / "_static" / "terminal.png"
        height = (FIRST + LAST + 2) * LINE + 32
        subprocess.run(
            [
                browser,
                *"--headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1.5".split(),
                f"--user-data-dir={folder}/browser",
                f"--window-size={WIDTH},{height}",
                f"--screenshot={picture}",
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
        )
        Image.open(picture).convert("RGB").quantize(32).save(picture, optimize=True)


if __name__ == "__main__":
    main()
