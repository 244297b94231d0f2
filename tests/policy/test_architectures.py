"""Tiny models of several architectures: decoded and trained as a plain pass computes them, or
refused. scripts/check_models.py has all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import some
from tiny import SCRATCH
from transformers import LlamaForCausalLM

from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.policy.architectures import check_computation
from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Policy
from slm_math.policy.loading import load_model

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from model_checks.checks import check
from model_checks.models import MODELS, config_of, make

# a state of convolutions, of linear attention, of Mamba beside attention; heads that are scaled or
# capped; biases by position; windows; layers that share keys and values
REPRESENTATIVE = (
    "LFM2",
    "Qwen3.5",
    "Falcon-H1",
    "Bamba",
    "Mamba",
    "HyperCLOVA X",
    "Gemma 2",
    "Gemma 4",
    "BLOOM",
    "OPT",
)


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    torch.set_num_threads(1)
    return ChatFormat(SCRATCH.tokenizer())


@pytest.mark.parametrize("name", some(REPRESENTATIVE, REPRESENTATIVE[::2]))
def test_decoded_and_trained_as_a_plain_pass_computes(name: str, chat: ChatFormat) -> None:
    assert check(make(MODELS[name], chat.tokenizer), chat) == {}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("T5", "encoder-decoder"),
        ("BERT", "both directions"),
        ("RWKV", "form of its own"),
        ("RecurrentGemma", "form of its own"),
    ],
)
@pytest.mark.parametrize("use", [lambda path: Policy(path=path), CheckpointEngine])
def test_refused_by_its_config_alone(
    name: str, why: str, use: Any, chat: ChatFormat, tmp_path: Path
) -> None:
    config_of(MODELS[name], chat.tokenizer).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=why) as caught:
        use(str(tmp_path))
    assert MODELS[name].type in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_architecture_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "abacus"}', encoding="utf-8")
    with pytest.raises(ValueError, match="abacus") as caught:
        Policy(path=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_architecture_without_sdpa_is_loaded_with_eager(chat: ChatFormat, tmp_path: Path) -> None:
    make(MODELS["BLOOM"], chat.tokenizer).save_pretrained(tmp_path)
    assert load_model(str(tmp_path)).config._attn_implementation == "eager"


def test_model_that_decodes_otherwise_than_it_reads_is_refused(
    chat: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(MODELS["Llama"], chat.tokenizer)
    forward = LlamaForCausalLM.forward

    def forgetful(self: Any, cache: Any = None, **options: Any) -> Any:
        return forward(self, **options)

    check_computation("whole", model)
    monkeypatch.setattr(LlamaForCausalLM, "forward", forgetful)
    with pytest.raises(ValueError, match=r"model some/one \(llama\)"):
        check_computation("some/one", model)
