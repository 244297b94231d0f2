"""Programs without walls, for systems that offer none: a fresh interpreter each, with this user's rights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from slm_math.sandbox.outcome import Limits, Outcome
from slm_math.sandbox.zygote import BY_CLOCK, BY_ITSELF

_START = """
import importlib.util, os, random, sys
report, job, child = sys.argv[1:]
spec = importlib.util.spec_from_file_location("child", child)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.REPORT, module.JOB = int(report), int(job)
sys.argv[1:] = []
random.seed(0)
module.main()
"""


class Unsafe:
    """Takes a worker's place. The wall clock is the only limit that is kept, and output is cut afterwards."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, job: dict[str, Any], limits: Limits, cpu_seconds: float, wall_seconds: float) -> Outcome:
        start = time.monotonic()
        with (
            tempfile.TemporaryFile() as held,
            tempfile.TemporaryFile() as report,
            tempfile.TemporaryDirectory() as folder,
        ):
            held.write(json.dumps(job).encode())
            held.seek(0)
            files = [report.fileno(), held.fileno()]
            command = [sys.executable, "-c", _START, *map(str, files), str(Path(__file__).with_name("child.py"))]
            with self._lock:
                self._process = process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=files,
                    cwd=folder,
                    env={**os.environ, "PYTHONHASHSEED": "0"},
                    start_new_session=True,
                )
            why = BY_ITSELF
            try:
                stdout, stderr = process.communicate(timeout=wall_seconds)
            except subprocess.TimeoutExpired:
                why = BY_CLOCK
                self.stop()
                stdout, stderr = process.communicate()
            report.seek(0)
            said = report.read()
        return Outcome(process.returncode, 0.0, time.monotonic() - start, why, stdout, stderr, said[1:])

    def stop(self) -> None:
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        self.stop()
