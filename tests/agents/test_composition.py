"""Agents within agents, in a few lines."""

from typing import Any

from agents.driving import box, code, judged, play
from agents.inputs import FAILED, PICTURE, PICTURED, PROBLEM

from slm_math.agents import Agent, CodeFeedback, MajorityVote, SingleShot, SolverVerifier, parallel
from slm_math.agents.majority_vote import elect
from slm_math.answers import equivalent
from slm_math.testing import drive
from slm_math.types import Note, Problem, Reply, Workflow


class Cascade(Agent):
    """Two cheap answers; where they differ, a solver-verifier decides."""

    roles, uses_python = ("solver", "verifier"), True

    def solve(self, problem: Problem) -> Workflow[str | None]:
        first, second = yield from parallel(
            [SingleShot(temperature=0.7).solve(problem) for _ in range(2)]
        )
        if first is not None and second is not None and equivalent(first, second):
            return first
        return (yield from SolverVerifier().solve(problem))


class Jury(Agent):
    """A vote of three solver-verifiers."""

    roles, uses_python = ("solver", "verifier"), True

    def solve(self, problem: Problem) -> Workflow[str | None]:
        answers = yield from parallel([SolverVerifier(rounds=2).solve(problem) for _ in range(3)])
        answer, share = elect([(a, 1.0) for a in answers], problem)
        yield [Note("vote", answer, share)]
        return answer


def test_a_cascade_ends_where_cheap_answers_agree() -> None:
    driven = play(Cascade(), [box("0.5"), box(r"\frac12")])
    assert (driven.answer, driven.notes) == ("0.5", [])


def test_cascade_continues_where_answers_differ() -> None:
    for cheap in ([box(6), box(7)], [Reply(""), box(7)], [Reply(""), Reply("")]):
        driven = play(Cascade(), cheap, box(7), judged("CORRECT"))
        assert driven.steps == ["solver+solver", "solver", "verifier"]
        assert (driven.answer, driven.noted("draft")) == ("7", ["7"])


def test_a_vote_of_solver_verifiers_that_need_different_rounds() -> None:
    driven = play(
        Jury(),
        [box(7), box(6), Reply("Hm.")],
        # the third drafts again, its second and last
        [judged("CORRECT"), judged("INCORRECT"), box("7.0")],
        [box(8)],
    )
    assert driven.steps == ["solver+solver+solver", "verifier+verifier+solver", "solver"]
    assert driven.answer == "7"
    [vote] = [note for note in driven.notes if note.kind == "vote"]
    assert (vote.value, vote.branch) == (2 / 3, ())


def test_notes_of_a_jury_stay_apart() -> None:
    driven = play(
        Jury(),
        [box(7), box(6), box(8)],
        [judged("CORRECT")] * 2 + [code()],
        [FAILED],
        [judged("INCORRECT")],
        [box(9)],
    )
    notes = {i: [(n.kind, n.text) for n in driven.notes if n.branch == (i,)] for i in range(3)}
    assert notes[0] == [("draft", "7"), ("verdict", "CORRECT"), ("stop", "accepted")]
    assert notes[2] == [
        ("draft", "8"),
        ("verdict", "INCORRECT"),
        ("draft", "9"),
        ("stop", "rounds"),
    ]


def test_a_jury_of_the_silent() -> None:
    driven = play(Jury(), *[[Reply("")] * 3] * 2)
    assert (driven.answer, driven.noted("stop"), len(driven.noted("lost"))) == (
        None,
        ["lost"] * 3,
        6,
    )


def test_agents_one_after_the_other() -> None:
    class Both(Agent):
        uses_python = True

        def solve(self, problem: Problem) -> Workflow[str | None]:
            written = yield from CodeFeedback().solve(problem)
            return written if written is not None else (yield from MajorityVote(k=2).solve(problem))

    assert play(Both(), box(7)).answer == "7"
    assert play(Both(), Reply("Hm."), [box(8), box(8)]).answer == "8"


def test_a_vote_of_votes() -> None:
    class Votes(Agent):
        def solve(self, problem: Problem) -> Workflow[Any]:
            return (yield from parallel([MajorityVote(k=2).solve(problem) for _ in range(2)]))

    driven = play(Votes(), [box(1), box(1), box(2), box(3)], problem=PICTURED)
    assert driven.answer == ["1", "2"]
    assert all(PICTURE in request.chat[0].content for request in driven.requests[0])
    assert [note.branch for note in driven.notes if note.kind == "candidate"] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    assert [(note.text, note.branch) for note in driven.notes if note.kind == "vote"] == [
        ("1", (0,)),
        ("2", (1,)),
    ]


def test_an_agent_solves_many_problems_at_the_same_time() -> None:
    agent = SolverVerifier()
    one, two = agent.solve(PROBLEM), agent.solve(PROBLEM)
    assert next(one) == next(two)
    one.send([box(6)])
    two.send([box(7)])
    assert box(7).text in two.send([None])[0].chat[0].text
    assert play(agent, box(7), judged("CORRECT")).answer == "7"
    assert drive(agent, PROBLEM, [box(8)], partial=True).noted("draft") == ["8"]
