"""Ranks give rows to each other, so that none waits for another one that has more to read."""

from __future__ import annotations

import random

from slm_math.rollout.updates import Load, moves


def alone(*positions: int) -> list[Load]:
    """Rows that share nothing."""
    return [Load(each, shared=0, family=n) for n, each in enumerate(positions)]


def read(loads: list[list[Load]]) -> list[int]:
    """What each rank reads after the moves, counted position by position."""
    goes = moves(loads)
    seen: list[set[tuple[int, ...]]] = [set() for _ in loads]
    for owner, rows in enumerate(loads):
        for n, load in enumerate(rows):
            holder = goes.get((owner, n), owner)
            begin = [(owner, load.family, at) for at in range(load.shared)]
            own = [(owner, load.family, at, n) for at in range(load.shared, load.positions)]
            seen[holder] |= {*begin, *own}
    return list(map(len, seen))


def test_equal_ranks_give_nothing() -> None:
    assert moves([alone(5, 3), alone(4, 4)]) == {}


def test_the_row_that_evens_most_goes_to_the_rank_that_reads_least() -> None:
    assert moves([alone(9, 5, 4), alone(8), alone()]) == {(0, 0): 2}


def test_no_row_moves_where_none_helps() -> None:
    assert moves([alone(100), alone(1), alone()]) == {}


def test_what_a_family_shares_is_read_on_both_ranks_once_it_is_split() -> None:
    family = [Load(110, shared=100, family=0) for _ in range(12)]
    assert read([family, alone(50)]) == [100 + 9 * 10, 50 + 100 + 3 * 10]


def test_ranks_read_about_equally_much() -> None:
    draw = random.Random(0)
    loads = [
        [
            Load(100 + int(draw.lognormvariate(3.5, 0.8)), shared=100, family=n // 8)
            for n in range(16)
        ]
        for _ in range(8)
    ]
    totals = read(loads)
    before = [
        sum(100 * (not n % 8) + load.positions - 100 for n, load in enumerate(rows))
        for rows in loads
    ]
    assert max(before) > 1.15 * sum(before) / len(before)
    assert max(totals) < 1.05 * sum(totals) / len(totals)
    assert max(totals) < max(before)


def test_families_of_other_ranks_are_others() -> None:
    """Numbers of families count from 0 on each rank."""
    loads = [[Load(60, 50, 0)] * 4, [Load(60, 50, 0)], []]
    assert read(loads) == [50 + 3 * 10, 60, 60]
