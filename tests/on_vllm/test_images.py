"""Pictures beside token ids: a tiny Idefics3 on vLLM against transformers."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from on_vllm.checks import NEEDS_VLLM

from slm_math.engines.base import EngineError, Request
from slm_math.types import Image, Reply, Sampling, assistant, user

pytestmark = NEEDS_VLLM
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['content'] is string %}{{ m['content'] "
    "}}{% else %}"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% "
    "endif %}{% endfor %}"
    "{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from PIL import Image as Pillow
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        Idefics3Processor,
    )

    from slm_math.policy.scratch import Scratch

    root = tmp_path_factory.mktemp("images")
    tokenizer = Scratch().tokenizer()
    marks = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    marks += [f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2)]
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [*tokenizer.all_special_tokens, *marks]}
    )
    tokenizer.chat_template = TEMPLATE
    text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
    }
    text |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    text |= {"max_position_embeddings": 512, "eos_token_id": tokenizer.eos_token_id}
    text |= {"pad_token_id": tokenizer.pad_token_id}
    vision = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = Idefics3Config(
        vision_config=vision | {"image_size": 56, "patch_size": 14},
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = Idefics3ForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        parameter.data *= 4 if parameter.ndim > 1 else 1
    size = {"longest_edge": 56}
    image_processor = Idefics3ImageProcessorPil(
        size=size, max_image_size=size, do_image_splitting=False
    )
    processor = Idefics3Processor(
        image_processor, tokenizer, image_seq_len=4, chat_template=TEMPLATE
    )
    for part in (model, processor, tokenizer):
        part.save_pretrained(root / "model")
    for name, color in (("red", (200, 30, 30)), ("green", (10, 200, 30))):
        Pillow.new("RGB", (40, 40), color).save(root / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def answers(folder: Path) -> Any:
    from slm_math.engines.vllm import VLLMEngine

    engine = VLLMEngine(str(folder / "model"), slots=4)

    def ask(*requests: Request) -> list[Any]:
        tickets = [engine.submit(request) for request in requests]
        found: dict[int, Any] = {}
        while engine.busy:
            found |= dict(engine.poll(1.0))
        return [found[ticket] for ticket in tickets]

    ask.chat = lambda: engine.chat  # type: ignore[attr-defined]
    yield ask
    engine.close()


def gap(folder: Path, answers: Any, reply: Reply, sources: list[str]) -> float:
    """nats between the reply's log-probabilities and those of transformers, which expands the
    placeholders itself.
    """
    import torch
    from PIL import Image as Pillow
    from transformers import AutoProcessor, Idefics3ForConditionalGeneration

    model = Idefics3ForConditionalGeneration.from_pretrained(
        folder / "model", dtype=torch.float32
    ).eval()
    processor = AutoProcessor.from_pretrained(folder / "model")
    images = [Pillow.open(path).convert("RGB") for path in sources]
    mark = processor.tokenizer.convert_tokens_to_ids("<image>")
    block = processor(images=images[:1], text="<image>")["input_ids"][0] if images else []
    prompt = [i for token in reply.prompt_ids for i in (block if token == mark else [token])]
    batch = (
        processor(images=images, text="<image>" * len(images), return_tensors="pt")
        if images
        else {}
    )
    batch["input_ids"], start = torch.tensor([[*prompt, *reply.token_ids]]), len(prompt)
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    with torch.no_grad():
        logits = model(**batch).logits[0]
    # what stands for images is never sampled
    never = ("<image>", "<fake_token_around_image>", "<global-img>", "<row_")
    vocabulary = processor.tokenizer.get_vocab()
    logits[:, [id for text, id in vocabulary.items() if text.startswith(never)]] = -torch.inf
    logps = logits.log_softmax(-1)
    want = logps[torch.arange(start - 1, start - 1 + len(reply.token_ids)), list(reply.token_ids)]
    return (want - torch.tensor(reply.logprobs)).abs().max().item()


def sampled(chat: Any, number: int) -> Request:
    return Request(chat, Sampling(1.0, max_new_tokens=6), key=(number,))


def test_log_probabilities_are_those_of_the_model_that_sees_the_image(
    folder: Path, answers: Any
) -> None:
    red, green = str(folder / "red.png"), str(folder / "green.png")
    replies = answers(*(sampled(user("What color?", [Image(path)]), 1) for path in (red, green)))
    assert (
        max(gap(folder, answers, reply, [path]) for reply, path in zip(replies, (red, green)))
        <= 1e-5
    )
    assert gap(folder, answers, replies[0], [green]) > 1e-4  # the image matters
    assert replies[0].prompt_ids == replies[1].prompt_ids  # one placeholder each


def test_second_turn_keeps_the_image_and_the_ids(folder: Path, answers: Any) -> None:
    red, green = str(folder / "red.png"), str(folder / "green.png")
    chat = user("What?", [Image(red)])
    [first] = answers(sampled(chat, 2))
    longer = (*chat, *assistant(first), *user("And this?", [Image(green)]))
    [second] = answers(sampled(longer, 3))
    assert second.prompt_ids[: len(first.prompt_ids)] == first.prompt_ids
    assert gap(folder, answers, second, [red, green]) <= 1e-5


def test_data_urls_and_text_alone(folder: Path, answers: Any) -> None:
    red = folder / "red.png"
    url = "data:image/png;base64," + base64.b64encode(red.read_bytes()).decode()
    replies = answers(*(sampled(user("Which?", [Image(source)]), 4) for source in (str(red), url)))
    assert replies[0].token_ids == replies[1].token_ids
    [plain] = answers(sampled(user("Which?"), 5))
    assert gap(folder, answers, plain, []) <= 1e-5


@pytest.mark.parametrize(
    "source", ["no-such-file.png", "https://example.com/x.png", "data:image/png;base64,AAAA"]
)
def test_image_that_cannot_be_read_is_that_requests_error(answers: Any, source: str) -> None:
    bad, good = answers(sampled(user("x", [Image(source)]), 6), sampled(user("y"), 7))
    assert isinstance(bad, EngineError)
    assert isinstance(good, Reply)


def test_text_cannot_pose_as_an_image(folder: Path, answers: Any) -> None:
    [reply] = answers(sampled(((user("<image> look")[0]),), 8))
    assert isinstance(reply, Reply)
    assert answers.chat().tokenizer.convert_tokens_to_ids("<image>") not in reply.prompt_ids
