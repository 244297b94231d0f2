"""SFT and GRPO on problems with images."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from seeing import SEEING, Colors, Drawn, ask
from tiny import SCRATCH, Endpoint, grpo, sft, trainer, watch_gradients, weights

from slm_math.agents import Agent
from slm_math.data.chat_data import ChatData
from slm_math.data.problem_data import ProblemData
from slm_math.losses.objective import Objective
from slm_math.modules.checks import check_prompts
from slm_math.modules.optim import Optim
from slm_math.policy.config import Lora, Policy
from slm_math.prompts import Prompt
from slm_math.rollout.rows import training_rows
from slm_math.types import Generate, Image, Note, Problem, Task, Workflow, user

TRAINED = Policy(scratch=SEEING, vision="trained")
FROZEN = Policy(scratch=SEEING)
OTHERS = [Policy(scratch=replace(SEEING, vision=eyes)) for eyes in ("qwen3_vl", "idefics3")]


def problems(folder: Path, **options: Any) -> ProblemData:
    return ProblemData(Drawn(str(folder / "drawn"), **options), batch_size=8, seed=0)


def chats(folder: Path, **options: Any) -> ChatData:
    source = Drawn(str(folder / "drawn"))
    return ChatData(source, batch_size=8, prompt="solve_plain", seed=0, **options)


@pytest.mark.parametrize("policy", [TRAINED, *OTHERS])
def test_first_update_has_ratio_1_and_kl_0(policy: Policy, tmp_path: Path) -> None:
    module = grpo(policy, objective=Objective("adjusted", beta=0.1), tokens_per_batch=200)
    found = watch_gradients(module)
    run = trainer(tmp_path, limit_train_batches=1)
    run.fit(module, problems(tmp_path))
    logged = run.callback_metrics
    assert logged["train/ratio_min"] == logged["train/ratio_max"] == 1
    assert logged["train/kl"].item() == pytest.approx(0, abs=1e-6)
    # what the engine sampled with is what the trainer computes
    [rows] = [training_rows([module.last_rollouts], ("solver",))]
    assert {len(row.images) for row in rows} == {0, 1, 2}
    assert set(found) == set(module.loaded.trainable)
    towers = [name for name in found if "visual" in name or "vision_model" in name]
    assert bool(towers) == (policy.vision == "trained")


def test_frozen_tower_is_encoded_once_for_rollouts_reference_and_passes(tmp_path: Path) -> None:
    module = grpo(FROZEN, objective=Objective("adjusted", beta=0.1), passes=3)
    before = SEEING.sight(SEEING.tokenizer()).encoded
    assert before == 0
    run = trainer(tmp_path, limit_train_batches=1, max_epochs=2)
    run.fit(module, problems(tmp_path))
    assert module.chat.sight is module.loaded.sight
    assert module.chat.sight.encoded == 8  # 2 x (1 + 1 + 2) images of 8 problems
    assert run.callback_metrics["train/ratio_max"] > 1
    tower = module.loaded.reference_model.model.visual
    assert tower is module.loaded.model.model.visual


@pytest.mark.parametrize("fused", [False, True])
def test_features_follow_a_trained_tower(
    fused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Remembered features are forgotten once the weights that made them change, by whatever kernel:
    a fused one does not count their versions up.
    """
    monkeypatch.setattr(torch.optim, "AdamW", partial(torch.optim.AdamW, fused=fused))
    module = grpo(TRAINED, objective=Objective("adjusted", beta=0.1))
    run = trainer(tmp_path, max_epochs=3, limit_train_batches=1)
    run.fit(module, problems(tmp_path))
    logged = run.callback_metrics
    assert logged["train/ratio_min"] == logged["train/ratio_max"] == 1
    assert logged["train/kl"] > 0
    assert logged["train/logp_diff_max"] < 1e-4


@pytest.mark.parametrize("vision", ["frozen", "trained"])
def test_sft_learns_what_images_show(vision: Any, tmp_path: Path) -> None:
    module = sft(Policy(scratch=SEEING, vision=vision))
    data = chats(tmp_path)
    run = trainer(tmp_path, max_epochs=1)
    found = watch_gradients(module)
    run.fit(module, data)
    assert set(found) == set(module.loaded.trainable)
    assert any("visual" in name for name in found) == (vision == "trained")
    rows = data.rows["train"]
    assert sorted(len(row.images) for row in rows) == [0, 0, 1, 1, 1, 1, 2, 2]
    banned = set(module.chat.sight.banned)
    assert not any(id in banned for row in rows for id in (row.ids[t] for t in row.loss_positions))


