"""An agent meets tasks: every trace is graded once and handed on, and bad agents are named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from slm_math.agents import Agent, SingleShot
from slm_math.answers import graded
from slm_math.answers.graded import GradedTrace
from slm_math.engines.base import Engine, EngineError, Request
from slm_math.rollout.collect import Draws, collect, run_agent
from slm_math.rollout.executors import Executors
from slm_math.rollout.scheduler import Finished, Job, Scheduler
from slm_math.types import (
    Generate,
    Note,
    Problem,
    Reply,
    RunPython,
    RunResult,
    Sampling,
    Task,
    Workflow,
    user,
)

TASKS = [Task(Problem(f"p/{i}", f"What is {i} + 1?"), str(i + 1)) for i in range(4)]


class Model(Engine):
    """Answers the oldest open request at every poll."""

    def __init__(self, text: str = r"\boxed{2}") -> None:
        self.text = text
        self.requests: list[Request] = []
        self.open: dict[int, Request] = {}

    def submit(self, request: Request) -> int:
        self.requests.append(request)
        self.open[len(self.requests)] = request
        return len(self.requests)

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        ticket = next(iter(self.open))
        del self.open[ticket]
        return [(ticket, Reply(self.text))]

    def cancel(self, ticket: int) -> None:
        self.open.pop(ticket, None)


class Shell(Model):
    def poll(self, timeout: float = 0.0) -> Any:
        return [(ticket, RunResult(True, "2")) for ticket in [self.open.popitem()[0]]]

    def identity(self) -> dict[str, Any]:
        return {}


class Scene(Agent):
    """One given workflow."""

    def __init__(self, make: Any, uses_python: bool = False) -> None:
        self.make, self.uses_python = make, uses_python

    def solve(self, problem: Problem) -> Iterator[Any]:
        return (yield from self.make())


def executors(engine: Engine, sandbox: Any = None) -> Executors:
    return Executors({"default": engine}, {"default": Sampling()}, sandbox)


def test_every_pair_reaches_the_sink_with_its_task() -> None:
    found: list[GradedTrace] = []
    jobs = [(task, sample) for task in TASKS for sample in range(2)]
    collect(SingleShot(), jobs, executors(Model()), found.append)
    assert {(g.task.problem.id, g.trace.sample, g.correct) for g in found} == {
        (task.problem.id, sample, task.gold == "2") for task, sample in jobs
    }
    assert all(graded.task.problem is graded.trace.problem for graded in found)


def test_sink_is_called_before_the_next_trace_is_finished() -> None:
    engine, open_then = Model(), []
    collect(
        SingleShot(),
        [(task, 0) for task in TASKS],
        executors(engine),
        lambda graded: open_then.append(len(engine.open)),
    )
    assert open_then == [3, 2, 1, 0]


def test_equal_problems_may_be_collected_twice() -> None:
    found: list[GradedTrace] = []
    collect(SingleShot(), [(TASKS[0], 0), (TASKS[0], 0)], executors(Model()), found.append)
    assert len(found) == 2


def test_each_distinct_answer_is_graded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def scene() -> Workflow[str]:
        yield [Note("draft", "3"), Note("candidate", "3"), Note("verdict", "9")]
        yield [Note("draft", "2")]
        return "2"

    answers: list[str | None] = []
    grade_answer = graded.grade_answer

    def counted(answer: str | None, task: Task) -> Any:
        answers.append(answer)
        return grade_answer(answer, task)

    monkeypatch.setattr(graded, "grade_answer", counted)
    found: list[GradedTrace] = []
    collect(Scene(scene), [(TASKS[1], 0)], executors(Model()), found.append)
    assert sorted(map(str, answers)) == ["2", "3"]
    assert found[0].correct
    assert not found[0].decide("3").equal


def test_error_of_the_sink_cancels_what_is_open() -> None:
    engine = Model()

    def full(graded: GradedTrace) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        collect(SingleShot(), [(task, 0) for task in TASKS], executors(engine), full)
    assert len(engine.requests) == 4
    assert not engine.open


@pytest.mark.parametrize("answer", [7, 2.5, ["7"], ("7", 1)])
def test_answer_that_is_no_text_is_an_error(answer: Any) -> None:
    def scene() -> Workflow[Any]:
        yield [Note("stop", "done")]
        return answer

    with pytest.raises(ValueError, match=r"agent Scene returned .* for problem p/0, sample 3"):
        list(run_agent(Scene(scene), [(TASKS[0].problem, 3)], executors(Model())))


def test_program_of_an_agent_that_does_not_use_python_is_an_error() -> None:
    def scene() -> Workflow[None]:
        yield [RunPython("1")]

    with pytest.raises(ValueError, match=r"agent Scene runs Python .* uses_python is False"):
        list(run_agent(Scene(scene), [(TASKS[0].problem, 0)], executors(Model(), Shell())))


def test_request_of_no_kind_is_an_error() -> None:
    def scene() -> Workflow[None]:
        yield ["print(1)"]  # type: ignore[list-item]

    with pytest.raises(ValueError, match=r"agent Scene yields 'print\(1\)'"):
        list(run_agent(Scene(scene), [(TASKS[0].problem, 0)], executors(Model())))


def test_solve_that_is_no_generator_is_an_error() -> None:
    class Plain(Agent):
        def solve(self, problem: Problem) -> Any:
            return "7"

    with pytest.raises(ValueError, match=r"agent Plain: solve .* must be a generator"):
        list(run_agent(Plain(), [(TASKS[0].problem, 0)], executors(Model())))


def test_support_is_recorded_only_on_request() -> None:
    for support in (False, True):
        engine = Model()
        jobs = [(TASKS[0].problem, 0)]
        list(run_agent(SingleShot(), jobs, executors(engine), Draws(support=support)))
        assert [request.support for request in engine.requests] == [support]


def test_workflows_of_several_kinds_share_the_scheduler() -> None:
    def asks(role: str, programs: int) -> Workflow[str]:
        for _ in range(programs):
            yield [RunPython("1")]
        [reply] = yield [Generate(user(role), role)]
        return f"{role}: {reply.text}"

    solver, judge = Model("solved"), Model("judged")
    jobs = [
        Job(asks("solver", 0), "agent A", "problem p/1", ("train", "p/1"), ("solver",)),
        Job(asks("judge", 1), "reward B", "problem p/1", ("reward", "p/1"), ("judge",), True),
    ]
    both = Executors({"solver": solver, "judge": judge}, {"default": Sampling()}, Shell())
    finished: list[Finished[str]] = list(Scheduler(both).run(jobs))
    assert {result.value for result in finished} == {"solver: solved", "judge: judged"}
    assert [request.key for request in judge.requests] == [("reward", "p/1", 1)]


def test_job_without_an_engine_is_refused() -> None:
    def asks() -> Workflow[None]:
        yield [Generate(user("?"), "judge")]

    job = Job(asks(), "reward B", "problem p/1", (), ("judge",))
    with pytest.raises(ValueError, match="reward B asks for role 'judge', and no engine serves"):
        list(Scheduler(Executors({"solver": Model()}, {})).run([job]))
