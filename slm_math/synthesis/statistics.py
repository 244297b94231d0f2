"""What a cascade made, in numbers: by round and data set, and what a row costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from slm_math.agents.coding import program
from slm_math.evaluation.plain import cell
from slm_math.evaluation.table import packed
from slm_math.metrics.intervals import projected, ratio, wilson
from slm_math.synthesis.cost import Spent
from slm_math.visible import visible

Row = Mapping[str, Any]
# what is counted of requests, by the name in a receipt
AMOUNTS = ("requests", "tokens", "usd")


def statistics(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts, shares and means of the rows of all problems, each with its 95 % interval.

    `rounds`: of the problems that reached a round, the share whose kept solution is of it. `wrong`:
    accepted rows whose answer is wrong by the data's own reference. `failures`: the commonest
    reasons of failed problems, and their numbers. `datasets`:
    the accepted share, the mean tokens of a solution, the shares with a program and with thoughts.
    `cost` of an accepted row, rejected problems included, in requests, tokens and USD.
    """
    counts = {
        name: sum(row["status"] == name for row in rows)
        for name in ("accepted", "rejected", "failed", "skipped")
    }
    names = dict.fromkeys(row["dataset"] for row in rows)
    last = max(map(_last_round, rows), default=0)
    failures = Counter(row["receipt"]["reason"] for row in rows if row["status"] == "failed")
    return {
        "problems": len(rows),
        **counts,
        "wrong": sum(row["status"] == "accepted" and not row["correct"] for row in rows),
        "failures": dict(failures.most_common(3)),
        "share": _share([row["status"] == "accepted" for row in rows]),
        "rounds": {str(number): _round(rows, number) for number in range(1, last + 1)},
        "datasets": {name: _set([r for r in rows if r["dataset"] == name]) for name in names},
        "cost": {name: _cost(rows, name) for name in AMOUNTS},
    }


def amount(row: Row, name: str) -> float:
    """What a problem took: requests, tokens of prompts and replies, or USD."""
    receipt = row["receipt"]
    if name == "tokens":
        return receipt["prompt_tokens"] + receipt["completion_tokens"]
    return receipt[name]


def _round(rows: Sequence[Row], number: int) -> dict[str, Any]:
    reached = [row for row in rows if _last_round(row) >= number]
    accepted = [row["round"] == number and row["status"] == "accepted" for row in reached]
    return {"problems": len(reached), "accepted": sum(accepted), "share": _share(accepted)}


def _last_round(row: Row) -> int:
    """The last round in which a problem was tried."""
    return max((each["round"] for each in row["attempts_history"]), default=row["round"])


def _set(rows: Sequence[Row]) -> dict[str, Any]:
    kept = [row for row in rows if row["status"] == "accepted"]
    return {
        "problems": len(rows),
        "accepted": len(kept),
        "share": _share([row["status"] == "accepted" for row in rows]),
        "tokens": measured(*ratio([row["tokens_used"] for row in kept]), n=len(kept)),
        "code": _share([program(row["raw_output"]) is not None for row in kept]),
        "thoughts": _share([bool(row["thinking_process"]) for row in kept]),
    }


def _cost(rows: Sequence[Row], name: str) -> dict[str, Any]:
    accepted = [float(row["status"] == "accepted") for row in rows]
    amounts = [amount(row, name) for row in rows]
    return measured(*ratio(amounts, accepted), n=len(rows))


def _share(values: Sequence[bool]) -> dict[str, Any]:
    value = sum(values) / len(values) if values else math.nan
    return measured(value, *wilson(sum(values), len(values)), n=len(values))


def measured(value: float, low: float, high: float, n: int) -> dict[str, Any]:
    """A value with its 95 % interval; None for what is not known."""
    named = {"value": value, "low": low, "high": high}
    return {name: each if math.isfinite(each) else None for name, each in named.items()} | {"n": n}


def projection(spent: Sequence[Spent], total: int) -> dict[str, tuple[float, float, float]]:
    """What `total` problems will take, from what some of them took: (value, low, high)."""
    return {
        name: projected([float(getattr(each, name)) for each in spent], total) for name in AMOUNTS
    }


def shown_amount(name: str, value: float) -> str:
    """An amount as people read it: `1,240 requests`, `1.21M tokens`, `0.84 USD`."""
    if not math.isfinite(value):
        return "inf" if value > 0 else "?"
    if name == "usd":
        return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
    if value < 10:
        return f"{value:.2g}"
    if value >= 1e6:
        return f"{value / 1e6:.2f}M"
    return f"{value / 1e3:.1f}k" if value >= 1e4 else f"{value:,.0f}"


def shown_interval(name: str, value: float | None, low: float | None, high: float | None) -> str:
    """An amount with its interval and unit: `0.84 [0.77, 0.91] USD`."""
    ends = ", ".join(shown_amount(name, math.inf if e is None else e) for e in (low, high))
    number = shown_amount(name, math.inf if value is None else value)
    return f"{number} [{ends}] {name.upper() if name == 'usd' else name}"


def datasets_table(title: str, numbers: Mapping[str, Any]) -> Table:
    """One row per data set."""
    table = Table(title=cell(title, 200), title_justify="left")
    table.add_column("data set", no_wrap=True)
    for heading in ("accepted in %, 95 %", "tokens, 95 %", "code in %, 95 %"):
        table.add_column(heading, justify="right")
    for name, each in numbers["datasets"].items():
        tokens = each["tokens"]
        mean = "-" if tokens["value"] is None else f"{tokens['value']:.0f}"
        if None not in (tokens["low"], tokens["high"]):
            mean += f" [{tokens['low']:.0f}, {tokens['high']:.0f}]"
        of = f", n = {each['problems']}"
        table.add_row(cell(name, 40), _percent(each["share"]) + of, mean, _percent(each["code"]))
    return table


def _percent(share: Mapping[str, Any]) -> str:
    if share["value"] is None:
        return "-"
    return f"{100 * share['value']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


def lines(numbers: Mapping[str, Any]) -> list[str]:
    """What stands below the table: rounds, problems that are left, and what a row costs."""
    shown = [
        f"round {number}: {each['accepted']} of {each['problems']} problems accepted, "
        f"{_percent(each['share'])} %"
        for number, each in numbers["rounds"].items()
    ]
    if numbers["skipped"]:
        shown.append(f"{numbers['skipped']} problems do not fit into the model's context")
    if numbers["failed"]:
        shown.append(f"{numbers['failed']} problems failed: run the same command to retry them")
        shown += [
            f"  {count} times: {visible(reason, '')[:200]}"
            for reason, count in numbers["failures"].items()
        ]
    if numbers["wrong"]:
        shown.append(
            f"{numbers['wrong']} accepted solutions are wrong by the data's own reference answers: "
            "CoT leaves them out unless only_correct is false"
        )
    if numbers["accepted"]:
        parts = [
            shown_interval(name, cost["value"], cost["low"], cost["high"])
            for name, cost in numbers["cost"].items()
            if cost["value"]
        ]
        parts.append(f"95 %, n = {numbers['problems']}")
        shown += packed("an accepted row took ", parts)
    return shown
