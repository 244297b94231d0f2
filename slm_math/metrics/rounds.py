"""Metrics of the way to an answer: rounds of drafts, verdicts, votes, programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from slm_math.agents.judging import reviewed
from slm_math.metrics.intervals import Observations
from slm_math.metrics.selection import selection_observations
from slm_math.metrics.verdicts import balanced_accuracy, solved_problem, verdict_sides
from slm_math.records.record import GRADED, Record

FORMAL = ("box", "tag")  # forms of stating an answer that prompts ask for
VERDICTS = ("CORRECT", "INCORRECT", "UNCLEAR")


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


def round_metrics(records: Sequence[Record]) -> dict[str, float]:
    """How answers changed from round to round, over records with drafts; {} if there are none.

    `rounds` is the mean number. Four shares add up to 1: `stayed_right` (the first draft and the
    answer are correct), `improved` (the answer only), `degraded` (the first draft only), `failed`
    (neither). `round_r/accuracy` is the accuracy if every sample had stopped after round r at the
    latest; `after_r/accuracy` and `after_r/share` are accuracy and share of the samples that ended
    after exactly r rounds.
    """
    lengths = [len(rounds) for record in records if (rounds := correct_by_round(record))]
    if not lengths:
        return {}
    n, ended = len(lengths), Counter(lengths)
    shares = {f"after_{r}/share": ended[r] / n for r in range(1, max(ended) + 1)}
    return {"rounds": sum(lengths) / n} | means(round_observations(records)) | shares


@dataclass(frozen=True)
class Judgment:
    """A verdict (CORRECT, INCORRECT, UNCLEAR), and whether the verified answer is correct."""

    problem_id: str
    role: str
    verdict: str
    correct: bool

    @property
    def agrees(self) -> bool:
        """Whether the verdict agrees with the grader; UNCLEAR never does."""
        return self.verdict == ("CORRECT" if self.correct else "INCORRECT")


def judgments(records: Sequence[Record]) -> list[Judgment]:
    """Every verdict in the records, with the answer that it is about: a draft of the agent, or of
    the problem (answer type "verdict"), where a missing answer is UNCLEAR.
    """
    asked = [
        Judgment(
            solved_problem(record),
            role=record.turns[0].role,
            verdict=record.answer or "UNCLEAR",
            correct=record.gold == VERDICTS[0],
        )
        for record in records
        if record.answer_type == "verdict" and record.turns
    ]
    return asked + [
        Judgment(record.id, note.role, note.text or "", bool(draft.correct))
        for record in records
        if record.answer_type != "verdict" and any(note.kind == "verdict" for note in record.notes)
        for draft, note in reviewed((note.kind, note.branch, note) for note in record.notes)
    ]


def verdict_counts(records: Sequence[Record]) -> dict[str, Counter[tuple[str, bool]]]:
    """By role, how often each verdict was given about an answer that is correct (True) or not."""
    counts: dict[str, Counter[tuple[str, bool]]] = {}
    for judgment in judgments(records):
        by_verdict = counts.setdefault(judgment.role, Counter())
        by_verdict[judgment.verdict, judgment.correct] += 1
    return counts


def verdict_metrics(records: Sequence[Record]) -> dict[str, float]:
    """`verdict_counts` as metrics; {} without verdicts.

    `verdict_correct/right`, ... are counts, the rest are shares, see `verdict_observations`.
    `verifier_balanced_accuracy` is the mean of the share of CORRECT on correct and of INCORRECT on
    incorrect answers. If several roles verify, every name starts with the role
    (`checker/verdict_correct/right`).
    """
    metrics: dict[str, float] = {}
    by_role = verdict_counts(records)
    for role, counts in by_role.items():
        prefix = f"{role}/" if len(by_role) > 1 else ""
        for verdict in VERDICTS:
            for correct, word in ((True, "right"), (False, "wrong")):
                metrics[f"{prefix}verdict_{verdict.lower()}/{word}"] = counts[verdict, correct]
        right, wrong = (
            sum(counts[verdict, side] for verdict in VERDICTS) for side in (True, False)
        )
        if right and wrong:
            hits = counts["CORRECT", True] / right, counts["INCORRECT", False] / wrong
            metrics[f"{prefix}verifier_balanced_accuracy"] = sum(hits) / 2
    return metrics | means(verdict_observations(records))


def votes(records: Sequence[Record]) -> list[tuple[float, bool]]:
    """(the winner's share of the votes, whether the winner is correct) of every vote of a whole
    agent.
    """
    return [
        (note.value or 0.0, record.correct)
        for record in records
        for note in record.notes
        if note.kind == "vote" and not note.branch and note.text is not None
    ]


def code_metrics(records: Sequence[Record]) -> dict[str, float]:
    """Programs by sample; {} if no reply contains one.

    Shares of samples with a program in a reply (`code_written`), with one that was run
    (`code_run`), whose last one succeeded (`code_succeeded`), and the accuracy of the latter
    (`code_succeeded_accuracy`).
    """
    written = [record for record in records if any(turn.program for turn in record.turns)]
    if not written:
        return {}
    ran = [record for record in records if record.runs]
    succeeded = [record for record in ran if record.runs[-1].ok]
    metrics = {
        "code_written": len(written) / len(records),
        "code_run": len(ran) / len(records),
        "code_succeeded": len(succeeded) / len(records),
    }
    if succeeded:
        correct = sum(record.correct for record in succeeded)
        metrics["code_succeeded_accuracy"] = correct / len(succeeded)
    return metrics


def agent_metrics(records: Sequence[Record]) -> dict[str, float]:
    """`round_metrics`, `verdict_metrics`, `code_metrics`, `selection_observations`, the rates of
    `verdict_sides` with their mean `balanced_accuracy`, and two more: `oracle` (the answer, any
    draft or any candidate is correct) and `lost` (unusable replies per sample).
    """
    metrics = round_metrics(records) | verdict_metrics(records) | code_metrics(records)
    metrics |= means(selection_observations(records))
    sides = means(verdict_sides(records))
    balanced = balanced_accuracy(sides)
    metrics |= sides | ({} if balanced is None else {"balanced_accuracy": balanced})
    n = max(len(records), 1)
    graded = [[note.correct for note in record.notes if note.kind in GRADED] for record in records]
    if any(graded):
        solved = (any(some) or record.correct for some, record in zip(graded, records))
        metrics["oracle"] = sum(solved) / n
    lost = sum(note.kind == "lost" for record in records for note in record.notes)
    return metrics | {"lost": lost / n}


def observations(records: Sequence[Record]) -> Observations:
    """The single values whose means are the shares that people compare, for intervals."""
    return (
        answer_observations(records)
        | round_observations(records)
        | verdict_observations(records)
        | verdict_sides(records)
        | selection_observations(records)
    )


def means(values: Observations) -> dict[str, float]:
    """The mean of every metric that has values."""
    return {
        name: sum(value for _, value in pairs) / len(pairs)
        for name, pairs in values.items()
        if pairs
    }


def answer_observations(records: Sequence[Record]) -> Observations:
    """How samples state their answers; a value per sample."""
    columns = {
        "strict": [record.correct and record.method in FORMAL for record in records],
        "lenient": [record.lenient for record in records],
        "boxed": [record.method in FORMAL for record in records],
        "hedged": [record.hedged for record in records],
        "no_answer": [record.answer is None for record in records],
        "truncated": [record.truncated for record in records],
    }
    return {
        name: [(solved_problem(record), float(value)) for record, value in zip(records, column)]
        for name, column in columns.items()
    }


def round_observations(records: Sequence[Record]) -> Observations:
    """A value per sample with drafts; see `round_metrics`."""
    drafted = [(record, rounds) for record in records if (rounds := correct_by_round(record))]
    outcomes = {  # (first draft is correct, answer is correct)
        "stayed_right": (True, True),
        "improved": (False, True),
        "degraded": (True, False),
        "failed": (False, False),
    }
    values: Observations = {}
    for name, outcome in outcomes.items() if drafted else ():
        values[name] = [
            (solved_problem(record), float((rounds[0], record.correct) == outcome))
            for record, rounds in drafted
        ]
    for r in range(1, max((len(rounds) for _, rounds in drafted), default=0) + 1):
        values[f"round_{r}/accuracy"] = [
            (solved_problem(record), float(rounds[r - 1] if len(rounds) > r else record.correct))
            for record, rounds in drafted
        ]
        values[f"after_{r}/accuracy"] = [
            (solved_problem(record), float(record.correct))
            for record, rounds in drafted
            if len(rounds) == r
        ]
    return values


def verdict_observations(records: Sequence[Record]) -> Observations:
    """A value per verdict, and one per sample.

    `verifier_accuracy`: whether the verdict is CORRECT on a correct, INCORRECT on an incorrect
    answer (UNCLEAR is neither); `approves_right` and `approves_wrong`: whether it is CORRECT, on
    correct and on incorrect answers; `unclear`: whether it is UNCLEAR. `approved`: whether the last
    verdict on a sample is CORRECT.
    """
    every = judgments(records)
    several = len({judgment.role for judgment in every}) > 1
    values: Observations = {}

    def add(judgment: Judgment, name: str, value: bool) -> None:
        name = f"{judgment.role}/{name}" if several else name
        values.setdefault(name, []).append((judgment.problem_id, float(value)))

    for judgment in every:
        approves = judgment.verdict == "CORRECT"
        add(judgment, "verifier_accuracy", judgment.agrees)
        add(judgment, "approves_right" if judgment.correct else "approves_wrong", approves)
        add(judgment, "unclear", judgment.verdict == "UNCLEAR")
    for record in records:
        last = {judgment.role: judgment for judgment in judgments([record])}
        for judgment in last.values():
            add(judgment, "approved", judgment.verdict == "CORRECT")
    return values
