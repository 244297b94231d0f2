#!/usr/bin/env python3
"""Measure the peak memory of a rank where two share a full fine-tuning, beside one process alone.

    python scripts/bench_sharding.py [--vocabulary 8192] [--batches 1] [--out FILE.json]

A Qwen2 of about 0.1B weights: 12 layers, width 768; AdamW, 32 bits, two steps of SFT on random
tokens, with `--batches` micro-batches of 32 tokens for each rank, and twice as many for a process
alone. Two processes talk over gloo. Counted is the largest resident memory of a rank, above what
its process uses before the policy is loaded.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import argparse
import json
import random
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LENGTH, STEPS = 32, 2
WAYS = ("alone", "ddp", "sharded", "fsdp2")  # sharded: ddp with optim.sharded


def resident(name: str) -> float:
    """MiB of resident memory: "VmRSS" now, "VmHWM" at most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**10


def model_folder(folder: Path, vocabulary: int) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from slm_math.policy.scratch import Scratch

    tokenizer = Scratch().tokenizer()
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def measure(folder: Path, how: str, batches: int) -> None:
    """Trains as one rank, and prints what it took."""
    import lightning as L
    import torch

    from slm_math.data.batches import Batches
    from slm_math.data.rows import Row
    from slm_math.modules.optim import Optim
    from slm_math.modules.sft import SFTModule
    from slm_math.policy.config import Policy

    torch.set_num_threads(1)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    draw = random.Random(0)
    size = 2 * batches  # of a step, over all ranks
    rows = [
        Row(tuple(draw.choices(range(vocabulary), k=LENGTH)), (1.0,) * LENGTH)
        for _ in range(STEPS * size)
    ]
    ranks = 1 if how == "alone" else 2
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    begin = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the largest so far is forgotten
    module = SFTModule(
        Policy(str(folder)),
        optim=Optim(warmup=0, schedule="constant", sharded=how == "sharded"),
        tokens_per_batch=LENGTH,
    )
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
    )
    trainer = L.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy={"alone": "auto", "sharded": "ddp"}.get(how, how),
        max_epochs=1,
        default_root_dir=folder,
        **quiet,
    )
    trainer.fit(module, Batches(rows, size, shuffle=False, rank=rank, ranks=ranks))
    assert module.loaded is not None
    print(json.dumps({"mib": resident("VmHWM") - begin, "weights": module.loaded.size}))


def peaks(folder: Path, how: str, batches: int) -> list[dict[str, Any]]:
    """What each rank took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    # memory that is freed goes back to the system at once
    fixed = {"MALLOC_MMAP_THRESHOLD_": "1048576", "GLOO_SOCKET_IFNAME": "lo", "NODE_RANK": "0"}
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                __file__,
                "--rank",
                how,
                "--folder",
                folder,
                "--batches",
                f"{batches}",
            ],
            env=os.environ | fixed | ({} if how == "alone" else meet | {"LOCAL_RANK": str(rank)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(1 if how == "alone" else 2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{how} failed: {outputs}")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--batches", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rank", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.rank:
        measure(chosen.folder, chosen.rank, chosen.batches)
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="slm-math-sharding-") as place:
        folder = Path(place)
        model_folder(folder, chosen.vocabulary)
        for how in WAYS:
            ranks = peaks(folder, how, chosen.batches)
            found[how] = max(one["mib"] for one in ranks)
            weights = ranks[0]["weights"]
            share = found[how] / found["alone"]
            bytes_each = found[how] * 2**20 / weights
            print(
                f"{how:8} {found[how]:7.0f} MiB  {bytes_each:5.1f} bytes a weight  {share:.1%} of "
                f"one process ({weights / 1e6:.0f}M weights)",
                flush=True,
            )
    if chosen.out:
        chosen.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
