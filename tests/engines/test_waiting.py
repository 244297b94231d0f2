"""The order in which requests are admitted."""

from __future__ import annotations

from slm_math.engines.base import Request
from slm_math.engines.waiting import SWEEP, Waiting
from slm_math.types import Sampling, user


def waiting(*lengths: int) -> Waiting:
    made = Waiting()
    for ticket, length in enumerate(lengths):
        made.add(ticket, Request(user("x" * length), Sampling()))
    return made


def test_the_longest_come_first_and_equal_ones_in_their_order() -> None:
    queue = waiting(3, 9, 3, 5)
    assert [queue.next(places=1)[0] for _ in range(4)] == [1, 3, 0, 2]
    assert not queue


def test_requests_that_come_at_once_stay_in_their_order() -> None:
    queue = waiting(3, 9, 5)
    assert [queue.next(places=3)[0] for _ in range(3)] == [0, 1, 2]


def test_a_request_is_not_overtaken_by_longer_ones_that_come_later() -> None:
    queue = waiting(9, 1)
    assert queue.next(places=1)[0] == 0
    queue.add(2, Request(user("x" * 50), Sampling()))
    assert [queue.next(places=1)[0] for _ in range(2)] == [1, 2]


def test_only_the_oldest_are_sorted() -> None:
    queue = waiting(*[1] * SWEEP, 50)
    assert [queue.next(places=1)[0] for _ in range(SWEEP + 1)] == list(range(SWEEP + 1))


def test_a_canceled_request_does_not_come() -> None:
    queue = waiting(1, 2, 3)
    queue.next(places=1)
    queue.add(3, Request(user("x"), Sampling()))
    for ticket in (1, 3):
        queue.cancel(ticket)
    assert len(queue) == 1
    assert queue.next(places=1)[0] == 0
