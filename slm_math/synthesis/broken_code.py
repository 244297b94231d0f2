"""Broken code: a draft whose program has a mistake, with the output that the changed program really
printed and the answer that follows from it.
"""

from __future__ import annotations

import ast
import io
import keyword
import random
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import replace

from slm_math.agents.coding import last_line, program_answer
from slm_math.agents.replies import stated_answer
from slm_math.data.attempts import Attempt
from slm_math.records.record import RunEvent
from slm_math.synthesis.built import order
from slm_math.synthesis.computations import parsed
from slm_math.synthesis.programs import Programs
from slm_math.synthesis.regraded import Outcome, is_right
from slm_math.types import Draft, Run, RunPython

BROKEN_CODE = "broken code"
_NEGATIVE = re.compile(r"[-−]\s*[.\d]")
TRIES = 3  # changed programs of one draft that run, until one prints a wrong answer
BATCH = 16  # drafts at least whose programs run at once
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
    drafts: Sequence[tuple[Attempt, Draft]], wanted: int, seed: int, programs: Programs
) -> list[Outcome]:
    """For each right draft, one whose last program is broken, prints something else when it runs,
    and so leads to a wrong answer. No more programs run than `wanted` outcomes need.
    """
    outcomes = [Outcome()] * len(drafts)
    written = [i for i, (attempt, draft) in enumerate(drafts) if _run_of(attempt, draft)]
    while written and (missing := wanted - sum(o.draft is not None for o in outcomes)) > 0:
        some, written = written[: max(missing, BATCH)], written[max(missing, BATCH) :]
        for i, outcome in zip(some, _broken([drafts[i] for i in some], seed, programs)):
            outcomes[i] = outcome
    return outcomes


def _broken(
    drafts: Sequence[tuple[Attempt, Draft]], seed: int, programs: Programs
) -> list[Outcome]:
    runs = [_run_of(attempt, draft) for attempt, draft in drafts]
    found = [Outcome()] * len(drafts)
    codes = [
        broken(run.code, random.Random(order(seed, attempt.problem.statement, run.code)))
        for (attempt, _), run in zip(drafts, runs)
        if run is not None
    ]
    for _ in range(TRIES):
        trying = {
            i: RunPython(code, run.earlier)
            for i, run in enumerate(runs)
            if run and found[i].draft is None and (code := next(codes[i], None)) is not None
        }
        results = programs.run(list(trying.values()), "programs with a mistake")
        for (i, request), after in zip(trying.items(), results):
            attempt, draft = drafts[i]
            made = _draft(attempt, draft, Run(request.code, after, request.earlier))
            found[i] = replace(made, still_right=found[i].still_right + made.still_right)
    return found


def _run_of(attempt: Attempt, draft: Draft) -> RunEvent | None:
    """The last program of a right draft, if the draft shows it once and it printed the answer."""
    runs = [run for run in attempt.record.runs if run.ok and draft.text.count(run.code) == 1]
    last = last_line(runs[-1].output) if runs and runs[-1].code.strip() else None
    if last is None or not is_right(stated_answer(last) or last, attempt):
        return None
    return runs[-1]


def _draft(attempt: Attempt, draft: Draft, changed: Run) -> Outcome:
    """The draft with the changed program, its output and what follows from it, if that is wrong."""
    run = _run_of(attempt, draft)
    computed, after = program_answer(changed), changed.result.text
    if run is None or computed is None or after == run.output:
        return Outcome()
    text = rewritten(draft.text, (run.code, run.output), (changed.code, after))
    if text is None:
        return Outcome()
    shown = run.output in draft.text.partition(run.code)[2]
    answer = stated_answer(text, attempt.record.answer_type) if shown else computed
    verdicts = {is_right(computed, attempt), answer and is_right(answer, attempt)}
    if answer is not None and verdicts == {False}:
        return Outcome(Draft(text, answer))
    return Outcome(None, int(True in verdicts))


def rewritten(text: str, old: tuple[str, str], new: tuple[str, str]) -> str | None:
    """The text with another program and its output, and after it the numbers of the new output
    instead of those of the old one; None if the outputs have another number of numbers, or if one
    becomes negative, which the text after it would state without its sign.
    """
    head, _, tail = text.partition(old[0])
    shown, output, rest = tail.partition(old[1])
    if not output:
        return head + new[0] + tail
    were, are = parsed(old[1]).numbers, parsed(new[1]).numbers
    if len(were) != len(are) or _NEGATIVE.search(new[1]):
        return None
    values = {a.value: b.value for a, b in zip(were, are) if a.value != b.value}
    solution = parsed(rest)
    changed = {
        i: values[number.value]
        for i, number in enumerate(solution.numbers)
        if number.value in values and not number.ordinal
    }
    following = solution.replaced(changed)
    return None if following is None else head + new[0] + shown + new[1] + following
