"""A dialogue is written as on its own, whatever dialogues of its shape came before."""

import random

import pytest
from policy.test_dialogue import TEMPLATES, format_of
from policy.test_layouts import PLAIN

from slm_math.policy.chat import ChatFormat
from slm_math.policy.scratch import Scratch
from slm_math.types import Chat, Text, assistant, system, user

CONTENTS = ("1 + 1?", "", " \n", "\n2\n", "<|end|>", "<think>a</think>b", "\ue0000\ue001", "#### 2")
ALL_TEMPLATES = {**TEMPLATES, "qwen": PLAIN[-1]}


def dialogues() -> list[Chat]:
    draw = random.Random(0)
    some: list[Chat] = []
    for _ in range(150):
        first = system("Be brief.") if draw.random() < 0.3 else ()
        parts = [Text(draw.choice(CONTENTS), learn=draw.random() < 0.7) for _ in range(2)]
        turns = user(draw.choice(CONTENTS)) + assistant(*parts)
        if draw.random() < 0.5:
            turns += user(draw.choice(CONTENTS)) + assistant(draw.choice(CONTENTS))
        some.append(first + turns)
    return some


def outcome(chat: ChatFormat, dialogue: Chat) -> object:
    try:
        return chat.dialogue(dialogue, 0.1)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("template", ALL_TEMPLATES.values(), ids=ALL_TEMPLATES)
def test_rows_are_those_of_the_dialogue_alone(template: str) -> None:
    shared, alone = format_of(template), format_of(template)
    for dialogue in dialogues():
        alone._shapes._seen.clear()
        assert outcome(shared, dialogue) == outcome(alone, dialogue)
    assert shared.closed_thoughts == alone.closed_thoughts


def test_templates_are_asked_once_for_dialogues_of_one_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chat = ChatFormat(Scratch().tokenizer())
    asked = []
    written = chat._written_alone
    monkeypatch.setattr(
        chat._shapes, "_written", lambda *given: asked.append(given) or written(*given)
    )
    for number in range(100):
        chat.written(user(f"{number}?") + assistant(f"{number}"))
    assert len(asked) == 3  # the shape, and what becomes of blanks


def test_a_template_of_later_is_used() -> None:
    tokenizer = Scratch().tokenizer()
    chat = ChatFormat(tokenizer)
    for _ in range(3):
        before = chat.dialogue(user("q") + assistant("a"))
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "!<|end|>")
    assert chat.dialogue(user("q") + assistant("a")) != before
