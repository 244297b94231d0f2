"""Texts are encoded as transformers encodes them, whole or in the middle of a chat."""

import json
from functools import cache
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GemmaTokenizer, LlamaTokenizerFast, PreTrainedTokenizerFast

from slm_math.policy.chat import ChatFormat
from slm_math.policy.scratch import Scratch
from slm_math.types import Chat, Reply, Text, assistant, user

TEXTS = [
    "What do 3 pens cost ?\nThey cost 12 dollars, so it is 12",
    "and 4 more pens ?",
    "It is 16 dollars .",
]
TALK = user(TEXTS[0]) + assistant(TEXTS[1] + "\n" + TEXTS[2]) + user("and 3 ?") + assistant("12")
HEADERS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token "
    "+ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
# blanks around replies, which the generation prompt does not have
INLINE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[Q] ' + m['content'] + "
    "' [/Q]' }}{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def trained(special: tuple[str, ...] = ("<unk>", "<s>", "</s>")) -> Tokenizer:
    """A byte-fallback BPE with "▁" for blanks, as SentencePiece makes them."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    every = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=every, show_progress=False)
    bpe.train_from_iterator(TEXTS * 3, trainer)
    bpe.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return bpe


def wrapped(bpe: Tokenizer) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@cache
def tokenizer(kind: str) -> Any:
    if kind == "gemma":
        model = json.loads(trained(("<pad>", "<eos>", "<bos>", "<unk>")).to_str())["model"]
        return GemmaTokenizer(
            vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], add_bos_token=True
        )
    bpe = trained()
    if kind.startswith("llama"):
        model = json.loads(bpe.to_str())["model"]
        return LlamaTokenizerFast(
            vocab=model["vocab"],
            merges=[tuple(m) for m in model["merges"]],
            legacy=kind == "llama legacy",
            add_bos_token=True,
        )
    if kind == "prepend":  # as Llama 2's tokenizer.json
        bpe.pre_tokenizer = None
        bpe.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
    return wrapped(bpe)


KINDS = ["first", "always", "never", "prepend", "llama", "llama legacy", "gemma"]


def format_of(kind: str, template: str) -> ChatFormat:
    own = tokenizer(kind)
    if template != "plain":
        own.chat_template = template
    return ChatFormat(own, "plain" if template == "plain" else None)


def by_transformers(chat: ChatFormat, talk: Chat, prompt: bool) -> list[int]:
    messages = [{"role": message.role, "content": message.text} for message in talk]
    return chat.tokenizer.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=prompt, return_dict=False
    )


@pytest.mark.parametrize("template", [HEADERS, INLINE, "plain"], ids=["headers", "inline", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_what_transformers_makes_of_the_whole_dialogue(kind: str, template: str) -> None:
    chat = format_of(kind, template)
    whole = by_transformers(chat, TALK, prompt=False)
    end = len(whole) - whole[::-1].index(chat.end_id)
    assert [ids for ids, _ in chat.dialogue(TALK)] == [whole[:end]]


@pytest.mark.parametrize("template", [HEADERS, INLINE, "plain"], ids=["headers", "inline", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_learned_goes_on_after_the_prompt_of_sampling(kind: str, template: str) -> None:
    chat = format_of(kind, template)
    [(ids, weights)] = chat.dialogue(TALK[:2])
    prompt = chat.encode(TALK[:1])
    assert prompt == by_transformers(chat, TALK[:1], prompt=True)
    assert ids[: len(prompt)] == prompt
    assert weights == [0.0] * len(prompt) + [1.0] * (len(ids) - len(prompt))


@pytest.mark.parametrize("template", [HEADERS, INLINE], ids=["headers", "inline"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sampled_reply_stays_in_the_next_prompt(kind: str, template: str) -> None:
    """A decoder that drops the first blank made the text of a reply unlike the one in the chat."""
    chat = format_of(kind, template)
    [(ids, _)] = chat.dialogue(TALK[:2])
    prompt = tuple(chat.encode(TALK[:1]))
    sampled = tuple(ids[len(prompt) :])
    reply = Reply(chat.text(sampled), sampled, (0.0,) * len(sampled), "stop", prompt)
    talk = TALK[:1] + assistant(reply) + TALK[2:3]
    assert chat.encode(talk) == by_transformers(chat, TALK[:3], prompt=True)
    assert chat.encode(talk)[: len(ids)] == ids


@pytest.mark.parametrize("kind", KINDS)
def test_injected_output_follows_without_a_blank_of_its_own(kind: str) -> None:
    chat = format_of(kind, HEADERS)
    talk = user("3 ?") + assistant("12 is", Text("\n16\n", learn=False), "more")
    [(ids, _)] = chat.dialogue(talk)
    assert chat.tokenizer.decode(ids).endswith("12 is\n16\nmore" + chat.end_text)


@pytest.mark.parametrize("kind", ["llama", "gemma"])
@pytest.mark.parametrize("template", ["plain", "chatml"])
def test_built_in_templates_begin_as_the_tokenizer_does(kind: str, template: str) -> None:
    own = tokenizer(kind)
    assert own("4")["input_ids"][0] == own.bos_token_id
    ids = ChatFormat(own, template).encode(user("4 pens"))
    assert ids[0] == own.bos_token_id
    assert ids.count(own.bos_token_id) == 1


@pytest.mark.parametrize("template", ["plain", "chatml"])
def test_no_bos_where_the_tokenizer_adds_none(template: str) -> None:
    own = tokenizer("first")  # it has one
    assert own.bos_token_id not in ChatFormat(own, template).encode(user("4 pens"))


def test_a_template_of_the_tokenizer_that_writes_no_bos_gets_none() -> None:
    own = tokenizer("llama")
    own.chat_template = HEADERS.removeprefix("{{ bos_token }}")
    assert own.bos_token_id not in ChatFormat(own).encode(user("4 pens"))


# what tokenizer.json and calls leave behind


def limited(**options: Any) -> Any:
    own = Scratch().tokenizer()
    own("1 2 3 4 5 6 7 8 9", truncation=True, max_length=6, **options)
    return own


LONG = user("How many beads are 7 beads and 8 beads ? " * 9) + assistant("15 beads")


@pytest.mark.parametrize("options", [{}, {"padding": "max_length"}])
def test_saved_truncation_and_padding_are_not_obeyed(tmp_path, options: dict[str, Any]) -> None:
    limited(**options).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    assert saved["truncation"]["max_length"] == 6
    loaded, plain = PreTrainedTokenizerFast.from_pretrained(tmp_path), Scratch().tokenizer()
    assert loaded.backend_tokenizer.truncation is not None
    for talk in (LONG, user("7 ?") + assistant("8")):
        chat = ChatFormat(loaded)
        assert chat.dialogue(talk) == ChatFormat(plain).dialogue(talk)
        assert chat.encode(talk[:1]) == ChatFormat(plain).encode(talk[:1])


def test_a_call_with_truncation_does_not_last() -> None:
    own = Scratch().tokenizer()
    chat = ChatFormat(own)
    before = chat.encode(LONG[:1])
    own("1 2 3", truncation=True, max_length=2, padding="max_length")
    own("1 2 3", split_special_tokens=True)
    assert chat.encode(LONG[:1]) == before


def test_an_exported_tokenizer_does_not_truncate(tmp_path) -> None:
    own = limited()
    ChatFormat(own)
    own.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    assert (saved["truncation"], saved["padding"]) == (None, None)


def test_merges_are_not_dropped_at_random() -> None:
    own = Scratch().tokenizer()
    before = ChatFormat(own).encode(LONG)
    own.backend_tokenizer.model.dropout = 0.5
    assert ChatFormat(own).encode(LONG) == before


def test_a_tokenizer_that_breaks_up_the_end_of_a_turn_is_refused() -> None:
    own = Scratch().tokenizer()
    own.split_special_tokens = True
    with pytest.raises(ValueError, match="remove split_special_tokens"):
        ChatFormat(own)
