"""Shows step by step how a completion is graded: `slm-math grade --explain TEXT --gold TEXT`."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from slm_math.answers import explain, gold_answer
from slm_math.evaluation.plain import plain
from slm_math.grading.fields import Fields
from slm_math.grading.saved import check_rules

LONGEST = 2000  # characters of a step that are shown


def show_steps(completion: str, fields: Fields, console: Console) -> None:
    """Prints the steps for one completion; `fields` holds texts instead of names of fields.

    Raises ValueError without a reference answer, and for rules that do not fit together.
    """
    if fields.gold is None:
        raise ValueError("give --gold TEXT, the reference answer, with --explain")
    check_rules(fields)
    table = Table("step", "what happened")
    steps = explain(
        completion,
        gold_answer(fields.gold),
        problem=fields.problem,
        answer_type=fields.answer_type or "math",
        choices=_choices(fields.choices),
        tolerance=fields.tolerance,
        last_number=fields.last_number,
    )
    for step, result in steps:
        table.add_row(Text(plain(step)), Text(plain(result, LONGEST)))
    console.print(table)


def _choices(text: str | None) -> list[str] | None:
    if text is None:
        return None
    try:
        choices = json.loads(text)
    except json.JSONDecodeError:
        choices = None
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise ValueError(
            """with --explain, --choices is a JSON list of texts, such as '["red", "blue"]'"""
        )
    return choices
