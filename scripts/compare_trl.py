#!/usr/bin/env python3
"""The update of our GRPO beside that of TRL 1.16: the same token ids, rewards and model, ten steps
on the CPU.

    pip install "slm-math[bench]"
    python scripts/compare_trl.py [--only gspo] [--seed 0]

Each row trains one small model with `GRPOModule` and with `GRPOTrainer` on replies that were drawn
at random once: 4 problems of 4 replies a step, of 1 to 24 tokens, some cut off, one group with
equal rewards. All else is what either library does: prompts, advantages, log-probabilities,
reference, loss, clipping, AdamW. Shown are the largest differences of the losses of all updates and
of the weights after the last; any above 1e-5 fails.

First in float32, as the libraries are. There AdamW's first step, lr * g / (|g| + 1e-8), turns the
rounding of a gradient below 1e-8 into a movement: with other seeds single weights may be further
apart. Then in float64, where TRL's head, Qwen2's norms and angles and our batches, which are
float32 at all times, give way to plain float64 ones.
"""

import argparse
import logging
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple
from unittest.mock import patch

import lightning as L
import torch
import transformers
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers.models.qwen2 import modeling_qwen2 as qwen2

from slm_math.agents import SingleShot
from slm_math.answers.graded import GradedTrace
from slm_math.data.batches import Batches
from slm_math.data.rows import Row
from slm_math.losses.policy import Objective
from slm_math.modules import grpo
from slm_math.modules.optim import Optim
from slm_math.modules.stats import Sums
from slm_math.policy.batches import Batch, collate
from slm_math.policy.config import Policy
from slm_math.policy.scratch import Scratch
from slm_math.prompts import render
from slm_math.records.record import Rollout, scored
from slm_math.rewards import Reward
from slm_math.types import Problem, Reply, Sampling, Task, Trace, Turn

try:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer
except ImportError:
    sys.exit('TRL is not installed: pip install "slm-math[bench]"')

STEPS, P, G, LONGEST, PROMPT = 10, 4, 4, 24, "solve_plain"
LR, CLIP, TOLERANCE = 1e-3, 0.4, 1e-5  # some of the gradient norms are above this clip, some below
SINGLE, DOUBLE = torch.float32, torch.float64
Samples = dict[tuple[str, int], tuple[list[int], float]]  # problem, number -> token ids, reward


class Case(NamedTuple):
    """A row of the table: one objective in the words of both libraries."""

    name: str
    ours: dict[str, Any]
    theirs: dict[str, Any]
    beta: float = 0.04
    passes: int = 2
    micro: int = 1  # micro-batches of an update


def cases() -> Iterator[Case]:
    k3 = {"use_bias_correction_kl": False}  # TRL's default is what we call k3_weighted
    for kind in ("grpo", "dapo", "dr_grpo", "bnpo"):
        for beta in (0.0, 0.04):
            yield Case(kind, {"kind": kind}, {"loss_type": kind, **k3}, beta, passes=1)
    yield Case("grpo", {"kind": "grpo"}, {"loss_type": "grpo", **k3})
    yield Case("grpo, k3_weighted", {"kind": "grpo", "kl": "k3_weighted"}, {"loss_type": "grpo"})
    yield Case("dapo, 4 micro-batches", {"kind": "dapo"}, {"loss_type": "dapo", **k3}, micro=4)
    yield Case(
        "gspo",
        {"kind": "gspo"},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", **k3},
    )
    # TRL's epsilon_high is the bound itself; it has no lower one
    bound = {"clip_low": 1.0, "clip_high": 0.2}
    yield Case(
        "cispo", {"kind": "cispo", **bound}, {"loss_type": "cispo", "epsilon_high": 1.2, **k3}
    )
    yield Case("sapo", {"kind": "sapo"}, {"loss_type": "sapo", **k3})


def recorded(tokenizer: Any, seed: int) -> tuple[list[Task], Samples]:
    """Problems, and what was sampled and earned on them; float32 holds these rewards exactly."""
    draw, tasks, samples = random.Random(seed), [], {}
    plain = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
    for number in range(STEPS * P):
        text = " + ".join(str(draw.randrange(100)) for _ in range(draw.randint(2, 6)))
        problem, level = (
            Problem(str(number), f"{number}. What is {text}?"),
            draw.randrange(1024) / 1024,
        )
        tasks.append(Task(problem, "0"))
        for g in range(G):
            cut = draw.random() < 0.2
            ids = draw.choices(plain, k=LONGEST if cut else draw.randrange(LONGEST))
            reward = level if number % P == 1 else draw.randrange(1024) / 1024
            samples[problem.id, g] = ids if cut else [*ids, tokenizer.eos_token_id], reward
    return tasks, samples