def test_prompts_can_weigh_too_but_images_never_do(tmp_path: Path) -> None:
    module = sft(FROZEN)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module, chats(tmp_path, prompt_weight=0.5))
    assert run.callback_metrics["train/loss"] < 20


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    gradients = []
    for tokens in (60, 10_000):
        module = sft(TRAINED, tokens_per_batch=tokens)
        found = watch_gradients(module)
        trainer(tmp_path).fit(module, chats(tmp_path))
        gradients.append(found)
    one, other = gradients
    assert max((one[n] - other[n]).abs().max().item() for n in one) < 1e-5


def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    gradients = []
    for policy in (TRAINED, replace(TRAINED, gradient_checkpointing=True)):
        module = sft(policy)
        found = watch_gradients(module)
        trainer(tmp_path).fit(module, chats(tmp_path))
        gradients.append(found)
    one, other = gradients
    assert max((one[n] - other[n]).abs().max().item() for n in one) < 1e-5


def test_adapters_learn_from_images(tmp_path: Path) -> None:
    policy = Policy(scratch=SEEING, lora=Lora(r=2, dropout=0.0))
    module = grpo(policy, objective=Objective("adjusted", beta=0.1))
    run = trainer(tmp_path, limit_train_batches=1)
    run.fit(module, problems(tmp_path))
    assert run.callback_metrics["train/ratio_max"] == 1
    assert module.chat.sight.encoded == 8
    assert all("lora_" in name and "visual" not in name for name in weights(module))


def test_problems_that_outgrow_the_context_with_their_images_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = Policy(scratch=replace(SEEING, context=100), max_pixels=1_000_000)
    module = grpo(policy)
    data = problems(tmp_path, large=500)
    trainer(tmp_path, limit_train_batches=1).fit(module, data)
    said = capsys.readouterr().out
    assert "drawn: 1 of 9 problems outgrow the model's context (100 tokens)" in said
    assert len(data.tasks) == 8


def test_dialogues_that_outgrow_the_context_with_their_images_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = Policy(scratch=replace(SEEING, context=100), max_pixels=1_000_000)
    source = Drawn(str(tmp_path / "drawn"), large=500)
    data = ChatData(source, batch_size=8, prompt="solve_plain", seed=0)
    trainer(tmp_path, limit_train_batches=1).fit(sft(policy), data)
    assert "1 of 9 rows have more than 100 tokens" in capsys.readouterr().out


@pytest.mark.parametrize("make", [grpo, sft])
def test_model_of_text_is_not_trained_on_problems_with_images(make: Any, tmp_path: Path) -> None:
    module = make(Policy(scratch=SCRATCH))
    data = problems(tmp_path) if make is grpo else chats(tmp_path)
    with pytest.raises(ValueError, match="images, and the model takes text only") as caught:
        trainer(tmp_path).fit(module, data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [grpo, sft])
def test_template_that_shows_no_images_is_refused(make: Any, tmp_path: Path) -> None:
    module = make(replace(FROZEN, chat_template="chatml"))
    data = problems(tmp_path) if make is grpo else chats(tmp_path)
    with pytest.raises(ValueError, match="chatml shows 0 of 1 images") as caught:
        trainer(tmp_path).fit(module, data)
    assert "\n" not in str(caught.value)


class Forgetful(Agent):
    """An agent that asks about the text alone."""

    def solve(self, problem: Problem) -> Workflow[str | None]:
        yield [Generate(user(problem.text))]
        return None


class Half(Agent):
    """An agent that shows the first image only."""

    def solve(self, problem: Problem) -> Workflow[str | None]:
        yield [Generate(user(problem.text, problem.images[:1]))]
        return None


class Noted(Forgetful):
    """An agent that notes something before it asks about the text alone."""

    def solve(self, problem: Problem) -> Workflow[str | None]:
        yield [Note("stop")]
        yield [Note("stop"), Note("stop")]
        return (yield from super().solve(problem))


