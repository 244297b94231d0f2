"""The page in a real browser: it filters, searches, opens transcripts, asks for nothing and fits a
phone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image as Pillow
from report.chromium import NAMES, Browser, installed
from report.runs import HOSTILE, note, record, turn, varied, write

from slm_math.report import report

pytestmark = pytest.mark.skipif(
    installed() is None, reason=f"no browser on PATH: {', '.join(NAMES)}"
)
COUNT = "document.getElementById('count').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report on two agents: 24 samples, 14 right, on 12 problems of which 4 flip."""
    root = tmp_path_factory.mktemp("report")
    other = [row | {"correct": (i + 2) % 12 < 7} for i, row in enumerate(varied())]
    write(root / "out" / "first", varied())
    write(root / "out" / "second", [*other[:11], other[11] | {"problem": varied()[11]["problem"]}])
    report([str(root / "out")], str(root / "r.html"))
    return f"file://{root / 'r.html'}"


def shown(browser: Browser, address: str, count: int) -> None:
    browser.open(address)
    browser.until(f"{COUNT}.startsWith('{count} of 24')")


def test_filters_combine_and_stay_in_the_address(browser: Browser, address: str) -> None:
    shown(browser, f"{address}#filter=wrong", 10)
    browser.value("document.querySelector('[data-name=flipped]').click()")
    browser.until(f"{COUNT}.startsWith('4 of 24')")
    assert browser.value("location.hash") == "#filter=wrong%2Cflipped"
    browser.value(
        "(s => { s.value = '1'; s.dispatchEvent(new Event('change')); "
        "})(document.getElementById('run'))"
    )
    browser.until(f"{COUNT}.startsWith('2 of 24')")
    assert browser.value("document.querySelector('[data-name=right]').textContent") == "right 0"
    assert (
        browser.value("document.querySelector('[data-name=wrong]').getAttribute('aria-pressed')")
        == "true"
    )


def test_tags_filter(browser: Browser, address: str) -> None:
    shown(browser, f"{address}#tag=%5B%22level%22%2C%221%22%5D", 8)
    shown(browser, f"{address}#tag=nonsense&run=77&filter=else&page=x", 24)


def test_search_reads_replies_and_programs(browser: Browser, address: str) -> None:
    shown(browser, f"{address}#q=nameerror", 6)
    shown(browser, f"{address}#q=made/test/7", 2)
    shown(browser, f"{address}#q=frac{{1}}{{2}}", 24)
    shown(browser, f"{address}#q=span", 0)  # markup is no text


def test_a_transcript_opens_with_rendered_mathematics_or_as_written(
    browser: Browser, address: str
) -> None:
    browser.open(f"{address}#open=1")
    browser.until("document.querySelector('.item[open] math')")
    height = "document.querySelector('.item[open] .turn .rendered').getBoundingClientRect().height"
    assert browser.value(height) > 0
    browser.value("document.getElementById('raw').click()")
    browser.until(f"{height} === 0")
    assert "open=1" in browser.value("location.hash")


def test_a_key_opens_a_transcript(browser: Browser, address: str) -> None:
    shown(browser, address, 24)
    browser.value("document.querySelector('.item summary').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            windowsVirtualKeyCode=13,
            text="\r",
        )
    browser.until("document.querySelector('.item[open] .facts')")


@pytest.mark.parametrize(
    ("width", "dark"), [(1200, False), (1200, True), (390, False), (320, True)]
)
def test_the_page_fits_and_follows_the_theme(
    browser: Browser, address: str, width: int, dark: bool
) -> None:
    browser.window(width, dark=dark)
    browser.open(f"{address}#open=0")
    browser.until("document.querySelector('.item[open] .facts')")
    assert browser.value("document.documentElement.scrollWidth") == width
    light = browser.value(
        "getComputedStyle(document.documentElement).backgroundColor.match(/[0-9]+/g)[0] > 128"
    )
    assert light is not dark
    browser.value("document.getElementById('theme').click()")
    assert (
        browser.value(
            "getComputedStyle(document.documentElement).backgroundColor.match(/[0-9]+/g)[0] > 128"
        )
        is dark
    )


def test_no_request_is_no_error(browser: Browser, address: str) -> None:
    browser.requests.clear()
    shown(browser, address, 24)
    assert {request.partition("#")[0] for request in browser.requests} - {"about:blank"} == {
        address
    }
    assert browser.errors == []


def test_hostile_records_do_nothing(browser: Browser, tmp_path: Path) -> None:
    rows = [
        record(
            i,
            True,
            turn(HOSTILE),
            note("verdict", HOSTILE),
            problem=HOSTILE,
            answer=HOSTILE,
            tags={HOSTILE: str(i)},
        )
        for i in range(3)
    ]
    write(tmp_path / "out" / "a", rows)
    report([str(tmp_path / "out")], str(tmp_path / "r.html"))
    browser.requests.clear()
    browser.open(f"file://{tmp_path / 'r.html'}#open=0&q=script")
    browser.until("document.querySelector('.item[open] .turn')")
    assert browser.value("document.title") == "Evaluation on made/test"
    assert (
        browser.value(
            "document.querySelectorAll('img, script, [onclick], [onerror], math [style]').length"
        )
        == 2
    )
    assert all(request.startswith(("file://", "about:")) for request in browser.requests)
    assert browser.errors == []


def test_a_hundred_at_a_time(browser: Browser, tmp_path: Path) -> None:
    write(tmp_path / "out" / "a", [record(i, True) for i in range(230)])
    report([str(tmp_path / "out")], str(tmp_path / "r.html"))
    browser.open(f"file://{tmp_path / 'r.html'}")
    browser.until("document.querySelectorAll('.item').length === 100")
    for left in (100, 30):
        browser.value("document.getElementById('after').click()")
        browser.until(f"document.querySelectorAll('.item').length === {left}")
    assert browser.value("document.getElementById('page').textContent") == "page 3 of 3"
    assert browser.value("document.getElementById('after').hidden") is True


def test_an_image_is_drawn_when_its_transcript_opens(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    Pillow.new("RGB", (300, 150), (0, 90, 200)).save(file)
    image = {"source": str(file), "hash": hashlib.sha256(file.read_bytes()).hexdigest()}
    write(tmp_path / "out" / "a", [record(i, True, images=[image]) for i in range(2)])
    report([str(tmp_path / "out")], str(tmp_path / "r.html"))
    browser.window(320)
    browser.requests.clear()
    browser.open(f"file://{tmp_path / 'r.html'}#open=1")
    browser.until("document.querySelector('.item[open] img')?.complete")
    assert browser.value("document.querySelector('.item[open] img').naturalWidth") == 256
    assert browser.value("document.documentElement.scrollWidth") == 320
    assert all(each.startswith(("file://", "about:", "data:")) for each in browser.requests)
    assert browser.errors == []
