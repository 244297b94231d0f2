"""The tokenizer that the adapters of several roles share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slm_math.policy.adapter_files import tokenizer_path
from slm_math.policy.chat import ChatFormat
from slm_math.policy.loading import load_tokenizer
from slm_math.policy.role_paths import paths_of


def load_tokenizers(paths: Sequence[str], template: str | None = None) -> Any:
    """The tokenizer of the first model, which must be that of all.

    Raises ValueError for models with other tokens, or with other chat templates unless `template`
    replaces them: one prompt would not mean the same to all roles.
    """
    places = list(dict.fromkeys(map(tokenizer_path, paths)))
    tokenizer, *others = map(load_tokenizer, places)
    for place, other in zip(places[1:], others, strict=True):
        if other.get_vocab() != tokenizer.get_vocab():
            raise ValueError(f"{places[0]} and {place} have different tokenizers: roles share one")
        if template is None and other.chat_template != tokenizer.chat_template:
            raise ValueError(
                f"{places[0]} and {place} were made with different chat templates: set "
                "policy.chat_template, or train them with one"
            )
    return tokenizer


def chat_of(
    path: str | Mapping[str, str], template: str | None, kwargs: dict[str, Any] | None
) -> ChatFormat:
    """The chat format of a model, or of the models of several roles."""
    return ChatFormat(load_tokenizers(paths_of(path), template), template, kwargs)