@dataclass
class Looked(Reward):
    """The recorded reward."""

    samples: Samples

    def __call__(self, graded: GradedTrace) -> float:
        return self.samples[graded.trace.problem.id, graded.trace.sample][1]


class Ours(grpo.GRPOModule):
    """Our GRPO on the recorded replies; `names` finds a problem by its prompt's token ids."""

    def __init__(self, folder: str, case: Case, samples: Samples, dtype: torch.dtype) -> None:
        optim, reward = Optim(lr=LR, warmup=0, schedule="constant", clip=CLIP), Looked(samples)
        objective = Objective(**case.ours, beta=case.beta, mismatch="none")
        sizes = {
            "group_size": G,
            "passes": case.passes,
            "tokens_per_batch": 1 << 20 if case.micro == 1 else 256,
        }
        sizes["sampling"] = Sampling(max_new_tokens=LONGEST)
        super().__init__(Policy(folder), SingleShot(PROMPT), [reward], optim, objective, **sizes)
        self.samples, self.wanted, self.losses, self.names = samples, dtype, [], {}

    def configure_model(self) -> None:
        super().configure_model()
        for model in filter(None, (self.loaded.model, self.loaded.frozen)):
            model.to(self.wanted)

    def rollouts(self, tasks: Sequence[Task], key: tuple[int, int]) -> list[list[Rollout]]:
        traces = ((task, self.trace(task.problem, g)) for task in tasks for g in range(G))
        self.last = [scored(task, trace, self.rewards, self.train_roles) for task, trace in traces]
        return [self.last[i : i + G] for i in range(0, len(self.last), G)]

    def trace(self, problem: Problem, g: int) -> Trace:
        [request] = next(self.agent.solve(problem))
        (ids, _), prompt = self.samples[problem.id, g], tuple(self.chat.encode(request.chat))
        self.names[prompt] = problem.id
        finish = "stop" if ids[-1] == self.chat.end_id else "length"
        return Trace(
            problem,
            g,
            (Turn(request, Reply("", tuple(ids), (0.0,) * len(ids), finish, prompt)),),
            None,
        )

    def update(self, batches: Any, olds: Any, sums: Sums) -> float | None:
        before = sums.values.get("loss", 0.0)
        norm = super().update(batches, olds, sums)
        self.losses.append(sums.values["loss"] - before)
        return norm


class Theirs(GRPOTrainer):
    """TRL's GRPO on the recorded replies; `names` are ours, so a prompt with other token ids is not
    found.
    """

    def __init__(
        self, folder: str, case: Case, samples: Samples, dtype: torch.dtype, tasks: Any, names: Any
    ) -> None:
        self.samples, self.wanted, self.losses, self.names = samples, dtype, [], names
        model = {
            "model_init_kwargs": {"dtype": dtype},
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
        }
        batch = {
            "per_device_train_batch_size": P * G // case.micro,
            "gradient_accumulation_steps": case.micro,
        }
        steps = {
            "steps_per_generation": case.micro,
            "num_iterations": case.passes,
            "num_train_epochs": 1,
        }
        group = {
            "num_generations": G,
            "max_completion_length": LONGEST,
            "shuffle_dataset": False,
            "beta": case.beta,
        }
        adamw = {"learning_rate": LR, "lr_scheduler_type": "constant", "max_grad_norm": CLIP}
        quiet = {
            "report_to": [],
            "save_strategy": "no",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
        }
        config = GRPOConfig(
            folder, **model, **batch, **steps, **group, **adamw, **quiet, **case.theirs
        )
        chats = [
            [{"role": "user", "content": render(PROMPT, problem=task.problem.text)}]
            for task in tasks
        ]
        super().__init__(folder, self.looked, config, Dataset.from_dict({"prompt": chats}))
        self.remove_callback(transformers.PrinterCallback)

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **options: Any) -> Any:
        self.drawn = [
            self.samples[self.names[tuple(ids)], i % G] for i, ids in enumerate(prompt_ids)
        ]
        return [ids for ids, _ in self.drawn], None

    def looked(self, **columns: Any) -> list[float]:
        return [reward for _, reward in self.drawn]

    def _get_per_token_logps_and_entropies(
        self, model: Any, ids: Tensor, mask: Tensor, keep: int, **rest: Any
    ) -> Any:
        if self.wanted == SINGLE:
            return super()._get_per_token_logps_and_entropies(model, ids, mask, keep, **rest)
        logps = model(input_ids=ids, attention_mask=mask).logits[:, -keep - 1 : -1].log_softmax(-1)
        return (
            logps.gather(-1, ids[:, -keep:, None]).squeeze(-1),
            torch.zeros_like(logps[..., 0]),
            None,
        )

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        loss = super().compute_loss(*args, **options)
        self.losses.append(loss.item())
        return loss


