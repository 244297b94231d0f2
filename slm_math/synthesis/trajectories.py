"""Trajectories: right attempts of any agent as chats, of five kinds.

The first kind that fits an attempt is its kind:

- rounds: an answer was given, and after a verdict, a critique or a request to check it the same
  role answered again;
- verified: another role spoke, or a verdict was noted;
- repaired: a program failed or computed a wrong answer, and the attempt went on to a right one;
- code: a program ran;
- single: nothing of these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from slm_math.data.attempts import Attempt
from slm_math.data.base import SPLITS
from slm_math.data.chat_rows import chat_row, content_text
from slm_math.data.conversations import (
    conversation_chat,
    conversations,
    is_shown_output,
    turns_of_runs,
)
from slm_math.data.identity import question_key
from slm_math.data.normalized import normalized
from slm_math.metrics.facts import FORMAL
from slm_math.records.record import NoteEvent, Record, RunEvent, TurnEvent
from slm_math.synthesis.built import (
    Built,
    Made,
    Options,
    about_problem,
    fewest,
    receipt,
    shuffled,
)
from slm_math.synthesis.marks import wrong_replies
from slm_math.synthesis.programs import Programs
from slm_math.synthesis.sources import Evaluations

KINDS = ("rounds", "verified", "repaired", "code", "single")


@dataclass(frozen=True)
class Trajectory:
    """A right attempt, its kind, and the role whose conversations are its rows."""

    attempt: Attempt
    kind: str
    role: str


def build_trajectories(evaluations: Evaluations, options: Options, programs: Programs) -> Built:
    """Rows that `Chats` reads: a conversation each, in which every reply of the role is trained on
    but those whose program failed, whose answer or verdict was wrong, or that were cut off. A
    conversation that ends in such a reply is left out.
    """
    built = Built()
    attempts = evaluations.attempts
    right = [attempt for attempt in attempts if attempt.right]
    built.left_out["attempts that are wrong"] += len(attempts) - len(right)
    if not right:
        raise ValueError(
            f"there are no right attempts, all {len(attempts)} are wrong: evaluate with more "
            "samples, on easier problems, or with another model"
        )
    found = [
        Trajectory(attempt, kind_of(attempt.record), options.role or attempt.record.turns[0].role)
        for attempt in right
    ]
    _check_role(found, options)
    rows = [
        made
        for trajectory in _chosen(found, options, built)
        for made in _rows(trajectory, evaluations, built)
    ]
    built.rows = _limited(_different(rows, built), options, built)
    if not built.rows:
        raise ValueError("no right attempt has a reply to train on: all were cut off or empty")
    return built


def _check_role(found: Sequence[Trajectory], options: Options) -> None:
    roles = sorted({turn.role for each in found for turn in each.attempt.record.turns})
    if options.role is not None and options.role not in roles:
        raise ValueError(
            f"role {options.role} spoke in none of the right attempts; the roles are "
            f"{', '.join(roles)}"
        )


def kind_of(record: Record) -> str:
    """The kind of an attempt, by its events alone."""
    notes = [note for note in record.notes if not note.branch]
    if _rounds(record) > 1:
        return "rounds"
    roles = {turn.role for turn in record.turns}
    if len(roles) > 1 or any(note.kind == "verdict" for note in notes):
        return "verified"
    if record.runs:
        replies = wrong_replies(record)
        failed = any(not run.ok for run in record.runs)
        wrote = [turn for turn, _ in turns_of_runs(record) if turn is not None]
        return "repaired" if failed or any(id(turn) in replies for turn in wrote) else "code"
    return "single"


def _rounds(record: Record) -> int:
    """How many times the role that spoke first was asked for an answer: a reply to the output of a
    program belongs to the round of the program.
    """
    first = record.turns[0].role
    rounds, answered = 1, False
    runs: list[RunEvent] = []
    for event in record.events:
        if isinstance(event, RunEvent):
            runs.append(event)
        elif isinstance(event, NoteEvent):
            answered = answered or (event.kind == "draft" and not event.branch)
        elif event.role == first and answered:
            rounds += not is_shown_output(event, runs[-1:])
            answered = False
    return rounds


def _chosen(found: Sequence[Trajectory], options: Options, built: Built) -> list[Trajectory]:
    """Of each problem the best or the shortest trajectory, or all; of each kind, if balanced."""
    if options.keep == "all":
        return list(found)
    groups: dict[tuple[str, str], list[Trajectory]] = {}
    for each in found:
        kind = each.kind if options.balance else ""
        groups.setdefault((question_key(each.attempt.problem), kind), []).append(each)
    rank = _flaws if options.keep == "best" else _length
    chosen = [min(own, key=lambda each: (*rank(each), *_length(each))) for own in groups.values()]
    built.left_out[f"right attempts that are not the {options.keep} of a problem"] += len(
        found
    ) - len(chosen)
    return chosen


def _flaws(each: Trajectory) -> tuple[int, ...]:
    """What makes a right attempt a worse example, the gravest first: replies that were cut off,
    programs that failed, wrong drafts on the way, an answer in no box or tag.
    """
    record = each.attempt.record
    return (
        sum(turn.finish == "length" for turn in record.turns),
        sum(not run.ok for run in record.runs),
        len(wrong_replies(record)),
        int(record.method not in FORMAL),
    )


def _length(each: Trajectory) -> tuple[int, ...]:
    record = each.attempt.record
    return (record.tokens, sum(len(turn.reply) for turn in record.turns))


def _rows(trajectory: Trajectory, evaluations: Evaluations, built: Built) -> list[Made]:
    attempt, role = trajectory.attempt, trajectory.role
    record = attempt.record
    wrong = wrong_replies(record)
    trained: set[int] = set()

    def learned(turn: TurnEvent) -> bool:
        """A reply of several conversations is trained on in the first."""
        fresh = id(turn) not in trained and id(turn) not in wrong and _is_whole(turn)
        trained.add(id(turn))
        return fresh

    rows = []
    for number, turns in enumerate(conversations(record, role)):
        last = turns[-1]
        if id(last) in wrong or not _is_whole(last):
            built.left_out["conversations that end in a wrong reply, or in one cut off"] += 1
            continue
        chat = conversation_chat(turns, learned)
        row = chat_row(
            chat,
            **about_problem(attempt),
            kind=trajectory.kind,
            role=role,
            receipt=receipt(attempt, conversation=number),
        )
        split = evaluations.split(attempt)
        rows.append(Made(row, split, attempt.problem, trajectory.kind))
    return rows


def _is_whole(turn: TurnEvent) -> bool:
    """Whether a reply has text and came to its end."""
    return bool(turn.reply.strip()) and turn.finish != "length"


def _different(rows: Sequence[Made], built: Built) -> list[Made]:
    """Each conversation once: two that differ in printing only are one. One that attempts of
    several kinds have (a solution that stood alone in one, and that a verifier accepted in another)
    counts for the kind that has the fewest so far.
    """
    equal: dict[tuple[str, ...], dict[str, Made]] = {}
    for made in rows:
        texts = [normalized(content_text(message)) for message in made.row["messages"]]
        equal.setdefault((question_key(made.problem), *texts), {}).setdefault(made.part, made)
    counts = Counter[tuple[str, str]]()
    chosen: list[Made] = []
    for kinds in sorted(equal.values(), key=len):
        made = min(kinds.values(), key=lambda made: counts[made.split, made.part])
        counts[made.split, made.part] += 1
        chosen.append(made)
    built.left_out["conversations equal to another one"] += len(rows) - len(chosen)
    return chosen


def _limited(rows: Sequence[Made], options: Options, built: Built) -> list[Made]:
    """In a seeded order, at most so many of a problem, and with `balance` as many of each kind, in
    every split, as of the rarest one that it has.
    """
    ordered = shuffled(rows, options.seed)
    if options.per_problem is not None:
        ordered = at_most(ordered, options.per_problem)
    if options.balance:
        ordered = [
            made
            for split in SPLITS
            for made in _balanced([each for each in ordered if each.split == split], options.seed)
        ]
    built.left_out["conversations beyond the limit of a problem or a kind"] += len(rows) - len(
        ordered
    )
    return ordered


def at_most(rows: Sequence[Made], most: int) -> list[Made]:
    """The first rows of each problem."""
    counts = Counter[str]()
    kept = []
    for made in rows:
        key = question_key(made.problem)
        counts[key] += 1
        if counts[key] <= most:
            kept.append(made)
    return kept


def _balanced(rows: Sequence[Made], seed: int) -> list[Made]:
    n = fewest(Counter(made.part for made in rows))
    counts = Counter[str]()
    kept = []
    for made in rows:
        counts[made.part] += 1
        if counts[made.part] <= n:
            kept.append(made)
    return kept
