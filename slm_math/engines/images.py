"""Pictures on their way to an engine: a local path or a data URL."""

from __future__ import annotations

import base64
import io
import mimetypes
from pathlib import Path
from typing import Any

from slm_math.engines.base import EngineError
from slm_math.types import Chat, Image


def image_sources(chat: Chat) -> list[str]:
    """Where the pictures of a chat come from, in order."""
    return [part.source for message in chat for part in message.content if isinstance(part, Image)]


def image_url(source: str) -> str:
    """A picture as a data URL. Raises EngineError for a file that is none: what a data set names
    goes to a server.
    """
    if source.startswith(("data:", "http://", "https://")):
        return source
    open_image(source)
    kind = mimetypes.guess_type(source)[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(_read(source)).decode()}"


def open_image(source: str) -> Any:
    """A picture as PIL has it, RGB. Raises EngineError for what is none, or is
    elsewhere than here.
    """
    from PIL import Image as Pillow

    if source.startswith(("http://", "https://")):
        raise EngineError(f"the image {source} is not on this machine: fetch it first")
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
