"""The environment of a run: versions, machine and commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from slm_math.answers import grader_version


def environment() -> dict[str, Any]:
    """Versions, machine and commit; no environment variables."""
    packages = ("slm-math", "torch", "transformers", "lightning", "peft", "sympy", "math-verify")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": _threads(),
        "processor": _processor(),
        "memory_gb": _memory(),
        "gpus": _gpus(),
        "versions": {name: _version(name) for name in packages},
        "grader": grader_version(),
        "commit": _commit(),
        "command": sys.argv[0].rpartition("/")[2],
    }


def _processor() -> str | None:
    info = Path("/proc/cpuinfo")
    text = info.read_text(errors="replace") if info.is_file() else ""
    return next(
        (
            line.partition(":")[2].strip()
            for line in text.splitlines()
            if line.startswith("model name")
        ),
        None,
    )


def _memory() -> float | None:
    names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
    if "SC_PHYS_PAGES" not in names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _threads() -> int | None:
    """CPU threads of torch; None in commands that do not use it."""
    torch = sys.modules.get("torch")
    return None if torch is None else torch.get_num_threads()


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")  # commands that do not use torch must not load it
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the source tree that this package runs from, if it is one."""
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None  # an installed package may lie in a repository of another project
    changed = _git("status", "--porcelain", "--untracked-files=no", "..")
    return f"{_git('rev-parse', 'HEAD')}{' with changes' if changed else ''}"


def _git(*arguments: str) -> str | None:
    """The output of a git command in this folder; None if git fails or is not installed."""
    options: dict[str, Any] = {
        "cwd": Path(__file__).parent,
        "capture_output": True,
        "text": True,
        "timeout": 5,
    }
    try:
        result = subprocess.run(["git", *arguments], check=False, **options)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
