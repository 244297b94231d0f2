"""Drafts where they were written: the records of evaluations, and files of rows; each with its
label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from slm_math.answers import UNDECIDED, extract, grader_version
from slm_math.answers.grade import grade_answer
from slm_math.data.base import Split
from slm_math.data.files import FileRow, read_rows
from slm_math.records.eval_folders import evaluation_folders
from slm_math.records.files import read_manifest, read_records
from slm_math.records.record import GRADED, ChatMessage, NoteEvent, Record, TurnEvent
from slm_math.types import Draft, Problem, Task

GIVEN = "given"  # the grader of a label that a row states, without saying whose it is
_SPLITS = {"validation": "validation", "validate": "validation", "test": "test", "predict": "test"}


@dataclass(frozen=True)
class WrittenDraft:
    """A draft, its problem, whether its answer is right, and who says so (`grader`).

    `split` is the split of the problem that an evaluation names; a worked `solution` of the problem
    may be in a row.
    """

    problem: Problem
    draft: Draft
    right: bool
    grader: str
    split: Split = "train"
    solution: str | None = None


@dataclass(frozen=True)
class Written:
    """The drafts of one place, and how many others were left out, by the reason."""

    drafts: tuple[WrittenDraft, ...]
    left_out: dict[str, int]


def read_drafts(path: Path) -> Written:
    """The drafts of an agent's evaluation, of all agents in an output folder, or of a file of rows.

    Raises ValueError for a place that holds none, and says why.
    """
    if path.is_file():
        rows = read_rows(path)
        split = next((s for s in ("validation", "test") if path.stem.startswith(s)), "train")
        read = Written(tuple(_of_row(row, cast(Split, split)) for row in rows), {})
        if not rows:
            raise ValueError(f"{path} is empty: it holds no drafts")
        return read
    own = (path / "records.jsonl").is_file()
    folders = [path] if own else list(evaluation_folders(path).values())
    if not folders:
        raise ValueError(
            f"{path} holds no drafts: it is no evaluation (neither records.jsonl nor "
            f"<agent>/records.jsonl), and no file of rows"
        )
    parts = [_of_evaluation(folder) for folder in folders]
    reasons = dict.fromkeys(reason for part in parts for reason in part.left_out)
    return Written(
        tuple(draft for part in parts for draft in part.drafts),
        {reason: sum(part.left_out.get(reason, 0) for part in parts) for reason in reasons},
    )


def _of_evaluation(folder: Path) -> Written:
    records = read_records(folder / "records.jsonl")
    manifest = read_manifest(folder)
    if not records:
        raise ValueError(f"{folder} is empty: it has no records, so there are no drafts to judge")
    if any(record.answer_type == "verdict" for record in records):
        raise ValueError(
            f"{folder} holds verdicts on drafts: name the evaluation in which the drafts were "
            "written"
        )
    answered = [record for record in records if record.answer is not None and record.turns]
    if not answered:
        raise ValueError(
            f"{folder} holds no drafts: none of its {len(records)} records has an answer"
        )
    decided = [record for record in answered if record.reason not in UNDECIDED]
    same = manifest.get("identity", {}).get("grader") == grader_version()
    split = _split(manifest)
    drafts = tuple(_of_record(record, split, graded=same) for record in decided)
    left_out = {
        "without an answer": len(records) - len(answered),
        "that the grader could not decide": len(answered) - len(decided),
    }
    return Written(drafts, left_out)


def _split(manifest: Mapping[str, Any]) -> Split:
    about = manifest.get("about", {})
    return cast(Split, _SPLITS.get(str(about.get("split")), "train"))


def _of_record(record: Record, split: Split, graded: bool) -> WrittenDraft:
    """The answer of a record; it is graded again unless this version of the grader decided on it,
    so that all labels are of one version.
    """
    first = record.turns[0].prompt
    if any(message.content.startswith("[image: ") for message in first):
        raise ValueError(
            f"problem {record.id} shows images, which records do not keep, so that no verifier "
            "could see them"
        )
    problem = Problem(
        record.id, record.problem, record.answer_type, record.choices, tags=record.tags
    )
    assert record.answer is not None
    task = Task(problem, record.gold, tolerance=record.tolerance)
    right = record.correct if graded else grade_answer(record.answer, task).equal
    draft = Draft(draft_text(record), record.answer)
    return WrittenDraft(problem, draft, right, grader_version(), split=split)


def draft_text(record: Record) -> str:
    """What `SolverVerifier` would show its verifier: the last reply that states the answer, after
    the programs, their output and the replies that led to it in the same attempt. Only the role
    that spoke first writes drafts.
    """
    role = record.turns[0].role
    attempts: list[list[TurnEvent]] = [[]]
    for event in record.events:
        if isinstance(event, TurnEvent) and event.role == role:
            attempts[-1].append(event)
        elif isinstance(event, NoteEvent) and event.kind in (*GRADED, "verdict"):
            attempts.append([])
    turns = [(turn, attempt) for attempt in attempts for turn in attempt]
    stating = [pair for pair in turns if _states(pair[0].reply, record)]
    last, attempt = (stating or turns)[-1]
    begin = next(turn for turn in attempt if last.prompt[: len(turn.prompt)] == turn.prompt)
    return "\n\n".join(texts_after(last.prompt[len(begin.prompt) :], last.reply))


def texts_after(messages: Sequence[ChatMessage], reply: str) -> Iterator[str]:
    """The texts of messages and of a reply, which continues an open message of the assistant."""
    *closed, last = [*messages, ChatMessage("", "")]
    if closed and closed[-1].role == "assistant":
        *closed, last = closed
    yield from (message.content for message in closed)
    yield last.content + reply


def _states(reply: str, record: Record) -> bool:
    return extract(reply, answer_type=record.answer_type).value == record.answer


def _of_row(row: FileRow, split: Split) -> WrittenDraft:
    id = row.fields.get("id")
    problem = Problem(str(id if isinstance(id, str | int) else row.place), row.text("problem"))
    draft = Draft(row.text("draft"), row.text("answer"))
    solution = row.text("solution") if row.fields.get("solution") else None
    if row.fields.get("gold") is None:
        if "correct" not in row.fields:
            raise row.error("correct", "is missing, and so is 'gold': one of them is the label")
        right = row.flag("correct", False)
        grader = row.text("grader") if row.fields.get("grader") else GIVEN
        return WrittenDraft(problem, draft, right, grader, split=split, solution=solution)
    right = grade_answer(draft.answer, Task(problem, row.text("gold"))).equal
    return WrittenDraft(problem, draft, right, grader_version(), split=split, solution=solution)
