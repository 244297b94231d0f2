"""The verdict in a verifier's reply: CORRECT, INCORRECT or UNCLEAR. In doubt, never CORRECT."""

from __future__ import annotations

import re
import unicodedata

from slm_math.patterns import lazy_pattern

DECISIONS = ("CORRECT", "INCORRECT")  # the verdicts that answer a question
_WORD = r"(IN ?CORRECT|CORRECT|UNCLEAR|ACCEPT(?:ED)?|REJECT(?:ED)?)"
_MARK = lazy_pattern(
    rf"\bVERDICT\b(?:\s+is)?\s*[:=]|\bVERDICT\s+(?=(?:NOT\s+)?{_WORD}\b)", re.IGNORECASE
)
# words that may lead up to a verdict and do not change it
_LEAD = (
    r"it|this|the|that|is|are|so|yes|final|proposed|given|provided|above|answer|solution|student's|of|to|problem|"
    r"all|every|each|steps?|and|completely|entirely|fully|therefore|overall|\$?[\d.,/]+\$?"
)
_STATED = lazy_pattern(rf"\W*(?:(?:{_LEAD})\W+){{0,9}}(NOT\W+(?:\w+\W+)?)?{_WORD}\b", re.IGNORECASE)
_ASKED = lazy_pattern(r"\W*(?:is|are|was)\b", re.IGNORECASE)
_ALONE = lazy_pattern(rf"[^\w?~¬]*(NOT\W+)?{_WORD}[^\w?~¬]*", re.IGNORECASE)
_REFUSED = lazy_pattern(r"\bIN ?CORRECT\b|\bREJECT(?:ED)?\b|\bNOT\s+(?:\w+\s+)?CORRECT\b")
_PRAISE = lazy_pattern(
    r"\b(?:no|without|nothing|free of|not? any)\s+(?:\w+\s+){0,2}?"
    r"(?:errors?|mistakes?|issues?|flaws?|objections?|wrong|incorrect|missing)\b",
    re.IGNORECASE,
)
_REASON = lazy_pattern(r"\b(?:because|since|as)\b.*", re.IGNORECASE)
# words that withdraw an approval, limit it, or offer an alternative
_DOUBT = lazy_pattern(
    r"\b(?:not|never|no|neither|nor|cannot|wrong|false|part\w*|almost|nearly|mostly|or|but|however|except|unless|if|"
    r"only|al?though|though|yet|should|would|could|might|may|errors?|mista\w*|fail\w*|bad|erroneous|flaw\w*|until|"
    r"up to|wait|un\w+|in "
    r"?correct|reject\w*|instead|rather|except\w*|still|despite)\b|n't\b|-ish\b|[?❌✗✘¬≠%]|~~",
    re.IGNORECASE,
)
_THING = lazy_pattern(r"\s*(?:final\s+)?(?:answers?|solution|result)\b", re.IGNORECASE)
_OTHER = lazy_pattern(
    r"\s*(?:is|are|was|would|final|method|reasoning|approach|way|value|number|one|idea|formula|set-?up|steps?)\b",
    re.IGNORECASE,
)
_MEANS = {
    "ACCEPT": "CORRECT",
    "ACCEPTED": "CORRECT",
    "REJECT": "INCORRECT",
    "REJECTED": "INCORRECT",
}


def verdict(text: str) -> str:
    """CORRECT, INCORRECT or UNCLEAR.

    What follows the last "VERDICT:" on its line counts. Without that mark, capitals that say
    INCORRECT count, or else the last line that is nothing but a verdict. ACCEPT means CORRECT;
    REJECT and "NOT CORRECT" mean INCORRECT. Negated, hedged, limited ("CORRECT up to step 3") or
    multiple verdicts ("CORRECT or INCORRECT") are UNCLEAR, and so are those about something else
    ("the correct answer is 5").
    """
    return stated_verdict(text) or "UNCLEAR"


def stated_verdict(text: str) -> str | None:
    """The verdict that a text states; None if it states none."""
    plain = _plain(text)
    marks = list(_MARK.finditer(plain))
    if len(marks) > 1 and "\n" not in plain[marks[-2].end() : marks[-1].start()]:
        return "UNCLEAR"  # several on one line repeat the choices of the prompt
    if marks:
        return _after_mark(plain[marks[-1].end() :])
    if _REFUSED.search(plain):
        return "INCORRECT"
    for line in reversed(plain.splitlines()):
        if alone := _ALONE.fullmatch(line):
            return _meaning(alone[2], alone[1])
    return None


def marked_verdict(text: str) -> str | None:
    """The verdict of a reply that hit the length limit: only one after a "VERDICT:" counts."""
    return stated_verdict(text) if _MARK.search(_plain(text)) else None


def _after_mark(after: str) -> str | None:
    """The verdict on the first line that is not blank; a later INCORRECT withdraws an approval."""
    lines = [line for line in after.splitlines() if line.strip()]
    stated = _STATED.match(lines[0]) if lines else None
    if stated is None or _ASKED.match(lines[0]):
        return None
    decision, rest = _meaning(stated[2], stated[1]), lines[0][stated.end() :]
    if decision != "CORRECT":
        return "UNCLEAR" if _is_choice(rest) else decision
    if re.search(r"[¬❌✗✘]|~~|[~!]\s*CORRECT", lines[0], re.IGNORECASE) or any(
        _REFUSED.search(_PRAISE.sub("", line)) for line in lines[1:]
    ):
        return "UNCLEAR"
    return decision if _confirms(rest) else "UNCLEAR"


def _confirms(rest: str) -> bool:
    """Whether the rest of the line after an approval does not change it."""
    if thing := _THING.match(rest):
        return not re.search(r"\w", rest[thing.end() :])
    rest = _PRAISE.sub("", rest)
    if _OTHER.match(rest):
        return False
    return _DOUBT.search(_REASON.sub("", rest)) is None


def _is_choice(rest: str) -> bool:
    """Whether the rest of the line after a verdict offers another one."""
    return re.match(r"\W*(?:\bor\b)?\W*(?:IN ?)?CORRECT\b", rest, re.IGNORECASE) is not None


def _meaning(word: str, negation: str | None) -> str:
    decision = word.upper().replace(" ", "")
    decision = _MEANS.get(decision, decision)
    return {"CORRECT": "INCORRECT"}.get(decision, "UNCLEAR") if negation else decision


def _plain(text: str) -> str:
    """The text without emphasis, invisible characters and dashes within INCORRECT."""
    visible = "".join(
        character
        for character in unicodedata.normalize("NFKC", text)
        if unicodedata.category(character) != "Cf"
    )
    visible = re.sub(r"\\(?:boxed|text\w*|math\w+)\s*\{|[*_`\[\]{}]", "", visible).replace("’", "'")
    return re.sub(r"\b(in|non)\s*[-‐‑‒–—]\s*(correct)", r"in\2", visible, flags=re.IGNORECASE)
