"""`slm-math doctor`: what works on this machine, and how to fix the rest."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table
from rich.text import Text

from slm_math.engines import vllm_setup
from slm_math.extras import install
from slm_math.sandbox import SandboxError, tiers
from slm_math.sandbox.outcome import Limits

# (works, does not work, or None for a fact; the subject; the details)
Finding = tuple[bool | None, str, str]
_MARKS = {True: Text("ok", "green"), False: Text("no", "red"), None: Text("")}


def doctor() -> None:
    """Checks sandbox tiers, grader, torch and GPUs, vLLM, packages, data and memory.

    The exit status is 1 if programs of a model cannot be confined or the grader does not work.
    Missing training packages and GPUs do not change it.
    """
    console = Console()
    table = Table(title="slm-math doctor", title_justify="left", show_lines=False)
    for name in ("subject", "", "details"):
        table.add_column(name, overflow="fold")
    broken = False
    steps = {
        "machine": _machine,
        "sandbox": _sandbox,
        "grader": _grader,
        "training": _training,
        "data": _data,
    }
    for name, step in steps.items():
        with console.status(f"checking: {name}"):
            for works, subject, details in step():
                table.add_row(subject, _MARKS[works], Text(details))
                broken |= works is False and subject in ("sandbox", "grader")
        table.add_section()
    console.print(table)
    if broken:
        raise SystemExit(1)


def _machine() -> Iterator[Finding]:
    yield None, "slm-math", f"{version('slm-math')}, Python {platform.python_version()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    yield (
        None,
        "machine",
        f"{platform.system()} {platform.release()} on {platform.machine()}, {cores} cores{load}",
    )
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        facts = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        total, free = (int(facts[name].split()[0]) / 2**20 for name in ("MemTotal", "MemAvailable"))
        limit = _container_limit()
        inside = (
            f"; this container may use {limit / 2**30:.1f} GiB"
            if limit and limit / 2**30 < total
            else ""
        )
        yield None, "memory", f"{free:.1f} GiB free of {total:.1f}{inside}"
    yield None, "disk", f"{shutil.disk_usage('.').free / 2**30:.1f} GiB free in this folder"


def _container_limit() -> int | None:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text())
        except (OSError, ValueError):
            continue
    return None


def _sandbox() -> Iterator[Finding]:
    reason = tiers.unsupported()
    if reason is not None:
        yield False, "sandbox", reason
        return
    walls = {"A": "bubblewrap, Landlock, seccomp", "B": "Landlock, seccomp", "C": "seccomp"}
    packages, holding = tiers.packages(()), []
    for tier, names in walls.items():
        start = time.perf_counter()
        try:
            tiers.start(tier, packages, Limits(5, 12, 1024, 16)).close()
        except SandboxError as error:
            yield None, f"tier {tier}", f"{names}: does not hold here: {error}"
        else:
            holding.append(tier)
            seconds = time.perf_counter() - start
            yield (
                True,
                f"tier {tier}",
                f"{names}: resists its canaries; a worker starts in {seconds:.1f} s",
            )
    if holding:
        names = ", ".join(name for name, _ in packages.folders)
        yield (
            True,
            "sandbox",
            f"programs run on tier {holding[0]}, with {names} and the standard library",
        )
    else:
        yield False, "sandbox", f"a model's programs cannot be confined here. {tiers.WAYS_OUT}"


def _grader() -> Iterator[Finding]:
    from slm_math.answers import grade, grader_version

    start = time.perf_counter()
    works = (
        grade(r"\boxed{\sqrt{3+2\sqrt{2}}}", r"1+\sqrt{2}").correct
        and not grade(r"\boxed{2}", "3").correct
    )
    seconds = time.perf_counter() - start
    yield (
        works,
        "grader",
        f"version {grader_version()}; its algebra process answers after {seconds:.1f} s",
    )


def _training() -> Iterator[Finding]:
    installed = []
    for line in requires("slm-math") or ():
        requirement = Requirement(line)
        extra = next(
            (
                e
                for e in ("", "train", "quant")
                if not requirement.marker or requirement.marker.evaluate({"extra": e})
            ),
            None,
        )
        if extra is None or requirement.name in ("slm-math", "torch"):
            continue
        present = _version(requirement.name)
        if present is None:
            added = install(extra) if extra else "install slm-math anew"
            yield (
                (None if extra == "quant" else False),
                requirement.name,
                f"not installed: {added}",
            )
        elif not requirement.specifier.contains(present, prereleases=True):
            yield False, requirement.name, f"{present}, but {requirement.specifier} is needed"
        else:
            installed.append(f"{requirement.name} {present}")
    yield True, "packages", ", ".join(installed)
    yield from _torch()
    have, reason = vllm_setup.installed(), vllm_setup.refusal()
    yield (
        (None if have is None else reason is None),
        "vllm",
        f"{have}" if reason is None else f"{reason} (optional)",
    )


def _torch() -> Iterator[Finding]:
    if _version("torch") is None:
        yield False, "torch", f"not installed: {install('train')}"
        return
    try:
        import torch
    except (ImportError, OSError) as error:
        yield False, "torch", f"{_version('torch')} does not import: {error}"
        return
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA in this build"
    yield True, "torch", f"{torch.__version__}, {built}, {torch.get_num_threads()} CPU threads"
    if not torch.cuda.is_available():
        driver = shutil.which("nvidia-smi")
        yield (
            None,
            "GPU",
            "no GPU that torch can use" + (", but there is an NVIDIA driver" if driver else ""),
        )
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        card = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        kind = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: set precision 32-true"
        yield (
            True,
            "GPU",
            f"{card.name}, {free / 2**30:.1f} GiB free of {total / 2**30:.1f}, {kind}",
        )


def _data() -> Iterator[Finding]:
    try:
        from huggingface_hub import constants, try_to_load_from_cache
    except ImportError:
        yield None, "hub", "huggingface_hub is not installed: data come from local paths"
        return
    from slm_math.data import GSM8K, MATH, MATH500

    offline = ", offline (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else ""
    token = (
        "a token is set"
        if os.environ.get("HF_TOKEN") or Path(constants.HF_TOKEN_PATH).exists()
        else "no token"
    )
    yield None, "hub", f"cache {constants.HF_HUB_CACHE}, {token}{offline}"
    for source in (GSM8K(), MATH(), MATH500()):
        paths = [
            try_to_load_from_cache(
                file.repo, file.file, revision=file.revision, repo_type="dataset"
            )
            for file in source.hub_files()
        ]
        here = all(isinstance(path, str) for path in paths)
        yield (
            (True if here else None),
            source.name,
            "in the cache" if here else "not in the cache: read from the hub",
        )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
