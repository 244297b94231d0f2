"""Data built of evaluations of problems with images: each row shows the images of its problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from synthesis.attempts import attempt, build, code, draft, evaluation, ran

from slm_math.cli import run
from slm_math.data import Chats, Drafts
from slm_math.data.base import read_tasks
from slm_math.images import image_hash
from slm_math.records.record import ChatMessage, Event, Record, RecordedImage, TurnEvent
from slm_math.types import Image, Text

CHOICES = ("1", "2", "3", "4")
ASKED = "Find x.\n(A) 1\n(B) 2\n(C) 3\n(D) 4"
COLORS = {7: "red", 8: "blue"}  # two problems; nothing but the image tells them apart


@pytest.fixture
def images(tmp_path: Path) -> dict[int, str]:
    files = {}
    for number, color in COLORS.items():
        files[number] = str(tmp_path / f"{color}.png")
        Pillow.new("RGB", (84, 84), color).save(files[number])
    return files


def shown(path: str) -> tuple[RecordedImage, ...]:
    return (RecordedImage(path, image_hash(path)),)


def asked(path: str) -> ChatMessage:
    return ChatMessage("user", ASKED, shown(path))


def seen(path: str, number: int, answer: str, sample: int, *events: Event, **more: Any) -> Record:
    """An attempt at the problem of an image; D is right. By default one reply that says why."""
    said = f"I see it. <answer>{answer}</answer>"
    events = events or (TurnEvent("solver", (asked(path),), said, tokens=6),)
    fields: dict[str, Any] = {"id": f"g/{number}", "sample": sample, "problem": "Find x."}
    fields |= {"answer_type": "mc", "choices": CHOICES, "images": shown(path), "gold": "D"}
    return attempt(number, answer, *events, **fields | {"correct": answer == "D"} | more)


def both(images: dict[int, str]) -> list[Record]:
    """Equal replies to both problems, a right and a wrong one to each."""
    return [
        seen(path, number, answer, sample)
        for number, path in images.items()
        for sample, answer in enumerate("DA")
    ]


def id_of(row: dict[str, Any]) -> int:
    return int(row["id"].partition("/")[2])


def test_drafts_show_the_image_of_their_problem(tmp_path: Path, images: dict[int, str]) -> None:
    made = build("drafts", evaluation(tmp_path / "e", both(images)), tmp_path / "out")["train"]
    assert [row["images"] for row in made] == [[images[id_of(row)]] for row in made]
    assert sorted((id_of(row), row["correct"]) for row in made) == [
        (number, right) for number in images for right in (False, True)
    ]
    tasks = read_tasks(Drafts(str(tmp_path / "out"), validation=0.0), "train")
    for task in tasks:
        number = next(n for n in images if f"g/{n}" in task.problem.id)
        assert task.problem.images == (Image(images[number]),)
    assert len(tasks) == 4


def test_trajectories_are_chats_that_show_it(tmp_path: Path, images: dict[int, str]) -> None:
    made = build("trajectories", evaluation(tmp_path / "e", both(images)), tmp_path / "out")
    assert sorted(map(id_of, made["train"])) == [7, 8]
    for row in made["train"]:
        [user, assistant] = row["messages"]
        assert user["content"] == [
            {"type": "image", "path": images[id_of(row)]},
            {"type": "text", "text": ASKED},
        ]
        assert assistant["content"] == [{"type": "text", "text": "I see it. <answer>D</answer>"}]
    source = Chats(str(tmp_path / "out"), validation=0.0)
    expected = {(Image(path), Text(ASKED)) for path in images.values()}
    assert {chat[0].content for chat in source.dialogues("train")} == expected
    tasks = read_tasks(source, "train")  # what an evaluation during the training asks
    assert {(t.problem.answer_type, t.problem.statement, t.gold) for t in tasks} == {
        ("mc", ASKED, "D")
    }
    assert {t.problem.images[0].source for t in tasks} == set(images.values())


def test_output_inside_of_an_assistants_turn_is_context_with_images_too(
    tmp_path: Path, images: dict[int, str]
) -> None:
    first, output, last = code("print(4)"), "\n4\n", "So <answer>D</answer>"
    prompt = (asked(images[7]), ChatMessage("assistant", first + output))
    events = (
        TurnEvent("solver", prompt[:1], first, program=True),
        ran("print(4)", "4"),
        TurnEvent("solver", prompt, last),
    )
    record = seen(images[7], 7, "D", 0, *events)
    [row] = build("trajectories", evaluation(tmp_path / "e", [record]), tmp_path / "out")["train"]
    assert row["kind"] == "code"
    [chat] = Chats(str(tmp_path / "out"), validation=0.0).dialogues("train")
    assert chat[0].content == (Image(images[7]), Text(ASKED))
    assert chat[1].content == (Text(first), Text(output, learn=False), Text(last))


def test_pairs_are_of_one_image(tmp_path: Path, images: dict[int, str]) -> None:
    made = build("preferences", evaluation(tmp_path / "e", both(images)), tmp_path / "out")["train"]
    assert sorted(map(id_of, made)) == [7, 8]
    for row in made:
        assert row["images"] == [images[id_of(row)]]
        [message] = row["prompt"]
        assert message["content"] == [{"type": "image"}, {"type": "text", "text": ASKED}]
        assert row["chosen"][0]["content"][0]["text"].endswith("<answer>D</answer>")
        assert row["rejected"][0]["content"][0]["text"].endswith("<answer>A</answer>")


def program(path: str, number: int, sample: int, code_: str, output: str, answer: str) -> Record:
    prompt = (asked(path),)
    events = (
        TurnEvent("solver", prompt, code(code_), program=True),
        ran(code_, output),
        draft(answer, answer == "D"),
    )
    return seen(path, number, answer, sample, *events)


def test_corrections_never_take_the_fix_of_another_image(
    tmp_path: Path, images: dict[int, str], light_programs: None
) -> None:
    records = [
        program(images[7], 7, 0, "print('A')", "A", "A"),
        program(images[7], 7, 1, "print('D')", "D", "D"),
        program(images[8], 8, 0, "print('A')", "A", "A"),
    ]
    made = build("corrections", evaluation(tmp_path / "e", records), tmp_path / "out")
    [row] = made["train"]
    assert (id_of(row), row["kind"], row["fix"]) == (7, "wrong value", "another attempt")
    assert row["messages"][0]["content"][0] == {"type": "image", "path": images[7]}
    [chat] = Chats(str(tmp_path / "out"), validation=0.0).dialogues("train")
    assert [p.source for m in chat for p in m.content if isinstance(p, Image)] == [images[7]]


def test_rows_with_and_without_images_have_contents_of_one_type(
    tmp_path: Path, images: dict[int, str]
) -> None:
    records = [*both(images), attempt(4, "12")]
    made = build("trajectories", evaluation(tmp_path / "e", records), tmp_path / "out")["train"]
    assert len(made) == 3
    contents = [message["content"] for row in made for message in row["messages"]]
    assert all(isinstance(content, list) for content in contents)
    assert len(Chats(str(tmp_path / "out"), validation=0.0).dialogues("train")) == 3


@pytest.mark.parametrize("kind", ["drafts", "trajectories", "preferences"])
def test_verify_builds_the_same_again(
    kind: str, tmp_path: Path, images: dict[int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    build(kind, evaluation(tmp_path / "e", both(images)), out)
    run(["build-data", "--verify", str(out)])
    assert "no difference" in capsys.readouterr().out
    file = out / "train.jsonl"
    file.write_text(file.read_text().replace(images[7], images[8]))
    with pytest.raises(SystemExit):
        run(["build-data", "--verify", str(out)])
    assert "when it is built again" in " ".join(capsys.readouterr().out.split())


def test_changed_image_is_refused(
    tmp_path: Path, images: dict[int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = evaluation(tmp_path / "e", both(images))
    Pillow.new("RGB", (84, 84), "green").save(images[8])
    with pytest.raises(SystemExit):
        build("trajectories", path, tmp_path / "out")
    error = capsys.readouterr().err
    assert f"the image {images[8]} of problem g/8 was changed" in error
    assert error.count("\n") == 1


def test_questions_about_an_image_of_a_test_problem_are_never_trained_on(
    tmp_path: Path, images: dict[int, str]
) -> None:
    other = seen(images[7], 7, "D", 0, id="g/9", problem="Find y.")
    train = evaluation(tmp_path / "e" / "train", [other, seen(images[8], 8, "D", 0)])
    evaluation(tmp_path / "e" / "test", [seen(images[7], 7, "D", 0)], split="test")
    made = build("trajectories", str(Path(train).parent), tmp_path / "out")
    assert {split: sorted(map(id_of, rows)) for split, rows in made.items()} == {
        "train": [8],
        "test": [7, 9],
    }
