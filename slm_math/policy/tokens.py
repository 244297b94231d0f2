"""Texts to token ids and back, as transformers does it, whatever a tokenizer's files or calls say
about truncation, padding and dropout; a text that follows another one is encoded as its
continuation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from slm_math.answers.thoughts import THOUGHT_MARK

# Texts after which another one begins with a token of its own; one of them is always enough.
_ANCHORS = ("=", "x", "\n", "7", "。")
_SHORT = 80  # characters
_WINDOW = 64  # characters of context that decide how a text goes on


class Encoder:
    """Encodes texts without special tokens around them, and decodes sampled tokens.

    SentencePiece vocabularies write a blank before the first word of a text ("4" becomes "▁4"), and
    leave out such a blank when they decode. Neither is right for a text that follows another one,
    such as a reply: `continued` and `decode` do without.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        words = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
        longest_first = sorted(words, key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        special = {id for id, token in added.items() if token.special}
        thoughts = {id for id in special if THOUGHT_MARK.fullmatch(str(added[id]))}
        # special tokens are no part of a reply's text, but its thoughts have to be told apart
        self._hidden = frozenset(special - thoughts) if thoughts else None
        self.thoughts = frozenset(str(added[id]) for id in thoughts)
        # also those that the tokenizer's config does not name
        self.special = {*tokenizer.all_special_tokens, *(str(added[id]) for id in special)}
        self._short = lru_cache(maxsize=8192)(self._encode_short)
        twice = self.encode("x x")
        self._adds_blank = twice[: len(twice) // 2] == twice[len(twice) // 2 :]
        self._anchor: list[int] = []
        self._anchor_text = ""
        if self._decode(self.continued("x", " x")) != " x":  # it drops the blank
            self._anchor = self.encode("x")
            self._anchor_text = self._decode(self._anchor)

    def encode(self, text: str) -> list[int]:
        """The token ids of a whole text."""
        # 20 times faster than the wrapper around it
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        if fast is None:
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]
        # tokenizer.json, or a call of the wrapper, may have left these behind; transformers sets
        # them in every call
        if fast.truncation is not None:
            fast.no_truncation()
        if fast.padding is not None:
            fast.no_padding()
        if fast.encode_special_tokens != self.tokenizer.split_special_tokens:
            fast.encode_special_tokens = self.tokenizer.split_special_tokens
        if getattr(fast.model, "dropout", None):  # it would make every prompt a random one
            fast.model.dropout = None
        if len(text) > _SHORT:
            return fast.encode(text, add_special_tokens=False).ids
        return list(self._short(text, fast.encode_special_tokens))

    def _encode_short(self, text: str, special_as_text: bool) -> tuple[int, ...]:
        """The token ids of a short text, which the cache remembers by the text and by how the
        tokenizer is set.
        """
        fast = self.tokenizer.backend_tokenizer
        return tuple(fast.encode(text, add_special_tokens=False).ids)

    def continued(self, before: str, text: str) -> list[int]:
        """The token ids of a text that follows the tokens of `before`: those that it has in the
        whole, unless a token of the whole would hold the end of one and the beginning of the other.
        """
        if not self._adds_blank or not before or self._added.match(text):
            return self.encode(text)
        near = before[-_WINDOW:]
        starts = [token.start() for token in self._added.finditer(near)]
        for anchor in (near[starts[-1] :] if starts else near, *_ANCHORS):
            ids, whole = self.encode(anchor), self.encode(anchor + text)
            if whole[: len(ids)] == ids:
                return whole[len(ids) :]
        return self.encode(text)

    def first_ids(self, text: str) -> set[int]:
        """The tokens with which a reply may begin that begins with `text`."""
        return {self.encode(text)[0], self.continued("\n", text)[0]}

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of sampled tokens, without special tokens other than marks of thoughts."""
        return self._decode([*self._anchor, *tokens])[len(self._anchor_text) :]

    def _decode(self, tokens: Sequence[int]) -> str:
        if self._hidden is not None:
            tokens = [token for token in tokens if token not in self._hidden]
        return self.tokenizer.decode(
            tokens, skip_special_tokens=self._hidden is None, clean_up_tokenization_spaces=False
        )

    def beginning(self) -> str:
        """The special tokens that the tokenizer itself writes before a text, such as the BOS."""
        ids, bare = self.tokenizer("x")["input_ids"], self.encode("x")
        ends = [k for k in range(len(ids)) if ids[k : k + len(bare)] == bare]
        return "".join(self.tokenizer.convert_ids_to_tokens(ids[: ends[0]])) if ends else ""
