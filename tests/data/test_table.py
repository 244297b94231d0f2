"""Tables of any format and any names of columns are problems; what is ambiguous is refused."""

import base64
import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from data.published import write_jsonl
from data.visual_files import embedded, png, write_image, write_parquet

from slm_math.data import Table
from slm_math.data.base import read_tasks
from slm_math.images import image_bytes
from slm_math.types import Task

ROWS = [{"question": "What is 15 % of 80?", "answer": "12"}, {"question": "3, 4?", "answer": "7"}]


def table(tmp_path: Path, *rows: dict[str, Any], **options: Any) -> list[Task]:
    path = write_jsonl(tmp_path / "rows.jsonl", list(rows))
    return read_tasks(Table(str(path), validation=0, **options), "train")


def write(path: Path) -> None:
    kind = path.suffixes[0]
    if kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
        return
    if kind in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            rows = csv.DictWriter(file, ROWS[0], delimiter="\t" if kind == ".tsv" else ",")
            rows.writeheader()
            rows.writerows(ROWS)
    else:
        path.write_text(json.dumps(ROWS) if kind == ".json" else "\n".join(map(json.dumps, ROWS)))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))


NAMES = ["x.jsonl", "x.json", "x.csv", "x.tsv", "x.parquet", "x.jsonl.gz", "x.csv.gz"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_has_the_same_problems(name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        tasks = read_tasks(Table(str(path), validation=0), "train")
        assert [(task.problem.text, task.gold, task.problem.id) for task in tasks] == [
            ("What is 15 % of 80?", "12", "table/0"),
            ("3, 4?", "7", "table/1"),
        ]


WORKED = "0.15*80 = 12, so \\boxed{12}."
COLUMNS = {
    "worked answer": ({"question": "Q?", "answer": "6+6.\n#### 12"}, "12", "6+6.\n#### 12"),
    "solution": ({"problem": "Q?", "solution": WORKED}, "12", WORKED),
    "both": ({"problem": "Q?", "answer": "12", "solution": WORKED}, "12", WORKED),
    "alpaca": ({"instruction": "Q?", "input": "", "output": WORKED}, "12", WORKED),
    "completion": ({"prompt": "Q?", "completion": WORKED}, "12", WORKED),
    "number": ({"query": "Q?", "target": 12.0}, "12", None),
    "messages": (
        {"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": WORKED}]},
        "12",
        WORKED,
    ),
}


@pytest.mark.parametrize(("row", "gold", "solution"), COLUMNS.values(), ids=COLUMNS)
def test_usual_names_are_known(
    row: dict[str, Any], gold: str, solution: str | None, tmp_path: Path
) -> None:
    [task] = table(tmp_path, row)
    assert (task.problem.text, task.gold, task.solution) == ("Q?", gold, solution)


def test_an_input_belongs_to_its_instruction(tmp_path: Path) -> None:
    [task] = table(tmp_path, {"instruction": "Compute", "input": "6+6", "output": WORKED})
    assert task.problem.text == "Compute\n6+6"


def test_options_name_columns(tmp_path: Path) -> None:
    row = {"q": "Q?", "a": "B", "why": "Because", "of": ["11", "12"], "key": 7, "level": 3}
    [task] = table(
        tmp_path, row, problem="q", answer="a", solution="why", choices="of", id="key",
        tags=["level"], name="quiz",
    )  # fmt: skip
    assert task.problem.id == "quiz/7"
    assert task.problem.choices == ("11", "12")
    assert task.problem.answer_type == "mc"
    assert task.problem.tags == {"level": "3"}
    assert (task.gold, task.solution) == ("B", "Because")


def test_a_tolerance_for_all_rows_or_of_each(tmp_path: Path) -> None:
    row = {"question": "Q?", "answer": "2.5", "tolerance": 0.1, "answer_type": "num"}
    [own] = table(tmp_path, row)
    [all_rows] = table(tmp_path, row, tolerance="2%")
    assert (own.problem.answer_type, own.tolerance) == ("num", 0.1)
    assert all_rows.tolerance == "2%"


