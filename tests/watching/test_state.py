"""What is said of a run that is at work, silent, or over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slm_math.watching.state import ago, batches_left, state_of

NOW = 1_800_000_000.0
RUNNING = {
    "state": "running", "written": NOW - 1, "moved": NOW - 1, "phase": "rollouts", "done": 3,
    "total": 8, "epoch": 1, "epochs": 3, "batch": 4, "batches": 20, "step": 24, "steps": None,
    "seconds_per_batch": 2.5,
}  # fmt: skip


def said(root: Path, **more: Any) -> dict[str, Any]:
    (root / "status.json").write_text(json.dumps(RUNNING | more))
    return state_of(root, NOW - 1, NOW)


def test_a_running_run_has_a_rate_and_what_is_left(tmp_path: Path) -> None:
    found = said(tmp_path)
    assert (found["state"], found["text"], found["left"]) == ("running", "", 36)
    assert found["seconds_left"] == 90.0


@pytest.mark.parametrize(
    ("more", "state", "text"),
    [
        ({"written": NOW - 600}, "stale", "Nothing was written for 10 min"),
        ({"moved": NOW - 300}, "stale", "nothing moves for 5 min"),
        ({"state": "ended", "written": NOW - 7200}, "ended", "ended 2 h ago"),
        ({"state": "stopped"}, "stopped", "--ckpt_path last resumes it"),
        ({"state": "failed", "error": "OSError"}, "failed", "(OSError)"),
    ],
)
def test_a_run_that_does_not_go_on_says_so(
    more: dict[str, Any], state: str, text: str, tmp_path: Path
) -> None:
    found = said(tmp_path, **more)
    assert found["state"] == state
    assert text in found["text"]
    assert found["seconds_left"] is None


def test_a_run_without_a_status_says_when_it_was_written(tmp_path: Path) -> None:
    for text in ("", "[]", "{", '{"written": "x"}'):
        (tmp_path / "status.json").write_text(text)
        found = state_of(tmp_path, NOW - 3600 * 5, NOW)
        assert found["state"] == "unknown"
        assert "nothing was written for 5 h" in found["text"]


def test_the_first_limit_counts() -> None:
    assert batches_left(RUNNING | {"steps": 30}) == 6
    assert batches_left(RUNNING | {"steps": 96, "step": 48}) == 24  # two passes over a batch
    assert batches_left(RUNNING | {"epochs": None}) is None
    assert batches_left(RUNNING | {"epoch": 3, "batch": 20}) == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (119, "119 s"), (150, "2 min"), (86400 * 3, "3 days")]
)
def test_times(seconds: float, text: str) -> None:
    assert ago(seconds) == text
