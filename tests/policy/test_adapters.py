"""Adapters that peft made: loaded, trained, exported and merged whole, or refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from policy.networks import IDS, logits, plain, stir
from safetensors.torch import load_file, save_file
from tiny import model_folder

from slm_math.engines import vllm_setup
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.engines.vllm import VLLMEngine
from slm_math.policy.config import Policy
from slm_math.policy.export import export_policy
from slm_math.policy.loading import load_model, load_tokenizer

KINDS: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True},
    "saved modules": {"modules_to_save": ["lm_head", "norm"]},
    "tokens": {"trainable_token_indices": [4, 23]},
    "tokens of both ends": {"trainable_token_indices": {"embed_tokens": [4], "lm_head": [9]}},
    "biases of layers": {"bias": "lora_only"},
    "all biases": {"bias": "all"},
    "biases of factors": {"lora_bias": True, "target_modules": ["v_proj"]},
    "embedding": {"target_modules": ["v_proj", "embed_tokens"]},
    "head": {"target_modules": ["v_proj", "lm_head"]},
    "ranks": {"rank_pattern": {"o_proj": 3}, "alpha_pattern": {"v_proj": 5}, "use_rslora": True},
    "one layer": {"layers_to_transform": [1]},
    "parameters": {"target_parameters": ["mlp.up_proj.weight"]},
}
BIASES = ("biases of layers", "all biases")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("base"))


def made_by_peft(base: Path, folder: Path, **options: Any) -> torch.Tensor:
    """Saves an adapter that does something; returns what it makes of `IDS`."""
    config = {"r": 2, "target_modules": ["v_proj", "o_proj"], "task_type": "CAUSAL_LM"}
    model = get_peft_model(plain(base), LoraConfig(**(config | options)))
    stir(p for p in model.parameters() if p.requires_grad)
    model.save_pretrained(folder)
    return logits(model)


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_an_adapter_is_evaluated_trained_exported_and_merged(
    kind: str, base: Path, tmp_path: Path
) -> None:
    want = made_by_peft(base, tmp_path / "adapter", **KINDS[kind])
    policy = Policy(path=str(tmp_path / "adapter"))
    assert torch.equal(logits(load_model(str(tmp_path / "adapter"))), want)

    loaded = policy.load()
    policy.keep_reference(loaded)
    assert torch.equal(logits(loaded.model), want)
    loaded.model(IDS).logits.log_softmax(-1)[0, :, 5].sum().backward()
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    trained = [key for key in saved if "base_layer.weight" not in key]
    assert len(trained) == len(loaded.parameters())
    assert all(p.grad is not None for p in loaded.parameters())

    stir(loaded.parameters())
    with loaded.reference("solver") as reference:
        assert torch.equal(logits(reference), want)
    moved = logits(loaded.model)
    assert (moved - want).abs().max() > 1e-3
    export_policy(loaded, policy.chat(), tmp_path / "export")
    assert torch.equal(logits(load_model(str(tmp_path / "export"))), moved)
    assert torch.equal(logits(PeftModel.from_pretrained(plain(base), tmp_path / "export")), moved)
    export_policy(loaded, policy.chat(), tmp_path / "merged", merge=True)
    assert torch.allclose(logits(plain(tmp_path / "merged")), moved, atol=1e-4)


@pytest.mark.parametrize("kind", ["dora", "saved modules", "tokens", "all biases", "parameters"])
def test_roles_train_all_of_an_adapter_apart_or_are_refused(
    kind: str, base: Path, tmp_path: Path
) -> None:
    want = made_by_peft(base, tmp_path / "adapter", **KINDS[kind])
    policy = Policy(path=str(tmp_path / "adapter"))
    if kind in BIASES:
        with pytest.raises(ValueError, match="trains biases of its base"):
            policy.load(("solver", "judge"))
        return
    loaded = policy.load(("solver", "judge"))
    policy.keep_reference(loaded)
    stir(loaded.parameters("judge"))
    for view, changed in ((loaded.use, True), (loaded.reference, False)):
        with view("solver") as model:
            assert torch.equal(logits(model), want)
        with view("judge") as model:
            assert torch.equal(logits(model), want) != changed
    loaded.move_reference(1.0)
    with loaded.use("judge") as model:
        moved = logits(model)
    with loaded.reference("judge") as model:
        assert torch.equal(logits(model), moved)


def test_adapter_without_a_tokenizer_uses_that_of_its_base(base: Path, tmp_path: Path) -> None:
    made_by_peft(base, tmp_path)
    assert load_tokenizer(str(tmp_path)).get_vocab() == load_tokenizer(str(base)).get_vocab()


# refusals


def rewritten(**values: Any) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return rewrite


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "another kind": (rewritten(peft_type="VERA"), "kind VERA, only LORA"),
    "another task": (rewritten(task_type="SEQ_CLS"), "task SEQ_CLS"),
    "replicated layers": (rewritten(layer_replication=[[0, 2]]), "layer_replication"),
    "invocation tokens": (rewritten(alora_invocation_tokens=[3]), "alora_invocation_tokens"),
    "a newer peft": (rewritten(use_teleport=True), "use_teleport"),
    "a changed base": (rewritten(init_lora_weights="pissa_niter_4"), "'pissa_niter_4'.*the base"),
    "no base": (rewritten(base_model_name_or_path=None), "does not name its base"),
    "no JSON": (lambda folder: (folder / "adapter_config.json").write_text("{"), "is not JSON"),
    "no weights": (
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        "no adapter_model.safetensors",
    ),
    "a whole model": (lambda folder: (folder / "model.safetensors").touch(), "a model .* and an"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_adapter_that_cannot_be_kept_is_refused_before_anything_loads(
    kind: str, base: Path, tmp_path: Path
) -> None:
    spoil, message = REFUSED[kind]
    made_by_peft(base, tmp_path)
    spoil(tmp_path)
    for make in (lambda path: Policy(path=path), CheckpointEngine):
        with pytest.raises(ValueError, match=message) as caught:
            make(str(tmp_path))
        assert "\n" not in str(caught.value)


def test_adapter_of_an_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    made_by_peft(base, tmp_path / "first")
    made_by_peft(base, tmp_path / "second")
    rewritten(base_model_name_or_path=str(tmp_path / "first"))(tmp_path / "second")
    with pytest.raises(ValueError, match="is an adapter itself"):
        Policy(path=str(tmp_path / "second"))


def test_other_kinds_of_peft_are_refused(base: Path, tmp_path: Path) -> None:
    config = IA3Config(target_modules=["v_proj"], feedforward_modules=[], task_type="CAUSAL_LM")
    get_peft_model(plain(base), config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="kind IA3"):
        Policy(path=str(tmp_path))


@pytest.mark.parametrize("rows", [0, 3])
def test_embedding_that_was_trained_beside_an_adapter_is_refused(
    rows: int, base: Path, tmp_path: Path
) -> None:
    made_by_peft(base, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    whole = torch.cat([plain(base).get_input_embeddings().weight.data, torch.ones(rows, 32)]) + 0.1
    save_file(load_file(file) | {"base_model.model.model.embed_tokens.weight": whole}, file)
    message = "another base: .*embed_tokens" if rows else "its config trains, the first .*embed_to"
    for load in (load_model, lambda path: Policy(path=path).load()):
        with pytest.raises(ValueError, match=message):
            load(str(tmp_path))


@pytest.mark.parametrize("kind", [*KINDS, "plain"])
def test_vllm_is_refused_what_it_would_not_apply(
    kind: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_setup, "refusal", lambda found=None: None)
    made_by_peft(base, tmp_path, **KINDS.get(kind, {}))
    if kind in ("plain", "one layer"):
        VLLMEngine(str(tmp_path))
        Policy(path=str(tmp_path)).check_vllm_applies()
        return
    for check in (VLLMEngine, lambda path: Policy(path=path).check_vllm_applies()):
        with pytest.raises(ValueError, match="vLLM does not apply all of this adapter"):
            check(str(tmp_path))
