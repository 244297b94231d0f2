"""A GRPO step whose agent runs programs: what is measured, and what happens when
the machine fails.
"""

from pathlib import Path

import pytest
from tiny import grpo, problems, trainer

from slm_math.agents import Agent
from slm_math.sandbox import Sandbox, SandboxError
from slm_math.types import Generate, Problem, RunPython, Workflow, user


class Runs(Agent):
    """Says something, and runs one good and two bad programs."""

    uses_python = True

    def solve(self, problem: Problem) -> Workflow[str | None]:
        yield [Generate(user(problem.text), max_new_tokens=4)]
        yield [
            RunPython("print(1)"),
            RunPython("1 / 0"),
            RunPython("class Mine(Exception): pass\nraise Mine"),
        ]
        return "1"


@pytest.mark.usefixtures("light_programs")
def test_programs_are_measured_per_step(tmp_path: Path) -> None:
    run = trainer(tmp_path, limit_train_batches=1)
    run.fit(grpo(agent=Runs(), sandbox=Sandbox(workers=1)), problems())
    values = {name: value.item() for name, value in run.callback_metrics.items()}
    assert values["train/programs"] > 0
    assert values["train/programs"] % 3 == 0
    assert values["train/programs_ran"] == pytest.approx(1 / 3)
    assert values["train/programs_timed_out"] == 0
    assert values["train/program_seconds"] > 0
    assert values["train/program_errors/ZeroDivisionError"] == pytest.approx(1 / 3)
    assert values["train/program_errors/other"] == pytest.approx(1 / 3)


def test_a_machine_that_cannot_run_programs_ends_training_before_a_model_loads(
    tmp_path: Path, monkeypatch
) -> None:
    def broken(*_):
        raise SandboxError("no walls here")

    monkeypatch.setattr("slm_math.sandbox.tiers.start", broken)
    module = grpo(agent=Runs(), sandbox=Sandbox(workers=1, tier="C"))
    monkeypatch.setattr(type(module.policy), "load", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(SandboxError, match="no walls here"):
        trainer(tmp_path, limit_train_batches=1).fit(module, problems())
