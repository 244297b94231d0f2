"""Certificates: what plain transformers and peft make of an export is what the policy makes."""

import ast
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cases import some
from exports.shapes import SHAPES, base_of_shape, checked, exported, lora, move, stirred
from tiny import LORA, SCRATCH

from slm_math.exports import plain
from slm_math.exports.certificate import (
    begun,
    certified,
    changed_files,
    read_certificate,
    summary,
)
from slm_math.exports.expected import CHATS
from slm_math.policy.config import Policy
from slm_math.policy.folders import CERTIFICATE
from slm_math.policy.loading import files_hash

ROLES = {"one": ("solver",), "two": ("solver", "judge")}
MATRIX = list(itertools.product(SHAPES, ("full", "lora"), ROLES))
FAST = (
    ("qwen2", "full", "one"),
    ("llama", "lora", "two"),
    ("gemma2", "lora", "one"),
    ("gemma3", "full", "two"),
    ("smollm2", "lora", "one"),
)


@pytest.mark.parametrize(("shape", "adaptation", "roles"), some(MATRIX, FAST))
def test_exports_of_all_shapes_are_the_policy(
    shape: str, adaptation: str, roles: str, tmp_path: Path
) -> None:
    base = base_of_shape(shape, tmp_path / "base")
    policy = Policy(path=str(base), lora=lora() if adaptation == "lora" else None)
    loaded = stirred(policy, ROLES[roles])
    certificate = checked(tmp_path / "x", exported(policy, loaded, tmp_path / "x"))
    assert certificate["passed"], summary(certificate)
    assert certificate["largest_difference"] < 1e-4
    parts = {"solver", "judge"} if (adaptation, roles) == ("lora", "two") else {""}
    assert set(certificate["agreement"]) == parts
    for part in certificate["agreement"].values():
        # two of the chats have system messages, which Gemma's template refuses
        assert part["refused"] == (2 if shape.startswith("gemma") else 0)
        assert part["prompts"] == part["replies"] + part["ties"] == len(CHATS) - part["refused"]
        assert part["tokens"] > 40 * part["prompts"]
    for part in certificate["parts"].values():
        assert part["weights"]["equal"] > 0
        assert part["weights"]["different"] == part["weights"]["not compared"] == 0


@pytest.mark.parametrize("kind", some(("full", "lora", "merged"), ("full", "merged")))
def test_bfloat16_exports_are_compared_with_a_wider_tolerance(kind: str, tmp_path: Path) -> None:
    base = base_of_shape("qwen2", tmp_path / "base")
    options: dict[str, Any] = {"path": str(base), "lora": None if kind == "full" else lora()}
    if kind == "merged":  # with a base that exists nowhere else
        options = {"scratch": SCRATCH, "lora": LORA}
    policy = Policy(**options)
    certificate = exported(policy, stirred(policy), tmp_path / "x", dtype="bfloat16")
    certificate = checked(tmp_path / "x", certificate)
    assert certificate["passed"], summary(certificate)
    assert 1e-4 < certificate["largest_difference"] < certificate["tolerance"]["largest"] == 0.5
    weights = certificate["parts"][""]["weights"]
    assert (weights["equal"] == 0) == (kind == "merged")


def wrong_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    text = path.read_text()
    path.write_text(text.replace("<|im_start|>assistant\n", "<|im_start|>assistant:"))


