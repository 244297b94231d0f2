"""Drawn scenes (a stand-in: the text that a tokenizer is trained on)."""

from __future__ import annotations

from collections.abc import Iterator


def corpus() -> Iterator[str]:
    """The text that a tokenizer is trained on."""
    for color in ("red", "green", "blue", "yellow"):
        for shape in ("circle", "square", "triangle"):
            yield f"How many {color} {shape}s are there? {color} {shape}, none. #### 2"
