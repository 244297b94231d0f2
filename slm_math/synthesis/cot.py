"""What a cascade made of a problem, as a row of a CoT data set: a solution and its receipt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from slm_math.answers import extract, grader_version
from slm_math.answers.spoken import without_thoughts
from slm_math.data.written_drafts import texts_after
from slm_math.records.encoding import json_line
from slm_math.records.files import naming
from slm_math.records.record import Event, NoteEvent, Record, RunEvent, TurnEvent
from slm_math.synthesis.accept import Accept
from slm_math.synthesis.cost import Price, Spent
from slm_math.synthesis.tries import Try
from slm_math.types import AnswerType

ROWS = "rows.jsonl"


@dataclass(frozen=True)
class Tried:
    """One try as records have it: its number from 1, and its events."""

    number: int
    events: tuple[Event, ...]

    @property
    def turns(self) -> list[TurnEvent]:
        """The agent's own turns, without those of judges."""
        return [event for event in self.events if isinstance(event, TurnEvent) and event.plays]

    @property
    def answer(self) -> str | None:
        """The answer of the agent; None if it had none."""
        note = self.note("candidate")
        return note.text if note is not None else None

    @property
    def is_right(self) -> bool:
        """Whether the grader accepts the answer."""
        note = self.note("candidate")
        return note is not None and note.correct is True

    def note(self, kind: str) -> NoteEvent | None:
        """The cascade's last note of a kind on this try."""
        notes = [event for event in self.events if isinstance(event, NoteEvent)]
        own = [each for each in notes if each.kind == kind and each.branch == (self.number,)]
        return own[-1] if own else None


def tries_of(record: Record) -> list[Tried]:
    """The tries of a record, in order."""
    events: dict[int, list[Event]] = {}
    number = 0
    for event in record.events:
        if isinstance(event, TurnEvent):
            number = event.attempt
        elif isinstance(event, NoteEvent) and event.branch:
            number = event.branch[0]
        events.setdefault(number, []).append(event)
    return [Tried(number, tuple(some)) for number, some in events.items()]


def solution_texts(tried: Tried, answer_type: AnswerType) -> list[str]:
    """The last reply that states the answer of a try, after the replies, programs and outputs that
    led to it: one reply leads to another if programs ran between them, or if the other continues
    it. Drafts that were revised are left out, and so is what other roles say of them.
    """
    chains: list[list[TurnEvent]] = []
    ran = False
    for event in tried.events:
        if isinstance(event, RunEvent):
            ran = True
        elif isinstance(event, NoteEvent) and event.kind == "verdict":
            ran = False
        elif isinstance(event, TurnEvent) and event.plays == tried.turns[0].plays:
            earlier = chains[-1][-1].prompt if chains else ()
            leads = ran or event.prompt[-1].role == "assistant"
            if chains and leads and event.prompt[: len(earlier)] == earlier:
                chains[-1].append(event)
            else:
                chains.append([event])
            ran = False
    pairs = [(turn, chain) for chain in chains for turn in chain]
    stating = [
        pair
        for pair in pairs
        if extract(pair[0].reply, answer_type=answer_type).value == tried.answer
    ]
    last, chain = (stating or pairs)[-1]
    return list(texts_after(last.prompt[len(chain[0].prompt) :], last.reply))


def rounds_of(plan: Sequence[Try]) -> list[int]:
    """The round of each try: a new one begins where the role changes."""
    rounds: list[int] = []
    for index, each in enumerate(plan):
        changed = index and each.role != plan[index - 1].role
        rounds.append(rounds[-1] + bool(changed) if rounds else 1)
    return rounds


