"""Teachers that cannot teach are refused, and those that teach nothing are told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from modules.students import one_step, student
from modules.two_roles import PAIR, TWO, adapter
from safetensors.torch import load_file, save_file
from tiny import SCRATCH, SOURCE, Duo, Even, Worked, model_folder, problems, trainer

from slm_math.data.problem_data import ProblemData
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.modules.teacher import Teacher
from slm_math.policy.config import Policy
from slm_math.policy.loading import load_model
from slm_math.policy.teacher import LocalTeacher

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


def cut_off(model: str | Path) -> Path:
    """A model whose file of weights lacks its end."""
    file = Path(model) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    return Path(model)


def test_damaged_weights_are_refused_before_a_model_loads(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    own = adapter(base, tmp_path / "adapter", 1)
    cut_off(base)
    for make in (Teacher, lambda path: Policy(path=path), CheckpointEngine):
        for path in (base, own):
            with pytest.raises(ValueError, match=r"base: model\.safetensors is damaged") as caught:
                make(str(path))
            assert "\n" not in str(caught.value)


def test_adapter_with_numbers_that_are_none_is_refused_when_it_loads(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    own = adapter(base, tmp_path / "adapter", 1)
    state = load_file(own / "adapter_model.safetensors")
    next(iter(state.values()))[0, 0] = torch.nan
    save_file(state, own / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"adapter .*adapter: weight .* holds NaN"):
        load_model(str(own))


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
        "vocabulary": r"another tokenizer than the policy: it has 500 tokens, not \d+, and",
        "splitting": "has another tokenizer than the policy: it has the same tokens, and splits",
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
    """A tokenizer.json with the same tokens, most of which are never merged."""
    tokenizer = json.loads(text)
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:40]
    return json.dumps(tokenizer)


def _unsolved() -> Any:
    """A source without worked solutions."""

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
        ValueError, match=r"the teacher of solver disagrees with itself: .* differ by"
    ) as caught:
        one_step(student(Teacher(teacher_folder)), tmp_path)
    assert "\n" not in str(caught.value)
    one_step(student(Teacher(teacher_folder, dtype="bfloat16")), tmp_path)  # coarser numbers


def test_teacher_of_each_role_must_agree_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the second one."""
    paths = {role: str(model_folder(tmp_path / role, n)) for n, role in enumerate(PAIR, 5)}
    whole = LocalTeacher.scores

    def noisy(self: LocalTeacher, rows: Any, *inputs: Any, **options: Any) -> Any:
        found = whole(self, rows, *inputs, **options)
        noise = 0.01 * torch.rand_like(found.logprobs) * (rows[0].role == PAIR[1])
        return replace(found, logprobs=found.logprobs + noise)

    monkeypatch.setattr(LocalTeacher, "scores", noisy)
    policy = Policy(scratch=SCRATCH, lora=TWO)
    module = student(Teacher(paths), policy, agent=Duo(), train_roles=PAIR)
    with pytest.raises(ValueError, match="the teacher of judge disagrees with itself"):
        one_step(module, tmp_path)


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
        now = rf"{other} \([0-9a-f]+\)" if teacher else "None"
        was = rf"{teacher_folder} \([0-9a-f]+\)"
        with pytest.raises(ValueError, match=f"teacher was {was}, is {now}: set"):
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
    least = (
        r"group_size must be at least 2, got 1: .*\(with a teacher and rewards: \[\] it may be 1\)"
    )
    with pytest.raises(ValueError, match=least):
        student(Teacher(teacher_folder), rewards=[Even()], group_size=1)
    with pytest.raises(ValueError, match=r"no teacher: add a reward for it, or set model\.teacher"):
        student(None)
    with pytest.raises(ValueError, match="there is no reward"):
        student(Teacher(teacher_folder), resample=2)
