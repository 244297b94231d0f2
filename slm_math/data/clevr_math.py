"""CLEVR-Math: sums and differences of objects in rendered scenes (Lindstrom and Abraham 2022).

The original files are `clevr-math-train.json`, `-val` and `-test`, with the images of CLEVR
(invented rows):

    {"questions": [{"question": "Remove all red cubes. How many objects are left?", "answer": 4,
                    "image_filename": "CLEVR_train_000007.png", "split": "train",
                    "template_filename": "subtraction.json"}]}

A row of a Parquet file that `datasets` writes:

    {"template": "subtraction", "id": "CLEVR_train_000007.png", "label": 4,
     "question": "Remove all red cubes. How many objects are left?",
     "image": {"bytes": "...", "path": null}}
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slm_math.data.base import Split
from slm_math.data.files import FileRow
from slm_math.data.published import checked_limit, existing_path
from slm_math.data.visual import (
    Unusable,
    VisualSource,
    checked_images,
    files_of_part,
    images_of,
    rows_of,
)
from slm_math.types import Problem, Task

_SHORT = {"train": "train", "validation": "val", "test": "test"}


class CLEVRMath(VisualSource):
    """Sums and differences of objects in rendered scenes, `general` or `multihop`. The hub has only
    archives of it (`dali-does/clevr-math`: clevr-math.zip, CLEVR_v1.0.zip, 19 GB): unpack these.

    Args:
        path: a folder with `clevr-math-train.json`, `clevr-math-val.json` and
            `clevr-math-test.json`, or with Parquet files of the splits.
        images: the folder that has `CLEVR_v1.0/images`; by default `path`.
        limit: keep only the first problems of each split.
        unusable: what becomes of rows whose image or answer cannot be used: `refuse` raises an
            error that names them, `skip` leaves them out.
    """

    name = "clevr_math"
    published = ("train", "validation", "test")

    def __init__(
        self,
        path: str,
        images: str | None = None,
        limit: int | None = None,
        unusable: Unusable = "refuse",
    ) -> None:
        folder = existing_path(path)
        assert folder is not None
        inside = folder if folder.is_dir() else folder.parent
        self.path, self.images = folder, existing_path(images) or inside
        self.limit, self.unusable, self.validation = checked_limit(limit), unusable, 0.0

    def _rows(self, part: Split) -> Iterable[FileRow]:
        assert self.path is not None
        return rows_of(
            files_of_part(self.path, part, f"clevr-math-{_SHORT[part]}.json"), "questions"
        )

    def _tasks(self, id: str, row: FileRow) -> list[Task]:
        if "image_filename" in row.fields:
            file = self._image(row.text("split"), row.text("image_filename"))
            images, answer = checked_images(row, "image_filename", [str(file)]), row.text("answer")
            template = row.text("template_filename").removesuffix(".json")
        else:
            images, answer = images_of(row, "image"), row.text("label")
            template = row.text("template")
        problem = Problem(
            id, row.text("question"), "num", images=images, tags={"template": template}
        )
        return [Task(problem, answer)]

    def _image(self, split: str, name: str) -> Path:
        return self.images / "CLEVR_v1.0" / "images" / split / name
