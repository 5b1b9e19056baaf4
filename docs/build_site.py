"""Build the documentation in both languages into site/, warnings being errors, and check all local links.

    python docs/build_site.py

Nothing is fetched from the network. Needs `pip install ".[docs]"`, with MindSpore, whose classes the signatures name.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse
from html.parser import HTMLParser

ROOT = pathlib.Path(__file__).resolve().parents[1]
SITE = ROOT / "site"
MARKDOWN = ("*.md", "benchmarks/*.md", "examples/**/*.md", "docs/**/*.md")
LANGUAGES = {"en": "en", "zh": "zh_CN"}
ENTRY = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ms_callbacks</title>
<script>location.replace((navigator.language || "en").startsWith("zh") ? "zh/index.html" : "en/index.html")</script>
<p><a href="en/index.html">English</a> · <a href="zh/index.html" lang="zh-CN">中文</a></p></html>
"""


class Links(HTMLParser):
    """The links and the anchors of a built page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link, or an anchor."""
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name == "id" and value:
                self.anchors.add(value)


def dead_links(site: pathlib.Path) -> list[str]:
    """Return the links of built pages that lead nowhere inside the site."""
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    dead = set()
    for path, page in pages.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            anchor = urllib.parse.unquote(parts.fragment)
            missing = not target.exists() or site not in target.parents
            if missing or (anchor and target in pages and anchor not in pages[target].anchors):
                dead.add(f"{path.relative_to(site)}: {link}")
    return sorted(dead)


def dead_files() -> list[str]:
    """Return the links of the repository's Markdown files to files that do not exist."""
    dead = []
    tops = [
        *ROOT.glob("*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob("examples/**/*.md"),
        *ROOT.glob("docs/**/*.md"),
    ]
    for path in sorted(tops):
        text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            parts = urllib.parse.urlsplit(link)
            if not parts.scheme and parts.path and not (path.parent / urllib.parse.unquote(parts.path)).exists():
                dead.append(f"{path.relative_to(ROOT)}: {link}")
    return dead


def main() -> int:
    """Build, check, and say where the site is."""
    dead = dead_files()
    if SITE.exists():
        shutil.rmtree(SITE)
    for folder, language in LANGUAGES.items():
        command = [
            sys.executable,
            "-m",
            "sphinx",
            "-W",
            "--keep-going",
            "-n",
            "-q",
            "-b",
            "html",
            "-c",
            str(ROOT / "docs"),
        ]
        command += ["-D", f"language={language}", "-d", str(SITE / ".doctrees" / folder)]
        if subprocess.run([*command, str(ROOT / "docs" / folder), str(SITE / folder)], check=False).returncode:
            return 1
    shutil.rmtree(SITE / ".doctrees")
    (SITE / "index.html").write_text(ENTRY, encoding="utf-8")
    dead += dead_links(SITE)
    for link in dead:
        print(f"dead link: {link}", file=sys.stderr)
    print(f"built {sum(1 for _ in SITE.rglob('*.html'))} pages: {SITE / 'index.html'}")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
