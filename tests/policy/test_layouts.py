"""Templates whose contents are put in place are rendered as Jinja renders them; all others are left
to it.
"""

from typing import Any

import pytest

from slm_math.policy.chat import ChatFormat
from slm_math.policy.layouts import Layouts, writes_contents_alone
from slm_math.policy.scratch import TEMPLATE, Scratch
from slm_math.policy.templates import TEMPLATES
from slm_math.types import assistant, system, user

QWEN = (
    "{%- if tools %}{{- 'tools' }}{%- else %}{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|system|>' + messages[0]['content'] + '<|end|>' }}{%- else %}"
    "{{- '<|system|>Hi<|end|>' }}"
    "{%- endif %}{%- endif %}{%- for message in messages %}"
    "{%- if (message.role == 'user') or (message.role == 'assistant' and not message.tool_calls) "
    "or (message.role == 'system' and not loop.first) %}"
    "{{- '<|' + message.role + '|>' + message.content + '<|end|>' + '\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)
PLAIN = [TEMPLATE, *TEMPLATES.values(), QWEN]
OTHER = {
    "a filter": "{% for m in messages %}{{ m['content'] | trim }}{% endfor %}",
    "a method": "{% for m in messages %}{{ m.content.split('x')[0] }}{% endfor %}",
    "a test": "{% for m in messages %}{% if m.content %}{{ m.content }}{% endif %}{% endfor %}",
    "another name": "{% for m in messages %}{% set c = m.content %}{{ c }}{% endfor %}",
    "all messages": "{{ messages | tojson }}",
    "a message": "{% for m in messages %}{{ m }}{% endfor %}",
    "its items": "{% for m in messages %}{{ m.items() }}{% endfor %}",
    "a slice": "{% for m in messages[1:] %}{{ m.content }}{% endfor %}",
    "a key": "{% for m in messages %}{{ m[key] }}{% endfor %}",
    "the message before": "{% for m in messages %}{{ loop.previtem }}{% endfor %}",
    "a macro": "{% macro f(m) %}{{ m.content }}{% endmacro %}{{ f(messages[0]) }}",
    "a length": "{% for m in messages %}{{ m.content | length }}{% endfor %}",
    "a comparison": "{% for m in messages %}{{ m.content == 'x' }}{% endfor %}",
    "a clock": "{{ strftime_now('%Y') }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "a mistake": "{% for m in messages %}",
}
CHATS = [
    user("1 + 1?"),
    user(" \n{{ 7 }} \ue000 <b>&amp;") + assistant("2\r\n"),
    system("be brief ") + user("x") + assistant("") + user("\ty") + assistant(" z"),
    user("a") + user("b"),
]


@pytest.mark.parametrize("template", PLAIN)
@pytest.mark.parametrize("generation", [False, True])
def test_texts_are_those_of_jinja(template: str, generation: bool) -> None:
    assert writes_contents_alone(template)
    tokenizer = Scratch().tokenizer()

    def jinja(messages: list[dict[str, Any]], with_prompt: bool) -> str:
        return tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=with_prompt
        )

    layouts = Layouts(jinja)
    for chat in CHATS * 2:
        messages = [{"role": each.role, "content": each.text} for each in chat]
        assert layouts.render(messages, generation) == jinja(messages, generation)


@pytest.mark.parametrize("template", OTHER.values(), ids=OTHER)
def test_templates_that_may_look_at_contents_are_left_to_jinja(template: str) -> None:
    assert not writes_contents_alone(template)


def test_another_template_that_the_tokenizer_gets_later_counts() -> None:
    tokenizer = Scratch().tokenizer()
    own = tokenizer.chat_template
    chat = ChatFormat(tokenizer)
    assert chat.render(user("x")) == "<|user|>x<|end|><|assistant|>"
    try:
        tokenizer.chat_template = TEMPLATES["chatml"]
        assert "<|im_start|>user\nx<|im_end|>" in chat.render(user("x"))
    finally:
        tokenizer.chat_template = own
