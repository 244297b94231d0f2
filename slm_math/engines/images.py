"""The images of a chat as engines send them; an unreadable one fails its request, not the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from slm_math import images
from slm_math.engines.base import EngineError
from slm_math.images import chat_images
from slm_math.types import Chat

T = TypeVar("T")


def image_url(source: str) -> str:
    """An image as a data URL. Raises EngineError if it cannot be read."""
    return _of_source(images.image_url, source)


def opened_images(chat: Chat) -> list[Any]:
    """The images of a chat, in order. Raises EngineError if one cannot be read."""
    return [_of_source(images.open_image, image.source) for image in chat_images(chat)]


def image_urls(chat: Chat) -> list[str]:
    """The images of a chat as data URLs, in order. Raises EngineError if one cannot be read."""
    return [image_url(image.source) for image in chat_images(chat)]


def _of_source(read: Callable[[str], T], source: str) -> T:
    """What `read` makes of a source. Raises EngineError if it cannot be read."""
    try:
        return read(source)
    except images.ImageError as error:
        raise EngineError(str(error)) from None
