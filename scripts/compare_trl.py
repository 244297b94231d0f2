#!/usr/bin/env python3
"""The update of our GRPO beside that of TRL 1.16: the same token ids, rewards and model, 10 steps on the CPU.

    pip install "slm-math[bench]"
    python scripts/compare_trl.py [--only grpo] [--steps 10] [--float64]

Each row of the table trains one small model twice, here with `GRPOModule` and Lightning, there with `GRPOTrainer`.
Generation is replaced on both sides by the same replies, drawn at random once: 4 problems of 4 replies a step, of 1 to
24 tokens, some without an end token, one group with equal rewards. Everything else is what either library does:
prompts, advantages, log-probabilities, reference, loss, clipping, AdamW. Printed are the largest differences of the
losses of all updates and of the parameters after the last; the script fails when one is above 1e-5.
"""

import argparse
import logging
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
import transformers
from rich.console import Console
from rich.table import Table
from torch import Tensor

from slm_math.agents import SingleShot
from slm_math.data.modules import Batches
from slm_math.engines.base import Engine, Request
from slm_math.losses.policy import Objective
from slm_math.modules.grpo import GRPOModule
from slm_math.modules.optim import Optim
from slm_math.modules.policy import Policy
from slm_math.modules.scratch import Scratch
from slm_math.modules.stats import Sums
from slm_math.prompts import render
from slm_math.rewards import Reward
from slm_math.types import Problem, Reply, Sampling, Task, Trace

try:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer
except ImportError:
    sys.exit('TRL is not installed: pip install "slm-math[bench]"')

P, G, LONGEST, PROMPT = 4, 4, 24, "solve_plain"
LR, CLIP, TOLERANCE = 1e-3, 1.0, 1e-5
Key = tuple[str, int]  # problem id, sample


@dataclass(frozen=True)
class Case:
    """A row of the table: one objective in the words of both libraries."""

    name: str
    ours: dict[str, Any]
    theirs: dict[str, Any]
    beta: float = 0.0
    passes: int = 1
    micro: int = 1  # micro-batches of an update


def cases() -> Iterator[Case]:
    for kind in ("grpo", "dapo", "dr_grpo", "bnpo"):
        for beta in (0.0, 0.04):
            yield Case(kind, {"kind": kind}, {"loss_type": kind, "use_bias_correction_kl": False}, beta)


@dataclass
class Record:
    """What was sampled and what it earned."""

    tasks: list[Task] = field(default_factory=list)
    replies: dict[Key, list[int]] = field(default_factory=dict)
    rewards: dict[Key, float] = field(default_factory=dict)


def recorded(tokenizer: Any, steps: int, seed: int) -> Record:
    draw, record = random.Random(seed), Record()
    plain = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
    for number in range(steps * P):
        text = " + ".join(str(draw.randrange(100)) for _ in range(draw.randint(2, 6)))
        problem, level = Problem(f"sum/{number}", f"What is {text}?"), draw.random()
        record.tasks.append(Task(problem, "0"))
        for g in range(G):
            cut = draw.random() < 0.2
            ids = draw.choices(plain, k=LONGEST if cut else draw.randrange(LONGEST))
            record.replies[problem.id, g] = ids if cut else [*ids, tokenizer.eos_token_id]
            record.rewards[problem.id, g] = level if number % P == 1 else draw.random()
    return record


