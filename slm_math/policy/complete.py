"""Whether what was loaded is all of a model: its weights, its tokenizer, its adapter.

transformers fills what a folder lacks with random numbers, or with a tokenizer that knows no text,
and only warns; such a model would be evaluated and trained as if it were the one that was named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any
from warnings import warn

import torch

PROBE = "What is 17 + 25?"


def check_files(path: str, folder: Path | None) -> None:
    """Raises ValueError for a file of weights that was cut off, or that holds none; their values
    are not read. `folder` is where the files of the model or adapter `path` are, if here.
    """
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")) if folder is not None else ():
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"model {path}: {file.name} is damaged, or its end is missing "
                f"({str(error).splitlines()[0]}): copy or download it again"
            ) from error


def check_weights(path: str, info: Mapping[str, Any]) -> None:
    """Raises ValueError for weights that a model's files lack, or have in another shape.

    `info` is what transformers says of loading them.
    """
    check_missing(path, info["missing_keys"])
    wrong = sorted(info["mismatched_keys"])
    if wrong:
        name, saved, expected = wrong[0]
        raise ValueError(
            f"model {path}: {len(wrong)} weights have another shape than its config.json says, the "
            f"first {name}: {_shape(saved)} in the files, {_shape(expected)} in the model"
        )
    unused = sorted(info["unexpected_keys"])
    if unused:
        warn(
            f"model {path}: {len(unused)} weights of its files are no part of the model, and are "
            f"not used: {_first(unused)}",
            stacklevel=3,
        )


def check_missing(path: str, missing: Collection[str], kind: str = "model") -> None:
    """Raises ValueError if weights are missing; tied weights, which are saved once, are not."""
    if missing:
        raise ValueError(
            f"{kind} {path} is incomplete: its files lack {len(missing)} weights, which would be "
            f"random: {_first(sorted(missing))}. Copy or download it again, or check that "
            "config.json is that of these weights"
        )


def check_finite(path: str, named: Iterable[tuple[str, torch.Tensor]], kind: str = "model") -> None:
    """Raises ValueError for a weight with numbers that are not finite."""
    for name, weight in named:
        if weight.is_floating_point() and not torch.isfinite(weight.detach()).all():
            raise ValueError(
                f"{kind} {path}: weight {name} holds NaN or infinite numbers: copy or download the "
                f"{kind} again, or export it again from an earlier checkpoint"
            )


def check_tokenizer(path: str, tokenizer: Any, folder: Path | None, rows: int | None) -> None:
    """Raises ValueError for a tokenizer whose files are missing, or that has more tokens than the
    model's embedding has rows (fewer are common, since rows are padded).

    Args:
        folder: where the files should be; None if they are not known.
        rows: of the embedding, by the model's config; None if unknown.
    """
    names = tokenizer.vocab_files_names
    here = {kind for kind, name in names.items() if folder is None or (folder / name).is_file()}
    whole = "tokenizer_file" in here or "merges_file" not in names or "merges_file" in here
    ids = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    if not whole or len(set(ids) - {tokenizer.unk_token_id}) < 2:
        raise no_tokenizer(path, f"{' or '.join(names.values())} is missing or empty")
    tokens = 1 + max(tokenizer.get_vocab().values())
    if rows is not None and tokens > rows and _are_used(tokenizer, rows):
        raise ValueError(
            f"model {path}: its tokenizer has {tokens} tokens, and its embedding {rows} rows: the "
            "tokenizer is that of another model, or the embedding was not resized for added tokens"
        )


def _are_used(tokenizer: Any, rows: int) -> bool:
    """Whether a text or a template may have tokens that the embedding has no row for. Special
    tokens in texts are broken up, so those that nothing writes do no harm: Gemma 3's text models
    have the image token of the larger ones.
    """
    added = tokenizer.added_tokens_decoder
    names = ("eos_token", "bos_token", "pad_token", "unk_token")
    ends = {getattr(tokenizer, name) for name in names}
    return any(
        id >= rows
        and (
            id not in added
            or not added[id].special
            or token in ends
            or token in str(tokenizer.chat_template or "")
        )
        for token, id in tokenizer.get_vocab().items()
    )


def no_tokenizer(path: str, reason: str) -> ValueError:
    return ValueError(
        f"model {path} has no tokenizer that can be used: {reason}. Copy the tokenizer's files of "
        "the model that it was made from (tokenizer.json, tokenizer_config.json)"
    )


def _first(names: Collection[str]) -> str:
    return ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")


def _shape(size: Any) -> str:
    return " x ".join(map(str, size))
