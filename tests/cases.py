"""Which of many like cases run by default."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def some(cases: Iterable[Any], fast: Iterable[Any]) -> list[Any]:
    """All cases for `parametrize`, of which those that are not `fast` are slow."""
    chosen = list(fast)
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=() if case in chosen else pytest.mark.slow,
        )
        for case in cases
    ]
