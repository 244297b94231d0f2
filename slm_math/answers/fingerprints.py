"""What equivalent answers have in common, so that many answers need not all be compared."""

from __future__ import annotations

from collections.abc import Hashable
from fractions import Fraction

from slm_math.answers.equivalence import MAX_ANSWER, normalized, parsed
from slm_math.answers.guards import deep
from slm_math.answers.identity import value_at_a_point
from slm_math.answers.values import Scalar
from slm_math.patterns import lazy_pattern

_SHORT_NUMBER = lazy_pattern(r"-?(?:(?:0|[1-9][0-9]{0,14})|(?:0|[1-9][0-9]{0,4})\.[0-9]{1,4})")


def fingerprint(answer: str) -> Hashable | None:
    """What equivalent answers share, of those that have such a thing: rational numbers, and
    expressions that are rational functions. None for all others.
    """
    if _SHORT_NUMBER.fullmatch(answer):  # most answers
        return frozenset[str](), Fraction(answer) if "." in answer else int(answer)
    if len(answer) > MAX_ANSWER or any(part in answer for part in (",", "\\begin")):
        return None
    text = normalized(answer)
    if not text or deep(text) or "\\mathbb" in text or "integer" in text or text[-1] in "CcKk":
        return None
    value = parsed(text, gold=False)
    if not isinstance(value, Scalar) or value != parsed(text, gold=True):
        return None
    return None if value.percent or value.unit else value_at_a_point(value.tree)
