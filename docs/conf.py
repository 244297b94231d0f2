"""The site of these pages: `pip install ".[docs]"`, then `sphinx-build -W docs build/site`.

The pages are plain Markdown for a forge. What only the site needs is added here as they are read.
"""

from __future__ import annotations

import re
from typing import Any

project = "slm-math"
copyright = "the authors of slm-math, Apache-2.0"
extensions = ["myst_parser"]
myst_heading_anchors = 4
highlight_language = "text"  # indented blocks are commands; fenced ones name their language
html_theme = "furo"
html_title = "slm-math"
html_copy_source = False
html_show_sphinx = False

_ENTRY = re.compile(r"- \[[^\]]+\]\((?:\.\./)?(?P<page>[\w/]+)\.md\)")


def toctrees(index: str) -> str:
    """The lists of the index page as the site's navigation: a part for each heading."""
    parts: list[str] = []
    for section in index.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        pages = [match["page"] for match in _ENTRY.finditer(body)]
        pages = ["contributing" if page == "CONTRIBUTING" else page for page in pages]
        parts.append(
            "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```"])
        )
    return "\n\n".join(parts)


def _adapt(app: Any, page: str, source: list[str]) -> None:
    """Links to files outside of this folder lead to their pages. `contributing.md` is a link to
    the project's CONTRIBUTING.md, which MyST would follow, so references name the document.
    """
    text = source[0].replace("](../README.md", "](index.md")
    text = re.sub(r"\[([^\]]+)\]\(\.\./CONTRIBUTING\.md\)", r"{doc}`\1 </contributing>`", text)
    if page == "contributing":
        text = text.replace("](docs/", "](").replace("](README.md", "](index.md")
    if page == "index":
        text += f"\n\n{toctrees(source[0])}\n"
    source[0] = text


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _adapt)
    return {"parallel_read_safe": True}
