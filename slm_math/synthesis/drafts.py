"""Drafts to judge: attempts labeled by the grader, and perturbed ones, right and wrong in turn."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from slm_math.answers import grader_version
from slm_math.data.attempts import Attempt
from slm_math.data.base import SPLITS, Split
from slm_math.data.identity import question_key
from slm_math.data.normalized import normalized
from slm_math.data.written_drafts import SILENT, written_draft
from slm_math.synthesis.broken_code import BROKEN_CODE, broken_code
from slm_math.synthesis.built import (
    Built,
    Made,
    Options,
    about_problem,
    order,
    receipt,
    shown_images,
)
from slm_math.synthesis.perturb import TEXT_KINDS
from slm_math.synthesis.programs import Programs
from slm_math.synthesis.regraded import Outcome, perturbed_answer
from slm_math.synthesis.sources import Evaluations
from slm_math.types import Draft


@dataclass(frozen=True)
class Labeled:
    """A draft with its label: whether its answer is right. `kind` is that of its perturbation."""

    attempt: Attempt
    draft: Draft
    right: bool
    kind: str | None = None

    @property
    def part(self) -> str:
        if self.kind is not None:
            return f"perturbed: {self.kind}"
        return "right" if self.right else "wrong"


def build_drafts(evaluations: Evaluations, options: Options, programs: Programs) -> Built:
    """Rows that `Drafts` reads. In every split at most the share `perturb` of them is perturbed."""
    built = Built()
    refuse_verdicts(evaluations)
    stated = [each for each in evaluations.attempts if each.record.answer is not None]
    built.left_out[f"attempts {SILENT}"] += len(evaluations.attempts) - len(stated)
    drafts = _different(map(_real, stated))
    built.left_out["attempts equal to another one"] += len(stated) - len(drafts)
    kinds = {draft.right for draft in drafts}
    if options.balance and True not in kinds:
        raise ValueError(
            f"all {len(drafts)} attempts are wrong, so there is nothing to tell apart: evaluate "
            "with more samples, on easier problems, or with another model"
        )
    for split in SPLITS:
        own = [draft for draft in drafts if evaluations.split(draft.attempt) == split]
        made = _of_split(own, options, programs, built)
        built.rows += [_row(draft, split) for draft in made]
    if not built.rows:
        raise ValueError(
            f"all {len(drafts)} attempts are right, so there is nothing to tell apart: add "
            "perturbed drafts with --perturb 0.3, or evaluate at a higher temperature"
        )
    return built


def refuse_verdicts(evaluations: Evaluations) -> None:
    """Raises ValueError for attempts that are verdicts on drafts."""
    for attempt in evaluations.attempts:
        if attempt.record.answer_type == "verdict":
            raise ValueError(
                f"{attempt.folder} holds verdicts on drafts: name the evaluation in which the "
                "drafts were written"
            )


def _real(attempt: Attempt) -> Labeled:
    written = written_draft(attempt)
    return Labeled(attempt, written.draft, written.right)


def _different(drafts: Iterable[Labeled]) -> list[Labeled]:
    """Each draft of a problem once: of two that differ in printing only, the first."""
    different: dict[tuple[str, str, bool], Labeled] = {}
    for each in drafts:
        key = question_key(each.attempt.problem), normalized(each.draft.text), each.right
        different.setdefault(key, each)
    return list(different.values())


def _of_split(
    drafts: Sequence[Labeled], options: Options, programs: Programs, built: Built
) -> list[Labeled]:
    """The drafts of a split: real ones and perturbed ones, in the order in which they are written.

    With `balance` half of them are wrong. A perturbed draft takes the place of a real wrong one.
    """
    right, wrong = _sides(_sorted(drafts, options.seed))
    share = options.perturb
    # n wrong drafts, 2 * share * n of them perturbed: the real ones must suffice for the others
    most = len(right) if share >= 0.5 else min(len(right), int(len(wrong) / (1 - 2 * share)))
    wanted = round(2 * share * most if options.balance else share / (1 - share) * len(drafts))
    extra = _perturbed((right, wrong), wanted, options, programs=programs, built=built)
    n = len(right) + len(wrong)
    if options.balance:
        n = min(len(right), len(wrong) + len(extra))
        wrong = wrong[: n - len(extra)]
    made = in_turn(right[:n], _sorted([*wrong, *extra], options.seed))
    if options.per_problem is not None:
        made = _at_most(made, options.per_problem)
    if options.balance:
        right, wrong = _sides(made)
        n = min(len(right), len(wrong))
        made = in_turn(right[:n], wrong[:n])
    return made


def _at_most(drafts: Sequence[Labeled], most: int) -> list[Labeled]:
    """Of each problem the first drafts, right and wrong ones in turn."""
    by_problem: dict[str, list[Labeled]] = defaultdict(list)
    for draft in drafts:
        by_problem[question_key(draft.attempt.problem)].append(draft)
    chosen = {id(draft) for own in by_problem.values() for draft in in_turn(*_sides(own))[:most]}
    return [draft for draft in drafts if id(draft) in chosen]


def _perturbed(
    real: tuple[Sequence[Labeled], Sequence[Labeled]],
    wanted: int,
    options: Options,
    programs: Programs,
    built: Built,
) -> list[Labeled]:
    """So many perturbed drafts, of right ones and with a wrong answer, the kinds in turn; none that
    is equal to one of the real ones, right and wrong.
    """
    if not wanted:
        return []
    right, known = real[0], [*real[0], *real[1]]
    queues: list[list[Labeled]] = []

    def add(kind: str, outcomes: Sequence[Outcome]) -> None:
        made = [
            Labeled(each.attempt, outcome.draft, False, kind)
            for each, outcome in zip(right, outcomes)
            if outcome.draft is not None
        ]
        queues.append(_different([*known, *made])[len(known) :])
        _count(outcomes, built)

    for kind in TEXT_KINDS:
        add(
            kind, [perturbed_answer(each.attempt, each.draft, kind, options.seed) for each in right]
        )
    others = sum(map(bool, queues))
    share = max(math.ceil(wanted / (others + 1)), wanted - sum(map(len, queues)))
    drafts = [(each.attempt, each.draft) for each in right]
    add(BROKEN_CODE, broken_code(drafts, share, options.seed, programs))
    return _different(in_turn(*queues))[:wanted]


def _count(outcomes: Sequence[Outcome], built: Built) -> None:
    for outcome in outcomes:
        built.left_out["perturbed drafts whose answer is still right"] += outcome.still_right


def in_turn(*queues: Sequence[Labeled]) -> list[Labeled]:
    """One of each queue, and again, until all are empty."""
    return [each for each in chain.from_iterable(zip_longest(*queues)) if each is not None]


def _sides(drafts: Sequence[Labeled]) -> tuple[list[Labeled], list[Labeled]]:
    return [each for each in drafts if each.right], [each for each in drafts if not each.right]


def _sorted(drafts: Sequence[Labeled], seed: int) -> list[Labeled]:
    def key(each: Labeled) -> str:
        return order(seed, each.attempt.problem.statement, each.draft.text, each.draft.answer)

    return sorted(drafts, key=key)


def _row(labeled: Labeled, split: Split) -> Made:
    attempt = labeled.attempt
    row = {
        **about_problem(attempt),
        **({"images": images} if (images := shown_images(attempt)) else {}),
        "draft": labeled.draft.text,
        "answer": labeled.draft.answer,
        "correct": labeled.right,
        "grader": grader_version(),
        "receipt": receipt(attempt, perturbation=labeled.kind),
    }
    return Made(row, split, attempt.problem, labeled.part)