@dataclass(frozen=True)
class Rows:
    """Makes rows of records.

    Args:
        plan: the tries.
        accept: what decided.
        index: problem id -> its place in the run.
        price: role -> its price; None if it has none.
        models: role -> the model that answers it, where a server does not say.
        images: problem id -> the sources of its images, where it has some.
    """

    plan: Sequence[Try]
    accept: Accept
    index: Mapping[str, int]
    price: Callable[[str], Price | None]
    models: Mapping[str, str]
    images: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def row(self, record: Record) -> dict[str, Any]:
        """The row of a problem: the solution that was kept, else that of the last try."""
        tries = tries_of(record)
        kept = next((each for each in tries if each.note("kept") is not None), None)
        shown = kept or next((each for each in reversed(tries) if each.turns), None)
        texts = solution_texts(shown, record.answer_type) if shown is not None else []
        split = [without_thoughts(text) for text in texts]
        note = kept.note("kept") if kept is not None else None
        number = shown.number if shown is not None else 1
        plain = record.answer_type == "math" and not record.choices
        gold = record.gold or (record.answer or "")
        return {
            "index": self.index[record.id],
            "question": record.problem,
            **({} if plain else {"answer_type": record.answer_type}),
            **({"choices": list(record.choices)} if record.choices else {}),
            **({"tolerance": record.tolerance} if record.answer_type == "num" else {}),
            **({"images": list(self.images[record.id])} if self.images.get(record.id) else {}),
            "ground_truth": gold,
            "predicted_answer": shown.answer if shown is not None else None,
            "thinking_process": _joined(thought for thought, _ in split),
            "solution": _joined(solution for _, solution in split),
            "raw_output": "\n\n".join(texts),
            "correct": shown is not None and shown.is_right if record.gold else kept is not None,
            "teacher_model": self._model(shown),
            "thinking_effort": self.plan[number - 1].effort,
            "round": rounds_of(self.plan)[number - 1],
            "attempt_count": len(tries),
            "attempts_history": [self._history(each, record) for each in tries],
            "tokens_used": sum(turn.tokens for turn in shown.turns) if shown is not None else 0,
            "status": status(record),
            "dataset": record.id.partition("/")[0],
            "receipt": self._receipt(record, note),
        }

    def spent(self, record: Record) -> Spent:
        """What all requests for a problem took."""
        return reduce(add, map(self._spent, record.turns), Spent())

    def _receipt(self, record: Record, note: NoteEvent | None) -> dict[str, Any]:
        """Who says that the solution is good, and what it took: all tries, and judges."""
        spent = self.spent(record)
        reasons = [event.text for event in record.notes if event.kind == "try"]
        return {
            "problem": record.id,
            "accepted_by": type(self.accept).__name__ if note is not None else None,
            "reason": record.error or (reasons[-1] if reasons else ""),
            "grader": grader_version(),
            "reference": "data" if record.gold else "majority",
            "executed": note.text if note is not None else None,
            "score": note.value if note is not None else None,
            "requests": spent.requests,
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "usd": round(spent.usd, 9),
        }

    def _history(self, each: Tried, record: Record) -> dict[str, Any]:
        planned, note, lost = self.plan[each.number - 1], each.note("try"), each.note("lost")
        candidate = each.note("candidate")
        right = candidate.correct if candidate is not None and record.gold else None
        return {
            "try": each.number,
            "round": rounds_of(self.plan)[each.number - 1],
            "role": planned.role,
            "teacher_model": self._model(each),
            "temperature": planned.temperature,
            "effort": planned.effort,
            "answer": each.answer,
            "correct": right,
            "reason": note.text if note is not None else lost.text if lost is not None else None,
            "prompt_tokens": sum(turn.prompt_tokens for turn in each.turns),
            "completion_tokens": sum(turn.tokens for turn in each.turns),
        }

    def _model(self, each: Tried | None) -> str:
        if each is None or not each.turns:
            return ""
        turn = each.turns[0]
        return turn.model or self.models.get(turn.role, "")

    def _spent(self, turn: TurnEvent) -> Spent:
        usd = (self.price(turn.role) or Price()).of(turn.prompt_tokens, turn.tokens)
        return Spent(1, turn.prompt_tokens, turn.tokens, usd)


def status(record: Record) -> str:
    """What became of a problem: accepted, rejected, failed (an endpoint did not answer, and the
    same command tries again), or skipped (it does not fit into the model's context).
    """
    if record.error is not None:
        return "skipped" if record.skipped else "failed"
    kept = any(note.kind == "kept" for note in record.notes)
    return "accepted" if kept else "rejected"


def _joined(texts: Iterator[str]) -> str:
    return "\n\n".join(filter(None, texts))


class RowFiles:
    """The rows of a run on the disk: the accepted ones, and beside the tries all others.

    While a run is under way they are appended as their problems end; `write` puts all of them into
    the order of the problems, each file completely or not at all.
    """

    def __init__(self, out: Path, rows: Rows) -> None:
        self.rows = rows
        self.accepted, self.others = out / ROWS, out / "tries" / "rejected.jsonl"
        self._written = -1  # records so far; -1 before the first call

    def append(self, records: Sequence[Record]) -> None:
        """Writes the rows of the records since the last call."""
        if self._written < 0:  # what an earlier session left
            self.write(records)
        for record in records[self._written :]:
            file = self.accepted if status(record) == "accepted" else self.others
            with naming(file), file.open("ab") as lines:
                lines.write(json_line(self.rows.row(record)))
        self._written = len(records)

    def write(self, records: Sequence[Record]) -> list[dict[str, Any]]:
        """Writes all rows, which it returns, in the order of the problems."""
        made = sorted(map(self.rows.row, records), key=lambda row: row["index"])
        for file, wanted in ((self.accepted, True), (self.others, False)):
            file.parent.mkdir(parents=True, exist_ok=True)
            new = file.with_name(file.name + ".new")
            lines = (json_line(row) for row in made if (row["status"] == "accepted") == wanted)
            with naming(file):
                new.write_bytes(b"".join(lines))
            new.replace(file)
        self._written = len(records)
        return made
