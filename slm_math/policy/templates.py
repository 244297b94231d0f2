"""Chat templates as text: the built-in ones, what they are told about the date, their variables."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jinja2 import Environment, TemplateSyntaxError

from slm_math.policy.folders import expanded

TEMPLATES = {
    "chatml": (
        "{% for m in messages %}"
        "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "plain": (
        "{% for m in messages %}{{ m['content'] }}"
        "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
    ),
}


def check_template(template: str | None, variables: Mapping[str, Any] | None = None) -> None:
    """Raises ValueError for a template that is neither a file nor one of `TEMPLATES`, and for
    variables (`chat_template_kwargs`) of a built-in template, which has none.
    """
    if (
        template is not None
        and template not in TEMPLATES
        and not Path(expanded(template)).is_file()
    ):
        raise ValueError(
            f"chat_template {template} is neither a file nor one of {', '.join(TEMPLATES)}"
        )
    if template in TEMPLATES and variables:
        raise ValueError(
            f"chat_template {template} has no variables: remove chat_template_kwargs "
            f"{', '.join(variables)}"
        )


def template_text(template: str, beginning: str) -> str:
    """The text of a built-in template or of a file.

    `beginning` is what the tokenizer writes before every text (often a BOS). A built-in template
    begins with it, since nothing is added to what a template writes; a file stays as it is.
    """
    if template in TEMPLATES:
        return (f"{{{{ {beginning!r} }}}}" if beginning else "") + TEMPLATES[template]
    return Path(expanded(template)).read_text(encoding="utf-8")


def check_variables(tokenizer: Any, variables: Mapping[str, Any], source: str) -> None:
    """Raises ValueError for `chat_template_kwargs` that the tokenizer's template does not use."""
    if not variables:
        return
    try:
        words = list(Environment().lex(tokenizer.get_chat_template()))
    except TemplateSyntaxError:  # told where the template is used
        return
    used = {word for _, kind, word in words if kind == "name"}
    used -= {*inspect.signature(tokenizer.apply_chat_template).parameters, "messages"}
    used -= set(tokenizer.SPECIAL_TOKENS_ATTRIBUTES)
    for name in variables:
        if name not in used:
            near = get_close_matches(name, used, n=1)
            raise ValueError(
                f"chat_template_kwargs: {source} does not use {name}"
                + (f" (but {near[0]})" if near else "")
            )


def in_parts(content: Any) -> list[dict[str, Any]]:
    """The content of a message as a list of parts, whatever it was."""
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def check_placeholders(
    messages: Sequence[Mapping[str, Any]], text: str, placeholder: str, source: str
) -> None:
    """Raises ValueError for a template that does not show each image of the messages once: the
    model would not see what the chat is about.
    """
    images = sum(in_parts(each["content"]).count({"type": "image"}) for each in messages)
    if images and text.count(placeholder) != images:
        raise ValueError(
            f"{source} shows {text.count(placeholder)} of {images} images as {placeholder}, so "
            "that the model would not see all of them: use the template that belongs to the model"
        )


# Templates that print today's date (Llama 3.2, SmolLM3, gpt-oss, ...) print this one, so that a
# prompt is the same on every day, in training, evaluation and a resumed evaluation. It is the date
# that Llama's own templates fall back to.
TODAY = datetime(2024, 7, 26)
_DIRECTIVES = (
    *("%Y", "%y", "%m", "%-m", "%B", "%b", "%d", "%-d", "%e", "%j", "%A", "%a", "%w", "%u", "%F"),
    *("%H", "%I", "%M", "%S", "%p", "%D", "%T", "%c", "%x", "%X"),
)
# transformers gives templates a function of the clock; a macro of the same name takes its place
_DATED = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f".replace({code!r}, {TODAY.strftime(code)!r})" for code in _DIRECTIVES)
    + " }}{% endmacro %}\n"
)


def dated(template: str) -> str | None:
    """A template that takes `TODAY` for today; None if it does not ask."""
    return _DATED + template if "strftime_now" in template else None


def template_identity(
    template: str | None, variables: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What decides how chats are rendered, for manifests."""
    return {
        "chat_template": template,
        "template_date": f"{TODAY:%Y-%m-%d}",
        **({"chat_template_kwargs": dict(variables)} if variables else {}),
    }
