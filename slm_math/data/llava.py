"""Sets in the format of LLaVA: a conversation about an image, with the choices and the letter
inside of free text.

A row of `lmms-lab/LLaVA-OneVision-Data`, or of MultiMath's `chat_train_en.json` (invented):

    {"id": "7", "image": {"bytes": "...", "path": null}, "data_source": "GEOS(MathV360K)",
     "conversations": [
       {"from": "human", "value": "<image>\\nHint: Give the letter.\\nQuestion: How long is x?\\n
                                   Choices:\\n(A) 3\\n(B) 4"},
       {"from": "gpt", "value": "The answer is B"}]}
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from slm_math.answers import extract
from slm_math.data.base import NoProblems, Split
from slm_math.data.chat_rows import chat_with_images
from slm_math.data.files import FileRow, HubFile, fetch, split_files
from slm_math.data.published import checked_fraction, checked_limit, existing_path
from slm_math.data.visual import (
    Unusable,
    UnusableRow,
    VisualSource,
    checked_images,
    images_of,
    is_numeric,
    rows_of,
)
from slm_math.data.visual_text import letter_of, parts_of, text_with_placeholders
from slm_math.types import Image, Message, Problem, Task

REPOSITORY = "lmms-lab/LLaVA-OneVision-Data"
REVISION = "f5da3900220c758a47d2a6965d9d1ed2294b9e85"
Part = Literal["CLEVR-Math", "GEOS", "GeoQA+", "Geometry3K", "Super-CLEVR", "UniGeo"]
SHARDS = {"CLEVR-Math": 2, "Super-CLEVR": 6}  # files on the hub; of the others one
CHATS = ("chat_train_en.json", "chat_train_zh.json")
PREFIXES = ("multimath", "multimath-300k", "rgb_images")  # of paths of images


class Conversations(VisualSource):
    """Questions of conversations about images, each with the reply that follows it."""

    def _images(self, row: FileRow) -> tuple[Image, ...]:
        return images_of(row, "image")

    def _tasks(self, id: str, row: FileRow) -> list[Task]:
        images = self._images(row)
        try:
            chat = chat_with_images(row, "conversations", iter(images))
        except ValueError as error:
            raise UnusableRow(str(error)) from None
        turns = [turn for turn in chat if turn.role != "system"]
        pairs = list(zip(turns[::2], turns[1::2]))
        if not pairs or [turn.role for turn in turns] != ["user", "assistant"] * len(pairs):
            raise UnusableRow(f"{row.place}: field 'conversations' lacks a question or a reply")
        ids = [id] if len(pairs) == 1 else [f"{id}/{number}" for number in range(len(pairs))]
        return [
            _task(each, row, images=images, question=question, reply=reply)
            for each, (question, reply) in zip(ids, pairs, strict=True)
        ]


class LLaVAOneVision(Conversations):
    """The sets of MathV360K that `lmms-lab/LLaVA-OneVision-Data` has, all with training problems
    only: GEOS, GeoQA+, UniGeo and Geometry3K (geometry), CLEVR-Math and Super-CLEVR (counting).

    Args:
        part: which of the sets.
        path: a folder with its Parquet files, `train-*.parquet`, or with the folder of the set. By
            default they come from the hub.
        validation: the share of the problems that is held out for validation, by their images.
        limit: keep only the first problems of each split.
        unusable: what becomes of rows whose image or answer cannot be used: `refuse` raises an
            error that names them, `skip` leaves them out.
    """

    def __init__(
        self,
        part: Part,
        path: str | None = None,
        validation: float = 0.05,
        limit: int | None = None,
        unusable: Unusable = "refuse",
    ) -> None:
        self.part, self.path, self.unusable = part, existing_path(path), unusable
        self.name = f"llava_{part.lower().replace('-', '_').replace('+', '_plus')}"
        self.validation, self.limit = checked_fraction(validation), checked_limit(limit)

    def _rows(self, part: Split) -> Iterable[FileRow]:
        if part == "test":
            raise NoProblems(f"{self.part} of {REPOSITORY} has no test split")
        if self.path is None:
            files: Iterator[Path] | list[Path] = (
                fetch(file, f"; or set `path` to a local copy of {REPOSITORY}")
                for file in self.hub_files()
            )
            return (row for file in files for row in rows_of([file]))
        files = [self.path] if self.path.is_file() else []
        for inside in (self.path / f"{self.part}(MathV360K)", self.path):
            files = files or split_files(inside, "train")
        if not files:
            raise FileNotFoundError(f"{self.path}: no train-*.parquet of {self.part} here")
        return rows_of(files)

    def hub_files(self) -> list[HubFile]:
        count = SHARDS.get(self.part, 1)
        names = [f"train-{number:05}-of-{count:05}.parquet" for number in range(count)]
        folder = f"{self.part}(MathV360K)"
        if self.path:
            return []
        return [HubFile(REPOSITORY, f"{folder}/{name}", REVISION) for name in names]


class MultiMath(Conversations):
    """MultiMath-300K (Peng et al. 2024): school problems with images and worked solutions. It
    states no license. The hub has it as archives (`pengshuai-rin/multimath-300k`): unpack
    images.zip, beside the folder `solution`.

    Args:
        path: the folder with `solution/chat_train_en.json`, or such a file.
        images: the folder of the images; by default `RGB_images` beside `solution`.
        validation: the share of the problems that is held out for validation, by their images.
        limit: keep only the first problems of each split.
        unusable: what becomes of rows whose image or answer cannot be used: `refuse` raises an
            error that names them, `skip` leaves them out.
    """

    name = "multimath"

    def __init__(
        self,
        path: str,
        images: str | None = None,
        validation: float = 0.05,
        limit: int | None = None,
        unusable: Unusable = "refuse",
    ) -> None:
        folder = existing_path(path)
        assert folder is not None
        self.path, self.unusable = folder, unusable
        above = folder if folder.is_dir() else folder.parent.parent
        self.images = existing_path(images) or above / "RGB_images"
        self.validation, self.limit = checked_fraction(validation), checked_limit(limit)

    def _rows(self, part: Split) -> Iterable[FileRow]:
        assert self.path is not None
        if part == "test":
            raise NoProblems("MultiMath-300K has no test split")
        if self.path.is_file():
            return rows_of([self.path])
        files = [self.path / "solution" / name for name in CHATS]
        files = [file for file in files if file.is_file()][:1]
        if not files:
            raise FileNotFoundError(f"{self.path}: no solution/{CHATS[0]} here")
        return rows_of(files)

    def _images(self, row: FileRow) -> tuple[Image, ...]:
        """The image of a row, whose path may begin with the name of the set and the folder's."""
        parts = Path(row.text("image")).parts
        known = (*PREFIXES, self.images.name.lower())
        inside = itertools.dropwhile(lambda part: part.lower() in known, parts)
        places = [self.images.joinpath(*parts), self.images.joinpath(*inside)]
        place = next((place for place in places if place.is_file()), places[0])
        return checked_images(row, "image", [str(place)])


def _task(
    id: str, row: FileRow, images: tuple[Image, ...], question: Message, reply: Message
) -> Task:
    """The problem of a question, with the answer that the reply states."""
    parts, said = parts_of(text_with_placeholders(question)), reply.text.strip()
    if parts.choices:
        letter = letter_of(said, parts.choices)
        if letter is None:
            raise UnusableRow(f"{row.place}: the reply names no choice: {said[-60:]!r}")
        problem = Problem(id, parts.question, "mc", parts.choices, images=images)
        return Task(problem, letter, said)
    answer = extract(said).value or (said if len(said.splitlines()) == 1 else None)
    if not answer:
        raise UnusableRow(f"{row.place}: the reply states no answer: {said[-60:]!r}")
    kind = "num" if is_numeric(answer) else "math"
    return Task(Problem(id, parts.question, kind, images=images), answer, said)
