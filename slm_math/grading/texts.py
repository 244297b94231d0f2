"""Texts of completions, which rows hold as text, numbers, chats or lists of samples."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from slm_math.data.json_lines import RowError

_SENTENCE_ENDS = tuple(".!?。)]}>\"'”’»$*`|")


def as_text(value: Any) -> str | None:
    """A text or a finite number as text; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return f"{Decimal(repr(value)):f}"


def sample_texts(value: Any) -> list[str]:
    """The texts of one completion, or of a list of several; lm-eval puts the list of a problem's
    samples into another list. Raises RowError.
    """
    if isinstance(value, list) and len(value) == 1 and _is_list_of_texts(value[0]):
        value = value[0]
    if not isinstance(value, list) or _is_chat(value):
        return [_completion_text(value)]
    if not value:
        raise RowError("is an empty list")
    texts = []
    for number, item in enumerate(value):
        try:
            texts.append("" if item is None else _completion_text(item))
        except RowError as error:
            raise RowError(f"(sample {number}) {error}") from error
    return texts


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _is_chat(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and "role" in item for item in value)
    )


def _completion_text(value: Any) -> str:
    """A text, a number, or the last assistant message of a chat, as text."""
    text = as_text(value)
    if text is not None:
        return text
    if isinstance(value, dict) and "role" in value:
        value = [value]
    if not _is_chat(value):
        raise RowError(f"is {kind_of(value)}, not text, a number or a chat of role and content")
    last = next((message for message in reversed(value) if message["role"] == "assistant"), None)
    if last is None:
        raise RowError("is a chat without an assistant message")
    content = last.get("content")
    if isinstance(content, list):
        parts = [
            part.get("text")
            for part in content
            if isinstance(part, dict) and part.get("type") == "text"
        ]
        content = "".join(part for part in parts if isinstance(part, str)) if parts else None
    if not isinstance(content, str):
        raise RowError("is a chat whose last assistant message has no text")
    return content


def kind_of(value: Any) -> str:
    """The kind of a JSON value, for error messages."""
    kinds = {
        dict: "an object",
        list: "a list",
        bool: "true or false",
        type(None): "null",
        str: "text",
    }
    return kinds.get(type(value), "NaN or infinite")


def looks_truncated(text: str, answered: bool) -> bool:
    """Whether a completion seems to have hit the token limit: it ends in an open box, code fence or
    thought, or, if it states no answer, in the middle of a sentence.
    """
    if "\\" in text:
        box = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
        if box >= 0 and _open_brace(text[box:]):
            return True
    if "```" in text and text.count("```") % 2:
        return True
    if "<think>" in text and text.rfind("<think>") > text.rfind("</think>"):
        return True
    return not answered and bool(text.strip()) and not text.rstrip().endswith(_SENTENCE_ENDS)


def _open_brace(text: str) -> bool:
    """Whether the first brace of a text is never closed; escaped braces do not count."""
    depth, escaped = 0, False
    for char in text:
        if not escaped and char in "{}":
            depth += 1 if char == "{" else -1
            if depth == 0:
                return False
        escaped = char == "\\" and not escaped
    return True
