"""The page: its numbers, and that nothing in a record becomes markup or script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report.runs import HOSTILE, note, record, run, turn, varied, write

from slm_math.metrics.summary import summarize
from slm_math.records.encoding import from_json
from slm_math.report import report

ALLOWED = set(
    """html head meta title style body header h1 h2 h3 h4 button p nav a main section figure
    figcaption b div table img
    thead tbody tr th td details summary noscript form label select input span script em code pre dl
    dt dd
    option svg g path defs use rect text tspan clippath pattern polygon lineargradient
    math mrow mi mn mo mtext mfrac msup msub msqrt mstyle menclose mspace""".split()  # noqa: SIM905
)


PLAIN = [record(i, i % 2 == 0) for i in range(6)]


class Elements(HTMLParser):
    """Elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.comments = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {
            str(value) for name, value in attrs if name in ("href", "src", "xlink:href", "action")
        }

    def handle_comment(self, data: str) -> None:
        self.comments += 1


def made(tmp_path: Path, *folders: Path, **options: Any) -> str:
    out = tmp_path / "report.html"
    report([str(folder) for folder in folders], str(out), **options)
    return out.read_text(encoding="utf-8")


def data_of(page: str) -> dict[str, Any]:
    return json.loads(
        re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[1]
    )


def bodies(page: str) -> list[str]:
    chunks = data_of(page)["chunks"]
    return [
        body for chunk in chunks for body in json.loads(zlib.decompress(base64.b64decode(chunk)))
    ]


def check_inert(text: str) -> None:
    found = Elements(text)
    assert found.names <= ALLOWED
    assert not {name for name in found.attributes if name.startswith("on")}
    assert all(link.startswith("#") for link in found.links)
    assert found.comments == 0


def test_numbers_are_those_of_the_summary(tmp_path: Path) -> None:
    page = made(tmp_path, write(tmp_path / "out" / "mine", varied()))
    s = summarize(map(from_json, varied()))
    assert (s.accuracy, s.problems) == (pytest.approx(7 / 12), 12)
    row = re.search(r'<th scope="row" class="name">mine</th>(.*?)</tr>', page, re.DOTALL)[1]
    cells = re.findall(r"<td>(.*?)</td>", row)
    assert cells[:3] == ["12", "58.3", f"{100 * s.low:.1f} \u2013 {100 * s.high:.1f}"]
    # Wilson's interval of 7 of 12, from its formula: (p + z2/2n -+ z sqrt(p(1-p)/n + z2/4n2)) / (1
    # + z2/n)
    assert cells[2] == "32.0 \u2013 80.7"
    assert "12, 75 % ok" in cells


def test_every_figure_has_a_caption(tmp_path: Path) -> None:
    page = made(
        tmp_path,
        write(tmp_path / "out" / "mine", varied()),
        write(tmp_path / "out" / "other", varied()),
    )
    for title in ("Accuracy", "Accuracy by level", "Accuracy by subject", "Accuracy by round",
    "First draft and answer",
                  "Verifier: mine", "Calibration of votes", "Accuracy at a cost", "Tokens",
                  "Data"):  # fmt: skip
        assert f"<h3>{title}</h3>" in page
    assert page.count('<svg class="plot"') == page.count('role="img"') == 12
    assert "currentColor" in page
    assert "#1a1b1c" not in page
    assert "Paired by problem" in page


