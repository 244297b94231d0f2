"""What tests of built data share: records of attempts, the folders of evaluations, and builds."""

import json
from pathlib import Path
from typing import Any

from slm_math.answers import grader_version
from slm_math.cli import run
from slm_math.records.encoding import json_line
from slm_math.records.files import write_json
from slm_math.records.record import ChatMessage, Event, NoteEvent, Record, RunEvent, TurnEvent


def turn(reply: str, *prompt: str, role: str = "solver", **more: Any) -> TurnEvent:
    """A reply after messages of user and assistant in turn."""
    roles = ("user", "assistant")
    messages = tuple(ChatMessage(roles[i % 2], text) for i, text in enumerate(prompt))
    return TurnEvent(role=role, prompt=messages, reply=reply, tokens=len(reply.split()), **more)


def code(program: str) -> str:
    return f"```python\n{program}\n```"


def ran(program: str, output: str, ok: bool = True) -> RunEvent:
    return RunEvent(code=program, ok=ok, output=output)


def draft(text: str | None, correct: bool) -> NoteEvent:
    return NoteEvent(kind="draft", text=text, correct=correct)


def attempt(number: int, answer: str | None, *events: Event, **more: Any) -> Record:
    """An attempt at `number` times 3; by default one reply that states the answer."""
    text, gold = f"A bag has {number} apples. How many apples have 3 bags?", str(3 * number)
    events = events or (turn(f"{number} * 3 = {answer}. The answer is {answer}.", text),)
    fields: dict[str, Any] = {"id": f"p/{number}", "sample": 0, "problem": text, "gold": gold}
    fields |= {"answer": answer, "correct": answer == gold, "events": events}
    return Record(**fields | more)


def evaluation(folder: Path, records: list[Record], split: str = "train", **identity: Any) -> str:
    """Writes the folder of an evaluation, and returns its path."""
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_bytes(b"".join(map(json_line, records)))
    about = {"split": split, "source": "bags"}
    identity = {"grader": grader_version()} | identity
    write_json(folder / "manifest.json", {"identity": identity, "partial": False, "about": about})
    return str(folder)


def build(kind: str, folder: str, out: Path, *options: str) -> dict[str, list[dict[str, Any]]]:
    """Runs `slm-math build-data`, and returns the rows by split; no problem is held out unless the
    options say so.
    """
    run(["build-data", kind, folder, "--out", str(out), "--validation", "0", *options])
    return rows_of(out)


def rows_of(out: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        file.stem: [json.loads(line) for line in file.read_text().splitlines()]
        for file in sorted(out.glob("*.jsonl"))
    }