REFUSED = {
    "two problems": (
        {"problem": "Q", "question": "R", "answer": "1"},
        {},
        "columns problem and question may both be the problem: name one with problem: problem",
    ),
    "two answers": ({"question": "Q", "answer": "1", "gold": "2"}, {}, "both be the answer"),
    "no problem": ({"text": "Q", "answer": "1"}, {}, "no column has a usual name of a problem"),
    "no answer": ({"question": "Q"}, {}, "no column has a usual name of an answer or a solution"),
    "wrong option": (
        {"question": "Q", "answer": "1"},
        {"id": "key"},
        "no row has the column",
    ),
    "choices": ({"question": "Q", "answer": "1", "choices": "A"}, {}, "must be a list of texts"),
    "long chat": (
        {"messages": [{"role": "user", "content": "Q"}] * 2},
        {},
        "line 1: a chat of a table has one question and one reply",
    ),
}


@pytest.mark.parametrize(("row", "options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_nobody_can_tell_is_refused(
    row: dict[str, Any], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        table(tmp_path, row, **options)


def test_a_row_without_an_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 2: field 'answer' is missing"):
        table(tmp_path, ROWS[0], {"question": "Q", "answer": None})


def test_the_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"question,answer\nHow many?,1\nCaf\xe9s?,2\n")
    with pytest.raises(ValueError, match=r"x\.csv, line 3: not UTF-8 text"):
        Table(str(tmp_path / "x.csv")).tasks("train")


def test_deep_brackets_are_no_crash(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("[" * 200_000)
    with pytest.raises(ValueError, match=r"x\.jsonl"):
        Table(str(tmp_path / "x.jsonl")).tasks("train")


# images


@pytest.mark.parametrize("column", ["images", "image"])
def test_images_are_found_beside_their_file(column: str, tmp_path: Path) -> None:
    write_image(tmp_path / "drawn" / "one.png", 1)
    write_image(tmp_path / "two.png", 2)
    one, both, none = table(
        tmp_path,
        {"question": "<image>How long is x?", column: "drawn/one.png", "answer": "3"},
        {"question": "Which?", column: ["two.png", str(tmp_path / "drawn/one.png")], "answer": "4"},
        {"question": "How many?", "answer": "5"},
    )
    assert one.problem.text == "How long is x?"
    assert seen(one) == [png(1)]
    assert seen(both) == [png(2), png(1)]
    assert seen(none) == []


def seen(task: Task) -> list[bytes]:
    return [image_bytes(image.source) for image in task.problem.images]


@pytest.mark.usefixtures("cache")
def test_images_inside_of_rows_become_files(tmp_path: Path, cache: Path) -> None:
    write_image(tmp_path / "two.png", 2)
    base = {"problem": "Q?", "answer": "3"}
    rows = [
        base | {"picture": [embedded(png(1)), {"bytes": None, "path": "two.png"}]},
        base | {"picture": [embedded(png(1))]},
    ]
    inside = read_tasks(
        Table(str(write_parquet(tmp_path / "x.parquet", rows)), images="picture", validation=0),
        "train",
    )
    assert list(map(seen, inside)) == [[png(1), png(2)], [png(1)]]
    url = f"data:image/png;base64,{base64.b64encode(png(3)).decode()}"
    [linked] = table(tmp_path, base | {"image": url})
    assert seen(linked) == [png(3)]
    stored = [inside[0].problem.images[0], *inside[1].problem.images, *linked.problem.images]
    assert all(Path(image.source).is_relative_to(cache) for image in stored)
    assert len(list(cache.rglob("*.png"))) == 2


def test_images_of_messages_belong_to_the_problem(tmp_path: Path) -> None:
    write_image(tmp_path / "one.png", 1)
    said = {"role": "assistant", "content": "#### 3"}
    asked = {"role": "user", "content": "<image>How long is x?"}
    [task] = table(tmp_path, {"messages": [asked, said], "images": ["one.png"]})
    assert seen(task) == [png(1)]
    assert "<image>" not in task.problem.text


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("gone.png", "No such file"),
        (["good.png", "text.png"], "none of PNG"),
        ("data:image/png;base64,AAAA", "cannot read the image"),
        ("https://x.org/1.png", "not on this machine"),
        (7.5, "cannot read the image"),
        ({"url": "x"}, "must be a list of texts"),
    ],
)
def test_an_image_that_no_model_can_see_is_named(image: Any, reason: str, tmp_path: Path) -> None:
    write_image(tmp_path / "good.png", 1)
    (tmp_path / "text.png").write_text("<html>")
    rows = [{"question": "Q?", "image": one, "answer": "3"} for one in ("good.png", image)]
    with pytest.raises(ValueError, match=r"^rows.jsonl, line 2: field 'image'") as caught:
        table(tmp_path, *rows)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_columns_of_images_are_refused(tmp_path: Path) -> None:
    row = {"question": "Q?", "image": "a.png", "images": ["b.png"], "answer": "3"}
    with pytest.raises(ValueError, match="columns images and image may both be the images"):
        table(tmp_path, row)


