"""Records and folders of evaluations as `slm-math eval` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HOSTILE = (
    '</script><script>document.title="run"</script><img src=x onerror=alert(1)><!-- {{7*7}} {% '
    "raw %} "
    "\x00\x1b[31m\ud800\u202e $\\href{javascript:alert(1)}{x}$ $$\\style{position:fixed}{y}$$ "
    "**<b onclick=a>** "
    "`<svg onload=a>`\n```python\nprint('</pre><script>alert(2)</script>')\n```"
)


def turn(
    reply: str = r"\boxed{4}", role: str = "solver", finish: str = "stop", tokens: int = 10
) -> dict[str, Any]:
    prompt = [{"role": "user", "content": "What is 2 + 2?"}]
    counts = {"prompt_tokens": 8, "tokens": tokens, "seconds": 0.5}
    return {
        "kind": "turn",
        "role": role,
        "prompt": prompt,
        "reply": reply,
        "program": False,
        "finish": finish,
    } | counts


def run(ok: bool = True, code: str = "print(4)", output: str = "4") -> dict[str, Any]:
    error = "" if ok else "NameError"
    told = {"output": output, "error_type": error, "timed_out": False, "seconds": 0.1}
    return {"kind": "run", "code": code, "ok": ok} | told


def note(kind: str, text: str | None = None, **more: Any) -> dict[str, Any]:
    return {"kind": "note", "note": kind, "text": text} | more


def record(number: int, right: bool, *events: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    row = {
        "id": f"made/test/{number}", "sample": 0, "problem": f"What is {number} + 0?", "tags": {},
        "gold": str(number),
        "answer": str(number if right else -1), "correct": right,
        "reason": "equal" if right else "different",
        "method": "box", "hedged": False, "lenient": right, "error": None, "seconds": 1.0,
        "events": list(events) or [turn()],
    }  # fmt: skip
    return row | more


def write(folder: Path, rows: Sequence[Mapping[str, Any]], partial: bool = False) -> Path:
    """An agent's folder."""
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    manifest = {
        "identity": {"agent": {"class": "SingleShot"}, "data": "0123", "problems": len(rows),
        "samples": 1},
        "started": "2026-01-01T00:00:00Z", "finished": None if partial else "2026-01-01T00:01:00Z",
        "partial": partial,
        "records": len(rows), "environment": {"grader": "2"},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def varied() -> list[dict[str, Any]]:
    """Two agents' worth of what can happen, in 12 samples: 7 right."""
    rows = []
    for i in range(12):
        right, first = i % 12 < 7, i % 3 == 0
        events = [
            turn("A draft of $\\frac{1}{2}$ at $5 and $6."),
            note("draft", "1", correct=first),
            run(ok=i % 4 != 0, output="NameError: x" if i % 4 == 0 else "4"),
            turn("VERDICT: CORRECT", role="verifier"),
            note("verdict", "CORRECT" if first else "INCORRECT", role="verifier"),
            turn(r"So $x^2 = 4$, \boxed{4}", finish="length" if i == 5 else "stop"),
            note("draft", "4", correct=right),
            *([note("lost", "empty", role="solver")] if i == 6 else []),
            note("vote", "4", value=(i % 5 + 1) / 5),
            note("stop", "accepted"),
        ]
        tags = {"level": str(i % 3 + 1), "subject": ("Algebra", "Geometry")[i % 2]}
        rows.append(record(i, right, *events, tags=tags, **({"answer": None} if i == 11 else {})))
    return rows
