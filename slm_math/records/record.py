"""A graded trace as plain data: what evaluations and rollouts write down, and what figures are
computed from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slm_math.agents.coding import program
from slm_math.answers import Extracted, extract, grade, judge
from slm_math.answers.graded import grade_trace
from slm_math.rewards import Reward, score
from slm_math.types import Chat, Image, Note, Run, Task, Trace, Turn

# characters that JSON leaves alone, though they steer terminals or end lines: C1 controls,
# Unicode's separators
ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}


@dataclass
class Rollout:
    """A trace in training. By role: unweighted reward parts, rewards (NaN: not scored), advantages
    (once known).
    """

    task: Task
    trace: Trace
    record: dict[str, Any]
    parts: Mapping[str, Mapping[str, float]]
    rewards: Mapping[str, float]
    advantages: dict[str, float] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """Its record with rewards and advantages."""
        parts = {role: dict(values) for role, values in self.parts.items()}
        return self.record | {
            "parts": parts,
            "rewards": dict(self.rewards),
            "advantages": self.advantages,
        }


def scored(task: Task, trace: Trace, rewards: Sequence[Reward], roles: Sequence[str]) -> Rollout:
    """A trace with the rewards of every role."""
    scores = score(rewards, grade_trace(task, trace), roles)
    return Rollout(task, trace, record(task, trace), scores.parts, scores.totals)


def record(task: Task, trace: Trace) -> dict[str, Any]:
    """A graded trace as plain data.

    `answer`, `correct`, `reason`: what the agent returned, and the verdict. `method`: how the last
    reply that states this answer does so (see `extract`); "program" where none does and programs
    ran. `hedged`: not right, and that reply names alternatives. `lenient`: right also when, of the
    last reply of the role that spoke first, the last number is accepted where the agent has no
    answer.
    """
    problem = task.problem
    verdict = judge(trace.answer, task)
    first = trace.turns[0].request.role if trace.turns else ""
    final = next(
        (turn.reply.text for turn in reversed(trace.turns) if turn.request.role == first), ""
    )
    found, method = _stated(trace)
    rules = {
        "answer_type": problem.answer_type,
        "choices": list(problem.choices),
        "tolerance": task.tolerance,
    }
    return {
        "id": problem.id,
        "sample": trace.sample,
        "problem": problem.text,
        "tags": dict(problem.tags),
        "gold": task.gold,
        **(rules if problem.answer_type != "math" else {}),
        "answer": trace.answer,
        "correct": verdict.equal,
        "reason": verdict.reason,
        "method": method,
        "hedged": found is not None and found.hedged and not verdict.equal,
        "lenient": verdict.equal or (trace.answer is None and _lenient(final, task)),
        "error": trace.error,
        "seconds": round(trace.seconds, 4),
        "events": [_event(event, task) for event in trace.events],
    }


def _stated(trace: Trace) -> tuple[Extracted | None, str]:
    """How the last reply that states the answer of a trace does so."""
    for turn in reversed(trace.turns if trace.answer is not None else ()):
        found = extract(turn.reply.text)
        if found.value == trace.answer:
            return found, found.method
    return None, "program" if trace.answer is not None and trace.runs else "none"


def _lenient(text: str, task: Task) -> bool:
    problem = task.problem
    rules = (
        task.gold,
        problem.text or None,
        problem.answer_type,
        problem.choices or None,
        task.tolerance,
    )
    return grade(text, *rules, last_number=True).correct


def _event(event: Turn | Run | Note, task: Task) -> dict[str, Any]:
    if isinstance(event, Note):
        graded = event.kind in ("draft", "candidate")
        return {
            "kind": "note",
            "note": event.kind,
            "text": event.text,
            **({"correct": judge(event.text, task).equal} if graded else {}),
            **({"value": round(event.value, 4)} if event.value is not None else {}),
            **({"role": event.role} if event.role else {}),
            **({"branch": list(event.branch)} if event.branch else {}),
        }
    if isinstance(event, Run):
        result = event.result
        return {
            "kind": "run",
            **({"earlier": list(event.earlier)} if event.earlier else {}),
            "code": event.code,
            "ok": result.ok,
            "output": result.text,
            "error_type": result.error_type,
            "timed_out": result.timed_out,
            "seconds": round(result.seconds, 4),
        }
    return {
        "kind": "turn",
        "role": event.request.role,
        "prompt": chat_data(event.request.chat),
        "reply": event.reply.text,
        "program": program(event.reply.text) is not None,
        "finish": event.reply.finish,
        "prompt_tokens": len(event.reply.prompt_ids),
        "tokens": event.reply.tokens,
        "seconds": round(event.reply.seconds, 4),
    }


def chat_data(chat: Chat) -> list[dict[str, str]]:
    """A chat as role and text; an image by its source (a data URL by its size)."""
    data = []
    for message in chat:
        images = [part.source for part in message.content if isinstance(part, Image)]
        names = [
            f"[image: {s if not s.startswith('data:') else f'{len(s)} characters'}]" for s in images
        ]
        data.append({"role": message.role, "content": "\n".join([*names, message.text])})
    return data


def light(row: Mapping[str, Any]) -> dict[str, Any]:
    """A record without its texts: what `figures` needs, cheap to send to another process."""
    texts = ("problem", "prompt", "reply", "code", "output", "earlier")
    return {
        **{name: value for name, value in row.items() if name not in texts},
        "events": [{k: v for k, v in event.items() if k not in texts} for event in row["events"]],
    }


def json_line(row: Mapping[str, Any]) -> bytes:
    """A record as a line of JSON in UTF-8; null for NaN and the infinities, which JSON has no
    number for.
    """
    text = json.dumps(_finite(row), ensure_ascii=False, allow_nan=False, default=str)
    # half a surrogate pair, which UTF-8 has no bytes for, becomes its JSON escape
    return text.translate(ESCAPES).encode("utf-8", "backslashreplace") + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
