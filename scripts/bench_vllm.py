"""Measures GRPO with vLLM in the same process against the limit of the memory bandwidth.

    python scripts/bench_vllm.py                           # needs a GPU
    python scripts/bench_vllm.py --shape tiny --steps 3    # tries the script anywhere

By default the model has Qwen2.5-1.5B's shape and random weights, and is trained for 20 steps. A
decode step has to read all weights and the keys and values of every chat once, so
tokens/s <= batch * bandwidth / (weights + batch * context * bytes of keys and values of a token).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger

from slm_math.agents import SingleShot
from slm_math.answers.graded import GradedTrace
from slm_math.data.arithmetic import Arithmetic
from slm_math.data.problem_data import ProblemData
from slm_math.engines.vllm_setup import installed, kv_bytes
from slm_math.modules.grpo import GRPOModule
from slm_math.modules.optim import Optim
from slm_math.policy.config import Policy
from slm_math.policy.scratch import Scratch
from slm_math.rewards import Reward
from slm_math.types import Sampling

# hidden, layers, heads, key-value heads, feed-forward, vocabulary (Qwen2.5 technical report, table
# 1)
SHAPES = {
    "tiny": (128, 2, 4, 2, 256, 2048),
    "0.5b": (896, 24, 14, 2, 4864, 151936),
    "1.5b": (1536, 28, 12, 2, 8960, 151936),
    "3b": (2048, 36, 16, 2, 11008, 151936),
}
BANDWIDTH = {
    "H100": 3.35e12,
    "H200": 4.8e12,
    "A100": 2.04e12,
    "L40S": 0.864e12,
    "4090": 1.01e12,
}  # bytes/s, data sheets


class Even(Reward):
    """A reward that random weights sometimes earn."""

    def __call__(self, graded: GradedTrace) -> float:
        return float(sum(graded.trace.turns[0].reply.token_ids) % 2)


def model_folder(shape: str, folder: Path) -> Path:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    hidden, layers, heads, kv, ffn, vocabulary = SHAPES[shape]
    tokenizer = Scratch().tokenizer()
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        intermediate_size=ffn,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="1.5b")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--problems", type=int, default=32)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument(
        "--tokens",
        type=int,
        default=512,
        help="of a reply; random weights hardly ever stop earlier",
    )
    parser.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    parser.add_argument(
        "--bandwidth", type=float, help="of the memory in bytes per second, for GPUs not known here"
    )
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    if options.shape != "tiny" and not gpu:
        parser.error("this shape needs a GPU; --shape tiny tries the script without")
    if not gpu:
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows, config, weights = run(options, Path(folder), gpu)
    report(options, rows[1:] or rows, config, weights)  # the first step starts vLLM


def run(
    options: argparse.Namespace, folder: Path, gpu: bool
) -> tuple[list[dict[str, Any]], Any, int]:
    module = GRPOModule(
        Policy(str(model_folder(options.shape, folder / "model")), gradient_checkpointing=gpu),
        agent=SingleShot("solve_plain"),
        rewards=[Even()],
        optim=Optim(lr=1e-6),
        sampling=Sampling(temperature=1.0, max_new_tokens=options.tokens),
        group_size=options.group,
        slots=options.problems * options.group,
        engine=options.engine,
        seed=0,
    )
    trainer = L.Trainer(
        default_root_dir=folder,
        max_steps=options.steps,
        precision="bf16-mixed" if gpu else "32-true",
        logger=CSVLogger(folder),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )
    rows: list[dict[str, Any]] = []

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            rows.append({name: float(value) for name, value in trainer.callback_metrics.items()})
            print(
                f"step {len(rows)} of {options.steps}: {rows[-1]['train/seconds/generate']:.1f} s "
                f"generating",
                flush=True,
            )

    trainer.callbacks.append(Keep())
    data = ProblemData(
        Arithmetic(train=options.problems * options.steps), batch_size=options.problems
    )
    trainer.fit(module, data)
    assert module.loaded is not None
    return rows, module.model.config, module.loaded.size


def report(
    options: argparse.Namespace, rows: list[dict[str, Any]], config: Any, weights: int
) -> None:
    def of(name: str) -> float:
        return median(row[f"train/{name}"] for row in rows)

    size = 2 if torch.cuda.is_available() else 4
    batch = options.problems * options.group
    context = of("length") / 2  # on average; the prompts are some 30 tokens
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    bandwidth = options.bandwidth or next(
        (value for name, value in BANDWIDTH.items() if name in device), None
    )
    print(f"\n{device}, torch {torch.__version__}, vLLM {installed()}, engine {options.engine}")
    print(
        f"{weights / 1e9:.2f}B weights, {batch} replies of {of('length'):.0f} tokens, medians of "
        f"{len(rows)} steps:"
    )
    for name in ("generate", "sync", "update"):
        print(f"{name:>9}: {of(f'seconds/{name}'):8.2f} s")
    print(f"   decode: {of('tokens_per_second/generate'):8.0f} tokens/s")
    print(f"   update: {of('tokens_per_second/update'):8.0f} tokens/s")
    print(f"   memory: {of('peak_memory_gib'):8.1f} GiB")
    print(
        f"  |d logp|: {of('logp_diff'):.2g} mean, "
        f"{max(row['train/logp_diff_max'] for row in rows):.2g} largest"
    )
    if bandwidth:
        bound = batch * bandwidth / (weights * size + batch * context * kv_bytes(config, size))
        share = of("tokens_per_second/generate") / bound
        print(
            f"    bound: {bound:8.0f} tokens/s by {bandwidth / 1e12:.2f} TB/s; decoding reaches "
            f"{share:.0%} of it"
        )


if __name__ == "__main__":
    main()
