"""The four kinds of data that evaluations become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from slm_math.data.identity import question_key
from slm_math.synthesis.built import Built, Kind, Options
from slm_math.synthesis.corrections import build_corrections
from slm_math.synthesis.drafts import build_drafts
from slm_math.synthesis.preferences import build_preferences
from slm_math.synthesis.programs import Programs
from slm_math.synthesis.sources import Evaluations
from slm_math.synthesis.trajectories import build_trajectories

BUILDERS: dict[Kind, Callable[[Evaluations, Options, Programs], Built]] = {
    "drafts": build_drafts,
    "corrections": build_corrections,
    "trajectories": build_trajectories,
    "preferences": build_preferences,
}


def build(evaluations: Evaluations, options: Options, programs: Programs) -> Built:
    """The data that the evaluations give, decided by them and the options alone."""
    within, outside = within_pass_rate(evaluations, options)
    built = BUILDERS[options.kind](within, options, programs)
    built.left_out.update(evaluations.left_out)
    built.left_out["attempts at problems outside of the pass rate"] += outside
    return built


def within_pass_rate(evaluations: Evaluations, options: Options) -> tuple[Evaluations, int]:
    """The attempts at problems whose share of right attempts, in all evaluations together, is in
    the range of `pass_rate`, ends included; and how many others there are.

    Raises ValueError if there are none.
    """
    if options.pass_rate is None:
        return evaluations, 0
    low, high = options.pass_rate
    groups = evaluations.by_problem()
    rates = {key: sum(a.right for a in own) / len(own) for key, own in groups.items()}
    kept = [a for a in evaluations.attempts if low <= rates[question_key(a.problem)] <= high]
    if not kept:
        raise ValueError(
            f"none of the {len(rates)} problems has a pass rate from {low} to {high}: the rates go "
            f"from {min(rates.values()):.2f} to {max(rates.values()):.2f}"
        )
    return replace(evaluations, attempts=kept), len(evaluations.attempts) - len(kept)
