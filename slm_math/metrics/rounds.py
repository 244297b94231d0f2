"""Metrics of the way to an answer: rounds of drafts, verdicts, votes, programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from slm_math.metrics.arrays import counted
from slm_math.metrics.columns import Samples
from slm_math.metrics.facts import Facts, Judgment
from slm_math.metrics.observed import Observations, means, of_judgments, of_samples
from slm_math.metrics.verdicts import balanced_accuracy, verdict_sides
from slm_math.records.record import Record

UNCLEAR = "UNCLEAR"
VERDICTS = ("CORRECT", "INCORRECT", UNCLEAR)


def round_metrics(records: Samples | Iterable[Record]) -> dict[str, float]:
    """How answers changed from round to round, over records with drafts; {} if there are none.

    `rounds` is the mean number. Four shares add up to 1: `stayed_right` (the first draft and the
    answer are correct), `improved` (the answer only), `degraded` (the first draft only), `failed`
    (neither). `round_r/accuracy` is the accuracy if every sample had stopped after round r at the
    latest; `after_r/accuracy` and `after_r/share` are accuracy and share of the samples that ended
    after exactly r rounds.
    """
    samples = Samples.of(records)
    ended = Counter[int]()
    for one, count in samples.counted():
        ended[len(one.rounds)] += count
    del ended[0]
    n = ended.total()
    if not n:
        return {}
    shares = {f"after_{r}/share": ended[r] / n for r in range(1, max(ended) + 1)}
    lengths = sum(length * count for length, count in ended.items())
    return {"rounds": lengths / n} | means(round_observations(samples)) | shares


def verdict_counts(records: Samples | Iterable[Record]) -> dict[str, Counter[tuple[str, bool]]]:
    """By role, how often each verdict was given about an answer that is correct (True) or not."""
    samples = Samples.of(records)
    counts: dict[str, Counter[tuple[str, bool]]] = {}
    for number, count in zip(*counted(samples.judgments.columns[0])):
        judgment = samples.tables.judgments.values[number]
        by_verdict = counts.setdefault(judgment.role, Counter())
        by_verdict[judgment.verdict, judgment.correct] += count
    return counts


def verdict_metrics(records: Samples | Iterable[Record]) -> dict[str, float]:
    """`verdict_counts` as metrics; {} without verdicts.

    `verdict_correct/right`, ... are counts, the rest are shares, see `verdict_observations`.
    `verifier_balanced_accuracy` is the mean of the share of CORRECT on correct and of INCORRECT on
    incorrect answers. If several roles verify, every name starts with the role
    (`checker/verdict_correct/right`).
    """
    samples = Samples.of(records)
    metrics: dict[str, float] = {}
    by_role = verdict_counts(samples)
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
    return metrics | means(verdict_observations(samples))


def code_metrics(records: Samples | Iterable[Record]) -> dict[str, float]:
    """Programs by sample; {} if no reply contains one.

    Shares of samples with a program in a reply (`code_written`), with one that was run
    (`code_run`), whose last one succeeded (`code_succeeded`), and the accuracy of the latter
    (`code_succeeded_accuracy`).
    """
    samples = Samples.of(records)
    n, written = len(samples), samples.total(lambda one: one.wrote)
    if not written:
        return {}
    succeeded = samples.total(lambda one: one.succeeded)
    metrics = {
        "code_written": written / n,
        "code_run": samples.total(lambda one: one.ran) / n,
        "code_succeeded": succeeded / n,
    }
    if succeeded:
        correct = samples.total(lambda one: one.succeeded and one.correct)
        metrics["code_succeeded_accuracy"] = correct / succeeded
    return metrics


def agent_metrics(records: Samples | Iterable[Record]) -> dict[str, float]:
    """`round_metrics`, `verdict_metrics`, `code_metrics`, `selection_observations`, the rates of
    `verdict_sides` with their mean `balanced_accuracy`, and two more: `oracle` (the answer, any
    draft or any candidate is correct) and `lost` (unusable replies per sample).
    """
    samples = Samples.of(records)
    metrics = round_metrics(samples) | verdict_metrics(samples) | code_metrics(samples)
    metrics |= means(selection_observations(samples))
    sides = means(verdict_sides(samples))
    balanced = balanced_accuracy(sides)
    metrics |= sides | ({} if balanced is None else {"balanced_accuracy": balanced})
    n = max(len(samples), 1)
    if any(one.graded is not None for one, _ in samples.counted()):
        metrics["oracle"] = samples.total(lambda one: bool(one.graded) or one.correct) / n
    return metrics | {"lost": samples.total(lambda one: one.lost) / n}


def observations(samples: Samples) -> Observations:
    """The single values whose means are the shares that people compare, for intervals."""
    return (
        answer_observations(samples)
        | round_observations(samples)
        | verdict_observations(samples)
        | verdict_sides(samples)
        | selection_observations(samples)
    )


def answer_observations(samples: Samples) -> Observations:
    """How samples state their answers; a value per sample."""
    return {
        "strict": of_samples(samples, lambda one: one.correct and one.boxed),
        "lenient": of_samples(samples, lambda one: one.lenient),
        "boxed": of_samples(samples, lambda one: one.boxed),
        "hedged": of_samples(samples, lambda one: one.hedged),
        "no_answer": of_samples(samples, lambda one: not one.answered),
        "truncated": of_samples(samples, lambda one: one.truncated),
    }


def round_observations(samples: Samples) -> Observations:
    """A value per sample with drafts; see `round_metrics`."""
    longest = max((len(one.rounds) for one, _ in samples.counted()), default=0)
    if not longest:
        return {}

    def is_outcome(one: Facts, first: bool, last: bool) -> bool | None:
        return (one.rounds[0], one.correct) == (first, last) if one.rounds else None

    def stopped(one: Facts, r: int) -> bool | None:
        if not one.rounds:
            return None
        return one.rounds[r - 1] if len(one.rounds) > r else one.correct

    def ended(one: Facts, r: int) -> bool | None:
        return one.correct if len(one.rounds) == r else None

    values = {  # of (first draft is correct, answer is correct)
        "stayed_right": of_samples(samples, lambda one: is_outcome(one, True, True)),
        "improved": of_samples(samples, lambda one: is_outcome(one, False, True)),
        "degraded": of_samples(samples, lambda one: is_outcome(one, True, False)),
        "failed": of_samples(samples, lambda one: is_outcome(one, False, False)),
    }
    for r in range(1, longest + 1):
        values[f"round_{r}/accuracy"] = of_samples(samples, lambda one, r=r: stopped(one, r))
        values[f"after_{r}/accuracy"] = of_samples(samples, lambda one, r=r: ended(one, r))
    return values


def verdict_observations(samples: Samples) -> Observations:
    """A value per verdict, and one per sample.

    `verifier_accuracy`: whether the verdict is CORRECT on a correct, INCORRECT on an incorrect
    answer (UNCLEAR is neither); `approves_right` and `approves_wrong`: whether it is CORRECT, on
    correct and on incorrect answers; `unclear`: whether it is UNCLEAR. `approved`: whether the last
    verdict on a sample is CORRECT.
    """
    judgments = samples.tables.judgments.values
    said = [judgments[number] for number in counted(samples.judgments.columns[0])[0]]
    roles = list(dict.fromkeys(judgment.role for judgment in said))
    values: Observations = {}
    for judgment in said:
        role, correct = judgment.role, judgment.correct
        prefix = f"{role}/" if len(roles) > 1 else ""
        approves = f"{prefix}approves_{'right' if correct else 'wrong'}"
        if approves not in values:
            own = of_judgments(samples, partial(_of_role, role, lambda one: one.agrees))
            values.setdefault(f"{prefix}verifier_accuracy", own)
            values[approves] = of_judgments(samples, partial(_approves, role, correct))
            own = of_judgments(samples, partial(_of_role, role, lambda one: one.verdict == UNCLEAR))
            values.setdefault(f"{prefix}unclear", own)
    for role in roles:
        name = f"{role}/approved" if len(roles) > 1 else "approved"
        values[name] = of_samples(samples, lambda one, role=role: dict(one.approved).get(role))
    return values


def _of_role(role: str, value: Callable[[Judgment], bool], one: Judgment) -> bool | None:
    return value(one) if one.role == role else None


def _approves(role: str, correct: bool, one: Judgment) -> bool | None:
    return one.verdict == "CORRECT" if (one.role, one.correct) == (role, correct) else None


def selection_observations(records: Samples | Iterable[Record]) -> Observations:
    """What candidates, their majority and the selector were worth; {} without a choice in any
    record.

    A value per sample: `oracle` (a candidate is correct: pass@n of the candidates) and `majority`
    (the majority's answer is). A value per sample with a correct and an incorrect candidate:
    `selection_accuracy` (the choice is correct; no choice is not) and `selection_majority` (the
    majority's answer is). A value per sample in which the selector was asked: `selection_made` (it
    chose).
    """
    samples = Samples.of(records)
    if not any(one.selection.asked for one, _ in samples.counted()):
        return {}

    def tested(one: Facts, value: bool | None) -> bool | None:
        return value if one.selection.asked and one.selection.mixed else None

    return {
        "oracle": of_samples(samples, lambda one: one.selection.oracle),
        "majority": of_samples(samples, lambda one: one.selection.majority),
        "selection_made": of_samples(
            samples, lambda one: one.selection.chose if one.selection.asked else None
        ),
        "selection_accuracy": of_samples(samples, lambda one: tested(one, one.selection.right)),
        "selection_majority": of_samples(samples, lambda one: tested(one, one.selection.majority)),
    }
