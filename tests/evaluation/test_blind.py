"""The blind control: what is asked again, where it is written, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.evaluating import ask
from evaluation.one_by_one import OneByOne, run
from evaluation.sighted import seen, tasks
from PIL import Image as Pillow

from slm_math.evaluation.blind import blind_control, blind_tasks, read_control
from slm_math.evaluation.compare import compare
from slm_math.images import image_hash
from slm_math.records.files import read_records
from slm_math.records.record import Record
from slm_math.types import Problem, Task

pytestmark = pytest.mark.usefixtures("cache")


def evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    """`slm-math eval` with the blind control: its exit status, and what it says."""
    source = (
        f"{{class_path: evaluation.sighted.Colors, init_args: {{folder: {tmp_path / 'data'}}}}}"
    )
    options = {
        "agents": "{one: {class_path: SingleShot, init_args: {prompt: solve_plain}}}",
        "source": source,
        "engines.default": "evaluation.sighted.Sighted",
        "out": str(tmp_path / "out"),
        "blank_images": "true",
    }
    status, out, error = ask(
        capsys, "eval", *(f"--{name}={value}" for name, value in options.items()), *more
    )
    return status, out + error


def records(tmp_path: Path, name: str) -> list[Record]:
    return read_records(tmp_path / "out" / name / "records.jsonl")


def test_blank_images_have_the_size_and_one_color(tmp_path: Path) -> None:
    asked = tasks(tmp_path / "data")
    blind = blind_tasks(asked)
    assert [task.problem.id for task in blind] == [f"colors/test/{i}" for i in range(6)]
    for old, new in zip(asked, blind, strict=False):
        [image] = new.problem.images
        with Pillow.open(image.source) as blank, Pillow.open(old.problem.images[0].source) as shown:
            assert blank.size == shown.size
            assert len(blank.convert("RGB").getcolors()) == 1
        assert image.blank
        assert (new.problem.text, new.gold) == (old.problem.text, old.gold)


def test_problems_without_images_have_no_control() -> None:
    with pytest.raises(ValueError, match="none of the 1 problems has one"):
        blind_tasks([Task(Problem("p", "?"), "1")])


def test_eval_prints_the_paired_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = evaluated(tmp_path, capsys)
    assert status == 0
    # 3 of 6 are gained, none lost: (3 - 0) / 8 -+ 1.96 sqrt(4 - 9/8) / 8, and p = 2 / 2^3
    control = "one: 100.0 with images, 50.0 blind: +50.0 [-4.0, 79.0], p = 0.250, n = 6"
    assert f"{control} (not asked again, as they have no images: 2)" in said
    again, out, _ = ask(capsys, "results", str(tmp_path / "out"))
    assert again == 0
    assert control in out


def test_agent_that_shows_no_images_is_named_below_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = evaluated(
        tmp_path, capsys, "--agents.blindfolded=evaluation.sighted.Blindfolded"
    )
    assert status == 0
    words = " ".join(said.split())
    for name in ("blindfolded", "blindfolded.blind"):
        assert (
            f"warning: {name}: the first request (role 'solver') did not show all images in 6 of "
            "6 samples of problems with images"
        ) in words
    assert "warning: one" not in words  # nor of its blind control: blank images are images


def test_only_problems_with_images_are_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(tmp_path, capsys)
    blind = records(tmp_path, "one.blind")
    assert sorted(record.id for record in blind) == [f"colors/test/{i}" for i in range(6)]
    assert all(record.blind and record.answer == "1" for record in blind)
    seeing = records(tmp_path, "one")
    assert len(seeing) == 8
    assert not any(record.blind for record in seeing)


def test_a_rerun_asks_only_what_is_missing_of_either_arm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(tmp_path, capsys)
    file = tmp_path / "out" / "one.blind" / "records.jsonl"
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole[:4]) + whole[4][:30])
    seeing = (tmp_path / "out" / "one" / "records.jsonl").read_bytes()
    assert evaluated(tmp_path, capsys)[0] == 0
    after = file.read_bytes().splitlines(keepends=True)
    assert after[:4] == whole[:4]
    assert [json.loads(line)["id"] for line in after] == [json.loads(line)["id"] for line in whole]
    assert (tmp_path / "out" / "one" / "records.jsonl").read_bytes() == seeing


def test_blind_records_never_resume_into_seeing_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even where the images of the problems are blank ones already."""
    asked = tasks(tmp_path / "data", shown=2, textual=0)
    for task, blank in zip(asked, blind_tasks(asked), strict=True):
        Path(task.problem.images[0].source).write_bytes(
            Path(blank.problem.images[0].source).read_bytes()
        )
    asked = tasks(tmp_path / "data", shown=2, textual=0)
    run(tmp_path / "one", OneByOne(seen), tasks=blind_tasks(asked), identity={"blank_images": True})
    with pytest.raises(ValueError, match="blank_images"):
        run(tmp_path / "one", OneByOne(seen), tasks=asked)


