"""A vote that stops once it is decided has the answer of the whole vote, for fewer samples."""

from __future__ import annotations

from itertools import product

import pytest
from agents.driving import box, play

from slm_math.agents import MajorityVote
from slm_math.agents.majority_vote import decided, elect, may_decide
from slm_math.types import Problem, Reply

PROBLEM = Problem("p", "What is it?")


def winner(answers: list[str | None]) -> str | None:
    return elect([(answer, 1.0) for answer in answers], PROBLEM)[0]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_answer_is_that_of_the_whole_vote(k: int) -> None:
    for answers in product(["1", "2", "3", None], repeat=k):
        script = iter([box(a) if a else Reply("no idea") for a in answers])
        workflow = MajorityVote(k=k, stop=True).solve(PROBLEM)
        requests, asked = next(workflow), 0
        try:
            while True:
                results = []
                for request in requests:
                    is_note = hasattr(request, "kind")
                    results.append(None if is_note else next(script))
                    asked += not is_note
                requests = workflow.send(results)
        except StopIteration as end:
            answer = end.value
        assert answer == winner(list(answers)), answers
        assert asked <= k
        votes = [answer for answer in answers[:asked] if answer]
        if asked < k:  # nothing that may follow changes it
            for rest in product(["1", "2", "3", "4", None], repeat=k - asked):
                assert winner([*answers[:asked], *rest]) == winner(list(answers)), (votes, rest)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_decided_means_that_no_continuation_changes_the_winner(n: int, left: int) -> None:
    for votes in product("123", repeat=n):
        order = list(dict.fromkeys(votes))
        counts = [votes.count(answer) for answer in order]
        ends = {winner([*votes, *rest]) for rest in product(["1", "2", "3", "4"], repeat=left)}
        assert decided(counts, left) == (len(ends) == 1), (votes, left)


def test_it_asks_for_as_many_as_may_decide() -> None:
    assert may_decide([], 5) == 3
    assert may_decide([], 4) == 2  # of two and two, the first wins
    assert may_decide([2, 1], 2) == 1
    assert may_decide([1, 2], 2) == 1
    assert may_decide([1, 1], 1) == 1


def test_three_equal_of_five_are_enough() -> None:
    driven = play(MajorityVote(k=5, stop=True), [box(7)] * 3)
    assert driven.steps == ["solver+solver+solver"]
    [note] = [note for note in driven.notes if note.kind == "vote"]
    assert (driven.answer, note.text, note.value) == ("7", "7", 1.0)


def test_candidates_of_later_rounds_have_places_of_their_own() -> None:
    first, *later = [box(n) for n in (7, 8, 7)], [box(8)], [box(8)]
    driven = play(MajorityVote(k=5, stop=True), first, *later)
    assert driven.steps == ["solver+solver+solver", "solver", "solver"]
    notes = [note for note in driven.notes if note.kind == "candidate"]
    assert [note.branch for note in notes] == [(0,), (1,), (2,), (3,), (4,)]
    assert driven.answer == "8"


def test_verdicts_cannot_stop_it() -> None:
    with pytest.raises(ValueError, match="stops early only with pick: votes"):
        MajorityVote(pick="weighted", stop=True)
