"""The number of torch's CPU threads, on which the last bits of some sums depend (the gradient of a
LayerNorm, for example).
"""

from __future__ import annotations

import os

import torch

_asked = False  # whether the user chose the number of this process


def set_threads(asked: int | None, fixed: bool = False) -> None:
    """Sets the number of threads of this process.

    Args:
        asked: what the user chose. None takes the number of free cores.
        fixed: take all cores instead of the free ones, whose number another run may find changed.
    """
    global _asked
    _asked = asked is not None
    torch.set_num_threads(asked or (cores() if fixed else free_cores()))


def resume_threads(before: int | None) -> None:
    """Goes on with as many threads as the interrupted run had, where the user chose no number."""
    if before is None or _asked or before == torch.get_num_threads():
        return
    torch.set_num_threads(min(before, cores()))
    now = torch.get_num_threads()
    print(
        f"torch uses {now} CPU threads, "
        + ("as" if now == before else f"and not {before} (there are no more cores), as")
        + " before the interruption (--torch_threads sets another number)",
        flush=True,
    )


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_cores() -> int:
    """The number of idle cores, at least 1.

    Two threads that spin on one core are many times slower than a single thread.
    """
    if not hasattr(os, "getloadavg"):
        return cores()
    return max(1, min(cores(), round(cores() - os.getloadavg()[0])))
