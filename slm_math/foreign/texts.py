"""The text of a problem, which tools keep as text or as the chat that the model saw."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from slm_math.data.identity import problem_key
from slm_math.types import Problem

# these begin the ids of problems that have none of their own
TEXT = "text-"  # known by its text
LINE = "line-"  # known by its line in a file
_USERS = ("user", "human", "HUMAN")


def problem_text(value: Any) -> str:
    """A text as it is; of a chat, the last message of the user; "" for anything else."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    for message in reversed(value):
        if isinstance(message, dict) and message.get("role") in _USERS:
            return _content(message.get("content", message.get("prompt")))
    return ""


def _content(value: Any) -> str:
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


@lru_cache(maxsize=1024)  # the samples of a problem are often neighbors
def text_key(text: str, choices: tuple[str, ...] = (), images: tuple[str, ...] = ()) -> str:
    """What a problem of this text, with images of these hashes, is: equal for texts that differ in
    spaces and the like.
    """
    return problem_key(Problem("", text, choices=choices), images)
