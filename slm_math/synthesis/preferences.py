"""Preferences: pairs of a right and a wrong reply to one prompt, as trainers of DPO read them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slm_math.agents.coding import last_line
from slm_math.agents.replies import stated_answer
from slm_math.data.attempts import OPEN, Attempt
from slm_math.data.conversations import turns_of_runs
from slm_math.data.identity import problem_key
from slm_math.data.normalized import normalized
from slm_math.records.record import ChatMessage, TurnEvent
from slm_math.synthesis.built import Built, Made, Options, Row, about_problem, order, shuffled
from slm_math.synthesis.built import receipt as receipt_of
from slm_math.synthesis.programs import Programs
from slm_math.synthesis.regraded import is_right
from slm_math.synthesis.sources import Evaluations

CUT_OFF = "replies that were cut off"
SILENT = "replies that neither state an answer nor compute one"


@dataclass(frozen=True)
class Judged:
    """A reply to the first prompt of an attempt, the answer that it states or that its program
    computes, and whether that is right.
    """

    attempt: Attempt
    turn: TurnEvent
    number: int  # among the replies of the attempt
    answer: str
    right: bool


def build_preferences(evaluations: Evaluations, options: Options, programs: Programs) -> Built:
    """Rows {"prompt", "chosen", "rejected"}, each a list of messages, the last two of one reply.

    At most `per_problem` pairs of a problem. A reply is in several pairs only where the other side
    has more replies.
    """
    built = Built()
    groups: dict[tuple[str, tuple[ChatMessage, ...]], list[Judged]] = defaultdict(list)
    for attempt in evaluations.attempts:
        for judged in _judged(attempt, built):
            groups[problem_key(attempt.problem), judged.turn.prompt].append(judged)
    pairs: list[tuple[Judged, Judged]] = []
    counts: dict[str, int] = defaultdict(int)
    for (problem, _), own in groups.items():
        most = None if options.per_problem is None else options.per_problem - counts[problem]
        made = _pairs(own, options.seed)[:most]
        counts[problem] += len(made)
        pairs += made
        built.left_out["prompts without a right or without a wrong reply"] += not made
    if not pairs:
        judged = [each for own in groups.values() for each in own]
        right = sum(each.right for each in judged)
        raise ValueError(
            f"there is no problem with a right and a wrong reply ({right} replies are right and "
            f"{len(judged) - right} wrong, of {len(groups)} prompts): evaluate with several "
            "samples at a higher temperature"
        )
    rows = [
        Made(_row(*pair), evaluations.split(pair[0].attempt), pair[0].attempt.problem, "pairs")
        for pair in pairs
    ]
    built.rows = shuffled(rows, options.seed)
    return built


def _judged(attempt: Attempt, built: Built) -> Iterator[Judged]:
    """The replies to the question itself, each graded by its own answer."""
    record = attempt.record
    first = record.turns[0]
    runs = {id(turn): run for turn, run in turns_of_runs(record) if turn is not None}
    asked = [
        each for each in record.turns if (each.role, each.prompt) == (first.role, first.prompt)
    ]
    for number, turn in enumerate(asked):
        run = runs.get(id(turn))
        stated = stated_answer(turn.reply, record.answer_type)
        line = last_line(run.output) if run is not None and run.ok else None
        answer = stated if run is None else line and (stated_answer(line) or line)
        if turn.finish == "length":
            built.left_out[CUT_OFF] += 1
            continue
        if answer is None and run is not None and not run.ok:
            yield Judged(attempt, turn, number=number, answer="", right=False)
            continue
        if answer is None:
            built.left_out[SILENT] += 1
            continue
        right = is_right(answer, attempt)
        if right is None:
            built.left_out[OPEN] += 1
            continue
        yield Judged(attempt, turn, number=number, answer=answer, right=right)


def _pairs(replies: Sequence[Judged], seed: int) -> list[tuple[Judged, Judged]]:
    """Pairs of different texts: the i-th right one with the i-th wrong one, in a seeded order, and
    around again on the side that has fewer.
    """
    sides = [_different([each for each in replies if each.right == side]) for side in (True, False)]
    right, wrong = (sorted(side, key=lambda each: _key(each, seed)) for side in sides)
    if not right or not wrong:
        return []
    return [
        (right[i % len(right)], wrong[i % len(wrong)]) for i in range(max(len(right), len(wrong)))
    ]


def _different(replies: Sequence[Judged]) -> list[Judged]:
    return list({normalized(each.turn.reply): each for each in reversed(replies)}.values())


def _key(each: Judged, seed: int) -> str:
    return order(seed, each.attempt.folder, *each.attempt.record.key, each.number)


def _row(right: Judged, wrong: Judged) -> Row:
    attempt = right.attempt
    images = [image.source for message in right.turn.prompt for image in message.images]
    return {
        "prompt": list(map(_written, right.turn.prompt)),
        **({"images": images} if images else {}),
        "chosen": [{"role": "assistant", "content": right.turn.reply}],
        "rejected": [{"role": "assistant", "content": wrong.turn.reply}],
        **about_problem(attempt),
        "chosen_answer": right.answer,
        "rejected_answer": wrong.answer or None,
        "receipt": receipt_of(
            attempt,
            reply=right.number,
            rejected={
                "evaluation": str(wrong.attempt.folder),
                "sample": wrong.attempt.record.sample,
                "reply": wrong.number,
            },
        ),
    }


def _written(message: ChatMessage) -> Row:
    """A message of a prompt; an image in it stands for the next one of the row's `images`."""
    if not message.images:
        return {"role": message.role, "content": message.content}
    parts = [{"type": "image"} for _ in message.images]
    return {"role": message.role, "content": [*parts, {"type": "text", "text": message.content}]}
