"""Which turn gets the advantage: the one after which the answer was right, or wrong; and the
verdict that was right, or wrong. Traces of agents on scripted replies.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from rewards.traces import MATH, RIGHT, WRONG

from slm_math.agents import (
    Agent,
    CodeFeedback,
    MajorityVote,
    PlanAndReflect,
    SingleShot,
    SolverChecker,
    SolverVerifier,
)
from slm_math.answers.graded import grade_trace
from slm_math.policy.batches import token_counts
from slm_math.rewards import Correct, Credit, Reward, Scores, VerifierDecision, score
from slm_math.rollout.rows import trace_rows
from slm_math.rollout.signals import token_advantages
from slm_math.testing import drive
from slm_math.types import Generate, Problem, Reply, RunResult, Trace, Turn, Workflow, user

YES, NO, OPEN = (f"VERDICT: {word}" for word in ("CORRECT", "INCORRECT", "UNCLEAR"))
OTHER = r"\boxed{9}"
TRUNCATED = Reply("Let me think", finish="length")
CHANGE = Correct(wrong=-1.0, credit="change")


def of(
    agent: Agent, replies: Sequence[Any], *rewards: Reward, programs: Sequence[Any] = ()
) -> Scores:
    driven = drive(agent, MATH.problem, replies, programs)
    roles = tuple({reward.role: 0 for reward in rewards})
    return score(rewards, grade_trace(MATH, driven.trace), roles)


def sides(agent: Agent, *replies: Any, **options: Any) -> tuple[Any, Any]:
    """The solver's weights for a positive and a negative advantage."""
    found = of(agent, replies, CHANGE, **options)
    return found.credits.get("solver", {}), found.blame.get("solver", {})


SOLVER = SolverVerifier(rounds=3, runs=0)
EVEN: dict[int, float] = {}


@pytest.mark.parametrize(
    ("replies", "earned", "blamed"),
    [
        ((RIGHT, YES), {0: 1}, EVEN),
        ((WRONG, NO, RIGHT, YES), {0: 0, 2: 1}, EVEN),
        ((RIGHT, NO, WRONG, YES), EVEN, {0: 0, 2: 1}),
        ((RIGHT, NO, RIGHT), {0: 1, 2: 0}, EVEN),
        ((RIGHT, NO, WRONG, NO, RIGHT), {0: 0, 2: 0, 4: 1}, EVEN),
        ((WRONG, NO, RIGHT, NO, OTHER), EVEN, {0: 0, 2: 0, 4: 1}),
        ((WRONG, NO, OTHER, YES), EVEN, EVEN),
        (("no answer", RIGHT, YES), {0: 0, 1: 1}, EVEN),
        ((RIGHT, NO, "no answer", RIGHT), {0: 1, 2: 0, 3: 0}, EVEN),
        ((WRONG, NO, TRUNCATED, RIGHT, YES), {0: 0, 2: 0, 3: 1}, EVEN),
    ],
    ids=[
        "right at once",
        "mended",
        "spoiled",
        "kept",
        "spoiled and mended",
        "mended and spoiled",
        "never right",
        "answer after none",
        "kept, though one draft has no answer",
        "an unusable reply earns nothing",
    ],
)
def test_solver_is_credited_for_what_changed(
    replies: tuple[Any, ...], earned: dict, blamed: dict
) -> None:
    assert sides(SOLVER, *replies) == (earned, blamed)


def test_programs_of_the_draft_that_changed_the_answer_share_its_credit() -> None:
    code = "```python\nprint(7)\n```"
    agent = SolverVerifier(rounds=2, runs=1)
    found = sides(agent, WRONG, NO, code, RIGHT, programs=["7\n"])
    assert found == ({0: 0, 2: 0.5, 3: 0.5}, EVEN)


@pytest.mark.parametrize("memory", ["none", "chat", "summary"])
def test_solver_checker_is_credited_likewise(memory: Any) -> None:
    agent = SolverChecker(rounds=2, memory=memory)
    summary = ["It was 8."] if memory == "summary" else []
    earned, blamed = sides(agent, WRONG, NO, *summary, RIGHT)
    # a summary is a turn of the solver on its way to the second draft
    wanted = {0: 0, 2: 0.5, 3: 0.5} if summary else {0: 0, 2: 1}
    assert (earned, blamed) == (wanted, EVEN)


PLAN = "1. Add\n2. State"


def test_plan_and_reflect_credits_the_cycle_that_changed_the_answer() -> None:
    agent = PlanAndReflect(cycles=2, runs=0)
    first = [PLAN, "sum", WRONG, "VERDICT: REJECT"]
    second = [PLAN, "sum", RIGHT, "VERDICT: ACCEPT"]
    earned, _ = sides(agent, *first, *second, RIGHT)
    # the reflection that rejected belongs to what it led to
    assert [turn for turn, weight in earned.items() if weight] == [3, 4, 5, 6]
    _, blamed = sides(agent, *second, WRONG)  # put together wrongly, after a right draft
    assert [turn for turn, weight in blamed.items() if weight] == [3, 4]


def test_second_pass_is_credited_for_what_it_made_of_the_output() -> None:
    code = "```python\nprint(3 + 4)\n```"
    assert sides(CodeFeedback(), code, WRONG, programs=["7\n"]) == (EVEN, {0: 0, 1: 1})
    assert sides(CodeFeedback(), code, RIGHT, programs=["8\n"]) == ({0: 0, 1: 1}, EVEN)
    failed = RunResult(False, error="NameError")
    assert sides(CodeFeedback(), code, RIGHT, programs=[failed]) == ({0: 0, 1: 1}, EVEN)


