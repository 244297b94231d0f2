"""Run programs without walls: each in a fresh interpreter, with all rights of this user."""

from __future__ import annotations

import contextlib
import marshal
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from slm_math.sandbox import child
from slm_math.sandbox.outcome import Limits, Outcome
from slm_math.sandbox.output import Kept
from slm_math.sandbox.worker import ERRORS, Lost
from slm_math.sandbox.zygote import BY_CLOCK, BY_ITSELF

_START = """
import importlib.util, os, resource, sys
report, job, cpu, output, folder = *map(int, sys.argv[1:5]), sys.argv[5]
resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
resource.setrlimit(resource.RLIMIT_FSIZE, (output, output))
def sibling(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(folder, name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
module = sibling("child")
module.REPORT, module.JOB, module.NOWHERE = report, job, os.open(os.devnull, os.O_WRONLY)
sys.argv[1:] = []
sibling("preload").settle()
module.main()
"""


class Unsafe:
    """A replacement for `Worker` with limits on time and output, but not on memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def run(
        self, job: dict[str, Any], limits: Limits, cpu_seconds: float, wall_seconds: float
    ) -> Outcome:
        start = time.monotonic()
        with contextlib.ExitStack() as stack:
            held, report, stdout, stderr = (
                stack.enter_context(tempfile.TemporaryFile()) for _ in range(4)
            )
            held.write(marshal.dumps(job))
            held.seek(0)
            files = [report.fileno(), held.fileno()]
            numbers = [*files, math.ceil(cpu_seconds) + 1, limits.flood + 1]
            command = [sys.executable, "-c", _START, *map(str, numbers), str(Path(__file__).parent)]
            with self._lock:
                self._process = process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    pass_fds=files,
                    cwd=stack.enter_context(tempfile.TemporaryDirectory()),
                    env={**os.environ, "PYTHONHASHSEED": "0"},
                    start_new_session=True,
                )
            why = BY_ITSELF
            try:
                process.wait(wall_seconds)
            except subprocess.TimeoutExpired:
                why = BY_CLOCK
                self.stop()
                process.wait()
            with contextlib.suppress(ProcessLookupError):  # processes that the program started
                os.killpg(process.pid, signal.SIGKILL)
            outputs = []
            for file in (stdout, stderr, report):
                file.seek(0)
                most = max(limits.output, ERRORS if file is report else 0)
                outputs.append(Kept(most, file.read()))
        out, err, written = (each.text for each in outputs)
        status = process.returncode
        if not written.startswith(child.READY) and why == BY_ITSELF:
            raise Lost(f"the interpreter ended before it ran the program (status {status})")
        return Outcome(
            status=status,
            cpu=0.0,
            seconds=time.monotonic() - start,
            why=why,
            stdout=out,
            stderr=err,
            report=written[1:],
            written=sum(each.size for each in outputs),
        )

    def expect(self) -> None:
        self._process = None

    def stop(self) -> None:
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        self.stop()