def test_hostile_records_are_inert(tmp_path: Path) -> None:
    events = [
        turn(HOSTILE, role=HOSTILE) | {"prompt": [{"role": HOSTILE, "content": HOSTILE}, HOSTILE]},
        run(False, HOSTILE, HOSTILE) | {"error_type": HOSTILE, "earlier": [HOSTILE]},
        note("draft", HOSTILE, correct=True), note("verdict", HOSTILE, role=HOSTILE), note(HOSTILE,
        HOSTILE),
        note("vote", HOSTILE, value=float("nan")),
    ]  # fmt: skip
    told = {
        "problem": HOSTILE,
        "gold": HOSTILE,
        "answer": HOSTILE,
        "reason": HOSTILE,
        "method": HOSTILE,
    }
    rows = [
        record(
            i,
            bool(i),
            *events,
            **told,
            tags={HOSTILE: f"{i} {HOSTILE}"},
            error=HOSTILE,
            id=HOSTILE + str(i),
        )
        for i in range(3)
    ]
    page = made(
        tmp_path,
        write(tmp_path / "out" / "<script>alert(3)<b>", rows),
        plots=str(tmp_path / "plots"),
    )
    check_inert(page)
    assert page.count("<script") == 2
    assert "{{7*7}}" in page.replace("\\u007b", "{")  # a template would have made 49 of it
    for body in bodies(page):
        check_inert(body)
        assert "&lt;script&gt;" in body
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202e]", body)
    svg = (tmp_path / "plots" / "accuracy.svg").read_text(encoding="utf-8")
    assert "<script" not in svg


def test_the_policy_allows_the_page_s_script_alone(tmp_path: Path) -> None:
    page = made(tmp_path, write(tmp_path / "out" / "mine", PLAIN))
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', page)[1].replace("&#39;", "'")
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?://(?!www\.w3\.org/)", page)


@pytest.mark.parametrize(
    "rows", [[], [record(0, True)], [{"id": 1, "sample": 0}]], ids=["none", "one", "bare"]
)
def test_little_is_enough(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    page = made(tmp_path, write(tmp_path / "out" / "mine", rows))
    assert len(data_of(page)["entries"]) == len(rows)


def test_older_records_and_odd_values_are_shown(tmp_path: Path) -> None:
    events = [
        {"kind": "turn", "reply": None, "tokens": None, "seconds": None, "prompt": None},
        {"kind": "run", "ok": None},
        {"kind": "run", "code": ["a"], "earlier": [["b"]], "error_type": ["c"], "output": {}},
        {"kind": "note"},
        {"kind": "note", "note": "draft"},
        {"kind": "note", "note": "verdict", "text": ["CORRECT"], "branch": 3},
        {"kind": "else"},
        "no event",
    ]
    odd = {
        "id": 2,
        "sample": "a",
        "events": events,
        "seconds": float("inf"),
        "tags": ["x"],
        "answer": 4,
        "correct": 1,
    }
    page = made(
        tmp_path, write(tmp_path / "out" / "mine", [odd, record(1, True, turn("x" * 100_000))])
    )
    assert len(bodies(page)) == 2
    assert "80,000 more characters" in bodies(page)[1]


def test_partial_runs_are_marked_and_not_compared(tmp_path: Path) -> None:
    whole = [write(tmp_path / "out" / name, PLAIN) for name in ("a", "b")]
    page = made(tmp_path, *whole, write(tmp_path / "out" / "c", PLAIN[:3], partial=True))
    assert "Partial, so that numbers may change: c." in page
    assert "c is partial and left out." in page
    assert "+0.0 [" in page


def test_runs_of_other_answers_are_not_compared_and_the_page_explains(tmp_path: Path) -> None:
    other = [row | {"gold": "77"} for row in PLAIN]
    page = made(
        tmp_path, write(tmp_path / "out" / "a", PLAIN), write(tmp_path / "out" / "b", other)
    )
    assert "Not compared: " in page
    assert "another gold" in page


def test_runs_of_several_data_sets_stand_apart(tmp_path: Path) -> None:
    other = [row | {"id": f"more/test/{i}"} for i, row in enumerate(PLAIN)]
    page = made(tmp_path, write(tmp_path / "x" / "a", PLAIN), write(tmp_path / "y" / "a", other))
    assert "<b>Results, made/test.</b>" in page
    assert "<b>Results, more/test.</b>" in page
    assert 'id="comparison"' not in page
