"""What a training run leaves on the screen: what was learned, what it cost, what to run next."""

from __future__ import annotations

import shlex
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import CSVLogger
from rich.table import Table
from rich.text import Text

from slm_math.callbacks.agent_eval import AgentEval
from slm_math.callbacks.console import console_of
from slm_math.callbacks.export import ExportHF
from slm_math.callbacks.stop_reason import shortest
from slm_math.data.arithmetic import Arithmetic
from slm_math.data.gsm8k import GSM8K
from slm_math.data.table import Table as OwnTable
from slm_math.modules.base import PolicyModule
from slm_math.modules.grpo import GRPOModule
from slm_math.modules.rollouts import RolloutModule
from slm_math.modules.step_metrics import peak_memory
from slm_math.planning.process import resident

PLANNED_FROM = 0.1  # seconds of a first step; a plan takes longer than several shorter ones
MANY = 10  # steps whose mean is shown
SECONDS = "train/seconds/"
CURVES = {"train/loss": "loss", "train/reward": "reward", "train/kl": "KL to the reference"}


@dataclass
class Curve:
    """The first and the last values of a metric, which is logged by step."""

    first: list[float] = field(default_factory=list)
    last: deque[float] = field(default_factory=lambda: deque(maxlen=MANY))
    steps: int = 0

    def add(self, value: float) -> None:
        self.steps += 1
        self.last.append(value)
        if len(self.first) < MANY:
            self.first.append(value)

    def __str__(self) -> str:
        # two means of the same steps would say nothing
        size = min(MANY, max(self.steps // 2, 1))
        first, last = self.first[:size], list(islice(reversed(self.last), size))
        steps = "step" if size == 1 else f"{size} steps"
        ends = f"{sum(first) / size:.3g} -> {sum(last) / size:.3g}"
        return f"{ends} (first and last {steps} of {self.steps})"


class Summary(L.Callback):
    """Prints what the first step took beside its plan, and a summary when `fit` ends: after its
    last step, at a limit, or asked to stop.
    """

    def __init__(self) -> None:
        self._step_began = 0.0
        self._made = time.monotonic()
        self._idle: int | None = None
        self._reset()

    def _reset(self) -> None:
        self._stepped = 0.0  # seconds of all steps
        self._curves = {name: Curve() for name in CURVES}
        self._seconds = defaultdict[str, float](float)
        self._metrics: dict[str, dict[str, float]] = {}  # agent -> of its last evaluation
        self._steps = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._made = time.monotonic()
        # by now the data is read, and no model is loaded, unless it served something before
        new = isinstance(pl_module, PolicyModule) and pl_module.loaded is None
        self._idle = resident() if new else None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._reset()
        self._seconds["start"] = time.monotonic() - self._made

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._step_began = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._steps += 1
        took = time.perf_counter() - self._step_began
        self._stepped += took
        if self._steps == 1 and trainer.is_global_zero:
            for line in _first_step(trainer, pl_module, took, self._idle):
                console_of(trainer).print(Text(line), soft_wrap=True)
        logged = trainer.callback_metrics
        for name, curve in self._curves.items():
            if name in logged:
                curve.add(float(logged[name]))
        for name in logged:
            if name.startswith(SECONDS):
                self._seconds[name.removeprefix(SECONDS)] += float(logged[name])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        logged = trainer.callback_metrics
        for key in (key for callback in _evaluations(trainer) for key in callback.keys):
            start = f"eval/{key}/"
            if f"{start}accuracy" in logged:
                own = {name: float(logged[name]) for name in logged if name.startswith(start)}
                self._metrics[key] = {name.removeprefix(start): each for name, each in own.items()}
                self._seconds["evaluation"] += self._metrics[key].get("total_seconds", 0.0)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._print(trainer, pl_module, _export(trainer))

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        # an export is that of an earlier epoch, and how to go on is told by Checkpoints
        if isinstance(exception, KeyboardInterrupt) and trainer.state.fn == "fit":
            self._print(trainer, pl_module, export=None)

    def _print(self, trainer: L.Trainer, pl_module: L.LightningModule, export: str | None) -> None:
        if not trainer.is_global_zero or not self._steps or getattr(trainer, "fast_dev_run", False):
            return
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for name, line in (*self._learned(), *self._cost(trainer, pl_module)):
            table.add_row(name, Text(line))
        console = console_of(trainer)
        console.print(table)
        # a path that is broken cannot be copied
        for name, line in _places(trainer, export):
            console.print(Text(f"{name}: {line}"), soft_wrap=True)
        for line in _next(trainer, pl_module, export):
            console.print(Text(f"next: {line}"), soft_wrap=True)

    def _learned(self) -> Iterator[tuple[str, str]]:
        for key, metrics in self._metrics.items():
            found = f"{100 * metrics['accuracy']:.1f}"
            if "gain" in metrics:
                first = metrics["accuracy"] - metrics["gain"]  # of the same problems
                found = f"{100 * first:.1f} -> {found}"
            line = f"{found} %" + _interval(metrics, "low", "high")
            if "gain" in metrics:
                change = f"{100 * metrics['gain']:+.1f}"
                line += f", change {change}" + _interval(metrics, "gain_low", "gain_high")
            yield key, line
        for name, curve in self._curves.items():
            if curve.steps:
                yield CURVES[name], str(curve)

    def _cost(self, trainer: L.Trainer, module: L.LightningModule) -> Iterator[tuple[str, str]]:
        whole = time.monotonic() - self._made
        phases = dict(self._seconds)
        outside = ("start", "evaluation")
        inside = sum(value for phase, value in phases.items() if phase not in outside)
        phases["other work of steps" if inside else "steps"] = self._stepped - inside
        rest = whole - self._stepped - sum(phases.get(phase, 0.0) for phase in outside)
        phases["saving and the rest"] = rest
        shares = [
            f"{phase} {seconds / whole:.0%}"
            for phase, seconds in sorted(phases.items(), key=lambda each: -each[1])
            if seconds >= whole / 100
        ]
        yield "time", f"{timedelta(seconds=round(whole))} ({', '.join(shares)})"
        yield "memory", f"{peak_memory(module.device):.2f} GiB at most"


def _first_step(
    trainer: L.Trainer, module: L.LightningModule, seconds: float, idle: int | None
) -> list[str]:
    """What the first step took, and beside it what a plan says, if there is one: a model of an
    architecture that nobody has planned for can be trained, too.
    """
    peak = int(peak_memory(module.device) * 2**30)
    alone = [f"first step: {seconds:.3g} s, peak memory {peak >> 20:,} MiB"]
    data = getattr(trainer, "datamodule", None)
    if not isinstance(module, PolicyModule) or idle is None or data is None:
        return alone
    if seconds < PLANNED_FROM:
        return alone
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    tokens = logged.get("train/tokens", 0.0)
    if isinstance(module, RolloutModule):
        rate = logged.get("train/tokens_per_second/generate", 0.0)
        tokens = rate * logged.get(f"{SECONDS}generate", 0.0)
    try:
        from slm_math.planning.first_step import foresee  # which only training needs

        plan = foresee(module, data, idle, module.shares_out)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        return [*alone, f"  no plan to compare it with: {reason}"]
    return plan.lines(seconds, tokens, peak)


def _interval(metrics: dict[str, float], low: str, high: str) -> str:
    if low not in metrics or high not in metrics:
        return ""
    return f" [{100 * metrics[low]:.1f}, {100 * metrics[high]:.1f}]"


def _evaluations(trainer: L.Trainer) -> list[AgentEval]:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [each for each in callbacks if isinstance(each, AgentEval)]


def _export(trainer: L.Trainer) -> str | None:
    """The folder of the exported model, None if there is none."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    folders = [
        Path(trainer.default_root_dir).absolute() / each.folder
        for each in callbacks
        if isinstance(each, ExportHF)
    ]
    return next((shortest(str(folder)) for folder in folders if folder.is_dir()), None)


def _places(trainer: L.Trainer, export: str | None) -> Iterator[tuple[str, str]]:
    if export:
        yield "model", export
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger):
            yield "metrics", shortest(str(Path(logger.log_dir).absolute() / "metrics.csv"))


def _next(trainer: L.Trainer, module: L.LightningModule, export: str | None) -> Iterator[str]:
    yield f"slm-math report {shortest(str(Path(trainer.default_root_dir).absolute()))}"
    if not export:
        return
    data = getattr(trainer, "datamodule", None)
    source = getattr(data, "source", None)
    if not isinstance(module, GRPOModule):
        config = "quickstart/grpo" if isinstance(source, Arithmetic) else "grpo/solver"
        line = f"slm-math fit --config {config} --model.policy.path {export}"
        if isinstance(source, OwnTable) and len(source.paths) == 1:  # or it would be GSM8K
            file = shortest(str(source.paths[0].absolute()))
            line += f" --data.source Table --data.source.path {file}"
            for option, column in source.named.items():
                line += f" --data.source.{option} {shlex.quote(column)}" if column else ""
        yield line
    if isinstance(source, GSM8K):
        yield f"slm-math eval --config eval/gsm8k --model {export}"
        return
    # the prompt that it was trained on, since a small model knows no other
    prompt = getattr(getattr(module, "agent", None), "prompt", getattr(data, "prompt", "solve"))
    own = "" if prompt == "solve" else f" --agent SingleShot --agent.prompt {shlex.quote(prompt)}"
    yield f'slm-math solve "PROBLEM" --model {export}{own}'
