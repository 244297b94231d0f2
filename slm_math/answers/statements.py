"""Find answer phrases, such as "the answer is x" and "x is the answer", and what they state."""

from __future__ import annotations

import re

from slm_math.answers.languages import last_label, without_ending
from slm_math.answers.turns import Span

# Keywords of answer phrases: they are searched from the end, then `_PHRASE` is matched there.
_KEYWORDS = ("nswer", "ns:", "NSWER", "esult", "ESULT", "ption is", "hoice is", "a:", "A:")
_BLANKS = r"[ \t]*\n{0,2}[ \t]*"
_ASIDE = r"(?:[ \t]*[(\[][^()\[\]\n]{1,60}[)\]]\**)?"  # "Answer (as a fraction): 3/4"
_TO = r"(?: to (?:the|this|your|our) (?:[a-z]{2,12} )?(?:problem|question|exercise|equation))?"
_PHRASE = re.compile(
    rf"(?:answer|result){_TO}{_ASIDE} (?:is|are|equals|comes to|(?:would|should|will|must) be)"
    rf"(?: that)?\b[ \t]*[:：]?{_BLANKS}"
    rf"|answer\**{_ASIDE}[ \t]*(?:[:=：→]|->)\**{_BLANKS}"
    r"|(?<=final )answer\**[ \t]*\n{1,2}[ \t]*"  # a heading
    r"|ans:[ \t]*"
    r"|(?:option|choice) is:?[ \t]*(?:\**(?:option|choice) )?(?=[*(]{0,3}(?-i:[A-Z])\b)",
    re.IGNORECASE,
)
# What stands before "answer" when the phrase states none: "a wrong answer is 5", "if the answer is"
_UNMEANT = re.compile(
    r"\b(?:incorrect|wrong|false|mistaken|erroneous|invalid|tempting|naive|careless|bad|worst)"
    r"(?: final)? $"
    r"|\b(?:if|whether|suppose(?: that)?|assuming(?: that)?|unless)(?: (?:the|your|my|an))?"
    r"(?: (?:final|correct))? $"
    r"|\b(?:might|may|could|would)(?: \w+)? (?:think|say|guess|believe|assume|claim|conclude)\b"
    r"[^.!?\n]{0,20}$|\btempt[a-z]{2,3}\b[^.!?\n]{0,40}$",
    re.IGNORECASE,
)
# a text without any of these holds no `_UNMEANT`
_HINTS = (
    "rong", "orrec", "alse", "istak", "rroneo", "nvalid", "empt", "aive", "areless", "ad ", "orst",
    "f ", "hether", "uppose", "ssum", "nless", "think", "say", "guess", "elieve", "laim", "onclude",
    "WRONG", "ORREC", "BAD", "IF ",
)  # fmt: skip
# "Answer:", and then the label of something else
_EMPTY = re.compile(
    r"[*\s]*(?:confidence|explanation|reasoning|justification|note|probability|certainty)"
    r"(?: level| score)?\**[ \t]*:",
    re.IGNORECASE,
)
# A list after "The answer is:", without sentences
_BULLETS = re.compile(r"([-*•] +)[^\n]{1,80}(?:\n[ \t]*[-*•] +[^\n]{1,80})*")
_NEXT_BULLET = re.compile(r"\s*\n[ \t]*[-*•] +")
_PROSE = re.compile(r"(?:[a-zA-Z]{2,},? ){4}")
_SPACE = re.compile(r"[ \t]*")
_CLAUSE = re.compile(
    r"\.(?=\s|$)|[!?](?=\s|$)|,? (?:not|because|since|which|where|so that)\b|\s\(|\n"
)
_CLAUSE_ANYWHERE = re.compile(
    rf"{_CLAUSE.pattern}|[。！；？؟।]|[，、،](?![ \t]*[-−+$\\(（\d]|[a-zA-Z]\b)"
)
_OR = re.compile(r"[ .,*$]{0,4}\(?(?:or|maybe|perhaps|possibly)\b", re.IGNORECASE)
# "The answer is 5. No, wait": the answer is taken back
_TAKEN_BACK = re.compile(
    r"[\s.!*$\\)\]]{0,8}(?:(?:oh|hmm+|ah)[,.!]? )?"
    r"(?:no,|no!|no\.\.|no wait|wait[,.!]? no\b|actually,? no\b|oops|correction\b|scratch that"
    r"|no (?:it|that) (?:is|was|should)"
    r"|wait[,.!]? (?:it|that|the answer)(?:'s| is| should)(?! (?:right|correct|indeed))"
    r"|actually,? it'?s\b|sorry\b|(?:but )?(?:that|this) is (?:wrong|not right|incorrect)"
    r"|nein\b|nee,|non,|нет\b|いや|不对|不對|不，|，不对|，不對)"
    r"|[。\s]{0,3}(?:不对|不對|いや|です。いや)",
    re.IGNORECASE,
)
# "50 is the answer", read backwards from "answer"
_IS_THE = re.compile(r" is (?:the|our|my)(?: (?:final|correct|right|required|desired))* \Z")
_BEFORE_IS = re.compile(
    r"(?:(?P<math>\$[^$\n]{1,80}\$|\\\([^\n]{1,80}?\\\))"
    r"|(?<![\w.,/*^+×÷·=<>≤≥-])(?<![-+*/^×÷·<>≤≥] )(?:\*\*)?(?P<number>[-−]?[$€£]?"
    r"(?:\d{1,3}(?:,\d{3}){1,5}|\d{1,30})(?:\.\d{1,20})?(?:/\d{1,20})?%?"
    r"(?: [a-z]{2,15}){0,2}))\**\Z"
)
_DOUBTED = re.compile(
    r"\b(?:not|never|nor|neither|if|whether|unless|doubt|suppose|assum\w+|maybe|perhaps|possibly|might"
    r"|may|could|cannot|can't|why|or|either|check|verify|think|thought|claim\w*|guess\w*|wrong|says?"
    r"|said|false|lie|write|wrote|looks?|seems?|\w+n't)\b",
    re.IGNORECASE,
)
_AFTER_IS = re.compile(
    r"[*]*(?:[.!;:*]|,(?! but\b)|\s*\Z|\s*\n| (?:for|of|because|since|and|so)\b"
    r"| to (?:the|this|your|our)\b)"
)


