"""Corrections: a program that failed or printed a wrong value, what it did, and a fix that ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slm_math.agents.coding import last_line, program_answer
from slm_math.agents.replies import stated_answer
from slm_math.data.attempts import Attempt
from slm_math.data.chat_rows import chat_row
from slm_math.data.conversations import continues, conversation_chat, turns_of_runs
from slm_math.data.identity import question_key
from slm_math.data.normalized import normalized
from slm_math.prompts import Prompt
from slm_math.records.record import GRADED, RunEvent, TurnEvent
from slm_math.synthesis.built import Built, Made, Options, about_problem, order, receipt, shuffled
from slm_math.synthesis.programs import Programs
from slm_math.synthesis.regraded import is_right
from slm_math.synthesis.sources import Evaluations
from slm_math.types import Chat, Run, RunPython, RunResult, assistant, user

FAILED, WRONG = "failed", "wrong value"
REPAIR = Prompt("repair", "output")
RECODE = Prompt("recode", "problem critique")
SAME, OTHER = "later in the attempt", "another attempt"


@dataclass(frozen=True)
class Program:
    """A program of an attempt: the reply that wrote it, and its run."""

    attempt: Attempt
    turn: TurnEvent
    run: RunEvent

    @property
    def request(self) -> RunPython:
        return RunPython(self.run.code, self.run.earlier)

    @property
    def answer(self) -> str | None:
        """The answer that its output states, as far as the record knows."""
        line = last_line(self.run.output) if self.run.ok else None
        return line and (stated_answer(line) or line)


@dataclass(frozen=True)
class Correction:
    """A wrong program and its fix, and where the fix comes from."""

    wrong: Program
    fix: Program
    origin: str

    @property
    def kind(self) -> str:
        return WRONG if self.wrong.run.ok else FAILED


def build_corrections(evaluations: Evaluations, options: Options, programs: Programs) -> Built:
    """Rows that `Chats` reads, of which only the fix is trained on. Every wrong program and every
    fix has run again: the one printed the same, the other the right answer.
    """
    built = Built()
    written = {id(a): list(_programs(a)) for a in evaluations.attempts}
    if not any(written.values()):
        raise ValueError(
            "no attempt ran a program, so there is nothing to correct: evaluate an agent that does "
            "(CodeFeedback, SolverCoder, PythonTools)"
        )
    found: list[Correction] = []
    for attempts in evaluations.by_problem().values():
        own = [program for attempt in attempts for program in written[id(attempt)]]
        fixes = _different([each for each in own if _is_fix(each)])
        for wrong in filter(_is_wrong, own):
            correction = _correction(wrong, written[id(wrong.attempt)], fixes, options.seed)
            if correction is None:
                built.left_out["wrong programs without a fix"] += 1
            else:
                found.append(correction)
    if not found:
        raise ValueError(
            f"{sum(map(len, written.values()))} programs ran, and none that was wrong has a fix: "
            "evaluate with more samples, or an agent that repairs its programs (SolverCoder)"
        )
    corrections = _limited(found, options, built)
    executed = _executed(corrections, programs, built)
    rows = [_row(each, error, evaluations) for each, error in executed]
    built.rows = shuffled(rows, options.seed)
    if not built.rows:
        reasons = ", ".join(f"{count} {why}" for why, count in built.left_out.items() if count)
        raise ValueError(f"none of {len(found)} corrections can be used ({reasons})")
    return built


def _programs(attempt: Attempt) -> Iterator[Program]:
    """The programs that the role wrote that spoke first: others check answers."""
    role = attempt.record.turns[0].role
    for turn, run in turns_of_runs(attempt.record):
        if turn is not None and turn.role == role:
            yield Program(attempt, turn, run)


def _is_wrong(program: Program) -> bool:
    """Whether a program failed, or its value was given as an answer and is wrong. A value that
    nobody gave as an answer may be a step on the way.
    """
    if not program.run.ok:
        return True
    record, answer = program.attempt.record, program.answer
    if answer is None or is_right(answer, program.attempt) is not False:
        return False
    given = {note.text for note in record.notes if note.kind in GRADED}
    return answer in given or (answer == record.answer and not program.attempt.right)


def _is_fix(program: Program) -> bool:
    """Whether the program of a right attempt printed the right answer."""
    answer = program.answer
    return program.attempt.right and answer is not None and bool(is_right(answer, program.attempt))


def _different(programs: Sequence[Program]) -> list[Program]:
    return list({(each.turn.prompt, each.turn.reply): each for each in programs}.values())


def _correction(
    wrong: Program, own: Sequence[Program], fixes: Sequence[Program], seed: int
) -> Correction | None:
    """The first fix later in the attempt, else one of another attempt that answers the same prompt
    from its beginning.
    """
    place = next(i for i, each in enumerate(own) if each is wrong)
    for later in own[place + 1 :]:
        if _is_fix(later) and continues(later.turn, wrong.turn):
            return Correction(wrong, later, SAME)
    others = [
        fix
        for fix in fixes
        if fix.turn.prompt == wrong.turn.prompt and fix.turn.reply != wrong.turn.reply
    ]
    if not others:
        return None
    key = (wrong.attempt.folder, wrong.attempt.record.sample, wrong.run.code)
    return Correction(wrong, min(others, key=lambda f: order(seed, *key, f.turn.reply)), OTHER)


def _limited(found: Sequence[Correction], options: Options, built: Built) -> list[Correction]:
    """Each wrong program of a problem once, and at most so many of a problem."""
    different: dict[tuple[str, str], Correction] = {}
    for each in found:
        key = (question_key(each.wrong.attempt.problem), normalized(each.wrong.turn.reply))
        different.setdefault(key, each)
    counts, kept = Counter[str](), []
    for each in sorted(different.values(), key=lambda c: _order(c, options.seed)):
        key = question_key(each.wrong.attempt.problem)
        counts[key] += 1
        if options.per_problem is None or counts[key] <= options.per_problem:
            kept.append(each)
    built.left_out["wrong programs that occur twice, or beyond the limit of a problem"] += len(
        found
    ) - len(kept)
    return kept


def _order(each: Correction, seed: int) -> str:
    record = each.wrong.attempt.record
    return order(seed, each.wrong.attempt.folder, *record.key, each.wrong.run.code)


def _executed(
    corrections: Sequence[Correction], programs: Programs, built: Built
) -> list[tuple[Correction, RunResult]]:
    """The corrections whose programs do again what they did, with the result of the wrong one."""
    requests = [each.request for pair in corrections for each in (pair.wrong, pair.fix)]
    results = programs.run(requests, "wrong programs and their fixes")
    kept = []
    for each, wrong, fix in zip(corrections, results[::2], results[1::2]):
        answer = program_answer(Run(each.fix.run.code, fix))
        if wrong.ok != each.wrong.run.ok or wrong.text != each.wrong.run.output:
            built.left_out["wrong programs that do something else when they run again"] += 1
        elif answer is None or not is_right(answer, each.fix.attempt):
            built.left_out["fixes that are not right when they run again"] += 1
        else:
            kept.append((each, wrong))
    return kept


def _row(each: Correction, wrong: RunResult, evaluations: Evaluations) -> Made:
    attempt = each.wrong.attempt
    row = chat_row(
        _chat(each, wrong),
        **about_problem(attempt),
        kind=each.kind,
        error=wrong.text,
        fix=each.origin,
        receipt=receipt(
            attempt,
            program=each.wrong.run.code,
            fix={
                "evaluation": str(each.fix.attempt.folder),
                "sample": each.fix.attempt.record.sample,
                "program": each.fix.run.code,
            },
        ),
    )
    return Made(row, evaluations.split(attempt), attempt.problem, each.kind)


def _chat(each: Correction, wrong: RunResult) -> Chat:
    """The conversation as it was, or the wrong reply, what is wrong, and the reply of another
    attempt.
    """
    if each.origin == SAME:
        return conversation_chat((each.fix.turn,))
    before = conversation_chat((each.wrong.turn,), lambda turn: False)
    if each.kind == FAILED:
        asked = REPAIR.fill(output=wrong.text)
    else:
        critique = f"It printed:\n{wrong.text}\nThis is not the answer."
        asked = RECODE.fill(problem=each.wrong.attempt.problem.statement, critique=critique)
    return before + user(asked) + assistant(each.fix.turn.reply)
