"""Chats survive being written as rows, and rows of other tools are read with their marks."""

import json
from typing import Any

import pytest

from slm_math.data.chat_rows import chat_row, row_chat
from slm_math.data.files import FileRow
from slm_math.types import Chat, Image, Message, Reply, Text, assistant, system, user

QUESTION = user("What is 15 % of 80?")


def read(*messages: dict[str, Any], **fields: Any) -> Chat:
    return row_chat(FileRow("x.jsonl, line 3", {"messages": list(messages), **fields}))


CHATS = {
    "one turn": QUESTION + assistant("12"),
    "empty system": system("") + QUESTION + assistant("12"),
    "unlearned": QUESTION + assistant(Text("15", False)) + user("No.") + assistant("12"),
    "spans": QUESTION + assistant(Text("0.15*80\n"), Text("12.0 é\n", False), Text("\\boxed{12}")),
    "images": user("How many?", (Image("a.png"), Image("data:image/png;base64,eA==")))
    + assistant("2"),
}


@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS)
def test_a_chat_comes_back_from_json(chat: Chat) -> None:
    row = json.loads(json.dumps(chat_row(chat, id="7")))
    assert row["id"] == "7"
    assert row_chat(FileRow("x", row)) == chat


def test_replies_are_written_as_learned_text() -> None:
    chat = QUESTION + assistant(
        Reply("print(12)\n", (1, 2)), Text("12\n", False), Reply("12", (3,))
    )
    [_, message] = chat_row(chat)["messages"]
    assert message["content"] == "print(12)\n12\n12"
    assert message["train_detail"] == [
        {"begin_offset": 0, "end_offset": 9, "train": True},
        {"begin_offset": 10, "end_offset": 12, "train": False},
        {"begin_offset": 13, "end_offset": 14, "train": True},
    ]


def test_only_what_is_not_trained_on_is_marked() -> None:
    rows = chat_row(CHATS["unlearned"])["messages"]
    assert [row.get("train") for row in rows] == [None, False, None, None]
    assert set(rows[0]) == {"role", "content"}


def test_axolotls_documented_sample() -> None:
    content = "I'm doing very well, thank you!"
    detail = [(0, 8, False), (9, 18, True), (19, 30, False)]
    ranges = [{"begin_offset": a, "end_offset": b, "train": t} for a, b, t in detail]
    message = {"from": "assistant", "value": content, "train_detail": ranges}
    [_, answer] = read({"from": "human", "value": "How?", "train": False}, message)
    spans = [(part.text, part.learn) for part in answer.content if isinstance(part, Text)]
    assert spans == [("I'm doing", False), (" very well", True), (", thank you!", False)]


def test_characters_outside_of_all_ranges_are_not_trained_on() -> None:
    detail = [{"begin_offset": 1, "end_offset": 1, "train": True}]
    [answer] = read({"role": "assistant", "content": "abc", "train_detail": detail})
    assert answer.content == (Text("a", False), Text("b"), Text("c", False))


@pytest.mark.parametrize("mark", [{"weight": 0}, {"loss_weight": 0.0}, {"train": False}])
def test_marks_of_whole_messages(mark: dict[str, Any]) -> None:
    said = {"role": "assistant", "content": "15"}
    first, second = read(said | mark, said | dict.fromkeys(mark, 1))
    assert first.content == (Text("15", False),)
    assert second.content == (Text("15"),)


def test_outputs_of_tools_are_turns_of_the_user() -> None:
    chat = read(
        {"from": "human", "value": "Q"},
        {"from": "function_call", "value": "calculate(1)"},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "A"},
    )
    assert [message.role for message in chat] == ["user", "assistant", "user", "assistant"]


def test_reasoning_is_a_thought_before_the_answer() -> None:
    said = {"role": "assistant", "content": "12", "reasoning_content": "0.15*80"}
    assert read(said)[0].text == "<think>\n0.15*80\n</think>\n\n12"


def test_images_of_a_column_take_their_places() -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "Compare"}]
    in_parts = read({"role": "user", "content": parts}, images=["a.png"])
    in_text = read({"role": "user", "content": "<image>Compare"}, images=["a.png"])
    in_image = read({"from": "human", "value": "<image>Compare"}, image="a.png")  # LLaVA
    assert in_parts == in_text == in_image == (Message("user", (Image("a.png"), Text("Compare"))),)


def test_an_image_url_of_openai() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    assert read({"role": "user", "content": [part]})[0].content == (
        Image("https://example.org/a.png"),
    )


def test_what_an_assistant_writes_is_no_placeholder() -> None:
    assert read({"role": "assistant", "content": "<image>"})[0].text == "<image>"


def test_two_fields_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="field 'images' and field 'image' both name images"):
        read({"role": "user", "content": "<image>Q"}, images=["a.png"], image="a.png")


SAID = {"role": "assistant", "content": "12"}
REFUSED = {
    "no messages": ([], "must be a list of messages"),
    "text": (["12"], "message 1 that is not an object"),
    "role": ([{"role": "critic", "content": ""}], "has the role 'critic'; known are system"),
    "no content": ([{"role": "user", "content": None}], "content that is NoneType"),
    "tool calls": ([SAID | {"tool_calls": [{}]}], "structured tool calls"),
    "trained user": ([{"role": "user", "content": "Q", "train": True}], "remove the mark"),
    "half": ([SAID | {"weight": 0.5}], "weight 0.5, which must be 0 or 1"),
    "two marks": ([SAID | {"weight": 0, "train": True}], "contradict each other"),
    "range": (
        [SAID | {"train_detail": [{"begin_offset": 0, "end_offset": 2, "train": True}]}],
        "range 0 to 2: .* 2 characters",
    ),
    "text for a mark of a range": (
        [SAID | {"train_detail": [{"begin_offset": 0, "end_offset": 1, "train": "false"}]}],
        "train_detail whose train is 'false', which must be 0 or 1",
    ),
    "fractional offsets": (
        [SAID | {"train_detail": [{"begin_offset": 0.0, "end_offset": 1.0, "train": True}]}],
        "whole numbers",
    ),
    "detail": ([SAID | {"train_detail": [1]}], "train_detail that lists objects"),
    "part": ([{"role": "user", "content": [{"type": "audio"}]}], "neither text nor an image"),
    "image": ([{"role": "user", "content": [{"type": "image"}]}], "without a path or a URL"),
    "number": ([{"role": "user", "content": "<image2>"}], "has <image2> in its text: images are"),
    "placeholder": ([{"role": "user", "content": "<image>\nQ"}], "has <image> in its text and no"),
}


@pytest.mark.parametrize(("messages", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_on_is_refused(messages: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=rf"^x.jsonl, line 3: field 'messages' .*{said}"):
        read(*messages)


def test_images_that_nothing_shows_are_refused() -> None:
    with pytest.raises(ValueError, match="field 'images' has 1 images more"):
        read({"role": "user", "content": "Q"}, images=["a.png"])
