"""A teacher of the trained roles: what it adds to an update, what it sees, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import (
    LORA,
    SCRATCH,
    SOURCE,
    Duo,
    Even,
    Worked,
    difference,
    grpo,
    model_folder,
    problems,
    trainer,
    weights,
)
from tiny import watch_gradients as watched

from slm_math.data.problem_data import ProblemData
from slm_math.losses.objective import Objective
from slm_math.modules.grpo import GRPOModule
from slm_math.modules.teacher import Teacher
from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy
from slm_math.policy.loading import load_model
from slm_math.policy.teacher import LocalTeacher
from slm_math.rewards import Correct
from slm_math.rollout.rows import training_rows
from slm_math.types import Sampling


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(model_folder(tmp_path_factory.mktemp("teacher"), seed=3))


def student(teacher: Teacher | None, policy: Policy | None = None, **options: Any) -> GRPOModule:
    defaults = {"rewards": [], "group_size": 2, "objective": Objective(mismatch="none")}
    return grpo(policy, **(defaults | {"teacher": teacher} | options))


def one_step(module: GRPOModule, root: Path, steps: int = 1, **data: Any) -> dict[str, float]:
    """The metrics of the last step of a short run."""
    seen: dict[str, float] = {}
    module.log_scalars = lambda values, rows, shown=(): seen.update(values)  # type: ignore[assignment,misc]
    trainer(root, limit_train_batches=steps).fit(module, problems(**data))
    return seen


def replies(module: GRPOModule) -> list[tuple[tuple[int, ...], int]]:
    """(ids, length of the prompt) of each sample of the last step."""
    turns = [rollout.trace.turns[0].reply for rollout in module.last_rollouts]
    return [((*turn.prompt_ids, *turn.token_ids), len(turn.prompt_ids)) for turn in turns]


def logits(model: Any, ids: tuple[int, ...], start: int) -> torch.Tensor:
    """The logits (m, V) at the reply's tokens, by plain transformers."""
    return model(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1]


# what is learned


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


def test_role_without_teacher_learns_from_its_reward_alone(
    teacher_folder: str, tmp_path: Path
) -> None:
    roles = {"train_roles": ("solver", "judge"), "agent": Duo()}
    taught = Teacher({"judge": teacher_folder})
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


# who teaches


def adapter(base: Path, folder: Path, seed: int) -> Path:
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
    assert all("_teacher" not in name for name in gradients)
    assert max((gradients[n] - others[n]).abs().max().item() for n in others) < 1e-6
    assert max(g.abs().max().item() for g in gradients.values()) > 1e-4


