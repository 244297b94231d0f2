"""One record as HTML: everything that people, models and programs wrote in it is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any

from slm_math.report.mathematics import formulas, mathml
from slm_math.report.text import clean, escaped, line

LONGEST_CODE = 12_000  # characters that are coloured; a longer program is shown plain
_FENCE = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n`]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_SPAN = re.compile(r"\*\*(?=\S)([^*\n]{1,400})(?<=\S)\*\*|`([^`\n]{1,400})`")


def transcript(row: Mapping[str, Any]) -> str:
    """Problem, answer and verdict of a record, then what happened, in order."""
    mark = "right" if row["correct"] else "wrong"
    parts = [
        f'<section class="problem">{prose(row["problem"])}</section>',
        '<dl class="facts">',
        _fact("gold", prose(_formula(row["gold"]))),
        _fact(
            "answer",
            prose(_formula(row["answer"])) if row["answer"] is not None else "<em>none</em>",
        ),
        _fact("verdict", f'<span class="{mark}">{mark}</span> {escaped(_why(row))}'),
        _fact(
            "tags", ", ".join(f"{escaped(k, 80)}: {escaped(v, 80)}" for k, v in row["tags"].items())
        ),
        _fact("error", escaped(row["error"]) if row["error"] is not None else ""),
        _fact("rewards", _rewards(row)),
        "</dl>",
        *_events(row["events"]),
    ]
    return "".join(parts)


def _why(row: Mapping[str, Any]) -> str:
    how = f"stated as {line(row['method'], 40)}" if row.get("method") else ""
    hedged = "names alternatives" if row.get("hedged") else ""
    lenient = (
        "right if the last number counted" if row.get("lenient") and not row["correct"] else ""
    )
    told = "; ".join(filter(None, (line(row["reason"]), how, hedged, lenient)))
    return f"({told})" if told else ""


def _rewards(row: Mapping[str, Any]) -> str:
    found = row.get("rewards")
    if not isinstance(found, dict):
        return ""
    return ", ".join(
        f"{escaped(role, 40)} {escaped(value, 20) or 'not scored'}" for role, value in found.items()
    )


def _fact(name: str, value: str) -> str:
    return f"<div><dt>{name}</dt><dd>{value}</dd></div>" if value else ""


def _formula(text: Any) -> str:
    """An answer, which is written without dollars, as the formula that it is."""
    answer = clean(text, 600)
    plain = not re.search(r"[\\^_{}]", answer) or "$" in answer
    return answer if plain else f"\\({answer}\\)"


def _events(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    seen: list[Any] = []
    for event in events:
        if event["kind"] == "turn":
            yield _turn(event, seen)
            prompt = event["prompt"] if isinstance(event["prompt"], list) else []
            seen = [*prompt, {"role": "assistant", "content": event["reply"]}]
        elif event["kind"] == "run":
            yield _run(event, seen[-1]["content"] if seen else "")
        elif event["kind"] == "note":
            yield _note(event)


def _turn(event: Mapping[str, Any], seen: Sequence[Any]) -> str:
    prompt = event["prompt"] if isinstance(event["prompt"], list) else []
    goes_on = bool(seen) and prompt[: len(seen)] == list(seen)
    new = prompt[len(seen) :] if goes_on else prompt
    lead = f'<p class="faint">goes on from the {len(seen)} messages above</p>' if goes_on else ""
    cut = ' <span class="chip bad">cut off</span>' if event["finish"] == "length" else ""
    facts = f"{event['tokens']:,.0f} tokens, {event['seconds']:.3g} s"
    return (
        f'<section class="turn"><h4><span '
        f'class="role">{escaped(event["role"] or "model", 40)}</span>'
        f'<span class="faint">{facts}</span>{cut}</h4>'
        f"<details><summary>prompt</summary>{lead}{''.join(map(_message, new))}</details>"
        f'<div class="reply">{prose(event["reply"]) or "<em>nothing</em>"}</div></section>'
    )


def _message(message: Any) -> str:
    told = message if isinstance(message, dict) else {"role": "?", "content": message}
    return (
        f'<div class="message"><span class="role">{escaped(told.get("role"), 40)}</span>'
        f"<pre>{escaped(told.get('content'))}</pre></div>"
    )


def _run(event: Mapping[str, Any], reply: Any) -> str:
    mark, word = ("good", "ran") if event["ok"] else ("bad", "failed")
    kind = (
        ""
        if event["ok"]
        else f" {line(event['error_type'], 60)}" + (" (out of time)" if event["timed_out"] else "")
    )
    output, program = escaped(event["output"]), code(event["code"])
    if isinstance(reply, str) and str(event["code"]).strip() in reply:
        program = f"<details><summary>the program above</summary>{program}</details>"
    earlier = event.get("earlier")
    if isinstance(earlier, list) and earlier:
        before = "".join(map(code, earlier))
        program = (
            f"<details><summary>after {len(earlier)} earlier "
            f"programs</summary>{before}</details>{program}"
        )
    return (
        '<section class="run"><h4><span class="role">program</span>'
        f'<span class="chip {mark}">{word}{escape(kind)}</span>'
        f'<span class="faint">{event["seconds"]:.3g} s</span></h4>{program}'
        f'<pre class="output">{output or "(no output)"}</pre></section>'
    )


def _note(event: Mapping[str, Any]) -> str:
    kind, text = line(event["note"], 40), event["text"]
    mark, told = "", ""
    if "correct" in event:
        mark, told = ("good", "right") if event["correct"] else ("bad", "wrong")
    elif kind == "vote":
        told = f"{100 * event.get('value', 0):.0f} % of the votes"
    elif kind == "lost":
        mark = "bad"
    said = (
        escaped(line(text, 300))
        if text is not None
        else "no answer"
        if kind in ("draft", "candidate", "vote")
        else ""
    )
    branch = event.get("branch")
    where = f"branch {'.'.join(map(str, branch))}" if isinstance(branch, list) and branch else ""
    role = line(event.get("role"), 40)
    rest = " ".join(
        f'<span class="faint">{escaped(part, 80)}</span>' for part in (role, where) if part
    )
    mean = f' <span class="chip {mark}">{escape(told)}</span>' if told else ""
    return (
        f'<p class="note"><span class="chip {mark if not told else ""}">{escape(kind)}</span> '
        f"{said}{mean} {rest}</p>"
    )


def prose(text: Any) -> str:
    """Text twice over, with its mathematics and programs rendered and as it is; once where that
    makes no difference.
    """
    plain = clean(text)
    raw = escape(plain)
    rendered = "".join(_rendered(plain))
    if not plain.strip():
        return ""
    if rendered == raw:
        return f'<div class="prose">{raw}</div>'
    return f'<div class="prose rendered">{rendered}</div><pre class="raw">{raw}</pre>'


def _rendered(text: str) -> Iterator[str]:
    at = 0
    for block in _FENCE.finditer(text):
        yield from _with_formulas(text[at : block.start()])
        yield code(block[3], block[2])
        at = block.end()
    yield from _with_formulas(text[at:])


def _with_formulas(text: str) -> Iterator[str]:
    for source, latex, display in formulas(text):
        made = mathml(latex, display) if latex else None
        if made is not None:
            yield made
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
    """A program, coloured where it is Python or of no named language."""
    return _coloured(clean(text).strip("\n"), language.lower() in ("", "python", "py", "python3"))


@lru_cache(maxsize=20_000)
def _coloured(program: str, python: bool) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    plain = len(program) > LONGEST_CODE or not python
    made = (
        escape(program) if plain else highlight(program, PythonLexer(), HtmlFormatter(nowrap=True))
    )
    return f'<pre class="code">{made.rstrip()}</pre>'
