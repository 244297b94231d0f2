"""Files of completions where a command expects folders of evaluations. What grades them is imported
where there is such a file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from slm_math.evaluation.plain import plain, print_line
from slm_math.records.eval_folders import RECORDS, add_distinct, last_evaluation, named_runs

if TYPE_CHECKING:
    from slm_math.grading.fields import Fields
    from slm_math.grading.tally import Tallies


def record_file(path: Path, folder: Path, fields: Fields) -> Tallies:
    """Grades a file of completions and writes records of it, on standard error a progress bar.

    Raises ValueError for a file that cannot be read as it is.
    """
    from slm_math.grading.recording import SAVED, Recorder
    from slm_math.grading.saved import with_row_kind
    from slm_math.grading.scoring import grade_lines
    from slm_math.grading.tally import Tallies

    fields = replace(with_row_kind(path, fields), recorded=True)
    tallies = Tallies(fields, path)
    graded = grade_lines(path, fields, None, Console(stderr=True))
    with Recorder(folder, fields.last_number) as recorder, closing(graded) as rows:
        for row in rows:
            recorder.add(tallies.add(row))
        if not tallies.graded:
            raise ValueError(f"{path}: no row could be graded; line {tallies.first_error}")
        tallies.finish()
        recorder.finish(path, fields.shape or SAVED, tallies)
    return tallies


@contextmanager
def evaluations_of(
    names: Sequence[str],
    console: Console,
    whole_runs: bool = False,
    filter: str | None = None,
) -> Iterator[dict[str, Path]]:
    """The folders of evaluations that a user named, by their names: those in a folder that holds
    several, the last one of a training run (the run itself for `whole_runs`), and of a file of
    completions a temporary one with records of these, of lm-eval those of a `filter`. Says which
    rows could not be read.

    Raises ValueError for what is neither folder nor file, for a file that needs options, with the
    command that takes them, and for a filter without a file.
    """
    if filter is not None and not any(Path(name).is_file() for name in names):
        raise ValueError(
            f"--filter {filter} chooses rows of a file of lm-eval, and there is no file among "
            f"{', '.join(names)}"
        )
    with tempfile.TemporaryDirectory(prefix="slm-math-") as root:
        found: dict[str, Path] = {}
        for number, name in enumerate(names):
            if Path(name).is_file():
                found[name] = _folder_of(name, Path(root) / str(number), console, filter)
                continue
            for run in named_runs(name):
                add_distinct(found, run if whole_runs else last_evaluation(run))
        yield found


def _folder_of(name: str, room: Path, console: Console, filter: str | None) -> Path:
    path = Path(name)
    if path.name == RECORDS:
        return path.parent
    from slm_math.grading.fields import Fields
    from slm_math.grading.recording import SAVED

    folder = room / path.name / SAVED
    try:
        tallies = record_file(path, folder, Fields(filter=filter))
    except ValueError as error:
        if "--" not in str(error):  # no option would help
            raise
        raise ValueError(
            f"{error} (with `slm-math grade {name} --records FOLDER`, which takes these options; "
            "then name the folder)"
        ) from error
    if tallies.unread:
        print_line(
            console,
            f"{plain(name)}: {tallies.unread} rows could not be read, the first in line "
            f"{plain(tallies.first_error, 200)}",
        )
    return folder
