"""Broken code: a draft whose program has a mistake, with the output that the changed program really
printed and the answer that follows from it.
"""

from __future__ import annotations

import ast
import io
import keyword
import random
import tokenize
from collections.abc import Iterator, Sequence
from itertools import islice

from slm_math.agents.coding import program_answer
from slm_math.answers import extract
from slm_math.data.attempts import Attempt
from slm_math.records.record import RunEvent
from slm_math.synthesis.built import order
from slm_math.synthesis.computations import parsed
from slm_math.synthesis.programs import Programs
from slm_math.synthesis.regraded import Outcome, is_right
from slm_math.types import Draft, Run, RunPython, RunResult

BROKEN_CODE = "broken code"
TRIES = 3  # changed programs of one draft that run, until one prints a wrong answer
_SWAPPED = {"+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "%": "//"}
_SWAPPED |= {"+=": "-=", "-=": "+=", "*=": "+=", "<": "<=", "<=": "<", ">": ">=", ">=": ">"}


def broken(code: str, rng: random.Random) -> Iterator[str]:
    """Programs that differ in one operator or whole number, in random order; none for what is no
    Python. Imports and texts stay as they are.
    """
    try:
        ast.parse(code)
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError):
        return
    imports = {t.start[0] for t in tokens if t.string in ("import", "from")}
    changes: list[tuple[int, str]] = []
    for i, token in enumerate(tokens):
        if token.start[0] in imports:
            continue
        if token.type == tokenize.OP and token.string in _SWAPPED and _is_binary(tokens[i - 1]):
            changes.append((i, _SWAPPED[token.string]))
        if token.type == tokenize.NUMBER and token.string.isdecimal():
            changes.append((i, str(int(token.string) + 1)))
    lines = code.splitlines(keepends=True)
    for i, new in rng.sample(changes, len(changes)):
        (row, start), (_, end) = tokens[i].start, tokens[i].end
        changed = lines[row - 1][:start] + new + lines[row - 1][end:]
        yield "".join([*lines[: row - 1], changed, *lines[row:]])


def _is_binary(before: tokenize.TokenInfo) -> bool:
    """Whether an operator after this token has a left operand."""
    if before.type == tokenize.NAME:
        return not keyword.iskeyword(before.string)
    return before.type in (tokenize.NUMBER, tokenize.STRING) or before.string in (")", "]")


def broken_code(
    drafts: Sequence[tuple[Attempt, Draft]], seed: int, programs: Programs
) -> list[Outcome]:
    """For each right draft, one whose last program is broken, prints something else when it runs,
    and so leads to a wrong answer.
    """
    runs = [_run_of(attempt, draft) for attempt, draft in drafts]
    changed: list[list[RunPython]] = []
    for (attempt, _), run in zip(drafts, runs):
        rng = random.Random(order(seed, BROKEN_CODE, attempt.problem.statement, run and run.code))
        codes = islice(broken(run.code, rng), TRIES) if run is not None else ()
        changed.append([RunPython(code, run.earlier) for code in codes] if run else [])
    requests = [RunPython(run.code, run.earlier) for run in runs if run is not None]
    requests += [request for some in changed for request in some]
    programs.run(requests, "broken programs")
    return [
        _first_wrong(attempt, draft, run, some, programs)
        for (attempt, draft), run, some in zip(drafts, runs, changed)
    ]


def _run_of(attempt: Attempt, draft: Draft) -> RunEvent | None:
    """The last program of a draft, if the draft shows it once."""
    runs = [run for run in attempt.record.runs if run.ok and draft.text.count(run.code) == 1]
    return runs[-1] if runs and runs[-1].code.strip() else None


def _first_wrong(
    attempt: Attempt,
    draft: Draft,
    run: RunEvent | None,
    requests: Sequence[RunPython],
    programs: Programs,
) -> Outcome:
    still_right = 0
    before = None if run is None else programs.results[RunPython(run.code, run.earlier)]
    if run is None or before is None or not _repeats(run, before, attempt):
        return Outcome()
    shown = run.output in draft.text.partition(run.code)[2]
    for request in requests:
        after = programs.results[request]
        computed = program_answer(Run(request.code, after))
        text = rewritten(draft.text, (run, before), (request.code, after))
        if computed is None or text is None or after.text == before.text:
            continue
        stated = extract(text, answer_type=attempt.record.answer_type).value
        answer = stated if shown else computed
        verdicts = {is_right(computed, attempt), answer and is_right(answer, attempt)}
        if verdicts == {False}:
            return Outcome(Draft(text, answer or computed), still_right)
        still_right += True in verdicts
    return Outcome(None, still_right)


def _repeats(run: RunEvent, again: RunResult, attempt: Attempt) -> bool:
    """Whether a program does again what the record says, and prints the right answer."""
    computed = program_answer(Run(run.code, again))
    return again.text == run.output and computed is not None and bool(is_right(computed, attempt))


def rewritten(
    text: str, old: tuple[RunEvent, RunResult], new: tuple[str, RunResult]
) -> str | None:
    """The text with another program, its output, and after it the numbers of the new output instead
    of those of the old one; None if the outputs have another number of numbers.
    """
    (run, before), (code, after) = old, new
    head, _, tail = text.partition(run.code)
    shown, output, rest = tail.partition(before.text)
    if not output:
        return head + code + tail
    were, are = parsed(before.text), parsed(after.text)
    if len(were.numbers) != len(are.numbers):
        return None
    pairs = {a.value: b.value for a, b in zip(were.numbers, are.numbers) if a.value != b.value}
    solution = parsed(rest)
    changed = {
        i: pairs[number.value]
        for i, number in enumerate(solution.numbers)
        if number.value in pairs and not number.ordinal
    }
    following = solution.replaced(changed)
    return None if following is None else head + code + shown + after.text + following