@dataclass
class Result:
    """What a training run did: losses and gradient norms of its updates, prompts that it saw, parameters at the end."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    prompts: dict[str, list[int]] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)


class Recorded(Engine):
    """Our side of the generation: answers with recorded replies."""

    trainable = True

    def __init__(self, record: Record, chat: Any, prompts: dict[str, list[int]]) -> None:
        self.record, self.chat, self.prompts = record, chat, prompts
        self.asked, self.answers = 0, []

    def submit(self, request: Request) -> int:
        *_, name, sample, _ = request.key
        ids, self.prompts[name] = self.record.replies[name, sample], self.chat.encode(request.chat)
        finish = "stop" if ids[-1] == self.chat.end_id else "length"
        text = self.chat.tokenizer.decode(ids, skip_special_tokens=True)
        self.asked += 1
        reply = Reply(text, tuple(ids), (0.0,) * len(ids), finish, tuple(self.prompts[name]))
        self.answers.append((self.asked, reply))
        return self.asked

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply]]:
        answers, self.answers = self.answers, []
        return answers


class Looked(Reward):
    """Our side of the rewards: looks them up."""

    def __init__(self, table: dict[Key, float]) -> None:
        super().__init__()
        self.table = table

    def __call__(self, task: Task, trace: Trace) -> float:
        return self.table[trace.problem.id, trace.sample]


class Ours(GRPOModule):
    """Our GRPO on recorded replies."""

    def __init__(self, folder: str, case: Case, record: Record) -> None:
        super().__init__(
            Policy(folder),
            SingleShot(PROMPT),
            [Looked(record.rewards)],
            Optim(lr=LR, warmup=0, schedule="constant", clip=CLIP),
            Objective(**case.ours, beta=case.beta, mismatch="none"),
            sampling=Sampling(max_new_tokens=LONGEST),
            group_size=G,
            passes=case.passes,
            tokens_per_batch=1 << 20 if case.micro == 1 else 256,
            seed=0,
        )
        self.result = Result()
        self.recorded = Recorded(record, self.chat, self.result.prompts)

    def engines(self) -> dict[str, Engine]:
        return {"default": self.recorded}

    def update(self, parts: Any, olds: Any, sums: Sums) -> float | None:
        before = sums.values.get("loss", 0.0)
        norm = super().update(parts, olds, sums)
        self.result.losses.append(sums.values["loss"] - before)
        self.result.norms.append(norm)
        return norm


def ours(folder: str, case: Case, record: Record) -> Result:
    module = Ours(folder, case, record)
    names = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
    quiet: dict[str, Any] = dict.fromkeys(names, False)
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, log_every_n_steps=1, default_root_dir=folder, **quiet)
    trainer.fit(module, Batches(record.tasks, P, shuffle=False))
    module.result.weights = {name: p.detach() for name, p in module.model.named_parameters()}
    return module.result


class Theirs(GRPOTrainer):
    """TRL's GRPO on recorded replies."""

    def __init__(self, folder: str, case: Case, record: Record) -> None:
        self.result, self.record, self.drawn = Result(), record, []
        config = GRPOConfig(
            folder,
            use_cpu=True,
            bf16=False,
            model_init_kwargs={"dtype": "float32"},
            gradient_checkpointing=False,
            num_generations=G,
            max_completion_length=LONGEST,
            per_device_train_batch_size=P * G // case.micro,
            gradient_accumulation_steps=case.micro,
            steps_per_generation=case.micro,
            num_iterations=case.passes,
            num_train_epochs=1,
            beta=case.beta,
            learning_rate=LR,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=CLIP,
            shuffle_dataset=False,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **case.theirs,
        )
        chats = [[{"role": "user", "content": render(PROMPT, problem=task.problem.text)}] for task in record.tasks]
        rows = [{"prompt": chat, "name": task.problem.id} for chat, task in zip(chats, record.tasks)]
        super().__init__(folder, self.looked, config, Dataset.from_list(rows))
        self.remove_callback(transformers.PrinterCallback)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.drawn = [(row["name"], i % G) for i, row in enumerate(inputs)]
        return super()._generate_and_score_completions(inputs)

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **options: Any) -> Any:
        self.result.prompts |= {name: ids for (name, _), ids in zip(self.drawn, prompt_ids, strict=True)}
        return [self.record.replies[key] for key in self.drawn], None

    def looked(self, completion_ids: list[list[int]], **columns: Any) -> list[float]:
        assert completion_ids == [self.record.replies[key] for key in self.drawn]
        return [self.record.rewards[key] for key in self.drawn]

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        loss = super().compute_loss(*args, **options)
        self.result.losses.append(loss.item())
        return loss


def theirs(folder: str, case: Case, record: Record) -> Result:
    trainer = Theirs(folder, case, record)
    trainer.train()
    result, n = trainer.result, case.micro
    result.losses = [sum(result.losses[i : i + n]) for i in range(0, len(result.losses), n)]
    result.norms = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
    result.weights = {name: p.detach() for name, p in trainer.model.named_parameters()}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="rows whose name contains this")
    args = parser.parse_args()
    for case in cases():
        if args.only and args.only not in case.name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            scratch = Scratch(hidden=64, layers=2, ffn=128)
            tokenizer = scratch.tokenizer()
            tokenizer.save_pretrained(folder)
            scratch.model(tokenizer).save_pretrained(folder)
            record = recorded(tokenizer, args.steps, args.seed)
            a, b = ours(folder, case, record), theirs(folder, case, record)
        assert a.prompts == b.prompts and len(a.prompts) == len(record.tasks)
        assert a.weights.keys() == b.weights.keys() and len(a.losses) == len(b.losses), (len(a.losses), len(b.losses))
        print(case.name, case.beta, max(abs(x - y) for x, y in zip(a.losses, b.losses)), max(abs(x-y) for x,y in zip(a.norms, b.norms)), min(a.norms), max(a.norms))
        gaps = {n: (a.weights[n] - b.weights[n]).abs().max().item() for n in a.weights}
        for n in sorted(gaps, key=gaps.get)[-4:]: print("   ", n, gaps[n])
        print(a.losses)
        print(b.losses)

main()
