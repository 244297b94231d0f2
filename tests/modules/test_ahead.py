"""Servers sample the next batch while this one is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from engines.vllm_endpoint import GENERATE, PUSH, FakeVLLM, serving
from tiny import grpo, problems, trainer

from slm_math.engines.base import EngineError
from slm_math.engines.settings import Vllm
from slm_math.losses.objective import Objective
from slm_math.modules.optim import Optim
from slm_math.rollout.signals import old_logprobs
from slm_math.types import Sampling

pytestmark = pytest.mark.timeout(240)


class Steps(L.Callback):
    """Of each step: its problems, the versions of the weights that sampled it, and what it logs."""

    def __init__(self) -> None:
        self.problems: list[list[str]] = []
        self.versions: list[set[int]] = []
        self.now: list[int] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self.now.append(module.global_step)

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        traces = [rollout.trace for rollout in module.last_rollouts]
        self.problems.append([trace.problem.id for trace in traces])
        self.versions.append({turn.reply.version for trace in traces for turn in trace.turns})
        self.metrics.append({name: float(v) for name, v in trainer.callback_metrics.items()})


def module(servers: list[FakeVLLM], **options: Any) -> Any:
    vllm = Vllm(servers=tuple(server.url for server in servers), patience=5, timeout=20)
    own = {
        "vllm": vllm,
        "sampling": Sampling(max_new_tokens=3),
        "group_size": 2,
        "optim": Optim(lr=2e-2, warmup=0),
        "ahead": 1,
    }
    return grpo(None, **(own | options))


def fit(root: Path, model: Any, *more: L.Callback, **options: Any) -> Steps:
    steps = Steps()
    options = {"limit_train_batches": 3, "max_epochs": 2} | options
    trainer(root, callbacks=[steps, *more], **options).fit(model, problems(batch_size=3))
    return steps


def test_each_step_but_the_first_is_sampled_by_the_weights_before(tmp_path: Path) -> None:
    with serving() as servers:
        steps = fit(tmp_path, module(servers))
        assert len(steps.versions) == 6  # two epochs
        assert steps.versions == [{0}, *({before} for before in steps.now[:-1])]
        ages = [step["train/staleness"] for step in steps.metrics]
        assert ages == [now - min(version) for now, version in zip(steps.now, steps.versions)]
        assert max(ages) == 1
        # one update per version, and no sampling after the last step
        assert servers[0].routes().count(PUSH[0]) == len(set(steps.now[:-1]))
        assert servers[0].now == 0


def test_its_problems_are_those_of_training_without_it(tmp_path: Path) -> None:
    with serving() as servers:
        ahead = fit(tmp_path / "ahead", module(servers))
        asked = len(servers[0].bodies(GENERATE))
    with serving() as servers:
        after = fit(tmp_path / "after", module(servers, ahead=0))
        assert asked == len(servers[0].bodies(GENERATE))  # nothing was sampled in vain
    assert ahead.problems == after.problems
    assert ahead.problems[0] != ahead.problems[1]


def test_the_next_step_is_sampled_while_this_one_is_trained(tmp_path: Path) -> None:
    """A step that is not updated before the server has got all requests of the next one."""
    with serving() as servers:
        [server], model = servers, module(servers)
        inner, answered = model.step_optimizer, []

        def patient() -> float:
            if not answered:  # 6 rollouts of each step, and what the check of the weights asks
                with server.change:
                    answered.append(server.change.wait_for(lambda: rollouts(server) >= 12, 20))
            return inner()

        model.step_optimizer = patient
        fit(tmp_path, model, max_epochs=1)
        assert answered == [True]


def rollouts(server: FakeVLLM) -> int:
    """The rollouts among the requests: nothing else is sampled at a temperature of 1."""
    asked = [body["sampling_params"] for body in server.bodies(GENERATE)]
    return sum(values.get("max_tokens") == 3 for values in asked)


def test_an_evaluation_in_between_waits_and_loses_nothing(tmp_path: Path) -> None:
    class Asks(L.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            module.engines()  # as an evaluation does: the servers get the present weights

    with serving() as servers:
        steps = fit(tmp_path, module(servers), Asks(), max_epochs=1)
        assert steps.versions == [{0}, {steps.now[0]}, {steps.now[1]}]


def test_a_server_that_dies_while_the_policy_moves_on_comes_back(tmp_path: Path) -> None:
    class Restart(L.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            servers[0].kill()
            servers[0].start()

    with serving() as servers:
        servers[0].delay = 0.2
        steps = fit(tmp_path, module(servers), Restart(), max_epochs=1)
        assert len(steps.versions) == 3
        assert servers[0].lives >= 4


def test_weights_that_a_server_gets_again_are_those_that_it_had(tmp_path: Path) -> None:
    """Also where they are streamed, and not read from a file: the policy has moved on."""
    sent: list[dict[str, torch.Tensor]] = []

    class Look(L.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            engine = module.serving._engines[""]
            sent.append({name: value.clone() for name, value in engine._weights.tensors()})

        def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
            self.before = {name: p.detach().clone() for name, p in module.model.named_parameters()}

    with serving() as servers:
        look = Look()
        fit(tmp_path, module(servers), look, max_epochs=1, limit_train_batches=1)
        assert all(torch.equal(sent[0][name], look.before[name]) for name in sent[0])


def test_an_error_of_a_server_ends_the_run(tmp_path: Path) -> None:
    class Stop(L.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            servers[0].kill()

    with serving() as servers:
        servers[0].delay = 0.3
        model = module(servers)
        model.inference.vllm.__dict__["patience"] = 0.5
        with pytest.raises(EngineError, match="no vLLM server has answered"):
            fit(tmp_path, model, Stop())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vllm": Vllm()}, "ahead 1 needs servers"),
        ({"resample": 1}, "ahead 1 and resample exclude each other"),
        ({"ahead": 2}, "ahead must be 0 or 1, got 2"),
    ],
)
def test_what_cannot_be_ahead_is_refused(options: Any, message: str) -> None:
    own = {"ahead": 1, "vllm": Vllm(servers=("http://127.0.0.1:1",))}
    with pytest.raises(ValueError, match=message):
        grpo(None, **(own | options))


def test_ratios_are_to_the_policy_before_the_update() -> None:
    """Rows of older weights: `mismatch` weighs them by the policy of now, relative to theirs."""

    class Rows:
        version, role = 3, "solver"
        loss_logprobs = torch.tensor([-1.0, -2.0]).numpy()

    assert old_logprobs([Rows()], 4).tolist() == [-1.0, -2.0]  # type: ignore[list-item]
    assert old_logprobs([Rows()], 4, proximal=True).isnan().all()  # type: ignore[list-item]
    assert old_logprobs([Rows()], 3).isnan().all()  # type: ignore[list-item]


@pytest.mark.parametrize(("mismatch", "corrects"), [("token", True), ("none", False)])
def test_mismatch_decides_what_ratios_are_to(mismatch: Any, corrects: bool) -> None:
    vllm = Vllm(servers=("http://127.0.0.1:1",))
    model = grpo(None, ahead=1, vllm=vllm, objective=Objective(mismatch=mismatch))
    assert model.corrects_age == corrects
    assert not grpo(None, vllm=vllm, objective=Objective(mismatch=mismatch)).corrects_age
