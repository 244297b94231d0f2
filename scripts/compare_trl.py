#!/usr/bin/env python3
"""Compares the GRPO update of this project with that of TRL 1.16, on the CPU: ten steps with the
same token ids, rewards and model.

    pip install ".[bench]"
    python scripts/compare_trl.py [--only gspo] [--seed 0]

Each row of the table trains one small model with `GRPOModule` and with `GRPOTrainer` on random
replies that are drawn once: a step has 4 problems with 4 replies of 1 to 24 tokens; some replies
hit the length limit, and one group has equal rewards. Everything else is each library's own:
prompts, advantages, log-probabilities, reference, loss, clipping, AdamW. The table shows the
largest difference of the losses of all updates, and of the weights after the last one. A difference
above 1e-5 is a failure.

Each comparison runs twice. The first run is in float32, as both libraries are. AdamW's first step
is lr * g / (|g| + 1e-8), so rounding of a gradient below 1e-8 moves a weight visibly: with other
seeds single weights may differ more. The second run is in float64; TRL's head, Qwen2's norms and
rotary angles, and this project's signals are always float32 and are replaced by float64 ones.
"""

import argparse
import logging
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import lightning as L
import torch
import transformers
from float64 import in_float64
from rich.console import Console
from rich.table import Table
from torch import Tensor

from slm_math.agents import SingleShot
from slm_math.answers.graded import GradedTrace, grade_trace
from slm_math.data.batches import Batches
from slm_math.engines.settings import Inference
from slm_math.losses.objective import Objective
from slm_math.modules import grpo
from slm_math.modules.optim import Optim
from slm_math.modules.step_metrics import StepMetrics
from slm_math.policy.config import Policy
from slm_math.policy.scratch import Scratch
from slm_math.prompts import render
from slm_math.rewards import Reward
from slm_math.rollout.executors import Executors
from slm_math.rollout.groups import Group, Key, Rollout
from slm_math.rollout.scoring import score_traces
from slm_math.types import Problem, Reply, Sampling, Task, Trace, Turn

try:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer
except ImportError:
    sys.exit('TRL is not installed: pip install ".[bench]"')

STEPS, P, G, LONGEST, PROMPT = 10, 4, 4, 24, "solve_plain"
LR, CLIP, TOLERANCE = 1e-3, 0.4, 1e-5  # some of the gradient norms are above this clip, some below
SINGLE, DOUBLE = torch.float32, torch.float64
Samples = dict[tuple[str, int], tuple[list[int], float]]  # problem, number -> token ids, reward


class Case(NamedTuple):
    """A row of the table: one objective as options of both libraries."""

    name: str
    ours: dict[str, Any]
    theirs: dict[str, Any]
    beta: float = 0.04
    passes: int = 2
    micro: int = 1  # micro-batches of an update


def cases() -> Iterator[Case]:
    k3 = {"use_bias_correction_kl": False}  # TRL's default is k3_weighted here
    for kind in ("grpo", "dapo", "dr_grpo", "bnpo"):
        for beta in (0.0, 0.04):
            yield Case(kind, {"kind": kind}, {"loss_type": kind, **k3}, beta, passes=1)
    yield Case("grpo", {"kind": "grpo"}, {"loss_type": "grpo", **k3})
    yield Case("grpo, k3_weighted", {"kind": "grpo", "kl": "k3_weighted"}, {"loss_type": "grpo"})
    yield Case("dapo, 4 micro-batches", {"kind": "dapo"}, {"loss_type": "dapo", **k3}, micro=4)
    yield Case(
        "gspo",
        {"kind": "gspo", "clip_low": 0.2, "clip_high": 0.2},  # TRL's defaults
        {"loss_type": "grpo", "importance_sampling_level": "sequence", **k3},
    )
    # TRL's epsilon_high is the upper bound itself; TRL has no lower bound
    bound = {"clip_low": 1.0, "clip_high": 0.2}
    yield Case(
        "cispo", {"kind": "cispo", **bound}, {"loss_type": "cispo", "epsilon_high": 1.2, **k3}
    )
    yield Case("sapo", {"kind": "sapo"}, {"loss_type": "sapo", **k3})


