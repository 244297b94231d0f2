"""Prompt templates: one `.txt` file per role and purpose, filled by `render`.

A template holds `{slot}` marks. Slots are replaced in one pass and never re-read, so a problem, a
program output or a model's reply that contains braces stays what it is. A name with a path
separator or a suffix is a user's own file.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

_SLOT = re.compile(r"\{([a-z_]+)\}")


@cache
def load(name: str) -> str:
    """The text of a template. Raises ValueError, with the known names, for one that
    does not exist.
    """
    own = Path(name)
    if own.suffix or len(own.parts) > 1:
        if not own.is_file():
            raise ValueError(f"prompt file {name} does not exist")
        return own.read_text(encoding="utf-8").removesuffix("\n")
    file = files(__name__) / f"{name}.txt"
    if not file.is_file():
        known = sorted(
            f.name.removesuffix(".txt")
            for f in files(__name__).iterdir()
            if f.name.endswith(".txt")
        )
        raise ValueError(
            f"there is no prompt {name!r}; known: {', '.join(known)}, or the path of a text file"
        )
    return file.read_text(encoding="utf-8").removesuffix("\n")


def render(name: str, **slots: str) -> str:
    """Template `name` with its slots filled. Raises ValueError when a slot of the template is not
    given.
    """
    template = load(name)
    missing = sorted({slot for slot in _SLOT.findall(template) if slot not in slots})
    if missing:
        raise ValueError(f"prompt {name!r} needs a value for {', '.join(missing)}")
    return _SLOT.sub(lambda mark: slots[mark.group(1)], template)
