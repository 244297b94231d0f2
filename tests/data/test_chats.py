"""Chats in every form that tools write are trained on as they say, from JSON Lines and Parquet."""

from pathlib import Path
from typing import Any

import pytest
from cli.configs import CONFIGS
from data.published import write_jsonl

from slm_math.cli import run
from slm_math.data import Chats
from slm_math.data.base import read_dialogues, read_tasks
from slm_math.data.chat_forms import completion_row
from slm_math.data.chats import write_chats
from slm_math.data.published import is_held_out
from slm_math.types import Chat, Image, Problem, Text, assistant, system, user

CORRECTED = (
    user("What is 15 % of 80?")
    + assistant(Text("It is 15.", learn=False))
    + user("Check it.")
    + assistant("0.15*80\n", Text("12.0\n", learn=False), "\\boxed{12}")
)


def row(question: str, **more: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": "7"}]
    return {"messages": said} | more


def chats_of(tmp_path: Path, *rows: dict[str, Any]) -> list[Chat]:
    path = write_jsonl(tmp_path / "chats.jsonl", list(rows))
    return Chats(str(path), validation=0).dialogues("train")


FORMS = {
    "messages": row("Q"),
    "conversations": {
        "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "7"}],
    },
    "prompt and completion": {
        "prompt": [{"role": "user", "content": "Q"}],
        "completion": [{"role": "assistant", "content": "7"}],
    },
    "alpaca": {"instruction": "Q", "input": "", "output": "7"},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_chat_is_the_same_in_every_form(form: dict[str, Any], tmp_path: Path) -> None:
    plain, led = chats_of(tmp_path, form, form | {"system": "Be brief."})
    assert plain == user("Q") + assistant("7")
    assert led == system("Be brief.") + plain


def test_of_a_completion_alone_something_is_learned(tmp_path: Path) -> None:
    prompt = [*row("Q")["messages"], {"role": "user", "content": "Sure?"}]
    said = {"role": "assistant", "content": "Yes"}
    [chat] = chats_of(tmp_path, {"prompt": prompt, "completion": [said]})
    assert chat[1].content == (Text("7", learn=False),)
    assert chat[3].content == (Text("Yes"),)


def test_a_completion_comes_back(tmp_path: Path) -> None:
    chat = user("Q") + assistant(Text("6", learn=False)) + user("Sure?") + assistant("7")
    row = completion_row(chat, id=3)
    assert [len(row["prompt"]), len(row["completion"]), row["id"]] == [3, 1, 3]
    assert not any("train" in message for message in row["prompt"])
    assert chats_of(tmp_path, row) == [chat]


@pytest.mark.parametrize("chat", [CORRECTED, user("Q"), user("Q") + assistant("7") + user("R")])
def test_what_is_no_completion_is_refused(chat: Chat) -> None:
    with pytest.raises(ValueError, match="a completion is the last message"):
        completion_row(chat)


def test_the_history_of_an_instruction_is_learned(tmp_path: Path) -> None:
    asked = {"instruction": "Add", "input": "2 and 3", "output": "5"}
    [chat] = chats_of(tmp_path, asked | {"history": [["Hi", "Hello"]]})
    assert chat == user("Hi") + assistant("Hello") + user("Add\n2 and 3") + assistant("5")


def test_images_of_an_instruction(tmp_path: Path) -> None:
    asked = {"instruction": "<image>What?", "input": "And <image>?", "output": "5"}
    [chat] = chats_of(tmp_path, asked | {"images": ["a.png", "b.png"]})
    assert chat[0].content == (Image("a.png"), Text("What?\nAnd "), Image("b.png"), Text("?"))
    with pytest.raises(ValueError, match=r"line 1: field 'images' has 1 images more"):
        chats_of(tmp_path, asked | {"images": ["a.png", "b.png", "c.png"]})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"text": "Q"}, "has no chat; .* the row has text"),
        (row("Q") | FORMS["alpaca"], r"several chats \(messages, instruction and output\)"),
        (row("Q", tools=[{"name": "run"}]), "field 'tools' defines tools"),
        ({"prompt": "Q", "completion": "7"}, "field 'completion' is plain text: use Table"),
        ({"messages": "Q"}, "field 'messages' must be a list of messages"),
    ],
)
def test_a_row_that_is_no_chat_is_named(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^chats.jsonl, line 2: .*{said}"):
        chats_of(tmp_path, row("Q"), wrong)


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_chats_come_back_from_both_kinds_of_files(name: str, tmp_path: Path) -> None:
    pictured = user("How many?", (Image("a.png"),)) + assistant("2")
    talks = [CORRECTED, pictured, system("") + user("Q") + assistant("7")]
    write_chats(talks, tmp_path / name)
    assert Chats(str(tmp_path / name), validation=0).dialogues("train") == talks
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_problem_decides_where_a_chat_is_held_out(tmp_path: Path) -> None:
    questions = [f"What is {n} + 1?" for n in range(60)]
    rows = [row(f"Solve: {question}", problem=question) for question in questions]
    source = Chats(str(write_jsonl(tmp_path / "chats.jsonl", rows)), validation=0.3)
    held = [chat[0].text for chat in source.dialogues("validation")]
    assert held == [f"Solve: {q}" for q in questions if is_held_out(Problem("", q), 0.3)]
    assert len(source.dialogues("train")) == 60 - len(held)


def test_files_name_their_split_and_test_problems_are_in_no_other(tmp_path: Path) -> None:
    for name, questions in {"a": "12345", "valid-0": "34", "test_b": "45"}.items():
        write_jsonl(tmp_path / f"{name}.jsonl", [row(question) for question in questions])
    source = Chats([str(tmp_path)], validation=0)
    texts = {
        split: [chat[0].text for chat in source.dialogues(split)]
        for split in ("train", "validation", "test")
    }
    assert texts == {"train": ["1", "2"], "validation": ["3"], "test": ["4", "5"]}


def test_chats_with_references_are_problems(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "chats.jsonl", [row("What is 3 + 4?", answer="7")])
    [task] = read_tasks(Chats(str(path), validation=0), "train")
    assert (task.problem.text, task.gold) == ("What is 3 + 4?", "7")


def test_chats_without_references_are_no_problems(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "chats.jsonl", [row("Q")])
    with pytest.raises(
        ValueError, match=r"line 1: a chat without a reference answer is no problem"
    ):
        read_tasks(Chats(str(path), validation=0), "train")


def test_what_is_context_is_printed(tmp_path: Path) -> None:
    write_chats([CORRECTED], tmp_path / "x.jsonl")
    about = Chats(str(tmp_path / "x.jsonl"), validation=0).about("train")
    assert about == (
        "chats/train: 1 chats with 2 assistant messages, of which 1 are context and 1 have spans "
        "that are"
    )


def test_dialogues_pass_the_check(tmp_path: Path) -> None:
    write_chats([CORRECTED], tmp_path / "x.jsonl")
    assert read_dialogues(Chats(str(tmp_path / "x.jsonl"), validation=0), "train", "solve")


def test_a_file_of_chats_trains_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_chats([CORRECTED] * 8, tmp_path / "x.jsonl")
    files = [f"--config={CONFIGS / name}" for name in ("sft/full.yaml", "fast.yaml")]
    source = [f"--data.source={{class_path: Chats, path: {tmp_path / 'x.jsonl'}, validation: 0}}"]
    root = f"--trainer.default_root_dir={tmp_path / 'run'}"
    run(
        [
            "fit",
            *files,
            *source,
            "--data.limit=4",
            "--trainer.callbacks={class_path: ExportHF, check: false}",
            root,
        ]
    )
    assert "chats/train: 8 chats" in capsys.readouterr().out
    assert (tmp_path / "run" / "export" / "config.json").is_file()