def test_adapter_that_teaches_does_not_move_and_is_in_no_checkpoint(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    other = adapter(base, tmp_path / "other", seed=1)
    module = student(Teacher(str(other)), Policy(path=str(base), lora=LORA))
    one_step(module, tmp_path, steps=2)
    named = dict(module.model.named_parameters())
    held = {n: p for n, p in named.items() if "_teacher" in n}
    assert held
    assert not any("_teacher" in name for name in module.state_dict())
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


# what is refused, and told


REFUSED = {
    "nobody": ({}, "set one of path"),
    "two": ({"path": "T", "itself": "now"}, "set one of path"),
    "itself blind": ({"itself": "now"}, "says what the student says"),
    "served divergence": ({"servers": ("http://a:1",), "loss": "jsd"}, "sampled tokens only"),
    "served copy": ({"servers": ("http://a:1",), "dtype": "float32"}, "those of a teacher.path"),
    "share": ({"path": "T", "share": 0.1}, "teacher.share has no effect on advantage"),
    "weight": ({"path": "T", "weight": 0.0}, "teacher.weight must be a number above 0"),
    "loss": ({"path": "T", "loss": "kl"}, "teacher.loss must be one of"),
    "missing": ({"path": "/no/model"}, "does not exist"),
    "slots": ({"path": "T", "solution_prompt": "solve"}, r"lacks the slot request"),
    "prompt": ({"path": "T", "solution_prompt": "solved"}, "there is no prompt 'solved'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_setting_that_cannot_teach_is_refused(kind: str, teacher_folder: str) -> None:
    options, message = REFUSED[kind]
    if options.get("path") == "T":
        options = options | {"path": teacher_folder}
    with pytest.raises(ValueError, match=message) as caught:
        Teacher(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["vocabulary", "splitting", "context", "solutions"])
def test_teacher_that_cannot_read_the_rows_is_refused_before_a_model_loads(
    kind: str, tmp_path: Path
) -> None:
    folder, options, data = model_folder(tmp_path / "teacher"), {}, {}
    if kind == "vocabulary":
        other = replace(SCRATCH, vocabulary=500)
        other.model(other.tokenizer()).save_pretrained(folder)
        other.tokenizer().save_pretrained(folder)
    elif kind == "splitting":
        file = folder / "tokenizer.json"
        text = file.read_text(encoding="utf-8")
        file.write_text(_fewer_merges(text), encoding="utf-8")
    elif kind == "context":
        short = replace(SCRATCH, context=8)
        short.model(SCRATCH.tokenizer()).save_pretrained(folder)
    else:
        options = {"solution_prompt": "solution"}
        data = {"source": _unsolved()}
    message = {
        "vocabulary": r"has another tokenizer \(500 tokens, the policy's \d+\): token .* has id",
        "splitting": "has another tokenizer: the same tokens, but it splits",
        "context": "the teacher's prompt for problem .* tokens, and its context holds 8",
        "solutions": "none of the .* problems has one",
    }[kind]
    module = student(Teacher(str(folder), **options))
    source = data.get("source", SOURCE)
    with pytest.raises(ValueError, match=message) as caught:
        trainer(tmp_path).fit(module, ProblemData(source, batch_size=7, limit=28, seed=0))
    assert "\n" not in str(caught.value)
    assert module.loaded is None


def _fewer_merges(text: str) -> str:
    tokenizer = json.loads(text)
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:40]
    return json.dumps(tokenizer)


def _unsolved() -> Any:
    class Unsolved(Worked):
        def tasks(self, split: Any) -> Any:
            return [replace(task, solution=None) for task in super().tasks(split)]

    return Unsolved(train=28, validation=14, test=14)


def test_teacher_that_disagrees_with_itself_is_refused(
    teacher_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = LocalTeacher.scores

    def noisy(self: LocalTeacher, *inputs: Any, **options: Any) -> Any:
        found = whole(self, *inputs, **options)
        return replace(found, logprobs=found.logprobs + 0.01 * torch.rand_like(found.logprobs))

    monkeypatch.setattr(LocalTeacher, "scores", noisy)
    with pytest.raises(
        ValueError, match=r"the teacher disagrees with itself: .* differ by"
    ) as caught:
        one_step(student(Teacher(teacher_folder)), tmp_path)
    assert "\n" not in str(caught.value)
    one_step(student(Teacher(teacher_folder, dtype="bfloat16")), tmp_path)  # coarser numbers


def test_teacher_that_computes_no_numbers_is_refused(
    teacher_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = student(Teacher(teacher_folder))
    load = module.teaching.load  # type: ignore[union-attr]

    def broken(loaded: Any) -> None:
        load(loaded)
        model = module.teaching.local["solver"].model  # type: ignore[union-attr]
        torch.nn.init.constant_(model.model.norm.weight, torch.nan)

    monkeypatch.setattr(module.teaching, "load", broken)
    with pytest.raises(ValueError, match="no numbers"):
        one_step(module, tmp_path)


def test_teacher_equal_to_the_student_is_told(
    tmp_path: Path, teacher_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    same = str(model_folder(tmp_path / "same"))
    metrics = one_step(student(Teacher(same)), tmp_path, steps=2)
    assert capsys.readouterr().out.count("it teaches nothing") == 1
    assert abs(metrics["teacher_kl"]) < 1e-5
    one_step(student(Teacher(teacher_folder)), tmp_path)
    assert "it teaches nothing" not in capsys.readouterr().out


def test_resuming_with_another_teacher_is_refused_and_evaluating_is_not(
    teacher_folder: str, tmp_path: Path
) -> None:
    run = trainer(tmp_path, limit_train_batches=1)
    run.fit(student(Teacher(teacher_folder)), problems())
    run.save_checkpoint(tmp_path / "saved.ckpt")
    other = str(model_folder(tmp_path / "other", seed=8))
    for teacher in (Teacher(other), None):
        module = student(teacher, rewards=[] if teacher else [Even()])
        with pytest.raises(ValueError, match=r"teacher was [0-9a-f]+, is"):
            trainer(tmp_path, max_epochs=2).fit(
                module, problems(), ckpt_path=tmp_path / "saved.ckpt"
            )
        trainer(tmp_path).validate(module, problems(), ckpt_path=tmp_path / "saved.ckpt")
    again = student(Teacher(teacher_folder))
    trainer(tmp_path, max_epochs=2, limit_train_batches=1).fit(
        again, problems(), ckpt_path=tmp_path / "saved.ckpt"
    )


def test_one_sample_a_problem_suffices_where_nothing_is_compared(
    teacher_folder: str, tmp_path: Path
) -> None:
    one_step(student(Teacher(teacher_folder), group_size=1), tmp_path)
    with pytest.raises(ValueError, match="group_size must be at least 2"):
        student(Teacher(teacher_folder), rewards=[Even()], group_size=1)
    with pytest.raises(ValueError, match="there is no reward"):
        student(Teacher(teacher_folder), resample=2)
