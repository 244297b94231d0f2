"""The policy against plain forward passes of transformers models, and its adapters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import LORA, SCRATCH, model_folder
from transformers import AutoModelForCausalLM

from slm_math.data.rows import Row
from slm_math.policy.batches import Batch, collate
from slm_math.policy.config import Lora, Policy
from slm_math.policy.loaded import LoadedPolicy, batch_logprobs, loss_states

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "initializer_range": 0.5,  # far from uniform, so that scales and caps matter
    "pad_token_id": 0,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "llama": {"tie_word_embeddings": True},
    "gemma2": {
        "final_logit_softcapping": 3.0,
        "attn_logit_softcapping": 5.0,
        "query_pre_attn_scalar": 4,
    },
    "granite": {"logits_scaling": 4.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    "cohere": {"logit_scale": 0.25},
}
TWO = Lora(r=2, dropout=0.0)


def referred(policy: Policy, roles: tuple[str, ...] = ("solver",)) -> LoadedPolicy:
    """The loaded policy with its reference."""
    loaded = policy.load(roles)
    policy.keep_reference(loaded)
    return loaded


def batch(role: str = "solver") -> Batch:
    rows = [
        Row([5, 6, 7, 8, 9, 10], [0, 0, 1, 1, 0, 1], [0.0] * 6, temperature=0.7, role=role),
        Row([11, 12, 13], [0, 1, 1], [0.0] * 3, role=role),
    ]
    return collate(rows)


def plain_logprobs(model: Any) -> torch.Tensor:
    """The log-probabilities of the batch's loss tokens, one row at a time without padding."""
    first = (model(torch.tensor([[5, 6, 7, 8, 9, 10]])).logits[0] / 0.7).log_softmax(-1)
    second = model(torch.tensor([[11, 12, 13]])).logits[0].log_softmax(-1)
    return torch.stack([first[1, 7], first[2, 8], first[4, 10], second[0, 12], second[1, 13]])


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_logprobs_are_those_of_a_plain_forward_pass(kind: str) -> None:
    from transformers import AutoConfig

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **(SMALL | ARCHITECTURES[kind]))
    )
    model.eval()
    made = batch()
    logps, entropy, _ = batch_logprobs(model, made, loss_states(model, made), "value")
    want = plain_logprobs(model)
    assert torch.allclose(logps, want, atol=1e-5)
    assert want.std() > 0.1
    assert (entropy > 0).all()


