"""`check-data` on visual sets: images that cannot be seen, and images of test problems."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from data.visual_files import embedded, png, write_parquet
from PIL import Image as Pillow

from slm_math.cli import run
from slm_math.data.findings import among_test_images, check_task
from slm_math.types import Image, Problem, Task

pytestmark = pytest.mark.usefixtures("cache")


def problem(tmp_path: Path, id: str, text: str, *numbers: int) -> Problem:
    images = []
    for number in numbers:
        file = tmp_path / f"{id.replace('/', '-')}-{number}.png"
        file.write_bytes(png(number))
        images.append(Image(str(file)))
    return Problem(id, text, images=tuple(images))


def test_an_image_that_cannot_be_seen() -> None:
    task = Task(Problem("p/1", "Find x.", images=(Image("no.png"),)), "3")
    [finding] = check_task(task, "train", "Mine")
    assert (finding.kind, finding.id, finding.is_error) == ("image", "p/1", True)
    assert finding.text == "cannot read the image no.png: No such file or directory"


def test_other_questions_about_images_of_a_test_set(tmp_path: Path) -> None:
    test = [problem(tmp_path, "t/1", "Find x.", 1), problem(tmp_path, "t/2", "Find x.", 2)]
    train = [
        problem(tmp_path, "p/1", "How long is y?", 1),
        problem(tmp_path, "p/2", "And z?", 1),  # one finding for an image
        problem(tmp_path, "p/3", "Find x.", 2),  # the test problem itself
        problem(tmp_path, "p/4", "Find x.", 3),
    ]
    findings = list(among_test_images({"train": train}, test, "Set", lambda some, _: some))
    assert [(each.kind, each.id, each.other) for each in findings] == [("test image", "p/1", "t/1")]


@pytest.mark.parametrize("name", ["a.bmp", "a.png"])
def test_the_pixels_of_a_test_image_in_another_file(name: str, tmp_path: Path) -> None:
    test = problem(tmp_path, "t/1", "Find x.", 1)
    copy = Pillow.open(test.images[0].source)
    copy.save(tmp_path / name, compress_level=0)  # which a BMP has no use for
    other = Pillow.frombytes("RGB", (10, 12), copy.tobytes())  # the same bytes, another size
    other.save(tmp_path / "other.png")
    train = [
        Problem(f"p/{file}", "Find x.", images=(Image(str(tmp_path / file)),))
        for file in ("other.png", name)
    ]
    [finding] = among_test_images({"train": train}, [test], "Set", lambda some, _: some)
    assert (finding.id, finding.other) == (f"p/{name}", "t/1")


@pytest.mark.parametrize("unusable", ["refuse", "skip"])
def test_check_data_names_every_bad_row(
    unusable: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [png(1), png(2)[:50], png(3, (2, 90)), png(1), png(4)]
    golds = ["3", "3", "3", "4", "?"]
    rows = [
        {"images": [embedded(data)], "problem": "<image>Find $x$.", "answer": gold}
        for data, gold in zip(images, golds, strict=True)
    ]
    write_parquet(tmp_path / "train.parquet", rows)
    options = {"source.path": str(tmp_path / "train.parquet"), "source.unusable": unusable}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    with pytest.raises(SystemExit):
        run(["check-data", "Geometry3K", *arguments, "--out", str(tmp_path / "findings.jsonl")])
    shown = capsys.readouterr().out
    assert "error, image cannot be seen by a model: 2" in shown
    assert "error, same problem, another gold: 1" in shown  # found although two rows are bad
    lines = (tmp_path / "findings.jsonl").read_text().splitlines()
    kinds = Counter(line.split('"kind": "')[1].split('"')[0] for line in lines)
    assert kinds["image"] == 2
    assert "train.parquet, row 2" in lines[0]
