"""The conversations in a record: which reply goes on from which, and each as a chat with marks of
what was sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from slm_math.agents.blocks import blocks
from slm_math.agents.coding import program
from slm_math.records.record import ChatMessage, Record, RunEvent, TurnEvent
from slm_math.types import Chat, Message, Text


def conversations(record: Record, role: str) -> list[tuple[TurnEvent, ...]]:
    """The conversations of a role: for each reply that nothing goes on from, all replies on the way
    to it, in order. Replies to one prompt belong to different conversations.
    """
    turns = [turn for turn in record.turns if turn.role == role]
    parents = [_parent(turns, index) for index in range(len(turns))]
    ends = [index for index in range(len(turns)) if index not in parents]
    return [tuple(turns[i] for i in _path(parents, end)) for end in ends]


def _parent(turns: Sequence[TurnEvent], index: int) -> int | None:
    """The latest turn before this one whose prompt and reply its prompt begins with."""
    earlier = [i for i in range(index) if continues(turns[index], turns[i])]
    return max(earlier, key=lambda i: (len(turns[i].prompt), i), default=None)


def _path(parents: Sequence[int | None], end: int) -> list[int]:
    path, place = [], cast("int | None", end)
    while place is not None:
        path.append(place)
        place = parents[place]
    return path[::-1]


def continues(later: TurnEvent, earlier: TurnEvent) -> bool:
    """Whether the prompt of a turn begins with the prompt and the reply of an earlier one."""
    index, opened = _place(earlier)
    return (
        len(later.prompt) > index
        and later.prompt[:index] == earlier.prompt[:index]
        and later.prompt[index].role == "assistant"
        and later.prompt[index].content.startswith(opened + earlier.reply)
    )


def _place(turn: TurnEvent) -> tuple[int, str]:
    """The index of the message to which the reply of a turn belongs, and what this message says
    before it: a reply may continue an open message.
    """
    if turn.prompt and turn.prompt[-1].role == "assistant":
        return len(turn.prompt) - 1, turn.prompt[-1].content
    return len(turn.prompt), ""


def conversation_chat(
    turns: Sequence[TurnEvent], learned: Callable[[TurnEvent], bool] = lambda turn: True
) -> Chat:
    """A conversation as a chat. Trained on is what the model sampled in the turns that `learned`
    chooses; all else is context, also output of programs inside an assistant's message.
    """
    end, opened = _place(turns[-1])
    messages = [*turns[-1].prompt[:end], ChatMessage("assistant", opened + turns[-1].reply)]
    sampled: dict[int, list[tuple[int, TurnEvent]]] = {}
    for turn in turns:
        index, before = _place(turn)
        sampled.setdefault(index, []).append((len(before), turn))
    return tuple(
        _message(message, sampled.get(index, []), learned) for index, message in enumerate(messages)
    )


def _message(
    message: ChatMessage,
    sampled: Sequence[tuple[int, TurnEvent]],
    learned: Callable[[TurnEvent], bool],
) -> Message:
    role, text = message.role, message.content
    if role not in ("system", "user", "assistant"):
        raise ValueError(f"a message of the unknown role {role!r:.40}")
    if role != "assistant":
        return Message(role, (*(each.image for each in message.images), Text(text)))
    parts: list[Text] = []
    done = 0
    for start, turn in sampled:
        parts += [Text(text[done:start], False), Text(turn.reply, learned(turn))]
        done = start + len(turn.reply)
    return Message(role, tuple(part for part in (*parts, Text(text[done:], False)) if part.text))


def turns_of_runs(record: Record) -> list[tuple[TurnEvent | None, RunEvent]]:
    """Every program that ran, with the turn that wrote it; None where no reply holds it."""
    pairs: list[tuple[TurnEvent | None, RunEvent]] = []
    turns: list[TurnEvent] = []
    for event in record.events:
        if isinstance(event, TurnEvent):
            turns.append(event)
        elif isinstance(event, RunEvent):
            pairs.append((next((t for t in reversed(turns) if _wrote(t, event)), None), event))
    return pairs


def _wrote(turn: TurnEvent, run: RunEvent) -> bool:
    request = program(turn.reply)
    if request is not None and request.code == run.code:
        return True
    _, opened = _place(turn)
    return any(block.code == run.code for block in blocks(opened + turn.reply))


def is_shown_output(turn: TurnEvent, runs: Sequence[RunEvent]) -> bool:
    """Whether the last message before a reply shows what one of these programs printed."""
    if not turn.prompt or turn.prompt[-1].role != "user" or len(turn.prompt) < 2:
        return False
    return any(run.output.strip() and run.output in turn.prompt[-1].content for run in runs)
