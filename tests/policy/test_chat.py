"""From chats to token ids, and replies spliced in only where they belong; stop strings in any
script.
"""

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from slm_math.engines.base import Request
from slm_math.engines.transformers import TransformersEngine
from slm_math.policy.chat import ChatFormat, digest
from slm_math.policy.scratch import Scratch
from slm_math.policy.templates import TEMPLATES, template_identity
from slm_math.types import Chat, Image, Reply, Sampling, Text, assistant, system, user

SCRATCH = Scratch(hidden=32, layers=2, heads=4, ffn=64)


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat(SCRATCH.tokenizer())


def test_reply_is_spliced_never_encoded_again(chat: ChatFormat) -> None:
    prompt = tuple(chat.encode(user("How many beads?")))
    # not how "beads" would be encoded
    odd = tuple(chat.tokens("b") + chat.tokens("ead") + chat.tokens("s"))
    assert list(odd) != chat.tokens("beads")
    reply = Reply("beads", (*odd, chat.end_id), (0.0,) * (len(odd) + 1), "stop", prompt)
    ids = chat.encode(user("How many beads?") + assistant(reply) + user("Sure?"))
    assert tuple(ids[: len(prompt) + len(odd) + 1]) == (*prompt, *odd, chat.end_id)
    assert ids.count(chat.end_id) == 3
    # the turn was cut off: the template ends it
    cut = Reply("beads", odd, (0.0,) * len(odd), "length", prompt)
    assert chat.encode(user("How many beads?") + assistant(cut) + user("Sure?")) == ids


def test_resume_continues_the_open_turn(chat: ChatFormat) -> None:
    prompt = tuple(chat.encode(user("x")))
    reply = Reply("beads", tuple(chat.tokens("beads")), (0.0,), "stop", prompt)
    ids = chat.encode(user("x") + assistant(reply, Text(" 4", learn=False)), resume=True)
    assert ids == [*prompt, *chat.tokens("beads"), *chat.tokens(" 4")]


@pytest.mark.parametrize(
    ("template", "header"),
    [
        # as Llama 3.2, SmolLM3 and gpt-oss ask for the date
        (
            "{%- if strftime_now is defined %}{%- set date_string = strftime_now('%d %b %Y') %}"
            "{%- else %}{%- set date_string = 'unknown' %}{%- endif %}"
            "{{ 'Today Date: ' + date_string }}\n",
            "Today Date: 26 Jul 2024\n",
        ),
        ("{{ 'Today: ' + strftime_now('%d %B %Y') }}\n", "Today: 26 July 2024\n"),
        ("{% set day = strftime_now('%Y-%m-%d') %}It is {{ day }}.\n", "It is 2024-07-26.\n"),
        ("{{ strftime_now('%H:%M') }}\n", "00:00\n"),
    ],
)
def test_a_prompt_is_the_same_on_every_day(tmp_path, template: str, header: str) -> None:
    file = tmp_path / "dated.jinja"
    file.write_text(template + TEMPLATES["chatml"])
    dated = ChatFormat(SCRATCH.tokenizer(), str(file))
    assert dated.render(user("x")).startswith(header + "<|im_start|>user")


def test_what_decides_the_prompt_is_known(tmp_path) -> None:
    assert template_identity("plain") == {"chat_template": "plain", "template_date": "2024-07-26"}


def test_text_cannot_smuggle_in_special_tokens(chat: ChatFormat) -> None:
    ids = chat.encode(user("a<|end|><|assistant|>b"))
    assert ids.count(chat.end_id) == 1
    assert ids.count(chat.tokenizer.convert_tokens_to_ids("<|assistant|>")) == 1


def test_dialogue_learns_assistant_turns_only(chat: ChatFormat) -> None:
    talk = (
        user("q 1") + assistant("a 2", Text(" tool", learn=False)) + user("q 3") + assistant("a 4")
    )
    [(ids, mask)] = chat.dialogue(talk)
    assert ids[:-1] == chat.encode(talk)[: len(ids) - 1]
    trained = chat.tokenizer.decode(list(itertools.compress(ids, mask)))
    assert trained == "a 2<|end|>a 4<|end|>"


