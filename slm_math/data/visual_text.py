"""Questions with their choices inside of one text, as sets for vision models write them.

<image>
Hint: Please answer the question and provide the letter at the end.
Question: How long is x?
Choices:
(A) 3
(B) 4
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from slm_math.answers import extract
from slm_math.answers.choices import in_order, letters
from slm_math.types import Image, Message

# of an image, in texts whose images are named beside them
PLACEHOLDER = re.compile(r"<image\s*\d*>|<\|image\|>", re.IGNORECASE)
# What such sets tell a model about the form of its reply; the prompts here do that. Known sentences
# alone: any other hint may be a condition of the problem.
_EXAMPLES = r",? e\.g\.,? ?(?:\[[^\]\n]*\]|(?:[A-J]|\d+(?:\.\d+)?)(?:, (?:[A-J]|\d+(?:\.\d+)?))*)"
_SENTENCES = (
    r"(?:please )?(?:first conduct reasoning, and then |directly )?answer the question "
    r"(?:requiring an? [\w -]+? and |and )provide the (?:correct )?"
    r"(?:option letter|final answer|final value|final list)"
    rf"(?:{_EXAMPLES})?(?:,? at the end)?",
    r"(?:please )?first perform reasoning, then finally select the (?:question|answer) from the "
    r"choices in the following format: answer: xxx",
    r"(?:please )?answer (?:the question )?with the option'?s? letter"
    r"(?: from the given choices)?(?: directly)?",
    r"(?:please )?answer the question (?:using|with) a single (?:word|number)(?: or phrase)?",
    r"(?:please )?directly (?:select|answer) the (?:correct )?(?:option|answer|question)"
    r"(?: from the choices)?",
)
_FORM = re.compile(
    rf"(?:^[ \t]*|(?<=[.?!:] ))(?:hint: *)?(?:{'|'.join(_SENTENCES)})(?:\.|[ \t]*$)[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_LABEL = re.compile(r"^\s*(?:question|problem)\s*:\s*", re.IGNORECASE)
_HEAD = re.compile(r"\b(?:choices|options)\s*:", re.IGNORECASE)
_CHOICE = r"\s*(?:\(\s*{0}\s*\)|{0}\s*[.:)])[ \t]*"


@dataclass(frozen=True)
class Parts:
    """A question and its choices, without their letters."""

    question: str
    choices: tuple[str, ...] = ()


def parts_of(text: str) -> Parts:
    """The question and the choices of a text: lines, or one line, that list (A), (B) and so on at
    its end.
    """
    plain = _FORM.sub("", without_placeholders(text)).strip()
    question, choices = _split(plain)
    return Parts(_LABEL.sub("", question).strip(), choices)


def named_images(text: str) -> int:
    """How many images the placeholders of a text name; equal numbers name one."""
    numbers = [re.search(r"\d+", name) for name in PLACEHOLDER.findall(text)]
    return numbers.count(None) + len({number[0] for number in numbers if number})


def without_placeholders(text: str) -> str:
    """A text without the placeholders before and behind it, since images stand before the text of
    a problem; one inside of it becomes words: "Is <image> like <image>?" -> "Is image 1 like image
    2?".
    """
    texts = PLACEHOLDER.split(text)
    said = [number for number, each in enumerate(texts) if each.strip()]
    if not said:
        return ""
    whole, names = texts[said[0]], PLACEHOLDER.findall(text)
    for number in range(said[0], said[-1]):
        own = re.search(r"\d+", names[number])
        name, after = f"image {own[0] if own else number + 1}", texts[number + 1]
        whole += " " * whole[-1:].isalnum() + name + " " * after[:1].isalnum() + after
    return whole.strip()


def text_with_placeholders(message: Message) -> str:
    """The text of a message, with a placeholder where it shows an image."""
    return "".join("<image>" if isinstance(part, Image) else part.text for part in message.content)


def _split(text: str) -> tuple[str, tuple[str, ...]]:
    """The text before the list of choices at its end, and these; the whole text if it has none."""
    label = next(reversed(list(_HEAD.finditer(text))), None)
    lines = text.splitlines()
    if label is not None:  # behind it, all choices may be in one line
        listed = re.sub(r"\s+(?=\([B-J]\))", "\n", text[label.end() :].strip())
        lines = [*text[: label.start()].splitlines(), *listed.splitlines()]
    for first in reversed(range(len(lines))):
        if choices := _listed(lines[first:]):
            return "\n".join(lines[:first]).strip(), choices
    return text, ()


def _listed(lines: Sequence[str]) -> tuple[str, ...]:
    """The choices of lines that are a list of at least two; () if they are none."""
    choices: list[str] = []
    for line in lines:
        letter = chr(ord("A") + len(choices))
        if match := re.match(_CHOICE.format(letter), line, re.IGNORECASE):
            choices.append(line[match.end() :].strip())
        elif choices:
            choices[-1] = f"{choices[-1]}\n{line}".strip()
        else:
            return ()
    return tuple(choices) if len(choices) > 1 and all(choices) else ()


def without_letters(choices: Sequence[str]) -> tuple[str, ...]:
    """Choices in the order of their letters, without these if all have them: "A. 12" -> "12"."""
    ordered = in_order(list(choices))
    own = [
        re.match(_CHOICE.format(chr(ord("A") + n)) + r"(?=\S)", text, re.IGNORECASE)
        for n, text in enumerate(ordered)
    ]
    if not own or not all(own):
        return ordered
    return tuple(text[match.end() :].strip() for text, match in zip(ordered, own) if match)


def letter_of(answer: str, choices: Sequence[str]) -> str | None:
    """The letter of the one choice that an answer names: "B", "(B)", "The answer is B.", or the
    text of the choice; None if the answer names no choice.
    """
    texts = tuple(choices)
    if answer in texts and texts.count(answer) == 1:
        return chr(ord("A") + texts.index(answer))
    for text in (answer, extract(answer, answer_type="mc").value or ""):
        named = letters(text, texts) if text else None
        if named is not None and len(named) == 1:
            [letter] = named
            if not texts or ord(letter) - ord("A") < len(texts):
                return letter
    return None
