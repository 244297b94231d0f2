"""Which images are read, as what they are seen, and what is wrong with the others."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from slm_math.images import (
    ImageError,
    blank_image,
    cache_folder,
    check_image,
    image_hash,
    image_url,
    open_image,
    store_image,
    thumbnail,
)

pytestmark = pytest.mark.usefixtures("cache")


def saved(path: Path, image: Pillow.Image, **options: Any) -> str:
    image.save(path, **options)
    return str(path)


def noise(width: int = 60, height: int = 40) -> Pillow.Image:
    return Pillow.frombytes("RGB", (width, height), os.urandom(width * height * 3))


def png(header: bytes) -> bytes:
    """A PNG that consists of the chunk IHDR and of no pixels."""
    chunks = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        chunks += struct.pack(">I", len(data)) + kind + data + checksum
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_size_of_a_file_and_of_its_data_url(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.png", noise(60, 40))
    url = f"data:image/png;base64,{base64.b64encode(Path(source).read_bytes()).decode()}"
    assert check_image(source) == check_image(url) == (60, 40)


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),  # transparent: white, whatever is below
        ("RGBA", (255, 0, 0, 128), (255, 127, 127)),
        ("LA", (0, 0), (255, 255, 255)),
        ("L", 70, (70, 70, 70)),
        ("1", 1, (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 128 * 257, (128, 128, 128)),  # not cut off at 255
        ("I;16", 200, (1, 1, 1)),
    ],
)
def test_what_is_seen(mode: str, color: object, expected: tuple, tmp_path: Path) -> None:
    name = "a.jpg" if mode == "CMYK" else "a.png"
    source = saved(tmp_path / name, Pillow.new(mode, (8, 8), color))  # type: ignore[arg-type]
    image = open_image(source)
    assert image.mode == "RGB"
    near = [abs(a - b) <= 2 for a, b in zip(image.getpixel((3, 3)), expected, strict=True)]
    assert all(near), image.getpixel((3, 3))


def test_a_pgm_of_16_bits(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 8 8 65535\n" + b"\x80\x80" * 63 + b"\xff\xff")
    source = str(tmp_path / "a.pgm")
    assert check_image(source) == (8, 8)
    image = open_image(source)
    assert (image.getpixel((0, 0)), image.getpixel((7, 7))) == ((128,) * 3, (255,) * 3)


def test_a_transparent_value_of_16_bits(tmp_path: Path) -> None:
    image = Pillow.new("I;16", (8, 8), 128 * 257)
    image.putpixel((7, 7), 128 * 257 + 1)  # as gray as the others in 8 bits
    source = saved(tmp_path / "a.png", image, transparency=128 * 257)
    seen = open_image(source)
    assert (seen.getpixel((0, 0)), seen.getpixel((7, 7))) == ((255,) * 3, (128,) * 3)


def test_a_palette_with_a_transparent_color(tmp_path: Path) -> None:
    image = Pillow.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 0, 0, 200])
    source = saved(tmp_path / "a.png", image, transparency=1)
    assert open_image(source).getpixel((0, 0)) == (255, 255, 255)
    opaque = saved(tmp_path / "b.png", image)
    assert open_image(opaque).getpixel((0, 0)) == (0, 0, 200)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tiff"])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
def test_the_size_is_that_of_the_turned_image(name: str, orientation: int, tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    source = saved(tmp_path / name, noise(60, 40), exif=exif)
    expected = (60, 40) if orientation < 5 else (40, 60)
    assert check_image(source) == open_image(source).size == expected


def test_exif_turns_an_image(tmp_path: Path) -> None:
    image = Pillow.new("RGB", (20, 10), "white")
    image.paste((255, 0, 0), (0, 0, 10, 10))  # the left half is red
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    source = saved(tmp_path / "a.jpg", image, exif=exif, quality=95)
    assert check_image(source) == (10, 20)
    turned = open_image(source)
    assert turned.size == (10, 20)
    red, green, _ = turned.getpixel((5, 3))
    assert (red > 200, green < 60) == (True, True)  # now above


def test_pixels_of_32_bits_are_no_colors(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.tiff", Pillow.new("F", (8, 8), 0.5))
    with pytest.raises(ImageError, match=r"a\.tiff: its pixels are numbers of 32 bits"):
        check_image(source)


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((1, 50), "1 x 50 pixels: a side has at least 4"),
        ((50, 3), "50 x 3 pixels: a side has at least 4"),
        ((804, 4), "804 x 4 pixels: one side may be at most 200 times"),
    ],
)
def test_sizes_that_no_model_sees(size: tuple[int, int], reason: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "a.png", Pillow.new("RGB", size))
    with pytest.raises(ImageError, match=reason):
        check_image(source)


def test_the_most_oblong_and_the_smallest_image_are_good(tmp_path: Path) -> None:
    assert check_image(saved(tmp_path / "a.png", Pillow.new("RGB", (800, 4)))) == (800, 4)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp"])
@pytest.mark.parametrize("share", [0.4, 0.95])
def test_a_truncated_file(name: str, share: float, tmp_path: Path) -> None:
    source = Path(saved(tmp_path / name, noise()))
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * share)])
    with pytest.raises(ImageError, match=name):
        check_image(str(source))


def test_a_flipped_byte_of_a_png(tmp_path: Path) -> None:
    source = Path(saved(tmp_path / "a.png", noise()))
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 255
    source.write_bytes(data)
    with pytest.raises(ImageError, match=r"cannot read the image .*a\.png"):
        check_image(str(source))


def test_a_decompression_bomb_is_not_decoded(tmp_path: Path) -> None:
    for side, file in ((8000, "big.png"), (60_000, "bomb.png")):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        (tmp_path / file).write_bytes(png(header))
        for read in (check_image, open_image):
            with pytest.raises(ImageError, match=rf"{file}.*too large"):
                read(str(tmp_path / file))


def test_an_animated_image(tmp_path: Path) -> None:
    frames = [noise(), noise()]
    for name in ("a.gif", "a.webp", "a.tiff"):
        source = saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:])
        with pytest.raises(ImageError, match="animated or has several pages"):
            check_image(source)
    assert check_image(saved(tmp_path / "one.gif", frames[0])) == (60, 40)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "begins with b'<!DOCTYPE ht"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is none of PNG, JPEG"),
    ],
)
def test_what_is_no_image(data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match=reason) as raised:
        check_image(str(tmp_path / "a.png"))
    assert str(tmp_path / "a.png") in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("/no/such.png", "/no/such.png: No such file"),
        ("/dev/zero", "no regular file"),
        ("/tmp", "no regular file"),
        ("a\0b.png", "cannot read"),
        ("https://example.org/a.png", "download it first"),
        ("data:image/png;base64,AAAA", "is none of"),
    ],
)
def test_what_is_no_file(source: str, reason: str) -> None:
    for read in (check_image, open_image):
        with pytest.raises(ImageError, match=reason):
            read(source)


def test_a_good_file_is_read_once_and_again_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slm_math import images

    reads: list[str] = []
    read = images.image_bytes
    monkeypatch.setattr(images, "image_bytes", lambda s: reads.append(s) or read(s))
    source = saved(tmp_path / "a.png", noise(60, 40))
    assert check_image(source) == check_image(source) == (60, 40)
    assert reads == [source]
    saved(tmp_path / "a.png", noise(30, 20))
    assert check_image(source) == (30, 20)


def test_a_hash_is_of_the_content(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.png", noise())
    data = Path(source).read_bytes()
    (tmp_path / "b.png").write_bytes(data)
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    expected = hashlib.sha256(data).hexdigest()
    assert image_hash(source) == image_hash(str(tmp_path / "b.png")) == image_hash(url) == expected
    assert image_hash("no.png") != image_hash("no2.png")


def test_a_blank_image_has_the_size_and_one_color(tmp_path: Path, cache: Path) -> None:
    source = saved(tmp_path / "a.png", noise(60, 40))
    blank = open_image(blank_image(source))
    assert blank.size == (60, 40)
    assert blank.getcolors() == [(2400, (128, 128, 128))]
    assert blank_image(source) == blank_image(saved(tmp_path / "b.jpg", noise(60, 40)))
    assert Path(blank_image(source)).is_relative_to(cache)


def test_a_thumbnail_is_a_small_jpeg(tmp_path: Path) -> None:
    small = Pillow.open(io.BytesIO(thumbnail(saved(tmp_path / "a.png", noise(200, 100)), 50)))
    assert (small.format, small.size) == ("JPEG", (50, 25))


def test_bytes_are_stored_once_by_their_content(tmp_path: Path, cache: Path) -> None:
    data = Path(saved(tmp_path / "a.png", noise())).read_bytes()
    path = Path(store_image(data))
    changed = path.stat().st_mtime_ns
    assert path.read_bytes() == data
    assert path.name == f"{hashlib.sha256(data).hexdigest()}.png"
    assert path.is_relative_to(cache)
    assert store_image(data) == str(path)
    assert path.stat().st_mtime_ns == changed
    path.write_bytes(b"half")  # what a full disk left
    assert Path(store_image(data)).read_bytes() == data
    assert len(list(cache.rglob("*.png"))) == 1


def test_the_cache_folder_without_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLM_MATH_CACHE")
    monkeypatch.setenv("HOME", "/home/ada")
    assert cache_folder() == Path("/home/ada/.cache/slm-math")


def test_a_server_gets_what_the_model_here_would_see(tmp_path: Path) -> None:
    plain = saved(tmp_path / "a.jpg", noise())
    assert image_url(plain).startswith("data:image/jpeg;base64,")
    assert base64.b64decode(image_url(plain).partition(",")[2]) == Path(plain).read_bytes()
    assert image_url(image_url(plain)) == image_url(plain)
    clear = saved(tmp_path / "b.png", Pillow.new("RGBA", (8, 8), (9, 9, 9, 0)))
    own = f"data:image/png;base64,{base64.b64encode(Path(clear).read_bytes()).decode()}"
    for source in (clear, own):
        sent = Pillow.open(io.BytesIO(base64.b64decode(image_url(source).partition(",")[2])))
        assert (sent.mode, sent.getpixel((0, 0))) == ("RGB", (255, 255, 255))
