"""Sphinx: the same configuration for docs/en and docs/zh; `python docs/build_site.py` builds both.

Pages are Markdown that reads well on GitHub too. What only GitHub needs (the link to the page in the other language,
under its title) is removed here, and links to pages in the other language are adapted.
"""

from __future__ import annotations

import logging
import pathlib
import posixpath
import re
import sys
from typing import Any

import jieba
from docutils import nodes
from docutils.utils.math import latex2mathml
from jinja2 import pass_context
from sphinx import addnodes

DOCS = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

import ms_callbacks  # noqa: E402  (needs no MindSpore)

project = "ms_callbacks"
author = "The ms_callbacks developers"
copyright = "2026, the ms_callbacks developers"
version = release = ms_callbacks.__version__
language = "en"  # or zh_CN: sphinx-build -D language=zh_CN

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_heading_anchors = 3
myst_url_schemes = {"http": None, "https": None, "mailto": None, "site": "{{path}}#{{fragment}}"}
suppress_warnings = ["myst.header"]

smartquotes = False  # quoted messages stay as they are printed, so that a search finds them

html_theme = "furo"
html_title = "ms_callbacks"
html_static_path = ["_static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/language.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
html_show_sourcelink = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
default_role = "literal"  # single backticks in docstrings are code
nitpick_ignore_regex = [("py:.*", ".*")]  # types of MindSpore and NumPy; links between pages are still checked

jieba.setLogLevel(logging.WARNING)  # it splits Chinese words for the search

# Methods that every callback has are described once, at TrainCallback.
BASES = ("TrainCallback", "MonitorCallback")


def skip_phases(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> Any:
    """Leave out, of a callback, the hooks and phases that it shares with all others."""
    qualified = getattr(member, "__qualname__", "")
    if qualified.split(".")[0] in BASES:
        return None
    inherited = set(dir(ms_callbacks.TrainCallback)) | set(dir(ms_callbacks.MonitorCallback))
    is_result = name.endswith("_") and not name.startswith("_")  # described in the class
    return True if what == "class" and (name in inherited - {"__init__"} or is_result) else None


OUTSIDE = r"\[([^\]]+)\]\(((?:\.\./)+(?!en/|zh/)[\w./-]+\.md)\)"  # Markdown of the repository that is no page
CHINESE = "\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef“”‘’"
# A line end between two Chinese characters is no space.
LINE_END = re.compile(f"(?<=[{CHINESE}])\\n *(?=[{CHINESE}])|(?<=[，。；：、！？）”])\\n *(?=[`A-Za-z])")
PLACE = r"\]\((?P<up>(?:\.\./)+)(?P<language>en|zh)/(?P<page>[\w/]+)\.md(?P<anchor>#[^)\s]*)?\)"


def adapt(app: Any, name: str, source: list[str]) -> None:
    """Remove the line that links to the other language, and let other such links lead to the built page."""
    text = re.sub(r"^\[(中文|English)\]\([^)]*\)\s*$", "", source[0], count=1, flags=re.MULTILINE)

    def built(match: re.Match[str]) -> str:
        return f"](site:{match['up']}{match['language']}/{match['page']}.html{match['anchor'] or ''})"

    def download(match: re.Match[str]) -> str:
        return f"{{download}}`{match[1].replace('`', '')} <{match[2]}>`"

    text = re.sub(PLACE, built, re.sub(OUTSIDE, download, text))
    fenced = re.split(r"(^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)
    source[0] = "".join(part if part.startswith("```") else LINE_END.sub("", part) for part in fenced)


def pages() -> dict[str, str]:
    """Return the page of each public name."""
    found = {}
    for path in sorted((DOCS / "en").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"^\.\. auto(?:class|function):: ms_callbacks\.(\w+)$", text, re.MULTILINE):
            found[name] = path.relative_to(DOCS / "en").with_suffix("").as_posix()
    return found


# `EarlyStopping` in "MindSpore's own `EarlyStopping`" is not ours.
THEIRS = re.compile(r"(Keras|Lightning|PyTorch|MindSpore|mindvision|fastai|scikit-learn|自带)\S*( own)?( 的)?\s*$")


def link_names(app: Any, doctree: nodes.document, name: str) -> None:
    """Let each public name in code lead to its page."""
    for literal in list(doctree.findall(nodes.literal)):
        called = re.match(r"(\w+)(?:$|\(|\.\w+)", literal.astext())  # also EarlyStopping("acc") and History.what_if
        page = app.env.page_of_name.get(called[1]) if called else None
        named = re.fullmatch(r"docs/en/(\w+)\.md", literal.astext())
        page = named[1] if named else page
        inside = literal.parent
        while inside is not None:
            if isinstance(inside, (nodes.reference, nodes.title, addnodes.desc_signature)):
                break
            inside = inside.parent
        if page is None or page == name or inside is not None or page not in app.env.found_docs:
            continue
        before = literal.parent[: literal.parent.index(literal)]
        if THEIRS.search("".join(each.astext() for each in before)):
            continue
        target = app.builder.get_relative_uri(name, page)
        link = nodes.reference("", "", literal.deepcopy(), internal=True, refuri=target)
        literal.replace_self(link)


def language_link(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Tell the template where the same page is in the other language."""
    other = "en" if app.config.language.startswith("zh") else "zh"
    exists = (DOCS / other / f"{pagename}.md").is_file()
    target = posixpath.join(other, pagename if exists else "index") + ".html"
    context["other_language"] = {"en": "English", "zh": "中文"}[other]
    context["other_language_code"] = {"en": "en", "zh": "zh-CN"}[other]
    context["other_page"] = "../" * (pagename.count("/") + 1) + target


WORDS = {"Previous": "上一页", "Next": "下一页", "Home": "首页"}  # which furo has in English alone


def translate(app: Any) -> None:
    """Translate what the theme does not, where the page is Chinese."""
    if app.config.language.startswith("zh") and hasattr(app.builder, "templates"):
        names = app.builder.templates.environment.globals
        known = names["_"]
        names["_"] = pass_context(lambda context, text: WORDS.get(text) or known(context, text))


def mathml(formula: str, display: bool) -> str:
    """Return a formula as MathML, which needs no script and no network."""
    tree = latex2mathml.tex2mathml(formula, as_block=display)
    return tree if isinstance(tree, str) else str(tree)


def visit_math(translator: Any, node: Any) -> None:
    """Write a formula within a line."""
    translator.body.append(mathml(node.astext(), False))
    raise nodes.SkipNode


def visit_math_block(translator: Any, node: Any) -> None:
    """Write a formula of its own."""
    translator.body.append(f'<div class="math">{mathml(node.astext(), True)}</div>')
    raise nodes.SkipNode


html_math_renderer = "mathml"


def setup(app: Any) -> dict[str, bool]:
    """Connect the functions above."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("autodoc-skip-member", skip_phases)
    app.connect("source-read", adapt)
    app.connect("builder-inited", lambda app: setattr(app.env, "page_of_name", pages()))
    app.connect("builder-inited", translate)
    app.connect("doctree-resolved", link_names)
    app.connect("html-page-context", language_link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
