"""Which layers new adapters get, and targets that are refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from policy.networks import logits, plain, stir
from tiny import SCRATCH, model_folder
from transformers import AutoConfig, AutoModelForCausalLM

from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy
from slm_math.policy.loading import load_model
from slm_math.policy.lora import new_adapters


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("base"))


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
