"""Long texts are shown by their beginning and their end."""

from __future__ import annotations

import re

_LEFT_OUT = re.compile(r"\n\.\.\. \(left out: (\d{1,15}) characters\) \.\.\.\n")


def left_out(characters: int) -> str:
    """What stands between the beginning and the end of a long text."""
    return f"\n... (left out: {characters} characters) ...\n"


def shortened(text: str, most: int = 2000) -> str:
    """The beginning and the end of a text with more than `most` characters.

    A text that was shortened before, to more characters, still says how many it had at first.
    """
    if len(text) <= most:
        return text
    begin, end = most // 2, len(text) - most // 2
    earlier = _LEFT_OUT.search(text, begin, end)
    gone = end - begin + (int(earlier[1]) - len(earlier[0]) if earlier else 0)
    return text[:begin] + left_out(gone) + text[end:]
