#!/usr/bin/env python3
"""The update of our GRPO beside that of TRL 1.16: the same token ids, rewards and model, 10 steps on the CPU.

    pip install "slm-math[bench]"
    python scripts/compare_trl.py [--only grpo] [--steps 10] [--dtype float64]

Each row of the table trains one small model twice, here with `GRPOModule` and Lightning, there with `GRPOTrainer`.
Generation is replaced on both sides by the same replies, drawn at random once: 4 problems of 4 replies a step, of 1 to
24 tokens, some without an end token, one group with equal rewards. Everything else is what either library does:
prompts, advantages, log-probabilities, reference, loss, clipping, AdamW. Printed are the largest differences of the
losses of all updates and of the parameters after the last; the script fails when one is above 1e-5. In float64 it also
computes the parts that transformers' Qwen2 has in float32 (norms, rotary angles) in float64.
"""

import argparse
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
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

P, G, LONGEST, PROMPT, TOLERANCE = 4, 4, 24, "solve_plain", 1e-5
LR, CLIP = 1e-3, 1.0
Key = tuple[str, int]  # problem id, sample


@dataclass(frozen=True)
class Case:
    """One row: the same objective in the words of both libraries."""

    name: str
    ours: dict[str, Any]
    theirs: dict[str, Any]
    passes: int = 1
    micro: int = 1  # micro-batches of an update


def cases() -> Iterator[Case]:
    for kind in ("grpo", "dapo", "dr_grpo", "bnpo"):
        for beta in (0.0, 0.04):
            yield Case(kind, {"kind": kind, "beta": beta}, {"loss_type": kind, "beta": beta})


@dataclass
class Record:
    """What was sampled and what it earned."""

    tasks: list[Task]
    replies: dict[Key, list[int]]
    rewards: dict[Key, float]

    @classmethod
    def draw(cls, tokenizer: Any, steps: int, seed: int) -> "Record":
        draw, record = random.Random(seed), cls([], {}, {})
        plain = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
        for number in range(steps * P):
            text = " + ".join(str(draw.randrange(100)) for _ in range(draw.randint(2, 6)))
            problem = Problem(f"sum/{number}", f"What is {text}?")
            record.tasks.append(Task(problem, "0"))
            level = draw.random()
            for g in range(G):
                cut = draw.random() < 0.2
                ids = draw.choices(plain, k=LONGEST if cut else draw.randint(0, LONGEST - 1))
                record.replies[problem.id, g] = ids if cut else [*ids, tokenizer.eos_token_id]
                record.rewards[problem.id, g] = level if number % P == 1 else draw.random()
        return record


@dataclass
class Result:
    """What a training run did: the loss and the gradient norm of every update, the prompts, the last parameters."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    prompts: dict[str, list[int]] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)


# --- ours


class Recorded(Engine):
    """Answers with the recorded replies."""

    trainable = True

    def __init__(self, record: Record, chat: Any, prompts: dict[str, list[int]]) -> None:
        self.record, self.chat, self.prompts = record, chat, prompts
        self.answers: list[tuple[int, Reply]] = []
        self.asked = 0

    def submit(self, request: Request) -> int:
        *_, name, sample, _ = request.key
        ids, prompt = self.record.replies[name, sample], self.chat.encode(request.chat)
        self.prompts[name] = prompt
        text = self.chat.tokenizer.decode(ids, skip_special_tokens=True)
        finish = "stop" if ids[-1] == self.chat.end_id else "length"
        self.asked += 1
        self.answers.append((self.asked, Reply(text, tuple(ids), (0.0,) * len(ids), finish, tuple(prompt))))
        return self.asked

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply]]:
        answers, self.answers = self.answers, []
        return answers


class Looked(Reward):
    """The recorded reward."""

    def __init__(self, table: dict[Key, float]) -> None:
        super().__init__()
        self.table = table

    def __call__(self, task: Task, trace: Trace) -> float:
        return self.table[trace.problem.id, trace.sample]


class Ours(GRPOModule):
    """GRPO on recorded replies."""

    def __init__(self, folder: str, case: Case, record: Record, dtype: torch.dtype) -> None:
        widest = 1 << 20 if case.micro == 1 else P * G * 64 // case.micro
        super().__init__(
            Policy(folder),
            SingleShot(PROMPT),
            [Looked(record.rewards)],
            Optim(lr=LR, warmup=0, schedule="constant", clip=CLIP),
            Objective(**case.ours, mismatch="none"),
            sampling=Sampling(max_new_tokens=LONGEST),
            group_size=G,
            passes=case.passes,
            tokens_per_batch=widest,
            seed=0,
        )
        self.result, self.dtype_ = Result(), dtype
        self.recorded = Recorded(record, self.chat, self.result.prompts)

    def engines(self) -> dict[str, Engine]:
        return {"default": self.recorded}

    def configure_model(self) -> None:
        super().configure_model()
        self.model.to(self.dtype_)
        if self.needs_reference:
            self.loaded.frozen.to(self.dtype_)

    def update(self, parts: Any, olds: Any, sums: Sums) -> float | None:
        before = sums.values.get("loss", 0.0)
        norm = super().update(parts, olds, sums)
        self.result.losses.append(sums.values["loss"] - before)
        self.result.norms.append(norm)
        return norm


def ours(folder: str, case: Case, record: Record, dtype: torch.dtype) -> Result:
    module = Ours(folder, case, record, dtype)
    names = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
    quiet: dict[str, Any] = dict.fromkeys(names, False)
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, log_every_n_steps=1, default_root_dir=folder, **quiet)
    trainer.fit(module, Batches(record.tasks, P, shuffle=False))
    module.result.weights = {name: p.detach() for name, p in module.model.named_parameters()}
    return module.result


# --- theirs


class Theirs(GRPOTrainer):
    """TRL's GRPO on recorded replies."""

    def __init__(self, folder: str, case: Case, record: Record, dtype: torch.dtype) -> None:
        self.result, self.record, self.drawn = Result(), record, []
        rows = P * G // case.micro
        config = GRPOConfig(
            output_dir=folder,
            model_init_kwargs={"dtype": dtype},
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            num_generations=G,
            max_completion_length=LONGEST,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=case.micro,
            steps_per_generation=case.micro,
            num_iterations=case.passes,
            num_train_epochs=1,
            learning_rate=LR,
            lr_scheduler_type="constant",
            warmup_steps=0,
            weight_decay=0.0,
            max_grad_norm=CLIP,
            temperature=1.0,
            scale_rewards="group",
            shuffle_dataset=False,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            **case.theirs,
        )
        chats = [[{"role": "user", "content": render(PROMPT, problem=task.problem.text)}] for task in record.tasks]
        data = Dataset.from_list([{"prompt": c, "name": t.problem.id} for c, t in zip(chats, record.tasks)])
        super().__init__(folder, self.reward, config, data)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.drawn = [(row["name"], i % G) for i, row in enumerate(inputs)]
        return super()._generate_and_score_completions(inputs)

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **options: Any) -> Any:
        self.result.prompts |= {name: ids for (name, _), ids in zip(self.drawn, prompt_ids, strict=True)}
        return [self.record.replies[key] for key in self.drawn], None

    @staticmethod
    def reward(completion_ids: list[list[int]], name: list[str], **columns: Any) -> list[float]:
        raise NotImplementedError

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        loss = super().compute_loss(*args, **options)
        self.result.losses.append(loss.item())
        return loss
