"""A KL penalty on the first turn alone, in a whole step: its gradient by a plain forward pass."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SCRATCH, grpo, problems, trainer, watch_gradients

from slm_math.agents import Agent
from slm_math.answers.graded import GradedTrace
from slm_math.losses.objective import Objective
from slm_math.rewards import Reward
from slm_math.types import Generate, Problem, Reply, Workflow, assistant, user


class Constant(Reward):
    def __call__(self, graded: GradedTrace) -> float:
        return 0.25


class TwoTurns(Agent):
    """Two turns of one chat."""

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = user(problem.text)
        [first] = yield [Generate(chat)]
        yield [Generate(chat + assistant(first) + user("Again."))]
        return None


def logprobs(model: Any, reply: Reply) -> torch.Tensor:
    ids = torch.tensor([[*reply.prompt_ids, *reply.token_ids]])
    start = len(reply.prompt_ids)
    logps = model(ids).logits[0, start - 1 : -1].log_softmax(-1)
    return logps.gather(1, ids[0, start:, None])[:, 0]


@pytest.mark.parametrize(("beta", "first"), [(0.0, 0.5), (0.25, 0.0), (0.25, 2.0)])
def test_gradient_is_that_of_each_turns_own_penalty(
    beta: float, first: float, tmp_path: Path
) -> None:
    """Equal rewards have no advantage: what is left is the KL of the two turns."""
    module: Any = grpo(
        agent=TwoTurns(),
        rewards=[Constant()],
        objective=Objective(beta=beta, first_turn_beta=first),
        group_size=2,
    )
    assert module.needs_reference
    found = watch_gradients(module)

    def move(batch: Any, batch_idx: int) -> None:
        """Away from the reference, so that there is a divergence."""
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in module.model.parameters():
                weight += 0.05 * torch.randn(weight.shape, generator=generator)
        module.at_start = False

    module.on_train_batch_start = move
    trainer(tmp_path, limit_train_batches=1).fit(module, problems())
    model, reference = module.model.eval(), SCRATCH.model(SCRATCH.tokenizer()).eval()
    loss, tokens = torch.zeros(()), 0
    for rollout in module.last_rollouts:
        assert len(rollout.trace.turns) == 2
        for turn, weight in zip(rollout.trace.turns, (first, beta), strict=True):
            own = logprobs(model, turn.reply)
            gap = logprobs(reference, turn.reply).detach() - own
            loss = loss + weight * (gap.exp() - 1 - gap).sum()
            tokens += len(own)
    model.zero_grad()
    (loss / tokens).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        assert torch.allclose(found[name], weight.grad, atol=1e-6), name
    assert max(gradient.abs().max().item() for gradient in found.values()) > 1e-4
