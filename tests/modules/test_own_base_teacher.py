"""Teachers of the student's own base: the base, another adapter, and the policy itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from modules.students import logits, one_step, student
from tiny import LORA, SCRATCH, difference, model_folder, weights
from tiny import watch_gradients as watched

from slm_math.modules.teacher import Teacher
from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy
from slm_math.rollout.rows import training_rows


def adapter(base: Path, folder: Path, seed: int) -> Path:
    """Exports an adapter with random weights on the base, and returns its folder."""
    policy = Policy(path=str(base), lora=replace(LORA, dropout=0.5))
    torch.manual_seed(seed)
    loaded = policy.load()
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.normal_(std=0.2)
    export_policy(loaded, policy.chat(), folder)
    return folder


@pytest.mark.parametrize("kind", ["base", "adapter"])
def test_teacher_of_the_same_base_takes_no_second_copy_and_says_the_same(
    kind: str, tmp_path: Path
) -> None:
    base = model_folder(tmp_path / "base")
    path = base if kind == "base" else adapter(base, tmp_path / "other", seed=1)
    policy = Policy(path=str(adapter(base, tmp_path / "own", seed=2)))
    module = student(Teacher(str(path), loss="reverse_kl"), policy)
    gradients = watched(module)
    one_step(module, tmp_path)
    teacher = module.teaching.local["solver"]  # type: ignore[union-attr]
    assert teacher.model is None
    copied = student(Teacher(str(path), loss="reverse_kl", dtype="float32"), policy)
    others = watched(copied)
    one_step(copied, tmp_path)
    assert copied.teaching.local["solver"].model is not None  # type: ignore[union-attr]
    assert gradients.keys() == others.keys()
    assert all("@teacher" not in name for name in gradients)
    assert max((gradients[n] - others[n]).abs().max().item() for n in others) < 1e-6
    assert max(g.abs().max().item() for g in gradients.values()) > 1e-4


def test_adapter_that_teaches_does_not_move_and_is_in_no_checkpoint(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    other = adapter(base, tmp_path / "other", seed=1)
    module = student(Teacher(str(other)), Policy(path=str(base), lora=LORA))
    one_step(module, tmp_path, steps=2)
    named = dict(module.model.named_parameters())
    held = {n: p for n, p in named.items() if "@teacher" in n}
    assert held
    assert not any("@teacher" in name for name in module.state_dict())
    fresh = student(Teacher(str(other)), Policy(path=str(base), lora=LORA))
    one_step(fresh, tmp_path)
    again = dict(fresh.model.named_parameters())
    assert all(torch.equal(p, again[n]) for n, p in held.items())
    assert difference(weights(module), weights(fresh)) > 0


@pytest.mark.parametrize("lora", [None, LORA])
def test_policy_teaches_itself_with_the_solution_that_the_agent_never_sees(
    lora: Lora | None, tmp_path: Path
) -> None:
    base = model_folder(tmp_path / "base")
    policy = Policy(path=str(base), lora=lora)
    module = student(Teacher(itself="now", solution_prompt="solution"), policy)
    one_step(module, tmp_path)
    rollouts = module.last_rollouts
    rows = training_rows([rollouts], ("solver",))
    shown = module.teaching.shown_rows(rows, rollouts, module.chat)  # type: ignore[union-attr]
    assert any(shown)
    assert not all(shown)  # some problems have no solution
    for row, teachers in zip(rows, shown, strict=True):
        task = rollouts[row.rollout].task
        assert (teachers is not None) == bool(task.solution)
        assert not task.solution or task.solution not in module.chat.tokenizer.decode(row.ids)
        if teachers is not None:
            assert task.solution in module.chat.tokenizer.decode(teachers.ids)
            for one, other in zip(row.loss_positions, teachers.loss_positions, strict=True):
                assert row.ids[one] == teachers.ids[other]
                assert row.logprobs[one] == teachers.logprobs[other]


def test_problems_without_solution_are_counted_and_weigh_nothing(tmp_path: Path) -> None:
    module = student(Teacher(itself="now", solution_prompt="solution"))
    gradients = watched(module)
    metrics = one_step(module, tmp_path)
    own = SCRATCH.model(SCRATCH.tokenizer())
    rollouts = module.last_rollouts
    lacking = [rollout for rollout in rollouts if not rollout.task.solution]
    assert lacking
    assert metrics["untaught"] == pytest.approx(len(lacking) / len(rollouts))
    rows = training_rows([rollouts], ("solver",))
    shown = module.teaching.shown_rows(rows, rollouts, module.chat)  # type: ignore[union-attr]
    loss, tokens = torch.zeros(()), 0
    for row, seen in zip(rows, shown, strict=True):
        if seen is None:
            continue
        places = torch.tensor(row.loss_positions)
        chosen = torch.tensor(row.ids)[places][:, None]
        q = logits(own, row.ids, int(places[0])).log_softmax(-1).gather(1, chosen)
        p = logits(own, seen.ids, seen.loss_positions[0]).log_softmax(-1).gather(1, chosen)
        loss, tokens = loss - ((p - q).detach() * q).sum(), tokens + len(chosen)
    (loss / tokens).backward()
    named = dict(own.named_parameters())
    assert max((gradients[n] - named[n].grad).abs().max().item() for n in named) < 1e-6