def recorded(tokenizer: Any, seed: int) -> tuple[list[Task], Samples]:
    """Problems, and their replies with rewards, which float32 represents exactly."""
    draw, tasks, samples = random.Random(seed), [], {}
    plain = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
    for number in range(STEPS * P):
        text = " + ".join(str(draw.randrange(100)) for _ in range(draw.randint(2, 6)))
        problem = Problem(str(number), f"{number}. What is {text}?")
        level = draw.randrange(1024) / 1024
        tasks.append(Task(problem, "0"))
        for g in range(G):
            truncated = draw.random() < 0.2
            ids = draw.choices(plain, k=LONGEST if truncated else draw.randrange(LONGEST))
            reward = level if number % P == 1 else draw.randrange(1024) / 1024
            ids = ids if truncated else [*ids, tokenizer.eos_token_id]
            samples[problem.id, g] = ids, reward
    return tasks, samples


@dataclass
class Recorded(Reward):
    """The recorded reward."""

    samples: Samples

    def __call__(self, graded: GradedTrace) -> float:
        return self.samples[graded.trace.problem.id, graded.trace.sample][1]


class Ours(grpo.GRPOModule):
    """GRPOModule on the recorded replies. `problem_ids`: a prompt's token ids -> its problem."""

    def __init__(self, folder: str, case: Case, samples: Samples, dtype: torch.dtype) -> None:
        optim, reward = Optim(lr=LR, warmup=0, schedule="constant", clip=CLIP), Recorded(samples)
        objective = Objective(**case.ours, beta=case.beta, mismatch="none")
        super().__init__(
            Policy(folder),
            SingleShot(PROMPT),
            rewards=[reward],
            optim=optim,
            objective=objective,
            inference=Inference(sampling=Sampling(max_new_tokens=LONGEST)),
            group_size=G,
            passes=case.passes,
            tokens_per_batch=1 << 20 if case.micro == 1 else 256,
        )
        self.samples, self.weight_dtype, self.losses, self.problem_ids = samples, dtype, [], {}

    def configure_model(self) -> None:
        super().configure_model()
        for model in filter(None, (self.loaded.model, self.loaded.reference_model)):
            model.to(self.weight_dtype)

    def roll_out(self, tasks: Sequence[Task], key: Key) -> list[Group]:
        for phase in ("sync", "generate", "reward"):
            self.timer.end(phase)
        graded = [grade_trace(t, self.trace(t.problem, g)) for t in tasks for g in range(G)]
        scores = score_traces(self.rewards, graded, self.train_roles, Executors({}, {}))
        rollouts = list(map(Rollout.of, graded, scores))
        return [rollouts[i : i + G] for i in range(0, len(rollouts), G)]

    def trace(self, problem: Problem, g: int) -> Trace:
        [request] = next(self.agent.solve(problem))
        (ids, _), prompt = self.samples[problem.id, g], tuple(self.chat.encode(request.chat))
        self.problem_ids[prompt] = problem.id
        reply = Reply(
            text="",
            token_ids=tuple(ids),
            logprobs=(0.0,) * len(ids),  # unused: the policy of this version sampled
            finish="stop" if ids[-1] == self.chat.end_id else "length",
            prompt_ids=prompt,
            version=self.global_step,
        )
        return Trace(problem, g, (Turn(request, reply),), None)

    def update(self, batches: Any, metrics: StepMetrics) -> Any:
        before = metrics.sums.get("loss", 0.0)
        updated = super().update(batches, metrics)
        self.losses.append(metrics.sums["loss"] - before)
        return updated


