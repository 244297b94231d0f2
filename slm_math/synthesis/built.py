"""What a build makes: rows in the splits of their problems, and how many were left out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from slm_math.answers import grader_version
from slm_math.data.attempts import Attempt
from slm_math.data.base import SPLITS, Split
from slm_math.data.chats import one_type
from slm_math.types import Problem

Kind = Literal["drafts", "corrections", "trajectories", "preferences"]
Keep = Literal["best", "shortest", "all"]
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """The options of a build, all that decides about its rows besides its evaluations."""

    kind: Kind
    perturb: float = 0.0
    balance: bool = False
    keep: Keep = "best"
    role: str | None = None
    pass_rate: tuple[float, float] | None = None
    per_problem: int | None = None
    validation: float = 0.05
    seed: int = 0


@dataclass(frozen=True)
class Made:
    """A row, its split, its problem, and the part of the data that it belongs to."""

    row: Row
    split: Split
    problem: Problem
    part: str


@dataclass
class Built:
    """The rows of a build, and how many were left out, by the reason."""

    rows: list[Made] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def of(self, split: Split) -> list[Row]:
        """The rows of a split. If one of all rows shows an image, all chats have contents in parts,
        because a column of a table has one type.
        """
        rows = one_type([made.row for made in self.rows])
        return [row for row, made in zip(rows, self.rows) if made.split == split]

    def counts(self) -> dict[str, dict[str, int]]:
        """The number of rows by split and part."""
        counts = Counter((made.split, made.part) for made in self.rows)
        return {
            split: {part: n for (where, part), n in sorted(counts.items()) if where == split}
            for split in SPLITS
            if any(where == split for where, _ in counts)
        }


def about_problem(attempt: Attempt) -> Row:
    """The fields of a row that say which problem it is about, and how its answer is graded."""
    record = attempt.record
    rules = {
        "answer_type": record.answer_type,
        "choices": list(record.choices),
        "tolerance": record.tolerance,
    }
    return {
        "id": record.id,
        "problem": record.problem,
        "gold": record.gold,
        "tags": dict(record.tags),
        **(rules if record.answer_type != "math" or record.choices else {}),
    }


def shown_images(attempt: Attempt) -> list[str]:
    """The paths of the problem's images."""
    return [image.source for image in attempt.record.images]


def receipt(attempt: Attempt, **more: Any) -> Row:
    """Where a row comes from."""
    return {
        "evaluation": str(attempt.folder),
        "sample": attempt.record.sample,
        "grader": grader_version(),
        **more,
    }


def order(seed: int, *parts: Any) -> str:
    """A key that puts things into a random order, which the seed and the parts alone decide."""
    whole = json.dumps([seed, *map(str, parts)])
    return hashlib.sha256(whole.encode()).hexdigest()


def shuffled(rows: Sequence[Made], seed: int) -> list[Made]:
    """The rows in an order that depends on nothing but the rows and the seed."""
    return sorted(rows, key=lambda made: order(seed, json.dumps(made.row, sort_keys=True)))


def fewest(counts: Mapping[Any, int]) -> int:
    """The smallest of several counts; 0 without any."""
    return min(counts.values(), default=0)
