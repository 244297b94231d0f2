"""An agent meets tasks: every trace is graded once and handed on, and bad agents are named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rollout.scripted import Scene, Scripted, printing, served_by

from slm_math.agents import Agent, Judge, SingleShot
from slm_math.answers.graded import GradedTrace
from slm_math.rollout.collect import Draws, check_agents, collect, run_agent
from slm_math.rollout.scheduler import Finished, Job, Scheduler
from slm_math.types import Draft, Generate, Note, Problem, Reply, RunPython, Task, Workflow, user

TASKS = [Task(Problem(f"p/{i}", f"What is {i} + 1?"), str(i + 1)) for i in range(4)]


def model(text: str = r"\boxed{2}") -> Scripted:
    return Scripted(lambda request: Reply(text))


def test_every_pair_reaches_the_sink_with_its_task() -> None:
    found: list[GradedTrace] = []
    jobs = [(task, sample) for task in TASKS for sample in range(2)]
    collect(SingleShot(), jobs, served_by(model()), found.append)
    assert {(g.task.problem.id, g.trace.sample, g.correct) for g in found} == {
        (task.problem.id, sample, task.gold == "2") for task, sample in jobs
    }
    assert all(graded.task.problem is graded.trace.problem for graded in found)


def test_sink_is_called_before_the_next_trace_is_finished() -> None:
    engine, open_then = model(), []
    collect(
        SingleShot(),
        [(task, 0) for task in TASKS],
        served_by(engine),
        lambda graded: open_then.append(len(engine.open)),
    )
    assert open_then == [3, 2, 1, 0]


def test_equal_problems_may_be_collected_twice() -> None:
    found: list[GradedTrace] = []
    collect(SingleShot(), [(TASKS[0], 0), (TASKS[0], 0)], served_by(model()), found.append)
    assert len(found) == 2


def test_each_distinct_answer_is_graded_once(graded_answers: list[str | None]) -> None:
    def scene() -> Workflow[str]:
        yield [Note("draft", "3"), Note("candidate", "3"), Note("verdict", "9")]
        yield [Note("draft", "2")]
        return "2"

    found: list[GradedTrace] = []
    collect(Scene(scene), [(TASKS[1], 0)], served_by(model()), found.append)
    assert sorted(map(str, graded_answers)) == ["2", "3"]
    assert found[0].correct
    assert not found[0].decide("3").equal


def test_error_of_the_sink_cancels_what_is_open() -> None:
    engine = model()

    def full(graded: GradedTrace) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        collect(SingleShot(), [(task, 0) for task in TASKS], served_by(engine), full)
    assert len(engine.asked) == 4
    assert not engine.open


@pytest.mark.parametrize("answer", [7, 2.5, ["7"], ("7", 1)])
def test_answer_that_is_no_text_is_an_error(answer: Any) -> None:
    def scene() -> Workflow[Any]:
        yield [Note("stop", "done")]
        return answer

    with pytest.raises(ValueError, match=r"agent Scene returned .* for problem p/0, sample 3"):
        list(run_agent(Scene(scene), [(TASKS[0].problem, 3)], served_by(model())))


def test_program_of_an_agent_that_does_not_use_python_is_an_error() -> None:
    def scene() -> Workflow[None]:
        yield [RunPython("1")]

    with pytest.raises(
        ValueError, match=r"agent Scene runs a program on problem p/0, .* set uses_"
    ):
        list(run_agent(Scene(scene), [(TASKS[0].problem, 0)], served_by(model(), printing("2"))))


def test_request_of_no_kind_is_an_error() -> None:
    def scene() -> Workflow[None]:
        yield ["print(1)"]  # type: ignore[list-item]

    with pytest.raises(ValueError, match=r"agent Scene yielded 'print\(1\)' .* on problem p/0"):
        list(run_agent(Scene(scene), [(TASKS[0].problem, 0)], served_by(model())))


def test_chat_that_is_a_text_is_an_error() -> None:
    def scene() -> Workflow[None]:
        yield [Generate("hello")]  # type: ignore[arg-type]

    with pytest.raises(ValueError, match=r"agent Scene asks with the chat 'hello' on problem p/0"):
        list(run_agent(Scene(scene), [(TASKS[0].problem, 0)], served_by(model())))


def test_solve_that_is_no_generator_is_an_error() -> None:
    class Plain(Agent):
        def solve(self, problem: Any) -> Any:
            return "7"

    with pytest.raises(ValueError, match=r"agent Plain: solve .* must be a generator"):
        list(run_agent(Plain(), [(TASKS[0].problem, 0)], served_by(model())))


def test_support_is_recorded_only_on_request() -> None:
    for support in (False, True):
        engine = model()
        jobs = [(TASKS[0].problem, 0)]
        list(run_agent(SingleShot(), jobs, served_by(engine), Draws(support=support)))
        assert [request.support for request in engine.asked] == [support]


def test_workflows_of_several_kinds_share_the_scheduler() -> None:
    def asks(role: str, programs: int) -> Workflow[str]:
        for _ in range(programs):
            yield [RunPython("1")]
        [reply] = yield [Generate(user(role), role)]
        return f"{role}: {reply.text}"

    solver, judge = model("solved"), model("judged")
    jobs = [
        Job(asks("solver", 0), "agent A", "problem p/1", ("train", "p/1"), ("solver",)),
        Job(asks("judge", 1), "reward B", "problem p/1", ("reward", "p/1"), ("judge",), True),
    ]
    both = served_by(solver=solver, judge=judge, sandbox=printing("2"))
    finished: list[Finished[str]] = list(Scheduler(both).run(jobs))
    assert {result.value for result in finished} == {"solver: solved", "judge: judged"}
    assert [request.key for request in judge.asked] == [("reward", "p/1", 1)]


def test_job_without_an_engine_is_refused() -> None:
    def asks() -> Workflow[None]:
        yield [Generate(user("?"), "judge")]

    job = Job(asks(), "reward B", "problem p/1", (), ("judge",))
    with pytest.raises(ValueError, match="reward B asks for role 'judge', and no engine serves"):
        list(Scheduler(served_by(solver=model())).run([job]))


def test_an_agent_that_refuses_a_kind_of_problem_is_named_without_a_request() -> None:
    """Of two agents and two kinds of problems the one that does not take the other kind."""
    draft = Problem("d/1", "What is 1 + 1?", "verdict", draft=Draft("2", "2"))
    judged = [Task(draft, "CORRECT"), Task(replace(draft, id="d/2"), "CORRECT")]
    check_agents({"plain": SingleShot()}, TASKS)
    check_agents({"judging": Judge()}, judged)
    with pytest.raises(ValueError, match=r"^agent judging: problem p/0 has no draft to judge"):
        check_agents({"plain": SingleShot(), "judging": Judge()}, TASKS)
    with pytest.raises(ValueError, match=r"^agent plain: problem d/1 asks about a draft"):
        check_agents({"plain": SingleShot()}, [*TASKS, *judged])
