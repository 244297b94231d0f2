"""The options of a policy with eyes: what is trained, what an image costs, what is saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import some
from seeing import FAMILIES, SEEING, ask, drawing, drawings, engine_of, model_of
from tiny import SCRATCH, model_folder

from slm_math.engines.base import EngineError, Request
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.engines.vllm_requests import BAN, prepare, sampling_fields
from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy
from slm_math.policy.loading import load_model
from slm_math.policy.sight import NEVER, Sight, named_eyes, sight_of
from slm_math.policy.targets import target_names
from slm_math.policy.weights import tensors
from slm_math.types import Image, Sampling, assistant, user

QWEN = Policy(scratch=replace(SEEING, vision="qwen2_5_vl"))


def exported(policy: Policy, folder: Path) -> Path:
    loaded = policy.load()
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.mul_(3.0) if parameter.ndim > 1 else None
    export_policy(loaded, policy.chat(), folder)
    return folder


@pytest.mark.parametrize("eyes", some(FAMILIES[:-1], ["qwen2_5_vl", "idefics3"]))
def test_export_says_what_the_policy_says(eyes: Any, tmp_path: Path) -> None:
    policy = Policy(scratch=replace(SEEING, vision=eyes), vision="trained")
    folder = exported(policy, tmp_path / "export")
    assert (folder / "preprocessor_config.json").is_file()
    image = drawing(tmp_path, "one", (84, 84), 1)
    again = Policy(path=str(folder))
    loaded, chat = again.load(), again.chat()
    assert chat.encode(user("Go", [image])) == policy.chat().encode(user("Go", [image]))
    [reply] = ask(engine_of(loaded.model, chat), [user("Go", [image])])
    served = CheckpointEngine(str(folder))
    [same] = ask(served, [user("Go", [image])])
    assert reply.token_ids == same.token_ids
    assert reply.logprobs == same.logprobs


def test_limit_of_pixels_is_part_of_an_export_and_of_an_adapter(tmp_path: Path) -> None:
    image = drawing(tmp_path, "one", (84, 84), 1)
    assert QWEN.chat().sight.shape(image) == (3, 3)
    small = replace(QWEN, max_pixels=56 * 56)
    assert small.chat().sight.shape(image) == (2, 2)
    folder = exported(small, tmp_path / "export")
    assert Policy(path=str(folder)).chat().sight.shape(image) == (2, 2)
    whole = exported(QWEN, tmp_path / "whole")
    adapted = Policy(path=str(whole), lora=Lora(r=2), max_pixels=56 * 56)
    adapter = exported(adapted, tmp_path / "adapter")
    assert Policy(path=str(adapter)).chat().sight.shape(image) == (2, 2)
    assert sight_of(load_model(str(adapter))).shape(image) == (2, 2)


@pytest.mark.parametrize(("eyes", "match"), [("qwen2_vl", "28 x 28"), ("idefics3", "84 x 84")])
def test_limit_below_one_token_is_refused(eyes: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        Policy(scratch=replace(SEEING, vision=eyes), max_pixels=500).chat()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"vision": "trained"}, {"max_pixels": 5000}])
def test_options_of_eyes_are_refused_without_eyes(options: Any, tmp_path: Path) -> None:
    for policy in ({"scratch": SCRATCH}, {"path": str(model_folder(tmp_path))}):
        with pytest.raises(ValueError, match="is for a model with eyes"):
            Policy(**policy, **options)


def test_adapters_stay_away_from_the_tower_unless_it_is_trained() -> None:
    loaded = QWEN.load()
    tower = [name for _, eyes in named_eyes(loaded.model) for name, _ in eyes.named_modules()]
    names = {name.rpartition(".")[2] for name in tower}
    assert "gate_proj" in names  # the decoder has one, too
    for targets in ("attention", "all-linear", "gate_proj", ("q_proj", "down_proj")):
        policy = replace(QWEN, lora=Lora(r=2, targets=targets))
        adapted = policy.load().trainable
        assert adapted
        assert not any("visual" in name for name in adapted)
        both = replace(policy, vision="trained").load().trainable
        wanted = targets != ("q_proj", "down_proj") or "down_proj" in names
        assert any("visual" in name for name in both) == wanted
        assert set(adapted) < set(both)
    with pytest.raises(ValueError, match="make features of images"):
        target_names(loaded.model, ["visual.blocks.0.mlp.gate_proj"])


def test_adapters_in_the_tower_are_followed(tmp_path: Path) -> None:
    """Features with adapters are none without them, and are never remembered for others."""
    policy = replace(QWEN, lora=Lora(r=2, dropout=0.0, targets="all-linear"), vision="trained")
    loaded, chat = policy.load(), policy.chat()
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.normal_(std=0.5)
    image = drawing(tmp_path, "one", (84, 84), 1)
    [own] = ask(engine_of(loaded.model, chat), [user("Go", [image])], temperature=1.0)
    with loaded.model.disable_adapter():
        [base] = ask(engine_of(loaded.model, chat), [user("Go", [image])], temperature=1.0)
    assert own.logprobs != base.logprobs


def test_quantization_leaves_eyes_and_head_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from slm_math.policy.config import _whole

    for eyes, names in (("qwen2_vl", {"model.visual"}), ("idefics3", {"model.vision_model"})):
        config = replace(SEEING, vision=eyes).model(replace(SEEING, vision=eyes).tokenizer()).config
        skipped = _whole(config)["llm_int8_skip_modules"]
        assert names <= set(skipped)
        assert "lm_head" in skipped
    assert _whole(SCRATCH.model(SCRATCH.tokenizer()).config) == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_are_known_before_pixels_are_read(family: str, tmp_path: Path) -> None:
    sight = model_of(family)[1].sight
    for n, size in enumerate(((84, 84), (300, 200), (200, 300), (7, 90), (431, 85), (85, 431))):
        image = drawing(tmp_path, f"image{n}", size, n)
        assert sight.view.pixels(image.source)[1] == sight.shape(image), size


def test_tokens_of_tiles_are_those_of_transformers(tmp_path: Path) -> None:
    """A large image as rows and columns of tiles, with their marks, and the whole."""
    from transformers import Idefics3Processor

    _, chat = model_of("smolvlm")
    sight: Sight = chat.sight
    processor = Idefics3Processor(sight.view.processor, chat.tokenizer, image_seq_len=9)
    for size in ((84, 84), (150, 60), (40, 130)):
        image = drawing(tmp_path, "one", size, 1)
        from slm_math.images import open_image

        made = processor(images=[open_image(image.source)], text="<image>")
        own = sight.seen([[sight.placeholder_id]], [[image]]).ids[0].tolist()
        assert own == made["input_ids"][0]


def test_placeholders_without_images_are_an_error(tmp_path: Path) -> None:
    _, chat = model_of("qwen2_vl")
    image = drawing(tmp_path, "one", (84, 84), 1)
    with pytest.raises(ValueError, match="shows 2 images and has 1 placeholders"):
        chat.sight.seen([[3, chat.sight.placeholder_id, 4]], [[image, image]])


def test_problem_with_a_broken_image_fails_alone(tmp_path: Path) -> None:
    model, chat = model_of("qwen2_vl")
    (tmp_path / "bad.png").write_bytes(b"no image")
    image = drawing(tmp_path, "one", (84, 84), 1)
    asked = [user("Go", [Image(str(tmp_path / "bad.png"))]), user("Go", [image])]
    bad, good = ask(engine_of(model, chat), asked)
    assert isinstance(bad, EngineError)
    assert "bad.png" in str(bad)
    assert good.token_ids


def test_prompt_without_room_for_its_images_is_context_full(tmp_path: Path) -> None:
    model, chat = model_of("qwen2_vl")
    model.config.text_config.max_position_embeddings = 30
    a, b, *_ = drawings(tmp_path)
    one, both = ask(engine_of(model, chat), [user("Go", [a]), user("Go", [a, b, a])])
    assert one.token_ids
    assert "tokens, 25 of them for images, the model's context holds 30" in str(both)


def test_text_cannot_pose_as_an_image(tmp_path: Path) -> None:
    _, chat = model_of("qwen2_vl")
    ids = chat.encode(user("<|vision_start|><|image_pad|><|vision_end|>"))
    assert not set(chat.sight.banned) & set(ids)


def test_templates_that_write_only_parts_are_taken(tmp_path: Path) -> None:
    """As that of SmolVLM, which writes nothing of a content that is a mere text."""
    template = tmp_path / "parts.jinja"
    template.write_text(
        "{% for m in messages %}<|{{ m['role'] }}|>{% for p in m['content'] %}{% if p['type'] == "
        "'text' %}{{ p['text'] }}{% elif p['type'] == 'image' %}<|image_pad|>{% endif %}"
        "{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    chat = replace(QWEN, chat_template=str(template)).chat()
    image = drawing(tmp_path, "one", (84, 84), 1)
    assert chat.render(user("Go", [image])) == "<|user|><|image_pad|>Go<|end|><|assistant|>"
    assert chat.render(user("Go") + assistant("ok")) == "<|user|>Go<|end|><|assistant|>ok<|end|>"
    assert chat.end_text == "<|end|>"


def test_tokens_of_images_have_no_probability_in_engine_and_trainer(tmp_path: Path) -> None:
    from slm_math.policy.forward import language_head

    model, chat = model_of("qwen3_vl")
    logits = language_head(model)(torch.randn(3, model.config.text_config.hidden_size))
    assert (logits[:, list(chat.sight.banned)] == NEVER).all()
    assert torch.tensor(NEVER).exp() == 0
    sampling = Sampling(100.0, max_new_tokens=1, top_k=5)
    request = Request(user("Go"), sampling, key=(1,), support=True)
    engine = engine_of(model, chat)
    engine.submit(request)
    [(_, reply)] = engine.poll(5)
    support = torch.frombuffer(bytearray(reply.support[0]), dtype=torch.int32).tolist()
    assert not set(support) & set(chat.sight.banned)


def test_tokens_of_images_are_banned_in_vllm() -> None:
    _, chat = model_of("qwen2_vl")
    request = Request(user("Go"), Sampling(max_new_tokens=4, not_first=("a",)))
    bias = sampling_fields(prepare(chat, request, 100), chat, ends=[4])[1]["logit_bias"]
    assert set(bias) == {*chat.sight.banned, *chat.first_ids("a")}
    assert set(bias.values()) == {BAN}


def test_tokenizer_of_models_of_text_is_as_it_was() -> None:
    own, seeing = SCRATCH.tokenizer(), SEEING.tokenizer()
    assert len(own) == 531
    assert "<|image_pad|>" not in own.get_vocab()
    assert ChatFormat(own).tokens("17+25") == own("17+25", add_special_tokens=False)["input_ids"]
    assert "<|image_pad|>" in seeing.get_vocab()


@pytest.mark.parametrize("vision", ["frozen", "trained"])
def test_a_frozen_tower_is_what_an_engine_gets_once(vision: Any) -> None:
    loaded = replace(QWEN, vision=vision).load()
    tower = {f"model.visual.{name}" for name, _ in loaded.model.model.visual.named_parameters()}
    once, always = ({name for name, _ in tensors(loaded, trained)} for trained in (False, True))
    assert once == (tower if vision == "frozen" else set())
    assert once | always == {name for name, _ in loaded.model.named_parameters()}
    assert not once & always


@pytest.mark.parametrize("kind", ["scratch", "folder"])
def test_image_processor_that_needs_torchvision_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As transformers 5.17 says where torchvision is missing."""
    import transformers

    def lacks(*args: Any, **kwargs: Any) -> None:
        raise ImportError("\nIdefics3ImageProcessorPil requires the Torchvision library but it was")

    policy = Policy(scratch=replace(SEEING, vision="idefics3"))
    if kind == "folder":
        policy = Policy(path=str(exported(policy, tmp_path / "model")))
    monkeypatch.setattr(transformers, "Idefics3ImageProcessorPil", lacks)
    monkeypatch.setattr(transformers.AutoImageProcessor, "from_pretrained", lacks)
    with pytest.raises(ValueError, match=r"needs torchvision with .* install torchvision, or"):
        policy.chat()
