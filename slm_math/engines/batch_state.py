"""Which batches are under way at a server, in a file, so that a restarted run finds them again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

PAUSE = 1.0  # seconds between two times that forgotten rows are written down
KEPT = 30 * 86400.0  # seconds: servers do not keep the files of a batch longer


@dataclass
class SavedBatch:
    """A batch whose replies were not all handed out.

    Args:
        file: the server's name of the uploaded requests.
        rows: the ids of requests whose reply was not handed out.
        id: the server's name of the batch; "" until the server has confirmed it.
        created: when the file was uploaded (time.time).
    """

    file: str
    rows: set[str] = field(default_factory=set)
    id: str = ""
    created: float = field(default_factory=time.time)


class BatchState:
    """The batches under way, written to `path` as a whole or not at all: at once when one is added,
    and within about a second when rows are forgotten, which a restarted run does not ask for.

    Raises ValueError for a file that holds something else.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.batches: list[SavedBatch] = []
        self._saved = 0.0  # when (time.monotonic)
        if path is not None and path.is_file():
            try:
                saved = json.loads(path.read_text(encoding="utf-8"))["batches"]
                batches = [SavedBatch(**{**one, "rows": set(one["rows"])}) for one in saved]
            except (ValueError, LookupError, TypeError) as error:
                raise ValueError(
                    f"{path} does not hold the state of batches ({error}): choose another file "
                    "for state, or remove this one"
                ) from None
            self.batches = [one for one in batches if one.created > time.time() - KEPT]

    def holding(self, row: str) -> SavedBatch | None:
        """The batch that holds a request."""
        return next((batch for batch in self.batches if row in batch.rows), None)

    def add(self, file: str, rows: Iterable[str]) -> SavedBatch:
        """Notes an uploaded file, before its batch is made."""
        batch = SavedBatch(file, set(rows))
        self.batches.append(batch)
        self.save()
        return batch

    def forget(self, rows: Collection[str]) -> None:
        """Drops requests that were answered, or that are to be asked again."""
        if not rows:
            return
        for batch in self.batches:
            batch.rows.difference_update(rows)
        self.batches = [batch for batch in self.batches if batch.rows]
        if time.monotonic() - self._saved >= PAUSE:
            self.save()

    def save(self) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_name(self.path.name + ".new")
        data = [{**asdict(batch), "rows": sorted(batch.rows)} for batch in self.batches]
        new.write_text(json.dumps({"batches": data}) + "\n", encoding="utf-8")
        os.replace(new, self.path)
        self._saved = time.monotonic()
