"""Find the final answer in a model's reply, in one pass over the text: no backtracking, no
evaluation.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from slm_math.answers.spoken import Span, spoken

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])[ \t]*")
_BARE_BOX = re.compile(r"[^\s{}$\\,;]+")
_JOIN = re.compile(
    r"(?:[\s,;$&*|/~()]|\\\\|\\[()\[\],;! ]|\\quad|\\qquad|\\text\{\s*(?:and|or)\s*\}"
    r"|\b(?:and|or|maybe|perhaps|possibly)\b|\b[a-zA-Z](?:_\{?\w\}?)? ?=)*"
)
_ANSWER_TAG = re.compile(r"<answer>|</answer>", re.IGNORECASE)
_HASHES = re.compile(r"^[ \t>]*####[ \t]*(\S[^\n]*)$", re.MULTILINE)
_HASH_NUMBER = re.compile(
    r"[-+$€£\\]{0,4}(?=[.,]{0,3}\d)[\d.,/]+\s?%?(?:\s[a-zA-Z]{1,15}){0,3}[.]?"
)
# The words that a phrase turns on, found from the end of the text, and what must follow them
_TURNS = ("nswer", "ns:", "NSWER", "esult", "ESULT", "ption is", "hoice is", "a:", "A:")
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
_MAX_WHOLE = 200  # characters; a reply that is nothing but an answer is short
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
_MACRO = re.compile(
    r"\\(?:text|mbox|textbf|mathrm|operatorname|begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+"
)
_COUNTED = re.compile(r"[-+$€£−]*[0-9][0-9.,/]*\s?%?(?:[ ][a-zA-Z]{2,15}){0,3}")
_CHOSEN = re.compile(
    r"(?<![\w$\\])\(?(?P<said>[A-H])\)?(?:[ .:][^.\n]{1,40})? is (?:the "
    r")?(?:correct|right|answer)\b"
    r"|\b(?:choose|pick|select|go with) (?:option |choice |answer )?\(?(?P<chosen>[A-H])\b"
    r"|\b(?:[Tt]herefore|[Tt]hus|[Hh]ence|[Ss]o),? (?:option |choice "
    r")?\(?(?P<so>[A-H])\)?[.!]?(?=\s*\Z)"
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
    """An answer and where it stood: `span` are its characters, and `method` is one of

    box (`\\boxed{}`), tag (`<answer>`), hashes (`#### x`), phrase ("the answer is x"), output (what
    a program of the reply printed), whole (the reply is nothing but an answer), number (the last
    one, only when enabled), none. `hedged` says that several alternatives were offered ("3 or 4").
    """

    value: str | None
    method: str
    span: Span | None
    hedged: bool = False


NOTHING = Extracted(None, "none", None)


def extract(completion: str, last_number: bool = False) -> Extracted:
    """The final answer of a reply: the first of these that it holds, looked for where it speaks
    (`spoken`).

    The last box or the only `<answer>`, whichever comes later; `#### x`; an answer phrase, or a
    sentence that chooses an option; the last printed line of a program's output; a reply that is
    nothing but an answer. Takes time linear in the length of the text.

    With `last_number=True` the last number of the text is taken when all else is missing: lenient
    reports only.
    """
    start, end = spoken(completion)
    for find in METHODS if last_number else METHODS[:-1]:
        found = find(completion, start, end)
        if found.value is not None:
            return found
    return NOTHING


def gold_answer(text: str) -> str:
    """The reference answer of a field: after the last `####`, else the last box (or row of boxes),
    else all.

    Of several lines without either, what an answer phrase at their end states ("A: 18"), if one
    does.
    """
    if "####" in text:
        return text.rsplit("####", 1)[1].strip()
    boxes = list(_boxes(text, 0, len(text)))
    if boxes:
        return _last_boxes(text, boxes).value or ""
    stated = _phrase(text, 0, len(text)).value if "\n" in text.strip() else None
    return stated or text.strip()


def _boxes(text: str, start: int, end: int) -> Iterator[tuple[Span, Span]]:
    """(whole box, its content) for every outermost, balanced, non-empty box, in order."""
    first = _BOX.search(text, start, end) if "box" in text else None
    if first is None:
        return
    closing = _brace_pairs(text, first.start(), end)
    done = start
    for box in _BOX.finditer(text, first.start(), end):
        if box.start() < done:
            continue
        if box.end() < end and text[box.end()] == "{":
            close = closing.get(box.end())
            if close is None or not text[box.end() + 1 : close].strip():
                continue
            content, done = (box.end() + 1, close), close + 1
        else:
            bare = _BARE_BOX.match(text, box.end(), end)
            if bare is None:
                continue
            content, done = bare.span(), bare.end()
        yield (box.start(), done), content


def _brace_pairs(text: str, start: int, end: int) -> dict[int, int]:
    """Position of each closed `{` -> position of its `}`; escaped braces are characters, not
    delimiters.
    """
    pairs: dict[int, int] = {}
    stack: list[int] = []
    for brace in re.finditer(r"\\.|[{}]", text[start:end], re.DOTALL):
        at = start + brace.start()
        if brace.group() == "{":
            stack.append(at)
        elif brace.group() == "}" and stack:
            pairs[stack.pop()] = at
    return pairs


def _boxed_or_tagged(text: str, start: int, end: int) -> Extracted:
    boxes = list(_boxes(text, start, end))
    tag = _tagged(text, start, end)
    if tag and not (boxes and boxes[-1][0][1] > tag[1]):
        inner = [box for box in boxes if tag[0] <= box[0][0] and box[0][1] <= tag[1]]
        if inner:
            return _last_boxes(text, inner)
        said = _phrase(text, *tag)
        span = said.span or _trim(text, *tag)
        value = text[slice(*span)]
        return (
            Extracted(value, "tag", span, bool(_ALTERNATIVES.search(value))) if value else NOTHING
        )
    return _last_boxes(text, boxes) if boxes else NOTHING


def _tagged(text: str, start: int, end: int) -> Span | None:
    """The content of the only `<answer>` block; several blocks are not an answer but an attempt to
    offer many.
    """
    tags = list(_ANSWER_TAG.finditer(text, start, end)) if "<" in text else []
    if [tag.group().lower() for tag in tags] != ["<answer>", "</answer>"]:
        return None
    return tags[0].end(), tags[1].start()


def _last_boxes(text: str, boxes: list[tuple[Span, Span]]) -> Extracted:
    """The last box, with the boxes right before it when only separators stand between: together
    they are one list.
    """
    group = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        gap = text[box[0][1] : group[-1][0][0]]
        if len(gap) > 100 or not _JOIN.fullmatch(gap):
            break
        group.append(box)
    group.reverse()
    values = list(dict.fromkeys(text[slice(*content)].strip() for _, content in group))
    span = (group[0][1][0], group[-1][1][1])
    between = "" if len(group) == 1 else text[slice(*span)]
    hedged = any(_ALTERNATIVES.search(part) for part in (*values, between))
    return Extracted(", ".join(values), "box", span, hedged)


def _hashes(text: str, start: int, end: int) -> Extracted:
    """The last `#### x`. A Markdown heading looks alike, so x is a number, or the
    text's last line.
    """
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
    """What follows the last "the answer is", "Answer:" or line-initial "A:", up to the end of the
    clause.
    """
    begin = _after_last_phrase(text, start, end)
    if begin is None:
        return NOTHING
    stop = _CLAUSE.search(text, begin, end)
    if stop and stop.group() == "?":  # "The answer is 5? No, ..."
        return NOTHING
    span = _trim(text, *_math_span(text, begin, end, stop.start() if stop else end))
    if _OR.match(text, span[1], end):  # "5 (or 6)" is no 5
        line_end = text.find("\n", span[1], end)
        span = _trim(text, span[0], line_end if line_end >= 0 else end)
    value = text[slice(*span)]
    return Extracted(value, "phrase", span, bool(_ALTERNATIVES.search(value))) if value else NOTHING


def _after_last_phrase(text: str, start: int, end: int) -> int | None:
    """Where the last answer phrase ends; its key words are looked for from behind, as most of a
    text holds none.
    """
    last: tuple[int, int] | None = None
    for word in _TURNS:
        at = text.rfind(word, start, end)
        while at >= 0 and (last is None or at > last[0]):
            found = _phrase_at(text, at, word, start, end)
            if found is not None:
                last = at, found
                break
            at = text.rfind(word, start, at)
    return last[1] if last else None


def _phrase_at(text: str, at: int, word: str, start: int, end: int) -> int | None:
    if len(word) == 2:  # "A:" counts at the start of a line
        before = text[max(start, at - 21) : at]
        if before.rpartition("\n")[2].strip(" \t") or ("\n" not in before and at - start > 21):
            return None
        found = _SPACE.match(text, at + 2, end)
        return found.end() if found else None
    begin = at - 1
    if begin < start or (begin > start and (text[begin - 1].isalnum() or text[begin - 1] == "_")):
        return None
    found = _PHRASE.match(text, begin, end)
    return found.end() if found else None


def _math_span(text: str, begin: int, end: int, stop: int) -> Span:
    """Math delimiters right after the phrase decide where the answer ends, not the full stop within
    them.
    """
    for opening, closing in (("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$")):
        if text.startswith(opening, begin):
            close = text.find(closing, begin + len(opening), min(end, begin + 400))
            line_end = text.find("\n", begin + 2, end)
            # a lone `$` is a currency sign, and so is one whose partner belongs to the next amount
            if (
                close > 0
                and (opening != "$" or line_end < 0 or close < line_end)
                and text[close - 1] != " "
            ):
                rest = text[close + len(closing) : stop].strip(" .*")
                return (begin, stop) if rest else (begin, close + len(closing))
    return begin, stop


def _trim(text: str, start: int, end: int) -> Span:
    """The span without surrounding blanks, Markdown emphasis and final punctuation."""
    while start < end and text[start] in " \t\n*`:_":
        start += 1
    while start < end and text[end - 1] in " \t\n*`,;._":
        end -= 1
    return start, end


def _option(text: str, start: int, end: int) -> Extracted:
    """The option of the last sentence that chooses one: "(B) is correct", "I choose B", "Therefore,
    B.".
    """
    last = deque(_CHOSEN.finditer(text, start, end), maxlen=1)
    if not last:
        return NOTHING
    group = last[0].lastgroup or ""
    return Extracted(last[0][group], "phrase", last[0].span(group))


def _output(text: str, start: int, end: int) -> Extracted:
    """The last line that the last program of a reply printed."""
    if "```" not in text:
        return NOTHING
    span, opened = (0, 0), None
    for fence in _FENCE.finditer(text, start, end):
        if opened is None:
            opened = fence
            continue
        if opened[1].lower() == "output":
            span = (opened.end(), fence.start())
        opened = None
    span = _trim(text, *span)
    if span[0] == span[1]:
        return NOTHING
    span = _trim(text, max(text.rfind("\n", *span) + 1, span[0]), span[1])
    value = text[slice(*span)]
    return Extracted(value, "output", span, bool(_ALTERNATIVES.search(value)))


def _whole(text: str, start: int, end: int) -> Extracted:
    """A short reply that is an answer and nothing else: a formula, a number of things, an option,
    one word.
    """
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
    if "boxed" in value or "fbox" in value:  # one that is cut off
        return NOTHING
    counted = _COUNTED.fullmatch(value) and not _LINKING.intersection(words)
    if words and not single and not counted and not _OPTION.fullmatch(value):
        return NOTHING
    return Extracted(value, "whole", span)


def _last_number(text: str, start: int, end: int) -> Extracted:
    found = deque(_NUMBER.finditer(text, start, end), maxlen=1)
    return Extracted(found[0].group().strip(), "number", found[0].span()) if found else NOTHING


METHODS = (_boxed_or_tagged, _hashes, _phrase, _option, _output, _whole, _last_number)