@pytest.mark.parametrize(
    ("text", "images", "expected"),
    [
        ("<image>\nFind x.\n<image>", ["1.png", "2.png"], "Find x."),
        ("Is <image> like <image>?", ["1.png", "2.png"], "Is image 1 like image 2?"),
        ("<image>Is it <image2>or <image1>?", ["1.png"] * 3, "Is it image 2 or image 1?"),
        ("How many dots has <image 1>?", "1.png", "How many dots has image 1?"),
    ],
)
def test_images_inside_of_a_text_keep_their_order(
    text: str, images: Any, expected: str, tmp_path: Path
) -> None:
    for number in (1, 2):
        write_image(tmp_path / f"{number}.png", number)
    [task] = table(tmp_path, {"question": text, "images": images, "answer": "3"})
    assert task.problem.text == expected
    if "1" not in text:  # chats name images in order alone
        said = {"role": "assistant", "content": "#### 3"}
        asked = {"role": "user", "content": text}
        [task] = table(tmp_path, {"messages": [asked, said], "images": images})
        assert task.problem.text == expected


@pytest.mark.parametrize("images", [None, "1.png", ["1.png"] * 3])
def test_a_text_that_names_more_or_fewer_images_is_refused(images: Any, tmp_path: Path) -> None:
    write_image(tmp_path / "1.png", 1)
    good = {"question": "Find x.", "image": "1.png", "answer": "1"}
    row = {"question": "<image>Is it <image>?", "image": images, "answer": "3"}
    with pytest.raises(ValueError, match=r"line 2: field 'question' names images \(2\) with"):
        table(tmp_path, good, row)


@pytest.mark.parametrize("value", ["a.png", ["b.JPG"], "data:image/png;base64,AAAA"])
def test_a_column_of_images_that_nobody_would_see_is_refused(value: Any, tmp_path: Path) -> None:
    row = {"question": "Find x.", "img": value, "answer": "3"}
    with pytest.raises(ValueError, match=r"the column 'img' names images, .* images: img, or"):
        table(tmp_path, row)
    [task] = table(tmp_path, row, tags=["img"])
    assert task.problem.images == ()


def test_problems_of_one_text_and_other_images_are_others(tmp_path: Path) -> None:
    rows = []
    for number in range(40):
        write_image(tmp_path / f"{number}.png", number)
        rows += [
            {"question": f"Find {what}.", "image": f"{number}.png", "answer": "3"} for what in "xy"
        ]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    parts = [
        read_tasks(Table(str(path), validation=0.5), split) for split in ("train", "validation")
    ]
    assert sum(map(len, parts)) == 80
    shown = [{image for task in part for image in seen(task)} for part in parts]
    assert all(shown)
    assert not shown[0] & shown[1]  # both questions about an image are in one split


def test_a_column_is_not_the_problem_and_its_answer(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("question,answer\nWhat is 1 + 1?,2\n")
    with pytest.raises(ValueError, match="the column 'answer' cannot be the problem and its"):
        Table(str(tmp_path / "x.csv"), problem="answer", answer="answer")


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("content", [{"data": ROWS}, {"version": 1, "note": "x", "examples": ROWS}])
def test_rows_inside_an_object_are_read(
    content: dict[str, Any], indent: int | None, tmp_path: Path
) -> None:
    (tmp_path / "x.json").write_text(json.dumps(content, indent=indent) + "\n")
    tasks = read_tasks(Table(str(tmp_path / "x.json"), validation=0), "train")
    assert [task.gold for task in tasks] == ["12", "7"]


def test_an_object_that_is_a_row_itself_is_one(tmp_path: Path) -> None:
    row = ROWS[0] | {"data": "a text", "items": []}
    (tmp_path / "x.json").write_text(json.dumps(row))
    [task] = read_tasks(Table(str(tmp_path / "x.json"), validation=0), "train")
    assert task.gold == "12"


def test_what_columns_were_taken_for_is_said_unless_options_name_them(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("question,solution,result\nWhat is 1 + 1?,It is 2.,2\n")
    about = Table(str(file)).about("train")
    assert about == (
        "table/train: problem from 'question', solution from 'solution', the answer from the end "
        "of the solution"
    )
    named = {"problem": "question", "answer": "result", "solution": "solution"}
    assert Table(str(file), **named).about("train") == ""
