"""The table that lives while an evaluation runs, and the plain lines that stand in for it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from slm_math.evaluation.live import Decoded, Live
from slm_math.records.record import Record, RunEvent, TurnEvent

HALF = [
    Record(
        f"p/{correct}",
        0,
        correct=correct,
        events=(TurnEvent(tokens=5), RunEvent(), RunEvent()),
    )
    for correct in (True, False)
]


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def test_live_without_a_terminal_prints_plain_lines() -> None:
    out = io.StringIO()
    with Live(Console(file=out, width=200), "o[b]ne", "other", seconds=0.0) as live:
        progress = live.progress("o[b]ne")
        progress(HALF[:1], 6)
        progress(HALF, 6)
    first, second = out.getvalue().splitlines()
    assert first.startswith("o[b]ne: 1 of 6, ")
    # Wilson of 1 of 1
    assert first.endswith("tokens/s, 2 programs, accuracy 100.0 % [20.7, 100.0]")
    assert second.endswith("tokens/s, 4 programs, accuracy 50.0 % [9.5, 90.5]")
    assert "\x1b" not in out.getvalue()


def test_live_without_a_terminal_is_quiet_between_lines() -> None:
    out = io.StringIO()
    with Live(Console(file=out, width=200), "one", seconds=1000.0) as live:
        live.progress("one")(HALF, 6)
    assert out.getvalue() == ""


def test_live_on_a_terminal_shows_headings_and_metrics() -> None:
    out = io.StringIO()
    with Live(
        Console(file=out, width=200, force_terminal=True, color_system=None), "o[b]ne", "other"
    ) as live:
        live.progress("o[b]ne")(HALF, 6)
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
            Record(f"p/{i}", 0, correct=True, events=(TurnEvent(tokens=10**12),)) for i in range(3)
        ]
        live.progress("one")([*earlier, HALF[1]], 6)
    [line] = out.getvalue().splitlines()
    assert line.endswith("accuracy 75.0 % [30.1, 95.4]")  # Wilson of 3 of 4
    assert int(line.split(", ")[1].split()[0]) < 10**9


def test_live_averages_over_problems_with_several_samples() -> None:
    out = io.StringIO()
    with Live(Console(file=out, width=200), "one", seconds=0.0) as live:
        progress = live.progress("one")
        progress([Record("p", 0, correct=True)], 3)
        progress([Record("p", 0, correct=True), Record("q", 0), Record("q", 1)], 3)
        progress([Record("p", 0, correct=True), Record("q", 0), Record("q", 1), Record("p", 1)], 4)
    accuracies = [line.split("accuracy ")[1].split(" [")[0] for line in out.getvalue().splitlines()]
    assert accuracies == ["100.0 %", "50.0 %", "25.0 %"]  # the mean of 1/2 and 0


def test_live_counts_problems_of_equal_shares_and_other_numbers_of_samples() -> None:
    out = io.StringIO()
    records = [Record("p", 0, correct=True), *(Record("q", n, correct=True) for n in range(2))]
    with Live(Console(file=out, width=200), "one", seconds=0.0) as live:
        live.progress("one")([*records, Record("r", 0)], 6)
    assert "accuracy 66.7 %" in out.getvalue()  # of 1 of 1, 2 of 2 and 0 of 1


def test_live_shows_what_engines_sample_before_a_sample_ends() -> None:
    counts, out = iter(range(0, 10**6, 100)), io.StringIO()
    with Live(Console(file=out, width=200), "one", seconds=0.0) as live:
        live.progress("one", 6, lambda: next(counts))
        wait_for(lambda: out.getvalue().count("\n") >= 2)
    first = out.getvalue().splitlines()[0]
    assert first.startswith("one: 0 of 6, ")
    assert int(first.split(", ")[1].split()[0]) > 0


def test_live_shows_the_total_at_once() -> None:
    out = io.StringIO()
    with Live(Console(file=out, width=200, force_terminal=True, color_system=None), "one") as live:
        live.progress("one", 6)
    assert "0/6" in out.getvalue()


@pytest.mark.parametrize(
    ("ended", "sampled", "seconds"),
    # 2 of 6 samples ended with 40 tokens each; 6 of this length are 240 tokens, at 10 a second
    [(80, 80, 16.0), (80, 200, 4.0), (80, 500, 0.0)],
)
def test_time_left_is_by_the_tokens_of_the_samples_that_ended(
    ended: int, sampled: int, seconds: float
) -> None:
    counts = iter((1000, 1000 + sampled))  # the engine has served others before
    decoded = Decoded("one", 6, lambda: next(counts))
    assert decoded.seconds_left(10.0) is None
    decoded.look()
    decoded.done = decoded.fresh = 2
    decoded.ended = ended
    assert decoded.seconds_left(10.0) == seconds


def test_samples_of_an_earlier_session_are_not_waited_for() -> None:
    decoded = Decoded("one", 6, lambda: 0)
    decoded.done, decoded.fresh, decoded.ended = 5, 2, 80  # 3 were there: 1 is left
    assert decoded.seconds_left(10.0) == 12.0
