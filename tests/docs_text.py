"""The pages of the documentation as tests read them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
OWN_FILE = re.compile(r"ave this as `(my_\w+\.py)`.*?```python\n(.*?)```", re.DOTALL)


def pages() -> list[Path]:
    """The README and all pages but the link to CONTRIBUTING.md, which is one of them by itself."""
    every = sorted(DOCS.rglob("*.md"))
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(p for p in every if not p.is_symlink())]


def commands(text: str) -> list[list[str]]:
    """The words of the `slm-math ...` lines in indented and fenced blocks, without comments
    and what they are written to; continued lines are joined. A line with [...] shows a form, not a
    command.
    """
    found: list[list[str]] = []
    fenced = False
    for line in text.replace("\\\n", " ").splitlines():
        fenced ^= line.lstrip().startswith("```")
        command = line.strip()
        if (fenced or line.startswith("    ")) and re.match(r"slm-math [a-z]", command):
            words = shlex.split(command.removesuffix("&"), comments=True)
            if "..." not in command:
                found.append(words[1 : words.index(">") if ">" in words else None])
    return found


def own_files(text: str) -> dict[str, str]:
    """File name -> content, of the Python files that a page asks its reader to save."""
    return dict(OWN_FILE.findall(text))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as forges and MyST make them."""
    heads = [
        line.lstrip("#").strip() for line in without_code(text).splitlines() if line[:1] == "#"
    ]
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links(text: str) -> list[str]:
    """The targets of relative links."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", without_code(text)))
    return [each for each in found if not each.startswith(("http://", "https://", "mailto:"))]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
