"""Untrusted text, made safe for a page: without control characters and markup, and not too long."""

from __future__ import annotations

import html
import re
from typing import Any

LONGEST = 20_000  # characters of one text that a page shows

# a block of code in a reply: its fence, its language and what is in it
FENCE = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n`]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)

# C0 and C1 controls except tab and line feed, half surrogate pairs, Unicode's line ends, invisible
# marks and those that change the direction of text, and noncharacters
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffc\ufffe\uffff]"
)


def clean(value: Any, limit: int = LONGEST) -> str:
    """A value as text; every control character becomes U+FFFD, and text beyond `limit` characters
    is replaced by a remark.
    """
    text = value if isinstance(value, str) else "" if value is None else str(value)
    left = len(text) - limit
    text = _UNSAFE.sub("\ufffd", text[:limit].replace("\r\n", "\n").replace("\r", "\n"))
    return f"{text} \u2026 ({left:,} more characters)" if left > 0 else text


def line(value: Any, limit: int = 200) -> str:
    """A value as clean text on one line."""
    text = " ".join(clean(value, 4 * limit).split())
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"


def escaped(value: Any, limit: int = LONGEST) -> str:
    """Clean text as HTML."""
    return html.escape(clean(value, limit))


def percent(share: float, digits: int = 1) -> str:
    """A share as people read it: `83.3 %`."""
    return f"{100 * share:.{digits}f} %"
