"""What metrics count of a sample: everything but numbers and texts. Few samples differ in it."""

from __future__ import annotations

from typing import NamedTuple

from slm_math.agents.judging import reviewed
from slm_math.answers import UNDECIDED
from slm_math.answers.verdicts import DECISIONS
from slm_math.metrics.selection import Selection, selection
from slm_math.records.record import GRADED, Record
from slm_math.records.seeing import Seen, seen

FORMAL = ("box", "tag")  # forms of stating an answer that prompts ask for
TEMPLATE = "template"  # the tag of problems that are instances of one
SIDES = ("true_positive_rate", "true_negative_rate")  # of right and of wrong drafts

_NO_CANDIDATES = Selection()
_RATES = dict[str, str](zip(DECISIONS, SIDES))


class Facts(NamedTuple):
    """Of a record (see `Record`), and of its events.

    `undecided`: by the grader. `boxed`: the answer is stated in a box or a tag. `spoke`: there are
    replies; of these `empty`: one had no token (0 tokens of a text are an unknown number), `wrote`:
    one has a program. Of its programs `ran`:
    there are some, `failed`: one did not succeed, `succeeded`: the last one did. `rounds`: see
    `correct_by_round`. `graded`: whether any draft, candidate or choice is correct, None without
    one. `lost`: unusable replies. `side`: of the draft to judge, "" for other problems. `approved`:
    by role, whether its last verdict is CORRECT. `votes`: the winner's share of each vote of the
    whole agent.
    """

    correct: bool
    lenient: bool
    hedged: bool
    boxed: bool
    answered: bool
    undecided: bool
    broken: bool
    skipped: bool
    has_verdict: bool
    blind: bool
    has_choices: bool
    answer_type: str
    spoke: bool
    truncated: bool
    empty: bool
    wrote: bool
    ran: bool
    failed: bool
    succeeded: bool
    rounds: tuple[bool, ...]
    graded: bool | None
    lost: int
    side: str
    approved: tuple[tuple[str, bool], ...]
    votes: tuple[float, ...]
    selection: Selection
    seen: Seen | None


class Judgment(NamedTuple):
    """A verdict (CORRECT, INCORRECT, UNCLEAR) of a role, and whether the verified answer is
    correct.
    """

    role: str
    verdict: str
    correct: bool

    @property
    def agrees(self) -> bool:
        """Whether the verdict agrees with the grader; UNCLEAR never does."""
        return self.verdict == ("CORRECT" if self.correct else "INCORRECT")


def facts(record: Record) -> Facts:
    """What metrics count of a record."""
    turns, runs, notes = record.turns, record.runs, record.notes
    truncated = empty = wrote = False
    for turn in turns:
        truncated = truncated or turn.finish == "length"
        empty = empty or (turn.tokens == 0 and not turn.reply)
        wrote = wrote or turn.program
    graded = [bool(note.correct) for note in notes if note.kind in GRADED]
    is_verdict = record.answer_type == "verdict"
    judged = judgments(record) if notes or is_verdict else ()
    return Facts(
        correct=record.correct,
        lenient=record.lenient,
        hedged=record.hedged,
        boxed=record.method in FORMAL,
        answered=record.answer is not None,
        undecided=record.reason in UNDECIDED,
        broken=record.broken,
        skipped=record.skipped,
        has_verdict=record.has_verdict,
        blind=bool(record.images) and record.blind,
        has_choices=bool(record.choices),
        answer_type=record.answer_type,
        spoke=bool(turns),
        truncated=truncated,
        empty=empty,
        wrote=wrote,
        ran=bool(runs),
        failed=bool(runs) and not all(run.ok for run in runs),
        succeeded=bool(runs) and runs[-1].ok,
        rounds=tuple(correct_by_round(record)) if notes else (),
        graded=any(graded) if graded else None,
        lost=sum(note.kind == "lost" for note in notes) if notes else 0,
        side=_RATES.get(record.gold, "") if is_verdict else "",
        approved=tuple({each.role: each.verdict == "CORRECT" for each in judged}.items()),
        votes=tuple(
            note.value or 0.0
            for note in notes
            if note.kind == "vote" and not note.branch and note.text is not None
        )
        if notes
        else (),
        selection=selection(record) if notes else _NO_CANDIDATES,
        seen=seen(record),
    )


def correct_by_round(record: Record) -> list[bool]:
    """Whether the answer after each round was correct, in order; a draft without an answer leaves
    the earlier one in place.

    Drafts of workflows that run side by side are not rounds.
    """
    verdicts: list[bool] = []
    for note in record.notes:
        if note.kind == "draft" and not note.branch:
            verdicts.append(verdicts[-1] if note.text is None and verdicts else bool(note.correct))
    return verdicts


def judgments(record: Record) -> list[Judgment]:
    """Every verdict in a record, with the answer that it is about: a draft of the agent, or of
    the problem (answer type "verdict"), where a missing answer is UNCLEAR.
    """
    if record.answer_type == "verdict":
        asked = [turn.role for turn in record.turns[:1]]
        verdict, right = record.answer or "UNCLEAR", record.gold == DECISIONS[0]
        return [Judgment(role, verdict, right) for role in asked]
    if not any(note.kind == "verdict" for note in record.notes):
        return []
    notes = ((note.kind, note.branch, note) for note in record.notes)
    return [
        Judgment(note.role, note.text or "", bool(draft.correct)) for draft, note in reviewed(notes)
    ]


def unit_of(record: Record) -> str | None:
    """The unit of independent observations that a record belongs to, if that is not its problem: of
    drafts the problem that they solve, of the instances of a template the template.
    """
    if record.answer_type == "verdict":
        return solved_problem(record)
    template = record.tags.get(TEMPLATE)
    return None if template is None else f"{TEMPLATE} {template}"


def solved_problem(record: Record) -> str:
    """The name of the problem that is solved, which all drafts of it share: the unit of
    independent observations.
    """
    return record.id.rpartition("/")[0] if record.answer_type == "verdict" else record.id
