"""What a verifier's text says: CORRECT, INCORRECT or UNCLEAR. In doubt, never CORRECT."""

from __future__ import annotations

import re
import unicodedata

_WORD = r"(IN ?CORRECT|CORRECT|UNCLEAR|ACCEPT(?:ED)?|REJECT(?:ED)?)"
_MARK = re.compile(
    rf"\bVERDICT\b(?:\s+is)?\s*[:=]|\bVERDICT\s+(?=(?:NOT\s+)?{_WORD}\b)", re.IGNORECASE
)
# what may lead up to a verdict and says nothing itself
_LEAD = (
    r"it|this|the|that|is|are|so|yes|final|proposed|given|provided|above|answer|solution|student's|of|to|problem|"
    r"all|every|each|steps?|and|completely|entirely|fully|therefore|overall|\$?[\d.,/]+\$?"
)
_STATED = re.compile(rf"\W*(?:(?:{_LEAD})\W+){{0,9}}(NOT\W+(?:\w+\W+)?)?{_WORD}\b", re.IGNORECASE)
_ASKED = re.compile(r"\W*(?:is|are|was)\b", re.IGNORECASE)
_ALONE = re.compile(rf"[^\w?~¬]*(NOT\W+)?{_WORD}[^\w?~¬]*", re.IGNORECASE)
_REFUSED = re.compile(r"\bIN ?CORRECT\b|\bREJECT(?:ED)?\b|\bNOT\s+(?:\w+\s+)?CORRECT\b")
_PRAISE = re.compile(
    r"\b(?:no|without|nothing|free of|not? any)\s+(?:\w+\s+){0,2}?"
    r"(?:errors?|mistakes?|issues?|flaws?|objections?|wrong|incorrect|missing)\b",
    re.IGNORECASE,
)
_REASON = re.compile(r"\b(?:because|since|as)\b.*", re.IGNORECASE)
# a word that takes an approval back, bounds it, or offers another
_DOUBT = re.compile(
    r"\b(?:not|never|no|neither|nor|cannot|wrong|false|part\w*|almost|nearly|mostly|or|but|however|except|unless|if|"
    r"only|al?though|though|yet|should|would|could|might|may|errors?|mista\w*|fail\w*|bad|erroneous|flaw\w*|until|"
    r"up to|wait|un\w+|in "
    r"?correct|reject\w*|instead|rather|except\w*|still|despite)\b|n't\b|-ish\b|[?❌✗✘¬≠%]|~~",
    re.IGNORECASE,
)
_THING = re.compile(r"\s*(?:final\s+)?(?:answers?|solution|result)\b", re.IGNORECASE)
_OTHER = re.compile(
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

    What follows the last "VERDICT:", on its line, counts. Without that mark, the last line that is
    nothing but a verdict; INCORRECT where that is said in capitals. ACCEPT is CORRECT, REJECT and
    "NOT CORRECT" are INCORRECT; whatever is denied, doubted, bounded ("CORRECT up to step 3"),
    offered as a choice ("CORRECT or INCORRECT") or said of something else ("the correct answer is
    5") is UNCLEAR.
    """
    return decided(text) or "UNCLEAR"


def decided(text: str) -> str | None:
    """The verdict that a text states, None when it states none."""
    plain = _plain(text)
    marks = list(_MARK.finditer(plain))
    if len(marks) > 1 and "\n" not in plain[marks[-2].end() : marks[-1].start()]:
        return "UNCLEAR"  # several on one line: the choices repeated
    if marks:
        return _after_mark(plain[marks[-1].end() :])
    if _REFUSED.search(plain):
        return "INCORRECT"
    for line in reversed(plain.splitlines()):
        if alone := _ALONE.fullmatch(line):
            return _meaning(alone[2], alone[1])
    return None


def certain(text: str) -> str | None:
    """The verdict of a text that was cut off: only one after a mark counts."""
    return decided(text) if _MARK.search(_plain(text)) else None


def _after_mark(after: str) -> str | None:
    """The verdict on the first line that says something; a later INCORRECT takes an
    approval back.
    """
    lines = [line for line in after.splitlines() if line.strip()]
    found = _STATED.match(lines[0]) if lines else None
    if found is None or _ASKED.match(lines[0]):
        return None
    said, rest = _meaning(found[2], found[1]), lines[0][found.end() :]
    if said != "CORRECT":
        return "UNCLEAR" if _choice(rest) else said
    if re.search(r"[¬❌✗✘]|~~|[~!]\s*CORRECT", lines[0], re.IGNORECASE) or any(
        _REFUSED.search(_PRAISE.sub("", line)) for line in lines[1:]
    ):
        return "UNCLEAR"
    return said if _plainly(rest) else "UNCLEAR"


def _plainly(rest: str) -> bool:
    """Whether what follows an approval on its line leaves it standing."""
    if thing := _THING.match(rest):
        return not re.search(r"\w", rest[thing.end() :])
    rest = _PRAISE.sub("", rest)
    if _OTHER.match(rest):
        return False
    return _DOUBT.search(_REASON.sub("", rest)) is None


def _choice(rest: str) -> bool:
    """Whether what follows a verdict offers another one."""
    return re.match(r"\W*(?:\bor\b)?\W*(?:IN ?)?CORRECT\b", rest, re.IGNORECASE) is not None


def _meaning(word: str, denied: str | None) -> str:
    said = word.upper().replace(" ", "")
    said = _MEANS.get(said, said)
    return {"CORRECT": "INCORRECT"}.get(said, "UNCLEAR") if denied else said


def _plain(text: str) -> str:
    """Without emphasis and invisible characters, every dash within INCORRECT gone."""
    shown = "".join(
        c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf"
    )
    shown = re.sub(r"\\(?:boxed|text\w*|math\w+)\s*\{|[*_`\[\]{}]", "", shown).replace("’", "'")
    return re.sub(r"\b(in|non)\s*[-‐‑‒–—]\s*(correct)", r"in\2", shown, flags=re.IGNORECASE)
