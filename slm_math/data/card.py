"""The data card of a data set: what it holds, where it comes from, what it cost, what it shares
with test sets.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slm_math.data.overlap import KINDS, overlap
from slm_math.data.templates import same_template
from slm_math.records.redaction import without_secrets
from slm_math.types import Problem
from slm_math.visible import visible

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


@dataclass(frozen=True)
class CardInput:
    """What a card says. A name stands for a part of the data: a source, a kind of rows, a split.

    Args:
        title: the name of the data set.
        rows: name -> number of rows; the chart of shares shows these.
        lengths: name -> the length of every row, in characters.
        sources: name -> where the rows come from.
        licenses: name -> the license of the rows.
        problems: the problems of all rows, for the overlap with test sets.
        test_sets: name -> the problems of a test set.
        cost: what -> amount, with the unit in the name: "USD", "prompt tokens".
        notes: sentences, one a line.
    """

    title: str
    rows: Mapping[str, int]
    lengths: Mapping[str, Sequence[int]]
    sources: Mapping[str, str]
    licenses: Mapping[str, str]
    problems: Sequence[Problem]
    test_sets: Mapping[str, Sequence[Problem]] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_card(folder: Path, card: CardInput) -> None:
    """Writes card.md, card.json and shares.png into a folder, each whole or not at all.

    Raises ValueError for a card without rows, or with the lengths, source or license of a part that
    has no rows.
    """
    from slm_math.data.share_chart import draw_shares

    facts = card_facts(card)
    folder.mkdir(parents=True, exist_ok=True)
    chart = folder / "shares.png"
    draw_shares(chart.with_name("shares.png.new"), card.title, card.rows)
    os.replace(chart.with_name("shares.png.new"), chart)
    _write(folder / "card.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    _write(folder / "card.md", card_page(facts))


def card_facts(card: CardInput) -> dict[str, Any]:
    """The card as plain data."""
    total = sum(card.rows.values())
    if total <= 0 or min(card.rows.values()) < 0:
        raise ValueError(f"{card.title}: a card needs at least one row, got {dict(card.rows)}")
    for name, parts in (
        ("lengths", card.lengths),
        ("sources", card.sources),
        ("licenses", card.licenses),
    ):
        if unknown := sorted(set(parts) - set(card.rows)):
            raise ValueError(f"{card.title}: {name} names {', '.join(unknown)}, which has no rows")
    return {
        "title": card.title,
        "rows": total,
        "parts": {
            name: {
                "rows": rows,
                "share": round(rows / total, 6),
                "source": card.sources.get(name),
                "license": card.licenses.get(name),
                "characters": _quantiles(card.lengths.get(name, ())),
            }
            for name, rows in card.rows.items()
        },
        "problems": len(card.problems),
        "test_sets": {
            name: _shared(card.problems, tests) for name, tests in card.test_sets.items()
        },
        "cost": without_secrets(dict(card.cost)),
        "notes": list(card.notes),
    }


def _quantiles(lengths: Sequence[int]) -> dict[str, int] | None:
    """For each of `QUANTILES` the length that this share of the rows does not exceed."""
    if not lengths:
        return None
    ordered = sorted(lengths)
    last = len(ordered) - 1
    return {f"{share:.0%}": ordered[min(int(share * len(ordered)), last)] for share in QUANTILES}


def _shared(problems: Sequence[Problem], tests: Sequence[Problem]) -> dict[str, int]:
    result = overlap(problems, tests)
    same = {finding.test for finding in result.near_exact}
    kinds: dict[str, int] = {kind: result.count(kind) for kind in KINDS}
    return {
        "problems": len(tests),
        "near_exact": len(same),
        **kinds,
        "template": sum(match.test not in same for match in same_template(problems, tests)),
    }


def card_page(facts: Mapping[str, Any]) -> str:
    """The card as Markdown: tables that also read well as text."""
    rows, cost = facts["rows"], facts["cost"]
    parts = [
        [name, f"{part['rows']:,}", f"{part['share']:.1%}", part["source"], part["license"]]
        for name, part in facts["parts"].items()
    ]
    lengths = [
        [name, *(f"{part['characters'][f'{share:.0%}']:,}" for share in QUANTILES)]
        for name, part in facts["parts"].items()
        if part["characters"]
    ]
    tests = [[name, *counts.values()] for name, counts in facts["test_sets"].items()]
    sections = [
        f"# {_cell(facts['title'])}",
        f"{rows:,} rows of {facts['problems']:,} problems. ![shares](shares.png)",
        _table("Parts", ["part", "rows", "share", "source", "license"], parts),
        _table(
            "Lengths in characters",
            ["part", "shortest", "5 %", "median", "95 %", "longest"],
            lengths,
        ),
        _table(
            "Test problems among the problems",
            ["test set", "problems", "same problem", *KINDS, "template"],
            tests,
        ),
        _table(
            "Cost", ["what", "amount"], [[name, _amount(value)] for name, value in cost.items()]
        ),
        "\n".join(f"- {_cell(note)}" for note in facts["notes"]),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A titled Markdown table with columns of equal width; "" without rows."""
    if not rows:
        return ""
    cells = [list(headings), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]
    lines = [
        "| " + " | ".join(value.ljust(width) for value, width in zip(row, widths)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([f"## {title}", "", lines[0], rule, *lines[1:]])


def _amount(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4f}"


def _cell(value: Any) -> str:
    """Text of one line in which Markdown and control characters have no effect."""
    text = "" if value is None else " ".join(str(value).split())
    return visible(re.sub(r"[\\|`*<>\[\]]|\b_|_\b", r"\\\g<0>", text), allowed="")


def _write(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(new, path)