class Theirs(GRPOTrainer):
    """TRL's GRPO on the recorded replies. `problem_ids` are those of `Ours`, so a prompt with other
    token ids is an error.
    """

    def __init__(
        self,
        folder: str,
        case: Case,
        samples: Samples,
        dtype: torch.dtype,
        tasks: Sequence[Task],
        problem_ids: Mapping[tuple[int, ...], str],
    ) -> None:
        self.samples, self.weight_dtype, self.losses = samples, dtype, []
        self.problem_ids = problem_ids
        config = GRPOConfig(
            folder,
            model_init_kwargs={"dtype": dtype},
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=P * G // case.micro,
            gradient_accumulation_steps=case.micro,
            steps_per_generation=case.micro,
            num_iterations=case.passes,
            num_train_epochs=1,
            num_generations=G,
            max_completion_length=LONGEST,
            shuffle_dataset=False,
            beta=case.beta,
            learning_rate=LR,
            lr_scheduler_type="constant",
            max_grad_norm=CLIP,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **case.theirs,
        )
        chats = [
            [{"role": "user", "content": render(PROMPT, problem=task.problem.text)}]
            for task in tasks
        ]
        super().__init__(folder, self.recorded, config, Dataset.from_dict({"prompt": chats}))
        self.remove_callback(transformers.PrinterCallback)

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **options: Any) -> Any:
        self.drawn = [
            self.samples[self.problem_ids[tuple(ids)], i % G] for i, ids in enumerate(prompt_ids)
        ]
        return [ids for ids, _ in self.drawn], None

    def recorded(self, **columns: Any) -> list[float]:
        return [reward for _, reward in self.drawn]

    def _get_per_token_logps_and_entropies(
        self, model: Any, ids: Tensor, mask: Tensor, keep: int, **rest: Any
    ) -> Any:
        if self.weight_dtype == SINGLE:
            return super()._get_per_token_logps_and_entropies(model, ids, mask, keep, **rest)
        logps = model(input_ids=ids, attention_mask=mask).logits[:, -keep - 1 : -1].log_softmax(-1)
        own = logps.gather(-1, ids[:, -keep:, None]).squeeze(-1)
        return own, torch.zeros_like(own), None

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        loss = super().compute_loss(*args, **options)
        self.losses.append(loss.item())
        return loss


def compare(case: Case, seed: int, dtype: torch.dtype) -> tuple[float, float, str]:
    """The largest differences of losses and of weights, and the name of that weight."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scratch = Scratch(hidden=64, layers=2, ffn=128)
        tokenizer = scratch.tokenizer()
        tokenizer.save_pretrained(folder)
        scratch.model(tokenizer).save_pretrained(folder)
        if dtype == DOUBLE:
            stack.enter_context(in_float64())
        tasks, samples = recorded(tokenizer, seed)
        a = Ours(folder, case, samples, dtype)
        silent = dict.fromkeys(
            ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
        )
        data = Batches(tasks, P, shuffle=False)
        L.Trainer(accelerator="cpu", max_epochs=1, **silent).fit(a, data)
        b = Theirs(folder, case, samples, dtype, tasks, problem_ids=a.problem_ids)
        b.train()
    losses = [sum(b.losses[i : i + case.micro]) for i in range(0, len(b.losses), case.micro)]
    assert sum(map(abs, a.losses + losses)) < float("inf")  # not NaN either, which max would hide
    pairs = zip(a.model.named_parameters(), b.model.named_parameters(), strict=True)
    gap, worst = max(((p - q).abs().max().item(), name) for (name, p), (_, q) in pairs)
    loss_gap = max(abs(x - y) for x, y in zip(a.losses, losses, strict=True))
    return loss_gap, gap, worst.removeprefix("model.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the replies and rewards")
    parser.add_argument(
        "--only", default="", help="compare only objectives whose name contains this text"
    )
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    start, fine = time.perf_counter(), True
    table = Table(
        "objective", "beta", "mu", "fp32: loss", "weights", "worst weight", "fp64: loss", "weights"
    )
    for case in (case for case in cases() if args.only in case.name):
        loss, weight, worst = compare(case, args.seed, SINGLE)
        exact = compare(case, args.seed, DOUBLE)[:2]
        fine &= all(gap <= TOLERANCE for gap in (loss, weight, *exact))
        loss, weight, *exact = (f"{gap:.1e}" for gap in (loss, weight, *exact))
        table.add_row(case.name, str(case.beta), str(case.passes), loss, weight, worst, *exact)
    Console().print(table)
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("slm-math", "trl", "torch", "transformers")
    )
    print(f"{versions}; {STEPS} batches, seed {args.seed}, {time.perf_counter() - start:.0f} s")
    if not table.rows:
        sys.exit(f"no objective's name contains {args.only!r}")
    sys.exit(None if fine else f"a difference is above {TOLERANCE}")


if __name__ == "__main__":
    main()
