"""Fields of rows of saved completions: which ones to read, and finding them by name or path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from slm_math.data.json_lines import RowError
from slm_math.foreign.paths import MISSING, lookup
from slm_math.types import AnswerType

# The usual names of completions, best first. Where a row uses several names of one rank, nobody can
# tell which one the model wrote.
COMPLETION_RANKS = (
    ("model_response.text",),  # lighteval
    (
        "completion", "completions", "response", "responses", "output", "outputs",
        "generation", "generations", "generated", "generated_text", "generated_solution",
        "generated_response", "model_output", "model_outputs", "model_response", "model_solution",
        "model_completion", "model_generation",
    ),
    ("resps",),  # lm-eval; beside it stands what a filter left of it
    ("filtered_resps",),
    ("code",),  # Qwen2.5-Math; elsewhere the program of a completion
    # often only the answer of a completion
    ("prediction", "predictions", "predict", "pred", "preds"),
    ("predicted_answer", "model_answer"),
    ("messages",),  # a conversation may be the prompt alone
    ("conversation",),
    ("solution",),  # in many data sets the reference
)  # fmt: skip
COMPLETION = tuple(name for rank in COMPLETION_RANKS for name in rank)
GOLD = (
    "answer", "gold", "ground_truth", "gt", "gts", "target", "expected_answer", "reference_answer",
    "reward_model.ground_truth", "solution",
)  # fmt: skip
ID = ("id", "unique_id", "problem_id", "question_id", "doc_id", "idx", "doc.id")
SAMPLE = ("sample", "sample_id", "sample_index", "sample_idx", "repeat", "seed")
PROBLEM = ("problem", "question", "prompt", "doc.problem", "doc.question")
VERDICT = ("correct", "is_correct")
FINISH = ("finish_reason", "finish", "stop_reason")
SHOWN = 6  # usual names in an error, which has to fit beside the row's own


class NoField(RowError):
    """A row without the completion or the reference answer under any known name; `option` is the
    command's option that names the field.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


class AmbiguousRow(ValueError):
    """A row that can be understood in two ways; so could all other rows, so grading stops."""


@dataclass(frozen=True)
class Fields:
    """How to read rows: names of fields (None: the usual ones), and what holds for all rows.

    `format` names the shape of the rows (None: the one that fits), and `shape` is the one that they
    have, by its name. `records` says that rows are evaluation records of this project, whose
    answers are extracted already; `reference` that their `solution` is the reference, since the
    first row has a completion beside it; `recorded` that each sample comes with its record.
    `second_opinion` asks math-verify, too. `filter`: only the rows of this filter of lm-eval, whose
    completion is what the filter left, unless another field is named.
    """

    completion: str | None = None
    gold: str | None = None
    problem: str | None = None
    answer_type: AnswerType | None = None
    choices: str | None = None
    tolerance: float | str | None = None
    verdict: str | None = None
    last_number: bool = False
    records: bool = False
    reference: bool = False
    format: str | None = None
    shape: str | None = None
    recorded: bool = False
    second_opinion: bool = False
    filter: str | None = None


def there(row: Mapping[str, Any], paths: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some paths at which a row may hold a value, by its names."""
    return _there(tuple(row), paths)


@lru_cache(maxsize=1024)  # the rows of a file have the same few names
def _there(names: tuple[str, ...], paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        path for path in paths if any(path == name or path.startswith(f"{name}.") for name in names)
    )


def find_field(
    row: Mapping[str, Any], name: str | None, usual: tuple[str, ...], option: str
) -> tuple[str, Any]:
    """Name and value of the field called `name`, or of the first of the usual ones that is not
    null.

    Raises NoField.
    """
    if name is not None:
        value = lookup(row, name)
        if value is MISSING:
            raise NoField(option, f"field {name!r} is missing")
        return name, value
    for candidate in there(row, usual):
        value = lookup(row, candidate)
        if value is not MISSING and value is not None:
            return candidate, value
    raise no_usual_field(option, usual)


def no_usual_field(option: str, usual: Sequence[str]) -> NoField:
    names = ", ".join(usual[:SHOWN])
    return NoField(option, f"no {option}: the row has no field {names}, or of another usual name")
