"""Records of graded completions, as evaluations write them."""

from __future__ import annotations

from slm_math.agents.coding import program
from slm_math.grading.completions import Case
from slm_math.records.record import ChatMessage, Record, TurnEvent

ROLE = "solver"


def record_of(
    case: Case, answer: str | None, correct: bool, reason: str, method: str, lenient: bool
) -> Record:
    """The record of a graded completion; its id is what `Case.problem` is.

    A file seldom says how many tokens a completion has; 0 stands for a number that is not known.
    """
    task, text = case.task, case.completion or ""
    problem = task.problem
    prompt = (ChatMessage("user", problem.statement),) if problem.text else ()
    turn = TurnEvent(
        role=ROLE,
        prompt=prompt,
        reply=text,
        program=program(text) is not None,
        finish="length" if case.truncated else "stop",
    )
    return Record(
        id=case.problem,
        sample=case.sample,
        problem=problem.text,
        tags=dict(case.tags),
        gold=task.gold,
        answer_type=problem.answer_type,
        choices=problem.choices,
        tolerance=task.tolerance,
        answer=answer,
        correct=correct,
        reason=reason,
        method=method,
        hedged=reason == "hedged",
        lenient=lenient,
        events=(turn,),
    )
