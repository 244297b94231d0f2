#!/usr/bin/env python3
"""Sends SIGTERM to `slm-math fit` at random moments, from its first line to its last, goes on each
time as a scheduler would, and compares with a run that nobody stopped: weights, rollouts, rewards
and the records of evaluations.

    python scripts/check_signals.py [--kinds sft grpo] [--ranks 1] [--moments 10] [--seed 0]

Every session is the command itself, in processes of its own. The signal goes to the process group,
as that of a scheduler does, so with several ranks each one gets it, and once more from its parent.
A session that was asked to stop has to end with 143, or with 0 where training had just ended; with
several ranks also by SIGKILL (-9), from Lightning, where they were still waiting for each other.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from check_resume import COMMON, KINDS, ROOT, differences, result

GRACE = 120.0  # seconds until a session that was asked to stop counts as one that hangs
EVALUATES = [
    {"class_path": "slm_math.callbacks.Checkpoints", "init_args": {"minutes": 0.01}},
    {"class_path": "slm_math.callbacks.AgentEval", "init_args": {"agents": {"one": "SingleShot"}}},
]


class Session:
    """One `slm-math fit` in a process group of its own."""

    def __init__(self, root: Path, kind: str, ranks: int) -> None:
        self.output = root.parent / f"{root.name}.output"
        several = [f"--trainer.devices={ranks}", "--trainer.strategy=ddp"] if ranks > 1 else []
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "scripts")])
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "slm_math", "fit", *KINDS[kind], *COMMON, *several),
                    f"--trainer.default_root_dir={root}",
                    f"--trainer.callbacks={json.dumps(EVALUATES)}",
                    "--ckpt_path=last_if_any",
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
                start_new_session=True,
            )

    def ended(self, within: float | None = None) -> int | None:
        """The exit status, or None where it runs on after `within` seconds."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            return None

    def ask(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)

    def said(self) -> str:
        return self.output.read_text(errors="replace")[-1500:]


def compared(root: Path, kind: str) -> dict[str, Any]:
    """What a run leaves: that of `check_resume`, and the records of its evaluations."""
    (root / "steps").touch()  # nothing notes steps here
    records = {
        str(path.relative_to(root)): sorted(
            (r["id"], r["sample"], r["answer"]) for r in map(json.loads, path.open())
        )
        for path in sorted(root.glob("eval/**/records.jsonl"))
    }
    return result(root, kind) | {"records": records}


def stopped_at(root: Path, kind: str, ranks: int, moment: float) -> tuple[int | None, float]:
    """(Exit status, or None where the session had ended before; seconds until it ended) of one that
    is asked to stop after `moment` seconds.
    """
    session = Session(root, kind, ranks)
    if session.ended(moment) is not None:
        return None, 0.0
    session.ask()
    begun = time.monotonic()
    status = session.ended(GRACE)
    if status is None:
        os.killpg(session.process.pid, signal.SIGKILL)
        raise RuntimeError(f"it did not stop within {GRACE:.0f} s: {session.said()}")
    if status not in (143, 0, *([-signal.SIGKILL] if ranks > 1 else [])):
        raise RuntimeError(f"it ended with {status}: {session.said()}")
    return status, time.monotonic() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--moments", type=int, default=10, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draws = random.Random(options.seed)
    base = Path(tempfile.mkdtemp(prefix="check-signals-"))
    failed = 0
    for kind in options.kinds:
        begun = time.monotonic()
        straight = Session(base / f"{kind}-straight", kind, options.ranks)
        if straight.ended():
            raise SystemExit(straight.said())
        seconds = time.monotonic() - begun
        expected = compared(base / f"{kind}-straight", kind)
        print(f"{kind}, {options.ranks} ranks: {seconds:.1f} s, {expected['updates']} updates")
        root = base / f"{kind}-stopped"
        # one moment in each of equally long parts, so that the whole of a run is met
        for part in range(options.moments):
            moment = seconds * (part + draws.random()) / options.moments
            shutil.rmtree(root, ignore_errors=True)
            try:
                status, took = stopped_at(root, kind, options.ranks, moment)
                last = Session(root, kind, options.ranks)
                wrong = (
                    [last.said()] if last.ended() else differences(expected, compared(root, kind))
                )
            except RuntimeError as error:
                status, took, wrong = -1, 0.0, [str(error)]
            failed += bool(wrong)
            how = "had ended" if status is None else f"status {status} after {took:.1f} s"
            outcome = f"DIFFERENT: {', '.join(wrong)}" if wrong else "the same"
            print(f"{kind}, SIGTERM at {moment:.1f} s: {how}, {outcome}", flush=True)
    if not failed:
        shutil.rmtree(base)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
