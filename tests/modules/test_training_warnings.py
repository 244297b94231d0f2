"""What training tells people: skipped updates, roles that cannot learn, biased samples; and whose
seed it takes.
"""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from tiny import SOURCE, Duo, Endpoint, Even, chats, grpo, problems, trainer, weights

from slm_math.agents import Agent
from slm_math.answers.graded import GradedTrace, grade_trace
from slm_math.data.problem_data import ProblemData
from slm_math.engines.base import EngineError
from slm_math.losses.advantages import Advantage
from slm_math.modules.optim import Optim
from slm_math.modules.training_warnings import TrainingWarnings
from slm_math.records.record import Record
from slm_math.rewards import Reward, Scores
from slm_math.rollout.groups import Rollout
from slm_math.rollout.rows import training_rows
from slm_math.types import Generate, Problem, Reply, Task, Trace, Turn, Workflow, user


def fit(root: Path, module: Any, batches: int = 1, **options: Any) -> L.Trainer:
    run = trainer(root, limit_train_batches=batches, **options)
    run.fit(module, problems())
    return run


def poison(module: Any, updates: set[int]) -> None:
    """Makes the gradients of some updates (counted from 0) NaN."""
    made = iter(range(100))
    step = module.step_optimizer

    def poisoned() -> float:
        if next(made) in updates:
            next(p for p in module.model.parameters() if p.grad is not None).grad.fill_(
                float("nan")
            )
        return step()

    module.step_optimizer = poisoned


