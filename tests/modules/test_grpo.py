"""GRPO on scripted rewards: what an update does, what it must not depend on, what is refused."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from tiny import (
    SCRATCH,
    Duo,
    Endpoint,
    Even,
    difference,
    grpo,
    problems,
    trainer,
    watch_gradients,
    weights,
)
from torch import Tensor

from slm_math.agents import Agent, SingleShot
from slm_math.answers.graded import GradedTrace
from slm_math.losses.objective import Objective
from slm_math.modules.optim import Optim
from slm_math.policy.batches import token_counts
from slm_math.policy.config import Lora, Policy
from slm_math.rewards import Reward
from slm_math.rollout.rows import training_rows
from slm_math.types import Generate, Problem, Reply, Sampling, Workflow, user

TWO = Lora(r=2, dropout=0.0)


class Constant(Reward):
    def __call__(self, graded: GradedTrace) -> float:
        return 0.25


ONE = [Even(role="judge"), Constant()]  # only the judge has something to learn


def fit(root: Path, module: Any, batches: int = 1, **options: Any) -> L.Trainer:
    run = trainer(root, limit_train_batches=batches, **options)
    run.fit(module, problems())
    return run


def start() -> dict[str, torch.Tensor]:
    loaded = Policy(scratch=SCRATCH).load()
    return {name: p.detach().clone() for name, p in loaded.model.named_parameters()}


def logprob(model: Any, reply: Reply) -> float:
    """The log-probability of a whole reply, by a plain forward pass."""
    ids = torch.tensor([[*reply.prompt_ids, *reply.token_ids]])
    with torch.no_grad():
        logps = model(ids).logits[0].log_softmax(-1)
    first = len(reply.prompt_ids)
    return sum(logps[t - 1, ids[0, t]].item() for t in range(first, ids.shape[1]))


def test_update_raises_what_was_rewarded(tmp_path: Path) -> None:
    module = grpo()
    fit(tmp_path, module)
    before, after = SCRATCH.model(SCRATCH.tokenizer()).eval(), module.model.eval()
    gain: dict[float, list[float]] = {0.0: [], 1.0: []}
    for rollout in module.last_rollouts:
        reply = rollout.trace.turns[0].reply
        gain[rollout.rewards["solver"]].append(logprob(after, reply) - logprob(before, reply))
    assert sum(gain[1.0]) / len(gain[1.0]) > sum(gain[0.0]) / len(gain[0.0]) + 0.01


def gradients(root: Path, **options: Any) -> dict[str, torch.Tensor]:
    module: Any = grpo(**options)
    found = watch_gradients(module)
    fit(root, module)
    return found


@pytest.mark.parametrize(
    ("kind", "budget"),
    [("dapo", 1), ("dapo", 300), ("grpo", 300), ("dr_grpo", 300), ("gspo", 1), ("adjusted", 1)],
)
def test_gradient_does_not_depend_on_the_split(kind: Any, budget: int, tmp_path: Path) -> None:
    objective = Objective(kind, beta=0.1)
    whole = gradients(tmp_path, objective=objective)
    parts = gradients(tmp_path, objective=objective, tokens_per_batch=budget)
    assert all(torch.allclose(parts[name], whole[name], atol=1e-6) for name in whole)
    assert max(gradient.abs().max() for gradient in whole.values()) > 1e-3


RAGGED = Sampling(max_new_tokens=6, stop=("a", "e", "o", "t"))  # replies of many lengths
WEIGHTS: dict[str, Callable[[int, int, int], float]] = {
    # (tokens of the reply, replies, tokens in all) -> weight of a token, written out
    "dapo": lambda n, replies, tokens: 1 / tokens,
    "grpo": lambda n, replies, tokens: 1 / (n * replies),
    "gspo": lambda n, replies, tokens: 1 / (n * replies),
    "dr_grpo": lambda n, replies, tokens: 1 / (6 * replies),
    "cispo": lambda n, replies, tokens: 1 / tokens,
    "sapo": lambda n, replies, tokens: 1 / (n * replies),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_gradient_is_the_policy_gradient(kind: Any, tmp_path: Path) -> None:
    """On-policy, the gradient is that of -sum of weight x advantage x log-probability over all
    tokens of the batch.
    """
    module: Any = grpo(objective=Objective(kind), sampling=RAGGED, group_size=2)
    found: dict[str, torch.Tensor] = {}
    module.step_optimizer = lambda: (
        found.update({n: p.grad.clone() for n, p in module.model.named_parameters()}) or 0.0
    )
    fit(tmp_path, module)
    model = SCRATCH.model(SCRATCH.tokenizer())
    rewards = torch.tensor([rollout.rewards["solver"] for rollout in module.last_rollouts]).view(
        -1, 2
    )
    std = rewards.std(1, keepdim=True)
    # dead groups have no gradient, and count in the averages
    assert 0 < (std == 0).sum() < len(std)
    advantages = torch.where(
        std > 0, (rewards - rewards.mean(1, keepdim=True)) / (std + 1e-4), 0.0
    ).flatten()
    lengths = [len(rollout.trace.turns[0].reply.token_ids) for rollout in module.last_rollouts]
    assert len(set(lengths)) > 2
    loss = torch.zeros(())
    for advantage, n, rollout in zip(advantages, lengths, module.last_rollouts):
        reply = rollout.trace.turns[0].reply
        ids = torch.tensor([[*reply.prompt_ids, *reply.token_ids]])
        logps = model(ids).logits[0, len(reply.prompt_ids) - 1 : -1].log_softmax(-1)
        weight = WEIGHTS[kind](n, len(lengths), sum(lengths))
        loss = (
            loss
            - weight * advantage * logps.gather(-1, torch.tensor(reply.token_ids)[:, None]).sum()
        )
    loss.backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(found[name], parameter.grad, atol=1e-6)


def test_dropout_of_an_adapter_does_not_disturb_the_policy(tmp_path: Path) -> None:
    module = grpo(
        Policy(scratch=SCRATCH, lora=Lora(r=4, dropout=0.5)), optim=Optim(lr=3e-2, warmup=0)
    )
    logged = fit(tmp_path, module, batches=3).callback_metrics
    assert logged["train/logp_diff_max"] < 1e-4


class Shortening(Agent):
    """Asks problems of odd ids twice, in a new chat: two rows for one sample."""

    def solve(self, problem: Problem) -> Workflow[str | None]:
        for _ in range(1 + int(problem.id[-1]) % 2):
            yield [Generate(user(problem.text))]
        return None


def test_sample_of_several_rows_weighs_as_much_as_one_of_one_row(tmp_path: Path) -> None:
    module = grpo(agent=Shortening(), objective=Objective("grpo"))
    fit(tmp_path, module)
    groups = [module.last_rollouts[i : i + 4] for i in range(0, len(module.last_rollouts), 4)]
    rows = training_rows(groups, module.train_roles)
    advantages = module.assign_advantages(groups, rows, torch.zeros(len(rows)))
    weights = module.signals(groups, rows, advantages, None).weights
    by_rollout: dict[int, list[Tensor]] = {}
    for row, own in zip(rows, weights.split(token_counts(rows).tolist())):
        by_rollout.setdefault(row.rollout, []).append(own)
    assert {len(own) for own in by_rollout.values()} == {1, 2}
    for own in by_rollout.values():
        assert torch.cat(own).sum().item() == pytest.approx(1 / len(by_rollout))


def test_infinite_reward_is_refused_by_name(tmp_path: Path) -> None:
    class Endless(Reward):
        def __call__(self, graded: GradedTrace) -> float:
            return math.inf

    with pytest.raises(
        ValueError, match=r"reward 'endless' of role 'solver' is inf for problem arithmetic/train/"
    ):
        fit(tmp_path, grpo(rewards=[Endless()]))


@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_first_update_is_on_policy(temperature: float, tmp_path: Path) -> None:
    logged = fit(tmp_path, grpo(sampling=Sampling(temperature, max_new_tokens=6))).callback_metrics
    assert logged["train/logp_diff_max"] < 1e-4
    assert logged["train/ratio_min"] == logged["train/ratio_max"] == 1
    assert logged["train/clip_low"] == logged["train/clip_high"] == 0


@pytest.mark.parametrize("lora", [None, TWO], ids=["full", "lora"])
def test_reference_is_there_also_after_an_evaluation(lora: Lora | None, tmp_path: Path) -> None:
    module = grpo(Policy(scratch=SCRATCH, lora=lora), objective=Objective(beta=0.1))
    trainer(tmp_path).validate(module, problems(), verbose=False)
    assert fit(tmp_path, module).callback_metrics["train/kl"] == pytest.approx(0, abs=1e-9)


def test_dead_groups_change_nothing_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = grpo(rewards=[Constant()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = fit(tmp_path, module, batches=2)
    assert difference(weights(module), start()) == 0
    assert "all 7 groups are dead" in capsys.readouterr().out
    assert run.callback_metrics["train/frac_reward_zero_std"] == 1


def test_only_the_rewarded_role_learns(tmp_path: Path) -> None:
    module = grpo(
        Policy(scratch=SCRATCH, lora=TWO), agent=Duo(), rewards=ONE, train_roles=("solver", "judge")
    )
    fit(tmp_path, module)
    moved = {
        name
        for name, value in weights(module).items()
        if "lora_B" in name and value.abs().sum() > 0
    }
    assert moved
    assert all(".@judge." in name for name in moved)


def test_each_role_samples_with_its_own_adapter(tmp_path: Path) -> None:
    """After some updates the adapters differ, and samples still have ratio 1 under the adapter of
    their role.
    """

    module = grpo(
        Policy(scratch=SCRATCH, lora=TWO),
        agent=Duo(),
        rewards=[Even(), Even(role="judge")],
        train_roles=("solver", "judge"),
        optim=Optim(lr=3e-2, warmup=0, role_lr={"judge": 1e-2}),
        objective=Objective(beta=0.01),
    )
    logged = fit(tmp_path, module, batches=4).callback_metrics
    assert logged["train/logp_diff"] < 1e-5
    assert logged["train/kl"] > 1e-4
    assert [group["lr"] for group in module.optimizers().param_groups] == pytest.approx([0.0, 0.0])


def test_recomputed_activations_are_those_of_the_role(tmp_path: Path) -> None:
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)  # adapters are drawn from the global state
        policy = Policy(scratch=SCRATCH, lora=TWO, gradient_checkpointing=checkpointing)
        found.append(
            gradients(
                tmp_path, policy=policy, agent=Duo(), rewards=ONE, train_roles=("solver", "judge")
            )
        )
    assert max(gradient.abs().max() for gradient in found[0].values()) > 1e-4
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-7) for name in found[0])


def test_several_passes_make_several_updates(tmp_path: Path) -> None:
    once, twice = grpo(), grpo(passes=2)
    assert fit(tmp_path, once).global_step == 1
    run = fit(tmp_path, twice)
    assert run.global_step == 2
    assert run.callback_metrics["train/ratio_max"] > 1 + 1e-4  # the second pass is off-policy
    assert difference(weights(once), weights(twice)) > 1e-4


@pytest.mark.parametrize("passes", [1, 3])
def test_learning_rate_steps_once_an_update_and_ends_at_the_floor(
    passes: int, tmp_path: Path
) -> None:
    module = grpo(passes=passes, optim=Optim(lr=0.01, warmup=0, schedule="linear", floor=0.2))
    rates: list[float] = []

    class Rates(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, module: Any, *args: Any) -> None:
            rates.append(module.optimizers().param_groups[0]["lr"])

    fit(tmp_path, module, batches=4, callbacks=[Rates()])
    assert rates == pytest.approx([0.01 * (0.2 + 0.8 * (1 - k / 4)) for k in (1, 2, 3, 4)])


def test_other_roles_may_be_served_elsewhere(tmp_path: Path) -> None:
    for name in ("judge", "default"):
        endpoint = Endpoint()
        module = grpo(agent=Duo(), engines={name: endpoint})
        fit(tmp_path, module)
        assert endpoint.asked == 7 * 4
        assert all(entry.trace.turns[1].reply.text == "yes" for entry in module.last_rollouts)
        assert difference(weights(module), start()) > 1e-4


def test_rollouts_depend_on_the_seed_and_nothing_else(tmp_path: Path) -> None:
    sampled = []
    for seed, slots in ((0, 64), (0, 3), (1, 64)):
        module = grpo(seed=seed, slots=slots, agent=SingleShot("solve_plain"))
        fit(tmp_path, module)
        sampled.append([entry.trace.turns[0].reply.token_ids for entry in module.last_rollouts])
    assert sampled[0] == sampled[1]
    assert sampled[0] != sampled[2]
