#!/usr/bin/env python3
"""The update of our GRPO beside that of TRL 1.16: the same token ids, rewards and model, on the CPU.

    pip install "slm-math[bench]"
    python scripts/compare_trl.py [--only gspo] [--steps 10] [--seed 0]

Every row trains one small model with `GRPOModule` and with `GRPOTrainer` on replies that were drawn at random once: 4
problems of 4 replies a step, of 1 to 24 tokens, some cut off, one group with equal rewards. All else is what either
library does: prompts, advantages, log-probabilities, reference, loss, clipping, AdamW. Shown are the largest
differences of the losses of all updates and of the parameters after the last: in float32, as the libraries are, and in
float64, where TRL's head, Qwen2's norms and angles, and our batches, which hold float32, get plain float64 stand-ins.

AdamW's first step is lr * g / (|g| + 1e-8): where |g| is below 1e-8, its rounding moves a weight. So in float32 weights
may be apart if their first gradient was that small ("over" counts them, "there" is |g| of the worst weight). Anything
else above 1e-5 fails.
"""

import argparse
import logging
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from unittest.mock import patch

import lightning as L
import torch
import transformers
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers.models.qwen2 import modeling_qwen2 as qwen2

from slm_math.agents import SingleShot
from slm_math.data.modules import Batches
from slm_math.losses.policy import Objective
from slm_math.modules import grpo
from slm_math.modules.optim import Optim
from slm_math.modules.policy import Policy
from slm_math.modules.scratch import Scratch
from slm_math.modules.stats import Sums
from slm_math.prompts import render
from slm_math.rewards import Reward
from slm_math.rollout.record import Rollout
from slm_math.rollout.rows import Batch, Row, collate
from slm_math.types import Problem, Reply, Sampling, Task, Trace, Turn

try:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer
except ImportError:
    sys.exit('TRL is not installed: pip install "slm-math[bench]"')

P, G, LONGEST, PROMPT = 4, 4, 24, "solve_plain"
LR, CLIP, EPS, TOLERANCE = 1e-3, 0.4, 1e-8, 1e-5  # some of the gradient norms are above this clip, some below
SINGLE, DOUBLE = torch.float32, torch.float64


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
    k3 = {"use_bias_correction_kl": False}  # TRL's default is what we call k3_weighted
    for kind in ("grpo", "dapo", "dr_grpo", "bnpo"):
        for beta in (0.0, 0.04):
            yield Case(kind, {"kind": kind}, {"loss_type": kind, **k3}, beta)
    yield Case("grpo", {"kind": "grpo"}, {"loss_type": "grpo", **k3}, 0.04, 2)
    yield Case("grpo, k3_weighted", {"kind": "grpo", "kl": "k3_weighted"}, {"loss_type": "grpo"}, 0.04, 2)
    yield Case("dapo, 4 micro-batches", {"kind": "dapo"}, {"loss_type": "dapo", **k3}, 0.04, 2, 4)
    yield Case("gspo", {"kind": "gspo"}, {"loss_type": "grpo", "importance_sampling_level": "sequence", **k3}, 0.04, 2)
    bound = {"clip_low": 1.0, "clip_high": 0.2}  # TRL's epsilon_high is the bound itself; it has no lower one
    yield Case("cispo", {"kind": "cispo", **bound}, {"loss_type": "cispo", "epsilon_high": 1.2, **k3}, 0.04, 2)
    yield Case("sapo", {"kind": "sapo"}, {"loss_type": "sapo", **k3}, 0.04, 2)


@dataclass
class Record:
    """What was sampled and earned, by problem and sample; rewards are exact in float32."""

    tasks: list[Task] = field(default_factory=list)
    replies: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    rewards: dict[tuple[str, int], float] = field(default_factory=dict)