def angles(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    half = position_ids[..., None].to(x.dtype) * self.inv_freq.to(x.dtype)
    return torch.cat((half, half), -1).cos(), torch.cat((half, half), -1).sin()


def norm(self: Any, x: Tensor) -> Tensor:
    return torch.nn.functional.rms_norm(x, x.shape[-1:], self.weight, self.variance_epsilon)


def batch(rows: Sequence[Row], device: Any) -> Batch:
    found = collate(rows, device)
    each = [
        (row.weight, row.advantage, (row.reference or row.logps)[t])
        for row in rows
        for t in row.learnt
    ]
    found.weight, found.advantage, reference = torch.tensor(each, dtype=DOUBLE).unbind(1)
    found.reference = None if found.reference is None else reference
    return found


def compare(case: Case, seed: int, dtype: torch.dtype) -> tuple[float, float, str]:
    """The largest difference of losses, that of weights, and in which weight it is."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scratch = Scratch(hidden=64, layers=2, ffn=128)
        tokenizer = scratch.tokenizer()
        tokenizer.save_pretrained(folder)
        scratch.model(tokenizer).save_pretrained(folder)
        if dtype == DOUBLE:
            stack.enter_context(patch.object(qwen2.Qwen2RMSNorm, "forward", norm))
            stack.enter_context(patch.object(qwen2.Qwen2RotaryEmbedding, "forward", angles))
            stack.enter_context(patch.object(grpo, "collate", batch))
            stack.callback(torch.set_default_dtype, SINGLE)
            torch.set_default_dtype(DOUBLE)
        tasks, samples = recorded(tokenizer, seed)
        a = Ours(folder, case, samples, dtype)
        silent = dict.fromkeys(
            ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
        )
        L.Trainer(accelerator="cpu", max_epochs=1, **silent).fit(
            a, Batches(tasks, P, shuffle=False)
        )
        b = Theirs(folder, case, samples, dtype, tasks, a.names)
        b.train()
    losses = [sum(b.losses[i : i + case.micro]) for i in range(0, len(b.losses), case.micro)]
    assert sum(map(abs, a.losses + losses)) < float("inf")  # also no NaN, which max would drop
    pairs = zip(a.model.named_parameters(), b.model.named_parameters(), strict=True)
    gap, worst = max(((p - q).abs().max().item(), name) for (name, p), (_, q) in pairs)
    return (
        max(abs(x - y) for x, y in zip(a.losses, losses, strict=True)),
        gap,
        worst.removeprefix("model."),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of the replies and rewards")
    parser.add_argument("--only", default="", help="the rows whose name contains this")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    start, fine = time.perf_counter(), True
    table = Table(
        "objective", "beta", "mu", "fp32: loss", "weights", "worst weight", "fp64: loss", "weights"
    )
    for case in (case for case in cases() if args.only in case.name):
        loss, weights, worst = compare(case, args.seed, SINGLE)
        exact = compare(case, args.seed, DOUBLE)[:2]
        fine &= all(gap <= TOLERANCE for gap in (loss, weights, *exact))
        cells = (
            case.beta,
            case.passes,
            f"{loss:.1e}",
            f"{weights:.1e}",
            worst,
            *(f"{gap:.1e}" for gap in exact),
        )
        table.add_row(case.name, *map(str, cells))
    Console().print(table)
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("slm-math", "trl", "torch", "transformers")
    )
    print(f"{versions}; {STEPS} batches, seed {args.seed}, {time.perf_counter() - start:.0f} s")
    sys.exit(
        None
        if fine and table.rows
        else f"a difference is above {TOLERANCE}, or there is no such row"
    )


if __name__ == "__main__":
    main()
