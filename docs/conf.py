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

# files outside of this folder -> the links to them in it, which MyST would follow
_OUTSIDE = {"README": "start", "CONTRIBUTING": "contributing"}
_LINK = re.compile(rf"\[([^\]]+)\]\((?:\.\./)?({'|'.join(_OUTSIDE)})\.md\)")
_ENTRY = re.compile(r"- \[[^\]]+\]\((?:\.\./)?(?P<page>[\w/]+)\.md\)")


def toctrees(index: str) -> str:
    """The lists of the index page as the site's navigation: a part for each heading."""
    parts: list[str] = []
    for section in index.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        named = [match["page"] for match in _ENTRY.finditer(body)]
        pages = [_OUTSIDE.get(page, page) for page in named]
        head = ["```{toctree}", ":hidden:", f":caption: {title}", ""]
        parts.append("\n".join([*head, *pages, "```"]))
    return "\n\n".join(parts)


def _adapt(app: Any, page: str, source: list[str]) -> None:
    """Makes links to files outside of this folder links to their pages."""
    text = _LINK.sub(lambda link: f"{{doc}}`{link[1]} </{_OUTSIDE[link[2]]}>`", source[0])
    if page in _OUTSIDE.values():
        text = text.replace("](docs/", "](")
    if page == "index":
        text += f"\n\n{toctrees(source[0])}\n"
    source[0] = text


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _adapt)
    return {"parallel_read_safe": True}
