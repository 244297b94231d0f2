"""Which walls there are on this machine: three tiers, tried in order, each believed only after its
canaries.

A: bubblewrap (namespaces of its own, a file system with Python in it and nothing else), Landlock,
seccomp. B: Landlock and seccomp. Works without root and without user namespaces, in Docker and
Kubernetes. C: seccomp alone. Enough, since a program may open no file on any tier.
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
TRIES = 3  # of a start that the machine spoils
WAYS_OUT = (
    "Two ways out: let a Linux machine run them (there: `slm-math sandbox`; here: "
    "slm_math.sandbox.RemoteSandbox with "
    'its url), or, if you trust the model with everything that you can do yourself, tier="unsafe".'
)


@dataclass(frozen=True)
class Packages:
    """What programs may import: (name, folder it lies in), further modules to load at once,
    readable paths or None.
    """

    folders: tuple[tuple[str, str], ...]
    modules: tuple[str, ...]
    readable: tuple[str, ...] | None


def packages(allow_imports: Sequence[str]) -> Packages:
    """The usual libraries, as far as they are installed, and those of `allow_imports`, which must
    be.

    The folders of the latter are readable where Landlock can confine reading to them. Raises
    SandboxError.
    """
    folders: dict[str, str] = {}
    for name in preload.LIBRARIES:
        if home := _home(name):
            folders[name] = str(home.parent)
    readable: list[str] = []
    if isinstance(allow_imports, str):
        raise SandboxError(f"allow_imports is a list of packages: [{allow_imports}]")
    for module in allow_imports:
        name = module.partition(".")[0]
        home = _home(name)
        if home is None:
            raise SandboxError(
                f"allow_imports names {module!r}: there is no package {name!r} here; install it"
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
    """Folders of this host that nothing shown to a model names, longest first."""
    own = {
        str(Path(__file__).parent),
        sysconfig.get_path("stdlib"),
        *(folder for _, folder in wanted.folders),
    }
    return sorted({*own, sys.base_prefix, sys.prefix} - {"/", "/usr"}, key=len, reverse=True)


def unsupported() -> str | None:
    """One line saying why no tier can work on this system, or None."""
    system, machine = platform.system(), platform.machine()
    if system == "Linux" and machine in boundary.ARCHITECTURES:
        return None
    known = " or ".join(boundary.ARCHITECTURES)
    return (
        f"a model's programs can be confined on Linux on {known} only (this is {system} on "
        f"{machine}). {WAYS_OUT}"
    )


def start(tier: str, wanted: Packages, limits: Limits) -> Worker:
    """A new worker of a tier that has resisted its canaries. Raises SandboxError saying why there
    is none.
    """
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
    environment = {
        "PYTHONHASHSEED": "0",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "LC_ALL": "C",
    }
    if libraries := os.environ.get("LD_LIBRARY_PATH"):  # the interpreter itself may need it
        environment["LD_LIBRARY_PATH"] = libraries
    # -I would ignore PYTHONHASHSEED; there is nothing else in the environment to be ignored
    python = [
        _python(),
        "-S",
        "-s",
        "-P",
        "-B",
        "-X",
        "utf8",
        str(Path(__file__).with_name("zygote.py")),
    ]
    command = [*_bubblewrap(wanted), *python] if namespaces else python
    why = ""
    for _ in range(TRIES):
        worker = None
        try:
            worker = Worker(command, environment, settings)
            test(worker, limits, readable is not None, namespaces)
            return worker
        except Lost as error:  # says nothing about the walls
            why = str(error)
            if worker is not None:
                worker.close()
        except BaseException:
            if worker is not None:
                worker.close()
            raise
    raise SandboxError(why)


def test(worker: Worker, limits: Limits, reading: bool, namespaces: bool) -> None:
    """Raises SandboxError when a canary gets through or an innocent program does not run, Lost when
    it was lost.
    """
    code = canaries.program(platform.machine(), reading, namespaces, limits.memory_mb << 20)
    seconds = 60.0
    outcome = worker.run({"code": code, "earlier": [], "value": 100}, limits, seconds, 2 * seconds)
    could = outcome.stdout.decode("utf-8", "replace").splitlines()
    stands = could[-1:] == [canaries.CONTROL]
    if could := could[:-1] if stands else could:
        raise SandboxError(f"a program could {', '.join(could)}")
    if outcome.killed_from_outside(seconds):
        raise Lost("killed from outside")
    if not stands:
        what = (
            outcome.report.decode("utf-8", "replace").replace("\0", " ").strip()
            or f"status {outcome.status}"
        )
        raise SandboxError(f"a harmless program did not run: {what}")


def _home(name: str) -> Path | None:
    """The folder of an installed package, or where it would be for a module of one file."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    return (
        Path(spec.origin).parent
        if spec.submodule_search_locations
        else Path(spec.origin).with_name(name)
    )


def _places(name: str, folder: str) -> list[str]:
    """Where a package lies, with the libraries that wheels put beside it; or a
    module of one file.
    """
    places = (Path(folder, name), Path(folder, f"{name}.libs"), Path(folder, f"{name}.py"))
    return [str(place) for place in places if place.exists()]


def _python() -> str:
    """The interpreter itself: what a virtual environment adds is not needed."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _system() -> list[str]:
    """The standard library and the system's own libraries."""
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
    """The command in front of the interpreter. Raises SandboxError where there is no bubblewrap."""
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
