"""How fast an endpoint may be asked: requests and tokens per minute, and pauses that it asks for."""

from __future__ import annotations

from slm_math.types import Chat, Image

CHARACTERS = 4  # of a token, about, in English and in formulas
IMAGE_TOKENS = 1000  # of an image, about


def estimated_tokens(what: Chat | str) -> int:
    """About how many tokens a text or a chat has, where nobody counts them."""
    if isinstance(what, str):
        return -(-len(what) // CHARACTERS)
    images = sum(isinstance(part, Image) for message in what for part in message.content)
    characters = sum(len(message.text) for message in what)
    return -(-characters // CHARACTERS) + IMAGE_TOKENS * images
