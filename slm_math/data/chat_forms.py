"""The forms in which a row may hold a chat, and how to tell them apart.

{"messages": [...]}, {"conversations": [...]}          a list of messages (see `chat_rows`)
{"prompt": [...], "completion": [...]}                 messages; only the completion is learned
{"instruction": "", "input": "", "output": "", "history": [["", ""]]}       Alpaca
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from slm_math.data.chat_rows import row_chat
from slm_math.data.files import FileRow
from slm_math.types import Chat, Message, Text, assistant, system, user

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
    return prompt + row_chat(FileRow(row.place, _without(row.fields, "images")), "completion")


def _without(fields: Any, name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


def _as_context(message: Message) -> Message:
    if message.role != "assistant":
        return message
    return replace(message, content=(Text(message.text, learn=False),))


def _alpaca(row: FileRow) -> Chat:
    """An instruction with an optional input on a line below; answers of the history are learned."""
    chat: Chat = ()
    history = row.fields.get("history") or []
    try:
        pairs = [(asked, said) for asked, said in history]
    except (TypeError, ValueError):
        raise row.error("history", "must be a list of pairs of texts") from None
    for asked, said in pairs:
        if not isinstance(asked, str) or not isinstance(said, str):
            raise row.error("history", "must be a list of pairs of texts")
        chat += user(asked) + assistant(said)
    asked = row.text("instruction")
    if row.fields.get("input"):
        asked += "\n" + row.text("input")
    return chat + user(asked) + assistant(row.text("output"))
