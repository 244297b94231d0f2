"""The files behind the images of problems and chats: opened, hashed, sent. No torch.

A source is a local path or a data URL.
"""

from __future__ import annotations

import base64
import hashlib
import io
import mimetypes
from functools import lru_cache
from pathlib import Path
from typing import Any


class ImageError(ValueError):
    """An image cannot be read, or a model cannot see it as it is."""


def check_image(source: str) -> tuple[int, int]:
    """(width, height) in pixels. Raises ImageError for an image that cannot be seen."""
    return open_image(source).size


def open_image(source: str) -> Any:
    """The image as an RGB PIL image.

    Raises ImageError if it is not an image, or if it is not on this machine.
    """
    from PIL import Image as Pillow

    try:
        return Pillow.open(io.BytesIO(image_bytes(source))).convert("RGB")
    except (OSError, ValueError, Pillow.DecompressionBombError) as error:
        raise error if isinstance(error, ImageError) else _unreadable(source, error) from None


def image_url(source: str) -> str:
    """An image as a data URL; URLs are returned unchanged.

    Raises ImageError for a file that is not an image: a data set must not make this process send
    arbitrary files to a server.
    """
    if source.startswith(("data:", "http://", "https://")):
        return source
    open_image(source)
    mime_type = mimetypes.guess_type(source)[0] or "image/png"
    return f"data:{mime_type};base64,{base64.b64encode(image_bytes(source)).decode()}"


def image_bytes(source: str) -> bytes:
    """The encoded image. Raises ImageError if it is not on this machine."""
    if source.startswith(("http://", "https://")):
        raise ImageError(f"the image {source} is not on this machine: download it first")
    try:
        if source.startswith("data:"):
            return base64.b64decode(source.partition(",")[2])
        return Path(source).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read the image {source}: {error.strerror}") from None
    except ValueError as error:
        raise _unreadable(source, error) from None


def image_hash(source: str) -> str:
    """A hash of an image: of its bytes if the source is a file, else of the source itself."""
    if not source.startswith("data:") and len(source) < 4096:
        try:
            state = Path(source).stat()
        except (OSError, ValueError):
            pass
        else:
            return _file_hash(source, state.st_mtime_ns, state.st_size)
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=1 << 16)
def _file_hash(path: str, changed: int, size: int) -> str:
    """The hash of a file that is as it was at this time."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _unreadable(source: str, error: Exception) -> ImageError:
    return ImageError(f"cannot read the image {source[:80]}: {error}")
