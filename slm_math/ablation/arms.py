"""Runs the workflows of an evaluation again, each with one turn changed, and records them as an
evaluation of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slm_math.ablation.rerun import NamedTurn, Rerun
from slm_math.agents import Agent
from slm_math.agents.base import check_answer, owner_name, work_name
from slm_math.answers.graded import grade_trace
from slm_math.claims.replay import Differs, Replayed
from slm_math.data.attempts import problem_of
from slm_math.evaluation.evaluate import occupancy
from slm_math.evaluation.plain import plain
from slm_math.evaluation.runs import FinishedEvaluation
from slm_math.metrics.columns import Samples
from slm_math.records.files import RecordFile, differences, plain_identity, read_manifest
from slm_math.records.record import Record, record
from slm_math.rollout.scheduler import Executors, Finished, Job, Scheduler
from slm_math.types import Generate, RunResult, Task, Trace


@dataclass(frozen=True)
class Recorded:
    """A recorded workflow that has the turn, with the results of its programs."""

    record: Record
    results: Sequence[RunResult]


@dataclass(frozen=True)
class Reruns:
    """What is run again.

    Args:
        run: the evaluation.
        agent: its agent.
        turn: which turn is changed.
        reached: the workflows that have it.
    """

    run: FinishedEvaluation
    agent: Agent
    turn: NamedTurn
    reached: tuple[Recorded, ...]

    @classmethod
    def of(cls, run: FinishedEvaluation, agent: Agent, turn: NamedTurn) -> Reruns:
        """Raises ValueError for a role or turn that no workflow has, and for an agent that does
        otherwise than a record says when it gets the recorded replies.
        """
        known = ("program",) * agent.uses_python + tuple(agent.roles)
        if turn.role not in known:
            raise ValueError(f"--turn {turn.role}: {run.name} has turns of {', '.join(known)}")
        replay, found = Replayed(agent), []
        for own in run.samples.records:
            if not turn.reached(own):
                continue
            try:
                found.append(Recorded(own, replay.results_of_programs(own)))
            except Differs as error:
                raise ValueError(
                    f"{run.name}: problem {plain(own.id)}, sample {own.sample}: {error}: its agent "
                    "or prompts are not those that were evaluated, so nothing can be run again"
                ) from error
        if not found:
            most = max(map(turn.count, run.samples.records), default=0)
            raise ValueError(
                f"no workflow of {run.name} has a turn {turn.name}: those that ended have at most "
                f"{most} of {turn.role}"
            )
        return cls(run, agent, turn, tuple(found))

    def is_greedy(self, executors: Executors) -> bool:
        """Whether the turn of the first workflow was sampled at temperature 0."""
        own = self.reached[0]
        workflow = Rerun(own.record, self.turn, own.results, draw=0).workflow(
            self.agent, problem_of(own.record)
        )
        first = next(effect for effect in next(workflow) if isinstance(effect, Generate))
        workflow.close()
        return first.sampling(executors.defaults(first.role)).temperature == 0

    def arm(
        self,
        folder: Path,
        executors: Executors,
        draws: int = 0,
        progress: Callable[[Sequence[Record], int], None] | None = None,
    ) -> Samples:
        """The samples of the evaluation without the turn, or with `draws` other draws of it, each a
        sample of its own; written to a folder, where an interrupted arm goes on. Workflows that do
        not have the turn are taken as they are.

        Raises ValueError for a folder of another arm.
        """
        each = max(draws, 1)
        about = self.run.manifest.get("about", {})
        file = RecordFile(folder, self._identity(draws), about=about)
        reached = {own.record.key for own in self.reached}
        for own in self.run.samples.records:
            for draw in range(each):
                copy = replace(own, sample=own.sample * each + draw)
                if own.key not in reached and copy.key not in file.records:
                    file.add(copy)
        total = each * len(self.run.samples)
        engines = list({id(one): one for one in executors.engines.values()}.values())
        usage, finished = [engine.usage() for engine in engines], False
        try:
            for ended in Scheduler(executors).run(self._jobs(draws, file.records)):
                file.add(_record(ended))
                if progress is not None:
                    progress(file.records, total)
            finished = True
        finally:
            decoding = [occupancy(old, one.usage()) for old, one in zip(usage, engines)]
            file.close(finished, [values for values in decoding if values])
        return Samples.of(file.records)

    def check_folder(self, folder: Path, draws: int) -> None:
        """Raises ValueError for a folder that holds another arm. Nothing is written."""
        if not (folder / "manifest.json").is_file() or not (folder / "records.jsonl").is_file():
            return
        there = plain_identity(read_manifest(folder)["identity"])
        changed = differences(there, plain_identity(self._identity(draws)))
        if changed == ["samples"]:
            before = int(there["samples"]) // int(self.run.manifest["identity"]["samples"])
            raise ValueError(
                f"{folder} has {before} draws of each workflow, not {draws}: say --draws {before}, "
                "or choose another --out"
            )
        if changed:
            raise ValueError(
                f"{folder} holds another arm ({', '.join(changed)} differ): choose another --out"
            )

    def _identity(self, draws: int) -> dict[str, Any]:
        """Of the evaluation that an arm is."""
        identity = self.run.manifest["identity"]
        return (
            identity
            | {"samples": max(draws, 1) * int(identity["samples"])}
            | {"turn": self.turn.name, "arm": "drawn again" if draws else "left out"}
        )

    def _jobs(self, draws: int, there: Any) -> Iterator[Job[str | None]]:
        seed, each = self.run.manifest["identity"]["seed"], max(draws, 1)
        for own in self.reached:
            for draw in range(each):
                sample = own.record.sample * each + draw
                if (own.record.id, sample) in there:
                    continue
                again = Rerun(own.record, self.turn, own.results, draw if draws else None)
                problem = problem_of(own.record)
                yield Job(
                    workflow=again.workflow(self.agent, problem),
                    owner=owner_name(self.agent),
                    about=work_name(problem, own.record.sample),
                    key=("eval", seed, problem.id, own.record.sample),
                    roles=tuple(self.agent.roles),
                    uses_python=self.agent.uses_python,
                    subject=(own.record, sample, again),
                )


def _record(ended: Finished[str | None]) -> Record:
    """The record of a workflow that was run again."""
    original, sample, again = ended.job.subject
    task = Task(problem_of(original), original.gold, tolerance=original.tolerance)
    trace = Trace(
        task.problem,
        sample,
        events=tuple(again.events),
        answer=check_answer(ended.value, ended.job.owner, ended.job.about),
        error=ended.error,
        seconds=ended.seconds,
        skipped=ended.skipped,
    )
    return record(grade_trace(task, trace))
