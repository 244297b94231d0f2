"""Programs that run again while data are built: in the sandbox, several at once, with a bar."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from slm_math.evaluation.plain import print_line
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.types import RunPython, RunResult

SECONDS = 30.0  # between the lines that say how far it is, where there is no terminal


class Programs:
    """Runs programs and keeps what each did: equal programs run once.

    The sandbox starts with the first program. Raises SandboxError where none can be confined.
    """

    def __init__(self, sandbox: Sandbox | RemoteSandbox | None, console: Console) -> None:
        self.sandbox = sandbox
        self.console = console
        self.results: dict[RunPython, RunResult] = {}

    def run(self, requests: Sequence[RunPython], what: str) -> list[RunResult]:
        """The results of programs, in order. `what` stands beside the bar."""
        new = [each for each in dict.fromkeys(requests) if each not in self.results]
        if new:
            self._run(new, what)
        return [self.results[each] for each in requests]

    def _run(self, requests: Sequence[RunPython], what: str) -> None:
        if self.sandbox is None:
            self.sandbox = Sandbox()
        self.sandbox.start()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        start = time.monotonic()
        tickets = {self.sandbox.submit(request): request for request in requests}
        with Progress(
            *columns, console=self.console, disable=not self.console.is_terminal, transient=True
        ) as bar:
            row = bar.add_task(what, total=len(tickets))
            while tickets:
                for ticket, result in self.sandbox.poll(1.0):
                    self.results[tickets.pop(ticket)] = result
                    bar.advance(row)
                if not self.console.is_terminal and time.monotonic() - start > SECONDS:
                    start = time.monotonic()
                    done = len(requests) - len(tickets)
                    print_line(self.console, f"{what}: {done} of {len(requests)}")

    def close(self) -> None:
        if self.sandbox is not None:
            self.sandbox.close()
