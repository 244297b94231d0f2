"""Images in reports: small copies, once a page; what is not shown is named, and breaks nothing."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from report.runs import HOSTILE, record, turn, write
from report.test_page import bodies, check_inert, data_of, made

from slm_math.records.record import RecordedImage
from slm_math.report.thumbnails import Thumbnails


def drawn(file: Path, size: tuple[int, int] = (400, 300), color: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", size, (color, 200, 30)).save(file)
    return file


def kept(file: Path | str, **more: Any) -> dict[str, Any]:
    """An image as a record has it."""
    path = Path(file)
    data = path.read_bytes() if path.is_file() else b"gone"
    return {"source": str(file), "hash": hashlib.sha256(data).hexdigest()} | more


def about(number: int, *images: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A record of a problem with images, which its prompt shows."""
    prompt = [{"role": "user", "content": "How many?", "images": list(images)}]
    return record(number, True, turn() | {"prompt": prompt}, images=list(images), **more)


def test_an_image_is_on_the_page_once_and_small(tmp_path: Path) -> None:
    image = kept(drawn(tmp_path / "big.png"))
    copy = kept(drawn(tmp_path / "copy" / "same.png"))
    rows = [about(0, image), about(1, image, copy)]
    page = made(tmp_path, *(write(tmp_path / "out" / name, rows) for name in "ab"))
    images = data_of(page)["images"]
    assert list(images) == [image["hash"]]
    with Pillow.open(io.BytesIO(base64.b64decode(images[image["hash"]]))) as small:
        assert (small.format, small.size) == ("JPEG", (256, 192))
    # the problem and its prompt, of two agents: one image in the first record, two in the second
    assert sum(body.count(f'data-image="{image["hash"]}"') for body in bodies(page)) == 12
    assert "Images: 1 (0.0 MB), at most 256 pixels" in page


@pytest.mark.parametrize("kind", ["gone", "changed", "folder", "svg", "html", "truncated", "url"])
def test_an_image_that_cannot_be_shown_is_named(tmp_path: Path, kind: str) -> None:
    file = drawn(tmp_path / "data" / "image.png")
    image = kept(file)
    if kind == "gone":
        file.unlink()
    elif kind == "changed":
        drawn(file, color=9)
    elif kind == "folder":
        file.unlink()
        file.mkdir()
    elif kind == "url":
        image = kept("https://example.org/data/image.png")
    else:
        text = {"svg": '<svg xmlns="http://www.w3.org/2000/svg"/>', "html": "<html></html>"}
        whole = file.read_bytes()
        file.write_bytes(text[kind].encode() if kind in text else whole[: len(whole) // 2])
        image = kept(file)
    page = made(tmp_path, write(tmp_path / "out" / "a", [about(0, image), about(1)]))
    assert data_of(page)["images"] == {}
    [first, second] = bodies(page)
    reason = {"gone": "is not there any more", "changed": "was changed since",
              "folder": "is not there any more", "url": "is not on this machine",
              "truncated": "cannot read the image"}  # fmt: skip
    assert f"data/image.png: {reason.get(kind, '')}" in first.replace(f"{file} ", "") or (
        reason.get(kind, "is no PNG, JPEG") in first
    )
    assert "data/image.png" in first
    assert "<img" not in first + second
    assert "svg" not in first
    assert "Images that cannot be shown, for which transcripts say why: 1." in page


def test_a_file_that_breaks_in_the_middle_breaks_no_page(tmp_path: Path) -> None:
    """Pillow raises a SyntaxError for a broken chunk after the first pixels."""
    out = io.BytesIO()
    Pillow.effect_noise((400, 400), 90).save(out, "PNG")
    first, second, *rest = out.getvalue().split(b"IDAT")
    assert rest
    file = tmp_path / "broken.png"
    file.write_bytes(b"IDAT".join([first, second + b"\xff\xfe\x00\x01" + rest[0], *rest[1:]]))
    [body] = bodies(made(tmp_path, write(tmp_path / "out" / "a", [about(0, kept(file))])))
    assert "broken.png: cannot read the image" in body


def test_hostile_names_are_text(tmp_path: Path) -> None:
    name = '<script>alert(1)<b onclick=a>"{{7*7}}.png'
    images = [kept(drawn(tmp_path / name)), kept("/" + HOSTILE), kept(drawn(tmp_path / "a'b.png"))]
    odd = [{"source": 3, "hash": '"><script>'}, "no image", {}]
    page = made(tmp_path, write(tmp_path / "out" / "a", [about(0, *images, *odd)]))
    check_inert(page)
    assert page.count("<script") == 2
    [body] = bodies(page)
    check_inert(body)
    assert "&lt;script&gt;alert(1)" in body
    assert body.count("<img") == 4
    assert all(len(key) == 64 and key.isalnum() for key in data_of(page)["images"])


def test_what_is_beyond_the_limit_is_said(tmp_path: Path) -> None:
    files = []
    for number in range(6):
        file = tmp_path / f"{number}.png"
        noise = Pillow.effect_noise((256, 256), 90 + number)
        noise.save(file)
        files.append(file)
    sizes = Thumbnails()
    sizes.html(tuple(RecordedImage(**kept(file)) for file in files))
    two = sum(map(len, list(sizes.data.values())[:2]))
    rows = [about(number, kept(file)) for number, file in enumerate(files)]
    page = made(tmp_path, write(tmp_path / "out" / "a", rows), image_mb=two / 1e6)
    assert len(data_of(page)["images"]) == 2
    assert "MB (--image_mb): 4." in page
    assert sum("not shown, as images take" in body for body in bodies(page)) == 4
    none = made(tmp_path, tmp_path / "out" / "a", image_mb=0)
    assert data_of(none)["images"] == {}


def test_a_data_url_is_named(tmp_path: Path) -> None:
    page = made(tmp_path, write(tmp_path / "out" / "a", [about(0, {"source": "", "hash": "ab"})]))
    assert "it was a data URL, which records do not keep" in bodies(page)[0]


def test_choices_are_shown_below_the_problem(tmp_path: Path) -> None:
    rows = [about(0, choices=["one", "two"], answer_type="mc")]
    [body] = bodies(made(tmp_path, write(tmp_path / "out" / "a", rows)))
    assert "What is 0 + 0?\n(A) one\n(B) two" in body


def test_choices_are_formulas_and_stay_as_written(tmp_path: Path) -> None:
    choices = ["5", "5 \\sqrt { 2 }", "all of these"]
    rows = [about(0, choices=choices, answer_type="mc")]
    [body] = bodies(made(tmp_path, write(tmp_path / "out" / "a", rows)))
    rendered, written = body.split('<pre class="raw">')[:2]
    assert "(A) 5\n(B) <math" in rendered
    assert "<msqrt><mrow><mn>2</mn></mrow></msqrt>" in rendered
    assert "\n(C) all of these" in rendered
    assert written.startswith("What is 0 + 0?\n(A) 5\n(B) 5 \\sqrt { 2 }\n(C) all of these</pre>")
