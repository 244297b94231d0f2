"""How a run is doing: what its status file says, and whether it is stale."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from slm_math.records.run_folder import STATUS

GONE = 15.0  # seconds without a word of a process that says something every second
STILL = 120.0  # seconds in which nothing moves, of a process that is alive
NUMBERS = ("done", "total", "epoch", "batch", "step", "written", "moved")
LIMITS = ("epochs", "batches", "steps", "seconds_per_batch")


def state_of(root: Path, last_written: float, now: float | None = None) -> dict[str, Any]:
    """The status of the run in a folder, with `state`, what it means as `text`, and `seconds_left`
    where that is known.

    `state` is running, stale (the process is gone, or nothing moves), ended, stopped, failed, or
    unknown for a run without a status. `last_written` is when any file of the run changed.
    """
    now = time.time() if now is None else now
    status = _read(root / STATUS)
    if not status:
        quiet = f"nothing was written for {ago(now - last_written)}" if last_written else "no files"
        text = f"This run has no {STATUS}, so that its phase is unknown: {quiet}."
        return {"state": "unknown", "text": text, "written": last_written or None}
    state, text = str(status.get("state")), ""
    since = ago(now - status["written"])
    if state == "running":
        if now - status["written"] > GONE:
            state = "stale"
            text = f"Nothing was written for {since}: the process is gone, or it hangs."
        elif now - status["moved"] > STILL:
            state = "stale"
            text = f"The process is alive, but nothing moves for {ago(now - status['moved'])}."
    elif state == "failed":
        text = f"The run failed {since} ago ({str(status.get('error'))[:80]})."
    elif state == "stopped":
        text = f"The run was interrupted {since} ago: --ckpt_path last resumes it."
    else:
        state, text = "ended", f"The run ended {since} ago."
    left = batches_left(status)
    rate = status["seconds_per_batch"]
    seconds = None if left is None or rate is None or state != "running" else left * rate
    return status | {"state": state, "text": text, "left": left, "seconds_left": seconds}


def batches_left(status: dict[str, Any]) -> int | None:
    """How many batches are left until the first limit; None if there is no limit."""
    limits = []
    if status["epochs"] is not None and status["batches"] is not None:
        done = status["epoch"] * status["batches"] + status["batch"]
        limits.append(status["epochs"] * status["batches"] - done)
    if status["steps"] is not None:
        batches = (status["batches"] or 0) * status["epoch"] + status["batch"]
        each = status["step"] / batches if batches and status["step"] else 1.0
        limits.append(round((status["steps"] - status["step"]) / each))
    return max(min(limits), 0) if limits else None


def ago(seconds: float) -> str:
    """A time in the unit that fits."""
    seconds = max(seconds, 0.0)
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _read(path: Path) -> dict[str, Any]:
    """The file with numbers where numbers belong; {} if there is none, or another one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict) or not _number(data.get("written")):
        return {}
    numbers = {name: data[name] if _number(data.get(name)) else 0 for name in NUMBERS}
    limits = {name: data[name] if _number(data.get(name)) else None for name in LIMITS}
    words = {name: str(data.get(name, ""))[:200] for name in ("state", "phase", "error")}
    return words | numbers | limits


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e15