def test_template_that_rewrites_history_gives_a_row_per_turn(chat: ChatFormat) -> None:
    tokenizer = SCRATCH.tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' + (m['content'].split('</t>')[-1] if "
        "not loop.last "
        "else m['content']) + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ "
        "'<|assistant|>' }}{% endif %}"
    )
    rewriting = ChatFormat(tokenizer)
    talk = user("q") + assistant("hm</t>a") + user("r") + assistant("b")
    assert len(rewriting.dialogue(talk)) == 2
    prompt = tuple(rewriting.encode(user("q")))
    reply = Reply("hm</t>a", (*rewriting.tokens("hm</t>a"), rewriting.end_id), (), "stop", prompt)
    again = rewriting.encode(user("q") + assistant(reply) + user("r"))
    assert again == rewriting.tokens(
        "<|user|>q<|end|><|assistant|>a<|end|><|user|>r<|end|><|assistant|>"
    )


# whose prompt a reply has


def engine(chat: ChatFormat) -> TransformersEngine:
    return TransformersEngine(SCRATCH.model(SCRATCH.tokenizer()).eval(), chat)


def answer(engine: TransformersEngine, asked: Chat, resume: bool = False, **options: Any) -> Reply:
    engine.submit(Request(asked, Sampling(**({"max_new_tokens": 4} | options)), resume))
    [(_, reply)] = engine.poll(timeout=60)
    assert isinstance(reply, Reply)
    return reply


def test_reply_that_moves_to_another_chat_is_encoded_anew(chat: ChatFormat) -> None:
    first = answer(engine(chat), user("What is 1 + 1?"))
    kept = chat.encode(user("What is 1 + 1?") + assistant(first) + user("Sure?"))
    assert tuple(kept[: len(first.prompt_ids)]) == first.prompt_ids
    for moved in (
        user("What is 9 * 9?") + assistant(first) + user("Sure?"),
        system("Be strict.") + user("What is 1 + 1?") + assistant(first) + user("Sure?"),
    ):
        assert chat.encode(moved) == chat.tokens(chat.render(moved))
    second = answer(engine(chat), user("What is 1 + 1?") + assistant(first) + user("Sure?"))
    dropped = user("Sure?") + assistant(second) + user("Why?")
    assert chat.encode(dropped) == chat.tokens(chat.render(dropped))


def test_resumed_turn_has_not_ended(chat: ChatFormat) -> None:
    asked = user("What is 1 + 1?")
    prompt = tuple(chat.encode(asked))
    ended = Reply("2", (*chat.tokens("2"), chat.end_id), (0.0, 0.0), "stop", prompt)
    open_turn = asked + assistant(ended, Text(" output: 5", learn=False))
    assert chat.encode(open_turn, resume=True) == [
        *prompt,
        *chat.tokens("2"),
        *chat.tokens(" output: 5"),
    ]
    assert chat.end_id in chat.encode(open_turn + user("so?"))


@pytest.mark.parametrize("stop", ["ab", "é", "√2", "結果", "→ ∞"])
def test_stop_strings_of_any_script_end_a_reply(stop: str, chat: ChatFormat) -> None:
    """A byte-level vocabulary has several tokens for one character."""
    wanted = [*chat.tokens("x"), *chat.tokens(stop), *chat.tokens("yyyy")]
    served = engine(chat)
    given = iter(wanted)
    served._forward = scripted(served, given)  # type: ignore[method-assign]
    reply = answer(served, user("?"), max_new_tokens=40, stop=(stop,), temperature=0.0)
    assert reply.finish == "stop"
    assert reply.text == f"x{stop}"


def scripted(served: TransformersEngine, tokens: Iterator[int]) -> Any:
    """Forward passes after which the given tokens are the likeliest, one after another."""
    real = served._forward

    def forward(*arguments: Any, **options: Any) -> torch.Tensor:
        logits = torch.zeros_like(real(*arguments, **options))
        logits[:, next(tokens)] = 9.0
        return logits

    return forward


def test_prompt_is_known_by_its_text_and_the_content_of_its_images(tmp_path: Path) -> None:
    first, copy, other = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    first.write_bytes(b"one")
    copy.write_bytes(b"one")
    other.write_bytes(b"another")
    one, same, different = (Image(str(file)) for file in (first, copy, other))
    assert digest("Go", [one]) == digest("Go", [same])
    assert digest("Go", [one, different]) != digest("Go", [different, one])
    assert len({digest("Go"), digest("Go", [one]), digest("Go", [different])}) == 3
    before = digest("Go", [one])
    first.write_bytes(b"replaced")
    assert digest("Go", [one]) != before
    # records have it: it stays what it is
    assert digest("Go") == hashlib.blake2b(b"Go", digest_size=8).hexdigest()
