"""Chats: dialogues to imitate, with marks of what is trained on.

A row looks like this (an invented one); `chat_rows` has the marks, and the forms of other tools:

    {"messages": [{"role": "user", "content": "What is 15 % of 80?"},
                  {"role": "assistant", "content": "It is 15.", "train": false},
                  {"role": "user", "content": "Check it."},
                  {"role": "assistant", "content": "0.15 * 80 = 12, so \\\\boxed{12}."}],
     "problem": "What is 15 % of 80?", "answer": "12"}
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from slm_math.data.base import NoProblems, Source, Split
from slm_math.data.chat_forms import read_chat
from slm_math.data.chat_rows import chat_row, in_parts
from slm_math.data.columns import ANSWER
from slm_math.data.files import FileRow
from slm_math.data.own_files import Item, existing_paths, items_of, rows_by_split
from slm_math.data.published import checked_fraction, checked_limit
from slm_math.types import Chat, Image, Problem, Task, Text

PROBLEM = ("problem", "question")
CHATS = ("messages", "prompt", "chosen", "rejected")  # fields of rows that are written


class Chats(Source):
    """Dialogues to imitate: rows of messages in JSON Lines, Parquet and other formats, as TRL,
    axolotl, LLaMA-Factory and OpenAI's fine-tuning have them.

    All assistant messages are trained on, except those with a mark (`train: false`, `weight: 0`)
    and the spans that `train_detail` leaves out. The prompt of a run is not used: chats have their
    own. Rows with a reference answer (`answer`, `gold`, `ground_truth`) are problems, too, whose
    text is the field `problem` or `question` (with `answer_type`, `choices` and `tolerance` beside
    it), or else the first message of the user.

    Args:
        path: a file, a folder, or a list of these. Files whose names begin with test are the test
            split; validation, valid, val or dev as the first word means validation.
        name: what ids begin with; two of a mixture need two names.
        validation: the share of the problems in training files that is held out for validation.
        limit: keep only the first chats of each split.
    """

    def __init__(
        self,
        path: str | list[str],
        name: str = "chats",
        validation: float = 0.05,
        limit: int | None = None,
    ) -> None:
        self.name = name
        self.paths = existing_paths(path, "Chats")
        self.validation, self.limit = checked_fraction(validation), checked_limit(limit)

    def dialogues(self, split: Split, prompt: str = "solve") -> list[Chat]:
        return [chat for _, _, chat in self._of_split(split)]

    def tasks(self, split: Split) -> list[Task]:
        """The problems of rows with a reference answer. Raises ValueError if a row has none."""
        return [
            _task(f"{self.name}/{number}", row, chat) for number, row, chat in self._of_split(split)
        ]

    def dialogue_problems(self, split: Split) -> list[Problem]:
        return [_problem("", row, chat) for _, row, chat in self._of_split(split)]

    def about(self, split: Split) -> str:
        """How many chats a split has, and how much of them is not trained on."""
        chats = self.dialogues(split)
        turns = [message for chat in chats for message in chat if message.role == "assistant"]
        marks = [{part.learn for part in turn.content if isinstance(part, Text)} for turn in turns]
        context, mixed = marks.count({False}), marks.count({False, True})
        return (
            f"{self.name}/{split}: {len(chats)} chats with {len(turns)} assistant messages, of "
            f"which {context} are context and {mixed} have spans that are"
        )

    def _of_split(self, split: Split) -> list[tuple[int, FileRow, Chat]]:
        return items_of(self._items, split, self.validation)[: self.limit]

    @cached_property
    def _items(self) -> list[Item[tuple[int, FileRow, Chat]]]:
        rows = rows_by_split(self.paths)
        if not rows:
            raise ValueError(f"{', '.join(map(str, self.paths))}: holds no chats")
        return [
            Item(split, _problem("", row, chat := read_chat(row)), (number, row, chat))
            for number, (split, row) in enumerate(rows)
        ]


def _problem(id: str, row: FileRow, chat: Chat) -> Problem:
    """What the chat is about, which decides its split: the problem that the row names, or the first
    message of the user, whose images are part of it in either case. A named problem has the
    answer type and the choices of its row.
    """
    first = next((message for message in chat if message.role == "user"), None)
    images = [part for part in first.content if isinstance(part, Image)] if first else []
    name = next((name for name in PROBLEM if isinstance(row.fields.get(name), str)), None)
    text = row.text(name) if name is not None else first.text if first else ""
    kind = row.fields.get("answer_type") if name is not None else None
    if kind not in ("mc", "num"):
        return Problem(id, text, images=tuple(images))
    return Problem(id, text, kind, row.texts("choices"), images=tuple(images))


def _task(id: str, row: FileRow, chat: Chat) -> Task:
    gold = next((name for name in ANSWER if row.fields.get(name) is not None), None)
    if gold is None:
        raise NoProblems(
            f"{row.place}: a chat without a reference answer is no problem to answer: add one of "
            f"the fields {', '.join(ANSWER)}, or train on the chats with ChatData"
        )
    return Task(_problem(id, row, chat), row.text(gold), tolerance=row.fields.get("tolerance"))


def write_chats(chats: Iterable[Chat], file: str | Path) -> None:
    """Writes chats in the form that `Chats`, TRL, axolotl and LLaMA-Factory read: Parquet if the
    name of the file says so, else JSON Lines. The file appears when it is whole.
    """
    write_rows(map(chat_row, chats), file)


def write_rows(rows: Iterable[dict[str, Any]], file: str | Path) -> None:
    """Writes rows with messages (see `chat_row`); Parquet if the name of the file says so."""
    target = Path(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    if target.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(one_type(list(rows))), part)
    else:
        with part.open("w", encoding="utf-8") as sink:
            sink.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    part.replace(target)


def one_type(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose contents are all texts, or all lists of parts: a column has one type."""
    chats = [chat for row in rows for name in CHATS if (chat := row.get(name))]
    if not any(isinstance(message["content"], list) for chat in chats for message in chat):
        return rows
    return [
        row | {name: list(map(in_parts, row[name])) for name in CHATS if name in row}
        for row in rows
    ]
