"""The engine's dealings with vLLM's core, with a core that only records its calls; no
vLLM needed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import save_file

from slm_math.engines import vllm_setup
from slm_math.engines.base import EngineError, Request, Weights
from slm_math.engines.vllm import VLLMEngine
from slm_math.engines.vllm_requests import Pending, check_request, sampling_fields
from slm_math.policy.chat import ChatFormat
from slm_math.policy.scratch import Scratch
from slm_math.types import Sampling, user


class Core:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> bool:
            self.calls.append(
                (name, *arguments, *(sorted(named) if name == "collective_rpc" else named.items()))
            )
            return True

        return call


@pytest.fixture
def chat() -> ChatFormat:
    return ChatFormat(Scratch().tokenizer())


@pytest.fixture
def engine(chat: ChatFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VLLMEngine:
    """A copy of a policy on a GPU that is shared with training."""
    monkeypatch.setattr(vllm_setup, "refusal", lambda found=None: None)
    (tmp_path / "config.json").write_text("{}")
    engine = VLLMEngine(str(tmp_path))
    engine.attach_policy(
        chat,
        frozenset({4}),
        options={"enable_sleep_mode": True},
        heartbeat=lambda: None,
    )
    engine._core, engine.limit, engine._mask_size = Core(), 512, 0
    return engine


WEIGHTS = Weights(tensors=lambda: [("a.weight", 1)])


def test_sleep_drops_weights_and_waking_sends_them(engine: VLLMEngine) -> None:
    engine.release()
    engine.update(7, WEIGHTS)
    assert [call[:2] for call in engine._core.calls] == [
        ("sleep", ("level", 2)),
        ("wake_up", ["weights"]),
        ("collective_rpc", "start_weight_update"),
        ("collective_rpc", "update_weights"),
        ("collective_rpc", "finish_weight_update"),
        ("wake_up", ["kv_cache"]),
        ("reset_prefix_cache",),
        ("set_weight_version", "7"),
    ]
    assert engine.version == 7


def test_fixed_weights_are_sent_once_unless_sleep_drops_them(engine: VLLMEngine) -> None:
    sent: list[str] = []

    def rpc(name: str, kwargs: Any = None) -> None:
        if kwargs is not None:
            sent.append(kwargs["update_info"]["part"])

    engine._core.collective_rpc = rpc
    weights = replace(WEIGHTS, fixed=lambda: [("tower.weight", 2)])
    for version in range(2):
        engine.update(version, weights)
    engine.release()
    engine.update(2, weights)
    assert sent == ["fixed", "rest", "rest", "fixed", "rest"]


def test_features_of_images_are_forgotten_with_the_weights_that_made_them(
    engine: VLLMEngine,
) -> None:
    engine.chat.images = True
    engine.update(1, WEIGHTS)
    assert [call[0] for call in engine._core.calls[-3:]] == [
        "reset_prefix_cache",
        "reset_encoder_cache",
        "set_weight_version",
    ]


def test_asleep_it_takes_no_requests(engine: VLLMEngine) -> None:
    engine.release()
    with pytest.raises(EngineError, match=r"call update\(\) before submit"):
        engine.submit(Request(user("x"), Sampling()))


def test_release_twice_sleeps_once(engine: VLLMEngine) -> None:
    engine.release()
    engine.release()
    assert len(engine._core.calls) == 1


def test_without_a_shared_gpu_it_does_not_sleep(engine: VLLMEngine) -> None:
    engine._policy_options = {}
    engine.release()
    assert engine._core.calls == []


def test_every_update_is_verified(engine: VLLMEngine) -> None:
    def no_copy(answer: Any) -> None:
        raise EngineError("other log-probabilities")

    engine._verify = no_copy
    with pytest.raises(EngineError, match="other log-probabilities"):
        engine.update(1, WEIGHTS)


def test_no_weights_at_all_are_an_error(engine: VLLMEngine) -> None:
    with pytest.raises(EngineError, match="no weights to load"):
        engine.update(1, Weights())


def test_errors_of_vllm_are_reported(engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **named: Any) -> None:
        raise AssertionError("shape")

    monkeypatch.setattr(engine._core, "collective_rpc", broken, raising=False)
    with pytest.raises(EngineError, match="AssertionError: shape"):
        engine.update(1, WEIGHTS)


def test_a_cache_that_stays_is_an_error(
    engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine._core, "reset_prefix_cache", lambda: False, raising=False)
    with pytest.raises(EngineError, match="prefix cache"):
        engine.update(1, WEIGHTS)


# what is asked where vLLM reports what could be sampled: it then refuses greedy requests and
# top_k 0


@pytest.mark.parametrize(
    ("sampling", "temperature", "top_k"),
    [
        (Sampling(0.0), 1.0, 1),
        (Sampling(1.0), 1.0, 531),
        (Sampling(0.5, top_k=7), 0.5, 7),
        (Sampling(top_p=0.9), 1.0, 531),
    ],
)
def test_requests_under_masks(
    chat: ChatFormat, sampling: Sampling, temperature: float, top_k: int
) -> None:
    pending = Pending(Request(user("x"), sampling), (1, 2), "", 5)
    _, values = sampling_fields(pending, chat, {4}, mask_size=531)
    assert (values["temperature"], values["top_k"]) == (temperature, top_k)


def test_requests_without_masks_are_unchanged(chat: ChatFormat) -> None:
    pending = Pending(Request(user("x"), Sampling(0.0)), (1, 2), "", 5)
    _, values = sampling_fields(pending, chat, {4})
    assert (values["temperature"], values["top_k"]) == (0.0, 0)


def test_training_under_truncation_needs_masks() -> None:
    request = Request(user("x"), Sampling(top_p=0.9), support=True)
    with pytest.raises(ValueError, match="top_p"):
        check_request(request)
    check_request(request, mask_size=531)


def test_temperatures_that_vllm_would_raise_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.01"):
        check_request(Request(user("x"), Sampling(0.001)))
    check_request(Request(user("x"), Sampling(0.0)))


def test_adapter_folder_may_be_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vllm_setup, "refusal", lambda found=None: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "owner/x", "peft_type": "LORA", "r": 12}'
    )
    save_file({}, tmp_path / "adapter" / "adapter_model.safetensors")
    text = SimpleNamespace(
        max_position_embeddings=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        hidden_size=8,
        vocab_size=9,
    )
    config = SimpleNamespace(get_text_config=lambda: text)
    found = VLLMEngine("~/adapter")._options(config, "x")
    assert (found["max_lora_rank"], found["enable_lora"]) == (16, True)
