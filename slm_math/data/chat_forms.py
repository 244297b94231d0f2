"""The forms in which a row may hold a chat, and how to tell them apart.

{"messages": [...]}, {"conversations": [...]}          a list of messages (see `chat_rows`)
{"prompt": [...], "completion": [...]}                 messages; only the completion is learned
{"instruction": "", "input": "", "output": "", "history": [["", ""]]}       Alpaca
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from slm_math.data.chat_rows import chat_row, row_chat
from slm_math.data.columns import IMAGES, question_of
from slm_math.data.files import FileRow
from slm_math.types import Chat, Message, Text, system

LISTS = ("messages", "conversations", "conversation")


def read_chat(row: FileRow) -> Chat:
    """The chat of a row, with the system prompt of its field `system`, if it has one.

    Raises ValueError with the place of the row if it is in no known form, or in two of them, and
    for what no template here shows (definitions of tools).
    """
    forms: dict[str, Callable[[FileRow], Chat]] = {}
    for name in LISTS:
        if row.fields.get(name) is not None:
            forms[name] = lambda row, name=name: row_chat(row, name)
    if row.fields.get("completion") is not None:
        forms["prompt and completion"] = _completed
    if row.fields.get("instruction") is not None and row.fields.get("output") is not None:
        forms["instruction and output"] = _alpaca
    if len(forms) != 1:
        found = f"several chats ({', '.join(forms)})" if forms else "no chat"
        raise ValueError(
            f"{row.place}: has {found}; a chat is one of {', '.join(LISTS)}, prompt and "
            "completion, instruction and output; the row has "
            f"{', '.join(row.fields) or 'no fields'}"
        )
    if row.fields.get("tools") not in (None, "", "[]", []):
        raise row.error("tools", "defines tools, which is not supported: put them into the chat")
    [form] = forms.values()
    chat = form(row)
    return _system(row) + chat if not chat or chat[0].role != "system" else chat


def completion_row(chat: Chat, **more: Any) -> dict[str, Any]:
    """A chat as prompt and completion, whose loss TRL takes of the completion alone, as it knows no
    marks; `read_chat` is the inverse.

    Raises ValueError for a chat of which more than the last message is learned, or a part of that.
    """
    turns = [message for message in chat if message.role == "assistant"]
    marks = [{not isinstance(part, Text) or part.learn for part in turn.content} for turn in turns]
    if chat[-1:] != tuple(turns[-1:]) or marks[-1] != {True} or any(map(any, marks[:-1])):
        raise ValueError(
            "a completion is the last message, of an assistant, and alone trained on: write the "
            "chat with its marks (chat_row)"
        )
    messages = chat_row(chat)["messages"]
    for message in messages:
        message.pop("train", None)
    return {"prompt": messages[:-1], "completion": messages[-1:], **more}


def _system(row: FileRow) -> Chat:
    text = row.fields.get("system")
    if text is not None and not isinstance(text, str):
        raise row.error("system", "must be text")
    return system(text) if text else ()


def _completed(row: FileRow) -> Chat:
    """A prompt, of which nothing is learned, and its completion; both are messages."""
    if isinstance(row.fields["completion"], str):
        raise row.error(
            "completion", "is plain text: use Table, which asks in a prompt, or write messages"
        )
    prompt = tuple(map(_as_context, row_chat(row, "prompt")))
    without = {name: value for name, value in row.fields.items() if name not in IMAGES}
    return prompt + row_chat(replace(row, fields=without), "completion")


def _as_context(message: Message) -> Message:
    if message.role != "assistant":
        return message
    return replace(message, content=(Text(message.text, learn=False),))


def _alpaca(row: FileRow) -> Chat:
    """An instruction with an optional input on a line below; answers of the history are learned."""
    history = row.fields.get("history") or []
    try:
        pairs = [(asked, said) for asked, said in history]
    except (TypeError, ValueError):
        raise row.error("history", "must be a list of pairs of texts") from None
    if not all(isinstance(text, str) for pair in pairs for text in pair):
        raise row.error("history", "must be a list of pairs of texts")
    pairs.append((question_of(row, "instruction"), row.text("output")))
    messages = [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return row_chat(replace(row, fields={**row.fields, "instruction": messages}), "instruction")