def test_an_unfinished_control_is_named_and_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(tmp_path, capsys)
    manifest = tmp_path / "out" / "one.blind" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"partial": True}))
    _, out, _ = ask(capsys, "results", str(tmp_path / "out"))
    assert "one is not compared with its blind control" in out
    assert "one.blind is partial" in out
    assert "with images" not in out


def test_a_control_of_other_weights_is_refused(tmp_path: Path) -> None:
    asked = tasks(tmp_path / "data", textual=0)
    run(tmp_path / "one", OneByOne(seen, model="new"), tasks=asked)
    run(tmp_path / "one.blind", OneByOne(seen, model="old"), tasks=blind_tasks(asked))
    with pytest.raises(ValueError, match=r"control of another evaluation \(engines.default.model"):
        read_control(tmp_path / "one")


def test_a_control_of_other_problems_is_refused(tmp_path: Path) -> None:
    asked = tasks(tmp_path / "data", textual=0)
    run(tmp_path / "one", OneByOne(seen), tasks=asked[:3])
    run(tmp_path / "one.blind", OneByOne(seen), tasks=blind_tasks(asked))
    with pytest.raises(ValueError, match="do not have the same problems"):
        read_control(tmp_path / "one")


def test_runs_on_other_images_are_not_compared(tmp_path: Path) -> None:
    asked = tasks(tmp_path / "data", textual=0)
    run(tmp_path / "a", OneByOne(seen), tasks=asked)
    Pillow.new("RGB", (5, 5), (1, 2, 3)).save(tmp_path / "data" / "3.png")
    run(tmp_path / "b", OneByOne(seen), tasks=asked)
    read = {name: read_records(tmp_path / name / "records.jsonl") for name in "ab"}
    with pytest.raises(ValueError, match="problem 'colors/test/3' has another image in b than in"):
        compare(read)


def test_several_samples_are_paired_by_problem(tmp_path: Path) -> None:
    asked = tasks(tmp_path / "data", textual=1)
    run(tmp_path / "one", OneByOne(seen), tasks=asked, samples=2)
    run(tmp_path / "two", OneByOne(seen), tasks=blind_tasks(asked), samples=2)
    control = blind_control(*(read_records(tmp_path / n / "records.jsonl") for n in ("one", "two")))
    assert (control.comparison.problems, control.textual) == (6, 1)
    assert control.comparison.difference == pytest.approx(0.5)


def test_records_keep_images_by_path_and_hash_and_no_pixels(tmp_path: Path) -> None:
    asked = tasks(tmp_path / "data", shown=1, textual=0)
    run(tmp_path / "one", OneByOne(seen), tasks=asked)
    row = json.loads((tmp_path / "one" / "records.jsonl").read_text())
    file = str(tmp_path / "data" / "0.png")
    assert row["images"] == [{"source": file, "hash": image_hash(file)}]
    assert row["events"][0]["prompt"][0]["images"] == row["images"]
