"""The scheduler with scripted executors, and rows from traces."""

from collections.abc import Iterator
from typing import Any

import pytest
from rollout.scripted import Scripted, served_by

from slm_math.agents import Agent, CodeFeedback, MajorityVote, SingleShot
from slm_math.engines.base import Engine, EngineError, Request
from slm_math.rollout.collect import Draws, run_agent
from slm_math.rollout.executors import Executors
from slm_math.rollout.rows import trace_rows
from slm_math.types import Generate, Problem, Reply, RunResult, Trace, Turn, user

PROBLEMS = [Problem(f"p/{i}", f"What is {i} + 1?") for i in range(7)]


class Calculator(Scripted):
    def __init__(self) -> None:
        super().__init__(lambda request: RunResult(True, str(eval(request.code[6:-1]))))


def run(agent: Agent, engine: Engine, sandbox: Any = None, **options: Any) -> list[Trace]:
    jobs = ((p, s) for p in PROBLEMS for s in range(2))
    return list(run_agent(agent, jobs, served_by(engine, sandbox), Draws(("k",), **options)))


def test_every_job_ends_once_with_its_own_answer() -> None:
    engine = Scripted(lambda request: Reply(rf"\boxed{{{request.chat[0].text[8]}}}"))
    traces = run(SingleShot(), engine, window=3)
    assert sorted((t.problem.id, t.sample, t.answer) for t in traces) == [
        (f"p/{i}", s, str(i)) for i in range(7) for s in (0, 1)
    ]


def test_keys_name_problem_sample_and_turn() -> None:
    engine = Scripted(lambda request: Reply(r"\boxed{1}"))
    run(MajorityVote(k=3), engine)
    keys = [request.key for request in engine.asked]
    assert len(set(keys)) == len(keys) == 7 * 2 * 3
    assert ("k", "p/4", 1, 3) in keys


def test_code_runs_and_is_recorded_in_order() -> None:
    def say(request: Request) -> Reply:
        if len(request.chat) == 1:
            return Reply(f"```python\nprint({request.chat[0].text[8]}+1)\n```")
        return Reply(rf"\boxed{{{request.chat[2].text.split()[3]}}}")

    for trace in run(CodeFeedback(), Scripted(say), Calculator()):
        assert [type(event).__name__ for event in trace.events] == [
            "Turn",
            "Run",
            "Note",
            "Turn",
            "Note",
        ]
        assert trace.answer == str(int(trace.problem.id[2:]) + 1)


def test_engine_error_ends_its_workflow_only() -> None:
    def say(request: Request) -> Reply | EngineError:
        return EngineError("down") if "3 + 1" in request.chat[0].text else Reply(r"\boxed{1}")

    broken = [trace for trace in run(SingleShot(), Scripted(say)) if trace.error]
    assert [(t.problem.id, t.error, t.answer) for t in broken] == [("p/3", "down", None)] * 2


def test_bug_in_an_agent_names_the_problem() -> None:
    class Buggy(SingleShot):
        def solve(self, problem: Problem) -> Iterator[Any]:
            yield [Generate(user("x"))]
            raise KeyError("oops")

    with pytest.raises(KeyError) as caught:
        run(Buggy(), Scripted(lambda request: Reply("")))
    assert "Buggy on problem p/" in caught.value.__notes__[0]


def test_leaving_early_cancels_what_is_open() -> None:
    engine = Scripted(lambda request: Reply(r"\boxed{1}"))
    for _ in run_agent(SingleShot(), ((p, 0) for p in PROBLEMS), served_by(engine)):
        break
    assert engine.busy in (0, len(PROBLEMS) - 1)
    engine2 = Scripted(lambda request: Reply(r"\boxed{1}"))
    stream = run_agent(SingleShot(), ((p, 0) for p in PROBLEMS), served_by(engine2))
    next(stream)
    stream.close()
    assert engine2.busy == 0


def test_missing_engine_or_sandbox_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="role 'solver'"):
        run_agent(SingleShot(), [], Executors({}, {}))
    with pytest.raises(ValueError, match="sandbox"):
        run_agent(CodeFeedback(), [], served_by(Scripted(None)))


def turn(
    prompt: list[int], reply: list[int], role: str = "solver", temperature: float = 1.0
) -> Turn:
    logps = tuple(-float(token) for token in reply)
    return Turn(
        Generate(user("x"), role),
        Reply("", tuple(reply), logps, "stop", tuple(prompt), temperature=temperature),
    )


def trace(*turns: Turn) -> Trace:
    return Trace(PROBLEMS[0], 0, turns, None)


def test_turns_that_extend_each_other_share_a_row() -> None:
    rows = trace_rows(trace(turn([1, 2], [3, 4]), turn([1, 2, 3, 4, 5, 6], [7])), "solver")
    assert [row.ids for row in rows] == [(1, 2, 3, 4, 5, 6, 7)]
    assert rows[0].mask == (0, 0, 1, 1, 0, 0, 1)
    assert rows[0].logprobs == (0, 0, -3, -4, 0, 0, -7)


def test_rewritten_history_other_roles_and_temperatures_get_rows_of_their_own() -> None:
    events = (
        turn([1], [2]),
        turn([1, 9], [3]),
        turn([1, 2, 4], [5], "verifier"),
        turn([1, 2, 4], [6], temperature=0.7),
    )
    assert [row.ids for row in trace_rows(trace(*events), "solver")] == [
        (1, 2),
        (1, 9, 3),
        (1, 2, 4, 6),
    ]
    assert [row.ids for row in trace_rows(trace(*events), "verifier")] == [(1, 2, 4, 5)]


def test_empty_reply_makes_no_row() -> None:
    assert trace_rows(trace(turn([1], [])), "solver") == []
