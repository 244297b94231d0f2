#!/usr/bin/env python3
"""Trains two steps of TRL 1.16's DPOTrainer on pairs that `slm-math build-data preferences` wrote.

    pip install ".[bench]"
    python scripts/check_preferences.py

The attempts are invented ones at four problems, two right and two wrong ones each. TRL reads the
file as it is. Equal are the token ids of prompts and replies, as TRL tokenizes the file and as
`ChatFormat` does, up to the line break of the template after a reply. The loss of the first step is
log 2, that of a model that equals its reference, and the second step has another model.
"""

import copy
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import trl
from check_chats import tokenizer_of
from datasets import disable_progress_bars, load_dataset
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl import DPOConfig, DPOTrainer

from slm_math.answers import grader_version
from slm_math.cli import run
from slm_math.policy.chat import ChatFormat
from slm_math.policy.templates import TEMPLATES
from slm_math.records.encoding import json_line
from slm_math.records.files import write_json
from slm_math.records.record import ChatMessage, Record, TurnEvent
from slm_math.types import Chat, Message, Text

STEPS = 2


def attempt(number: int, sample: int) -> Record:
    """An attempt at a problem; those with an even `sample` are right."""
    problem, gold = f"A bag has {number} apples. How many have 3 bags?", str(3 * number)
    answer = gold if sample % 2 == 0 else str(3 + number)
    turn = TurnEvent(
        role="solver",
        prompt=(ChatMessage("user", problem),),
        reply=f"Attempt {sample}: it is\n\\boxed{{{answer}}}",
        tokens=8,
    )
    return Record(
        id=f"bags/{number}",
        sample=sample,
        problem=problem,
        gold=gold,
        answer=answer,
        correct=answer == gold,
        events=(turn,),
    )


def built(folder: Path) -> Path:
    """The pairs of an evaluation."""
    evaluation = folder / "evaluation"
    evaluation.mkdir()
    records = [attempt(number, sample) for number in range(4, 8) for sample in range(4)]
    (evaluation / "records.jsonl").write_bytes(b"".join(map(json_line, records)))
    about = {"split": "train", "source": "bags"}
    identity = {"grader": grader_version()}
    write_json(
        evaluation / "manifest.json", {"identity": identity, "partial": False, "about": about}
    )
    options = ["--out", str(folder / "pairs"), "--validation", "0", "--per_problem", "2"]
    run(["build-data", "preferences", str(evaluation), *options])
    return folder / "pairs" / "train.jsonl"


def chat_of(messages: list[dict[str, str]]) -> Chat:
    roles: Any = [message["role"] for message in messages]
    return tuple(Message(role, (Text(m["content"]),)) for role, m in zip(roles, messages))


def ids_of(row: dict[str, Any], form: ChatFormat, side: str) -> list[int]:
    """The token ids of a prompt with one of its replies."""
    [(ids, _)] = form.dialogue(chat_of(row["prompt"]) + chat_of(row[side]))
    return ids


def trainer_of(file: Path, folder: Path) -> DPOTrainer:
    tokenizer = tokenizer_of(TEMPLATES["chatml"])
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    options: dict[str, Any] = {"report_to": "none", "use_cpu": True, "logging_steps": 1}
    options |= {"max_steps": STEPS, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **size, **heads))
    return DPOTrainer(
        model=model,
        ref_model=copy.deepcopy(model),
        args=DPOConfig(output_dir=str(folder / "trl"), max_length=None, **options),
        train_dataset=load_dataset("json", data_files=str(file), split="train"),
        processing_class=tokenizer,
    )


def main() -> None:
    torch.manual_seed(0)
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as name:
        file = built(Path(name))
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        trainer = trainer_of(file, Path(name))
        form = ChatFormat(tokenizer_of(TEMPLATES["chatml"]))
        theirs = list(trainer.train_dataset)
        equal = len(rows) == len(theirs)
        tokens = 0
        for row, other in zip(rows, theirs):
            for side in ("chosen", "rejected"):
                ours = ids_of(row, form, side)
                found = other["prompt_ids"] + other[f"{side}_ids"]
                equal &= ours == found[: len(ours)] and len(found) - len(ours) <= 1
                tokens += len(ours)
        trainer.train()
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    trained = len(losses) == STEPS and abs(losses[0] - math.log(2)) < 1e-4
    trained &= losses[1] != losses[0] and all(map(math.isfinite, losses))
    print(
        f"TRL {trl.__version__}: {len(rows)} pairs, {tokens} tokens, "
        f"{'equal' if equal else 'NOT EQUAL'}; losses of {STEPS} steps: "
        f"{', '.join(f'{loss:.4f}' for loss in losses)}"
    )
    sys.exit(not (equal and trained))


if __name__ == "__main__":
    main()
