#!/usr/bin/env python3
"""Measure the CPU time of `slm-math fit` to the end of its first step.

    python scripts/bench_start.py [--repeats 5] [--config configs/quickstart/sft.yaml]
        [--path FOLDER] [--out FILE]

Processes take turns: one imports torch, Lightning, transformers, peft and torchmetrics and loads
the model of the config (of --path, for a config that names a folder), the other is `fit` from its
first line to the end of its first step. CPU time is that of the process, without those of the
sandbox. One process of each kind runs before, so that all modules are compiled to bytecode, as
those of an installed package are.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L

ROOT = Path(__file__).parents[1]
BARE = """
import time, torch, lightning, transformers, peft, torchmetrics, yaml, sys
model = yaml.safe_load(open(sys.argv[1]))["model"]["policy"]
if "scratch" in model:
    from slm_math.policy.scratch import Scratch
    scratch = Scratch(**model["scratch"])
    scratch.model(scratch.tokenizer())
else:
    transformers.AutoTokenizer.from_pretrained(sys.argv[2])
    transformers.AutoModelForCausalLM.from_pretrained(sys.argv[2])
print("SECONDS", time.process_time())
"""
FIT = "from slm_math.cli import run; import sys; run(sys.argv[1:])"


class Stop(L.Callback):
    """Ends the process after the first step."""

    def on_train_batch_end(self, *args: Any) -> None:
        print("SECONDS", time.process_time(), flush=True)
        os._exit(0)


def seconds(code: str, *arguments: str) -> float:
    """The CPU time that a process says it used."""
    path = os.pathsep.join([str(ROOT / "scripts"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""},
    )
    said = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("SECONDS")]
    if not said:
        sys.exit(done.stderr)
    return float(said[0])


def fit(config: str, path: str) -> float:
    callback = json.dumps({"class_path": "bench_start.Stop"})
    with tempfile.TemporaryDirectory() as root:
        return seconds(
            FIT,
            *("fit", f"--config={config}", f"--trainer.default_root_dir={root}/run"),
            *("--trainer.devices=1", f"--trainer.callbacks+={callback}"),
            *([f"--model.policy.path={path}"] if path else []),
        )


def main() -> None:
    from benching import options, ratio, report

    parser = options(__doc__ or "", "repeats", 5, "processes of each kind")
    parser.add_argument("--config", default="configs/quickstart/sft.yaml")
    parser.add_argument("--path", default="", help="the model folder, for a config that has one")
    chosen = parser.parse_args()
    path = str(Path(chosen.path).absolute()) if chosen.path else ""
    bare: list[float] = []
    whole: list[float] = []
    for number in range(chosen.repeats + 1):
        pair = seconds(BARE, chosen.config, path), fit(chosen.config, path)
        if not number:
            continue  # it compiled modules
        bare.append(pair[0])
        whole.append(pair[1])
        print(f"imports and model {pair[0]:.1f} s, fit {pair[1]:.1f} s", flush=True)
    row = {
        "config": chosen.config,
        "n": chosen.repeats,
        "imports and model": f"{statistics.median(bare):.1f} s",
        "fit": f"{statistics.median(whole):.1f} s",
        "ratio": str(ratio(whole, bare)),
        "seconds": {"imports and model": bare, "fit": whole},
    }
    report([row], ("config", "n", "imports and model", "fit", "ratio"), chosen.out)


if __name__ == "__main__":
    main()
