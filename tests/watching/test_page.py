"""The page in a real browser: it follows a run, scrolls, fits a phone, asks only its server, and
text of a model does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from report.chromium import NAMES, Browser, installed
from report.runs import HOSTILE
from watching.made import evaluation, lines, run, sample

from slm_math.watching.run import WatchedRun
from slm_math.watching.serve import WatchServer

pytestmark = pytest.mark.skipif(
    installed() is None, reason=f"no browser on PATH: {', '.join(NAMES)}"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run of 300 steps with two groups each, and an evaluation of 500 problems."""
    batches = [
        lines(
            0, step, [sample(f"p/{group}", n, right=n > group) for group in (0, 1) for n in (0, 1)]
        )
        for step in range(300)
    ]
    evaluated = [sample(f"e/{number}", right=number % 5 > 0) for number in range(500)]
    evaluation(tmp_path / "eval" / "epoch-0" / "a", evaluated, {"accuracy": 0.8, "n": 500})
    return run(tmp_path, *batches, log="epoch,step,train/loss\n0,0,2\n0,1,1\n")


@pytest.fixture
def server(root: Path) -> Iterator[WatchServer]:
    with WatchServer(WatchedRun(root)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def count(selector: str) -> str:
    return f"document.querySelectorAll('{selector}').length"


def test_it_follows_a_run(browser: Browser, server: WatchServer, root: Path) -> None:
    browser.window(1200)
    browser.requests.clear()
    browser.open(f"{server.url}/#view=steps")
    browser.until("document.getElementById('step-title').textContent.startsWith('Step 300')")
    browser.until(f"{count('#step-groups .group')} === 2")
    with (root / "rollouts.jsonl").open("ab") as file:
        file.write(lines(0, 300, [sample("new/1")]))
    browser.until("document.getElementById('step-title').textContent.startsWith('Step 301')")
    browser.until(f"{count('#step-groups .group')} === 1")
    assert all(each.startswith((server.url, "about:", "data:")) for each in browser.requests)
    assert browser.errors == []


def test_lists_have_only_the_rows_that_are_seen(browser: Browser, server: WatchServer) -> None:
    browser.window(1200)
    browser.open(f"{server.url}/#view=evaluations&name=epoch-0/a")
    browser.until("document.getElementById('sample-list').textContent.includes('e/0')")
    assert browser.value(count("#sample-list .line")) < 60
    browser.value("(list => { list.scrollTop = list.scrollHeight })(at('sample-list'))")
    browser.until("document.getElementById('sample-list').textContent.includes('e/499')")
    browser.value("[...document.querySelectorAll('#filters a')][2].click()")
    browser.until("document.getElementById('sample-count').textContent === '100 of 500 samples'")
    browser.until("document.getElementById('sample-list').textContent.includes('e/5')")
    browser.value("document.querySelector('#sample-list button').click()")
    browser.until("document.querySelector('#transcript[open] .facts')")
    first = browser.value("at('transcript-title').textContent")
    browser.value("at('transcript-after').click()")
    browser.until(f"at('transcript-title').textContent !== '{first}'")
    assert browser.errors == []


def test_a_problem_is_shown_across_steps(browser: Browser, server: WatchServer) -> None:
    browser.open(f"{server.url}/#view=problem&number=0")
    browser.until(f"{count('#problem-groups .group')} === 24")
    assert "Steps that drew it: 300, the last 24" in browser.value("at('problem-text').textContent")


@pytest.mark.parametrize("view", ["overview", "curves", "steps", "problems", "evaluations"])
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True), (320, False)])
def test_it_fits_and_follows_the_theme(
    browser: Browser, server: WatchServer, view: str, width: int, dark: bool
) -> None:
    browser.window(width, dark=dark)
    browser.open(f"{server.url}/#view={view}")
    browser.until("typeof ordered === 'object' && ordered.length === 300")
    assert browser.value("document.documentElement.scrollWidth") == width
    light = "getComputedStyle(document.documentElement).backgroundColor.match(/[0-9]+/g)[0] > 128"
    assert browser.value(light) is not dark
    browser.value("at('theme').click()")
    assert browser.value(light) is dark


def test_hostile_text_does_nothing(browser: Browser, tmp_path: Path) -> None:
    texts = dict.fromkeys(("reply", "problem", "gold", "answer", "error"), HOSTILE)
    hostile = [sample(HOSTILE, number, role="<b onclick=a>", **texts) for number in range(2)]
    root = run(tmp_path, lines(0, 0, hostile), log='epoch,step,"train/<img src=x>"\n0,0,1\n')
    with WatchServer(WatchedRun(root)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.requests.clear()
        for view in ("curves", "problems", "problem&number=0", "overview", "steps"):
            browser.open(f"{server.url}/#view={view}")
            browser.until("typeof ordered === 'object' && ordered.length === 1")
        browser.until("document.querySelector('#step-groups button')")
        browser.value("document.querySelector('#step-groups button').click()")
        browser.until("document.querySelector('#transcript[open] .turn')")
        assert browser.value("document.title").endswith("watch")
        bad = "img, script:not(body > script), [onclick], [onerror], a[href^=javascript]"
        assert browser.value(count(bad)) == 0
        assert all(each.startswith((server.url, "about:", "data:")) for each in browser.requests)
        assert browser.errors == []
        server.shutdown()
