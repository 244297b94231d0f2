#!/usr/bin/env python3
"""Measure how much of sampling hides behind training with `ahead: 1`.

    python scripts/bench_ahead.py [--steps 8] [--repeats 3]

A server that takes as long for the replies of a step as the update takes (a tiny model behind
vLLM's routes, which sleeps before it answers) samples for GRPO, without and with `ahead`, in turn.
Sampling is the time for which a step waits for replies without `ahead`; hidden is the share of it
for which a step no longer waits. Times are wall times: server and update only wait, so that a busy
machine matters little. Sending the weights is never hidden.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

for _folder in ("tests", "scripts"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / _folder))

import lightning as L  # noqa: E402
import numpy as np  # noqa: E402
from engines.vllm_endpoint import FakeVLLM, serving  # noqa: E402
from tiny import grpo, problems, trainer  # noqa: E402

from slm_math.engines.settings import Vllm  # noqa: E402
from slm_math.types import Sampling  # noqa: E402

WARMUP = 2


class Clock(L.Callback):
    """Seconds of each step, and of its phases."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.phases: list[dict[str, float]] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.steps.append(time.perf_counter() - self.start)
        self.phases.append(dict(module.timer.seconds))


def steps(server: FakeVLLM, ahead: int, number: int, update: float) -> Clock:
    """A training run; each update takes `update` seconds longer, as one of a large model would."""
    vllm = Vllm(servers=(server.url,), patience=60, timeout=60)
    module = grpo(None, vllm=vllm, sampling=Sampling(max_new_tokens=3), group_size=2, ahead=ahead)
    inner = module.step_optimizer

    def slow() -> float:
        time.sleep(update)
        return inner()

    module.step_optimizer = slow  # type: ignore[method-assign]
    clock = Clock()
    with tempfile.TemporaryDirectory() as root:
        run = trainer(Path(root), callbacks=[clock], limit_train_batches=number)
        run.fit(module, problems(batch_size=4))
    return clock


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of sampling, and of an update")
    options = parser.parse_args()
    number = options.steps + WARMUP
    hidden: list[float] = []
    for _ in range(options.repeats):
        times: dict[int, float] = {}
        waits: dict[int, float] = {}
        for ahead in (0, 1):
            with serving() as [server]:
                server.delay = options.seconds
                clock = steps(server, ahead, number, options.seconds)
                # the last step of a run has no next one to sample
                times[ahead] = statistics.median(clock.steps[WARMUP:-1])
                generate = [phases["generate"] for phases in clock.phases[WARMUP:-1]]
                waits[ahead] = statistics.median(generate)
        hidden.append(1 - waits[1] / waits[0])
        print(
            f"step: {times[0]:.2f} s, with ahead {times[1]:.2f} s; waits for replies: "
            f"{waits[0]:.2f} s, with ahead {waits[1]:.2f} s; hidden: {hidden[-1]:.2f}"
        )
    draws = np.random.default_rng(0).choice(hidden, (4000, len(hidden))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    print(
        f"hidden: {np.mean(hidden):.2f} [{low:.2f}, {high:.2f}] of sampling, n = {len(hidden)} "
        f"runs of {options.steps} steps"
    )


if __name__ == "__main__":
    main()
