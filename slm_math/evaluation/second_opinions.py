"""A second grader for the records of an evaluation, and the accuracy as a range of both."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from slm_math.answers.second_opinion import second_opinion
from slm_math.evaluation.plain import plain, print_line
from slm_math.evaluation.progress import with_progress
from slm_math.metrics.disputes import Dispute, Disputes, range_of
from slm_math.metrics.groups import Groups
from slm_math.records.files import write_json
from slm_math.records.record import Record
from slm_math.records.stating import stating_reply
from slm_math.records.stored import StoredRecords
from slm_math.types import Problem, Task

FILE = "second_opinion.json"


def print_second_opinions(folder: Path, name: str, console: Console) -> None:
    """Asks math-verify about every answer of an evaluation; prints the range and the disputes, and
    writes them with all disputed samples to `second_opinion.json` in its folder.
    """
    disputes, disputed, problems = Disputes(), [], Groups(4)
    records = StoredRecords(folder / "records.jsonl")
    for record in with_progress(records, console, f"second opinion on {plain(name)}"):
        dispute, right = _dispute(record), record.correct
        differs = disputes.add(dispute)
        if differs:
            disputed.append(dispute._asdict() | {"opinion": dispute.opinion._asdict()})
        problems.add(record.id, (1, right, differs and right, differs and not right))
    bounds = range_of((n, right, one, other, 1) for n, right, one, other in problems)
    write_json(
        folder / FILE,
        {
            "accuracy": list(bounds),
            "n": len(records),
            "asked": disputes.asked,
            "no_opinion": disputes.silent,
            "disputed": disputed,
        },
    )
    for line in disputes.lines(bounds, len(records)):
        print_line(console, f"{plain(name)}: {plain(line, 400)}")


def _dispute(record: Record) -> Dispute:
    problem = Problem(record.id, record.problem, record.answer_type, record.choices)
    task = Task(problem, record.gold, tolerance=record.tolerance)
    return Dispute(
        f"{record.id}, sample {record.sample}",
        answer=record.answer or "",
        gold=record.gold,
        correct=record.correct,
        reason=record.reason,
        opinion=second_opinion(record.answer, task, stating_reply(record) or ""),
    )
