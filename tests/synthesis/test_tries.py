"""A cascade asks as its plan says, and goes on until a solution is accepted."""

from __future__ import annotations

from typing import Any

import pytest
from rollout.scripted import Scripted, printing, served_by

from slm_math.agents import CodeFeedback, MajorityVote, SingleShot, SolverVerifier
from slm_math.engines.base import ContextFull, EngineError, Request
from slm_math.rewards import AsksJudge
from slm_math.rollout.collect import run_agent
from slm_math.synthesis.accept import Above, Majority, Right
from slm_math.synthesis.tries import Tries, Try
from slm_math.testing import drive
from slm_math.types import Note, Problem, Reply, RunResult, Task, Trace

TASK = Task(Problem("p/1", "What is 3 + 4?"), "7")
PLAN = (Try("primary", 0.7), Try("primary", 0.5, "low"), Try("backup", 0.9, "high"))
WRONG, RIGHT = r"\boxed{8}", r"\boxed{7}"


def tries(agent: Any = None, plan: Any = PLAN, accept: Any = None) -> Tries:
    return Tries(agent or SingleShot(), plan, accept or Right(), [TASK])


def requests(driven: Any) -> list[Any]:
    return [request for step in driven.requests for request in step]


def run(cascade: Tries, engine: Scripted) -> Trace:
    [trace] = run_agent(cascade, [(TASK.problem, 0)], served_by(engine, printing("7")))
    return trace


def test_stops_at_the_first_accepted_answer() -> None:
    driven = drive(tries(), TASK.problem, replies=[WRONG, RIGHT])
    assert driven.answer == "7"
    assert driven.steps == ["primary", "primary"]


def test_every_try_has_its_role_temperature_and_effort() -> None:
    driven = drive(tries(), TASK.problem, replies=[WRONG] * 3)
    asked = [(r.role, r.temperature, r.effort, r.attempt) for r in requests(driven)]
    assert asked == [
        ("primary", 0.7, None, 1),
        ("primary", 0.5, "low", 2),
        ("backup", 0.9, "high", 3),
    ]


def test_nothing_accepted_is_no_answer() -> None:
    assert drive(tries(), TASK.problem, replies=[WRONG] * 3).answer is None


def test_notes_say_what_became_of_each_try() -> None:
    driven = drive(tries(), TASK.problem, replies=[WRONG, RIGHT])
    assert driven.notes == [
        Note("candidate", "8", role="primary", branch=(1,)),
        Note("try", "different", role="primary", branch=(1,)),
        Note("candidate", "7", role="primary", branch=(2,)),
        Note("try", "equal", role="primary", branch=(2,)),
        Note("kept", None, role="primary", branch=(2,)),
    ]


def test_no_request_of_the_agent_holds_the_gold() -> None:
    task = Task(TASK.problem, "314159")
    cascade = Tries(SolverVerifier(), PLAN, Right(), [task])
    driven = drive(cascade, task.problem, replies=[WRONG, "VERDICT: CORRECT"] * 3)
    assert "314159" not in repr(driven.requests)
    assert len(requests(driven)) == 6


def test_all_roles_of_the_agent_are_played_by_that_of_the_try() -> None:
    cascade = tries(SolverVerifier())
    assert cascade.roles == ("primary", "backup")
    assert cascade.uses_python
    driven = drive(cascade, TASK.problem, replies=[RIGHT, "VERDICT: CORRECT"])
    assert driven.steps == ["primary", "primary"]


def test_temperature_of_a_try_holds_for_the_retry_of_a_lost_reply() -> None:
    agent, plan = SolverVerifier(), [Try("primary", 0.3)]
    driven = drive(tries(agent, plan), TASK.problem, replies=["", RIGHT, "VERDICT: CORRECT"])
    assert driven.temperatures == [0.3, 0.3, 0.3]


def test_greedy_try_leaves_the_temperatures_that_the_agent_sets() -> None:
    plan = [Try("primary", 0.0)]
    assert drive(
        tries(MajorityVote(k=2, temperature=0.8), plan), TASK.problem, replies=[RIGHT] * 2
    ).temperatures == [0.8, 0.8]
    assert drive(tries(plan=plan), TASK.problem, replies=[RIGHT]).temperatures == [0.0]


