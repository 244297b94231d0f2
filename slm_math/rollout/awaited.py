"""Requests that were not answered yet, and the order in which their results come back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")

# Decoding steps between a request to an executor that works elsewhere and its result, if results
# come by count. Most programs end within them, so that decoding seldom waits for one.
LAG = 8


class Executor(Protocol):
    """What engines and the sandbox have in common."""

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]: ...

    def cancel(self, ticket: int) -> None: ...


@dataclass(frozen=True)
class _Open(Generic[T]):
    """A request: who asked, and at which decoding step its result is due."""

    asker: T
    due: int


class Awaited(Generic[T]):
    """The requests under way at several executors.

    Results that come together come in the order of the requests, executor by executor, in the order
    in which these were first asked.

    Args:
        deterministic: a result of an executor that works elsewhere (programs, endpoints) comes
            exactly `LAG` decoding steps after its request: earlier ones are kept until then, and
            decoding waits for later ones. What is decoded together then depends on the requests
            alone. Otherwise such a result comes as soon as it is there.
        programs: the executor that runs programs. While more requests wait for it than are decoded,
            its results are waited for between two steps, at most as long as the last step took: a
            step for a few requests costs about as much as one for all. Not if `deterministic`.
        patience: seconds for which `results` may wait for a single executor.
    """

    def __init__(
        self,
        deterministic: bool = False,
        programs: Executor | None = None,
        patience: float = 1.0,
    ) -> None:
        self.deterministic = deterministic
        self.programs = programs
        self.patience = patience
        self._next_step = 0.0  # until then programs are waited for, on the clock `perf_counter`
        self._executors: dict[int, Executor] = {}  # by id: an executor need not be hashable
        self._open: dict[int, dict[int, _Open[T]]] = {}  # by executor and ticket
        self._early: dict[int, dict[int, Any]] = {}  # results that are not due yet
        self._steps = 0  # that were made while an executor elsewhere owed something

    def add(self, executor: Executor, ticket: int, asker: T) -> None:
        """Keeps a request that was submitted."""
        key = id(executor)
        if key not in self._executors:
            self._executors[key], self._open[key], self._early[key] = executor, {}, {}
        self._open[key][ticket] = _Open(asker, self._steps + LAG)

    def cancel(self, of: Callable[[T], bool] = lambda asker: True) -> None:
        """Drops the requests of some askers, by default all, so that none stay behind in engines
        that live on.
        """
        for key, requests in self._open.items():
            for ticket in [ticket for ticket, open in requests.items() if of(open.asker)]:
                self._executors[key].cancel(ticket)
                del requests[ticket]
                self._early[key].pop(ticket, None)

    def results(self, wait: bool = True) -> list[tuple[T, Any]]:
        """The results that come next, perhaps none, each with its asker.

        An executor that computes in `poll` makes one step while others have work pending; if all
        are only waiting, blocks for a while, unless `wait` is false.
        """
        busy = [key for key, requests in self._open.items() if requests]
        elsewhere = [key for key in busy if not getattr(self._executors[key], "runs_in_poll", 0)]
        here = [key for key in busy if key not in elsewhere]
        if self.deterministic and elsewhere:
            return self._by_count(here, elsewhere)
        if len(busy) == 1:
            patience = self.patience if wait else 0.0
            return self._taken(busy[0], self._poll(busy[0], timeout=patience))
        start = time.perf_counter()
        if here and start < self._next_step and (results := self._of_programs(here, start)):
            return results
        start = time.perf_counter()
        results = [one for key in busy for one in self._taken(key, self._poll(key))]
        end = time.perf_counter()
        self._next_step = end + (end - start)
        if not results and not here and wait:
            results = [one for key in busy for one in self._taken(key, self._poll(key, 0.02))]
        return results

    def _of_programs(self, here: list[int], now: float) -> list[tuple[T, Any]]:
        """What programs bring before the next step, if more wait for them than are decoded."""
        key = id(self.programs)
        if len(self._open.get(key, ())) <= sum(len(self._open[key]) for key in here):
            return []
        return self._taken(key, self._poll(key, timeout=self._next_step - now))

    def _by_count(self, here: list[int], elsewhere: list[int]) -> list[tuple[T, Any]]:
        """One step of everything that computes here, and what is due of the others after it."""
        results = [one for key in here for one in self._taken(key, self._poll(key))]
        if here:
            self._steps += 1
        else:  # nothing is left to decode until the next results
            self._steps = min(open.due for key in elsewhere for open in self._open[key].values())
        for key in elsewhere:
            due = [t for t, open in self._open[key].items() if open.due <= self._steps]
            early = self._early[key]
            while not early.keys() >= set(due):
                early |= self._poll(key, timeout=1.0)
            results += self._taken(key, {ticket: early.pop(ticket) for ticket in due})
        return results

    def _poll(self, key: int, timeout: float = 0.0) -> dict[int, Any]:
        """ticket -> result of what an executor has finished, in the order of the requests."""
        done = dict(self._executors[key].poll(timeout=timeout))
        return {ticket: done[ticket] for ticket in sorted(done)}

    def _taken(self, key: int, results: dict[int, Any]) -> list[tuple[T, Any]]:
        """The results with their askers, who await them no longer."""
        requests = self._open[key]
        return [(requests.pop(t).asker, one) for t, one in results.items() if t in requests]
