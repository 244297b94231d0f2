"""Roles that cannot be are refused before a model loads: those of `policy.path`, of `frozen`, of
`engines`, and of an evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from modules.two_roles import BOTH, PAIR, TWO
from tiny import SCRATCH, Duo, Endpoint, chats, grpo, problems, sft, trainer

from slm_math.callbacks import AgentEval
from slm_math.modules.optim import Optim
from slm_math.modules.roles import tell_unasked
from slm_math.policy.config import Policy
from slm_math.policy.export import export_policy

ADAPTERS = (
    r"policy.path names the adapter .*pair/judge for judge, which would neither be trained nor"
)
SHARED = Policy(scratch=SCRATCH, lora=TWO, shared_adapter=True)


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
        r"pair/judge and .*pair/solver is an adapter already.*\(--model\.policy\.lora null\)",
    ),
    "frozen at another place than its path": (
        lambda zoo: sft(
            Policy(path=pair(zoo, solver="pair/solver", judge="pair/judge")),
            frozen=pair(zoo, judge="pair/solver"),
        ),
        r"names the adapter .*pair/judge for judge, and frozen\.judge is .*pair/solver: remove "
        r"judge from frozen, or from policy\.path \(\{solver: .*pair/solver\}\)$",
    ),
    "frozen at the base beside its path": (
        lambda zoo: sft(Policy(path=str(zoo / "pair")), frozen={"judge": "base"}),
        r"names the adapter .*pair/judge for judge, and frozen\.judge is base: remove judge",
    ),
    "frozen adapter beside the base as its path": (
        lambda zoo: sft(
            Policy(path=pair(zoo, solver="pair/solver", judge="model"), lora=TWO),
            frozen=pair(zoo, judge="pair"),
        ),
        r"policy\.path names the base for judge, and frozen\.judge is .*pair/judge: remove judge",
    ),
    "base of a role that is not trained": (
        lambda zoo: sft(Policy(path=pair(zoo, solver="pair/solver", judge="model"), lora=TWO)),
        r"policy\.path names the base for judge, which would .*frozen: \{judge: base\}",
    ),
    "role called base": (
        lambda zoo: sft(Policy(scratch=SCRATCH, lora=TWO), train_roles=("base",)),
        "no role can be called base",
    ),
    "frozen role called default": (
        lambda zoo: sft(Policy(scratch=SCRATCH, lora=TWO), frozen={"default": "base"}),
        "no role can be called default",
    ),
    "role that cannot name a folder": (
        lambda zoo: sft(Policy(scratch=SCRATCH, lora=TWO), train_roles=("../solver",)),
        "a role is named with letters",
    ),
    "rate of a role that is not trained": (
        lambda zoo: grpo(Policy(scratch=SCRATCH, lora=TWO), optim=Optim(role_lr={"judge": 1e-3})),
        r"optim\.role_lr names judge, which is not trained; the trained roles are solver: remove",
    ),
    "rates of roles that share one adapter": (
        lambda zoo: grpo(SHARED, **(BOTH | {"optim": Optim(role_lr={"solver": 1e-3})})),
        r"solver and judge share one adapter .* set optim\.lr, .*\(--model\.optim\.role_lr \{\}\)",
    ),
    "rates of roles that share all weights": (
        lambda zoo: grpo(
            Policy(scratch=SCRATCH), **(BOTH | {"optim": Optim(role_lr={"judge": 1e-3})})
        ),
        "solver and judge share all weights and one rate",
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


def test_role_at_the_base_of_an_export_is_asked_for_like_an_adapter(
    zoo: Path, tmp_path: Path
) -> None:
    start = Policy(path=str(zoo / "model"), lora=TWO)
    export_policy(start.load(frozen={"judge": "base"}), start.chat(), tmp_path / "export")
    policy = Policy(path=str(tmp_path / "export"))
    with pytest.raises(ValueError, match=r"the base for judge, .*\(frozen: \{judge: base\}\)"):
        sft(policy)
    with pytest.raises(ValueError, match=r"the base for judge, and frozen\.judge is .*pair/judge"):
        sft(policy, frozen=pair(zoo, judge="pair/judge"))
    assert sft(policy, frozen={"judge": "base"}).frozen == {"judge": "base"}


def test_the_path_of_a_frozen_role_may_be_where_it_is_frozen(zoo: Path) -> None:
    for path in (str(zoo / "pair"), pair(zoo, solver="pair/solver", judge="pair/judge")):
        module = sft(Policy(path=path), frozen=pair(zoo, judge="pair"))
        assert module.frozen == pair(zoo, judge="pair/judge")
    paths = pair(zoo, solver="pair/solver", judge="model")
    assert sft(Policy(path=paths, lora=TWO), frozen={"judge": "base"}).frozen == {"judge": "base"}


@pytest.mark.parametrize("asks", ["agent", "callback", "nobody"])
def test_frozen_role_that_nobody_asks_for_is_told(
    asks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, frozen = Policy(scratch=SCRATCH, lora=TWO), {"judge": "base"}
    module = (
        grpo(policy, agent=Duo(), frozen=frozen) if asks == "agent" else sft(policy, frozen=frozen)
    )
    callbacks = [AgentEval({"duo": Duo()})] if asks == "callback" else []
    tell_unasked(module, trainer(tmp_path, callbacks=callbacks))
    told = "frozen names judge, and no agent or reward of this run asks for it\n"
    assert capsys.readouterr().out == (told if asks == "nobody" else "")


def test_evaluated_role_that_nobody_serves_is_refused_before_loading(tmp_path: Path) -> None:
    module = sft(Policy(scratch=SCRATCH, lora=TWO))
    run = trainer(tmp_path, callbacks=[AgentEval({"duo": Duo()}, limit=2)])
    with pytest.raises(ValueError, match=r"AgentEval: duo asks for role 'judge'.*frozen: \{judge"):
        run.fit(module, chats())
    assert module.loaded is None


@pytest.mark.parametrize("owner", ["engines", "AgentEval.engines"])
def test_an_engine_that_all_ranks_must_start_serves_no_other_role_of_several(
    owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank without a request would not start it, and the others would wait for that rank."""
    endpoint = Endpoint()
    endpoint.needs_all_ranks = True
    engines = {"judge": endpoint}
    if owner == "engines":
        module, callbacks = grpo(agent=Duo(), engines=engines), []
    else:
        module, callbacks = grpo(), [AgentEval({"duo": Duo()}, engines=engines, limit=2)]
    run = trainer(tmp_path, callbacks=callbacks)
    monkeypatch.setattr(type(run), "world_size", 2)
    with pytest.raises(ValueError, match=f"{owner}: role 'judge' is served by .*VLLMServers"):
        run.fit(module, problems())
    assert module.loaded is None