@pytest.mark.parametrize(
    ("agent", "shows"),
    [
        (Forgetful(), r"train/0 .*Forgetful \(role 'solver'\) shows 0 of 1"),
        (Half(), r"train/2 .*Half \(role 'solver'\) shows 1 of 2"),
        (Noted(), r"train/0 .*Noted \(role 'solver'\) shows 0 of 1"),
    ],
)
def test_agent_that_does_not_show_every_image_is_refused(
    agent: Agent, shows: str, tmp_path: Path
) -> None:
    tasks = Drawn(str(tmp_path)).tasks("train")
    chat = SimpleNamespace(sight=SEEING.sight(SEEING.tokenizer()))
    with pytest.raises(ValueError, match=f"problem drawn/{shows}") as caught:
        check_prompts(agent, tasks, chat, context=None)
    assert "\n" not in str(caught.value)


class Reversed(Agent):
    """An agent that shows all images, the last one first, after a note."""

    def solve(self, problem: Problem) -> Workflow[str | None]:
        yield [Note("stop")]
        yield [Generate(user(problem.text, problem.images[::-1]))]
        return None


def test_images_are_shown_in_any_order(tmp_path: Path) -> None:
    tasks = Drawn(str(tmp_path)).tasks("train")
    chat = SimpleNamespace(sight=SEEING.sight(SEEING.tokenizer()))
    assert check_prompts(Reversed(), tasks, chat, context=None) == set()


class Tiring(Agent):
    """An agent that leaves an image out when it meets a problem for the third time."""

    def __init__(self) -> None:
        self.met = Counter[str]()

    def solve(self, problem: Problem) -> Workflow[str | None]:
        self.met[problem.id] += 1
        yield [Generate(user(problem.text, problem.images[self.met[problem.id] > 2 :]))]
        return None


def test_rollout_that_does_not_show_every_image_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Tiring \(role 'solver'\) shows . of [12]: make"):
        trainer(tmp_path).fit(grpo(FROZEN, agent=Tiring()), problems(tmp_path))


class Reviewed(Agent):
    """An agent whose second role reads a text only."""

    roles = ("solver", "reader")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        [reply] = yield [Generate(user(problem.text, problem.images))]
        yield [Generate(user(reply.text), role="reader")]
        return None


def test_role_that_works_on_texts_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = grpo(FROZEN, agent=Reviewed(), engines={"reader": Endpoint()})
    trainer(tmp_path, max_epochs=2, limit_train_batches=1).fit(module, problems(tmp_path))
    said = capsys.readouterr().out
    # 6 of 8 problems have images, and each has four samples
    assert said.count("role 'reader' was shown no image in 24 of 24 samples") == 1
    assert "the first request" not in said


def test_missing_image_is_named(tmp_path: Path) -> None:
    class Missing(Drawn):
        def tasks(self, split: Any) -> list[Task]:
            [first, *rest] = super().tasks(split)
            problem = replace(first.problem, images=(Image("x.png"),))
            return [replace(first, problem=problem), *rest]

    data = ProblemData(Missing(str(tmp_path)), batch_size=8, seed=0)
    with pytest.raises(ValueError, match=r"problem drawn/train/0: .*x\.png"):
        trainer(tmp_path).fit(grpo(FROZEN), data)


def test_model_with_eyes_is_trained_on_text_as_before(tmp_path: Path) -> None:
    from tiny import problems as arithmetic

    module = grpo(FROZEN)
    trainer(tmp_path, limit_train_batches=1).fit(module, arithmetic())
    assert module.chat.sight.encoded == 0
    assert torch.isfinite(module.trainer.callback_metrics["train/loss"])


@pytest.mark.slow
@pytest.mark.parametrize("eyes", ["qwen2_vl", "qwen3_vl", "idefics3"])
def test_what_only_images_say_is_learned(eyes: Any, tmp_path: Path) -> None:
    policy = Policy(scratch=replace(SEEING, vision=eyes, hidden=64), vision="trained")
    module = sft(policy, optim=Optim(lr=3e-3, warmup=0))
    source = Colors(str(tmp_path / "colors"))
    run = trainer(tmp_path, max_epochs=20)
    run.fit(module, ChatData(source, batch_size=16, prompt="solve_plain", seed=0))
    tasks = source.tasks("test")
    chats = [task.problem.ask(Prompt("solve_plain")) for task in tasks]
    replies = ask(module.engines()["solver"], chats, temperature=0.0)
    right = sum(f"#### {task.gold}" in reply.text for task, reply in zip(tasks, replies))
    assert right >= 13  # 4 by chance