def test_equal_tries_draw_differently() -> None:
    engine = Scripted(lambda request: Reply(WRONG))
    run(tries(plan=[Try("primary", 0.7)] * 3), engine)
    assert len({request.key for request in engine.asked}) == 3


def test_draws_of_a_try_do_not_depend_on_the_requests_of_earlier_tries() -> None:
    def last_key(*texts: str) -> tuple[int | str, ...]:
        replies = iter(texts)
        engine = Scripted(lambda request: Reply(next(replies)))
        run(tries(CodeFeedback(), [Try("primary", 0.7)] * 2), engine)
        assert len(engine.asked) == len(texts)
        return engine.asked[-1].key

    # with a program the first try asks twice
    assert last_key("```python\nprint(7)\n```", WRONG, WRONG) == last_key(WRONG, WRONG)


def test_try_that_an_endpoint_fails_is_lost_and_the_next_begins() -> None:
    def answer(request: Request) -> Reply | EngineError:
        return Reply(RIGHT) if request.role == "backup" else EngineError("status 500")

    trace = run(tries(), Scripted(answer))
    assert (trace.answer, trace.error) == ("7", None)
    lost = [note for note in trace.notes if note.kind == "lost"]
    assert [(note.text, note.branch) for note in lost] == [
        ("status 500", (1,)),
        ("status 500", (2,)),
    ]


def test_problem_breaks_where_nothing_was_kept_and_a_try_was_lost() -> None:
    results = iter([EngineError("status 500"), Reply(WRONG), Reply(WRONG)])
    trace = run(tries(), Scripted(lambda request: next(results)))
    assert (trace.answer, trace.error, trace.skipped) == (None, "status 500", False)
    assert len(trace.turns) == 2


def test_problem_that_fits_into_no_context_is_skipped() -> None:
    trace = run(tries(), Scripted(lambda request: ContextFull("too long")))
    assert trace.skipped


def test_judge_is_asked_in_its_own_role() -> None:
    accept = Above(AsksJudge(), 0.5)
    cascade = tries(accept=accept)
    assert cascade.roles == ("primary", "backup", "judge")
    driven = drive(
        cascade, TASK.problem, replies=[WRONG, "VERDICT: INCORRECT", RIGHT, "VERDICT: CORRECT"]
    )
    assert driven.steps == ["primary", "judge", "primary", "judge"]
    assert driven.answer == "7"
    assert [r.attempt for r in requests(driven)] == [1, 1, 2, 2]


def test_majority_keeps_the_first_solution_of_the_largest_class() -> None:
    cascade = tries(accept=Majority())
    driven = drive(cascade, TASK.problem, replies=[RIGHT, WRONG, r"\boxed{7.0}"])
    assert driven.answer == "7"
    assert driven.notes[-1] == Note("kept", None, 2 / 3, role="primary", branch=(1,))


def test_a_bug_of_the_agent_is_no_lost_try() -> None:
    class Buggy(SingleShot):
        def solve(self, problem: Problem) -> Any:
            raise KeyError("oops")
            yield []

    with pytest.raises(KeyError, match="oops"):
        run(tries(Buggy()), Scripted(None))


def test_unannounced_program_of_the_agent_is_an_error() -> None:
    class Runs(SingleShot):
        def solve(self, problem: Problem) -> Any:
            from slm_math.types import RunPython

            yield [RunPython("1")]

    with pytest.raises(ValueError, match="agent Runs runs a program"):
        run(tries(Runs()), Scripted(lambda _: RunResult(True)))


@pytest.mark.parametrize(
    ("plan", "accept", "message"),
    [
        ([], Right(), "there is no try"),
        ([Try("primary")], Majority(), "at least 2 tries in the plan, got 1"),
        (PLAN, Above(AsksJudge(role="verifier"), 0.5), "role 'verifier'; the roles of SingleShot"),
    ],
)
def test_plans_that_could_keep_nothing_are_refused(plan: Any, accept: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tries(plan=plan, accept=accept)


def test_requests_reach_the_engine_with_their_effort() -> None:
    engine = Scripted(lambda request: Reply(WRONG))
    run(tries(), engine)
    asked: list[Request] = engine.asked
    assert [request.sampling.effort for request in asked] == [None, "low", "high"]
