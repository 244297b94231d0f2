"""Table: problems in any file of rows, with columns of any names.

Rows that are read without options (invented ones):

    {"question": "What is 15 % of 80?", "answer": "12"}
    {"problem": "What is 15 % of 80?", "solution": "0.15*80 = 12, so \\\\boxed{12}.", "level": "1"}
    {"question": "How long is x?", "image": "diagrams/7.png", "answer": "12"}
    {"instruction": "Compute", "input": "15 % of 80", "output": "0.15*80 = 12. #### 12"}
    {"messages": [{"role": "user", "content": "15 % of 80?"},
                  {"role": "assistant", "content": "The answer is 12."}]}
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import get_args

from slm_math.answers import gold_answer
from slm_math.data.base import Source, Split
from slm_math.data.chat_forms import LISTS, read_chat
from slm_math.data.columns import (
    ANSWER,
    ID,
    IMAGES,
    PROBLEM,
    SOLUTION,
    question_of,
    usual_column,
)
from slm_math.data.files import FileRow
from slm_math.data.own_files import Item, existing_paths, items_of, rows_by_split
from slm_math.data.published import checked_fraction, checked_limit
from slm_math.data.visual import checked_images, images_of, placed
from slm_math.data.visual_text import (
    named_images,
    text_with_placeholders,
    without_placeholders,
)
from slm_math.types import AnswerType, Image, Problem, Task

# images stored from inside of a row may end in .img
_FILE = re.compile(r"data:image/.*|.*\.(?:png|jpe?g|webp|gif|bmp|tiff?|ppm|img)", re.IGNORECASE)


class Table(Source):
    """Problems in JSON Lines, JSON, CSV, TSV or Parquet files, or .gz of these, with named columns.

    Columns that no option names are found by usual names: problem, question, instruction (with
    input), query, prompt or input; answer, gold, ground_truth, expected_answer, final_answer,
    reference_answer or target; solution, output, response, completion or rationale. Two columns
    that may be meant are refused. Rows of messages have one question and one reply. The reference
    answer is that of the answer's column, which may hold a worked solution, or that at the end of
    the solution. Solutions are imitated by supervised fine-tuning.

    Images are named by paths, relative to the folder of their file, or are in the rows themselves:
    as data URLs, or in Parquet files as `datasets` writes them. Each is checked, and an error names
    the row of one that no model can see.

    Args:
        path: a file, a folder, or a list of these. Files whose names begin with test are the test
            split; validation, valid, val or dev as the first word means validation.
        problem: the column of the problem.
        answer: the column of the reference answer.
        solution: the column of the worked solution.
        images: the column of the images, one or a list of these; by default `images` or `image`.
        choices: the column of the choices, a list of texts; by default `choices`.
        answer_type: math, mc or num, for all rows; by default the row's column `answer_type`, else
            mc for rows with choices and math for others.
        tolerance: for num, of all rows: 0.01 is absolute, "1%" relative; by default the row's
            column `tolerance`, else none.
        id: the column of the ids; by default id, unique_id, problem_id or question_id, else rows
            are numbered.
        tags: columns whose values become tags of the problems, for `--where` and `--by`.
        name: what ids begin with; two tables of a mixture need two names.
        validation: the share of the problems in training files that is held out for validation.
        limit: keep only the first problems of each split.
    """

    def __init__(
        self,
        path: str | list[str],
        problem: str | None = None,
        answer: str | None = None,
        solution: str | None = None,
        images: str | None = None,
        choices: str | None = None,
        answer_type: AnswerType | None = None,
        tolerance: float | str | None = None,
        id: str | None = None,
        tags: list[str] | None = None,
        name: str = "table",
        validation: float = 0.05,
        limit: int | None = None,
    ) -> None:
        self.paths = existing_paths(path, "Table")
        self.named = {"problem": problem, "answer": answer, "solution": solution}
        self.named |= {"images": images, "id": id}
        if problem is not None and problem in (answer, solution):
            raise ValueError(
                f"Table: the column {problem!r} cannot be the problem and its answer or solution"
            )
        self.choices, self.tags = choices, tags or []
        self.answer_type, self.tolerance = answer_type, tolerance
        self.name = name
        self.validation, self.limit = checked_fraction(validation), checked_limit(limit)

    def tasks(self, split: Split) -> list[Task]:
        return items_of(self._items, split, self.validation)[: self.limit]

    def about(self, split: Split) -> str:
        """Where problems, answers and solutions come from, if usual names decided that."""
        found = {option: self._found.get(option) for option in ("problem", "answer", "solution")}
        guessed = [each for each, name in found.items() if name and self.named[each] is None]
        if split == "validation" or not guessed or found["problem"] is None:
            return ""
        parts = [f"{option} from {name!r}" for option, name in found.items() if name]
        if found["answer"] is None:
            parts.append("the answer from the end of the solution")
        return f"{self.name}/{split}: {', '.join(parts)}"

    @cached_property
    def _found(self) -> dict[str, str]:
        """Option -> its column; not of rows of messages, which have none."""
        return self._columns([row for _, row in self._rows])

    @cached_property
    def _rows(self) -> list[tuple[Split, FileRow]]:
        return rows_by_split(self.paths)

    @cached_property
    def _items(self) -> list[Item[Task]]:
        rows, columns = self._rows, self._found
        tasks = [self._task(number, row, columns) for number, (_, row) in enumerate(rows)]
        return [Item(split, task.problem, task) for (split, _), task in zip(rows, tasks)]

    def _columns(self, rows: list[FileRow]) -> dict[str, str]:
        """Which column has what: those of the options, and the others by their usual names."""
        if not rows:
            raise ValueError(f"{', '.join(map(str, self.paths))}: holds no rows")
        names = {name for row in rows for name, value in row.fields.items() if value is not None}
        place, shown = self.paths[0], ", ".join(sorted(names))
        columns = {option: name for option, name in self.named.items() if name is not None}
        if missing := [name for name in (*columns.values(), *self.tags) if name not in names]:
            raise ValueError(f"{place}: no row has the column {missing[0]!r}; there are {shown}")
        left = names - set(columns.values())
        if "instruction" in left:
            left -= {"input"}  # which belongs to the instruction
        usual = {"problem": PROBLEM, "answer": ANSWER, "solution": SOLUTION}
        usual |= {"images": IMAGES, "id": ID}
        for option in [option for option in usual if option not in columns]:
            try:
                column = usual_column(left, usual[option], option)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
            if column is not None:
                columns[option] = column
        others = names - {*columns.values(), *self.tags}
        if "images" not in columns and (found := sorted(filter(_of_images(rows), others))):
            raise ValueError(
                f"{place}: the column {found[0]!r} names images, which nobody would see: name it "
                f"with images: {found[0]}, or keep it as a tag with tags: [{found[0]}]"
            )
        asked = "problem" in columns and ("answer" in columns or "solution" in columns)
        if not asked and not names & set(LISTS):
            raise ValueError(
                f"{place}: no column has a usual name of "
                f"{'an answer or a solution' if 'problem' in columns else 'a problem'}: name it "
                f"with the options problem, answer and solution; there are {shown}"
            )
        return columns

    def _task(self, number: int, row: FileRow, columns: dict[str, str]) -> Task:
        if "problem" in columns:
            text, solution = question_of(row, columns["problem"]), None
            name = columns.get("images", "")
            images = images_of(row, name) if row.fields.get(name) else ()
            if (named := named_images(text)) not in (0, len(images)):
                raise row.error(
                    columns["problem"],
                    f"names images ({named}) with <image>, and the row has {len(images)}: the "
                    f"column of images is {name or 'named with the option images'}",
                )
            if images:  # which stand before the text, as those of all problems
                text = without_placeholders(text)
            if row.fields.get(columns.get("solution", "")) is not None:
                solution = row.text(columns["solution"])
        else:
            text, solution, images = _exchange(row)
        answer = None
        if row.fields.get(columns.get("answer", "")) is not None:
            answer = row.text(columns["answer"])
        if answer is None and solution is None:
            name = columns.get("answer", columns.get("solution", "answer"))
            raise row.error(name, "is missing, and there is no solution instead")
        if solution is None and answer and gold_answer(answer) != answer.strip():
            solution = answer  # a worked one, which ends in the answer
        choices = self._choices(row)
        kind = self.answer_type or row.fields.get("answer_type") or ("mc" if choices else "math")
        if kind not in get_args(AnswerType):
            known = ", ".join(get_args(AnswerType))
            raise row.error("answer_type", f"is {kind!r:.40}; known are {known}")
        name = str(row.fields[columns["id"]]) if "id" in columns else str(number)
        tags = {tag: str(row.fields[tag]) for tag in self.tags if row.fields.get(tag) is not None}
        problem = Problem(f"{self.name}/{name}", text, kind, choices, images=images, tags=tags)
        tolerance = self.tolerance if self.tolerance is not None else row.fields.get("tolerance")
        return Task(problem, answer if answer is not None else solution or "", solution, tolerance)

    def _choices(self, row: FileRow) -> tuple[str, ...]:
        name = self.choices or "choices"
        choices = row.fields.get(name)
        if choices is None and self.choices is None:
            return ()
        if not isinstance(choices, list) or not all(isinstance(one, str) for one in choices):
            raise row.error(name, "must be a list of texts")
        return tuple(choices)


def _of_images(rows: list[FileRow]) -> Callable[[str], bool]:
    """Whether a column names images: files by their names, or data URLs."""

    def of_images(name: str) -> bool:
        values = [row.fields.get(name) for row in rows]
        texts = [one for value in values for one in (value if isinstance(value, list) else [value])]
        return any(isinstance(text, str) and _FILE.fullmatch(text) for text in texts)

    return of_images


def _exchange(row: FileRow) -> tuple[str, str, tuple[Image, ...]]:
    """Question, reply and images of a chat of two messages."""
    chat = read_chat(row)
    if [message.role for message in chat] != ["user", "assistant"]:
        raise ValueError(
            f"{row.place}: a chat of a table has one question and one reply; use Chats for others"
        )
    shown = [part.source for part in chat[0].content if isinstance(part, Image)]
    sources = [placed(source, row.folder) for source in shown]
    text = without_placeholders(text_with_placeholders(chat[0])) if shown else chat[0].text
    return text, chat[1].text, checked_images(row, "images", sources)
