"""What happens while an agent solves a problem, on a terminal or in a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.syntax import Syntax
from rich.text import Text

from slm_math.evaluation.plain import encodable, plain, print_line
from slm_math.report.text import FENCE
from slm_math.rollout.scheduler import Job
from slm_math.types import Generate, Note, Run, RunPython, Turn
from slm_math.visible import visible

LEAST = 3  # lines of an open request, with its heading
PYTHON = ("", "python", "py", "python3")


@dataclass
class _Open:
    """A request that was not answered yet."""

    title: str
    job: Job[Any]
    text: str = ""
    since: float = field(default_factory=time.monotonic)


class Screen:
    """An `Audience` that prints each reply, program and note when it is whole; on a terminal, what
    is not yet whole grows in a panel below. Control characters of models and programs have no
    effect. Use it as a context.

    Args:
        console: where to print; what is no terminal gets plain text.
        labels: whether to say which sample a line belongs to.
    """

    def __init__(self, console: Console, labels: bool = False) -> None:
        self.console = console
        self.labels = labels
        self._open: dict[int, _Open] = {}
        self._shown: dict[int, str] = {}  # job -> its last reply
        self._live = Live(
            console=console,
            get_renderable=self._panel,
            transient=True,
            refresh_per_second=8,
            auto_refresh=console.is_terminal,
        )

    def __enter__(self) -> Screen:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.clear()
        if self.console.is_terminal:
            self._live.stop()

    # what the scheduler says

    def asked(self, number: int, job: Job[Any], effect: Generate | RunPython) -> None:
        title = effect.role if isinstance(effect, Generate) else "program"
        self._open[number] = _Open(self._label(job) + plain(title, 40), job)

    def grew(self, number: int, text: str) -> None:
        if (open := self._open.get(number)) is not None:
            open.text = text

    def happened(self, number: int, job: Job[Any], event: Turn | Run | Note) -> None:
        self._open.pop(number, None)
        if isinstance(event, Turn):
            self._turn(job, event)
        elif isinstance(event, Run):
            self._run(job, event)
        else:
            self.line(self._label(job) + _note(event), "dim")

    def ended(self, job: Job[Any]) -> None:
        """The workflow of a job ended; what it still waited for will not come."""
        for number in [number for number, open in self._open.items() if open.job is job]:
            self._open.pop(number, None)

    # what is printed

    def line(self, text: str, style: str = "") -> None:
        """Prints a text, in this style on a terminal."""
        if self.console.is_terminal:
            self.console.print(Text(visible(encodable(text)), style))
        else:
            print_line(self.console, encodable(text))

    def _label(self, job: Job[Any]) -> str:
        return f"sample {job.subject[1] + 1}: " if self.labels else ""

    def _turn(self, job: Job[Any], turn: Turn) -> None:
        reply = turn.reply
        self._shown[id(job)] = reply.text
        facts = f"{reply.tokens} tokens, {reply.seconds:.1f} s"
        cut = ", hit the length limit" if reply.finish == "length" else ""
        self._heading(f"{self._label(job)}{turn.request.role} ({facts}{cut})")
        self._reply(reply.text.strip("\n") or "(an empty reply)")

    def _run(self, job: Job[Any], run: Run) -> None:
        result = run.result
        how = "ok" if result.ok else f"failed: {result.error_type}"
        self._heading(f"{self._label(job)}program ({how}, {result.seconds:.2f} s)")
        if run.code.strip() not in self._shown.get(id(job), ""):
            self._code(run.code)
        self.line(result.text or "(no output)", "green" if result.ok else "red")

    def _heading(self, text: str) -> None:
        self.line("")
        self.line(f"--- {plain(text, 200)}", "bold cyan")

    def _reply(self, text: str) -> None:
        at = 0
        for block in FENCE.finditer(text) if self.console.is_terminal else ():
            self._prose(text[at : block.start()])
            if block[2].lower() in PYTHON:
                self._code(block[3])
            else:
                self.line(block[0])
            at = block.end()
        self._prose(text[at:])

    def _prose(self, text: str) -> None:
        if text.strip():
            self.line(text.strip("\n"))

    def _code(self, code: str) -> None:
        shown = visible(encodable(code.strip("\n")))
        if not self.console.is_terminal:
            self.line(shown)
            return
        syntax = Syntax(
            shown, "python", theme="ansi_dark", background_color="default", word_wrap=True
        )
        self.console.print(Padding(syntax, (0, 0, 0, 2)))

    # the panel of what is not yet whole

    def _panel(self) -> Group:
        return Group(*self._growing(list(self._open.values())))

    def _growing(self, open: list[_Open]) -> Iterator[Text]:
        """As much of each open request as fits: its heading and the end of its text."""
        if not open:
            return
        room = max(self.console.height - 2, LEAST)
        shown = open[: max(room // LEAST, 1)]
        lines = room // len(shown) - 1
        for one in shown:
            seconds = time.monotonic() - one.since
            yield Text(f"... {one.title}, {seconds:.0f} s", "bold cyan")
            yield from self._tail(one.text, lines)
        if len(open) > len(shown):
            yield Text(f"and {len(open) - len(shown)} more", "dim")

    def _tail(self, text: str, lines: int) -> Iterator[Text]:
        """The last lines of a text."""
        width = self.console.width
        end = Text(visible(encodable(text[-lines * width :])), "dim", overflow="fold")
        if end.plain.strip():
            yield from list(end.wrap(self.console, width))[-lines:]


# why a reply is unusable, by the notes of agents
_UNUSABLE = {
    "empty": "it is empty",
    "truncated": "it hit the limit of tokens before what the agent needs",
}


def _note(note: Note) -> str:
    """A note on one line."""
    if note.text is not None:
        text = plain(note.text, 200)
    else:
        text = "no answer" if note.kind in ("draft", "candidate", "vote", "choice") else ""
    share = note.kind == "vote" and note.value is not None
    votes = f" ({100 * (note.value or 0):.0f} % of the votes)" if share else ""
    role = f" (by the {plain(note.role, 40)})" if note.role else ""
    branch = f" [{'.'.join(map(str, note.branch))}]" if note.branch else ""
    kind = note.kind
    if kind == "lost":
        kind, text = "unusable reply", _UNUSABLE.get(text, text)
    return f"{kind}{branch}: {text}{votes}{role}"
