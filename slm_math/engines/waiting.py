"""The requests that wait for a place in a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from slm_math.engines.base import Request

SWEEP = 8  # times as many requests as there are places are sorted by length


class Waiting:
    """Requests by their tickets. Of the oldest the longest come first, so that rows of similar
    length are decoded together; requests that come meanwhile wait for the next sweep, so that none
    is overtaken forever.
    """

    def __init__(self) -> None:
        self._new: deque[tuple[int, Request]] = deque()
        self._sweep: deque[tuple[int, Request]] = deque()

    def __len__(self) -> int:
        return len(self._new) + len(self._sweep)

    def __iter__(self) -> Iterator[Request]:
        return (request for _, request in (*self._sweep, *self._new))

    def add(self, ticket: int, request: Request) -> None:
        self._new.append((ticket, request))

    def cancel(self, ticket: int) -> None:
        self._new = deque(item for item in self._new if item[0] != ticket)
        self._sweep = deque(item for item in self._sweep if item[0] != ticket)

    def next(self, places: int) -> tuple[int, Request]:
        """Takes the ticket and the request that is admitted next, of a batch with so many places.
        Raises IndexError if none waits.
        """
        if not self._sweep:
            size = min(SWEEP * places, len(self._new))
            oldest = [self._new.popleft() for _ in range(size)]
            if size > places:  # otherwise all come at once
                oldest.sort(key=_size, reverse=True)
            self._sweep.extend(oldest)
        return self._sweep.popleft()


def _size(item: tuple[int, Request]) -> int:
    """The number of characters of a request."""
    return sum([len(message.text) for message in item[1].chat])
