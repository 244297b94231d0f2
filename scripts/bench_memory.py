#!/usr/bin/env python3
"""Measure the peak memory of a training step with a large vocabulary: this project's and that of
TRL 1.16.

    pip install ".[bench]"
    python scripts/bench_memory.py [--steps 2] [--only grpo] [--out FILE.json]

A Qwen2 of width 128 with the vocabulary of Qwen2.5 (151,936), 32 rows of 512 tokens a step: SFT of
random tokens, and GRPO of 4 problems of 32 tokens with 8 replies of 480, with a KL term; AdamW, 32
bits, the defaults of both otherwise. Each side runs in a process of its own. Counted is the largest
resident memory during the steps, above what the process uses when the first one begins.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import itertools
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
import transformers
from bench_grpo import BETA, LR, Measured, Ours, Theirs
from benching import PLAIN, Dense, dense, options, prompts, quiet, report, trainer
from datasets import Dataset
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, SFTConfig, SFTTrainer

from slm_math.data.batches import Batches
from slm_math.data.rows import Row
from slm_math.engines.settings import Inference
from slm_math.losses.objective import Objective
from slm_math.modules.optim import Optim
from slm_math.modules.sft import SFTModule
from slm_math.policy.config import Policy
from slm_math.policy.scratch import Scratch
from slm_math.types import Problem, Sampling, Task

ROWS, LENGTH, PROMPT, P, G, VOCABULARY = 32, 512, 32, 4, 8, 151936
OPTIM = Optim(lr=LR, warmup=0, schedule="constant")


def resident(name: str) -> float:
    """GiB of resident memory: "VmRSS" now, "VmHWM" at most since the last `reset`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**20


class Peak:
    """The memory above that at the begin of the first step."""

    def __init__(self) -> None:
        self.begin: float | None = None

    def start(self) -> None:
        if self.begin is None:
            self.begin = resident("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the largest so far is forgotten

    @property
    def above(self) -> float:
        assert self.begin is not None
        return resident("VmHWM") - self.begin


class OurBegin(L.Callback):
    """Tells a peak where the first step of Lightning begins."""

    def __init__(self, peak: Peak) -> None:
        self.peak = peak

    def on_train_batch_start(self, *args: Any, **options: Any) -> None:
        self.peak.start()


class TheirBegin(transformers.TrainerCallback):
    """Tells a peak where the first step of transformers' trainer begins."""

    def __init__(self, peak: Peak) -> None:
        self.peak = peak

    def on_train_begin(self, *args: Any, **options: Any) -> None:
        self.peak.start()


def random_rows(steps: int) -> list[list[int]]:
    draw = random.Random(0)
    return [draw.choices(range(VOCABULARY), k=LENGTH) for _ in range(ROWS * steps)]


def sft_ours(folder: str, steps: int, peak: Peak) -> None:
    rows = [Row(tuple(ids), (1.0,) * LENGTH) for ids in random_rows(steps)]
    module = SFTModule(Policy(folder), optim=OPTIM)
    trainer(OurBegin(peak), steps).fit(module, Batches(rows, ROWS, shuffle=False))


def sft_trl(folder: str, steps: int, peak: Peak) -> None:
    config = SFTConfig(
        folder,
        per_device_train_batch_size=ROWS,
        max_steps=steps,
        max_length=LENGTH,
        learning_rate=LR,
        **PLAIN,
    )
    data = Dataset.from_dict({"input_ids": random_rows(steps)})
    SFTTrainer(folder, config, train_dataset=data, callbacks=[TheirBegin(peak)]).train()


def grpo_ours(folder: str, steps: int, peak: Peak) -> None:
    module = Ours(
        Policy(folder),
        Measured(itertools.repeat(LENGTH - PROMPT)),
        rewards=[Dense()],
        optim=OPTIM,
        objective=Objective(beta=BETA),
        inference=Inference(sampling=Sampling(max_new_tokens=LENGTH - PROMPT)),
        group_size=G,
        seed=0,
    )
    tasks = [Task(Problem(str(n), text), "0") for n, text in enumerate(questions(steps))]
    trainer(OurBegin(peak), steps).fit(module, Batches(tasks, P, shuffle=False))


def grpo_trl(folder: str, steps: int, peak: Peak) -> None:
    config = GRPOConfig(
        folder,
        per_device_train_batch_size=P * G,
        num_generations=G,
        max_completion_length=LENGTH - PROMPT,
        max_steps=steps,
        beta=BETA,
        learning_rate=LR,
        **PLAIN,
    )

    def rewards(completion_ids: Any, **columns: Any) -> list[float]:
        return [dense(ids) for ids in completion_ids]

    chats = [[{"role": "user", "content": text}] for text in questions(steps)]
    theirs = Theirs(folder, rewards, config, Dataset.from_dict({"prompt": chats}))
    theirs.lengths = itertools.repeat(LENGTH - PROMPT)
    theirs.add_callback(TheirBegin(peak))
    theirs.train()


def questions(steps: int) -> list[str]:
    return prompts(Scratch().tokenizer(), PROMPT, steps * P)


SIDES: dict[str, Callable[[str, int, Peak], None]] = {
    "sft ours": sft_ours,
    "sft trl": sft_trl,
    "grpo ours": grpo_ours,
    "grpo trl": grpo_trl,
}


def one(side: str, steps: int) -> None:
    """Runs a side in this process; its last line is the peak in GiB."""
    quiet()
    peak = Peak()
    with tempfile.TemporaryDirectory() as folder:
        Scratch().tokenizer().save_pretrained(folder)
        torch.manual_seed(0)
        config = Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=600,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
        )
        Qwen2ForCausalLM(config).save_pretrained(folder)
        SIDES[side](folder, steps, peak)
    print(json.dumps(peak.above))


def main() -> None:
    parser = options(__doc__ or "", "steps", 2, measured="steps of each side")
    parser.add_argument("--only", default="", help="sft or grpo")
    parser.add_argument("--side", choices=SIDES, help="only this one, in this process")
    args = parser.parse_args()
    if args.side:
        one(args.side, args.steps)
        return
    rows: list[dict[str, Any]] = []
    for work in ("sft", "grpo"):
        if args.only in work:
            row: dict[str, Any] = {"work": work}
            for side in ("ours", "trl"):
                command = [sys.executable, __file__, "--side", f"{work} {side}"]
                command += ["--steps", str(args.steps)]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                row[side] = json.loads(said.splitlines()[-1])
                print(f"{work} {side}: {row[side]:.2f} GiB", flush=True)
            row |= {"ratio": f"{row['ours'] / row['trl']:.2f}", "steps": args.steps}
            rows.append(row | {side: f"{row[side]:.2f} GiB" for side in ("ours", "trl")})
    report(rows, ("work", "ours", "trl", "ratio", "steps"), args.out)


if __name__ == "__main__":
    main()
