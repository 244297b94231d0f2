#!/usr/bin/env python3
"""Measure training and sampling on one GPU: tokens per second, the share of its peak, memory.

    python scripts/bench_gpu.py [--only "0.5B decode"] [--steps 8] [--out FILE.json]

Models have the shapes of Qwen2.5-0.5B and 1.5B and random weights, so nothing is downloaded. All
weights are trained, bf16-mixed, with the defaults of the trainer otherwise:

sft     32 rows of 1,024 tokens a step, packed to 4,096 in a forward and backward pass
update  the GRPO update of 8 problems x 8 replies, without a KL term: prompts of 256 tokens, replies
        of 512; a group's prompt is read once, and counts once
decode  256 replies of 256 tokens to 32 prompts, in bfloat16, by the transformers engine

MFU is the share of the card's peak for dense bf16 that the needed operations are: 6 for each token
and each weight of the layers and the head, and 6 x layers x width x T for causal attention over T
tokens (Chowdhery et al. 2022, "PaLM", appendix B, halved for the mask). The bound of decoding is
the time in which the card reads the weights once and the keys and values of all replies, at half of
their final length, for each step.

Other cards than those of PEAKS need --tflops and --bandwidth. `--shape tiny --device cpu` shows on
any machine that the script runs; its shares mean nothing.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
import transformers
from benching import Dense, Endless, options, prompts, quiet, report, trainer
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from slm_math.agents import SingleShot
from slm_math.data.batches import Batches
from slm_math.data.rows import Row
from slm_math.engines.base import Request
from slm_math.engines.settings import Inference
from slm_math.modules.grpo import GRPOModule
from slm_math.modules.optim import Optim
from slm_math.modules.sft import SFTModule
from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Policy
from slm_math.policy.scratch import Scratch
from slm_math.types import Problem, Sampling, Task, user

# (TFLOP/s of dense bf16, TB/s of memory), from NVIDIA's data sheets
PEAKS = {
    "H200": (989.0, 4.8),
    "H100 PCIe": (756.0, 2.0),
    "H100": (989.0, 3.35),
    "A100-SXM4-80GB": (312.0, 2.04),
    "A100": (312.0, 1.56),
    "L40S": (362.0, 0.86),
    "L4": (121.0, 0.3),
    "4090": (165.0, 1.01),
}
WARMUP = 2
OPTIM = Optim(lr=1e-5, warmup=0, schedule="constant")


@dataclass(frozen=True)
class Shape:
    """A Qwen2 with its word embeddings as head, and the sizes of what is measured."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int = 151936
    scale: int = 1  # what the numbers of rows and tokens are divided by

    def config(self) -> Qwen2Config:
        return Qwen2Config(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.ffn,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
        )

    def flops(self, weights: int, tokens: int, length: int) -> float:
        """Of training on tokens that attend to `length` tokens, their own included."""
        return 6.0 * tokens * (weights + self.layers * self.hidden * length)

    def cached(self, length: float) -> float:
        """Bytes of the keys and values of a reply in bfloat16."""
        return 4 * self.layers * self.kv_heads * (self.hidden // self.heads) * length


SHAPES = {
    "0.5B": Shape(hidden=896, layers=24, heads=14, kv_heads=2, ffn=4864),
    "1.5B": Shape(hidden=1536, layers=28, heads=12, kv_heads=2, ffn=8960),
    "tiny": Shape(hidden=64, layers=2, heads=4, kv_heads=2, ffn=128, vocabulary=640, scale=16),
}


class Update(GRPOModule):
    """GRPO that samples once and updates on these rollouts again and again."""

    ends = frozenset()
    sampled: Any = None

    def sample_groups(self, *args: Any, **options: Any) -> Any:
        self.sampled = self.sampled or super().sample_groups(*args)
        return self.sampled


class Clock(L.Callback):
    """The seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.began = 0.0

    def on_train_batch_start(self, *args: Any, **options: Any) -> None:
        synchronize()
        self.began = time.perf_counter()

    def on_train_batch_end(self, *args: Any, **options: Any) -> None:
        synchronize()
        self.seconds.append(time.perf_counter() - self.began)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def trained(module: Any, batches: Batches[Any], args: Namespace) -> list[float]:
    """The seconds of the steps behind the first ones."""
    clock = Clock()
    options = {"accelerator": args.device, "devices": 1, "precision": "bf16-mixed"}
    trainer(clock, args.steps + WARMUP, **options).fit(module, batches)
    return clock.seconds[WARMUP:]


def sft(folder: str, shape: Shape, args: Namespace) -> tuple[list[float], int, int]:
    """Seconds of the steps, tokens of each, and the tokens of a row."""
    length, count, packed = (size // shape.scale for size in (1024, 32 * shape.scale, 4096))
    draw = random.Random(0)
    rows = [
        Row(tuple(draw.choices(range(shape.vocabulary), k=length)), (1.0,) * length)
        for _ in range(count * (args.steps + WARMUP))
    ]
    module = SFTModule(Policy(folder), optim=OPTIM, tokens_per_batch=packed)
    return trained(module, Batches(rows, count, shuffle=False), args), count * length, length


def update(folder: str, shape: Shape, args: Namespace) -> tuple[list[float], int, int]:
    """Likewise; of the tokens of a row the prompt is read once for all eight."""
    prompt, reply, problems, group = 256 // shape.scale, 512 // shape.scale, 8, 8
    module = Update(
        Policy(folder),
        SingleShot(prompt="solve_plain"),
        rewards=[Dense()],
        optim=OPTIM,
        inference=Inference(sampling=Sampling(max_new_tokens=reply)),
        group_size=group,
        seed=0,
    )
    texts = prompts(tokenizer_in(folder), prompt, problems)
    tasks = [Task(Problem(str(n), text), "0") for n, text in enumerate(texts)]
    tasks *= args.steps + WARMUP
    seconds = trained(module, Batches(tasks, problems, shuffle=False), args)
    return seconds, problems * (prompt + group * reply), prompt + reply


def decode(folder: str, shape: Shape, args: Namespace) -> tuple[list[float], int, int]:
    """Seconds of a batch of replies, its tokens, and the tokens of a reply with its prompt."""
    replies, length, count = 256 // shape.scale, 256 // shape.scale, 32 // shape.scale
    model: Any = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model = model.to(args.device).eval()
    tokenizer = tokenizer_in(folder)
    engine = Endless(model, ChatFormat(tokenizer), slots=replies)
    sampling = Sampling(1.0, max_new_tokens=length)
    chats = [user(text) for text in prompts(tokenizer, 128 // shape.scale, count)]
    seconds = []
    for step in range(args.steps + WARMUP):
        engine.update(step + 1)
        synchronize()
        began = time.perf_counter()
        for number in range(replies):
            engine.submit(Request(chats[number % count], sampling, key=(step, number)))
        while engine.busy:
            engine.poll(60)
        synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds[WARMUP:], replies * length, 128 // shape.scale + length


def tokenizer_in(folder: str) -> Any:
    return AutoTokenizer.from_pretrained(folder)


MEASURED: dict[str, Callable[..., tuple[list[float], int, int]]] = {
    "sft": sft,
    "update": update,
    "decode": decode,
}


def measure(name: str, work: str, args: Namespace) -> dict[str, Any]:
    """A row of the table."""
    shape = SHAPES[name]
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        model: Any = Qwen2ForCausalLM(shape.config())
        weights = model.num_parameters()  # the embeddings count as the head
        model.save_pretrained(folder)
        Scratch().tokenizer().save_pretrained(folder)
        del model
        if args.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        seconds, tokens, length = MEASURED[work](folder, shape, args)
    took = statistics.median(seconds)
    row: dict[str, Any] = {"model": name, "work": work, "n": len(seconds)}
    row["tokens/s"] = f"{tokens / took:,.0f}"
    if work == "decode":
        replies = tokens // (length - 128 // shape.scale)
        read = 2 * weights + replies * shape.cached(length - tokens / replies / 2)
        bound = tokens / replies * read / (args.bandwidth * 1e12)
        row["share of peak"] = f"{100 * bound / took:.1f} % of bandwidth"
    else:
        needed = shape.flops(weights, tokens, length)
        row["share of peak"] = f"{100 * needed / took / (args.tflops * 1e12):.1f} % MFU"
    peak = "-"
    if args.device == "cuda":
        peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}"
    return row | {"peak GiB": peak, "seconds": seconds, "weights": weights}


def peaks(parser: ArgumentParser, args: Namespace) -> None:
    """What the card can do, where no option says it."""
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no NVIDIA GPU is visible (--shape tiny --device cpu tries the script)")
    card = torch.cuda.get_device_name() if args.device == "cuda" else ""
    known = next((peak for name, peak in PEAKS.items() if name in card), (None, None))
    args.tflops, args.bandwidth = args.tflops or known[0], args.bandwidth or known[1]
    if not (args.tflops and args.bandwidth):
        parser.error(f"the peaks of {card or 'a CPU'} are not known: give --tflops and --bandwidth")
    print(f"{card or 'CPU'}: {args.tflops:g} TFLOP/s of dense bf16, {args.bandwidth:g} TB/s")


def main() -> None:
    parser = options(__doc__ or "", "steps", 8, measured="measured steps")
    parser.add_argument("--shape", choices=SHAPES, help="only this model (default: 0.5B and 1.5B)")
    parser.add_argument("--only", default="", help="rows that contain this text: '1.5B sft'")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tflops", type=float, help="peak of the card for dense bf16")
    parser.add_argument("--bandwidth", type=float, help="TB/s of the card's memory")
    args = parser.parse_args()
    quiet()
    transformers.utils.logging.disable_progress_bar()
    peaks(parser, args)
    rows = []
    for name in [args.shape] if args.shape else ["0.5B", "1.5B"]:
        for work in MEASURED:
            if args.only in f"{name} {work}":
                rows.append(measure(name, work, args))
                # a later row may not fit into memory
                report(
                    rows, ("model", "work", "tokens/s", "share of peak", "peak GiB", "n"), args.out
                )


if __name__ == "__main__":
    main()
