"""Small files in the shapes of other tools, with texts of their own: two problems, the first solved
by both samples or runs, the second by none.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

RIGHT, WRONG = "We add them: \\boxed{12}", "We multiply: \\boxed{13}"
ONE, TWO = "What are 7 and 5?", "What is 4 times 4?"

Row = dict[str, Any]


def lm_eval(doc: int, problem: str, gold: str, reply: str, kept: str, name: str) -> Row:
    return {
        "doc_id": doc, "doc": {"question": problem, "answer": f"so #### {gold}", "level": "2"},
        "target": f"so #### {gold}", "arguments": {}, "resps": [[reply]], "filtered_resps": [kept],
        "filter": name, "metrics": ["exact_match"], "exact_match": float(kept == gold),
    }  # fmt: skip


def inspect_sample(id: int, problem: str, gold: str, reply: str, value: str) -> Row:
    message = {"role": "assistant", "content": [
        {"type": "reasoning", "reasoning": "7"}, {"type": "text", "text": reply},
    ]}  # fmt: skip
    return {
        "id": id, "epoch": 1, "input": [{"role": "user", "content": problem}], "target": gold,
        "messages": [], "output": {
            "model": "m", "choices": [{"message": message, "stop_reason": "max_tokens"}],
            "completion": reply,
        },
        "scores": {"match": {"value": value, "answer": reply[-4:]}}, "events": [{"big": 1}],
    }  # fmt: skip


# of each tool the rows of two problems: the tool calls the first right and the second wrong, and so
# do we, but for the tools in DIFFER
ROWS: dict[str, list[Row]] = {
    "lm-eval": [
        lm_eval(0, ONE, "12", RIGHT, "12", "strict"),
        lm_eval(1, TWO, "16", WRONG, "13", "strict"),
        lm_eval(0, ONE, "12", RIGHT, "[invalid]", "loose"),
        lm_eval(1, TWO, "16", WRONG, "16", "loose"),
    ],
    "lighteval": [
        {
            "doc": {"query": problem, "choices": [gold], "gold_index": 0, "id": str(number)},
            "model_response": {"text": [reply], "input": problem},
            "metric": {"extractive_match": verdict},
        }
        for number, (problem, gold, reply, verdict) in enumerate(
            [(ONE, "12", RIGHT, 1.0), (TWO, "16", WRONG, 0.0)]
        )
    ],
    "evalscope": [
        {
            "index": number, "target": [gold], "agent_trace": None,
            "messages": [{"role": "user", "content": problem}],
            "sample_score": {
                "score": {
                    "value": {"accuracy": verdict}, "prediction": reply,
                    "extracted_prediction": reply[-3:-1],
                },
                "sample_id": number, "group_id": number,
            },
        }
        for number, (problem, gold, reply, verdict) in enumerate(
            [(ONE, "12", RIGHT, 1.0), (TWO, "16", WRONG, 0.0)]
        )
    ],
    "qwen2.5-math": [
        {"idx": 0, "question": ONE, "gt_cot": "so", "gt": "12", "solution": "so", "answer": "12",
         "code": [RIGHT, RIGHT], "pred": ["12", "12"], "report": [None, None],
         "score": [True, True]},
        {"idx": 1, "question": TWO, "gt_cot": "so", "gt": "16", "solution": "so", "answer": "16",
         "code": [WRONG, WRONG], "pred": ["13", "13"], "report": [None, None],
         "score": [False, False]},
    ],
    "nemo-skills": [
        {"problem": ONE, "generation": RIGHT, "expected_answer": "12", "predicted_answer": "12",
         "symbolic_correct": True, "judgement": "Reasoning: same.\nJudgement: Yes"},
        {"problem": TWO, "generation": WRONG, "expected_answer": "16", "predicted_answer": "13",
         "symbolic_correct": False, "judgement": "Reasoning: other.\nJudgement: No"},
    ],
    "open-r1": [
        {"problem": ONE, "solution": "so", "answer": "12", "uuid": "a", "generations": [RIGHT],
         "correctness_math_verify": [True], "correctness_llama": None, "finish_reasons": ["stop"]},
        {"problem": TWO, "solution": "so", "answer": "16", "uuid": "b", "generations": [WRONG],
         "correctness_math_verify": [False], "correctness_llama": None,
         "finish_reasons": ["length"]},
    ],
    "verl": [
        {"input": ONE, "output": RIGHT, "gts": "12", "score": 1.0, "step": 7},
        {"input": TWO, "output": WRONG, "gts": "16", "score": -1.0, "step": 7},
    ],
    "trl": [
        {"step": 1, "prompt": [{"role": "user", "content": problem}],
         "completion": [{"role": "assistant", "content": reply}], "solution": gold,
         "accuracy_reward": reward, "length_reward": 0.25, "advantage": 0.5}
        for problem, gold, reply, reward in ((ONE, "12", RIGHT, 1.0), (TWO, "16", WRONG, 0.0))
    ],
    "opencompass": [
        {"number": str(number), "origin_prompt": [{"role": "HUMAN", "prompt": problem}],
         "prediction": reply, "gold": gold, "correct": verdict}
        for number, (problem, gold, reply, verdict) in enumerate(
            [(ONE, "12", RIGHT, True), (TWO, "16", WRONG, False)]
        )
    ],
    "inspect": [
        inspect_sample(1, ONE, "12", RIGHT, "C"), inspect_sample(2, TWO, "16", WRONG, "I"),
    ],
}  # fmt: skip


def batch(id: str, *replies: str) -> Row:
    choices = [
        {"index": i, "message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}
        for i, reply in enumerate(replies)
    ]
    return {
        "id": f"batch_req_{id}",
        "custom_id": id,
        "response": {"status_code": 200, "body": {"choices": choices}},
        "error": None,
    }


def jsonl(file: Path, rows: list[Row]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def inspect_log(file: Path, samples: list[Row]) -> Path:
    """An `.eval` file: an archive with a header and a file for each sample."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_journal/start.json", json.dumps({"version": 2}))
        for sample in samples:
            name = f"samples/{sample['id']}_epoch_{sample['epoch']}.json"
            archive.writestr(name, json.dumps(sample))
        archive.writestr("header.json", json.dumps({"version": 2}))
    return file
