"""Folders of runs, as training writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slm_math.callbacks.rollout_log import texts
from slm_math.records.encoding import json_line, to_json
from slm_math.records.record import ChatMessage, NoteEvent, Record, RunEvent, TurnEvent

MANIFEST = {"run": "0a", "started": "2026-01-01T00:00:00Z", "policy": "made", "command": ["fit"]}


def sample(
    id: str = "p/1",
    number: int = 0,
    reply: str = r"So \boxed{4}",
    right: bool = True,
    reward: float | None = None,
    role: str = "solver",
    **more: Any,
) -> Record:
    turn = TurnEvent(role, (ChatMessage("user", f"What of {id}?"),), reply, tokens=10)
    events = more.pop("events", (turn,))
    value = float(right) if reward is None else reward
    options = {"problem": f"What of {id}?", "gold": "4", "answer": "4" if right else "5"} | more
    return Record(
        id, number, correct=right, reason="equal" if right else "different", events=events,
        **options,
    ).with_training({role: {"correct": value}}, {role: value}, {role: value - 0.5})  # fmt: skip


def lines(epoch: int, batch: int, samples: Sequence[Record], step: int = 0) -> bytes:
    """What RolloutLog writes of a batch."""
    place = {"epoch": epoch, "batch": batch, "step": step or batch + 1}
    return b"".join(json_line(place | texts(one, "solver") | to_json(one)) for one in samples)


def run(root: Path, *batches: bytes, log: str = "") -> Path:
    """A folder with the rollouts of some batches, and a log of metrics."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "manifest.json").write_text(json.dumps(MANIFEST))
    (root / "rollouts.jsonl").write_bytes(b"".join(batches))
    if log:
        folder = root / "logs" / "version_0"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(log)
    return root


def evaluation(folder: Path, samples: Sequence[Record], summary: Mapping[str, Any] | None) -> None:
    """The folder of an evaluation: finished with a summary, under way without."""
    folder.mkdir(parents=True)
    manifest = {
        "identity": {"problems": len({one.id for one in samples}), "samples": 1},
        "about": {"epoch": 0, "step": 2},
        "started": "2026-01-01T00:00:00Z",
        "partial": summary is None,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "records.jsonl").write_bytes(b"".join(map(json_line, samples)))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))


def odd() -> list[Record]:
    """Records of every shape, with texts that look like the fields around them."""
    tricky = (
        '"schema": 2, "id": "x", "sample": 7, "problem": }}, "rewards": {"a": 1}, "correct": true'
    )
    turn = TurnEvent("solver", (ChatMessage("user", tricky),), tricky, finish="length", tokens=3)
    other = TurnEvent("judge", (), ', "tokens": 9, "seconds": 1', tokens=4)
    events = (turn, RunEvent("1/0", ok=False, error_type="E", output=tricky), other)
    note = NoteEvent("draft", tricky, correct=True)
    return [
        sample(),
        sample(tricky, 1, reply=tricky, right=False, problem=tricky, gold=tricky),
        sample(events=events, answer=None, right=False),
        sample(events=(note, *events), error="broke", right=False, role="rewards"),
        sample(reward=float("nan"), tags={"rewards": "1", "correct": "true"}),
        sample("é/ü\u2028", right=False, hedged=True),
        Record("no/training", 3, answer_type="mc", choices=("a", "b"), error=None),
    ]
