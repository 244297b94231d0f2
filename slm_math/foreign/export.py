"""Records in the shapes of other tools: rows of lm-eval, samples and logs of Inspect."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from slm_math.records.record import Record, TurnEvent
from slm_math.records.stating import final_turn, stating_reply

SCORER = "slm_math"
METRIC = "exact_match"


def final_reply(record: Record) -> str:
    """What the agent says in the end: the last reply of the role that answers. If the answer is
    another than this one states, such as that of a vote or a program, it follows in a box.
    """
    turn = final_turn(record)
    reply = "" if turn is None else turn.reply
    if (
        record.answer is None
        or record.answer_type == "verdict"
        or stating_reply(record) is not None
    ):
        return reply
    return f"{reply}\n\n\\boxed{{{record.answer}}}".lstrip()


def lm_eval_row(records: Sequence[Record], number: int) -> dict[str, Any]:
    """The row of a problem with all its samples, as `--log_samples` writes it. As there, the metric
    of several samples is that of the first.
    """
    first = records[0]
    turn = final_turn(first)
    doc: dict[str, Any] = {
        "id": first.id,
        "problem": first.problem,
        "answer": first.gold,
        **dict(first.tags),
    }
    if first.choices:
        doc["choices"] = list(first.choices)
    prompt = "" if turn is None else json.dumps(_messages(turn), ensure_ascii=False)
    return {
        "doc_id": number,
        "doc": doc,
        "target": first.gold,
        "arguments": {"gen_args_0": {"arg_0": [prompt], "arg_1": {}}},
        "resps": [list(map(final_reply, records))],
        "filtered_resps": ["[invalid]" if first.answer is None else first.answer],
        "filter": SCORER,
        "metrics": [METRIC],
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(prompt),
        "target_hash": _hash(first.gold),
        METRIC: float(first.correct),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _messages(turn: TurnEvent) -> list[dict[str, str]]:
    return [{"role": each.role, "content": each.content} for each in turn.prompt]


def inspect_sample(record: Record, model: str) -> dict[str, Any]:
    """A sample of an Inspect log, with our verdict as its score."""
    turn, reply = final_turn(record), final_reply(record)
    ended = "max_tokens" if turn is not None and turn.finish == "length" else "stop"
    message = {"role": "assistant", "content": reply, "source": "generate"}
    choices = {"choices": list(record.choices)} if record.choices else {}
    return {
        "id": record.id,
        "epoch": record.sample + 1,
        "input": record.problem,
        **choices,
        "target": record.gold,
        "messages": [*([] if turn is None else _messages(turn)), message],
        "output": {
            "model": model,
            "choices": [{"message": message, "stop_reason": ended}],
            "completion": reply,
        },
        "scores": {
            SCORER: {
                "value": "C" if record.correct else "I",
                "answer": record.answer,
                "explanation": record.reason,
            }
        },
        "metadata": dict(record.tags),
        "store": {},
        "events": [],
        "model_usage": {},
        "attachments": {},
    }


def inspect_summary(sample: Mapping[str, Any]) -> dict[str, Any]:
    """What a log says of a sample in its list of summaries."""
    shown = ("id", "epoch", "input", "target", "scores", "metadata")
    return {name: sample[name] for name in shown} | {"completed": True, "message_count": 2}


def inspect_header(
    about: Mapping[str, Any], ids: Sequence[str], samples: int, epochs: int, accuracy: float
) -> dict[str, Any]:
    """A log of Inspect without its samples. `about` has `name`, `model` and `created` (a time)."""
    name, created = about["name"], about["created"]
    run = _hash(f"{name} {created}")[:22]
    metrics = {"accuracy": {"name": "accuracy", "value": accuracy, "params": {}}}
    score = {"name": SCORER, "scorer": SCORER, "params": {}, "metrics": metrics}
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": run,
            "run_id": run,
            "created": created,
            "task": name,
            "task_id": run,
            "task_version": 0,
            "task_attribs": {},
            "task_args": {},
            "dataset": {
                "name": name,
                "samples": len(ids),
                "sample_ids": list(ids),
                "shuffled": False,
            },
            "model": about["model"],
            "model_args": {},
            "config": {"epochs": epochs},
            "packages": {"slm-math": about["version"]},
            "metadata": {"made_by": "slm-math convert"},
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {"total_samples": samples, "completed_samples": samples, "scores": [score]},
        "stats": {"started_at": created, "completed_at": created, "model_usage": {}},
    }
