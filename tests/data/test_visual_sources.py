"""The published sets of visual problems, on hand-made files in their shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from data.visual_files import (
    embedded,
    facts,
    first,
    geometry_folder,
    png,
    write_image,
    write_json,
    write_parquet,
)

from slm_math.data import (
    CLEVRMath,
    Geometry3K,
    Mixture,
    VideoR1,
)
from slm_math.data.base import Source, read_dialogues, read_tasks
from slm_math.images import image_bytes

pytestmark = pytest.mark.usefixtures("cache")


# Geometry3K


def test_the_original_folders_of_geometry3k(tmp_path: Path) -> None:
    for number, answer in ((10, "B"), (9, "D")):
        geometry_folder(tmp_path / "train" / str(number), number, answer)
    geometry_folder(tmp_path / "val" / "2", 2, "A", data_type="val")
    geometry_folder(tmp_path / "test" / "3", 3, "C", data_type="test")
    source = Geometry3K(str(tmp_path))
    nine, ten = read_tasks(source, "train")
    assert [nine.gold, ten.gold] == ["D", "B"]  # by number, not by name
    assert facts(ten) == ("Find $x_{10}$.", "mc", ("3", "2 \\sqrt { 2 }", "4.5", "7"), "B")
    assert ten.problem.tags == {"shape": "Circle, Line", "goal": "Length"}
    assert image_bytes(ten.problem.images[0].source) == png(10)
    assert [first(source, split).gold for split in ("validation", "test")] == ["A", "C"]


def test_folders_whose_rows_say_their_split(tmp_path: Path) -> None:
    for number, part in ((1, "train"), (2, "val"), (3, "test")):
        geometry_folder(tmp_path / str(number), number, "ABC"[number - 1], data_type=part)
    source = Geometry3K(str(tmp_path))
    golds = [first(source, split).gold for split in ("train", "validation", "test")]
    assert golds == ["A", "B", "C"]


def test_the_parquet_files_of_geometry3k(tmp_path: Path, cache: Path) -> None:
    row = {"images": [embedded(png(1))], "problem": "<image>Find $x$.", "answer": "4.5", "id": 7}
    new = row | {"choices": ["3", "4.5"], "ground_truth": "B"}
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [new])
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", [row])
    source = Geometry3K(str(tmp_path))
    assert facts(first(source)) == ("Find $x$.", "mc", ("3", "4.5"), "B")
    assert facts(first(source, "test")) == ("Find $x$.", "num", (), "4.5")  # the first version
    [image] = first(source).problem.images
    assert image_bytes(image.source) == png(1)
    assert Path(image.source).is_relative_to(cache)


def test_an_image_in_several_rows_is_stored_once(tmp_path: Path, cache: Path) -> None:
    rows = [
        {"images": [embedded(png(n % 2))], "problem": f"<image>Find {n}.", "answer": "3"}
        for n in range(6)
    ]
    file = write_parquet(tmp_path / "train.parquet", rows)
    for _ in range(2):
        assert len(read_tasks(Geometry3K(str(file)), "train")) == 6
    assert len(list(cache.rglob("*.png"))) == 2


def test_a_file_is_of_the_split_that_its_name_says(tmp_path: Path) -> None:
    row = {"images": [embedded(png(1))], "problem": "<image>Find $x$.", "answer": "3"}
    source = Geometry3K(str(write_parquet(tmp_path / "train-00000-of-00001.parquet", [row])))
    assert len(source.tasks("train")) == 1
    assert source.tasks("validation") == []
    with pytest.raises(FileNotFoundError, match="no test split here"):
        source.tasks("test")


# CLEVR-Math


def clevr_json(folder: Path, part: str, answers: list[int]) -> None:
    questions = [
        {
            "question": "Remove all red cubes. How many objects are left?",
            "answer": answer,
            "image_filename": f"CLEVR_{part}_{n}.png",
            "split": part,
            "template_filename": "subtraction.json",
        }
        for n, answer in enumerate(answers)
    ]
    write_json(folder / f"clevr-math-{part}.json", {"info": {}, "questions": questions})
    for n in range(len(answers)):
        write_image(folder / "CLEVR_v1.0/images" / part / f"CLEVR_{part}_{n}.png", n)


def test_the_original_files_of_clevr_math(tmp_path: Path) -> None:
    clevr_json(tmp_path, "train", [4, 0])
    clevr_json(tmp_path, "val", [5])
    source = CLEVRMath(str(tmp_path))
    one, other = read_tasks(source, "train")
    assert facts(one) == ("Remove all red cubes. How many objects are left?", "num", (), "4")
    assert [other.gold, first(source, "validation").gold] == ["0", "5"]
    assert one.problem.tags == {"template": "subtraction"}
    with pytest.raises(FileNotFoundError, match=r"no test split here.*clevr-math-test\.json"):
        source.tasks("test")


def test_the_parquet_files_of_clevr_math(tmp_path: Path) -> None:
    row = {"template": "addition", "id": "CLEVR_test_7.png", "question": "How many?", "label": 7}
    write_parquet(tmp_path / "test-00000-of-00001.parquet", [row | {"image": embedded(png(3))}])
    task = first(CLEVRMath(str(tmp_path)), "test")
    assert (task.gold, task.problem.answer_type) == ("7", "num")
    assert image_bytes(task.problem.images[0].source) == png(3)


# Video-R1


def video_r1(folder: Path, *rows: dict[str, Any]) -> Path:
    usual = {
        "problem": "How long is x?",
        "data_type": "image",
        "problem_type": "multiple choice",
        "options": ["A. 3", "B. 4.5"],
        "process": "",
        "solution": "<answer>B</answer>",
        "path": "./Math/GEOS/0.png",
        "data_source": "GEOS",
    }
    for number in range(3):
        write_image(folder / f"Math/GEOS/{number}.png", number)
    whole = [usual | {"problem_id": n} | row for n, row in enumerate(rows)]
    return write_json(folder / "Video-R1-260k.json", whole)


def test_the_math_part_of_video_r1(tmp_path: Path) -> None:
    number = {"problem_type": "numerical", "options": [], "solution": "<answer>5</answer>"}
    video_r1(
        tmp_path,
        {},
        number | {"path": "./Math/GEOS/1.png", "data_source": "CLEVR-Math"},
        {"path": "./Chart/7.png"},
        {"path": "./Math/GEOS/2.png", "problem_type": "free-form"},
        {"path": "./STAR/7.mp4", "data_type": "video"},
    )
    source = VideoR1(str(tmp_path), validation=0, tolerance="1%")
    choice, count = read_tasks(source, "train")
    assert facts(choice) == ("How long is x?", "mc", ("3", "4.5"), "B")
    assert (count.gold, count.problem.answer_type, count.tolerance) == ("5", "num", "1%")
    assert count.problem.tags == {"data_source": "CLEVR-Math"}
    assert source.about("train") == "video_r1/train: rows of other kinds are left out: 1 free-form"
    parts: dict[str, Source] = {
        name: VideoR1(str(tmp_path), sources=[name], validation=0)
        for name in ("CLEVR-Math", "GEOS")
    }
    assert [task.gold for task in read_tasks(parts["CLEVR-Math"], "train")] == ["5"]
    mixture = read_tasks(Mixture(parts, limits={"GEOS": 1}), "train")
    assert [task.problem.tags["source"] for task in mixture] == ["CLEVR-Math", "GEOS"]


def test_thoughts_of_video_r1_are_worked_solutions(tmp_path: Path) -> None:
    file = video_r1(tmp_path, {"process": "<think>It is 4.5.</think>"})
    [chat] = read_dialogues(VideoR1(str(file), validation=0), "train", "solve_plain")
    assert chat[1].text == "<think>It is 4.5.</think>\n<answer>B</answer>"


# all of them


def broken(tmp_path: Path, unusable: str) -> Geometry3K:
    rows = [
        {"images": [embedded(data)], "problem": f"<image>Find {n}.", "answer": "3"}
        for n, data in enumerate((png(1), png(2)[:40], png(3, (2, 50)), png(4)))
    ]
    write_parquet(tmp_path / "train.parquet", rows)
    return Geometry3K(str(tmp_path / "train.parquet"), unusable=unusable)  # type: ignore[arg-type]


def test_an_image_that_cannot_be_used_is_named_by_file_and_row(tmp_path: Path) -> None:
    wanted = r"train\.parquet, row 2: field 'images': cannot read the image .*\(and 1 more rows\)"
    with pytest.raises(ValueError, match=rf"{wanted}; unusable: skip leaves such rows"):
        read_tasks(broken(tmp_path, "refuse"), "train")


def test_rows_are_left_out_if_that_is_chosen(tmp_path: Path) -> None:
    source = broken(tmp_path, "skip")
    assert [task.problem.text for task in read_tasks(source, "train")] == ["Find 0.", "Find 3."]
    assert source.about("train").startswith("geometry3k/train: 2 rows cannot be used")
    assert "row 2" in source.about("train")


def test_a_missing_image_and_a_letter_beyond_the_choices(tmp_path: Path) -> None:
    video_r1(tmp_path, {"path": "./Math/no.png"})
    with pytest.raises(ValueError, match=r"row 1: field 'path': .*Math/no\.png: No such file"):
        read_tasks(VideoR1(str(tmp_path)), "train")
    video_r1(tmp_path, {"solution": "<answer>D</answer>"})
    with pytest.raises(ValueError, match=r"row 1: field 'solution' names no choice: 'D'"):
        read_tasks(VideoR1(str(tmp_path)), "train")


def test_a_limit_reads_no_more_rows_than_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slm_math.data import visual

    checked: list[str] = []
    check = visual.check_image
    monkeypatch.setattr(visual, "check_image", lambda s: checked.append(s) or check(s))
    clevr_json(tmp_path, "train", list(range(8)))
    assert len(CLEVRMath(str(tmp_path), limit=3).tasks("train")) == 3
    assert len(checked) == 3


def test_sets_work_as_a_mixture(tmp_path: Path) -> None:
    """Weights, limits, and a problem of two sets, whose images are the same, once."""
    for number in range(8):
        geometry_folder(tmp_path / "geometry" / "train" / str(number), number, "A")
    clevr_json(tmp_path / "clevr", "train", list(range(6)))
    rows = [
        {
            "images": [embedded(png(n))],
            "problem": f"<image>Find $x_{{{n}}}$.",
            "answer": "3",
            "choices": ["3", "2 \\sqrt { 2 }", "4.5", "7"],
            "ground_truth": "A",
        }
        for n in (6, 7, 8)
    ]
    write_parquet(tmp_path / "copy" / "train.parquet", rows)
    mixture = Mixture(
        {
            "folders": Geometry3K(str(tmp_path / "geometry")),
            "parquet": Geometry3K(str(tmp_path / "copy")),
            "clevr": CLEVRMath(str(tmp_path / "clevr")),
        },
        weights={"folders": 0.5, "parquet": 0.2, "clevr": 0.3},
        limits={"clevr": 2},
    )
    counts = {name: len(part.tasks("train")) for name, part in mixture.parts().items()}
    assert counts == {"folders": 8, "parquet": 1, "clevr": 2}


def test_the_ten_published_samples(real_data: Path) -> None:
    tasks = read_tasks(Geometry3K(str(real_data / "geometry3k")), "train")
    assert "".join(task.gold for task in tasks) == "DBABCBDCDA"
    assert {len(task.problem.choices) for task in tasks} == {4}
    assert len({task.problem.images for task in tasks}) == 10
