"""Micro-batches are made while a device computes, in order, and one ahead."""

import threading

import pytest
import torch

from slm_math.policy import transfer
from slm_math.policy.transfer import Ahead, put


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that computes by itself."""
    monkeypatch.setattr(transfer, "works_by_itself", lambda device: True)


def test_without_a_gpu_each_is_made_when_it_is_asked_for() -> None:
    made: list[int] = []
    found = Ahead(lambda n: made.append(n) or n * n, [3, 1, 2], "cpu")
    assert (len(found), made) == (3, [])
    assert next(iter(found)) == 9
    assert made == [3]


@pytest.mark.parametrize("items", [[], [5], [5, 7, 5, 1]])
def test_a_thread_makes_the_same_in_the_same_order(items: list[int], busy: None) -> None:
    threads: set[int] = set()
    found = Ahead(lambda n: threads.add(threading.get_ident()) or n * n, items, "cpu")
    assert list(found) == [n * n for n in items] == list(found)
    assert threading.get_ident() not in threads


def test_one_is_made_ahead_and_no_more(busy: None) -> None:
    begun = [threading.Event() for _ in range(4)]

    def make(n: int) -> int:
        begun[n].set()
        return n

    results = iter(Ahead(make, range(4), "cpu"))
    for n in range(3):
        assert next(results) == n
        assert begun[n + 1].wait(20)
        assert not any(event.is_set() for event in begun[n + 2 :])


def test_an_error_of_the_thread_is_raised_where_its_result_is_asked_for(busy: None) -> None:
    def make(n: int) -> int:
        if n == 1:
            raise ValueError("no such row")
        return n

    results = iter(Ahead(make, range(3), "cpu"))
    assert next(results) == 0
    with pytest.raises(ValueError, match="no such row"):
        next(results)


def test_values_are_put_where_they_are() -> None:
    values = torch.arange(3)
    assert put(values, "cpu") is values
    assert put(values, "meta").device.type == "meta"
