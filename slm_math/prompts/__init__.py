"""Prompt templates: one `.txt` file per role and purpose, and `Prompt`, which fills one.

A template holds `{slot}` marks. All slots are filled in one pass, and the values are not read
again: a problem, a program's output or a reply that contains braces stays as it is. A name with a
path separator or a suffix is the path of a user's own file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

from jsonargparse.typing import register_type

RENAMED = {"summarise": "summarize"}  # old names of templates, accepted for one version
_SLOT = re.compile(r"\{([a-z_]+)\}")


class Prompt(str):
    """The name of a template, or the path of a text file, with the slots that its user fills.

    As the default of an agent's field, a prompt declares which slots a template in its place may
    have; YAML gives the name alone.

    >>> Prompt("retry", "problem critique").fill(problem="1 + 1?", critique="3 is too much.")

    Args:
        name: "solve", or "my/solve.txt".
        slots: the names of the slots, as one text with spaces between them or one by one. The
            template need not use all of them.
    """

    slots: tuple[str, ...]

    def __new__(cls, name: str, slots: str | Iterable[str] = "problem") -> Prompt:
        prompt = super().__new__(cls, name)
        prompt.slots = tuple(slots.split() if isinstance(slots, str) else slots)
        return prompt

    @property
    def template(self) -> str:
        """The template's text, slots unfilled. Raises ValueError if there is no such template."""
        return load(str(self))

    @property
    def unknown_slots(self) -> list[str]:
        """The slots of the template that the prompt does not declare."""
        return sorted(set(_SLOT.findall(self.template)) - set(self.slots))

    def fill(self, **values: str) -> str:
        """The template's text with its slots filled.

        Raises ValueError unless there is a value for every declared slot and for nothing else.
        """
        for problem, names in (
            ("needs a value for", set(self.slots) - set(values)),
            ("does not declare", set(values) - set(self.slots)),
        ):
            if names:
                raise ValueError(f"prompt {str(self)!r} {problem} {', '.join(sorted(names))}")
        return render(self, **values)


# on a command line and in YAML, a prompt is its name
register_type(Prompt, str, Prompt)


@cache
def load(name: str) -> str:
    """The text of a template. Raises ValueError, with the known names, if it does not exist."""
    own = Path(name)
    if own.suffix or len(own.parts) > 1:
        if not own.is_file():
            raise ValueError(f"prompt file {name} does not exist")
        return own.read_text(encoding="utf-8").removesuffix("\n")
    file = files(__name__) / f"{RENAMED.get(name, name)}.txt"
    if not file.is_file():
        known = sorted(
            template.name.removesuffix(".txt")
            for template in files(__name__).iterdir()
            if template.name.endswith(".txt")
        )
        raise ValueError(
            f"there is no prompt {name!r}; known: {', '.join(known)}, or the path of a text file"
        )
    return file.read_text(encoding="utf-8").removesuffix("\n")


def render(name: str, **slots: str) -> str:
    """Template `name` with its slots filled. Raises ValueError if a slot of the template has no
    value.
    """
    first, *rest = _split(name)
    missing = sorted({slot for slot in rest[::2] if slot not in slots})
    if missing:
        raise ValueError(f"prompt {str(name)!r} needs a value for {', '.join(missing)}")
    return first + "".join([slots[slot] + text for slot, text in zip(rest[::2], rest[1::2])])


@cache
def _split(name: str) -> list[str]:
    """A template by its slots: the text before the first, then each slot and the text after it."""
    return _SLOT.split(load(name))
