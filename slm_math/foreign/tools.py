"""What fields of single tools mean: verdicts, and completions whose place depends on the row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from slm_math.foreign.paths import MISSING, lookup

Row: TypeAlias = Mapping[str, Any]
Verdicts: TypeAlias = Callable[[Row], dict[str, Any]]

# metrics of lm-eval's tasks, for files of versions that do not name those of the row
LM_EVAL = ("exact_match", "math_verify", "acc", "acc_norm")
_WORDS = {
    **dict.fromkeys(("true", "1", "1.0", "c", "correct"), True),
    **dict.fromkeys(("false", "0", "0.0", "i", "n", "incorrect"), False),
}
_TRL = ("step", "prompt", "completion", "advantage")


def verdict(value: Any) -> bool | None:
    """A verdict as tools write it: true and false, 1 and 0, C and I; None for anything else, such
    as a score between 0 and 1.
    """
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def no_verdicts(row: Row) -> dict[str, Any]:
    """Of a tool that writes none."""
    return {}


def fields_of(*names: str) -> Verdicts:
    """Verdicts in fields of these names."""
    return lambda row: {name: row[name] for name in names if row.get(name) is not None}


def mapping_of(path: str) -> Verdicts:
    """Verdicts in an object: the metrics by name."""

    def verdicts(row: Row) -> dict[str, Any]:
        found = lookup(row, path)
        return dict(found) if isinstance(found, dict) else {}

    return verdicts


def lm_eval_verdicts(row: Row) -> dict[str, Any]:
    """The metrics that a row names; before version 0.4.9, those that it has."""
    named = row.get("metrics")
    names = named if isinstance(named, list) else LM_EVAL
    return {name: row[name] for name in names if isinstance(name, str) and name in row}


def inspect_verdicts(row: Row) -> dict[str, Any]:
    """The value of each scorer."""
    scores = row.get("scores")
    if not isinstance(scores, dict):
        return {}
    return {name: score.get("value") for name, score in scores.items() if isinstance(score, dict)}


def nemo_verdicts(row: Row) -> dict[str, Any]:
    """The symbolic verdict (formerly `is_correct`), and that of a judge, if there was one."""
    names = ("symbolic_correct", "is_correct")
    found = {name: row[name] for name in names if row.get(name) is not None}
    judgement = row.get("judgement")
    if isinstance(judgement, str) and "judgement:" in judgement.lower():
        words = judgement.lower().rpartition("judgement:")[2].split()
        found["judgement"] = {"yes": True, "no": False}.get(words[0].strip("*.")) if words else None
    return found


def verl_verdicts(row: Row) -> dict[str, Any]:
    """`acc` where the reward function says it, else its score; some write -1 for a wrong answer."""
    name = "acc" if row.get("acc") is not None else "score"
    values = row[name] if isinstance(row[name], list) else [row[name]]
    values = [0 if value == -1 else value for value in values]
    return {name: values if isinstance(row[name], list) else values[0]}


def trl_verdicts(row: Row) -> dict[str, Any]:
    """Rewards that are 1 or 0; other columns, such as logged texts, are none."""
    return {
        name: value
        for name, value in row.items()
        if name not in _TRL and not isinstance(value, str) and verdict(value) is not None
    }


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def inspect_completion(row: Row) -> Any:
    """The message that was scored: that of the first choice; "" for a sample without output."""
    message = lookup(row, "output.choices.0.message")
    if message is not MISSING and isinstance(message, dict):
        return message
    completion = lookup(row, "output.completion")
    return completion if isinstance(completion, str) else ""


def batch_completions(row: Row) -> Any:
    """The texts of a batch's answer: of chat completions, completions, or the responses interface;
    "" for a request that failed.
    """
    for path in ("message.content", "text"):
        texts = lookup(row, f"response.body.choices.*.{path}")
        if texts is not MISSING and texts:
            return ["" if text is None else text for text in texts]
    items = lookup(row, "response.body.output")
    if isinstance(items, list):
        parts = [
            part.get("text")
            for item in items
            if isinstance(item, dict) and item.get("type") == "message"
            for part in _list(item.get("content"))
            if isinstance(part, dict)
        ]
        return "".join(part for part in parts if isinstance(part, str))
    return ""
