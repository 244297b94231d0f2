"""What a verifier's text says: CORRECT, INCORRECT or UNCLEAR. In doubt, never CORRECT."""

from __future__ import annotations

import re
import unicodedata

_MARK = re.compile(r"\bVERDICT\s*:", re.IGNORECASE)
_WORD = r"(IN ?CORRECT|CORRECT|UNCLEAR|ACCEPT(?:ED)?|REJECT(?:ED)?)"
# at once after the mark, or after words that only lead up to it
_STATED = re.compile(
    rf"\W*(?:(?:it|this|the|that|is|are|so|final|proposed|answer|solution)\W+){{0,6}}(NOT\W+(?:\w+\W+)?)?{_WORD}\b",
    re.IGNORECASE,
)
_ALONE = re.compile(rf"\W*(NOT\W+)?{_WORD}\W*", re.IGNORECASE)
_REFUSED = re.compile(r"\bIN ?CORRECT\b|\bREJECT(?:ED)?\b|\bNOT\s+(?:\w+\s+)?CORRECT\b")
# words that take an approval back, or offer another one, in the rest of its line
_DOUBT = re.compile(
    r"\b(?:not|never|no|neither|nor|cannot|can't|isn't|wrong|false|partially|almost|or)\b|n't\b|\?|\bin ?correct\b"
    r"|\bunclear\b|\breject",
    re.IGNORECASE,
)
_THING = re.compile(r"\s+(?:answer|solution|value|result|one|number|approach|way)\b", re.IGNORECASE)
_MEANS = {"ACCEPT": "CORRECT", "ACCEPTED": "CORRECT", "REJECT": "INCORRECT", "REJECTED": "INCORRECT"}


def verdict(text: str) -> str:
    """CORRECT, INCORRECT or UNCLEAR.

    What follows the last "VERDICT:", on its line, counts. Without that mark, the last line that is nothing but a
    verdict; else INCORRECT where that is said in capitals. ACCEPT is CORRECT, REJECT and "NOT CORRECT" are INCORRECT;
    whatever is denied, doubted, offered as a choice ("CORRECT or INCORRECT") or said of something else ("the correct
    answer is 5") is UNCLEAR.
    """
    return decided(text) or "UNCLEAR"


def decided(text: str) -> str | None:
    """The verdict that a text states, None when it states none."""
    plain = _plain(text)
    *before, after = _MARK.split(plain)
    if before:
        return marked(after)
    for line in reversed(plain.splitlines()):
        if alone := _ALONE.fullmatch(line):
            return _meaning(alone[2], alone[1])
    return "INCORRECT" if _REFUSED.search(plain) else None


def marked(after: str) -> str | None:
    """The verdict in the text after a mark: on its line, or on the next when nothing else stands there."""
    line = next((line for line in after.splitlines() if line.strip(" *")), "")
    found = _STATED.match(line)
    if found is None:
        return None
    denied, word, rest = found[1], found[2], line[found.end() :]
    said = _meaning(word, denied)
    if said != "CORRECT":
        return "UNCLEAR" if _choice(rest) else said
    clause = re.split(r"[.;]\s|\s-\s", rest, maxsplit=1)[0]
    return "UNCLEAR" if _THING.match(rest) or _DOUBT.search(clause) or rest.lstrip().startswith("?") else said


def certain(text: str) -> str | None:
    """The verdict of a text that was cut off: only one after a mark counts."""
    return decided(text) if _MARK.search(_plain(text)) else None


def _choice(rest: str) -> bool:
    """Whether what follows a verdict offers another one."""
    return re.match(r"\W*(?:\bor\b)?\W*(?:IN ?)?CORRECT\b", rest, re.IGNORECASE) is not None


def _meaning(word: str, denied: str | None) -> str:
    said = word.upper().replace(" ", "")
    said = _MEANS.get(said, said)
    return {"CORRECT": "INCORRECT"}.get(said, "UNCLEAR") if denied else said


def _plain(text: str) -> str:
    """Without emphasis and invisible characters, every dash within INCORRECT gone."""
    shown = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    shown = re.sub(r"\\(?:boxed|text\w*|math\w+)\s*\{|[*_`~\[\]{}]", "", shown).replace("’", "'")
    return re.sub(r"\b(in|non)\s*[-‐‑‒–—]\s*(correct)", r"in\2", shown, flags=re.IGNORECASE)
