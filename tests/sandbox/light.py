"""Workers that load neither sympy nor numpy start in a fifth of a second instead of two.

For tests of processes, limits and walls, where it does not matter which libraries a program has.
"""

from __future__ import annotations

import pytest

from slm_math.sandbox import canaries, preload

# The control of the canary counts with sympy. These lines replace that, also in other processes.
CODE = """
from slm_math.sandbox import canaries, preload
preload.LIBRARIES = ()
canaries.PROGRAM = canaries.PROGRAM.replace("sympy", "math")
"""


def lighten(patch: pytest.MonkeyPatch) -> None:
    """Workers that start from now on are light, until the patch is undone."""
    patch.setattr(preload, "LIBRARIES", preload.LIBRARIES)
    patch.setattr(canaries, "PROGRAM", canaries.PROGRAM)
    exec(CODE)
    assert "sympy" not in canaries.PROGRAM
