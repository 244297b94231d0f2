"""CUDA graphs: a GPU repeats what it computed once, with one call instead of one for each kernel.

What is repeated must not wait for the processor, and must read and write the same memory each time
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). This module has never run on a
GPU: tests check on a CPU that decoding steps are such computations (`slots`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

WARM_UP = 3  # runs before the one that is captured, in which libraries allocate what they need

# makes of a computation another that repeats it
Capture: TypeAlias = Callable[[Callable[[], None]], Callable[[], None]]


def capture_on(device: torch.device) -> Capture | None:
    """How computations are captured on a device; None if they are not."""
    return Graphs() if device.type == "cuda" else None


class Graphs:
    """CUDA graphs that share their memory: only one of them runs at a time, and what they compute
    is in tensors from before.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        """Runs a computation a few times, captures it, and returns what repeats it."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # other threads may prepare batches meanwhile
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            run()
        return graph.replay
