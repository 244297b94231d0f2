#!/usr/bin/env python3
"""Compare what `slm-math plan` predicts with the peak memory of the run: ten configs on the CPU.

    python scripts/bench_plan.py [--steps 3] [--only lora] [--out FILE.json]

Each plan and each run is a process of its own; the peak is the largest resident memory of the run
(`ru_maxrss`), with imports, data, training, evaluation and export.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from subprocess import STDOUT
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent  # where configs find `benching`
SHORT = ["--trainer.max_epochs=1", "--trainer.limit_val_batches=2", "--torch_threads=1"]
ALONE = ["--config", '{"trainer": {"callbacks": null}}', "--model.policy.path", "MODEL"]
SCRATCH = '{"model": {"policy": {"path": null, "scratch": {}}}}'
BUDGET = "--model.tokens_per_batch=2048"
WIDE, NARROW = "--model.tokens_per_batch=3072", "--model.tokens_per_batch=1024"
EVERY = "--model.policy.lora.targets=all-linear"
GROUPS = ["--model.group_size=16", "--model.inference.sampling.max_new_tokens=64"]
# random weights are never right: without differences between rewards nothing would be trained
DENSE = "--model.rewards=[benching.Dense]"
TWO = ["--model.tokens_per_batch=2048", "--trainer.devices=2", "--trainer.accelerator=cpu"]
TINY = "--data.source=Arithmetic"
# name -> (the shape of its model, if it is not that of the config; its options)
CONFIGS: dict[str, tuple[dict[str, int] | None, list[str]]] = {
    "quickstart/sft": (None, ["--config=quickstart/sft", "--eval.limit=40"]),
    "quickstart/grpo": (
        None,
        ["--config=quickstart/grpo", "--eval.limit=40", "--config", SCRATCH, DENSE],
    ),
    "sft/lora, 29M weights": (
        {"hidden": 512, "layers": 8, "ffn": 1536, "vocabulary": 8192},
        ["--config=sft/lora", TINY, "--data.batch_size=64", *ALONE, BUDGET],
    ),
    "sft/lora, all linear layers, 7M weights": (
        {"hidden": 256, "layers": 6, "ffn": 1024, "vocabulary": 4096},
        ["--config=sft/lora", TINY, "--data.batch_size=64", *ALONE, BUDGET, EVERY],
    ),
    # the factor of gaps with adapters was chosen without these two
    "sft/lora, 14M weights, unseen": (
        {"hidden": 384, "layers": 6, "ffn": 1152, "vocabulary": 6000},
        ["--config=sft/lora", TINY, "--data.batch_size=48", *ALONE, WIDE],
    ),
    "sft/lora, all linear layers, 18M weights, unseen": (
        {"hidden": 320, "layers": 12, "ffn": 960, "vocabulary": 4096},
        ["--config=sft/lora", TINY, "--data.batch_size=32", *ALONE, NARROW, EVERY],
    ),
    "sft/full, vocabulary of 151,936": (
        {"hidden": 128, "layers": 4, "ffn": 600, "vocabulary": 151936},
        ["--config=sft/full", TINY, "--data.batch_size=64", *ALONE],
    ),
    "sft/full, two ranks, moments shared out": (
        {"hidden": 512, "layers": 8, "ffn": 1536, "vocabulary": 8192},
        ["--config=sft/full", "--config=sharded", TINY, "--data.batch_size=64", *ALONE, *TWO],
    ),
    "sft/full, two ranks, fsdp2": (
        {"hidden": 512, "layers": 8, "ffn": 1536, "vocabulary": 8192},
        ["--config=sft/full", "--config=fsdp2", TINY, "--data.batch_size=64", *ALONE, *TWO],
    ),
    "grpo/solver, all weights, KL, groups of 16": (
        {"hidden": 256, "layers": 6, "ffn": 1024, "vocabulary": 4096},
        ["--config=grpo/solver", TINY, "--data.batch_size=8", *ALONE, *GROUPS, DENSE],
    ),
}


def make(folder: Path, shape: dict[str, int]) -> None:
    """A Qwen2 with random weights and the tokenizer of the quickstart."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from slm_math.policy.scratch import Scratch

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["hidden"],
        intermediate_size=shape["ffn"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    Scratch().tokenizer().save_pretrained(folder)


def peak(command: list[str]) -> tuple[int, str]:
    """The peak memory of a process in bytes, and what it printed."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=STDOUT, cwd=HERE)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{text[-2000:]}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), text


def measure(name: str, steps: int) -> dict[str, Any]:
    shape, options = CONFIGS[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        if shape is not None:  # in another process, whose memory is not this one's
            call = f"bench_plan.make(pathlib.Path({str(folder)!r}), {shape})"
            code = f"import bench_plan, pathlib; {call}"
            subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE)
        options = [str(folder) if each == "MODEL" else each for each in options]
        options += [*SHORT, f"--trainer.limit_train_batches={steps}"]
        options += [f"--trainer.default_root_dir={place}/run"]
        command = [sys.executable, "-m", "slm_math"]
        told = subprocess.run(
            [*command, "plan", "--device=cpu", "--json", *options],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE,
        ).stdout
        plan = json.loads(told)
        measured, text = peak([*command, "fit", *options])
    first = next((line for line in text.splitlines() if line.startswith("first step")), "")
    row = {"config": name, "planned": plan["peak_bytes"], "measured": measured, "plan": plan}
    return row | {"first": first}


def main() -> None:
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=3, help="training steps of each run")
    parser.add_argument("--only", default="", help="configs whose name has this text")
    parser.add_argument("--out", type=Path, help="write all numbers as JSON")
    args = parser.parse_args()
    rows = []
    for name in CONFIGS:
        if args.only in name:
            row = measure(name, args.steps)
            rows.append(row)
            error = row["planned"] / row["measured"] - 1
            print(f"{name}: {row['planned'] >> 20} MiB planned, {row['measured'] >> 20} measured, "
                  f"{error:+.1%}; {row['first']} "
                  f"({row['plan']['seconds_per_step']:.3g} s planned)", flush=True)  # fmt: skip
    table = Table("config", "planned", "measured", "difference")
    for row in rows:
        error = row["planned"] / row["measured"] - 1
        sizes = (f"{row[key] >> 20:,} MiB" for key in ("planned", "measured"))
        table.add_row(row["config"], *sizes, f"{error:+.1%}")
    Console(width=80).print(table)
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
