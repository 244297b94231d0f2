"""Adapters that peft made: loaded, trained, exported and merged whole, or refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import SCRATCH, model_folder
from transformers import AutoConfig, AutoModelForCausalLM

from slm_math.engines import vllm_setup
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.engines.vllm import VLLMEngine
from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy
from slm_math.policy.loading import load_model, load_tokenizer
from slm_math.policy.lora import new_adapters

IDS = torch.tensor([[7, 11, 4, 19, 23]])
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


@torch.no_grad()
def stir(parameters: Any) -> None:
    torch.manual_seed(3)
    for parameter in parameters:
        parameter += 0.1 * torch.randn_like(parameter)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(IDS).logits


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)


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


# targets of new adapters

ARCHITECTURES: dict[str, tuple[dict[str, Any], set[str], set[str]]] = {
    "qwen2": (
        {},
        {"q_proj", "k_proj", "v_proj", "o_proj"},
        {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    ),
    "phi3": (
        {},
        {"qkv_proj", "o_proj"},
        {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    ),
    "gpt2": (
        {"n_embd": 16, "n_layer": 2, "n_head": 4},
        {"attn.c_attn", "attn.c_proj"},
        {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"},
    ),
    "mixtral": (
        {"num_local_experts": 3},
        {"q_proj", "k_proj", "v_proj", "o_proj"},
        {"q_proj", "k_proj", "v_proj", "o_proj", "gate", "experts"},
    ),
}


def architecture(kind: str, folder: Path) -> Path:
    tokenizer = SCRATCH.tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2}
    options = {"vocab_size": len(tokenizer), "pad_token_id": 0} | sizes | heads
    config = AutoConfig.for_model(kind, **(options | ARCHITECTURES[kind][0]))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def adapted(loaded: Any) -> set[str]:
    """The modules with trained factors, their parents' names where those tell them apart."""
    names = {name.partition(".lora_")[0].replace(".base_layer", "") for name in loaded.trainable}
    ends = {".".join(name.split(".")[-2:]) for name in names}
    return {end if ".c_" in end else end.partition(".")[2] for end in ends}


@pytest.mark.parametrize("targets", ["attention", "all-linear"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_shorthands_find_the_layers_of_every_architecture(
    kind: str, targets: str, tmp_path: Path
) -> None:
    folder = architecture(kind, tmp_path / "model")
    policy = Policy(path=str(folder), lora=Lora(r=2, dropout=0.0, targets=targets))
    loaded = policy.load()
    assert adapted(loaded) == ARCHITECTURES[kind][1 + (targets == "all-linear")]
    stir(loaded.parameters())
    want = logits(loaded.model)
    export_policy(loaded, policy.chat(), tmp_path / "export")
    assert torch.equal(logits(load_model(str(tmp_path / "export"))), want)
    assert torch.equal(logits(PeftModel.from_pretrained(plain(folder), tmp_path / "export")), want)


@pytest.mark.parametrize("lists", [True, False])
def test_attention_is_what_its_layers_are_called(lists: bool, base: Path) -> None:
    """The same modules from the same random numbers, so that runs stay as they were."""
    names = ("q_proj", "k_proj", "v_proj", "o_proj")
    torch.manual_seed(5)
    got = Policy(path=str(base), lora=Lora(r=2, targets=names if lists else "attention")).load()
    torch.manual_seed(5)
    config = LoraConfig(r=2, lora_alpha=32, lora_dropout=0.05, target_modules=[*names])
    want = get_peft_model(plain(base), config)
    assert got.model.peft_config["default"].target_modules == {*names}
    for (name, one), (other, two) in zip(
        got.model.named_parameters(), want.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(one, two)


MISSED: dict[str, tuple[str, tuple[str, ...], str]] = {
    "a typo": ("qwen2", ("q_proj", "v_prjo"), "'v_prjo' matches no layer of Qwen2.*q_proj, k_proj"),
    "other names": ("phi3", ("o_proj", "k_proj"), "'k_proj' matches no layer of Phi3.*qkv_proj"),
    "a block": ("qwen2", ("self_attn",), "'self_attn' is a Qwen2Attention, not a linear"),
    "experts": ("mixtral", ("q_proj", "down_proj"), "'down_proj' is one weight of all experts"),
}


@pytest.mark.parametrize("kind", MISSED)
def test_target_that_matches_nothing_is_named(kind: str, tmp_path: Path) -> None:
    model, targets, message = MISSED[kind]
    with pytest.raises(ValueError, match=message) as caught:
        Policy(path=str(architecture(model, tmp_path)), lora=Lora(targets=targets)).load()
    assert "\n" not in str(caught.value)


def test_dropout_on_experts_is_refused_in_one_line(tmp_path: Path) -> None:
    lora = Lora(dropout=0.1, targets="all-linear")
    with pytest.raises(ValueError, match=r"set policy\.lora\.dropout: 0"):
        Policy(path=str(architecture("mixtral", tmp_path)), lora=lora).load()


@pytest.mark.parametrize("targets", [(), "", ("all-linear", "lm_head"), ("q_proj", "")])
def test_wrong_lists_of_targets_are_refused(targets: Any) -> None:
    with pytest.raises(ValueError, match=r"policy\.lora\.targets is attention, all-linear, or"):
        Lora(targets=targets)


@pytest.mark.parametrize("end", ["embed_tokens", "lm_head"])
def test_new_adapter_of_an_embedding_is_trained_and_exported(
    end: str, base: Path, tmp_path: Path
) -> None:
    policy = Policy(path=str(base), lora=Lora(r=2, dropout=0.0, targets=("q_proj", end)))
    loaded = policy.load()
    policy.keep_reference(loaded)
    stir(loaded.parameters())
    want = logits(loaded.model)
    assert sum(end in name for name in loaded.trainable) == 2
    with loaded.reference("solver") as reference:
        assert torch.equal(logits(reference), logits(plain(base)))
    for merge in (False, True):
        shutil.rmtree(tmp_path / "export", ignore_errors=True)
        export_policy(loaded, policy.chat(), tmp_path / "export", merge=merge)
        got = logits(load_model(str(tmp_path / "export")))
        assert torch.allclose(got, want, atol=1e-4 if merge else 0)
    with pytest.raises(ValueError, match=f"vLLM does not apply .*{end}"):
        policy.check_vllm_applies()


def test_vision_tower_gets_no_adapter() -> None:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 16}
    text |= {"intermediate_size": 32, "num_key_value_heads": 1, "vocab_size": 64}
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"intermediate_size": 32, "image_size": 28, "patch_size": 14}
    model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision))
    for shorthand in ("attention", "all-linear"):
        adapted = new_adapters(model, Lora(r=2, targets=shorthand), ["default"])
        names = [name for name, _ in adapted.named_parameters() if "lora_" in name]
        assert names
        assert not [name for name in names if "vision" in name]
        adapted.unload()
