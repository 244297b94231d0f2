"""What to write instead of a reward that is a function."""

from __future__ import annotations

import sys
from types import FunctionType


def is_function(path: str) -> bool:
    """Whether a dotted path is that of a function of a module that was imported."""
    module, _, name = path.rpartition(".")
    return isinstance(getattr(sys.modules.get(module), name, None), FunctionType)


def class_instead(path: str) -> str:
    """That the function at a dotted path is no reward, and the class that would be one."""
    module, _, name = path.rpartition(".")
    cls = name.title().replace("_", "")
    return (
        f"{path} is a function, and a reward is a class with one method. Write in {module}.py "
        f"`class {cls}(Reward):` with `def __call__(self, graded): return float(graded.correct)` "
        "below `from slm_math.rewards import Reward`, and name "
        f"{module}.{cls}; graded.trace has the replies, graded.task the answer (docs/rewards.md)"
    )
