"""Run programs that a model wrote, each in a process of its own behind the walls of `boundary`.

A program cannot open or see a file, use the network, start a process or a thread, signal others,
see the environment, exceed its limits on time and memory, or pass anything on to the next program.
The sandbox does not protect against kernel bugs behind some fifty system calls, against side
channels of the processor, or against programs that use up their own limits.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import Any

from slm_math.sandbox import tiers
from slm_math.sandbox.errors import SandboxError
from slm_math.sandbox.jobs import Jobs, ProgramJob
from slm_math.sandbox.outcome import Limits, result
from slm_math.sandbox.unsafe import Unsafe
from slm_math.sandbox.worker import Lost, Stopped, Worker
from slm_math.types import RunResult

TRIES = 3  # attempts to run one program, each on a new worker, before an error is raised


class Sandbox(Jobs):
    """Runs Python programs in parallel, `workers` at a time, each worker with a thread of its own.

    Limits per program: `cpu_seconds` of processor time; `wall_seconds` from its start, for programs
    that sleep (by default twice the processor time plus 2 s); `memory_mb` MiB in addition to what
    the libraries use; `output_kb` KiB that are kept of each output, the beginning and the end of a
    longer one. A program that writes 80 times as much is stopped. If a program continues a session,
    the times hold for each request of the session.

    The same program gives the same output, because the hashes of text and random numbers have fixed
    seeds. The clock, and the order of sets of objects that are hashed by address, are not fixed.

    `tier` is "A", "B" or "C" (see `tiers`), "auto" for the first of them that works here, or
    "unsafe" for no walls at all. Programs can import the standard library, sympy, mpmath and numpy;
    `allow_imports` names further packages or modules ("scipy.optimize"), which are loaded
    beforehand. On tiers A and B, programs can then also read the folders of all these packages, of
    Python and of the system's libraries, and can see which files exist.

    Raises SandboxError if programs cannot be confined: in the constructor if the system does not
    support it, otherwise with the first program or in `start`.
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
        self.tier = tier  # "auto" is replaced by the tier of the first worker
        self._proven = False  # whether a worker of this tier has started here
        if tier == "unsafe":
            warnings.warn(
                'tier="unsafe": programs that the model writes run with all rights of this user, '
                "including its files and its network",
                stacklevel=2,
            )
        elif (reason := tiers.unsupported()) is not None:
            raise SandboxError(reason)
        self.allow_imports = tuple(allow_imports)
        self._packages = tiers.packages(allow_imports)
        self._hidden = tiers.hidden(self._packages)
        super().__init__(workers)

    def identity(self) -> dict[str, Any]:
        """The settings that can change a program's result."""
        return {
            **vars(self.limits),
            "allow_imports": list(self.allow_imports),
            "unsafe": self.tier == "unsafe",
        }

    def _perform(self, job: ProgramJob) -> RunResult:
        """Run a program; if the machine disturbed it, run it again on a new worker."""
        request, limits = job.request, self.limits
        cpu, wall = limits.cpu_seconds * request.turns, limits.wall_seconds * request.turns
        code = {"code": request.code, "earlier": request.earlier, "most": limits.flood + 1}
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
                if job.canceled:
                    break
                worker.expect()
                job.handle = worker
            try:
                outcome = worker.run(code, limits, cpu, wall)
                why = "killed from outside"
                if not outcome.killed_from_outside(cpu) or attempt == TRIES - 1 or job.canceled:
                    return result(outcome, limits, cpu=cpu, wall=wall, hidden=self._hidden)
            except Stopped:
                break
            except Lost as error:
                why = str(error)
            finally:
                with self._change:
                    job.handle = None
            self._leave()
        raise SandboxError(f"a program could not be run in {TRIES} attempts: {why}")

    def _interrupt(self, job: ProgramJob) -> None:
        if job.handle is not None:
            job.handle.stop()

    def _leave(self) -> None:
        """Close the worker of this thread: the kernel would end it with the thread."""
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
