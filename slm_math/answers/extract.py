"""Extract the final answer from a model's reply, in time linear in its length.

Nothing in the reply is evaluated.
"""

from __future__ import annotations

import re
from collections import deque
from functools import lru_cache
from typing import NamedTuple

from slm_math.answers import statements
from slm_math.answers.boxes import Box, box_value, find_boxes, last_group
from slm_math.answers.choices import names_option
from slm_math.answers.sentences import only_number, unlabeled
from slm_math.answers.spoken import spoken
from slm_math.answers.statements import trim
from slm_math.answers.turns import Span, may_hold
from slm_math.answers.verdicts import stated_verdict
from slm_math.patterns import lazy_pattern
from slm_math.types import AnswerType

_ANSWER_TAG = lazy_pattern(
    r"<(?P<close>\\?/|\\)?(?:final[_ ]?)?answer>|<\|(?:begin|(?P<close_2>end))_of_box\|>",
    re.IGNORECASE,
)
_TAG_WORDS = ("answer>", "of_box")  # a text without any of these holds no `_ANSWER_TAG`
_HASHES = lazy_pattern(r"^[ \t>]*####[ \t]*(\S[^\n]*)$", re.MULTILINE)
_HASH_NUMBER = lazy_pattern(
    r"[-+$€£\\]{0,4}(?=[.,]{0,3}\d)[\d.,/]+\s?%?(?:\s[a-zA-Z]{1,15}){0,3}[.]?"
)
_NUMBER = lazy_pattern(r"[-+$€£\\]{0,4}(?=[.,]{0,3}\d)[\d.,/]+\s?%?(?:\s[a-zA-Z]{1,15}){0,3}[.]?")
# Keywords of answer phrases: they are searched from the end, then `_PHRASE` is matched there.
_KEYWORDS = ("nswer", "ns:", "NSWER", "esult", "ESULT", "ption is", "hoice is", "a:", "A:")
_PHRASE = lazy_pattern(
    r"(?:answer|result) (?:is|are|equals|comes to|(?:would|should|will|must) be)(?: that)?\b"
    r"[ \t]*:?[ \t]*\n{0,2}[ \t]*"
    r"|answer\**[ \t]*[:=]\**[ \t]*\n{0,2}[ \t]*"
    r"|(?<=final )answer\**[ \t]*\n{1,2}[ \t]*"  # a heading
    r"|ans:[ \t]*"
    r"|(?:option|choice) is:?[ \t]*(?=[*(]{0,3}(?-i:[A-Z])\b)",
    re.IGNORECASE,
)
_SPACE = lazy_pattern(r"[ \t]*")
_CLAUSE = lazy_pattern(
    r"\.(?=\s|$)|[!?](?=\s|$)|,? (?:not|because|since|which|where|so that)\b|\s\(|\n"
)
_NUMBER = lazy_pattern(
    r"(?<![\w.])(?:(?<![)\]}] )(?<![)\]}])[-−])?[$€£]?"
    r"(?:(?:\d{1,3}(?:,\d{3}){1,9}(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:/\d+)?(?:\s?\\?%)?"
)
_FENCE = lazy_pattern(r"^[ \t]*```[ \t]*([a-zA-Z]*)[^\n]*$", re.MULTILINE)
_MAX_WHOLE = 200  # characters of a reply that is only an answer
_WRAPPED = lazy_pattern(r"<(output|solution|response|final|result)>([^<]*)</\1>", re.IGNORECASE)
_WORD = lazy_pattern(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
_MACRO = lazy_pattern(
    r"\\(?:text|mbox|textbf|mathrm|operatorname|begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+"
)
_COUNTED = lazy_pattern(r"[-+$€£−]*[0-9][0-9.,/]*\s?%?(?:[ ][a-zA-Z]{2,15}){0,3}")
_CHOSEN = lazy_pattern(
    r"(?<![\w$\\])\(?(?P<said>[A-H])\)?(?:[ .:][^.\n]{1,40})?"
    r" is (?:the )?(?:correct|right|answer)\b(?!\s*\?)"
    r"|\b(?<!not )(?<!n't )(?<!never )(?<!often )(?<!you )(?:choose|pick|select|go with)"
    r" (?:option |choice |answer )?\(?(?P<chosen>[A-H])\b"
    r"|\b(?:[Tt]herefore|[Tt]hus|[Hh]ence|[Ss]o),?"
    r" (?:option |choice )?\(?(?P<so>[A-H])\)?[.!]?(?=\s*\Z)"
    r"|\bleaving (?:only )?(?:option |choice )?\(?(?P<left>[A-H])\)?[.!]?(?=\s*\Z)"
)
_WITHDRAWN = lazy_pattern(r"nswer(?: is|:)? \**\(?([A-H])\)?\**[!.,]*\s+[Nn]o\b")
_CHOSEN_ANYWHERE = lazy_pattern(
    rf"{_CHOSEN.pattern}"
    r"|(?<![不别別勿])(?:选择?|選擇?)[项項]?[ \t]*[:：]?[ \t]*[(（]?"
    r"(?P<east>[A-H])(?![A-Za-z]|[ ）)]*[或和与、，错錯])"
    r"|(?<![A-Za-z])(?P<right>[A-H])[)）]?[选選]?[项項]?(?:是|为|為)?正[确確]"
)
_OPTION = lazy_pattern(
    r"(?-i:[A-H])(?:(?:,? and |, ?| ?& ?)(?-i:[A-H]))+|\(?(?-i:[A-H])\)?(?: [-–])? \d.{0,60}"
    r"|(?:option|choice|answer)?:?\s*\(?[a-z]\)?|\(?(?-i:[A-Z])[.):] ?.{1,80}",
    re.IGNORECASE,
)
_LINKING = frozenset("and or then so is are was to the of we it plus minus times".split())  # noqa: SIM905
_FUNCTIONS = frozenset(("sqrt", "pi", "sin", "cos", "tan", "log", "ln", "exp", "inf", "infinity"))
_LABELED = lazy_pattern(
    r"^[ \t#>*]*(?:(?:the|my|so the) )?(?:final |correct )?answer[ \t*]*[:：][ \t*]*"
    r"(?P<value>\$[^$\n]{1,80}\$|\\\([^\n]{1,80}?\\\)|\\?[$€£]?[-+−]?\d[\d.,/]{0,40}(?:\s?\\?%)?)"
    r"(?:[ \t]+[a-z]{2,15}){0,2}[ \t*.]*$",
    re.IGNORECASE | re.MULTILINE,
)
_JSON_FENCE = lazy_pattern(r"(?:json)?\s*(?=\{)", re.IGNORECASE)  # the backticks are trimmed
_JSON_FIELD = lazy_pattern(
    r'answer"\s*:\s*(?:"(?P<text>(?:[^"\\]|\\.)*)"|(?P<number>-?\d[\d.eE+-]*))\s*[,}]'
)
_OR_ASIDE = lazy_pattern(r"([^()\n]{1,100})\s\(or(?:,? equivalently,?)?\s+([^\n]{1,100})\)")
_ALTERNATIVES = lazy_pattern(r"\bor\b|\beither\b|\bmaybe\b", re.IGNORECASE)


class Extracted(NamedTuple):
    """An answer and how it was found.

    `span` is its (start, end) in the reply. `hedged` says whether the reply offers several
    alternatives ("3 or 4"). `method` is one of:

    - box: `\\boxed{}`
    - tag: `<answer>`
    - hashes: `#### x`
    - json: the field "answer" of a reply that is a JSON object
    - phrase: "the answer is x"
    - output: the last line that a program in the reply printed
    - whole: the reply is only an answer
    - number: the last number of the reply, if enabled
    - verdict: "VERDICT: CORRECT", of the answer type "verdict"
    - none: no answer, `value` is None
    """

    value: str | None
    method: str
    span: Span | None
    hedged: bool = False


NOTHING = Extracted(None, "none", None)


def extract(
    completion: str, last_number: bool = False, answer_type: AnswerType = "math"
) -> Extracted:
    """The final answer of a reply, by the first method that finds one in its answering part.

    `spoken` gives the answering part. The methods, in order: the last box or the only `<answer>`,
    whichever comes later, unless a line "Answer: x" with a number or formula follows; `#### x`; the
    "answer" of a JSON object; an answer phrase; a sentence that chooses an option; the last printed
    line of a program's output; a reply that is only an answer. With `last_number=True` the last
    number of the text is accepted if all others fail, which is for lenient reports only. With
    `answer_type="mc"`, a letter that is stated after a box without a letter is the answer. With
    `answer_type="verdict"`, the verdict is (see `verdicts`); UNCLEAR is no answer.
    """
    if answer_type == "verdict":
        stated = stated_verdict(completion)
        return NOTHING if stated in (None, "UNCLEAR") else Extracted(stated, "verdict", None)
    return _extract(completion, last_number, answer_type == "mc")


@lru_cache(maxsize=1024)  # agents, rewards and records read the same replies
def _extract(completion: str, last_number: bool, choice: bool) -> Extracted:
    start, end = spoken(completion)
    if choice and len(set(_WITHDRAWN.findall(completion, start, end))) > 1:
        return NOTHING  # one letter after the other
    for find in METHODS if last_number else METHODS[:-1]:
        extracted = find(completion, start, end)
        if extracted.value is None:
            continue
        if choice and extracted.method == "box" and not names_option(extracted.value):
            after = (extracted.span or (end, end))[1]
            stated = (other(completion, after, end) for other in (_phrase, _option))
            return next((it for it in stated if it.value and names_option(it.value)), extracted)
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
        return _extracted(text, "tag", statements.stated_span(text, *tag) or trim(text, *tag))
    if not boxes:
        return NOTHING
    return _labeled_after(text, boxes[-1][0][1], end) or _last_boxes(text, boxes)


def _labeled_after(text: str, start: int, end: int) -> Extracted | None:
    """The number or formula of a line "Final answer: x" after the last box; None without one.

    The box holds an earlier step then. A letter names an option, whose value the box has.
    """
    labels = deque(_LABELED.finditer(text, start, end), maxlen=1) if ":" in text[start:end] else ()
    return _extracted(text, "phrase", trim(text, *labels[0].span("value"))) if labels else None


def _tagged(text: str, start: int, end: int) -> Span | None:
    """The content of the only `<answer>` block; None if there is none or more than one.

    A block may stand directly in another one.
    """
    if "<" not in text or not may_hold(text, _TAG_WORDS):
        return None
    tags = list(_ANSWER_TAG.finditer(text, start, end))
    half = len(tags) // 2
    closes = [bool(tag["close"] or tag["close_2"]) for tag in tags]
    if not 1 <= half <= 2 or closes != [False] * half + [True] * half:
        return None
    return tags[half - 1].end(), tags[half].start()


def _last_boxes(text: str, boxes: list[Box]) -> Extracted:
    """The last box; with the boxes that belong to it, they are one list."""
    group = last_group(text, boxes)
    values = list(dict.fromkeys(box_value(text, box) for box in group))
    span = (group[0][1][0], group[-1][1][1])
    between = "" if len(group) == 1 else text[slice(*span)]
    hedged = any(_ALTERNATIVES.search(part) for part in (*values, between))
    return Extracted(", ".join(map(_reduced, values)), "box", span, hedged)


def _json(text: str, start: int, end: int) -> Extracted:
    """The field "answer" of a reply that is a JSON object, with or without a fence."""
    if 'answer"' not in text:
        return NOTHING
    span = trim(text, start, end)
    fenced = _JSON_FENCE.match(text, *span)
    if not text.startswith("{", fenced.end() if fenced else span[0]) or text[span[1] - 1] != "}":
        return NOTHING
    at = max(text.rfind(f'{name}answer"', *span) for name in ('"', '"final_', '"final '))
    field = _JSON_FIELD.search(text, at, span[1]) if at >= 0 else None
    if field is None:
        return NOTHING
    group = field.lastgroup or ""
    value = field[group].replace("\\\\", "\\").replace('\\"', '"').strip()
    if not value:
        return NOTHING
    return Extracted(_reduced(value), "json", field.span(group), bool(_ALTERNATIVES.search(value)))


def _hashes(text: str, start: int, end: int) -> Extracted:
    """The last `#### x`. As Markdown headings look alike, x is a number or ends the text."""
    at = text.rfind("####", start, end)
    text_end = start + len(text[start:end].rstrip()) if at >= 0 else end
    while at >= 0:
        begin = text.rfind("\n", 0, at) + 1
        line = _HASHES.match(text, begin, end) if begin >= start else None
        if line and (line.end() >= text_end or _HASH_NUMBER.fullmatch(line.group(1).strip())):
            value = unlabeled(line.group(1))
            return Extracted(value, "hashes", line.span(1), bool(_ALTERNATIVES.search(value)))
        at = text.rfind("####", start, begin)
    return NOTHING


def _phrase(text: str, start: int, end: int) -> Extracted:
    """What the last answer phrase states; of a sentence with one number, the number."""
    span = statements.stated_span(text, start, end)
    if span and "\n" in text[slice(*span)]:
        value = statements.bulleted(text[slice(*span)])
        return Extracted(value, "phrase", span, bool(_ALTERNATIVES.search(value)))
    return _extracted(text, "phrase", span) if span else NOTHING


def _option(text: str, start: int, end: int) -> Extracted:
    """The option in the last sentence that chooses one: "(B) is correct", "Therefore, B."."""
    pattern = _CHOSEN if text.isascii() else _CHOSEN_ANYWHERE
    last = deque(pattern.finditer(text, start, end), maxlen=1)
    if not last or statements.taken_back(text, last[0].end(), end):
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
    span = trim(text, *span)
    if span[0] == span[1]:
        return NOTHING
    span = trim(text, max(text.rfind("\n", *span) + 1, span[0]), span[1])
    value = text[slice(*span)]
    return Extracted(_reduced(value), "output", span, bool(_ALTERNATIVES.search(value)))


def _whole(text: str, start: int, end: int) -> Extracted:
    """A short reply that is only an answer: a formula, a number of things, an option, one word."""
    if end - start > 4 * _MAX_WHOLE:
        return NOTHING
    span = trim(text, start, end)
    wrapped = _WRAPPED.fullmatch(text, *span)
    span = trim(text, *wrapped.span(2)) if wrapped else span
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
    return Extracted(unlabeled(value), "whole", span)


def _last_number(text: str, start: int, end: int) -> Extracted:
    last = deque(_NUMBER.finditer(text, start, end), maxlen=1)
    return Extracted(last[0].group().strip(), "number", last[0].span()) if last else NOTHING


def _extracted(text: str, method: str, span: Span) -> Extracted:
    """The answer in a span; `NOTHING` if the span is empty."""
    value = text[slice(*span)]
    if not value:
        return NOTHING
    return Extracted(_reduced(value), method, span, bool(_ALTERNATIVES.search(value)))


def _reduced(value: str) -> str:
    """An answer without labels; of a sentence with one number, the number."""
    bare = unlabeled(value)
    if aside := _OR_ASIDE.fullmatch(bare):
        bare = f"{aside[1]} or {aside[2]}"
    return (only_number(bare) or bare) if " " in bare else bare


METHODS = (_boxed_or_tagged, _hashes, _json, _phrase, _option, _output, _whole, _last_number)