# the reference


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter folder whose adapter does something."""
    folder = tmp_path_factory.mktemp("adapter")
    loaded = Policy(path=str(base), lora=Lora(r=2, dropout=0.1)).load()
    stir(loaded)
    loaded.model.save_pretrained(folder)
    SCRATCH.tokenizer().save_pretrained(folder)
    return folder


@torch.no_grad()
def stir(loaded: LoadedPolicy, role: str | None = None) -> None:
    """Moves what learns."""
    torch.manual_seed(1)
    for parameter in loaded.parameters(role):
        parameter += 0.1 * torch.randn_like(parameter)


@pytest.fixture(
    params=["full", "fresh adapter", "continued adapter", "two adapters", "two continued adapters"]
)
def policy(
    request: pytest.FixtureRequest, base: Path, adapter: Path
) -> tuple[Callable[[], LoadedPolicy], str]:
    two = ("solver", "verifier")
    kinds: dict[str, Callable[[], LoadedPolicy]] = {
        "full": lambda: referred(Policy(scratch=SCRATCH)),
        "fresh adapter": lambda: referred(Policy(path=str(base), lora=TWO)),
        "continued adapter": lambda: referred(Policy(path=str(adapter))),
        "two adapters": lambda: referred(Policy(path=str(base), lora=TWO), two),
        "two continued adapters": lambda: referred(Policy(path=str(adapter)), two),
    }
    return kinds[request.param], request.param


def test_reference_is_where_training_starts_and_stays_there(policy: Any) -> None:
    load, _ = policy
    loaded = load()
    loaded.model.eval()
    for role in loaded.adapters or ["solver"]:
        before = loaded.logprobs(batch(role), reference=True)[0]
        assert torch.equal(before, loaded.logprobs(batch(role))[0])
        stir(loaded, role)
        assert torch.equal(before, loaded.logprobs(batch(role), reference=True)[0])
        assert (before - loaded.logprobs(batch(role))[0]).abs().max() > 1e-2


def test_continued_policy_starts_with_its_adapter(base: Path, adapter: Path) -> None:
    from peft import PeftModel

    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    loaded = referred(Policy(path=str(adapter)), ("solver", "verifier"))
    loaded.model.eval()
    for role in ("solver", "verifier"):
        assert torch.allclose(loaded.logprobs(batch(role))[0], plain_logprobs(plain), atol=1e-5)


def test_what_learns_is_fixed_whatever_is_switched(policy: Any) -> None:
    load, kind = policy
    loaded = load()
    names = set(loaded.trainable)
    assert all("lora_" in name for name in names) == (kind != "full")
    for role in loaded.adapters or ["solver"]:
        loaded.logprobs(batch(role))
        loaded.logprobs(batch(role), reference=True)
        assert {name for name, p in loaded.model.named_parameters() if p.requires_grad} == names
    assert not any(".reference." in name for name in names)


@pytest.mark.parametrize("role", ["solver", "verifier"])
def test_gradient_reaches_the_adapter_of_its_role_only(role: str) -> None:
    loaded = referred(Policy(scratch=SCRATCH, lora=TWO), ("solver", "verifier"))
    stir(loaded)
    loaded.logprobs(batch(role), reference=True)
    loaded.logprobs(batch(role))[0].sum().backward()
    got = {
        name
        for name, p in loaded.model.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert got == {name for name in loaded.trainable if f".@{role}." in name}
    assert {id(p) for p in loaded.parameters(role)} == {
        id(dict(loaded.model.named_parameters())[n]) for n in got
    }


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        policy = Policy(scratch=SCRATCH, lora=TWO, gradient_checkpointing=checkpointing)
        loaded = policy.load(("solver", "verifier"))
        stir(loaded)
        with loaded.use("verifier"):
            loaded.logprobs(batch("verifier"))[0].sum().backward()
        gradients.append([p.grad for p in loaded.parameters("verifier")])
    for one, other in zip(*gradients):
        assert torch.allclose(one, other, atol=1e-6)
        assert one.abs().sum() > 0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_continued_adapter_is_recomputed_also_with_a_reference(
    adapter: Path, checkpointing: bool
) -> None:
    loaded = referred(Policy(path=str(adapter), gradient_checkpointing=checkpointing))
    assert loaded.model.training
    assert all(module.training for module in loaded.model.modules())
    calls: list[int] = []
    layer = loaded.model.get_base_model().model.layers[0].mlp
    layer.register_forward_pre_hook(lambda *args: calls.append(1))
    loaded.logprobs(batch())[0].sum().backward()
    assert len(calls) == 1 + checkpointing


def test_policy_without_trainable_parameters_is_an_error() -> None:
    frozen = SCRATCH.model(SCRATCH.tokenizer()).requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameters"):
        LoadedPolicy(frozen, {})


def test_weights_are_float32_whatever_the_checkpoint_holds(tmp_path: Path) -> None:
    tokenizer = SCRATCH.tokenizer()
    SCRATCH.model(tokenizer).bfloat16().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = Policy(path=str(tmp_path)).load()
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert loaded.model.training


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "path .* or policy.scratch"),
    "both": ({"path": "a/b", "scratch": SCRATCH}, "path .* or policy.scratch"),
    "no folder": ({"path": "./nowhere"}, "does not exist"),
    "nf4 without adapters": ({"scratch": SCRATCH, "quantize": "nf4"}, "policy.lora"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_policy_is_refused_before_anything_loads(kind: str) -> None:
    options, message = WRONG[kind]
    with pytest.raises(ValueError, match=message):
        Policy(**options)


def test_adapter_on_an_adapter_is_refused(adapter: Path) -> None:
    with pytest.raises(ValueError, match=r"remove it \(--model\.policy\.lora null\)"):
        Policy(path=str(adapter), lora=LORA)