def recorded(tokenizer: Any, steps: int, seed: int) -> Record:
    draw, record = random.Random(seed), Record()
    plain = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
    for number in range(steps * P):
        text = " + ".join(str(draw.randrange(100)) for _ in range(draw.randint(2, 6)))
        problem, level = Problem(f"sum/{number}", f"What is {text}?"), draw.randrange(1024) / 1024
        record.tasks.append(Task(problem, "0"))
        for g in range(G):
            cut = draw.random() < 0.2
            ids = draw.choices(plain, k=LONGEST if cut else draw.randrange(LONGEST))
            record.replies[problem.id, g] = ids if cut else [*ids, tokenizer.eos_token_id]
            record.rewards[problem.id, g] = level if number % P == 1 else draw.randrange(1024) / 1024
    return record


@dataclass
class Result:
    """What a run did: prompts that it saw, losses of its updates, first gradient and last value of each parameter."""

    prompts: dict[str, list[int]] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    first: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Looked(Reward):
    """The recorded reward."""

    record: Record

    def __call__(self, task: Task, trace: Trace) -> float:
        return self.record.rewards[trace.problem.id, trace.sample]


class Ours(grpo.GRPOModule):
    """Our GRPO on the recorded replies."""

    def __init__(self, folder: str, case: Case, record: Record, dtype: torch.dtype) -> None:
        optim = Optim(lr=LR, warmup=0, schedule="constant", clip=CLIP)
        objective = Objective(**case.ours, beta=case.beta, mismatch="none")
        sizes = {"group_size": G, "passes": case.passes, "tokens_per_batch": 1 << 20 if case.micro == 1 else 256}
        rest = {"sampling": Sampling(max_new_tokens=LONGEST), "seed": 0, **sizes}
        super().__init__(Policy(folder), SingleShot(PROMPT), [Looked(record)], optim, objective, **rest)
        self.record, self.wanted, self.result = record, dtype, Result()

    def configure_model(self) -> None:
        super().configure_model()
        for model in filter(None, (self.loaded.model, self.loaded.frozen)):
            model.to(self.wanted)

    def rollouts(self, tasks: Sequence[Task], key: tuple[int, int]) -> list[list[Rollout]]:
        self.last = [self.score(task, self.trace(task.problem, g)) for task in tasks for g in range(G)]
        return [self.last[i : i + G] for i in range(0, len(self.last), G)]

    def trace(self, problem: Problem, g: int) -> Trace:
        [request] = next(self.agent.solve(problem))
        ids, prompt = self.record.replies[problem.id, g], self.chat.encode(request.chat)
        self.result.prompts[problem.id] = prompt
        finish = "stop" if ids[-1] == self.chat.end_id else "length"
        reply = Reply("", tuple(ids), (0.0,) * len(ids), finish, tuple(prompt))
        return Trace(problem, g, (Turn(request, reply),), None)

    def update(self, parts: Any, olds: Any, sums: Sums) -> float | None:
        before = sums.values.get("loss", 0.0)
        norm = super().update(parts, olds, sums)
        self.result.losses.append(sums.values["loss"] - before)
        return norm

    def step_optimizer(self) -> float:
        self.result.first = self.result.first or {n: p.grad.clone() for n, p in self.model.named_parameters()}
        return super().step_optimizer()

    def run(self, folder: str) -> Result:
        quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
        trainer = L.Trainer(accelerator="cpu", max_epochs=1, log_every_n_steps=1, default_root_dir=folder, **quiet)
        trainer.fit(self, Batches(self.record.tasks, P, shuffle=False))
        self.result.weights = {name: p.detach() for name, p in self.model.named_parameters()}
        return self.result


