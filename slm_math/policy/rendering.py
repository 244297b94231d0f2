"""Chats to texts with the chat template of a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from slm_math.policy.layouts import Layouts, writes_contents_alone
from slm_math.policy.templates import check_placeholders, dated, in_parts

if TYPE_CHECKING:  # it needs torch, and chats do not
    from slm_math.policy.sight import Sight

_MARK = "a-b-c"


class Renderer:
    """Renders messages with the template of `tokenizer`, which is told that today is `TODAY`.

    `variables` are for the template, `source` says where it is from. `sight`: the model's eyes.
    Raises ValueError for a mistake in the template, and for what it does not accept.
    """

    def __init__(
        self,
        tokenizer: Any,
        variables: Mapping[str, Any],
        source: str,
        sight: Sight | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.source = source
        self.sight = sight
        self.variables = dict(variables)
        self._options = dict(variables)
        own = tokenizer.get_chat_template()
        template = dated(own)
        self._dated = template is not None
        # what stands before the tokenizer's own template
        self.before = (template or own).removesuffix(own)
        if template is not None:
            self._options["chat_template"] = template
        # templates of some models with eyes write no content that is a mere text
        marked = [{"role": "user", "content": _MARK}]
        self.in_parts = False
        self.in_parts = sight is not None and _MARK not in self._apply(marked, False)
        self._template = tokenizer.chat_template
        plain = not self.in_parts and writes_contents_alone(template or own)
        self._layouts = Layouts(self._apply) if plain else None

    def __call__(self, messages: list[dict[str, Any]], generation: bool) -> str:
        """The text of a chat; with `generation`, up to where the assistant's message begins."""
        layouts = self._layouts
        texts = all(isinstance(message["content"], str) for message in messages)
        if layouts is None or not (messages and texts and self.writes_contents_alone):
            return self._apply(messages, generation)
        return layouts.render(messages, generation)

    @property
    def writes_contents_alone(self) -> bool:
        """Whether the template writes every content unchanged, and looks at none."""
        # somebody may have given the tokenizer another template
        return self._layouts is not None and self.tokenizer.chat_template is self._template

    def _apply(self, messages: list[dict[str, Any]], generation: bool) -> str:
        if self.in_parts:
            messages = [each | {"content": in_parts(each["content"])} for each in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=generation, **self._options
            )
        except TemplateError as error:  # a mistake in the template, or what it does not accept
            line = getattr(error, "lineno", None)
            where = f"{self.source}, line {line - self._dated}" if line else self.source
            raise ValueError(f"{where}: {error}") from error
        if self.sight is not None:
            check_placeholders(messages, text, self.sight.placeholder, self.source)
        return text
