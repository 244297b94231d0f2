#!/usr/bin/env python3
"""Measure the CPU time of a GRPO step on one thread: this project's and that of TRL 1.16.

    pip install ".[bench]"
    python scripts/bench_grpo.py [--steps 7] [--only ragged] [--compile] [--out FILE.json]

Both train the same small Qwen2 with the same settings (16 problems, 8 replies each, KL penalty,
AdamW) in one process, step by step in turn; each side's other settings are its defaults. Replies
have the same lengths on both sides: all 64 tokens, or lognormal ones (mean about 34, at most 99).
The ratio of the medians has a 95 % bootstrap interval. `generate` is sampling, `reference` the
reference's log-probabilities, `update` all else. With `--compile` our decoder layers are compiled:
during warm-up, and what that took is stated apart.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from benching import (
    PLAIN,
    Dense,
    OurSteps,
    Relay,
    TheirSteps,
    dense,
    options,
    prompts,
    quiet,
    ratio,
    report,
    trainer,
)

from slm_math.agents import Agent
from slm_math.data.batches import Batches
from slm_math.engines.settings import Inference
from slm_math.losses.objective import Objective
from slm_math.modules.grpo import GRPOModule
from slm_math.modules.optim import Optim
from slm_math.policy.config import Policy
from slm_math.policy.scratch import Scratch
from slm_math.types import Generate, Problem, Sampling, Task, Workflow, user

try:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer
except ImportError:
    sys.exit('TRL is not installed: pip install ".[bench]"')

P, G, BETA, LR, WARMUP, FIXED, LONGEST = 16, 8, 0.04, 1e-4, 2, 64, 99
SIZES = {
    "1.2M": Scratch(hidden=128, layers=4, ffn=600, vocabulary=1024, context=1024),
    "3M": Scratch(hidden=256, layers=4, ffn=640, vocabulary=512, context=1024),
}


def lengths(ragged: bool, seed: int) -> Iterator[int]:
    """Tokens of the replies, one after the other."""
    draw = random.Random(seed)
    while True:
        yield min(max(int(draw.lognormvariate(3.25, 0.75)), 1), LONGEST) if ragged else FIXED


@dataclass(frozen=True)
class Measured(Agent):
    """Asks once for a reply of the next length."""

    lengths: Any = field(default=None, compare=False)

    def solve(self, problem: Problem) -> Workflow[str | None]:
        yield [Generate(user(problem.text), max_new_tokens=next(self.lengths))]
        return None


class Ours(GRPOModule):
    """GRPO without tokens that end a reply early."""

    ends = frozenset()


class Theirs(GRPOTrainer):
    """TRL's GRPO, whose replies end where they are told to."""

    lengths: Iterator[int]

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **options: Any) -> Any:
        rows = torch.tensor([next(self.lengths) for _ in prompt_ids])
        end, start = self.processing_class.eos_token_id, len(prompt_ids[0])

        def forced(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            scores[:, end] = -torch.inf
            last = ids.shape[1] - start == rows - 1
            scores[last], scores[last, end] = -torch.inf, 0.0
            return scores

        whole = self.model.generate

        def generate(*args: Any, **options: Any) -> Any:
            return whole(*args, logits_processor=[forced], **options)

        self.model.generate = generate
        try:
            return super()._generate_single_turn(prompt_ids, *args, **options)
        finally:
            del self.model.generate


def measure(size: str, prompt: int, ragged: bool, steps: int, compiled: bool) -> dict[str, Any]:
    """A row of the table."""
    relay = Relay(("ours", "trl"), WARMUP)
    steps += WARMUP
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as kept:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = kept  # nothing was compiled before
        tokenizer = SIZES[size].tokenizer()
        tokenizer.save_pretrained(folder)
        SIZES[size].model(tokenizer).save_pretrained(folder)
        texts = prompts(tokenizer, prompt, steps * P)
        ours = Ours(
            Policy(folder, compile=compiled),
            Measured(lengths(ragged, 1)),
            rewards=[Dense()],
            optim=Optim(lr=LR, warmup=0, schedule="constant"),
            objective=Objective(beta=BETA),
            inference=Inference(sampling=Sampling(max_new_tokens=LONGEST)),
            group_size=G,
            seed=0,
        )
        relay.phase(ours, "sample_groups", "generate")
        relay.phase(ours, "reference_logprobs", "reference")
        tasks = [Task(Problem(str(n), text), "0") for n, text in enumerate(texts)]
        config = GRPOConfig(
            folder,
            per_device_train_batch_size=P * G,
            num_generations=G,
            max_completion_length=LONGEST,
            max_steps=steps,
            beta=BETA,
            learning_rate=LR,
            **PLAIN,
        )
        chats = [[{"role": "user", "content": text}] for text in texts]

        def rewards(completion_ids: Any, **columns: Any) -> list[float]:
            return [dense(ids) for ids in completion_ids]

        theirs = Theirs(folder, rewards, config, Dataset.from_dict({"prompt": chats}))
        theirs.lengths = lengths(ragged, 1)
        theirs.remove_callback(transformers.PrinterCallback)
        theirs.add_callback(TheirSteps(relay))
        relay.phase(theirs, "_generate_single_turn", "generate")
        relay.phase(theirs, "_generate_and_score_completions", "reference")
        fit = trainer(OurSteps(relay), steps)
        relay.run({
            "ours": lambda: fit.fit(ours, Batches(tasks, P, shuffle=False)),
            "trl": theirs.train,
        })  # fmt: skip
    row: dict[str, Any] = {"model": size, "prompt": prompt, "lengths": ("fixed", "ragged")[ragged]}
    for name, seconds in relay.seconds.items():
        row[name] = f"{statistics.median(seconds):.2f}"
    found = ratio(relay.seconds["ours"], relay.seconds["trl"])
    row |= {"ratio [95 %]": str(found), "n": len(relay.seconds["ours"])}
    for title, phase in (("generate", "generate"), ("ref.", "reference"), ("update", "rest")):
        row[title] = " / ".join(
            f"{statistics.median(relay.phases[name][phase][WARMUP:]):.2f}" for name in relay.names
        )
    if compiled:
        row["compilation"] = relay.compiling("ours")
    return row | {"seconds": relay.seconds, "phases": relay.phases, "interval": found}


def main() -> None:
    parser = options(__doc__, "steps", 7, measured="measured steps of each side")
    parser.add_argument("--only", default="", help="rows that contain this text: '1.2M 32 fixed'")
    parser.add_argument("--compile", action="store_true", help="compile our decoder layers")
    args = parser.parse_args()
    quiet()
    rows = [
        measure(size, prompt, ragged, steps=args.steps, compiled=args.compile)
        for size in SIZES
        for prompt in (32, 256)
        for ragged in (False, True)
        if args.only in f"{size} {prompt} {('fixed', 'ragged')[ragged]}"
    ]
    shown = ("model", "prompt", "lengths", "ours", "trl", "ratio [95 %]", "n")
    print("CPU seconds of a step, and of its phases (ours / TRL)")
    report(rows, shown, args.out)
    report(rows, ("model", "prompt", "lengths", "generate", "ref.", "update"), None)
    for row in rows if args.compile else ():
        name = f"{row['model']} {row['prompt']} {row['lengths']}"
        print(f"{name}: compilation took {row['compilation']:.0f} CPU seconds, not in the steps")


if __name__ == "__main__":
    main()
