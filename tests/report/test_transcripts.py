"""Transcripts: what they can be filtered by, which are kept, and how one reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report.runs import note, record, run, turn, write

from slm_math.metrics.facts import facts
from slm_math.records.encoding import from_json
from slm_math.records.record import Record
from slm_math.report.load import load
from slm_math.report.thumbnails import Thumbnails
from slm_math.report.transcript import code, prose, transcript
from slm_math.report.transcripts import browser, flipped, selected
from slm_math.report.transcripts import flags as flags_of


def made(*values: Any, **more: Any) -> Record:
    return from_json(record(*values, **more))


def flags(record: Record, flipped: bool, unseen: bool = False) -> list[str]:
    return flags_of(facts(record), flipped, unseen)


def shown(record: Record) -> str:
    return transcript(record, Thumbnails())


def test_flags() -> None:
    draft = [note("draft", "1", correct=False), note("draft", "2", correct=True)]
    assert flags(made(0, True, turn(), *draft), False) == ["right", "improved"]
    assert flags(made(0, False, turn(), *draft[::-1]), True) == ["wrong", "degraded", "flipped"]
    assert flags(made(0, False, run(False), turn(finish="length")), False) == [
        "wrong",
        "code-failed",
        "truncated",
    ]
    assert flags(made(0, False, note("lost", "empty"), answer=None), False) == [
        "wrong",
        "lost",
        "no-answer",
    ]
    assert flags(made(0, False, error="down", answer=None), False) == [
        "wrong",
        "no-answer",
        "broken",
    ]


def test_flipped_is_about_runs_of_the_same_problems(tmp_path: Path) -> None:
    write(tmp_path / "a", [record(0, True), record(1, True), record(2, False)])
    write(tmp_path / "b", [record(0, True), record(1, False), record(2, False)])
    write(tmp_path / "c", [record(0, False), record(2, True)])
    runs = load([str(tmp_path / name) for name in "abc"]).runs
    assert [each.tolist() for each in flipped(runs)] == [[False, True, False]] * 2 + [[False] * 2]


def test_informative_samples_are_selected_first() -> None:
    named = [["right"]] * 80 + [["wrong"]] * 10 + [["right", "improved"]] * 10
    kept = selected(named, 40)
    assert len(kept) == len(set(kept)) == 40
    assert kept == sorted(kept)
    assert set(range(90, 100)) <= set(kept)
    assert set(range(80, 90)) <= set(kept)
    assert selected(named, 100) == list(range(100))
    assert selected(named, 0) == []


def test_page_states_what_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a", [record(i, True) for i in range(9)])
    data = browser(load([str(tmp_path / "a")]).runs, 4, Thumbnails())
    assert len(data["entries"]) == 4
    assert data["left_out"] == ["a: 4 of 9"]


def test_continued_prompt_shows_only_new_messages() -> None:
    first = turn("FIRST")
    chat = [
        *first["prompt"],
        {"role": "assistant", "content": "FIRST"},
        {"role": "user", "content": "AGAIN"},
    ]
    text = shown(made(0, True, first, turn("SECOND") | {"prompt": chat}))
    assert "continues the 2 messages above" in text
    assert text.count("What is 2 + 2?") == 1
    assert text.count("FIRST") == 1


def test_a_program_that_the_reply_shows_is_folded() -> None:
    reply = "```python\nprint(4)\n```"
    assert "the program above" in shown(made(0, True, turn(reply), run()))
    assert "the program above" not in shown(made(0, True, turn("none"), run()))


def test_prose_is_shown_as_written() -> None:
    assert prose("plain < text") == '<div class="prose">plain &lt; text</div>'
    both = prose("**so** $x$")
    assert both.startswith('<div class="prose rendered"><b>so</b> <math')
    assert both.endswith('<pre class="raw">**so** $x$</pre>')
    assert prose(None) == prose(" ") == ""


def test_a_program_is_colored_and_a_long_one_is_not() -> None:
    assert '<span class="nb">print</span>' in code("print(1)")
    assert "<span" not in code("print(1)\n" * 2000)
    assert code("<b>", "html") == '<pre class="code">&lt;b&gt;</pre>'


def test_a_verdict_is_shown_with_the_draft_that_it_is_about() -> None:
    draft = {"text": "3 <b>plus</b> 4 is 8", "answer": "8"}
    html = shown(made(0, True, turn(), answer_type="verdict", draft=draft))
    assert "draft to judge" in html
    assert "3 &lt;b&gt;plus&lt;/b&gt; 4 is 8" in html
    assert "draft to judge" not in shown(made(0, True, turn()))
