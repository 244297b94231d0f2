"""What the driver shows while steps run: which step of how many, what its log says, time left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ladder.plan import Plan, Step
from ladder.steps import Done
from slm_math.evaluation.plain import plain, print_line

SILENT = 600.0  # seconds without a word from a step after which it is named


class Progress:
    """A few lines that are updated on a terminal; a plain line every `seconds` elsewhere."""

    def __init__(self, console: Console, plan: Plan, seconds: float = 60.0) -> None:
        self.console, self.plan, self.seconds = console, plan, seconds
        self._begun = self._last_line = time.monotonic()
        self._named: set[str] = set()  # silent steps
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        print_line(self.console, text)

    def begins(self, step: Step, log: Path, note: str) -> None:
        number = [each.name for each in self.plan.steps].index(step.name) + 1
        self._named.discard(step.name)
        self.say(f"step {number} of {len(self.plan.steps)}: {step.name} (log: {log})")
        if note:
            self.say(f"{step.name}: {note}")

    def update(self, running: Mapping[str, tuple[float, Path]], done: Mapping[str, Done]) -> None:
        """Shows the running steps, by name with their start and their log."""
        now = time.monotonic()
        head = (
            f"{len(done)} of {len(self.plan.steps)} steps done, {_clock(now - self._begun)} so far"
            f"{self._time_left(running, done, now)}"
        )
        lines = [
            f"  {name}, {_clock(now - begun)}: {last_line(log)}"
            for name, (begun, log) in running.items()
        ]
        for name, (begun, log) in running.items():
            quiet = min(now - begun, time.time() - log.stat().st_mtime) if log.exists() else 0.0
            if quiet > SILENT and name not in self._named:
                self._named.add(name)
                self.say(f"{name} has printed nothing for {_clock(quiet)}; its log: {log}")
        if self.console.is_terminal:
            texts = [Text(plain(line, 500), no_wrap=True, overflow="ellipsis") for line in lines]
            self._live.update(Group(Text(head), *texts), refresh=True)
        elif now - self._last_line >= self.seconds:
            self._last_line = now
            self.say("\n".join([head, *lines]))

    def _time_left(
        self, running: Mapping[str, tuple[float, Path]], done: Mapping[str, Done], now: float
    ) -> str:
        """From the weights of the steps, and how long those that are done took."""
        seconds = sum(each.seconds for each in done.values())
        weight = sum(step.weight for step in self.plan.steps if step.name in done)
        if not seconds or not weight:
            return ""
        pace = seconds / weight
        left = 0.0
        for step in self.plan.steps:
            if step.name in running:
                left += max(step.weight * pace - (now - running[step.name][0]), 0.0)
            elif step.name not in done:
                left += step.weight * pace
        return f", about {_clock(left / self.plan.jobs)} left"


def last_line(log: Path, width: int = 200) -> str:
    """The last line of a log that says something."""
    try:
        with log.open("rb") as file:
            file.seek(max(file.seek(0, 2) - 4096, 0))
            lines = file.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    return plain(next((line.strip() for line in reversed(lines) if line.strip()), ""), width)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
