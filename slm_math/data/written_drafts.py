"""Drafts where they were written: the records of evaluations, and files of rows; each with its
label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from slm_math.answers import extract, grader_version
from slm_math.answers.grade import grade_answer
from slm_math.answers.tolerance import allowance
from slm_math.data.attempts import (
    BROKEN,
    NO_EVALUATION,
    OPEN,
    Attempt,
    Attempts,
    folders_of,
    read_attempts,
)
from slm_math.data.base import SPLITS, Split
from slm_math.data.conversations import continues, is_shown_output
from slm_math.data.files import FileRow, read_rows, split_files
from slm_math.records.record import GRADED, ChatMessage, NoteEvent, Record, RunEvent, TurnEvent
from slm_math.types import Draft, Image, Problem, Task

GIVEN = "given"  # the grader of a label that a row states, without saying whose it is
SILENT = "without an answer"
_ANSWER_TYPES = ("math", "mc", "num")  # a draft of a verdict has nothing to judge


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
    """The drafts of an agent's evaluation, of all agents in an output folder, of a file of rows, or
    of a folder of such files (`train.jsonl`, `validation.jsonl`, `test.jsonl`).

    Raises ValueError for a place that holds none, and says why.
    """
    if path.is_file():
        return _of_file(path)
    if folders := folders_of(path):
        attempts = Attempts.joined(map(_of_evaluation, folders))
        return Written(tuple(map(written_draft, attempts.attempts)), attempts.left_out)
    files = [file for split in SPLITS for file in split_files(path, split)]
    if not files:
        raise ValueError(f"{path} holds no drafts: {NO_EVALUATION}, and no file of rows")
    return Written(tuple(draft for file in files for draft in _of_file(file).drafts), {})


def _of_file(path: Path) -> Written:
    rows = read_rows(path)
    split = next((s for s in ("validation", "test") if path.stem.startswith(s)), "train")
    if not rows:
        raise ValueError(f"{path} is empty: it holds no drafts")
    return Written(tuple(_of_row(row, cast(Split, split)) for row in rows), {})


def _of_evaluation(folder: Path) -> Attempts:
    return answered(read_attempts(folder), folder)


def answered(attempts: Attempts, folder: Path) -> Attempts:
    """The attempts of an evaluation that state an answer: drafts to judge.

    Raises ValueError if there are none, and for attempts that are verdicts on drafts.
    """
    records = [attempt.record for attempt in attempts.attempts]
    if any(record.answer_type == "verdict" for record in records):
        raise ValueError(
            f"{folder} holds verdicts on drafts: name the evaluation in which the drafts were "
            "written"
        )
    stated = tuple(each for each in attempts.attempts if each.record.answer is not None)
    broken = attempts.left_out.get(BROKEN, 0)
    if not stated and not attempts.left_out.get(OPEN):
        raise ValueError(
            f"{folder} holds no drafts: none of its {len(records) + broken} records has an answer"
        )
    silent = len(records) - len(stated) + broken
    return Attempts(stated, {SILENT: silent, OPEN: attempts.left_out.get(OPEN, 0)})


def written_draft(attempt: Attempt) -> WrittenDraft:
    """The draft of an attempt that states an answer."""
    record, version = attempt.record, grader_version()
    assert record.answer is not None
    draft = Draft(draft_text(record), record.answer)
    return WrittenDraft(attempt.problem, draft, attempt.right, version, split=attempt.split)


def draft_text(record: Record) -> str:
    """What `SolverVerifier` would show its verifier: the last reply that states the answer, after
    the programs, their output and the replies that led to it in the same attempt. Only the role
    that spoke first writes drafts.
    """
    turns = [(turn, attempt) for attempt in _attempts(record) for turn in attempt]
    stating = [pair for pair in turns if _states(pair[0].reply, record)]
    last, attempt = (stating or turns)[-1]
    begin = next(turn for turn in attempt if last.prompt[: len(turn.prompt)] == turn.prompt)
    return "\n\n".join(texts_after(last.prompt[len(begin.prompt) :], last.reply))


def _attempts(record: Record) -> list[list[TurnEvent]]:
    """The turns of the role that spoke first, by attempt: a draft or a verdict on it ends one,
    unless the reply to a program's output goes on with it.
    """
    role = record.turns[0].role
    attempts: list[list[TurnEvent]] = [[]]
    ended, runs = False, []
    for event in record.events:
        if isinstance(event, RunEvent):
            runs.append(event)
        elif isinstance(event, NoteEvent):
            ended = ended or event.kind in (*GRADED, "verdict")
        elif event.role == role:
            goes = bool(attempts[-1]) and continues(event, attempts[-1][-1])
            if ended and not (goes and is_shown_output(event, runs[-1:])):
                attempts.append([])
            attempts[-1].append(event)
            ended = False
    return attempts


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
    problem, tolerance = _problem_of(row)
    draft = Draft(row.text("draft"), row.text("answer"))
    solution = row.text("solution") if row.fields.get("solution") else None
    if row.fields.get("gold") is None:
        if "correct" not in row.fields:
            raise row.error("correct", "is missing, and so is 'gold': one of them is the label")
        right = row.flag("correct", False)
        grader = row.text("grader") if row.fields.get("grader") else GIVEN
        return WrittenDraft(problem, draft, right, grader, split=split, solution=solution)
    task = Task(problem, row.text("gold"), tolerance=tolerance)
    right = grade_answer(draft.answer, task).equal
    return WrittenDraft(problem, draft, right, grader_version(), split=split, solution=solution)


def _problem_of(row: FileRow) -> tuple[Problem, float | str | None]:
    """The problem of a row, and the tolerance of its answer."""
    id, fields = row.fields.get("id"), row.fields
    answer_type = fields.get("answer_type") or "math"
    choices, tags = fields.get("choices") or [], fields.get("tags") or {}
    tolerance = fields.get("tolerance")
    if answer_type not in _ANSWER_TYPES:
        raise row.error("answer_type", f"must be one of {', '.join(_ANSWER_TYPES)}")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise row.error("choices", "must be a list of texts")
    if not isinstance(tags, dict):
        raise row.error("tags", "must be an object")
    try:
        if tolerance is not None:
            allowance(tolerance)
    except (ValueError, TypeError) as error:
        raise row.error("tolerance", f"is unreadable: {error}") from None
    problem = Problem(
        id=str(id if isinstance(id, str | int) else row.place),
        text=row.text("problem"),
        answer_type=answer_type,
        choices=tuple(choices),
        images=tuple(map(Image, row.texts("images"))),
        tags={str(name): str(value) for name, value in tags.items()},
    )
    return problem, tolerance
