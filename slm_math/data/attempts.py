"""Attempts: the samples of evaluations with the grader's verdicts, of which data are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from slm_math.answers import UNDECIDED, grader_version
from slm_math.answers.decisions import Decision
from slm_math.answers.grade import grade_answer
from slm_math.data.base import Split
from slm_math.images import image_hash
from slm_math.records.eval_folders import TWIN_OF, evaluation_folders
from slm_math.records.files import read_manifest, read_records
from slm_math.records.record import NOT_KEPT, Record, lost_images
from slm_math.types import Problem, Task

BROKEN = "attempts that broke or did not fit into the context"
NO_EVALUATION = "it has neither records.jsonl nor <agent>/records.jsonl of an evaluation"
BLIND = "attempts of the blind control"
TWIN = "attempts at unseen twins"
OPEN = "answers that the grader could not decide"
_SPLITS = {"validation": "validation", "validate": "validation", "test": "test", "predict": "test"}


@dataclass(frozen=True)
class Attempt:
    """A sample of an evaluation: its record, whether its answer is right, and the `split` of the
    problem that the evaluation names. `folder` is that of the evaluation.
    """

    record: Record
    folder: Path
    split: Split
    right: bool

    @property
    def problem(self) -> Problem:
        return problem_of(self.record)

    @property
    def task(self) -> Task:
        return Task(self.problem, self.record.gold, tolerance=self.record.tolerance)


@dataclass(frozen=True)
class Attempts:
    """The attempts of evaluations, and how many others were left out, by the reason."""

    attempts: tuple[Attempt, ...]
    left_out: dict[str, int] = field(default_factory=dict)

    @classmethod
    def joined(cls, parts: Iterable[Attempts]) -> Attempts:
        """Those of several evaluations."""
        parts, left_out = list(parts), Counter[str]()
        for part in parts:
            left_out.update(part.left_out)
        return cls(tuple(each for part in parts for each in part.attempts), dict(left_out))


def folders_of(path: Path) -> list[Path]:
    """The evaluation in a folder, or those of all agents in an output folder; [] if there is none.

    Evaluations that hold nothing but broken workflows count, too.
    """
    if (path / "records.jsonl").is_file():
        return [path]
    return list(evaluation_folders(path).values())


def read_attempts(folder: Path, again: bool = False) -> Attempts:
    """The attempts of one evaluation, in the order of their records.

    Labels are those of this version of the grader: records of another one are graded again, and
    with `again` all are. Attempts that the grader cannot decide are left out, and so are workflows
    that broke, and attempts of the blind control and at unseen twins. Raises ValueError for an
    evaluation without records, and for images that are gone or were changed.
    """
    records = read_records(folder / "records.jsonl")
    if not records:
        raise ValueError(f"{folder} is empty: it has no records, so there are no attempts")
    manifest = read_manifest(folder)
    again = again or manifest.get("identity", {}).get("grader") != grader_version()
    split = split_of(manifest)
    attempts: list[Attempt] = []
    left_out = Counter[str]()
    for record in records:
        if record.error is not None or not record.turns:
            left_out[BROKEN] += 1
            continue
        if record.blind:
            left_out[BLIND] += 1
            continue
        if TWIN_OF in record.tags:  # who trains on them has seen them
            left_out[TWIN] += 1
            continue
        check_images(record, folder)
        decision = _decision(record, again)
        if decision.reason in UNDECIDED or record.reason in UNDECIDED:
            left_out[OPEN] += 1
            continue
        attempts.append(Attempt(record, folder, split, decision.equal))
    return Attempts(tuple(attempts), dict(left_out))


def _decision(record: Record, again: bool) -> Decision:
    if not again or record.answer is None:
        return Decision(record.correct and record.answer is not None, record.reason)
    task = Task(problem_of(record), record.gold, tolerance=record.tolerance)
    return grade_answer(record.answer, task)


def problem_of(record: Record) -> Problem:
    """The problem of a record."""
    return Problem(
        id=record.id,
        text=record.problem,
        answer_type=record.answer_type,
        choices=record.choices,
        images=tuple(image.image for image in record.images),
        tags=record.tags,
        draft=record.draft,
    )


def split_of(manifest: Mapping[str, Any]) -> Split:
    """The split of an evaluation's problems; "train" for one that names none."""
    about = manifest.get("about", {})
    return cast(Split, _SPLITS.get(str(about.get("split")), "train"))


def check_images(record: Record, folder: Path) -> None:
    """Raises ValueError unless the images that the turns of a record show are where they were, as
    they were.
    """
    messages = [message for turn in record.turns for message in turn.prompt]
    if lost_images(record):
        raise ValueError(f"{folder}: problem {record.id} {NOT_KEPT}")
    for image in (*record.images, *(image for message in messages for image in message.images)):
        if not image.source:
            raise ValueError(
                f"{folder}: problem {record.id} shows an image that was a data URL, which records "
                "do not keep: write it to a file, and evaluate again"
            )
        if image_hash(image.source) != image.hash:
            what = "was changed" if Path(image.source).is_file() else "is not there any more"
            raise ValueError(
                f"{folder}: the image {image.source} of problem {record.id} {what}: bring it back, "
                "or evaluate again"
            )