# the end of a command that was open around the phrase
_OPEN_COMMAND = re.compile(r"\s{0,3}\}[\s*]{0,8}")


def stated_span(text: str, start: int, end: int) -> Span | None:
    """The span of the answer that the last answer phrase states; None without one."""
    phrase_end = after_last_phrase(text, start, end)
    span = None if phrase_end is None else answer_span(text, phrase_end, end)
    return span or (_answer_before(text, start, end) if phrase_end is None else None)


def answer_span(text: str, begin: int, end: int) -> Span | None:
    """The rest of the clause after an answer phrase; None if the answer is doubted or missing."""
    if closing := _OPEN_COMMAND.match(text, begin, end):  # \\textbf{Final answer:} 5
        begin = closing.end()
    if _EMPTY.match(text, begin, end):
        return None
    bullets = _BULLETS.match(text, begin, end) if "\n" in text[begin - 3 : begin] else None
    if bullets and not _PROSE.search(bullets.group()):
        return trim(text, begin + len(bullets[1]), bullets.end())
    stop = (_CLAUSE if text.isascii() else _CLAUSE_ANYWHERE).search(text, begin, end)
    if stop and stop.group() in "?？؟":  # "The answer is 5? No, ..."
        return None
    span = trim(text, *_math_span(text, begin, end, stop.start() if stop else end))
    if not text.isascii():
        span = span[0], without_ending(text, *span)
    if taken_back(text, span[1], end):
        return None
    if _OR.match(text, span[1], end):  # "5 (or 6)" is not 5
        line_end = text.find("\n", span[1], end)
        span = trim(text, span[0], line_end if line_end >= 0 else end)
    return span if span[0] < span[1] else None


def taken_back(text: str, start: int, end: int) -> bool:
    """Whether the text right after an answer takes it back: "No, wait"."""
    return _TAKEN_BACK.match(text, start, end) is not None


def bulleted(value: str) -> str:
    """A list of lines as a list in one line."""
    return ", ".join(item.strip(" .,;") for item in _NEXT_BULLET.split(value))


def after_last_phrase(text: str, start: int, end: int) -> int | None:
    """The position after the last answer phrase of any language; None if there is none.

    The keywords are searched from the end, as most of a text holds none of them.
    """
    last: tuple[int, int] | None = None
    for word in _KEYWORDS:
        if word not in text:  # far faster than to search from the end
            continue
        at = text.rfind(word, start, end)
        while at >= 0 and (last is None or at > last[0]):
            phrase_end = _phrase_end(text, at=at, word=word, start=start, end=end)
            if phrase_end is not None:
                last = at, phrase_end
                break
            at = text.rfind(word, start, at)
    label = last_label(text, start, end, english=last is not None)
    if label and (last is None or label[0] > last[0]):
        last = label
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
    if phrase is None:
        return None
    before = text[max(start, begin - 80) : begin]
    return (
        None if any(map(before.__contains__, _HINTS)) and _UNMEANT.search(before) else phrase.end()
    )


def _answer_before(text: str, start: int, end: int) -> Span | None:
    """The answer in the last "x is the answer", where x is a number or one formula."""
    at = text.rfind("nswer", start, end)
    while at >= 0:
        link = _IS_THE.search(text[max(start, at - 60) : at - 1])
        if link and _AFTER_IS.match(text, at + len("nswer"), end):
            stop = at - 1 - len(link.group())
            line = max(text.rfind("\n", start, stop) + 1, start, stop - 200)
            value = _BEFORE_IS.search(text[line:stop])
            if value and not _DOUBTED.search(text[line:stop]):
                return trim(text, line + value.start(), line + value.end())
        at = text.rfind("nswer", start, at)
    return None


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


def trim(text: str, start: int, end: int) -> Span:
    """The span without surrounding blanks, Markdown emphasis, final punctuation and backslashes,
    and without the end of a command that begins before it.
    """
    while start < end and text[start] in " \t\n*`:_：":
        start += 1
    endings = " \t\n*`,;._\\。，；"
    while start < end and (text[end - 1] in endings or _closes_more(text, start, end)):
        end -= 1
    return start, end


def _closes_more(text: str, start: int, end: int) -> bool:
    """Whether a span ends with a brace that opens before it."""
    return text[end - 1] == "}" and text.count("}", start, end) > text.count("{", start, end)
