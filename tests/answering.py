"""Requests, and what an engine answers to them."""

from collections.abc import Iterable
from typing import Any

from slm_math.engines.base import Engine, Request


def answer(engine: Engine, requests: Iterable[Request], timeout: float = 0.0) -> list[Any]:
    """The replies of an engine to requests, in their order."""
    tickets = [engine.submit(request) for request in requests]
    found: dict[int, Any] = {}
    while engine.busy:
        found |= dict(engine.poll(timeout))
    return [found[ticket] for ticket in tickets]