class Theirs(GRPOTrainer):
    """TRL's GRPO on the recorded replies."""

    def __init__(self, folder: str, case: Case, record: Record, dtype: torch.dtype) -> None:
        self.record, self.wanted, self.result, self.drawn = record, dtype, Result(), []
        model = {"model_init_kwargs": {"dtype": dtype}, "use_cpu": True, "bf16": False, "gradient_checkpointing": False}
        batch = {"per_device_train_batch_size": P * G // case.micro, "gradient_accumulation_steps": case.micro}
        steps = {"steps_per_generation": case.micro, "num_iterations": case.passes, "num_train_epochs": 1}
        group = {"num_generations": G, "max_completion_length": LONGEST, "shuffle_dataset": False, "beta": case.beta}
        adamw = {"learning_rate": LR, "lr_scheduler_type": "constant", "max_grad_norm": CLIP, "adam_epsilon": EPS}
        quiet = {"report_to": [], "save_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": False}
        config = GRPOConfig(folder, **model, **batch, **steps, **group, **adamw, **quiet, **case.theirs)
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

    def _get_per_token_logps_and_entropies(self, model: Any, ids: Tensor, mask: Tensor, keep: int, **rest: Any) -> Any:
        if self.wanted == SINGLE:
            return super()._get_per_token_logps_and_entropies(model, ids, mask, keep, **rest)
        logps = model(input_ids=ids, attention_mask=mask).logits[:, -keep - 1 : -1].log_softmax(-1)
        return logps.gather(-1, ids[:, -keep:, None]).squeeze(-1), torch.zeros_like(logps[..., 0]), None

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        loss = super().compute_loss(*args, **options)
        self.result.losses.append(loss.item())
        return loss

    def run(self) -> Result:
        self.train()
        losses, n = self.result.losses, self.args.gradient_accumulation_steps
        self.result.losses = [sum(losses[i : i + n]) for i in range(0, len(losses), n)]
        self.result.weights = {name: p.detach() for name, p in self.model.named_parameters()}
        return self.result


# --- float64


def angles(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    half = position_ids[..., None].to(x.dtype) * self.inv_freq.to(x.dtype)
    return torch.cat((half, half), -1).cos(), torch.cat((half, half), -1).sin()


def norm(self: Any, x: Tensor) -> Tensor:
    return torch.nn.functional.rms_norm(x, x.shape[-1:], self.weight, self.variance_epsilon)


def batch(rows: Sequence[Row], device: Any) -> Batch:
    found = collate(rows, device)
    learnt = [(row.mask[t] * row.weight, row.advantage, (row.reference or row.logps)[t]) for row in rows for t in row.learnt]
    found.weight, found.advantage, reference = torch.tensor(learnt, dtype=DOUBLE).unbind(1)
    found.reference = found.reference if found.reference is None else reference
    return found


def both(case: Case, steps: int, seed: int, dtype: torch.dtype) -> tuple[Result, Result]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        scratch = Scratch(hidden=64, layers=2, ffn=128)
        tokenizer = scratch.tokenizer()
        for saved in (tokenizer, scratch.model(tokenizer)):
            saved.save_pretrained(folder)
        record = recorded(tokenizer, steps, seed)
        if dtype == DOUBLE:
            stack.enter_context(patch.object(qwen2.Qwen2RMSNorm, "forward", norm))
            stack.enter_context(patch.object(qwen2.Qwen2RotaryEmbedding, "forward", angles))
            stack.enter_context(patch.object(grpo, "collate", batch))
            stack.callback(torch.set_default_dtype, SINGLE)
            torch.set_default_dtype(DOUBLE)
        a, b = Ours(folder, case, record, dtype).run(folder), Theirs(folder, case, record, dtype).run()
    assert a.prompts == b.prompts and len(a.prompts) == len(record.tasks)
    assert a.weights.keys() == b.weights.keys() and len(a.losses) == len(b.losses) == steps * case.passes
    return a, b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="the rows whose name contains this")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    columns = ("objective", "beta", "mu", "losses", "weights", "worst weight", "there", "over", "losses", "weights", "")
    table, fine = Table(*columns), True
    for case in cases():
        if args.only not in case.name:
            continue
        cells = [case.name, str(case.beta), str(case.passes)]
        for dtype in (SINGLE, DOUBLE):
            a, b = both(case, args.steps, args.seed, dtype)
            loss = max(abs(x - y) for x, y in zip(a.losses, b.losses))
            gaps = {name: (a.weights[name] - b.weights[name]).abs() for name in a.weights}
            worst = max(gaps, key=lambda name: gaps[name].max())
            print(case, dtype, loss, worst, gaps[worst].max().item(), a.losses, b.losses)


if __name__ == "__main__":
    main()
