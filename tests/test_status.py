"""The file that says what a run is doing: how far it is, and how it ended."""

import json
import threading
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from tiny import chats, grpo, problems, sft, trainer

from slm_math.callbacks import Status, status
from slm_math.records.run_folder import set_run_aside


def fit(root: Path, module: Any, data: Any, *callbacks: L.Callback, **options: Any) -> None:
    own = [Status(), *callbacks]
    trainer(root, callbacks=own, enable_checkpointing=False, **options).fit(module, data)


def read(root: Path) -> dict[str, Any]:
    return json.loads((root / "status.json").read_text(encoding="utf-8"))


class Reader(L.Callback):
    """Waits in one batch until the file says so much, and keeps what it says."""

    def __init__(self, root: Path, batch: int) -> None:
        self.root, self.batch = root, batch
        self.found: dict[str, Any] = {}

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int
    ) -> None:
        while batch_idx == self.batch and self.found.get("batch") != self.batch:
            if (self.root / "status.json").is_file():
                self.found = read(self.root)


class Breaks(L.Callback):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_train_batch_end(self, *_: Any) -> None:
        raise self.error


def test_a_running_run_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "EVERY", 0.01)
    reader = Reader(tmp_path, batch=2)
    fit(tmp_path, sft(), chats(), reader, max_epochs=1, limit_train_batches=3)
    now = reader.found
    assert (now["state"], now["epoch"], now["epochs"]) == ("running", 0, 1)
    assert (now["batch"], now["batches"], now["step"], now["steps"]) == (2, 3, 2, None)
    assert now["seconds_per_batch"] > 0
    assert now["moved"] <= now["written"]


def test_the_last_word_is_how_a_run_ended(tmp_path: Path) -> None:
    fit(tmp_path, grpo(), problems(limit=14), max_epochs=1)
    ended = read(tmp_path)
    assert (ended["state"], ended["batch"], ended["batches"]) == ("ended", 2, 2)
    while any(each.name == "status" for each in threading.enumerate()):
        pass  # it goes by itself; a test in which it stays ends by pytest's limit


@pytest.mark.parametrize(
    ("error", "state", "kind"),
    [(KeyboardInterrupt(), "stopped", None), (OSError("of a token"), "failed", "OSError")],
)
def test_a_run_that_breaks_says_so(
    error: BaseException, state: str, kind: str | None, tmp_path: Path
) -> None:
    with pytest.raises((KeyboardInterrupt, OSError, SystemExit)):
        fit(tmp_path, sft(), chats(), Breaks(error), max_epochs=1, limit_train_batches=2)
    ended = read(tmp_path)
    assert (ended["state"], ended.get("error")) == (state, kind)
    assert "of a token" not in str(ended)  # a message may hold anything


def test_a_run_that_is_set_aside_takes_its_status_along(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text("{}")
    assert (set_run_aside(tmp_path) / "status.json").is_file()
