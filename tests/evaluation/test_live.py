"""The table that lives while an evaluation runs, and the plain lines that stand in for it."""

from __future__ import annotations

import io

from rich.console import Console

from slm_math.evaluation.table import Live

HALF = [
    {
        "id": f"p/{right}",
        "correct": right,
        "events": [{"kind": "turn", "tokens": 5}, {"kind": "run"}, {"kind": "run"}],
    }
    for right in (True, False)
]


def test_live_without_a_terminal_prints_plain_lines() -> None:
    out = io.StringIO()
    with Live(Console(file=out, width=200), "o[b]ne", "other", seconds=0.0) as live:
        watch = live.watcher("o[b]ne")
        watch(1, 6, HALF[:1])
        watch(2, 6, HALF)
    first, second = out.getvalue().splitlines()
    assert first.startswith("o[b]ne: 1 of 6, ")
    # Wilson of 1 of 1
    assert first.endswith("tokens/s, 2 programs, accuracy 100.0 % [20.7, 100.0]")
    assert second.endswith("tokens/s, 4 programs, accuracy 50.0 % [9.5, 90.5]")
    assert "\x1b" not in out.getvalue()


def test_live_without_a_terminal_is_quiet_between_lines() -> None:
    out = io.StringIO()
    with Live(Console(file=out, width=200), "one", seconds=1000.0) as live:
        live.watcher("one")(2, 6, HALF)
    assert out.getvalue() == ""


def test_live_on_a_terminal_shows_headings_and_figures() -> None:
    out = io.StringIO()
    with Live(
        Console(file=out, width=200, force_terminal=True, color_system=None), "o[b]ne", "other"
    ) as live:
        live.watcher("o[b]ne")(2, 6, HALF)
    shown = out.getvalue()
    for text in (
        "done",
        "accuracy so far",
        "rate",
        "programs",
        "left",
        "o[b]ne",
        "other",
        "2/6",
        "tokens/s",
    ):
        assert text in shown
    assert "50.0 % [9.5, 90.5]" in shown


def test_live_counts_what_was_done_before_but_not_its_speed() -> None:
    out = io.StringIO()
    with Live(Console(file=out, width=200), "one", seconds=0.0) as live:
        earlier = [
            {"id": f"p/{i}", "correct": True, "events": [{"kind": "turn", "tokens": 10**12}]}
            for i in range(3)
        ]
        live.watcher("one")(4, 6, [*earlier, HALF[1]])
    [line] = out.getvalue().splitlines()
    assert line.endswith("accuracy 75.0 % [30.1, 95.4]")  # Wilson of 3 of 4
    assert int(line.split(", ")[1].split()[0]) < 10**9
