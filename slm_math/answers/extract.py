"""Extract the final answer from a model's reply, in time linear in its length.

Nothing in the reply is evaluated.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from functools import lru_cache

from slm_math.answers.boxes import Box, find_boxes, last_group
from slm_math.answers.spoken import Span, spoken

_ANSWER_TAG = re.compile(r"<answer>|</answer>", re.IGNORECASE)
_HASHES = re.compile(r"^[ \t>]*####[ \t]*(\S[^\n]*)$", re.MULTILINE)
_HASH_NUMBER = re.compile(
    r"[-+$€£\\]{0,4}(?=[.,]{0,3}\d)[\d.,/]+\s?%?(?:\s[a-zA-Z]{1,15}){0,3}[.]?"
)
# Keywords of answer phrases: they are searched from the end, then `_PHRASE` is matched there.
_KEYWORDS = ("nswer", "ns:", "NSWER", "esult", "ESULT", "ption is", "hoice is", "a:", "A:")
_PHRASE = re.compile(
    r"(?:answer|result) (?:is|are|equals|comes to|(?:would|should|will|must) be)(?: that)?\b"
    r"[ \t]*:?[ \t]*\n{0,2}[ \t]*"
    r"|answer\**[ \t]*[:=]\**[ \t]*\n{0,2}[ \t]*"
    r"|(?<=final )answer\**[ \t]*\n{1,2}[ \t]*"  # a heading
    r"|ans:[ \t]*"
    r"|(?:option|choice) is:?[ \t]*(?=[*(]{0,3}(?-i:[A-Z])\b)",
    re.IGNORECASE,
)
_SPACE = re.compile(r"[ \t]*")
_CLAUSE = re.compile(
    r"\.(?=\s|$)|[!?](?=\s|$)|,? (?:not|because|since|which|where|so that)\b|\s\(|\n"
)
_NUMBER = re.compile(
    r"(?<![\w.])(?:(?<![)\]}] )(?<![)\]}])[-−])?[$€£]?"
    r"(?:(?:\d{1,3}(?:,\d{3}){1,9}(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:/\d+)?(?:\s?\\?%)?"
)
_FENCE = re.compile(r"^[ \t]*```[ \t]*([a-zA-Z]*)[^\n]*$", re.MULTILINE)
_MAX_WHOLE = 200  # characters of a reply that is only an answer
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
_MACRO = re.compile(
    r"\\(?:text|mbox|textbf|mathrm|operatorname|begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+"
)
_COUNTED = re.compile(r"[-+$€£−]*[0-9][0-9.,/]*\s?%?(?:[ ][a-zA-Z]{2,15}){0,3}")
_CHOSEN = re.compile(
    r"(?<![\w$\\])\(?(?P<said>[A-H])\)?(?:[ .:][^.\n]{1,40})?"
    r" is (?:the )?(?:correct|right|answer)\b"
    r"|\b(?:choose|pick|select|go with) (?:option |choice |answer )?\(?(?P<chosen>[A-H])\b"
    r"|\b(?:[Tt]herefore|[Tt]hus|[Hh]ence|[Ss]o),?"
    r" (?:option |choice )?\(?(?P<so>[A-H])\)?[.!]?(?=\s*\Z)"
)
_OPTION = re.compile(
    r"(?-i:[A-H])(?:(?:,? and |, ?| ?& ?)(?-i:[A-H]))+|\(?(?-i:[A-H])\)?(?: [-–])? \d.{0,60}"
    r"|(?:option|choice|answer)?:?\s*\(?[a-z]\)?|\(?(?-i:[A-Z])[.):] ?.{1,80}",
    re.IGNORECASE,
)
_LINKING = frozenset("and or then so is are was to the of we it plus minus times".split())  # noqa: SIM905
_FUNCTIONS = frozenset(("sqrt", "pi", "sin", "cos", "tan", "log", "ln", "exp", "inf", "infinity"))
_OR = re.compile(r"[ .,*$]{0,4}\(?(?:or|maybe|perhaps|possibly)\b", re.IGNORECASE)
_ALTERNATIVES = re.compile(r"\bor\b|\beither\b|\bmaybe\b", re.IGNORECASE)


@dataclass(frozen=True)
class Extracted:
    """An answer and how it was found.

    `span` is its (start, end) in the reply. `hedged` says whether the reply offers several
    alternatives ("3 or 4"). `method` is one of:

    - box: `\\boxed{}`
    - tag: `<answer>`
    - hashes: `#### x`
    - phrase: "the answer is x"
    - output: the last line that a program in the reply printed
    - whole: the reply is only an answer
    - number: the last number of the reply, if enabled
    - none: no answer, `value` is None
    """

    value: str | None
    method: str
    span: Span | None
    hedged: bool = False


NOTHING = Extracted(None, "none", None)


def extract(completion: str, last_number: bool = False) -> Extracted:
    """The final answer of a reply, by the first method that finds one in its answering part.

    `spoken` gives the answering part. The methods, in order: the last box or the only `<answer>`,
    whichever comes later; `#### x`; an answer phrase; a sentence that chooses an option; the last
    printed line of a program's output; a reply that is only an answer. With `last_number=True` the
    last number of the text is accepted if all others fail, which is for lenient reports only.
    """
    return _extract(completion, last_number)


@lru_cache(maxsize=1024)  # agents, rewards and records read the same replies
def _extract(completion: str, last_number: bool) -> Extracted:
    start, end = spoken(completion)
    for find in METHODS if last_number else METHODS[:-1]:
        extracted = find(completion, start, end)
        if extracted.value is not None:
            return extracted
    return NOTHING


def gold_answer(text: str) -> str:
    """The reference answer in a field of a data set.

    It is the text after the last `####`, else the last box (or row of boxes), else the answer that
    a phrase in a text of several lines states ("A: 18"), else the whole field.
    """
    if "####" in text:
        return text.rsplit("####", 1)[1].strip()
    boxes = list(find_boxes(text, 0, len(text)))
    if boxes:
        return _last_boxes(text, boxes).value or ""
    stated = _phrase(text, 0, len(text)).value if "\n" in text.strip() else None
    return stated or text.strip()


def _boxed_or_tagged(text: str, start: int, end: int) -> Extracted:
    boxes = list(find_boxes(text, start, end))
    tag = _tagged(text, start, end)
    if tag and not (boxes and boxes[-1][0][1] > tag[1]):
        inner = [box for box in boxes if tag[0] <= box[0][0] and box[0][1] <= tag[1]]
        if inner:
            return _last_boxes(text, inner)
        span = _phrase(text, *tag).span or _trim(text, *tag)
        return _extracted(text, "tag", span)
    return _last_boxes(text, boxes) if boxes else NOTHING


def _tagged(text: str, start: int, end: int) -> Span | None:
    """The content of the only `<answer>` block; None if there is none or more than one."""
    tags = list(_ANSWER_TAG.finditer(text, start, end)) if "<" in text else []
    if [tag.group().lower() for tag in tags] != ["<answer>", "</answer>"]:
        return None
    return tags[0].end(), tags[1].start()


def _last_boxes(text: str, boxes: list[Box]) -> Extracted:
    """The last box; with the boxes that belong to it, they are one list."""
    group = last_group(text, boxes)
    values = list(dict.fromkeys(text[slice(*content)].strip() for _, content in group))
    span = (group[0][1][0], group[-1][1][1])
    between = "" if len(group) == 1 else text[slice(*span)]
    hedged = any(_ALTERNATIVES.search(part) for part in (*values, between))
    return Extracted(", ".join(values), "box", span, hedged)


def _hashes(text: str, start: int, end: int) -> Extracted:
    """The last `#### x`. As Markdown headings look alike, x is a number or ends the text."""
    last, text_end = None, start + len(text[start:end].rstrip())
    if "####" not in text:
        return NOTHING
    for line in _HASHES.finditer(text, start, end):
        if line.end() >= text_end or _HASH_NUMBER.fullmatch(line.group(1).strip()):
            last = line
    if last is None:
        return NOTHING
    value = last.group(1).strip()
    return Extracted(value, "hashes", last.span(1), bool(_ALTERNATIVES.search(value)))


def _phrase(text: str, start: int, end: int) -> Extracted:
    """The rest of the clause after the last "the answer is", "Answer:" or line-initial "A:"."""
    begin = _after_last_phrase(text, start, end)
    if begin is None:
        return NOTHING
    stop = _CLAUSE.search(text, begin, end)
    if stop and stop.group() == "?":  # "The answer is 5? No, ..."
        return NOTHING
    span = _trim(text, *_math_span(text, begin, end, stop.start() if stop else end))
    if _OR.match(text, span[1], end):  # "5 (or 6)" is not 5
        line_end = text.find("\n", span[1], end)
        span = _trim(text, span[0], line_end if line_end >= 0 else end)
    return _extracted(text, "phrase", span)


def _after_last_phrase(text: str, start: int, end: int) -> int | None:
    """The position after the last answer phrase; None if there is none.

    The keywords are searched from the end, as most of a text holds none of them.
    """
    last: tuple[int, int] | None = None
    for word in _KEYWORDS:
        at = text.rfind(word, start, end)
        while at >= 0 and (last is None or at > last[0]):
            phrase_end = _phrase_end(text, at=at, word=word, start=start, end=end)
            if phrase_end is not None:
                last = at, phrase_end
                break
            at = text.rfind(word, start, at)
    return last[1] if last else None


def _phrase_end(text: str, at: int, word: str, start: int, end: int) -> int | None:
    """The position after the answer phrase with the keyword `word` at `at`; None if it has none."""
    if len(word) == 2:  # "A:" counts at the start of a line
        before = text[max(start, at - 21) : at]
        if before.rpartition("\n")[2].strip(" \t") or ("\n" not in before and at - start > 21):
            return None
        blanks = _SPACE.match(text, at + 2, end)
        return blanks.end() if blanks else None
    begin = at - 1
    if begin < start or (begin > start and (text[begin - 1].isalnum() or text[begin - 1] == "_")):
        return None
    phrase = _PHRASE.match(text, begin, end)
    return phrase.end() if phrase else None


def _math_span(text: str, begin: int, end: int, stop: int) -> Span:
    """The span of an answer: math delimiters right after the phrase overrule `stop`."""
    for opening, closing in (("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$")):
        if text.startswith(opening, begin):
            close = text.find(closing, begin + len(opening), min(end, begin + 400))
            line_end = text.find("\n", begin + 2, end)
            # a lone `$`, or one whose partner belongs to the next amount, is a currency sign
            if (
                close > 0
                and (opening != "$" or line_end < 0 or close < line_end)
                and text[close - 1] != " "
            ):
                after_math = text[close + len(closing) : stop].strip(" .*")
                return (begin, stop) if after_math else (begin, close + len(closing))
    return begin, stop


def _trim(text: str, start: int, end: int) -> Span:
    """The span without surrounding blanks, Markdown emphasis and final punctuation."""
    while start < end and text[start] in " \t\n*`:_":
        start += 1
    while start < end and text[end - 1] in " \t\n*`,;._":
        end -= 1
    return start, end


def _option(text: str, start: int, end: int) -> Extracted:
    """The option in the last sentence that chooses one: "(B) is correct", "Therefore, B."."""
    last = deque(_CHOSEN.finditer(text, start, end), maxlen=1)
    if not last:
        return NOTHING
    group = last[0].lastgroup or ""
    return Extracted(last[0][group], "phrase", last[0].span(group))


def _output(text: str, start: int, end: int) -> Extracted:
    """The last line that the last program of a reply printed."""
    if "```" not in text:
        return NOTHING
    span, opening = (0, 0), None
    for fence in _FENCE.finditer(text, start, end):
        if opening is None:
            opening = fence
            continue
        if opening[1].lower() == "output":
            span = (opening.end(), fence.start())
        opening = None
    span = _trim(text, *span)
    if span[0] == span[1]:
        return NOTHING
    span = _trim(text, max(text.rfind("\n", *span) + 1, span[0]), span[1])
    value = text[slice(*span)]
    return Extracted(value, "output", span, bool(_ALTERNATIVES.search(value)))


def _whole(text: str, start: int, end: int) -> Extracted:
    """A short reply that is only an answer: a formula, a number of things, an option, one word."""
    if end - start > 4 * _MAX_WHOLE:
        return NOTHING
    span = _trim(text, start, end)
    value = text[slice(*span)]
    bare = _MACRO.sub(" ", value)
    if (
        not value
        or len(value) > _MAX_WHOLE
        or "\n" in value
        or not any(char.isalnum() for char in value)
    ):
        return NOTHING
    words = [word for word in _WORD.findall(bare) if word.lower() not in _FUNCTIONS]
    single = (
        len(words) == 1
        and words[0] == bare.strip()
        and (len(words[0]) > 2 or words[0].lower() == "no")
    )
    if "boxed" in value or "fbox" in value:  # a box that the length limit cut off
        return NOTHING
    counted = _COUNTED.fullmatch(value) and not _LINKING.intersection(words)
    if words and not single and not counted and not _OPTION.fullmatch(value):
        return NOTHING
    return Extracted(value, "whole", span)


def _last_number(text: str, start: int, end: int) -> Extracted:
    last = deque(_NUMBER.finditer(text, start, end), maxlen=1)
    return Extracted(last[0].group().strip(), "number", last[0].span()) if last else NOTHING


def _extracted(text: str, method: str, span: Span) -> Extracted:
    """The answer in a span; `NOTHING` if the span is empty."""
    value = text[slice(*span)]
    return Extracted(value, method, span, bool(_ALTERNATIVES.search(value))) if value else NOTHING


METHODS = (_boxed_or_tagged, _hashes, _phrase, _option, _output, _whole, _last_number)
