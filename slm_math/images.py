"""The files behind the images of problems and chats: checked, opened, hashed, stored, sent. No
torch.

A source is a local path or a data URL. Whoever opens an image sees it as it is meant to be seen:
turned as its EXIF data says, transparent parts on white, CMYK, palettes and 16 bits as 8 bits of
RGB. An image that cannot be seen is an `ImageError` of one line.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from slm_math.types import Chat, Image

LARGEST = 50_000_000  # pixels; decoded, they are 150 MB
MOST_BYTES = 128 << 20  # of a file
SMALLEST_SIDE = 4  # pixels: image processors take an image of 1 or 3 rows for its color channels
MOST_OBLONG = 200  # long side / short side; the image processors of Qwen refuse more
# What is read. Others are left to nobody: one of Pillow's formats starts Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
GRAY = (128, 128, 128)
CACHE = "SLM_MATH_CACHE"
_LFS = b"version https://git-lfs"


class ImageError(ValueError):
    """An image cannot be read, or a model cannot see it as it is."""


def chat_images(chat: Chat) -> tuple[Image, ...]:
    """The images of a chat, in order."""
    return tuple([part for message in chat for part in message.content if isinstance(part, Image)])


def check_image(source: str) -> tuple[int, int]:
    """(width, height) in pixels of an image that a model can see.

    Raises ImageError, in one line that names the source, for an image that is missing, broken,
    truncated, animated, too large (a decompression bomb), too small, too oblong, or of values that
    are no colors. Pixels are decoded only of formats without checksums; what was once good and has
    not changed is not read again.
    """
    if source.startswith("data:"):
        return _check(source)
    state = _state(source)
    return _checked_file(source, state.st_mtime_ns, state.st_size)


def open_image(source: str) -> Any:
    """The image as an RGB PIL image.

    Raises ImageError if it is not an image, or if it is not on this machine.
    """
    try:
        return _rgb(_raw(source, image_bytes(source)))
    except Exception as error:  # a decoder may raise anything
        raise _unreadable(source, error) from None


def image_url(source: str) -> str:
    """An image as a data URL; URLs of servers are returned unchanged.

    What `open_image` changes (transparent parts, CMYK, 16 bits) is sent as a PNG of what it shows,
    everything else as it is; data URLs alike. Raises ImageError for a file that is not an image: a
    data set must not make this process send arbitrary files to a server.
    """
    if source.startswith(("http://", "https://")):
        return source
    shown, data = open_image(source), image_bytes(source)
    raw = _raw(source, data)
    kind = raw.get_format_mimetype() or "image/png"
    if raw.mode not in ("RGB", "L") or "transparency" in raw.info or _orientation(raw) != 1:
        kind, data = "image/png", _encoded(shown, "PNG")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def image_bytes(source: str) -> bytes:
    """The encoded image. Raises ImageError if it is not on this machine."""
    if source.startswith("data:"):
        try:
            return base64.b64decode(source.partition(",")[2])
        except ValueError as error:
            raise _unreadable(source, error) from None
    _state(source)
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read the image {source}: {error.strerror}") from None


def image_hash(source: str) -> str:
    """A hash of an image: of its bytes, wherever they are; of the source itself if it has none."""
    try:
        if source.startswith("data:"):
            return hashlib.sha256(image_bytes(source)).hexdigest()
        state = _state(source)
        return _file_hash(source, state.st_mtime_ns, state.st_size)
    except (ImageError, OSError):
        return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


def pixel_hash(source: str) -> str:
    """A hash of what is seen: the same for copies in other lossless files. An image that cannot be
    read has that of `image_hash`.
    """
    try:
        image = open_image(source)
    except ImageError:
        return image_hash(source)
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def blank_image(source: str) -> str:
    """The path of a gray image of the same size, which shows nothing. Raises ImageError."""
    width, height = check_image(source)
    path = cache_folder() / "blank" / f"{width}x{height}.png"
    if not path.is_file():
        from PIL import Image as Pillow

        _write(path, _encoded(Pillow.new("RGB", (width, height), GRAY), "PNG"))
    return str(path)


def thumbnail(source: str, side: int) -> bytes:
    """A JPEG of the image, of at most `side` x `side` pixels. Raises ImageError."""
    image = open_image(source)
    image.thumbnail((side, side))
    return _encoded(image, "JPEG")


def store_image(data: bytes) -> str:
    """The path of a file that holds these bytes, named by their hash in the cache folder and
    written once. Whether they are an image is not checked.
    """
    name = hashlib.sha256(data).hexdigest()
    path = cache_folder() / "images" / name[:2] / f"{name}{_suffix(data)}"
    if not path.is_file() or path.stat().st_size != len(data):
        _write(path, data)
    return str(path)


def as_path(source: str) -> str:
    """A source as rows hold it: the bytes of a data URL become a file in the cache folder."""
    return store_image(image_bytes(source)) if source.startswith("data:") else source


def cache_folder() -> Path:
    """Where images are stored that came without a file of their own: $SLM_MATH_CACHE, or
    ~/.cache/slm-math.
    """
    named = os.environ.get(CACHE)
    return Path(named).expanduser().absolute() if named else Path.home() / ".cache" / "slm-math"


def _write(path: Path, data: bytes) -> None:
    """Writes a file completely or not at all; two processes may write the same one at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, new = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(new, 0o644)  # others may share the cache
        os.replace(new, path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise


@lru_cache(maxsize=1 << 17)
def _checked_file(path: str, changed: int, size: int) -> tuple[int, int]:
    """The size of a good image in a file that is as it was at this time."""
    return _check(path)


@lru_cache(maxsize=1 << 17)
def _file_hash(path: str, changed: int, size: int) -> str:
    """The hash of a file that is as it was at this time."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _check(source: str) -> tuple[int, int]:
    data = image_bytes(source)
    try:
        image = _raw(source, data)
        turned = _orientation(image) >= 5 and image.format != "TIFF"  # which Pillow turns itself
        width, height = image.size[::-1] if turned else image.size
        if image.mode in ("I", "F"):
            _rgb(image)  # which says what is wrong with it
        _check_end(image, data)
    except Exception as error:  # a decoder may raise anything
        raise _unreadable(source, error) from None
    short, long = sorted((width, height))
    if short < SMALLEST_SIDE:
        raise ImageError(
            f"the image {_shown(source)} is {width} x {height} pixels: a side has at least "
            f"{SMALLEST_SIDE}"
        )
    if long > MOST_OBLONG * short:
        raise ImageError(
            f"the image {_shown(source)} is {width} x {height} pixels: one side may be at most "
            f"{MOST_OBLONG} times as long as the other"
        )
    return width, height


def _raw(source: str, data: bytes) -> Any:
    """The image as it is encoded, of which nothing is decoded yet. Raises ImageError."""
    from PIL import Image as Pillow

    try:
        image = Pillow.open(io.BytesIO(data), formats=FORMATS)
    except Pillow.UnidentifiedImageError:
        raise ImageError(f"cannot read the image {_shown(source)}: {_what_else(data)}") from None
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning):
        raise _too_large(source) from None
    except Exception as error:  # a decoder may raise anything
        raise _unreadable(source, error) from None
    if image.width * image.height > LARGEST:
        raise _too_large(source, f"of {image.width} x {image.height} pixels")
    if getattr(image, "is_animated", False) and image.format != "MPO":  # of a camera: a photograph
        raise ImageError(
            f"the image {_shown(source)} is animated or has several pages: save the one that is "
            "meant"
        )
    return image


def _rgb(image: Any) -> Any:
    """The image as it is meant to be seen."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):
        image = _of_16_bits(image)
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are numbers of 32 bits, which are no colors")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        paper = Pillow.new("RGBA", image.size, "white")
        image = Pillow.alpha_composite(paper, image.convert("RGBA"))
    return image.convert("RGB")


def _of_16_bits(image: Any) -> Any:
    """A gray image of 16 bits as one of 8, its transparent value white. Pillow cuts off values
    above 255, and compares the transparent value with what is left.
    """
    grays = [int(value * 255 / 65535 + 0.5) for value in range(65536)]
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grays[clear] = 255
    scaled = image.convert("I").point(grays, "L")
    scaled.info.pop("transparency", None)
    return scaled


def _orientation(image: Any) -> int:
    """EXIF's orientation, 1 to 8; of a PNG only if it stands before the pixels, since others are
    known only when all pixels are decoded.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    value = image.getexif().get(0x0112, 1)
    return value if value in range(1, 9) else 1


def _check_end(image: Any, data: bytes) -> None:
    """Raises an error if the data breaks off, without decoding pixels where that can be seen."""
    if image.format in ("JPEG", "MPO"):
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):  # end of image, start of scan
            raise ValueError("the file is truncated")
    elif image.format == "PNG":
        image.verify()  # checksums
    else:
        image.load()


def _encoded(image: Any, format: str) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format, **({"quality": 85} if format == "JPEG" else {}))
    return sink.getvalue()


def _suffix(data: bytes) -> str:
    """The usual end of the name of such a file."""
    starts = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"GIF8": ".gif", b"BM": ".bmp"}
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for start, suffix in starts.items() if data.startswith(start)), ".img")


def _state(source: str) -> os.stat_result:
    """The state of the file. Raises ImageError if the file is missing, not regular or too large."""
    if source.startswith(("http://", "https://")):
        raise ImageError(f"the image {source} is not on this machine: download it first")
    try:
        state = os.stat(source)
    except OSError as error:
        raise ImageError(f"cannot read the image {_shown(source)}: {error.strerror}") from None
    except ValueError as error:  # a zero byte
        raise _unreadable(source, error) from None
    if not stat.S_ISREG(state.st_mode):
        raise ImageError(f"cannot read the image {_shown(source)}: it is no regular file")
    if state.st_size > MOST_BYTES:
        raise _too_large(source, f"of {state.st_size >> 20} MiB")
    return state


def _what_else(data: bytes) -> str:
    if not data:
        return "it is empty"
    if data.startswith(_LFS):
        return "it is a Git LFS pointer: get the file itself with git lfs pull"
    return f"it is none of {', '.join(FORMATS)}: it begins with {data[:12]!r}"


def _too_large(source: str, size: str = "") -> ImageError:
    return ImageError(
        f"the image {_shown(source)} {size or 'has too many pixels and'} is too large: at most "
        f"{LARGEST:,} pixels and {MOST_BYTES >> 20} MiB are decoded"
    )


def _unreadable(source: str, error: Exception) -> ImageError:
    if isinstance(error, ImageError):
        return error
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(f"cannot read the image {_shown(source)}: {reason}")


def _shown(source: str) -> str:
    """A path whole, of a data URL the beginning."""
    return f"{source[:40]}..." if source.startswith("data:") else source[:4096]
