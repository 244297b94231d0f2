"""Rows of dialogues as texts, which are encoded when they are trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from slm_math.data.rows import Eyes, Row
from slm_math.types import Image


class Encoder(Protocol):
    """What turns texts into token ids; `slm_math.policy.tokens.Encoder` does."""

    def continued(self, before: str, text: str) -> list[int]: ...


@dataclass(frozen=True)
class Written:
    """A row before it is encoded: its texts in order, each with the loss weight of its tokens. None
    is the token that ends a turn. `images` are those of the dialogue, in order.
    """

    pieces: tuple[tuple[str | None, float], ...]
    images: tuple[Image, ...] = ()

    @property
    def ends_learned(self) -> bool:
        """Whether the end of a turn is learned, so that something in it certainly is."""
        return any(piece is None and weight for piece, weight in self.pieces)

    @property
    def most_tokens(self) -> int | None:
        """A bound of its length; None where nothing is certain, since normalization may make a
        character longer.
        """
        texts = [text for text, _ in self.pieces if text is not None]
        if not all(map(str.isascii, texts)):
            return None
        # every piece may begin with a token that stands for no character
        return sum(map(len, texts)) + 2 * len(self.pieces)

    def encoded(self, encoder: Encoder, end: tuple[str, int]) -> tuple[list[int], list[float]]:
        """The token ids and their loss weights. `end` is the text and the id of the token that ends
        a turn.
        """
        ids: list[int] = []
        weights: list[float] = []
        text = ""
        for piece, weight in self.pieces:
            part = [end[1]] if piece is None else encoder.continued(text, piece)
            ids += part
            weights += [weight] * len(part)
            text += end[0] if piece is None else piece
        return ids, weights


class Rows(Sequence[Row]):
    """Rows of dialogues, each encoded when it is first asked for.

    Args:
        rows: rows, and those that are not encoded yet.
        encoded: makes a row.
    """

    def __init__(self, rows: list[Row | Written], encoded: Callable[[Written], Row]) -> None:
        self._rows = rows
        self._encoded = encoded

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        row = self._rows[index]
        if isinstance(row, Written):
            row = self._rows[index] = self._encoded(row)
        return row

    def fits(self, index: int, longest: int, sight: Eyes | None) -> bool:
        """Whether the network reads at most `longest` tokens of a row; short texts need not be
        encoded for that.
        """
        row = self._rows[index]
        if isinstance(row, Written) and (most := row.most_tokens) is not None:
            if sight is not None and row.images:
                most += sight.extent(row.images).extra
            if most <= longest:
                return True
        return self[index].width(sight) <= longest

    def chosen(self, indices: Sequence[int]) -> Rows:
        """These rows, in this order."""
        return Rows([self._rows[n] for n in indices], self._encoded)
