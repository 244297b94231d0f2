"""What a cascade shows while it runs."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from slm_math.records.record import NoteEvent, Record
from slm_math.synthesis.cost import Spending, Spent
from slm_math.synthesis.progress import CascadeProgress

KEPT = NoteEvent("kept", branch=(1,))
RECORDS = [
    Record(f"p/{number}", 0, events=(KEPT,) if number % 2 else (), answer="1")
    for number in range(4)
]


def spent(record: Record) -> Spent:
    """Problem p/3 took 4 requests of 100 tokens."""
    requests = int(record.id[2:]) + 1
    return Spent(requests, 60 * requests, 40 * requests, 0.5 * requests)


def shown(spending: Spending, terminal: bool = False, seconds: float = 0.0, **options: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=terminal, color_system=None)
    with CascadeProgress(
        console, "set/train", spent, spending, seconds=seconds, **options
    ) as progress:
        for count in range(1, 5):
            progress(RECORDS[:count], 8)
    return out.getvalue()


def test_lines_say_how_far_it_is_and_what_it_takes() -> None:
    spending = Spending()
    spending.add("primary", Spent(10, 600, 400, 5.0))
    last = shown(spending).splitlines()[-1]
    assert last.startswith("set/train: 4 of 8, ")
    # 1 + 2 + 3 + 4 half dollars for half of the problems
    assert last.endswith("/s, 50 % accepted, 5.00 of about 10.00 USD")


def test_without_prices_it_is_tokens() -> None:
    spending = Spending()
    spending.add("primary", Spent(10, 600, 400))
    assert shown(spending).splitlines()[-1].endswith("1,000 of about 2,000 tokens")


def test_terminal_shows_a_bar_of_80_columns() -> None:
    spending = Spending()
    spending.add("primary", Spent(10, 600, 400, 5.0))
    out = shown(spending, terminal=True)
    for text in ("done", "accepted", "rate", "spent", "in all", "left", "4/8", "50 %", "5.00 USD"):
        assert text in out
    assert max(map(len, out.splitlines())) <= 80 + 40  # control characters included


def test_estimate_is_printed_once_when_its_problems_have_ended() -> None:
    out = shown(Spending(), seconds=1000.0, pilot=["p/0", "p/2"])
    assert len(out.splitlines()) == 1
    # problems of 1 and 3 requests: 2 on average
    assert out.startswith("estimate from 2 problems (95 %): 8 problems take 16 [4, ")


def test_estimate_counts_what_an_earlier_session_left() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80)
    options: Any = {"seconds": 1000.0, "pilot": ["p/0", "p/1"]}
    with CascadeProgress(console, "set/train", spent, Spending(), **options) as progress:
        progress(RECORDS[:3], 8)
    assert out.getvalue().startswith("estimate from 2 problems")
