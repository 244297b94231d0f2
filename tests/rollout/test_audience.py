"""Workflows that are added one by one, dropped, and followed while they run."""

from typing import Any

import pytest
from rollout.scripted import Scene, Scripted, printing, served_by

from slm_math.engines.base import Request
from slm_math.rollout.collect import Draws, job_of, trace_of
from slm_math.rollout.scheduler import Job, Scheduler
from slm_math.types import Generate, Note, Problem, Reply, Run, RunPython, Turn, user

DRAWS = Draws(key=("test",))


class Diary:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def asked(self, number: int, job: Job[Any], effect: Generate | RunPython) -> None:
        self.lines.append(("asked", number, type(effect).__name__))

    def grew(self, number: int, text: str) -> None:
        self.lines.append(("grew", number, text))

    def happened(self, number: int, job: Job[Any], event: Turn | Run | Note) -> None:
        text = event.text if isinstance(event, Note) else ""
        text = event.reply.text if isinstance(event, Turn) else text
        text = event.result.stdout if isinstance(event, Run) else text
        self.lines.append((type(event).__name__, number, text))


def telling(request: Request) -> Reply:
    """A reply that grows before it is there."""
    if request.progress is not None:
        request.progress("2 +")
    return Reply(f"2 + 2 to {request.chat[0].text}")


def asking(number: int) -> Any:
    def make() -> Any:
        [reply] = yield [Generate(user(f"{number}"))]
        return reply.text

    return job_of(Scene(make), Problem(f"p{number}", "?"), sample=0, draws=DRAWS)


def test_the_audience_is_told_everything_in_order() -> None:
    def make() -> Any:
        yield [Note("draft", "3"), Generate(user("a"))]
        yield [Note("verdict", "CORRECT")]
        yield [RunPython("print(4)")]
        return "4"

    diary = Diary()
    executors = served_by(Scripted(telling), printing("4"))
    scheduler = Scheduler(executors, audience=diary)
    [done] = scheduler.run(
        [job_of(Scene(make, uses_python=True), Problem("p", "?"), sample=0, draws=DRAWS)]
    )
    assert trace_of(done).answer == "4"
    assert diary.lines == [
        ("Note", 0, "3"),
        ("asked", 1, "Generate"),
        ("grew", 1, "2 +"),
        ("Turn", 1, "2 + 2 to a"),
        ("Note", 0, "CORRECT"),
        ("asked", 2, "RunPython"),
        ("Run", 2, "4"),
    ]


def test_jobs_can_be_added_while_others_run() -> None:
    engine = Scripted(telling)
    scheduler = Scheduler(served_by(engine))
    assert list(scheduler.add(asking(1))) == []
    assert list(scheduler.add(asking(2))) == []
    assert scheduler.busy == 2
    first = list(scheduler.step())
    assert list(scheduler.add(asking(3))) == []
    rest = [one for _ in range(2) for one in scheduler.step()]
    assert [one.value[-1] for one in first + rest] == ["2", "3", "1"]  # the newest comes first
    assert scheduler.busy == 0


def test_a_canceled_job_leaves_nothing_behind_and_others_go_on() -> None:
    engine = Scripted(telling)
    scheduler = Scheduler(served_by(engine))
    jobs = [asking(1), asking(2)]
    for job in jobs:
        assert list(scheduler.add(job)) == []
    scheduler.cancel(jobs[1])
    assert (engine.busy, scheduler.busy) == (1, 1)
    assert [one.job for one in scheduler.step()] == [jobs[0]]


def test_without_an_audience_no_reply_is_told() -> None:
    engine = Scripted(telling)
    list(Scheduler(served_by(engine)).run([asking(1)]))
    assert engine.asked[0].progress is None


def test_a_job_of_a_missing_role_is_refused_when_it_is_added() -> None:
    scheduler = Scheduler(served_by(judge=Scripted(telling)))
    with pytest.raises(ValueError, match="no engine serves this role"):
        list(scheduler.add(asking(1)))
    assert scheduler.busy == 0
