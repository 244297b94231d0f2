"""What a comparison finds: whether two answers are equivalent, and the reason."""

from __future__ import annotations

from typing import NamedTuple


class Decision(NamedTuple):
    """Whether two answers are equivalent, and the reason.

    The reasons are a few fixed phrases, so that they can be counted (see `Verdict`).
    """

    equal: bool
    reason: str


YES, NO = Decision(True, "equal"), Decision(False, "different")
OPEN, HARD = Decision(False, "unevaluated"), Decision(False, "too complex")
