"""Runs programs that a model wrote: each in a process of its own behind the walls of `boundary`.

What a program cannot do: open or see a file, use the network, start a process or thread, signal
others, see the environment, outlive its time, use more memory than its share, or pass anything on
to the next program. Not stopped: bugs in the kernel behind some fifty system calls, side channels
of the processor, and using up its own share.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import Any

from slm_math.sandbox import tiers
from slm_math.sandbox.errors import SandboxError
from slm_math.sandbox.jobs import Job, Jobs
from slm_math.sandbox.outcome import Limits, result
from slm_math.sandbox.unsafe import Unsafe
from slm_math.sandbox.worker import Lost, Stopped, Worker
from slm_math.types import RunResult

TRIES = 3  # of one program, each on a new worker, before the machine is held to be broken


class Sandbox(Jobs):
    """Runs Python programs side by side, `workers` at a time, each worker with a thread of its own.

    Limits per program: `cpu_seconds` of processor time, `wall_seconds` from its start (for
    sleepers; default twice the processor time and 2 s more), `memory_mb` MiB beside what the
    libraries take, `output_kb` KiB of output; for a program with a session behind it, the times are
    for each request of the session. The same program gives the same output: hashes of text and
    random numbers have fixed seeds (not fixed: the clock, and the order of a set of things that are
    hashed by address).

    `tier` is "A", "B", "C" (see `tiers`), "auto" for the first of them that holds here, or
    "unsafe": no walls at all. Programs import the standard library, sympy, mpmath and numpy;
    `allow_imports` names further packages or modules ("scipy.optimize"). They are loaded
    beforehand; on tiers A and B programs can then also read the folders of all these packages, of
    Python and of the system's libraries, and see of any file that it exists.

    Raises SandboxError where programs cannot be confined: in the constructor when the system says
    so, otherwise with the first program or in `start`.
    """

    def __init__(
        self,
        workers: int = 2,
        cpu_seconds: float = 5,
        wall_seconds: float | None = None,
        memory_mb: int = 1024,
        output_kb: int = 16,
        tier: str = "auto",
        allow_imports: Sequence[str] = (),
    ) -> None:
        if tier not in ("auto", *tiers.TIERS, "unsafe"):
            raise ValueError(
                f'the tier of a sandbox is "auto", "A", "B", "C" or "unsafe", not {tier!r}'
            )
        self.limits = Limits(
            cpu_seconds,
            2 * cpu_seconds + 2 if wall_seconds is None else wall_seconds,
            memory_mb,
            output_kb,
        )
        self.tier = tier  # from the first program on the one that was found
        self._proven = False  # whether a worker of this tier has started here
        if tier == "unsafe":
            warnings.warn(
                'tier="unsafe": programs that the model writes run with all rights of this user, '
                "with its files and "
                "its network",
                stacklevel=2,
            )
        elif (reason := tiers.unsupported()) is not None:
            raise SandboxError(reason)
        self.allow_imports = tuple(allow_imports)
        self._packages = tiers.packages(allow_imports)
        self._hidden = tiers.hidden(self._packages)
        super().__init__(workers)

    def identity(self) -> dict[str, Any]:
        """What can change a program's result."""
        return {
            **vars(self.limits),
            "allow_imports": list(self.allow_imports),
            "unsafe": self.tier == "unsafe",
        }

    def _perform(self, job: Job) -> RunResult:
        """Run a program; what the machine did to it is tried again on a new worker."""
        cpu, wall = (
            self.limits.cpu_seconds * job.request.turns,
            self.limits.wall_seconds * job.request.turns,
        )
        code = {
            "code": job.request.code,
            "earlier": job.request.earlier,
            "value": self.limits.output + 1,
        }
        why = ""
        for attempt in range(TRIES):
            try:
                worker = self._own.worker = getattr(self._own, "worker", None) or self._new_worker()
            except SandboxError as error:
                if not self._proven or attempt == TRIES - 1:
                    raise
                why = str(error)
                continue
            with self._change:
                if job.cancelled:
                    break
                worker.expect()
                job.handle = worker
            try:
                outcome = worker.run(code, self.limits, cpu, wall)
                why = "killed from outside"
                if not outcome.killed_from_outside(cpu) or attempt == TRIES - 1 or job.cancelled:
                    return result(outcome, self.limits, cpu, wall, self._hidden)
            except Stopped:
                break
            except Lost as error:
                why = str(error)
            finally:
                with self._change:
                    job.handle = None
            self._leave()
        raise SandboxError(f"a program could not be run, {TRIES} times over: {why}")

    def _interrupt(self, job: Job) -> None:
        if job.handle is not None:
            job.handle.stop()

    def _leave(self) -> None:
        """Each thread has a worker, and outlives it: the kernel ends it when the thread that
        started it ends.
        """
        if worker := getattr(self._own, "worker", None):
            worker.close()
        self._own.worker = None

    def _reset(self) -> None:
        super()._reset()
        self._own, self._choice = threading.local(), threading.Lock()

    def _new_worker(self) -> Worker | Unsafe:
        if self.tier == "unsafe":
            return Unsafe()
        with self._choice:
            if self.tier != "auto":
                return self._tested(self.tier)
            reasons = []
            for tier in tiers.TIERS:
                try:
                    worker = tiers.start(tier, self._packages, self.limits)
                except SandboxError as error:
                    reasons.append(f"{tier}: {error}")
                else:
                    self.tier, self._proven = tier, True
                    return worker
        raise SandboxError(
            f"a model's programs cannot be confined here ({'; '.join(reasons)}). {tiers.WAYS_OUT}"
        )

    def _tested(self, tier: str) -> Worker:
        try:
            worker = tiers.start(tier, self._packages, self.limits)
            self._proven = True
            return worker
        except SandboxError as error:
            raise SandboxError(f"a worker of tier {tier} did not start: {error}") from error
