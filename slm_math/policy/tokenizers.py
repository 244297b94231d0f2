"""Whether tokenizers are the same, and the one that the adapters of several roles share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slm_math.policy.adapter_files import tokenizer_path
from slm_math.policy.chat import ChatFormat
from slm_math.policy.loading import load_tokenizer, sight_in
from slm_math.policy.role_paths import paths_of

# texts that tokenizers with other rules for digits, blanks and signs split otherwise
PROBES = (
    "What is 1234567 + 89?\n\nLet's see:  x = 10.5%",
    "$\\frac{1}{2} \\cdot \\sqrt{3}$ is \\boxed{42}. Über 東京 \U0001f600",
    "    def f(x):\n        return x**2  # ok\n",
)


def difference(own: Any, other: Any) -> str | None:
    """What another tokenizer does otherwise; None if it gives the same ids to the same texts."""
    mine, theirs = own.get_vocab(), other.get_vocab()
    if mine != theirs:
        different = {token for token in {*mine, *theirs} if mine.get(token) != theirs.get(token)}
        first = min(different, key=lambda token: (_least(mine, theirs, token), token))
        return (
            f"it has {len(theirs)} tokens, not {len(mine)}, and token {first!r} has id "
            f"{_shown(theirs, first)}, not {_shown(mine, first)}"
        )
    for text in PROBES:
        ids, others = (each(text, add_special_tokens=False)["input_ids"] for each in (own, other))
        if ids != others:
            return (
                f"it has the same tokens, and splits {text!r} into {len(others)} of them, not "
                f"{len(ids)}"
            )
    return None


def _least(mine: Mapping[str, int], theirs: Mapping[str, int], token: str) -> int:
    return min(vocabulary.get(token, 1 << 60) for vocabulary in (mine, theirs))


def _shown(vocabulary: Mapping[str, int], token: str) -> str:
    return str(vocabulary[token]) if token in vocabulary else "none"


def load_tokenizers(paths: Sequence[str], template: str | None = None) -> Any:
    """The tokenizer of the first model, which must be that of all.

    Raises ValueError for models with other tokens, or with other chat templates unless `template`
    replaces them: one prompt would not mean the same to all roles.
    """
    places = list(dict.fromkeys(map(tokenizer_path, paths)))
    tokenizer, *others = map(load_tokenizer, places)
    for place, other in zip(places[1:], others, strict=True):
        found = difference(tokenizer, other)
        if found is not None:
            raise ValueError(
                f"{places[0]} and {place} have different tokenizers, and roles share one: of the "
                f"latter, {found}"
            )
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
    paths = paths_of(path)
    return ChatFormat(load_tokenizers(paths, template), template, kwargs, sight_in(paths[0]))
