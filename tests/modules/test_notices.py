"""What training tells people: skipped updates, roles that cannot learn, biased samples; and whose seed it takes."""

import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from tiny import SOURCE, Duo, Endpoint, Judged, chats, grpo, problems, trainer, weights

from slm_math.agents import Agent
from slm_math.data.modules import ProblemData
from slm_math.engines.base import EngineError
from slm_math.modules.optim import Optim
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
            next(p for p in module.model.parameters() if p.grad is not None).grad.fill_(float("nan"))
        return step()

    module.step_optimizer = poisoned


def test_skipped_updates_are_counted_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    still = Optim(lr=0.0, warmup=0)
    once, twice = (fit(tmp_path, grpo(passes=n, optim=still)).callback_metrics for n in (1, 2))
    for name in ("train/loss", "train/policy_loss", "train/entropy"):
        assert twice[name].item() == pytest.approx(once[name].item(), abs=1e-7)
    assert twice["train/trained_tokens_per_second"] > 0


def test_roles_and_rewards_that_do_not_meet_are_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, grpo(agent=Duo(), rewards=[Judged()]), batches=2)
    out = capsys.readouterr().out
    assert out.count("no reward scores the trained role 'solver'") == 1
    assert out.count("a reward scores role 'judge', which is not in train_roles (solver)") == 1


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


@pytest.mark.parametrize("options", [{"top_p": 0.9}, {"top_k": 5}, {"temperature": 0.0}], ids=str)
def test_truncated_sampling_by_the_agent_warns_once(options: dict[str, Any], tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(tmp_path, grpo(agent=Asks(**options)), batches=2)
    said = [str(warning.message) for warning in caught if "the agent samples the trained role" in str(warning.message)]
    assert len(said) == 1
    assert ("not learnt" in said[0]) == ("temperature" in options)


def test_greedy_turns_are_not_learnt() -> None:
    sampled = Turn(Generate(user("x")), Reply("", (5,), (-1.0,), "stop", (1, 2)))
    greedy = Turn(Generate(user("x"), temperature=0.0), Reply("", (8,), (-1.0,), "stop", (3,)))
    module = grpo()
    rewards = {"solver": torch.tensor([[1.0, 0.0]], dtype=torch.float64)}
    both = Trace(Problem("p", "x"), 0, (sampled, greedy), None)
    rows = module.rows([[both, both]], rewards)
    assert [row.ids for row in rows] == [[1, 2, 5], [1, 2, 5]]


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
