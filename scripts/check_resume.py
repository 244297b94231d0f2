"""Ends `slm-math fit` at every step boundary, resumes it each time, and compares with a run that
was not ended: steps, rollouts and weights.

    python scripts/check_resume.py                       SFT and GRPO, every way to end a run
    python scripts/check_resume.py --ways KILL --folder /dev/shm

Checkpoints are written at every step. Sessions are forked from one process that has imported
everything, so that a restart costs about a second. With --small_tmp (as root), TMPDIR is a file
system of 3 MB, less than a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "scripts")]

import lightning as L  # noqa: E402
import torch  # noqa: E402
from lightning.pytorch.callbacks import Checkpoint  # noqa: E402

from slm_math.cli import run  # noqa: E402
from slm_math.report.rewards import training_curves  # noqa: E402

EPOCHS, BATCHES = 2, 3
COMMON = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    f"--trainer.limit_train_batches={BATCHES}",
    f"--trainer.max_epochs={EPOCHS}",
    "--model.policy.scratch={hidden: 96, layers: 4, ffn: 192}",
    "--model.policy.lora={r: 48, dropout: 0.1}",
    # a rate that does not depend on max_steps
    "--model.optim={lr: 1e-2, warmup: 0, schedule: constant}",
    "--data.source={class_path: Arithmetic, init_args: {train: 60, validation: 8, test: 8, "
    "solve: 20, code: 2, check: 2, drills: 2}}",
    "--torch_threads=1",
]
KINDS = {
    "sft": ["--model=SFTModule", "--data=ChatData", "--data.batch_size=4"],
    "grpo": [
        "--model=GRPOModule",
        "--model.agent=tiny.Duo",
        "--model.train_roles=[solver, judge]",
        "--model.rewards=[{class_path: tiny.Even}, {class_path: tiny.Even, role: judge}]",
        "--model.passes=2",
        "--model.resample=1",
        "--model.group_size=3",
        "--model.inference.sampling.max_new_tokens=6",
        "--data=ProblemData",
        "--data.batch_size=3",
    ],
}
UPDATES = {"sft": 1, "grpo": 2}  # of a step
# way -> (when a session ends itself, its exit code)
WAYS: dict[str, tuple[str, set[int]]] = {
    "KILL": ("after a step", {-signal.SIGKILL}),
    "KILL every third": ("after three steps", {-signal.SIGKILL}),
    "KILL inside": ("inside the next step", {-signal.SIGKILL}),
    "KILL at the end of an epoch": ("at the end of an epoch", {-signal.SIGKILL}),
    "TERM": ("inside a step", {143}),
    "INT": ("inside a step", {1, 130}),  # Lightning ends with 1
    "max_time": ("", {0}),
    "max_steps": ("", {0}),
}


class Steps(L.Callback):
    """Notes every step that is done, before a checkpoint of it is written."""

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        with (Path(trainer.default_root_dir) / "steps").open("a") as file:
            file.write(f"{trainer.current_epoch}.{batch_idx}\n")


class End(Checkpoint):
    """Ends its own process at a moment; a checkpoint callback comes after the one that saves."""

    def __init__(self, when: str, way: str) -> None:
        self.when, self.way = when, way
        self.begun = self.done = self.epochs = 0

    def _end(self, now: bool) -> None:
        if now:
            os.kill(os.getpid(), getattr(signal, f"SIG{self.way.partition(' ')[0]}"))

    def on_train_batch_start(self, *_: Any) -> None:
        self.begun += 1
        if self.way == "max_time":
            time.sleep(1.1)  # as long as the session may last: one step
        self._end(self.when == "inside the next step" and self.begun == 2)
        self._end(self.when == "inside a step" and self.begun == 1)

    def on_train_batch_end(self, *_: Any) -> None:
        self.done += 1
        self._end(self.when == "after a step" and self.done == 1)
        self._end(self.when == "after three steps" and self.done == 3)

    def on_train_epoch_end(self, *_: Any) -> None:
        self.epochs += 1
        self._end(self.when == "at the end of an epoch" and self.epochs == 1)


def session(folder: Path, kind: str, way: str, number: int) -> int:
    """The exit code of one session."""
    folder.mkdir(parents=True, exist_ok=True)
    when = WAYS[way][0] if way in WAYS else ""
    end = {"class_path": "check_resume.End", "init_args": {"when": when, "way": way}}
    saves = {
        "class_path": "slm_math.callbacks.Checkpoints",
        "init_args": {"dirpath": str(folder / "checkpoints"), "minutes": 0},
    }
    arguments = ["fit", *KINDS[kind], *COMMON, f"--trainer.default_root_dir={folder}"]
    arguments.append(
        f"--trainer.callbacks={json.dumps([{'class_path': 'check_resume.Steps'}, saves, end])}"
    )
    if way == "max_steps" and number < EPOCHS * BATCHES:
        arguments.append(f"--trainer.max_steps={number * UPDATES[kind]}")
    if way == "max_time":
        arguments.append("--trainer.max_time=00:00:00:01")
    if any((folder / "checkpoints").glob("last*.ckpt")):
        arguments.append("--ckpt_path=last")
    child = os.fork()
    if not child:
        with (folder / "output").open("ab") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        code = 1
        try:
            os.chdir(folder)
            sys.argv = ["slm-math", *arguments]
            run()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def sessions(folder: Path, kind: str, way: str) -> int:
    """The number of sessions until the run is over."""
    for number in range(1, 3 * EPOCHS * BATCHES):
        code = session(folder, kind, way, number)
        if code not in WAYS[way][1] | {0} if way in WAYS else code:
            output = (folder / "output").read_text(errors="replace")
            raise RuntimeError(f"session {number} ended with {code}: {output[-1500:]}")
        if _done(folder) and code == 0:
            return number
    raise RuntimeError(f"the run does not end; its steps: {_steps(folder)}")


def _steps(folder: Path) -> list[str]:
    return (folder / "steps").read_text().split() if (folder / "steps").exists() else []


def _done(folder: Path) -> bool:
    return f"{EPOCHS - 1}.{BATCHES - 1}" in _steps(folder)


def result(folder: Path, kind: str) -> dict[str, Any]:
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    log, rollouts = folder / "rollouts.jsonl", []
    if log.exists():
        rows = map(json.loads, log.read_text().splitlines())
        rollouts = [(r["epoch"], r["batch"], r["step"], r["id"], r["completion"]) for r in rows]
    curves = training_curves(folder)[0]
    return {
        "weights": saved["state_dict"],
        "updates": saved["global_step"],
        "rollouts": rollouts,
        "curves": [(curve.metric, curve.points) for curve in curves],
        "steps": _steps(folder),
    }


def differences(one: dict[str, Any], other: dict[str, Any], but: Collection[str] = ()) -> list[str]:
    """In what two runs differ, `but` for what may."""
    wrong = [name for name in one if name not in {"weights", *but} and one[name] != other[name]]
    same = one["weights"].keys() == other["weights"].keys() and all(
        torch.equal(value, other["weights"][name]) for name, value in one["weights"].items()
    )
    return wrong + ([] if same else ["weights"])


@contextmanager
def small_tmp(wanted: bool) -> Iterator[None]:
    """TMPDIR on a file system of 3 MB."""
    if not wanted:
        yield
        return
    place = tempfile.mkdtemp(prefix="small-tmp-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], check=True)
    before, os.environ["TMPDIR"], tempfile.tempdir = os.environ.get("TMPDIR"), place, None
    try:
        yield
    finally:
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before
        tempfile.tempdir = None
        subprocess.run(["umount", place], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--folder", default=None, help="where the runs are, as /dev/shm")
    parser.add_argument("--small_tmp", action="store_true")
    options = parser.parse_args()
    # a shell starts background jobs with Ctrl-C ignored, and what is ignored stays ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    base = Path(tempfile.mkdtemp(prefix="check-resume-", dir=options.folder))
    failed = 0
    with small_tmp(options.small_tmp):
        for kind in options.kinds:
            straight = base / kind / "straight"
            sessions(straight, kind, "straight")
            expected = result(straight, kind)
            size = (straight / "checkpoints" / "last.ckpt").stat().st_size / 1e6
            print(
                f"{kind}: {len(expected['steps'])} steps, {expected['updates']} updates, "
                f"{len(expected['rollouts'])} rollouts, a checkpoint has {size:.1f} MB",
                flush=True,
            )
            for way in options.ways:
                folder = base / kind / way.replace(" ", "-")
                try:
                    count = sessions(folder, kind, way)
                    # a step that was not saved, or the end of an epoch, is done again; Lightning
                    # writes the log of a step after the moment at which a kill comes
                    but = {"curves"} | ({"steps"} if way == "KILL inside" else set())
                    wrong = differences(expected, result(folder, kind), but)
                except RuntimeError as error:
                    count, wrong = 0, [str(error)]
                failed += bool(wrong)
                outcome = f"DIFFERENT: {', '.join(wrong)}" if wrong else "the same"
                print(f"{kind}, {way}: {count} sessions, {outcome}", flush=True)
    if not failed:
        shutil.rmtree(base)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
