"""Reads the images of a chat, given as local paths or data URLs."""

from __future__ import annotations

import base64
import io
import mimetypes
from pathlib import Path
from typing import Any

from slm_math.engines.base import EngineError
from slm_math.types import Chat, Image


def image_sources(chat: Chat) -> list[str]:
    """The sources of a chat's images, in order."""
    return [part.source for message in chat for part in message.content if isinstance(part, Image)]


def image_url(source: str) -> str:
    """An image as a data URL; URLs are returned unchanged.

    Raises EngineError for a file that is not an image: a data set must not make this process send
    arbitrary files to a server.
    """
    if source.startswith(("data:", "http://", "https://")):
        return source
    open_image(source)
    mime_type = mimetypes.guess_type(source)[0] or "image/png"
    return f"data:{mime_type};base64,{base64.b64encode(_read(source)).decode()}"


def open_image(source: str) -> Any:
    """The image as an RGB PIL image.

    Raises EngineError if it is not an image, or if it is not on this machine.
    """
    from PIL import Image as Pillow

    if source.startswith(("http://", "https://")):
        raise EngineError(f"the image {source} is not on this machine: download it first")
    try:
        data = (
            base64.b64decode(source.partition(",")[2])
            if source.startswith("data:")
            else _read(source)
        )
        return Pillow.open(io.BytesIO(data)).convert("RGB")
    except (OSError, ValueError, Pillow.DecompressionBombError) as error:
        raise EngineError(f"cannot read the image {source[:80]}: {error}") from None


def _read(source: str) -> bytes:
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise EngineError(f"cannot read the image {source}: {error.strerror}") from None
