#!/usr/bin/env python3
"""Measure the CPU time of fine-tuning on one thread: this project and TRL 1.16.

    pip install ".[bench]"
    SLM_MATH_DATA=DATA python scripts/bench_sft.py [--steps 7] [--mode packing] [--out FILE.json]

Both train the same small Qwen2 on the solutions of GSM8K (DATA/gsm8k/train.jsonl) as chats, 16 a
step, in one process, step by step in turn. Each side chooses the chats of a step, so the ratio
compares CPU time per token, padding not counted. TRL's modes: batches that are padded (its
default), rows without padding (`padding_free`), and several chats to a row (`packing`).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import transformers
from benching import PLAIN, OurSteps, Relay, TheirSteps, options, quiet, ratio, report, trainer

from slm_math.data.base import read_dialogues
from slm_math.data.chat_data import ChatData
from slm_math.data.gsm8k import GSM8K
from slm_math.modules.optim import Optim
from slm_math.modules.sft import SFTModule
from slm_math.policy.config import Policy
from slm_math.policy.scratch import Scratch

try:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer
except ImportError:
    sys.exit('TRL is not installed: pip install ".[bench]"')

BATCH, LR, WARMUP, LIMIT, PROMPT = 16, 1e-4, 2, 2000, "solve_plain"
SCRATCH = Scratch(hidden=256, layers=4, ffn=640, vocabulary=512, context=1024)
MODES: dict[str, dict[str, Any]] = {
    "padded": {},
    "padding_free": {"padding_free": True, "max_length": None},
    # a row has as many tokens as four chats or five
    "packing": {"packing": True, "per_device_train_batch_size": BATCH // 4},
}


class Theirs(SFTTrainer):
    """TRL's trainer, which counts the tokens of each step."""

    counts: list[int]

    def training_step(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        mask = inputs.get("attention_mask")
        self.counts.append(int(mask.sum()) if mask is not None else inputs["input_ids"].numel())
        return super().training_step(model, inputs, *args, **options)


class Ours(SFTModule):
    """SFT that counts the tokens of each step."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.counts.append(sum(len(row.ids) for row in batch.items))
        super().training_step(batch, batch_idx)


def measure(mode: str, data: Path, steps: int) -> dict[str, Any]:
    """A row of the table."""
    relay = Relay(("ours", "trl"), WARMUP)
    steps += WARMUP
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = SCRATCH.tokenizer()
        tokenizer.save_pretrained(folder)
        SCRATCH.model(tokenizer).save_pretrained(folder)
        source = GSM8K(str(data), limit=LIMIT)
        ours = Ours(Policy(folder), optim=Optim(lr=LR, warmup=0, schedule="constant"))
        ours.counts = []
        chats = [
            {
                "prompt": [{"role": m.role, "content": m.text} for m in dialogue[:-1]],
                "completion": [{"role": "assistant", "content": dialogue[-1].text}],
            }
            for dialogue in read_dialogues(source, "train", PROMPT)
        ]
        config = SFTConfig(
            folder,
            **{"per_device_train_batch_size": BATCH, **MODES[mode]},
            max_steps=steps,
            learning_rate=LR,
            **PLAIN,
        )
        theirs = Theirs(folder, config, train_dataset=Dataset.from_list(chats))
        theirs.counts = []
        theirs.remove_callback(transformers.PrinterCallback)
        theirs.add_callback(TheirSteps(relay))
        fit = trainer(OurSteps(relay), steps)
        relay.run({
            "ours": lambda: fit.fit(ours, ChatData(source, batch_size=BATCH, prompt=PROMPT)),
            "trl": theirs.train,
        })  # fmt: skip
    by_token = {
        name: [
            seconds / tokens * 1e6
            for seconds, tokens in zip(relay.seconds[name], side.counts[WARMUP:])
        ]
        for name, side in (("ours", ours), ("trl", theirs))
    }
    found = ratio(by_token["ours"], by_token["trl"])
    row = {name: f"{statistics.median(each):.0f}" for name, each in by_token.items()}
    row |= {"TRL's mode": mode, "ratio [95 %]": str(found), "n": len(by_token["ours"])}
    return row | {"microseconds": by_token, "interval": found}


def main() -> None:
    parser = options(__doc__, "steps", 7, measured="measured steps of each side")
    parser.add_argument("--mode", choices=MODES, help="TRL's only mode to compare with")
    args = parser.parse_args()
    data = Path(os.environ.get("SLM_MATH_DATA", "")) / "gsm8k"
    if not data.is_dir():
        sys.exit("SLM_MATH_DATA must name a folder with gsm8k/train.jsonl")
    quiet()
    modes = [args.mode] if args.mode else list(MODES)
    rows = [measure(mode, data, args.steps) for mode in modes]
    print("CPU microseconds per token, padding not counted")
    report(rows, ("TRL's mode", "ours", "trl", "ratio [95 %]", "n"), args.out)


if __name__ == "__main__":
    main()
