"""The images of transcripts: small copies, each once on a page, or what is wrong with an image."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from slm_math.images import ImageError, image_hash, thumbnail
from slm_math.records.record import RecordedImage
from slm_math.report.text import line

SIDE = 256  # pixels
MEGABYTES = 20.0
LARGEST = 100_000_000  # bytes of a file that is read
# how the files begin that hold pixels only: PNG, JPEG, GIF, WebP, BMP, TIFF
_RASTER = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


class Thumbnails:
    """Makes the thumbnails of a page, of all images together at most so many megabytes.

    `data` has them by the hash of the image: JPEG in base64. An image that is gone, was changed or
    cannot be read is named with the reason.
    """

    def __init__(self, megabytes: float = MEGABYTES) -> None:
        self.megabytes = megabytes
        self.data: dict[str, str] = {}
        self.left_out: set[RecordedImage] = set()
        self._problems: dict[RecordedImage, str] = {}  # why an image has no thumbnail

    def html(self, images: tuple[RecordedImage, ...]) -> str:
        """Images with their names; the script of the page gives them their pixels."""
        if not images:
            return ""
        return f'<div class="images">{"".join(map(self._figure, images))}</div>'

    def note(self) -> str:
        """What the page says about its images; "" if it has none."""
        shown, left_out, broken = map(len, (self.data, self.left_out, self._problems))
        size = sum(map(len, self.data.values())) / 1e6
        counts = (
            (shown, f"Images: {shown} ({size:.1f} MB), at most {SIDE} pixels wide or high."),
            (left_out, f"Images left out, beyond {self.megabytes:g} MB (--image_mb): {left_out}."),
            (broken, f"Images that cannot be shown, for which transcripts say why: {broken}."),
        )
        said = [text for count, text in counts if count]
        return " ".join(said)

    def _figure(self, image: RecordedImage) -> str:
        name = escape(_name(image) + (" (blank)" if image.blank else ""))
        problem = self._problem(image)
        if problem:
            return f'<p class="faint">image {name}: {escape(line(problem, 200))}</p>'
        return (
            f'<figure class="image"><img alt="{name}" data-image="{image.hash}">'
            f"<figcaption>{name}</figcaption></figure>"
        )

    def _problem(self, image: RecordedImage) -> str:
        """Why an image is not shown; "" once `data` has it."""
        if image.hash in self.data:
            return ""
        if image in self.left_out:
            return f"not shown, as images take {self.megabytes:g} MB of this page"
        if image not in self._problems:
            try:
                pixels = base64.b64encode(_pixels(image)).decode()
            except ImageError as error:
                self._problems[image] = str(error)
            else:
                if len(pixels) + sum(map(len, self.data.values())) > 1e6 * self.megabytes:
                    self.left_out.add(image)
                else:
                    self.data[image.hash] = pixels
                return self._problem(image)
        return self._problems[image]


def _name(image: RecordedImage) -> str:
    """The name of an image's file, and of its folder, which tells images of the same name apart."""
    return line("/".join(Path(image.source).parts[-2:]), 80) or "in the problem itself"


def _pixels(image: RecordedImage) -> bytes:
    """The thumbnail. Raises ImageError unless its file has pixels, and those that were shown."""
    if not image.source:
        raise ImageError("it was a data URL, which records do not keep")
    if image.source.startswith(("http://", "https://")):
        raise ImageError(f"{image.source} is not on this machine")
    try:
        path = Path(image.source)
        if not path.is_file():
            raise ImageError(f"{image.source} is not there any more")
        if path.stat().st_size > LARGEST:
            raise ImageError(f"{image.source} is larger than {LARGEST / 1e6:.0f} MB")
        if image_hash(image.source) != image.hash:
            raise ImageError(f"{image.source} was changed since")
        with path.open("rb") as file:
            begin = file.read(8)
    except (OSError, ValueError) as error:
        raise error if isinstance(error, ImageError) else ImageError(str(error)) from None
    if not begin.startswith(_RASTER):
        raise ImageError(f"{image.source} is no PNG, JPEG, GIF, WebP, BMP or TIFF")
    try:
        return thumbnail(image.source, SIDE)
    except Exception as error:  # of a broken file, decoders raise whatever they like
        raise (
            error
            if isinstance(error, ImageError)
            else ImageError(f"cannot read the image {image.source}: {error}")
        ) from None
