"""A workflow that runs again takes from its record whatever the changed turn left as it was."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from ablation.planted import ablated, evaluated, executors, tasks
from evaluation.one_by_one import OneByOne
from rich.console import Console

from slm_math.ablation.arms import Reruns
from slm_math.ablation.command import AGAIN, LEFT_OUT, run_arms, write_found
from slm_math.ablation.rerun import NamedTurn, Rerun
from slm_math.agents import CodeFeedback, MajorityVote, SingleShot, SolverVerifier
from slm_math.answers.graded import grade_trace
from slm_math.engines.base import Request
from slm_math.engines.planted import PlantedPair, PlantedSolver
from slm_math.evaluation.runs import FinishedEvaluation
from slm_math.metrics.columns import Samples
from slm_math.records.files import read_records
from slm_math.records.record import record
from slm_math.testing import drive
from slm_math.types import Generate, Note, Reply, RunPython, RunResult, Sampling, Workflow

USEFUL = {"accuracy": 0.5, "recognizes": (0.9, 0.9), "repaired": (0.8, 0.4)}


def say(request: Request) -> str:
    """Drafts 1 and 2 of a solver, whom a verifier sends back once."""
    if request.role == "verifier":
        return "Look again.\nVERDICT: INCORRECT"
    return rf"\boxed{{{len(request.chat)}}}"


def test_only_what_follows_the_turn_is_sampled(tmp_path: Path) -> None:
    run = evaluated(tmp_path, OneByOne(say), 2)
    engine = OneByOne(say)
    ablated(run, engine)
    asked = [(request.role, len(request.chat)) for request in engine.requests]
    assert asked == [("solver", 3)] * 2  # neither the first draft nor the verifier
    assert all("could not be checked" in request.chat[-1].text for request in engine.requests)


def test_later_requests_keep_their_random_keys(tmp_path: Path) -> None:
    first = OneByOne(say)
    run = evaluated(tmp_path, first, 1)
    again = OneByOne(say)
    ablated(run, again, turn="solver")  # an empty draft is asked for again, and gets nothing
    ablated(run, again, turn="verifier")
    keys = [request.key for request in first.requests]
    assert keys == [("eval", 0, "p/0", 0, number) for number in (1, 2, 3)]
    assert [request.key for request in again.requests] == keys[2:]


def test_draws_have_keys_of_their_own(tmp_path: Path) -> None:
    run = evaluated(tmp_path, OneByOne(say), 1)
    engine = OneByOne(say)
    ablated(run, engine, draws=3)
    drawn = [request.key for request in engine.requests if request.role == "verifier"]
    assert drawn == [("eval", 0, "p/0", 0, "drawn again", draw, 2) for draw in range(3)]


def test_without_a_vote_the_others_decide(tmp_path: Path) -> None:
    solver = PlantedSolver(tasks(80), accuracy=0.5, concentration=3.0)
    vote = MajorityVote(k=4)
    run = evaluated(tmp_path, solver, 80, agent=vote)
    ablated(run, solver, turn="solver:2", agent=vote)
    folder = run.folder / "ablate" / "solver-2" / "left-out"
    for one in read_records(folder / "records.jsonl"):
        votes = [solver.answer(one.id, 0, turn) for turn in (1, 3, 4)]
        assert one.answer == Counter(votes).most_common(1)[0][0]


def test_a_candidate_beside_others_is_drawn_alone(tmp_path: Path) -> None:
    engine = OneByOne(r"\boxed{7}")
    vote = MajorityVote(k=4)
    run = evaluated(tmp_path, engine, 1, agent=vote)
    again = OneByOne(r"\boxed{8}")
    ablated(run, again, turn="solver:3", draws=1, agent=vote)
    assert len(again.requests) == 1
    [one] = read_records(run.folder / "ablate" / "solver-3" / "drawn-again" / "records.jsonl")
    assert [turn.reply[-2] for turn in one.turns] == ["7", "7", "8", "7"]
    assert one.answer == "7"


def with_a_program(turn: str, draw: int | None) -> tuple[Rerun, Workflow[str | None]]:
    """A workflow whose first reply has a program that printed 7, run again."""
    task = tasks(1)[0]
    replies = ["```python\nprint(7)\n```", r"\boxed{7}"]
    trace = drive(CodeFeedback(), task.problem, replies, ["7"]).trace
    recorded = record(grade_trace(task, trace))
    again = Rerun(recorded, NamedTurn.of(turn), [RunResult(True, stdout="7")], draw)
    return again, again.workflow(CodeFeedback(), task.problem)


def test_a_program_that_is_left_out_prints_nothing() -> None:
    again, workflow = with_a_program("program", None)
    [request] = next(workflow)  # the reply with the program is that of the record
    assert isinstance(request, Generate)
    assert "7" not in request.chat[-1].text
    assert request.draw == (2,)
    with pytest.raises(StopIteration) as end:
        workflow.send([Reply("I do not know.")])
    assert end.value.value is None
    assert [type(event).__name__ for event in again.events if not isinstance(event, Note)] == [
        *("Turn", "Run", "Turn")
    ]


def test_a_known_program_does_not_run_again() -> None:
    _, workflow = with_a_program("solver:2", 0)
    [request] = next(workflow)
    assert not isinstance(request, RunPython)
    assert "7" in request.chat[-1].text


def test_an_agent_that_changed_is_refused(tmp_path: Path) -> None:
    run = evaluated(tmp_path, OneByOne(say), 1)
    with pytest.raises(ValueError, match=r"sample 0: the agent .* nothing can be run again"):
        Reruns.of(run, SolverVerifier(rounds=1, runs=0), NamedTurn.of("verifier"))


def test_records_that_changed_are_refused(tmp_path: Path) -> None:
    run = evaluated(tmp_path, OneByOne(say), 1)
    [own] = run.samples.records
    first = own.events[0]
    message = first.prompt[0]._replace(content=first.prompt[0].content + " ")
    changed = replace(own, events=(replace(first, prompt=(message,)), *own.events[1:]))
    other = replace(run, samples=Samples.of([changed]))
    with pytest.raises(ValueError, match="asks solver with another prompt"):
        Reruns.of(other, SolverVerifier(rounds=2, runs=0), NamedTurn.of("verifier"))


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ("verifier:0", "name a role or program"),
        ("judge", "has turns of program, solver, verifier"),
        ("verifier:2", "has a turn verifier:2: those that ended have at most 1 of verifier"),
    ],
)
def test_a_turn_that_is_not_there_is_refused(tmp_path: Path, turn: str, message: str) -> None:
    run = evaluated(tmp_path, OneByOne(say), 1)
    with pytest.raises(ValueError, match=message):
        Reruns.of(run, SolverVerifier(rounds=2, runs=0), NamedTurn.of(turn))


def test_workflows_without_the_turn_stay_as_they_are(tmp_path: Path) -> None:
    engine = PlantedPair(tasks(40), **USEFUL)
    run = evaluated(tmp_path, engine, 40)
    found = ablated(run, engine, turn="solver:2")["left out"]
    arm = read_records(run.folder / "ablate" / "solver-2" / "left-out" / "records.jsonl")
    before = {own.id: own for own in run.samples.records}
    same = [own for own in arm if own == before[own.id]]
    assert len(same) == 40 - found.n
    assert 0 < found.n < 40


def test_an_interrupted_arm_goes_on(tmp_path: Path) -> None:
    planted = PlantedPair(tasks(12), **USEFUL)
    run = evaluated(tmp_path, planted, 12)
    [whole] = ablated(run, planted).values()
    file = run.folder / "ablate" / "verifier" / "left-out" / "records.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:5]))
    [again] = ablated(run, planted).values()
    assert again == whole
    assert sorted(file.read_bytes().splitlines(keepends=True)) != sorted(lines[:5])
    assert len(read_records(file)) == 12


def test_another_number_of_draws_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    planted = PlantedPair(tasks(12), **USEFUL)
    run = evaluated(tmp_path, planted, 12)
    ablated(run, planted, draws=1)
    arms = run.folder / "ablate" / "verifier"
    before = {path: path.read_bytes() for path in arms.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="has 1 draws of each workflow, not 2: say --draws 1"):
        ablated(run, planted, draws=2)
    assert {path: path.read_bytes() for path in arms.rglob("*") if path.is_file()} == before


def test_an_arm_that_was_made_before_stays_in_the_file(tmp_path: Path) -> None:
    planted = PlantedPair(tasks(12), **USEFUL)
    run = evaluated(tmp_path, planted, 12)
    for draws in (1, 0):
        write_found(tmp_path, ablated(run, planted, draws=draws))
        assert set(json.loads((tmp_path / "ablation.json").read_text())) == {LEFT_OUT, AGAIN}


def test_a_greedy_turn_has_no_other_draw(tmp_path: Path) -> None:
    greedy = SingleShot()
    engine = OneByOne(r"\boxed{7}")
    run: FinishedEvaluation = evaluated(tmp_path, engine, 2, agent=greedy)
    reruns = Reruns.of(run, greedy, NamedTurn.of("solver"))
    cold = replace(executors(engine), sampling={"default": Sampling(0.0)})
    found, notes = run_arms(reruns, cold, tmp_path / "arms", 4, console=Console(quiet=True))
    assert list(found) == ["left out"]
    assert notes == ["solver:1 is greedy (temperature 0): it is left out, and has no other draw"]
    # a solver's only reply is worth its accuracy
    assert found["left out"].difference == run.samples.total(lambda one: one.correct) / 2
