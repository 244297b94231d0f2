"""Roles that cannot be are refused before a model loads: those of `policy.path`, of `frozen`, of
`engines`, and of an evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from modules.two_roles import BOTH, PAIR, TWO
from tiny import SCRATCH, Duo, Endpoint, chats, grpo, sft, trainer

from callbacks import AgentEval
from slm_math.policy.config import Policy

ADAPTERS = "policy.path names an adapter for judge, which would neither be trained nor used"


def pair(zoo: Path, **names: str) -> dict[str, str]:
    """The folder of each role, of which `names` says the place in the zoo."""
    return {role: str(zoo / path) for role, path in names.items()}


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "adapter of another base": (
        lambda zoo: Policy(path=pair(zoo, solver="pair/solver", judge="stranger")),
        r"policy.path names models of two bases: .*model for solver .*other for judge.*Checkpoint",
    ),
    "frozen adapter of another base": (
        lambda zoo: sft(
            Policy(path=str(zoo / "model"), lora=TWO), frozen=pair(zoo, judge="stranger")
        ),
        r"frozen\.judge: .*stranger is an adapter of .*other, and the policy's base is .*model: ",
    ),
    "frozen model": (
        lambda zoo: sft(Policy(path=str(zoo / "model"), lora=TWO), frozen=pair(zoo, judge="other")),
        r"frozen\.judge: .*other is a model, and the policy's base is",
    ),
    "frozen adapter of a model from scratch": (
        lambda zoo: sft(Policy(scratch=SCRATCH, lora=TWO), frozen=pair(zoo, judge="stranger")),
        r"the policy's base is a model from scratch",
    ),
    "frozen base of full training": (
        lambda zoo: sft(Policy(path=str(zoo / "model")), frozen={"judge": "base"}),
        r"frozen\.judge: the policy trains all weights.*policy\.lora.*path: .*model\}",
    ),
    "frozen folder that is not there": (
        lambda zoo: sft(Policy(path=str(zoo / "model"), lora=TWO), frozen={"judge": "./nowhere"}),
        "./nowhere does not exist",
    ),
    "frozen nothing": (
        lambda zoo: sft(Policy(path=str(zoo / "model"), lora=TWO), frozen={"judge": None}),
        r"frozen\.judge must name a model or an adapter, got None",
    ),
    "frozen role of a pair without it": (
        lambda zoo: sft(Policy(path=str(zoo / "model"), lora=TWO), frozen=pair(zoo, critic="pair")),
        "holds the adapters of judge, solver, none of critic",
    ),
    "frozen and trained": (
        lambda zoo: sft(Policy(path=str(zoo / "model"), lora=TWO), frozen={"solver": "base"}),
        "role 'solver' is trained and frozen",
    ),
    "frozen and served": (
        lambda zoo: grpo(
            Policy(path=str(zoo / "model"), lora=TWO),
            agent=Duo(),
            frozen={"judge": "base"},
            engines={"judge": Endpoint()},
        ),
        "role 'judge' is served by frozen and by engines",
    ),
    "role that nobody serves": (
        lambda zoo: grpo(Policy(path=str(zoo / "model"), lora=TWO), agent=Duo()),
        r"Duo asks for role 'judge'.*train_roles: \[solver, judge\].*frozen: \{judge: base\}.*"
        r"engines: \{judge: \{class_path: CheckpointEngine",
    ),
    "path of a role that is not trained": (
        lambda zoo: sft(Policy(path=str(zoo / "pair"))),
        ADAPTERS,
    ),
    "no path of a trained role": (
        lambda zoo: grpo(Policy(path=pair(zoo, solver="pair/solver")), **BOTH),
        r"policy\.path names solver, and no adapter for judge, which is trained.*model, for a new",
    ),
    "whole model without lora": (
        lambda zoo: Policy(path=pair(zoo, solver="pair/solver", judge="model")),
        r"policy\.path\.judge: .*model is no adapter: set policy\.lora",
    ),
    "lora of adapters": (
        lambda zoo: Policy(path=str(zoo / "pair"), lora=TWO),
        "is an adapter already: remove policy.lora",
    ),
    "no role": (lambda zoo: Policy(path={}), "policy.path names no role"),
    "shared adapter of two": (
        lambda zoo: Policy(path=str(zoo / "pair"), shared_adapter=True),
        "policy.path names one for each role",
    ),
    "shared adapter of none": (
        lambda zoo: Policy(path=str(zoo / "model"), shared_adapter=True),
        "one adapter for all roles, and there is none",
    ),
    "two adapters in SFT": (
        lambda zoo: sft(Policy(path=str(zoo / "pair")), train_roles=PAIR),
        "SFT trains one adapter",
    ),
    "role twice": (
        lambda zoo: sft(train_roles=("solver", "solver")),
        "must name each trained role once",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_roles_that_cannot_be_are_refused_in_one_line(kind: str, zoo: Path) -> None:
    make, message = WRONG[kind]
    with pytest.raises(ValueError, match=message) as caught:
        make(zoo)
    assert "\n" not in str(caught.value)


def test_evaluated_role_that_nobody_serves_is_refused_before_loading(tmp_path: Path) -> None:
    module = sft(Policy(scratch=SCRATCH, lora=TWO))
    run = trainer(tmp_path, callbacks=[AgentEval({"duo": Duo()}, limit=2)])
    with pytest.raises(ValueError, match=r"AgentEval: duo asks for role 'judge'.*frozen: \{judge"):
        run.fit(module, chats())
    assert module.loaded is None
