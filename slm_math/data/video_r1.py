"""The image problems of Video-R1's data (Feng et al. 2025), of which the part Math is a published
mixture for reinforcement learning: CLEVR-Math, GEOS, GeoQA+, Geometry3K, MultiMath, Super-CLEVR and
UniGeo.

A row of `Video-R1-260k.json`, or with thoughts in `process` of `Video-R1-COT-165k.json` (invented):

    {"problem_id": 7, "problem": "How long is x?", "data_type": "image",
     "problem_type": "multiple choice", "options": ["A. 3", "B. 4"], "process": "",
     "solution": "<answer>B</answer>", "path": "./Math/GEOS/7.png", "data_source": "GEOS"}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from slm_math.data.base import NoProblems, Split
from slm_math.data.files import FileRow, iterate_rows
from slm_math.data.published import checked_fraction, checked_limit, existing_path
from slm_math.data.visual import Unusable, UnusableRow, VisualSource, images_of, is_numeric
from slm_math.data.visual_text import letter_of, parts_of, without_letters
from slm_math.types import Problem, Task

FILES = ("Video-R1-260k.json", "Video-R1-COT-165k.json")
GRADED = ("multiple choice", "numerical")


class VideoR1(VisualSource):
    """Image problems of Video-R1's data whose answer is a letter or a number. Videos, texts to
    recognize and free answers are left out, and counted.

    Args:
        path: the folder of the data (`Video-R1/Video-R1-data` on the hub, its archives unpacked),
            or its JSON file. Paths of images are relative to the folder.
        part: the folder of the images that count, such as Math, Chart or Knowledge.
        sources: only rows of these sets (`data_source`), such as [GEOS, GeoQA+]; by default all.
        tolerance: the allowed error of numbers: 0.01 is absolute, "1%" relative; by default none.
        validation: the share of the problems that is held out for validation, by their images.
        limit: keep only the first problems of each split.
        unusable: what becomes of rows whose image or answer cannot be used: `refuse` raises an
            error that names them, `skip` leaves them out.
    """

    name = "video_r1"

    def __init__(
        self,
        path: str,
        part: str = "Math",
        sources: list[str] | None = None,
        tolerance: float | str | None = None,
        validation: float = 0.05,
        limit: int | None = None,
        unusable: Unusable = "refuse",
    ) -> None:
        folder = existing_path(path)
        assert folder is not None
        self.path, self.part, self.sources = folder, part.strip("./"), sources
        self.tolerance, self.unusable = tolerance, unusable
        self.validation, self.limit = checked_fraction(validation), checked_limit(limit)
        self._others: Counter[str] = Counter()

    def _rows(self, part: Split) -> Iterable[FileRow]:
        if part == "test":
            raise NoProblems("Video-R1's data has no test split")
        self._others.clear()
        return (row for row in iterate_rows(self._file()) if self._is_used(row))

    def _file(self) -> Path:
        assert self.path is not None
        if self.path.is_file():
            return self.path
        files = [self.path / name for name in FILES if (self.path / name).is_file()]
        if not files:
            raise FileNotFoundError(f"{self.path}: no {FILES[0]} here")
        return files[0]

    def _is_used(self, row: FileRow) -> bool:
        folder = row.text("path").removeprefix("./").partition("/")[0]
        if folder != self.part:
            return False
        if self.sources is not None and row.text("data_source") not in self.sources:
            return False
        kind = row.text("problem_type") if row.text("data_type") == "image" else "video"
        if kind not in GRADED:
            self._others[kind] += 1
        return kind in GRADED

    def _tasks(self, id: str, row: FileRow) -> list[Task]:
        if row.fields.get("problem_id") is not None:  # of a mixture, two may read the same file
            id = f"{self.name}/{row.text('problem_id')}"
        images = images_of(row, "path", self._file().parent)
        solution = row.text("solution").strip()
        answer = solution.removeprefix("<answer>").removesuffix("</answer>").strip()
        tags = {"data_source": row.text("data_source")}
        parts = parts_of(row.text("problem"))
        process = str(row.fields.get("process") or "").strip()
        worked = f"{process}\n{solution}" if process else None
        if row.text("problem_type") == "numerical":
            if not is_numeric(answer):
                raise UnusableRow(
                    f"{row.place}: field 'solution' must be a number, got {answer!r:.60}"
                )
            problem = Problem(id, parts.question, "num", images=images, tags=tags)
            return [Task(problem, answer, worked, self.tolerance)]
        choices = without_letters(row.texts("options")) or parts.choices
        letter = letter_of(answer, choices)
        if letter is None:
            raise UnusableRow(f"{row.place}: field 'solution' names no choice: {answer!r:.60}")
        problem = Problem(id, parts.question, "mc", choices, images=images, tags=tags)
        return [Task(problem, letter, worked)]

    def about(self, split: Split) -> str:
        lines = [super().about(split)]
        if self._others:
            every = ", ".join(f"{count:,} {kind}" for kind, count in self._others.most_common())
            lines.append(f"{self.name}/{split}: rows of other kinds are left out: {every}")
        return "\n".join(filter(None, lines))