def wrong_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["merges"] = data["model"]["merges"][: len(data["model"]["merges"]) // 2]
    path.write_text(json.dumps(data))


def wrong_config(folder: Path) -> None:
    path = folder / "config.json"
    data = json.loads(path.read_text())
    data["rms_norm_eps"] = 0.1
    path.write_text(json.dumps(data))


def wrong_end(folder: Path) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [0]}))


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "template": (wrong_template, r"template: it writes ':.*' where the policy's writes '\\n.*"),
    "tokenizer": (wrong_tokenizer, "tokens: the tokenizer makes others of the same text"),
    "end": (wrong_end, r"generation_config.json: a reply ends with one of the tokens \[0\], and"),
    "config": (wrong_config, r"weights: log-probabilities differ by .* nats"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named(fault: str, tmp_path: Path) -> None:
    spoil, said = FAULTS[fault]
    policy = Policy(path=str(base_of_shape("qwen2", tmp_path / "base")))
    certificate = exported(policy, stirred(policy), tmp_path / "x")
    spoil(tmp_path / "x")
    certificate = checked(tmp_path / "x", certificate)
    assert not certificate["passed"]
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(summary(certificate))
    before = files_hash(str(tmp_path / "x"))
    assert json.loads((tmp_path / "x" / CERTIFICATE).read_text())["passed"] is False
    (tmp_path / "x" / CERTIFICATE).unlink()
    assert files_hash(str(tmp_path / "x")) == before  # the model is the same with and without
    assert changed_files(tmp_path / "x", certificate)


STALE = list(itertools.product(("float32", "bfloat16"), ("full", "lora")))


@pytest.mark.parametrize(
    ("dtype", "adaptation"), some(STALE, [("float32", "lora"), ("bfloat16", "full")])
)
def test_weights_of_an_earlier_step_are_caught(dtype: str, adaptation: str, tmp_path: Path) -> None:
    """Even where they are so close that no reply and, in bf16, no log-probability tells."""
    base = base_of_shape("llama", tmp_path / "base")
    policy = Policy(path=str(base), lora=lora() if adaptation == "lora" else None)
    loaded = stirred(policy)
    exported(policy, loaded, tmp_path / "old", dtype=dtype)
    move(loaded, 0.01)
    certificate = exported(policy, loaded, tmp_path / "x", dtype=dtype)
    assert certificate["parts"][""]["weights"]["different"] == 0
    name = "adapter_model.safetensors" if adaptation == "lora" else "model.safetensors"
    shutil.copy(tmp_path / "old" / name, tmp_path / "x" / name)
    assert changed_files(tmp_path / "x", certificate) == [f"{name} has changed"]
    certificate = begun(loaded, policy.chat(), tmp_path / "x", dtype=dtype)
    assert certificate["parts"][""]["weights"]["different"] > 0
    certificate = checked(tmp_path / "x", certificate)
    assert not certificate["passed"]
    assert "tensors in the files are not the policy's" in certificate["problems"][0]


def test_another_base_under_an_adapter_is_caught(tmp_path: Path) -> None:
    policy = Policy(path=str(base_of_shape("qwen2", tmp_path / "base")), lora=lora())
    certificate = exported(policy, stirred(policy), tmp_path / "x")
    other = Policy(path=str(tmp_path / "base"))
    moved = stirred(other, by=0.01)
    moved.model.save_pretrained(tmp_path / "base")
    assert changed_files(tmp_path / "x", certificate) == ["the base of the adapter has changed"]


@pytest.mark.slow
def test_the_fresh_process_loads_each_role_without_this_project(tmp_path: Path) -> None:
    """A base from scratch is in the export itself, which may be moved."""
    policy = Policy(scratch=SCRATCH, lora=LORA)
    loaded = policy.load(("solver",), {"critic": "base"})
    move(loaded, 0.1)
    certificate = exported(policy, loaded, tmp_path / "x")
    moved = (tmp_path / "x").rename(tmp_path / "moved")
    certificate = certified(moved, certificate)
    assert certificate["passed"], summary(certificate)
    assert set(certificate["agreement"]) == {"solver", "base"}
    assert {"torch", "transformers", "peft"} <= certificate["versions"].keys()
    assert read_certificate(moved) == certificate
    names = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(Path(plain.__file__).read_text()))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    assert {"torch", "transformers", "peft"} <= names
    assert not names & {"slm_math", "callbacks"}


@pytest.mark.slow
def test_a_process_that_cannot_load_is_told_in_a_line(tmp_path: Path) -> None:
    policy = Policy(path=str(base_of_shape("qwen2", tmp_path / "base")))
    certificate = exported(policy, stirred(policy), tmp_path / "x")
    no_weights(tmp_path / "x")
    certificate = certified(tmp_path / "x", certificate)
    assert certificate["problems"][0].startswith("plain transformers could not load it: ")
    assert "\n" not in summary(certificate)


PART = '{"parts": {"../x": {}}, "files": {}, "tolerance": {}, "template": {}}'


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"parts": [], "files": {}}', PART])
def test_file_that_is_no_certificate_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="slm-math export and ExportHF write one"):
        read_certificate(tmp_path)
    (tmp_path / CERTIFICATE).write_text(text)
    with pytest.raises(ValueError, match=r"certificate\.json is (not JSON|no certificate)"):
        read_certificate(tmp_path)


@pytest.mark.parametrize("eyes", some(("qwen2_5_vl", "idefics3"), ["qwen2_5_vl"]))
def test_model_with_eyes_is_compared_by_its_texts(eyes: Any, tmp_path: Path) -> None:
    policy = Policy(scratch=replace(SCRATCH, vision=eyes))
    certificate = exported(policy, stirred(policy, by=0.02), tmp_path / "x")
    assert certificate["eyes"]
    assert certificate["banned"]
    certificate = checked(tmp_path / "x", certificate)
    assert certificate["passed"], summary(certificate)
    assert certificate["agreement"][""]["prompts"] == len(CHATS)
