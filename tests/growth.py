"""How processor time grows with the size of the work, which no busy machine changes much."""

from __future__ import annotations

import time
from collections.abc import Callable


def grows_linearly(work: Callable[[int], object], size: int) -> bool:
    """Whether four times the work takes less than ten times as long (quadratic time: 16 times).

    What is done in half a second is too short for a comparison, and short enough. Three attempts,
    as caches and other processes may disturb one.
    """
    for _ in range(3):
        seconds = []
        for amount in (size, 4 * size):
            start = time.process_time()
            work(amount)
            seconds.append(time.process_time() - start)
        if seconds[1] < max(0.5, 10 * seconds[0]):
            return True
    return False
