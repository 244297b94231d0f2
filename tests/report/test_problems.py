"""The list of problems in a report: all runs and samples of one side by side, in several orders,
with keys and the browser's history.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from report.chromium import NAMES, Browser, installed
from report.runs import record, turn, write

from slm_math.report import report

pytestmark = pytest.mark.skipif(
    installed() is None, reason=f"no browser on PATH: {', '.join(NAMES)}"
)
HEADS = "[...document.querySelectorAll('.item .head')].map((each) => each.textContent)"
OPEN = "[...document.querySelectorAll('.item[open]')].map((each) => each.dataset.place)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two runs with two samples of each of three problems: of problem 0 both runs have half right,
    of problem 1 the second alone is right, of problem 2 all are.
    """
    root = tmp_path_factory.mktemp("report")
    right = {"sft": {0: (1, 0), 1: (0, 0), 2: (1, 1)}, "grpo": {0: (1, 0), 1: (1, 1), 2: (1, 1)}}
    for run, problems in right.items():
        rows = [
            record(
                number, bool(one), turn(f"{run} {number} {sample}", tokens=number), sample=sample
            )
            for number, samples in problems.items()
            for sample, one in enumerate(samples)
        ]
        write(root / "out" / run, rows)
    report([str(root / "out")], str(root / "r.html"))
    return f"file://{root / 'r.html'}"


def key(browser: Browser, name: str) -> None:
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=name, text=name)


def choose(browser: Browser, name: str, value: str) -> None:
    browser.value(
        f"(s => {{ s.value = '{value}'; s.dispatchEvent(new Event('change')); }})"
        f"(document.getElementById('{name}'))"
    )


def test_a_problem_has_all_samples_of_all_runs_side_by_side(browser: Browser, address: str) -> None:
    browser.open(f"{address}#view=problem&q=made/test/1")
    browser.until(f"{HEADS}.length === 1")
    browser.value("document.querySelector('.item summary').click()")
    browser.until("document.querySelectorAll('.side > div').length === 4")
    replies = "[...document.querySelectorAll('.side .reply')].map((each) => each.textContent)"
    assert browser.value(replies) == ["grpo 1 0", "grpo 1 1", "sft 1 0", "sft 1 1"]
    assert browser.value("document.querySelectorAll('.item[open] .problem').length") == 1
    runs = browser.value("document.querySelector('.item .meta').textContent")
    assert "grpo 2 of 2" in runs
    assert "sft 0 of 2" in runs


@pytest.mark.parametrize(
    ("order", "expected"), [("", [0, 1, 2]), ("right", [0, 1, 2]), ("apart", [1, 0, 2])]
)
def test_problems_are_sorted(
    browser: Browser, address: str, order: str, expected: list[int]
) -> None:
    browser.open(f"{address}#view=problem&sort={order}")
    browser.until(f"{HEADS}.length === 3")
    assert browser.value(HEADS) == [f"What is {number} + 0?" for number in expected]


def test_samples_are_sorted_by_tokens(browser: Browser, address: str) -> None:
    browser.open(f"{address}#sort=tokens")
    browser.until(f"{HEADS}.length === 12")
    assert browser.value(HEADS)[::4] == [f"What is {number} + 0?" for number in (2, 1, 0)]


def test_keys_open_the_next_and_the_one_before(browser: Browser, address: str) -> None:
    browser.open(f"{address}#view=problem")
    browser.until(f"{HEADS}.length === 3")
    for name, expected in (("j", "0"), ("j", "2"), ("j", "4"), ("j", "4"), ("k", "2")):
        key(browser, name)
        browser.until(f"JSON.stringify({OPEN}) === '[\"{expected}\"]'")
    browser.value("document.getElementById('query').focus()")
    key(browser, "j")
    assert browser.value(OPEN) == ["2"]


def test_back_undoes_a_filter_and_closes_what_was_opened(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.until(f"{HEADS}.length === 12")
    browser.value("document.querySelector('[data-name=wrong]').click()")
    browser.until(f"{HEADS}.length === 4")
    choose(browser, "view", "problem")
    browser.until(f"{HEADS}.length === 2")
    browser.value("document.querySelector('.item summary').click()")
    browser.until("location.hash.includes('open=')")
    for expected in ("#filter=wrong&view=problem", "#filter=wrong", ""):
        browser.value("history.back()")
        browser.until(f"location.hash === '{expected}'")
    browser.until(f"{HEADS}.length === 12")
    assert browser.value(OPEN) == []


def test_a_link_leads_to_what_is_open(browser: Browser, address: str) -> None:
    browser.open(f"{address}#view=problem&sort=apart&open=5")
    browser.until("document.querySelector('.item[open] a')")
    assert browser.value("document.querySelector('.item[open] a').hash") == (
        "#view=problem&sort=apart&open=4"
    )


def test_it_fits_a_phone(browser: Browser, address: str) -> None:
    browser.window(320)
    browser.open(f"{address}#view=problem&open=0")
    browser.until("document.querySelector('.side')")
    assert browser.value("document.documentElement.scrollWidth") == 320
    assert browser.errors == []


def test_a_selection_has_the_same_problems_of_every_run(tmp_path: Path) -> None:
    """Runs that err on different problems still show the same ones."""
    from slm_math.report.load import load
    from slm_math.report.thumbnails import Thumbnails
    from slm_math.report.transcripts import browser as shown

    for name, wrong in (("a", range(10)), ("b", range(20, 30))):
        rows = [record(i, i not in wrong, sample=s) for i in range(40) for s in range(2)]
        write(tmp_path / name, rows)
    runs = load([str(tmp_path / name) for name in "ab"]).runs
    entries = shown(runs, 24, Thumbnails())["entries"]
    first, second = ([(e["id"], e["sample"]) for e in entries if e["run"] == n] for n in (0, 1))
    assert first == second
    assert len(first) == 24
    assert len({id for id, _ in first}) == 12