def test_agents_without_rounds_have_no_preference() -> None:
    assert sides(SingleShot(), RIGHT) == (EVEN, EVEN)
    assert sides(MajorityVote(k=3), RIGHT, WRONG, RIGHT) == (EVEN, EVEN)


def test_final_reply_that_hit_the_limit_is_to_blame() -> None:
    agent = SolverVerifier(rounds=2, runs=0)
    found = of(agent, [RIGHT, NO, TRUNCATED, TRUNCATED], CHANGE)
    assert found.totals == {"solver": 0.0}  # no answer counts: the last reply did not finish
    assert found.blame == {"solver": {0: 0, 2: 0.5, 3: 0.5}}


def verifier(*replies: Any) -> tuple[float, Any, Any]:
    found = of(SolverVerifier(rounds=4, runs=0), replies, VerifierDecision())
    name = "verifier"
    return found.totals[name], found.credits.get(name, {}), found.blame.get(name, {})


def test_each_verdict_is_credited_for_its_own_draft() -> None:
    assert verifier(WRONG, NO, RIGHT, NO, OTHER, OPEN, WRONG) == (
        pytest.approx((1 - 1 - 0.3) / 3),
        {1: 1, 3: 0, 5: 0},
        {1: 0, 3: 1, 5: 0},
    )
    assert verifier(WRONG, NO, RIGHT, YES) == (1.0, {}, {})
    assert verifier(WRONG, OPEN, OTHER, YES)[1:] == ({1: 1, 3: 0}, {1: 0, 3: 1})


def test_program_of_a_verdict_shares_its_credit_and_a_lost_reply_has_none() -> None:
    code = "```python\nprint(7)\n```"
    driven = drive(
        SolverVerifier(rounds=3, runs=0),
        MATH.problem,
        [WRONG, code, YES.replace("CORRECT", "INCORRECT"), RIGHT, TRUNCATED, NO, RIGHT],
        ["7\n"],
    )
    found = score([VerifierDecision()], grade_trace(MATH, driven.trace), ("verifier",))
    assert found.credits == {"verifier": {1: 0.5, 2: 0.5, 4: 0, 5: 0}}
    assert found.blame == {"verifier": {1: 0, 2: 0, 4: 0.5, 5: 0.5}}


def test_checker_of_another_role_is_credited_likewise() -> None:
    agent = SolverChecker(rounds=3)
    found = of(
        agent,
        [WRONG, YES.replace("CORRECT", "UNCLEAR"), RIGHT, YES],
        VerifierDecision(role="checker"),
    )
    assert found.credits == {"checker": {1: 0, 3: 1}}
    assert found.blame == {"checker": {1: 1, 3: 0}}


class Unnoted(Agent):
    """Two drafts, each judged; it notes nothing."""

    roles = ("solver", "verifier")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        for _ in range(2):
            yield [Generate(user("solve"))]
            yield [Generate(user("judge"), role="verifier")]
        return None


def test_verdicts_of_an_agent_that_notes_none_are_credited_too() -> None:
    found = of(Unnoted(), [WRONG, YES, RIGHT, YES], VerifierDecision())
    assert (found.credits, found.blame) == (
        {"verifier": {1: 0, 3: 1}},
        {"verifier": {1: 1, 3: 0}},
    )


def test_reward_of_negative_weight_is_earned_by_what_it_blames() -> None:
    found = of(SOLVER, (WRONG, NO, RIGHT, YES), Correct(credit="change", weight=-1.0))
    assert (found.credits, found.blame) == ({}, {"solver": {0: 0, 2: 1}})


def test_blame_must_fit_the_turns() -> None:
    with pytest.raises(ValueError, match="2 turns and blame for 1"):
        Credit(1.0, (1, 0), blame=(1,))
    with pytest.raises(ValueError, match="finite and at least 0"):
        Credit(1.0, (1, 0), blame=(1, -1))


def test_unknown_credit_is_refused() -> None:
    with pytest.raises(ValueError, match="even or change"):
        Correct(credit="changed")  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(8))
def test_token_advantages_follow_the_sign(seed: int) -> None:
    """Against sums written out in float64: A n f_t, with the weights of the side of A."""
    draw = random.Random(seed)
    lengths = [draw.randint(1, 9) for _ in range(4)]
    turns = [
        Turn(Generate(user("x")), Reply("", (5,) * n, (-1.0,) * n, "stop", (1,) * (number + 1)))
        for number, n in enumerate(lengths)
    ]
    trace = Trace(Problem("p", "x"), 0, tuple(turns), None)
    rows = [row for n in (0, 1) for row in trace_rows(trace, "solver", n)]
    earned, blamed = ([draw.choice([0.0, 0.5, 2.0]) for _ in lengths] for _ in range(2))
    values = [draw.uniform(0.1, 2), -draw.uniform(0.1, 2)]

    made = token_advantages(
        rows,
        {"solver": torch.tensor(values, dtype=torch.float64)[:, None]},
        [{"solver": [(dict(enumerate(earned)), dict(enumerate(blamed)))]}] * 2,
    ).split(token_counts(rows).tolist())
    for row, own in zip(rows, made):
        advantage = values[row.rollout]
        weights = earned if advantage > 0 else blamed
        share = sum(w * n for w, n in zip(weights, lengths))
        [turn] = {row.turns[t] for t in row.loss_positions}
        factor = weights[turn] * sum(lengths) / share if share else 1.0
        assert own.tolist() == pytest.approx([advantage * factor] * lengths[turn], rel=1e-6)
    assert sum(own.double().sum().item() for own in made) == pytest.approx(
        sum(values) * sum(lengths), abs=1e-4
    )
