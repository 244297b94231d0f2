"""One record as HTML; all text of people, models and programs in it is escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from html import escape
from typing import Any

from slm_math.records.record import GRADED, ChatMessage, NoteEvent, Record, RunEvent, TurnEvent
from slm_math.report.mathematics import formulas, mathml
from slm_math.report.text import FENCE, clean, escaped, line
from slm_math.report.thumbnails import Thumbnails

LONGEST_CODE = 12_000  # characters; a longer program is not colored
_LETTER = re.compile(r"(\([A-Z]\) |)")
_SPAN = re.compile(r"\*\*(?=\S)([^*\n]{1,400})(?<=\S)\*\*|`([^`\n]{1,400})`")


def transcript(record: Record, images: Thumbnails) -> str:
    """Problem, answer and verdict of a record, then the events in order."""
    mark = "right" if record.correct else "wrong"
    answer = _answer(record.answer) if record.answer is not None else "<em>none</em>"
    tags = (f"{escaped(tag, 80)}: {escaped(value, 80)}" for tag, value in record.tags.items())
    parts = [
        f'<section class="problem">{images.html(record.images)}{_statement(record)}</section>',
        *_draft(record),
        '<dl class="facts">',
        _fact("gold", _answer(record.gold)),
        _fact("answer", answer),
        _fact("verdict", f'<span class="{mark}">{mark}</span> {escaped(_reasons(record))}'),
        _fact("tags", ", ".join(tags)),
        _fact("error", escaped(record.error) if record.error is not None else ""),
        _fact("rewards", _rewards(record)),
        "</dl>",
        *_events(record, images),
    ]
    return "".join(parts)


def _draft(record: Record) -> Iterator[str]:
    """The draft that a verifier was asked about."""
    if record.draft is not None:
        answer = _answer(record.draft.answer)
        yield '<section class="turn"><h4><span class="role">draft to judge</span></h4>'
        yield f'<div class="reply">{prose(record.draft.text)}</div>'
        yield f'<dl class="facts">{_fact("its answer", answer)}</dl></section>'


def _reasons(record: Record) -> str:
    """Why the verdict is what it is, in brackets."""
    lenient = record.lenient and not record.correct
    parts = (
        line(record.reason),
        f"stated as {line(record.method, 40)}" if record.method else "",
        "names alternatives" if record.hedged else "",
        "right if the last number counted" if lenient else "",
    )
    text = "; ".join(filter(None, parts))
    return f"({text})" if text else ""


def _rewards(record: Record) -> str:
    return ", ".join(
        f"{escaped(role, 40)} {'not scored' if math.isnan(reward) else escaped(reward, 20)}"
        + _advantage(record.advantages.get(role, math.nan))
        for role, reward in record.rewards.items()
    )


def _advantage(value: float) -> str:
    return "" if math.isnan(value) else f" (advantage {value:.3g})"


def _fact(name: str, value: str) -> str:
    return f"<div><dt>{name}</dt><dd>{value}</dd></div>" if value else ""


def _statement(record: Record) -> str:
    """The problem with its choices, which are formulas as answers are."""
    text, choices = record.problem, record.statement[len(record.problem) :]
    shown = (
        letter + _formula(choice)
        for _, letter, choice in (_LETTER.split(line, 1) for line in choices.split("\n"))
    )
    return prose(text + "\n".join(shown), record.statement)


def _answer(text: Any) -> str:
    return prose(_formula(text), text)


def _formula(text: Any) -> str:
    """An answer as a formula: answers are written without dollars."""
    answer = clean(text, 600)
    plain = not re.search(r"[\\^_{}]", answer) or "$" in answer
    return answer if plain else f"\\({answer}\\)"


def _events(record: Record, images: Thumbnails) -> Iterator[str]:
    seen: tuple[ChatMessage, ...] = ()  # the conversation up to the last reply
    for event in record.events:
        if isinstance(event, TurnEvent):
            yield _turn(event, seen, images)
            seen = (*event.prompt, ChatMessage("assistant", event.reply))
        elif isinstance(event, RunEvent):
            yield _run(event, seen[-1].content if seen else "")
        else:
            yield _note(event)


def _turn(turn: TurnEvent, seen: tuple[ChatMessage, ...], images: Thumbnails) -> str:
    continues = bool(seen) and turn.prompt[: len(seen)] == seen
    new = turn.prompt[len(seen) :] if continues else turn.prompt
    lead = f'<p class="faint">continues the {len(seen)} messages above</p>' if continues else ""
    shown = "".join(_message(message, images) for message in new)
    truncated = ' <span class="chip bad">truncated</span>' if turn.finish == "length" else ""
    facts = f"{turn.tokens:,.0f} tokens, {turn.seconds:.3g} s"
    return (
        f'<section class="turn"><h4><span '
        f'class="role">{escaped(turn.role or "model", 40)}</span>'
        f'<span class="faint">{facts}</span>{truncated}</h4>'
        f"<details><summary>prompt</summary>{lead}{shown}</details>"
        f'<div class="reply">{prose(turn.reply) or "<em>nothing</em>"}</div></section>'
    )


def _message(message: ChatMessage, images: Thumbnails) -> str:
    return (
        f'<div class="message"><span class="role">{escaped(message.role, 40)}</span>'
        f"{images.html(message.images)}<pre>{escaped(message.content)}</pre></div>"
    )


def _run(run: RunEvent, reply: str) -> str:
    mark, word, error = "good", "ok", ""
    if not run.ok:
        mark, word = "bad", "failed"
        error = f" {line(run.error_type, 60)}" + (" (timed out)" if run.timed_out else "")
    output, program = escaped(run.output), code(run.code)
    if run.code.strip() in reply:
        program = f"<details><summary>the program above</summary>{program}</details>"
    if run.earlier:
        before = "".join(map(code, run.earlier))
        program = (
            f"<details><summary>after {len(run.earlier)} earlier "
            f"programs</summary>{before}</details>{program}"
        )
    return (
        '<section class="run"><h4><span class="role">program</span>'
        f'<span class="chip {mark}">{word}{escape(error)}</span>'
        f'<span class="faint">{run.seconds:.3g} s</span></h4>{program}'
        f'<pre class="output">{output or "(no output)"}</pre></section>'
    )


def _note(note: NoteEvent) -> str:
    kind = line(note.kind, 40)
    mark, remark = "", ""
    if note.correct is not None:
        mark, remark = ("good", "right") if note.correct else ("bad", "wrong")
    elif note.kind == "vote":
        remark = f"{100 * (note.value or 0):.0f} % of the votes"
    elif note.kind == "lost":
        mark = "bad"
    if note.text is not None:
        text = escaped(line(note.text, 300))
    else:
        text = "no answer" if note.kind in (*GRADED, "vote") else ""
    branch = f"branch {'.'.join(map(str, note.branch))}" if note.branch else ""
    rest = " ".join(
        f'<span class="faint">{escaped(part, 80)}</span>'
        for part in (line(note.role, 40), branch)
        if part
    )
    chip = f' <span class="chip {mark}">{escape(remark)}</span>' if remark else ""
    return (
        f'<p class="note"><span class="chip {mark if not remark else ""}">{escape(kind)}</span> '
        f"{text}{chip} {rest}</p>"
    )


def prose(text: Any, written: Any = None) -> str:
    """Text in two forms, with its formulas and programs rendered and as it was `written` (by
    default the text itself); once if both are the same.
    """
    plain = clean(text)
    raw = escape(plain if written is None else clean(written))
    rendered = "".join(_rendered(plain))
    if not plain.strip():
        return ""
    if rendered == raw:
        return f'<div class="prose">{raw}</div>'
    return f'<div class="prose rendered">{rendered}</div><pre class="raw">{raw}</pre>'


def _rendered(text: str) -> Iterator[str]:
    at = 0
    for block in FENCE.finditer(text):
        yield from _with_formulas(text[at : block.start()])
        yield code(block[3], block[2])
        at = block.end()
    yield from _with_formulas(text[at:])


def _with_formulas(text: str) -> Iterator[str]:
    for source, latex, display in formulas(text):
        rendered = mathml(latex, display) if latex else None
        if rendered is not None:
            yield rendered
        elif latex:
            yield f"<code>{escape(source)}</code>"
        else:
            yield from _spans(source)


def _spans(text: str) -> Iterator[str]:
    at = 0
    for span in _SPAN.finditer(text):
        yield escape(text[at : span.start()])
        yield f"<b>{escape(span[1])}</b>" if span[1] else f"<code>{escape(span[2])}</code>"
        at = span.end()
    yield escape(text[at:])


def code(text: Any, language: str = "python") -> str:
    """A program, colored if it is Python or of no named language."""
    return _colored(clean(text).strip("\n"), language.lower() in ("", "python", "py", "python3"))


@lru_cache(maxsize=20_000)
def _colored(program: str, python: bool) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    plain = len(program) > LONGEST_CODE or not python
    shown = (
        escape(program) if plain else highlight(program, PythonLexer(), HtmlFormatter(nowrap=True))
    )
    return f'<pre class="code">{shown.rstrip()}</pre>'