def test_skipped_updates_are_counted_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = grpo()
    poison(module, {0, 2})
    norms: list[float] = []

    class Norms(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            norms.append(trainer.callback_metrics["train/grad_norm"].item())

    run = fit(tmp_path, module, batches=3, callbacks=[Norms()])
    assert [norm != norm for norm in norms] == [True, False, True]
    assert run.callback_metrics["train/skipped_updates"] == 2
    assert capsys.readouterr().out.count("update skipped") == 1


def test_diverged_training_ends(tmp_path: Path) -> None:
    module = grpo()
    poison(module, {0, 1, 2})
    with pytest.raises(ValueError, match=r"training diverged.*lower optim\.lr"):
        fit(tmp_path, module, batches=4)
    assert all(value.isfinite().all() for value in weights(module).values())


def test_passes_do_not_add_up_in_the_logged_loss(tmp_path: Path) -> None:
    still: Any = {
        "optim": Optim(lr=1e-30, warmup=0),
        "advantage": Advantage(baseline="none", scale="none"),
    }
    once, twice = (fit(tmp_path, grpo(passes=n, **still)).callback_metrics for n in (1, 2))
    assert once["train/loss"] < -0.1  # minus the mean reward, nearly
    for name in ("train/loss", "train/policy_loss", "train/entropy"):
        assert twice[name].item() == pytest.approx(once[name].item(), abs=1e-7)
    assert twice["train/tokens_per_second/update"] > 0


class Half(Reward):
    def __call__(self, graded: GradedTrace) -> float | None:
        return 0.5


class Nothing(Reward):
    def __call__(self, graded: GradedTrace) -> float | None:
        return None


class Silent(Agent):
    """Names a judge and never asks it."""

    roles = ("solver", "judge")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        yield [Generate(user(problem.text))]
        return None


MUTE: dict[str, tuple[dict[str, Any], str]] = {
    "constant": (
        {"rewards": [Half()]},
        "every reward of role 'solver' was 0.5 in the first 3 steps",
    ),
    "unscored": (
        {"rewards": [Nothing()]},
        "no reward scored the trained role 'solver' in the first 3 steps",
    ),
    "silent": (
        {
            "agent": Silent(),
            "rewards": [Even(), Even(role="judge")],
            "train_roles": ("solver", "judge"),
        },
        "no reply came from the trained role 'judge' in the first 3 steps",
    ),
}


@pytest.mark.parametrize("kind", MUTE)
def test_rewards_that_teach_nothing_are_named_once(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, message = MUTE[kind]
    module = grpo(**options)
    module.warnings = TrainingWarnings(module.train_roles, steps=3)
    fit(tmp_path, module, batches=2)
    assert message not in capsys.readouterr().out
    fit(tmp_path, module, batches=3)
    assert capsys.readouterr().out.count(message) == 1


def test_warning_of_constant_rewards_shows_what_was_compared() -> None:
    speaks = TrainingWarnings(("solver",), steps=1)
    long = "Half of 30 apples are 15, and " * 9
    some = {"reason": "different", "gold": f"{long}#### 15"}
    records = [
        Record("shop/8", 0, gold="15", reason="no answer", rewards={"solver": 0.0}),
        Record("shop/9", 1, answer="15", rewards={"solver": 0.0}, **some),
    ]
    [warning] = [line for line in speaks.of_step(0, records, []) if "warning" in line]
    assert warning.endswith("...', got '15' (different)")
    assert "For example shop/9: gold 'Half of 30 apples are 15" in warning
    assert len(warning) < 420


class Broken(Endpoint):
    """A judge that is not there for every second request."""

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        error = EngineError("no judge answers")
        return [(n, reply if n % 2 else error) for n, reply in super().poll(timeout)]


class Asked(Reward):
    """A reward that asks a judge."""

    roles = ("judge",)

    def __call__(self, graded: GradedTrace) -> Workflow[float]:
        [reply] = yield [Generate(user("Good?"), "judge")]
        return float(len(reply.text))


def test_missing_scores_are_said_with_their_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = grpo(rewards=[Even(), Asked(weight=0.5)], engines={"judge": Broken()})
    fit(tmp_path, module)
    assert (
        "step 0: reward 'asked' of role 'solver' is missing for 14 of 28 samples, the first: "
        "no judge answers" in capsys.readouterr().out
    )
    errors = [record.reward_errors for record in module.last_records]
    assert errors.count({}) == errors.count({"solver": {"asked": "no judge answers"}}) == 14


def test_rewards_that_differ_are_not_called_constant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = grpo()
    module.warnings = TrainingWarnings(module.train_roles, steps=2)
    fit(tmp_path, module, batches=3)
    assert "warning" not in capsys.readouterr().out


def test_broken_workflows_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Down(Endpoint):
        def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
            return [(ticket, EngineError("nobody answers")) for ticket, _ in super().poll()]

    fit(tmp_path, grpo(agent=Duo(), engines={"judge": Down()}))
    out = capsys.readouterr().out
    assert out.count("step 0: 28 of 28 workflows broke, the first: nobody answers") == 1
    assert "trained role" not in out


class Asks(Agent):
    """Asks twice, the second time with a sampling of its own."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def solve(self, problem: Problem) -> Workflow[str | None]:
        yield [Generate(user(problem.text))]
        yield [Generate(user(problem.text), **self.options)]
        return None


def test_greedy_replies_by_the_wish_of_the_agent_warn_once(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(tmp_path, grpo(agent=Asks(temperature=0.0)), batches=2)
    assert (
        len([w for w in caught if "greedy replies: these are not trained on" in str(w.message)])
        == 1
    )


def test_greedy_turns_are_not_trained_on() -> None:
    sampled = Turn(Generate(user("x")), Reply("", (5,), (-1.0,), "stop", (1, 2)))
    greedy = Turn(Generate(user("x"), temperature=0.0), Reply("", (8,), (-1.0,), "stop", (3,)))
    both = Trace(Problem("p", "x"), 0, (sampled, greedy), None)
    rollout = Rollout.of(grade_trace(Task(both.problem, "1"), both), Scores({}, {}))
    rows = training_rows([[rollout, rollout]], ["solver"])
    assert [row.ids for row in rows] == [(1, 2, 5), (1, 2, 5)]


def test_seed_is_that_of_the_run_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert grpo(seed=None).seed == problems(seed=None).seed == 0
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert grpo(seed=None).seed == problems(seed=None).seed == chats(seed=None).seed == 7
    assert grpo(seed=3).seed == problems(seed=3).seed == 3


def test_problem_ids_that_occur_twice_are_an_error(tmp_path: Path) -> None:
    class Twice(type(SOURCE)):  # type: ignore[misc]
        def tasks(self, split: Any) -> list[Task]:
            return super().tasks(split)[:3] * 2

    with pytest.raises(ValueError, match=r"problem ids occur twice.*arithmetic/train/0"):
        trainer(tmp_path).fit(grpo(), ProblemData(Twice()))


def test_dead_groups_have_a_mean_reward_for_each_role() -> None:
    records = [
        Record(
            f"p/{n // 2}",
            n % 2,
            gold="1",
            correct=False,
            rewards={"solver": 0.25, "verifier": 1.0 if n < 2 else 0.0},
            advantages={"solver": 0.0, "verifier": 0.0},
        )
        for n in range(4)
    ]
    [line] = TrainingWarnings(["solver", "verifier"]).of_step(3, records, [])
    assert "solver mean reward 0.25, verifier mean reward 0.50" in line
    alone = [replace(one, advantages={"solver": 0.0}) for one in records]
    [line] = TrainingWarnings(["solver"]).of_step(3, alone, [])
    assert "earned the same, mean reward 0.25)" in line
