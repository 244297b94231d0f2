"""What the benchmarks of training share: two trainers that take turns in one process, the CPU time
of their steps, and the table.
"""

from __future__ import annotations

import functools
import json
import logging
import platform
import random
import resource
import statistics
import threading
import time
import warnings
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
import transformers
from rich.console import Console
from rich.table import Table

from slm_math.answers.graded import GradedTrace
from slm_math.engines.transformers import TransformersEngine
from slm_math.rewards import Reward, replies_of

DRAWS = 2000  # of the bootstrap
# of transformers' trainer: nothing but the training, on the CPU, in 32 bits
PLAIN: Mapping[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "lr_scheduler_type": "constant",
    "report_to": [],
    "save_strategy": "no",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}


class Relay:
    """Trainers that run in turn, each for a step.

    Only one of them runs at any time, so that the process's CPU time is its own.
    """

    def __init__(self, names: Sequence[str], warmup: int) -> None:
        self.names = names
        self.seconds: dict[str, list[float]] = {name: [] for name in names}
        self.warming: dict[str, list[float]] = {name: [] for name in names}
        self.phases: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in names}
        self._warmup = warmup
        self._turn = 0
        self._began = 0.0
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._others = usage.ru_utime + usage.ru_stime
        self._now: dict[str, float] = defaultdict(float)
        self._changed = threading.Condition()
        self._finished: set[str] = set()
        self._error: BaseException | None = None

    def run(self, trainings: Mapping[str, Callable[[], None]]) -> None:
        """Runs all to their end. Raises what one of them raises."""
        threads = [
            threading.Thread(target=self._guarded, args=(name, training), daemon=True)
            for name, training in trainings.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error
        for name, seconds in self.seconds.items():
            self.warming[name] = seconds[: self._warmup]
            del seconds[: self._warmup]

    def _guarded(self, name: str, training: Callable[[], None]) -> None:
        self._wait(name)
        try:
            training()
        except BaseException as error:
            self._error = self._error or error
        with self._changed:
            self._finished.add(name)
            self._pass_on(name)

    def _pass_on(self, name: str) -> None:
        others = [each for each in self.names if each != name and each not in self._finished]
        if others:
            self._turn = self.names.index(others[0])
        self._changed.notify_all()

    def _wait(self, name: str) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self.names[self._turn] == name
                    or self._finished.issuperset(set(self.names) - {name})
                )
            )
        self._now.clear()
        self._began = time.process_time()

    def stepped(self, name: str) -> None:
        """A step of a trainer has ended: it waits until the others have made theirs."""
        took = time.process_time() - self._began
        self.seconds[name].append(took)
        for phase, seconds in {**self._now, "rest": took - sum(self._now.values())}.items():
            self.phases[name][phase].append(seconds)
        with self._changed:
            self._pass_on(name)
        self._wait(name)

    def compiling(self, name: str) -> float:
        """CPU seconds of compilation: what the steps of warm-up took more than later ones, and the
        processes that it started.
        """
        median = statistics.median(self.seconds[name])
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        others = usage.ru_utime + usage.ru_stime - self._others
        return sum(seconds - median for seconds in self.warming[name]) + others

    def phase(self, owner: Any, method: str, phase: str) -> None:
        """Counts the time of a method as a phase of its step, without the phases in it."""
        whole = getattr(owner, method)

        @functools.wraps(whole)
        def timed(*args: Any, **options: Any) -> Any:
            start, inside = time.process_time(), sum(self._now.values())
            result = whole(*args, **options)
            inside = sum(self._now.values()) - inside
            self._now[phase] += time.process_time() - start - inside
            return result

        setattr(owner, method, timed)


class OurSteps(L.Callback):
    """Tells a relay of Lightning's steps."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    def on_train_batch_end(self, *args: Any) -> None:
        self.relay.stepped("ours")


class TheirSteps(transformers.TrainerCallback):
    """Tells a relay of the steps of transformers' trainer."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    def on_step_end(self, *args: Any, **options: Any) -> None:
        self.relay.stepped("trl")


class Ratio(NamedTuple):
    """A ratio of medians with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    draw = random.Random(0)

    def again(values: Sequence[float]) -> float:
        return statistics.median(draw.choices(values, k=len(values)))

    drawn = sorted(again(ours) / again(theirs) for _ in range(DRAWS))
    whole = statistics.median(ours) / statistics.median(theirs)
    return Ratio(whole, drawn[DRAWS // 40], drawn[-DRAWS // 40])


def options(script: str, repeats: str, count: int, measured: str) -> ArgumentParser:
    """The options that all have: how often is measured, and where the numbers go; `script` is the
    text that describes it.
    """
    parser = ArgumentParser(description=script, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument(f"--{repeats}", type=int, default=count, help=measured)
    parser.add_argument("--out", type=Path, help="write all numbers as JSON")
    return parser


def quiet() -> None:
    """One thread, and no words of libraries."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def trainer(watcher: L.Callback, steps: int, accelerator: str = "cpu", **own: Any) -> L.Trainer:
    """Ours, without anything but the training; `own` are further options of Lightning's."""
    silent = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
    )
    return L.Trainer(accelerator=accelerator, max_steps=steps, callbacks=[watcher], **silent, **own)


class Endless(TransformersEngine):
    """The engine, without tokens that end a reply early."""

    @property
    def ends(self) -> frozenset[int]:
        return frozenset()


@dataclass
class Dense(Reward):
    """A reward that is different for most replies."""

    def __call__(self, graded: GradedTrace) -> float:
        [reply] = replies_of(graded.trace, self.role)
        return dense(reply.token_ids)


def dense(ids: Any) -> float:
    return sum(id % 7 for id in ids) / (7 * len(ids))


def prompts(tokenizer: Any, tokens: int, count: int) -> list[str]:
    """`count` texts whose chats have `tokens` tokens each; a digit is one token."""

    def encoded(text: str) -> int:
        chat = [{"role": "user", "content": text}]
        return len(tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"])

    draw, around = random.Random(0), encoded("0") - 1
    return ["".join(draw.choices("0123456789", k=tokens - around)) for _ in range(count)]


def report(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], out: Path | None) -> None:
    """Prints the rows as a table of 80 columns, and writes them with versions as JSON."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    Console(width=80).print(table)
    names = ("slm-math", "trl", "torch", "transformers")
    installed = {each.metadata["Name"] for each in distributions()}
    versions = {name: version(name) for name in names if name in installed}
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    if out is not None:
        machine = f"{platform.machine()}, Python {platform.python_version()}"
        text = json.dumps({"versions": versions, "machine": machine, "rows": rows}, indent=2)
        out.write_text(text + "\n", encoding="utf-8")
