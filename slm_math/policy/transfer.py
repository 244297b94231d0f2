"""From the processor to the device without making either wait for the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
U = TypeVar("U")
T_co = TypeVar("T_co", covariant=True)


class Counted(Protocol[T_co]):
    """Things that come one after the other, whose number is known."""

    def __iter__(self) -> Iterator[T_co]: ...

    def __len__(self) -> int: ...


def put(values: Tensor, device: torch.device | str) -> Tensor:
    """The values on a device; a GPU copies them while the processor goes on."""
    if not works_by_itself(device) or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def works_by_itself(device: torch.device | str) -> bool:
    """Whether a device computes while the processor does something else."""
    return torch.device(device).type == "cuda"


class Ahead(Generic[U]):
    """What `make` gives for each item, in order; for a GPU in a thread, which makes the next one
    while the one before is used.

    Args:
        make: what is done for an item; it uses no random numbers.
        items: what there is to do.
        device: where the results are.
    """

    def __init__(
        self, make: Callable[[T], U], items: Sequence[T], device: torch.device | str
    ) -> None:
        self._calls: list[Callable[[], U]] = [partial(make, item) for item in items]
        self._device = torch.device(device)

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[U]:
        if works_by_itself(self._device):
            return self._in_thread()
        return (call() for call in self._calls)

    def _in_thread(self) -> Iterator[U]:
        started = None
        with ThreadPoolExecutor(1) as pool:
            for call in self._calls:
                before, started = started, pool.submit(self._on_device, call)
                if before is not None:
                    yield before.result()
            if started is not None:
                yield started.result()

    def _on_device(self, call: Callable[[], U]) -> U:
        """A call in a thread, which begins with the first GPU."""
        if self._device.type != "cuda":
            return call()
        with torch.cuda.device(self._device):
            return call()
