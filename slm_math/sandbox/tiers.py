"""The tiers: the sets of walls that a machine may support. Each is used only after its canary ran.

- A: bubblewrap (own namespaces, a file system with nothing but Python), Landlock and seccomp.
- B: Landlock and seccomp. Works without root and without user namespaces, also in Docker and
  Kubernetes.
- C: seccomp alone. This suffices, since programs cannot open files on any tier.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slm_math.sandbox import boundary, canaries, preload, zygote
from slm_math.sandbox.errors import SandboxError
from slm_math.sandbox.outcome import Limits
from slm_math.sandbox.worker import Lost, Worker

TIERS = ("A", "B", "C")
TRIES = 3  # attempts to start a worker if the machine kills it
WAYS_OUT = (
    "Either run the programs on a Linux machine (start `slm-math sandbox` there and use "
    "slm_math.sandbox.RemoteSandbox with its url here), or, if you trust the model with everything "
    'that you can do yourself, set tier="unsafe".'
)


@dataclass(frozen=True)
class Packages:
    """The packages that programs may import."""

    folders: tuple[tuple[str, str], ...]  # (name, parent folder)
    modules: tuple[str, ...]  # further modules to load beforehand
    readable: tuple[str, ...] | None  # paths that programs may read; None for no reading at all


def packages(allow_imports: Sequence[str]) -> Packages:
    """The usual libraries that are installed, and the packages of `allow_imports`.

    With `allow_imports`, programs may read the folders of all these packages if Landlock can
    confine reading to them. Raises SandboxError if a package of `allow_imports` is not installed.
    """
    folders: dict[str, str] = {}
    for name in preload.LIBRARIES:
        if home := _home(name):
            folders[name] = str(home.parent)
    readable: list[str] = []
    if isinstance(allow_imports, str):
        raise SandboxError(f"allow_imports must be a list of packages, such as [{allow_imports}]")
    for module in allow_imports:
        name = module.partition(".")[0]
        home = _home(name)
        if home is None:
            raise SandboxError(
                f"allow_imports names {module!r}, but the package {name!r} is not installed"
            )
        folders[name] = str(home.parent)
    if allow_imports:
        readable = [
            place for name, folder in folders.items() for place in _places(name, folder)
        ] + _system()
    return Packages(
        tuple(folders.items()), tuple(allow_imports), tuple(readable) if allow_imports else None
    )


def hidden(wanted: Packages) -> list[str]:
    """The folders of this host that no text for a model may name, longest first."""
    own = {
        str(Path(__file__).parent),
        sysconfig.get_path("stdlib"),
        *(folder for _, folder in wanted.folders),
    }
    return sorted({*own, sys.base_prefix, sys.prefix} - {"/", "/usr"}, key=len, reverse=True)


def unsupported() -> str | None:
    """One line that says why no tier can work on this system; None if one may work."""
    system, machine = platform.system(), platform.machine()
    if system == "Linux" and machine in boundary.ARCHITECTURES:
        return None
    known = " or ".join(boundary.ARCHITECTURES)
    return (
        f"a model's programs can be confined on Linux on {known} only; this is {system} on "
        f"{machine}. {WAYS_OUT}"
    )


def start(tier: str, wanted: Packages, limits: Limits) -> Worker:
    """A new worker of a tier that has passed its canary. Raises SandboxError with the reason."""
    namespaces, landlock = tier == "A", tier in ("A", "B")
    readable = wanted.readable if landlock else None
    settings: dict[str, Any] = {
        "packages": wanted.folders,
        "modules": wanted.modules,
        "readable": readable,
        "landlock": landlock,
        "memory": limits.memory_mb << 20,
        "parent": 0 if namespaces else os.getpid(),
    }
    environment = {"PYTHONHASHSEED": "0", "LC_ALL": "C"}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    if libraries := os.environ.get("LD_LIBRARY_PATH"):  # the interpreter itself may need it
        environment["LD_LIBRARY_PATH"] = libraries
    # not -I, which would ignore PYTHONHASHSEED
    zygote_file = str(Path(__file__).with_name("zygote.py"))
    python = [_python(), *("-S", "-s", "-P", "-B", "-X", "utf8"), zygote_file]
    command = [*_bubblewrap(wanted), *python] if namespaces else python
    why = ""
    for _ in range(TRIES):
        worker = None
        try:
            worker = Worker(command, environment, settings)
            test(worker, limits, readable is not None, namespaces)
            return worker
        except Lost as error:  # this says nothing about the walls
            why = str(error)
            if worker is not None:
                worker.close()
        except BaseException:
            if worker is not None:
                worker.close()
            raise
    raise SandboxError(why)


def test(worker: Worker, limits: Limits, reading: bool, namespaces: bool) -> None:
    """Run the canary in a worker.

    Raises SandboxError if a forbidden action succeeded or the harmless one failed, and Lost if the
    machine killed the canary.
    """
    code = canaries.program(platform.machine(), reading, namespaces, limits.memory_mb << 20)
    seconds = 60.0
    outcome = worker.run({"code": code, "earlier": [], "most": 100}, limits, seconds, 2 * seconds)
    lines = outcome.stdout.splitlines()
    control_passed = lines[-1:] == [canaries.CONTROL]
    if breaches := lines[:-1] if control_passed else lines:
        raise SandboxError(f"a program could {', '.join(breaches)}")
    if outcome.killed_from_outside(seconds):
        raise Lost("killed from outside")
    if not control_passed:
        report = outcome.report.replace("\0", " ").strip()
        reason = report or f"status {outcome.status}"
        raise SandboxError(f"a harmless program did not run: {reason}")


def _home(name: str) -> Path | None:
    """The folder of an installed package; for a module of one file, its path without .py."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    return origin.parent if spec.submodule_search_locations else origin.with_name(name)


def _places(name: str, folder: str) -> list[str]:
    """The existing paths of a package or module, and of the libraries that its wheel installed."""
    places = (Path(folder, name), Path(folder, f"{name}.libs"), Path(folder, f"{name}.py"))
    return [str(place) for place in places if place.exists()]


def _python() -> str:
    """The path of the interpreter itself, without its virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _system() -> list[str]:
    """The paths of the standard library and of the system's libraries."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    parts = [
        str(path)
        for path in stdlib.iterdir()
        if path.name not in ("site-packages", "dist-packages")
    ]
    multiarch = sysconfig.get_config_var("MULTIARCH") or "."
    libraries = ["/lib64", "/usr/lib64", f"/lib/{multiarch}", f"/usr/lib/{multiarch}"]
    return [*parts, *libraries, *glob.glob(f"{sys.base_prefix}/lib/*.so*")]


def _bubblewrap(wanted: Packages) -> list[str]:
    """The bubblewrap command, to be put before that of the interpreter. Raises SandboxError."""
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError("bubblewrap (bwrap) is not installed")
    own = Path(__file__).parent
    visible = [
        _python(),
        *_system(),
        *(str(own / f"{name}.py") for name in ("zygote", "boundary", "child", "preload")),
    ]
    visible += [place for name, folder in wanted.folders for place in _places(name, folder)]
    binds = [word for path in dict.fromkeys(visible) for word in ("--ro-bind-try", path, path)]
    null = ("--dev-bind", zygote.NOWHERE, zygote.NOWHERE)
    walls = ("--unshare-all", "--die-with-parent", "--cap-drop", "ALL")
    return [program, *walls, *binds, *null, "--remount-ro", "/", "--chdir", "/", "--"]
