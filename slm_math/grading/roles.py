"""Which field of a row is the completion, and which the reference: never the same text twice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from slm_math.grading.fields import (
    COMPLETION,
    COMPLETION_RANKS,
    GOLD,
    MISSING,
    AmbiguousRow,
    find_field,
    lookup,
    no_usual_field,
    there,
)
from slm_math.grading.texts import sample_texts

PREDICTIONS = ("prediction", "predictions", "predict")
REFERENCES = ("solution", "reference_solution", "gt_cot", "rationale", "target")
# names of fields with texts of models, in files of any tool
MODEL = re.compile(
    r"(?:^|_)(?:generat|complet|respon|output|predict|repl(?:y|ies)|sampled|rollout|attempt|model_"
    r"|llm|student)",
    re.IGNORECASE,
)
LIGHTEVAL = ("doc.gold_index", "doc.choices")
FEW_WORDS = 2  # an answer may have so many, a completion has more


def completion_field(row: Mapping[str, Any], name: str | None) -> tuple[str, Any]:
    """Name and value of the field that holds the completion. A null stands for a request that
    failed; it counts as an empty completion.

    A null keeps its rank, so that the reference in `solution` is never read instead of it. Raises
    NoField, or AmbiguousRow for different completions under names of one rank.
    """
    if name is not None:
        name, value = find_field(row, name, COMPLETION, "completion")
        return name, "" if value is None else value
    for rank in COMPLETION_RANKS:
        paths = there(row, rank)
        values = {path: value for path in paths if (value := lookup(row, path)) is not MISSING}
        said = [path for path, value in values.items() if value is not None]
        for other in said[1:]:
            if values[other] != values[said[0]]:
                raise _two_completions(said[0], other)
        if said:
            _check_rivals(row, said[0], values[said[0]])
        if values:
            return (said[0], values[said[0]]) if said else (next(iter(values)), "")
    raise no_usual_field("completion", [name for name in COMPLETION if "." not in name])


def _two_completions(one: str, two: str) -> AmbiguousRow:
    return AmbiguousRow(
        f"fields {one!r} and {two!r} differ: say which is the completion with "
        f"--completion {one} or --completion {two}"
    )


def _check_rivals(row: Mapping[str, Any], name: str, value: Any) -> None:
    """Raises AmbiguousRow if another field may be the completion, and this one the reference: a
    prediction that is a text of its own, or, beside a `solution`, a text of a model by its name.
    """
    for other, text in row.items():
        is_model = MODEL.search(other) if name == "solution" else other in PREDICTIONS
        if is_model and other != name and _is_prose(text) and not _holds(value, text):
            raise _two_completions(name, other)


def _is_prose(value: Any) -> bool:
    """Whether a value is a text of several words, or a list of such texts."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_prose, value))
    return isinstance(value, str) and len(value.split(None, FEW_WORDS)) > FEW_WORDS


def _holds(value: Any, text: Any) -> bool:
    """Whether a completion contains a text, or each text of a list, which was cut out of it."""
    whole = "\n".join(map(str, value)) if isinstance(value, list) else str(value)
    return all(part.strip() in whole for part in (text if isinstance(text, list) else [text]))


def check_reference(row: Mapping[str, Any], name: str, completion: Any) -> None:
    """Raises AmbiguousRow if a completion is the row's own reference solution (a data set that
    holds its demonstrations as messages, too).
    """
    for other in () if name in REFERENCES else REFERENCES:
        reference = row.get(other)
        texts = sample_texts(completion) if _is_prose(reference) else []
        if reference in texts:
            raise AmbiguousRow(
                f"fields {name!r} and {other!r} hold the same text, so the reference would be "
                f"graded against itself: if it is a model's, say so with --completion {name}"
            )


def gold_field(row: Mapping[str, Any], name: str | None, completion: str) -> tuple[str, Any]:
    """Name and value of the field that holds the reference; `completion` is the completion's field.

    A `solution` comes last: beside the answer it is the whole solution of the reference.
    """
    if name is None and len(there(row, LIGHTEVAL)) == len(LIGHTEVAL):
        index, choices = (lookup(row, path) for path in LIGHTEVAL)
        index = index[0] if isinstance(index, list) and len(index) == 1 else index
        if isinstance(choices, list) and isinstance(index, int):
            named = choices[index : index + 1] if index >= 0 else []
            if named:
                return "doc.choices", named[0]
    return find_field(row, name, _golds_beside(completion), "gold")


@cache
def _golds_beside(completion: str) -> tuple[str, ...]:
    return tuple(name for name in GOLD if name != completion)
