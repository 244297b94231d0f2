"""What a teacher adds to an update of the trained roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from modules.students import logits, one_step, replies, student
from tiny import SCRATCH, Duo, Even, model_folder, problems, trainer
from tiny import watch_gradients as watched

from slm_math.modules.teacher import Teacher
from slm_math.policy.config import Lora, Policy
from slm_math.policy.loading import load_model
from slm_math.rewards import Correct
from slm_math.types import Sampling


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_advantage_is_the_policy_gradient_of_plain_transformers(
    temperature: float, teacher_folder: str, tmp_path: Path
) -> None:
    module = student(
        Teacher(teacher_folder, weight=0.5),
        sampling=Sampling(max_new_tokens=6, temperature=temperature),
    )
    gradients = watched(module)
    one_step(module, tmp_path)
    own, other = SCRATCH.model(SCRATCH.tokenizer()), load_model(teacher_folder)
    loss, tokens = torch.zeros(()), 0
    for ids, start in replies(module):
        chosen = torch.tensor(ids[start:])[:, None]
        q = (logits(own, ids, start) / temperature).log_softmax(-1).gather(1, chosen)
        p = (logits(other, ids, start) / temperature).log_softmax(-1).gather(1, chosen)
        loss = loss - (0.5 * (p - q).detach() * q).sum()
        tokens += len(chosen)
    (loss / tokens).backward()
    named = dict(own.named_parameters())
    assert max((gradients[n] - named[n].grad).abs().max().item() for n in named) < 1e-6
    assert max(g.abs().max().item() for g in gradients.values()) > 1e-4


@pytest.mark.parametrize("kind", ["reverse_kl", "forward_kl"])
def test_divergence_in_the_loss_is_that_of_plain_transformers(
    kind: Any, teacher_folder: str, tmp_path: Path
) -> None:
    module = student(Teacher(teacher_folder, loss=kind))
    gradients = watched(module)
    metrics = one_step(module, tmp_path)
    own, other = SCRATCH.model(SCRATCH.tokenizer()), load_model(teacher_folder)
    loss, tokens = torch.zeros(()), 0
    for ids, start in replies(module):
        q, p = (logits(m, ids, start).log_softmax(-1) for m in (own, other))
        first, second = (q, p.detach()) if kind == "reverse_kl" else (p.detach(), q)
        loss = loss + (first.exp() * (first - second)).sum()
        tokens += len(q)
    (loss / tokens).backward()
    assert metrics["loss"] == pytest.approx((loss / tokens).item(), abs=1e-6)
    assert metrics["teacher_divergence"] == pytest.approx((loss / tokens).item(), abs=1e-6)
    named = dict(own.named_parameters())
    assert max((gradients[n] - named[n].grad).abs().max().item() for n in named) < 1e-6


def test_student_comes_nearer_to_its_teacher(teacher_folder: str, tmp_path: Path) -> None:
    seen: list[float] = []
    module = student(Teacher(teacher_folder, loss="forward_kl"))
    module.log_scalars = lambda values, rows, shown=(): seen.append(values["teacher_divergence"])  # type: ignore
    trainer(tmp_path, max_epochs=3).fit(module, problems())
    assert seen[-1] < 0.75 * seen[0]


def test_rewards_and_teacher_add_up(teacher_folder: str, tmp_path: Path) -> None:
    """Without clipping, a gradient is linear in the advantages."""
    found = []
    for rewards, teacher in (
        ([Even()], None),
        ([], Teacher(teacher_folder, weight=0.2)),
        ([Even()], Teacher(teacher_folder, weight=0.2)),
    ):
        module = student(teacher, rewards=rewards)
        gradients = watched(module)
        one_step(module, tmp_path)
        found.append(gradients)
    for name, both in found[2].items():
        assert torch.allclose(both, found[0][name] + found[1][name], atol=1e-6)


def test_samples_without_reward_keep_the_default_reward_off(
    teacher_folder: str, tmp_path: Path
) -> None:
    module = student(Teacher(teacher_folder), rewards=None)
    assert module.rewards == ()
    assert "reward" not in one_step(module, tmp_path)
    logged = student(Teacher(teacher_folder), rewards=[Correct(weight=0)])
    assert "reward/correct" in one_step(logged, tmp_path)


def test_support_of_top_k_holds_for_the_teacher(teacher_folder: str, tmp_path: Path) -> None:
    sampling = Sampling(max_new_tokens=6, top_k=3)
    module = student(Teacher(teacher_folder), sampling=sampling)
    metrics = one_step(module, tmp_path)
    own, other = SCRATCH.model(SCRATCH.tokenizer()), load_model(teacher_folder)
    gaps = []
    for ids, start in replies(module):
        q, p = logits(own, ids, start), logits(other, ids, start)
        for place, token in enumerate(ids[start:]):
            allowed = q[place].topk(3).indices
            at = (allowed == token).nonzero().item()
            gaps.append((q[place][allowed].log_softmax(0) - p[place][allowed].log_softmax(0))[at])
    assert metrics["teacher_kl"] == pytest.approx(torch.stack(gaps).mean().item(), abs=1e-5)


@pytest.mark.parametrize("loss", ["advantage", "jsd"])
def test_role_without_teacher_learns_from_its_reward_alone(
    loss: Any, teacher_folder: str, tmp_path: Path
) -> None:
    roles = {"train_roles": ("solver", "judge"), "agent": Duo()}
    taught = Teacher({"judge": teacher_folder}, loss=loss)
    with pytest.raises(ValueError, match="role 'solver' is trained but has no reward"):
        student(taught, **roles)
    with pytest.raises(ValueError, match=r"teacher\.path names role 'coder'"):
        student(Teacher({"coder": teacher_folder}), **roles)
    policy = Policy(path=str(model_folder(tmp_path / "base")), lora=Lora(r=2))
    found = []
    for teacher, rewards in ((None, [Even(), Even(role="judge")]), (taught, [Even()])):
        torch.manual_seed(0)  # of the new adapters
        module = student(teacher, policy, rewards=rewards, **roles)
        gradients = watched(module)
        one_step(module, tmp_path)
        found.append(gradients)
    for name, gradient in found[1].items():
        assert torch.equal(gradient, found[0][name]) == ("judge" not in name or "lora_A" in name)
