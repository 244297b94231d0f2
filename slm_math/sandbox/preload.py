"""Prepare the modules that programs can import. Programs themselves cannot read files.

Before the first program starts, this module loads the libraries, the parts of them that mathematics
often uses, and the useful compiled modules of the standard library. It keeps the code of all other
Python modules of these packages in memory, where it is run when a program imports the module.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.machinery
import importlib.util
import marshal
import mmap
import os
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, ModuleType

LIBRARIES = ("sympy", "mpmath", "numpy")
# Modules that are loaded beforehand because many programs use them. Rarer modules stay in memory as
# code, since each loaded page makes every fork slower.
_OFTEN = """
    sympy.abc sympy.assumptions.ask
    sympy.assumptions.handlers.calculus sympy.assumptions.handlers.common
    sympy.assumptions.handlers.matrices sympy.assumptions.handlers.ntheory
    sympy.assumptions.handlers.order sympy.assumptions.handlers.sets
    sympy.assumptions.lra_satask sympy.assumptions.satask sympy.assumptions.wrapper
    sympy.combinatorics sympy.combinatorics.galois
    sympy.concrete.delta sympy.discrete.recurrences sympy.geometry
    sympy.integrals.heurisch sympy.integrals.manualintegrate sympy.integrals.risch
    sympy.logic.algorithms.dpll2 sympy.ntheory sympy.polys.dispersion sympy.printing.codeprinter
    sympy.sets.handlers.add sympy.sets.handlers.functions sympy.sets.handlers.issubset
    sympy.sets.handlers.mul sympy.sets.handlers.power
    sympy.sets.setexpr sympy.solvers.diophantine sympy.interactive.printing
    numpy.fft numpy.linalg numpy.polynomial numpy.random numpy.ma
    array ast bisect calendar cmath collections copy csv datetime decimal dataclasses enum
    fractions functools heapq inspect io itertools json locale math numbers operator pprint queue
    random re secrets statistics string textwrap traceback types typing _strptime
    encodings.ascii encodings.latin_1 encodings.utf_8 encodings.unicode_escape encodings.idna
""".split()  # noqa: SIM905
_UNUSED = frozenset((
    "test", "tests", "benchmarks", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip",
    "site-packages", "dist-packages", "__pycache__", "pygletplot",
))  # fmt: skip
# Compiled modules that are left out, as each one makes every fork a little slower: they have no use
# in mathematics, or there is a version in Python.
_COMPILED_OUT = """
    _test _tkinter _curses readline _dbm _gdbm _xx xx _ssl _sqlite3 nis _codecs_ _hashlib _lsprof
    _crypt _bz2 _lzma audioop ossaudiodev spwd syslog termios _multibytecodec
""".split()  # noqa: SIM905


def load(packages: Sequence[tuple[str, str]], more: Iterable[str], readable: bool) -> None:
    """Load all modules.

    `packages` are pairs (name, parent folder), `more` are further modules to load. Raises
    ImportError if one of them does not load; a usual module that this version of a library lacks is
    skipped. With `readable`, modules of `packages` can also be loaded from disk later.
    """
    folders = [(os.path.join(place, name), f"{name}.") for name, place in packages]
    folders.append((os.path.dirname(os.__file__), ""))
    packed = Packed(
        module
        for folder, prefix in folders
        if os.path.isdir(folder)
        for module in _modules(folder, prefix)
    )
    compiled = [place for place in sys.path if place.endswith("lib-dynload")]
    finder = Folders(dict(packages))
    sys.meta_path.append(finder)
    for place in compiled:
        for file in os.listdir(place):
            name = file.partition(".")[0]
            if not name.startswith(tuple(_COMPILED_OUT)):
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
    for name in (*(name for name, _ in packages), *more):
        importlib.import_module(name)
    for name in _OFTEN:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    sys.path[:] = []
    sys.path_importer_cache.clear()
    sys.meta_path[:] = [
        importlib.machinery.BuiltinImporter,
        importlib.machinery.FrozenImporter,
        packed,
    ]
    if readable:
        sys.meta_path.append(finder)
    _warm()


def settle() -> None:
    """Fix the seeds of all sources of randomness, and hide the host's name.

    After this, the output of a program depends on its text alone.
    """
    random.seed(0)
    # the seed of generators that are made without one; numpy and `secrets` get theirs from
    # `_urandom`
    random.Random.__init__.__defaults__ = (0,)
    random.Random.seed.__defaults__ = (0, 2)
    random.__dict__["_urandom"] = os.__dict__["urandom"] = random.Random(0).randbytes
    atexit._clear()  # programs must not run the exit functions of libraries
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)
    if own := sys.modules.get("sympy.core.random"):
        own.seed(0)
    import platform

    # a library may have cached the names of this host and of its kernel
    platform.__dict__["_uname_cache"] = platform.uname_result(
        "Linux", "", "", "", platform.machine()
    )
    platform.__dict__["_platform_cache"] = {}


def use_huge_pages() -> None:
    """Gather the memory of all objects in huge pages where the kernel can (Linux 6.1 on).

    A fork and the end of a child take time for each page. A program that changes an object copies
    a small page as before.
    """
    collapse, bits = 25, 21  # MADV_COLLAPSE; the size of a huge page, 2 MiB
    madvise = ctypes.CDLL(None).madvise
    # /proc, which would show where memory is, does not exist everywhere
    for place in {id(each) >> bits for each in gc.get_objects()}:
        # the kernel refuses places that are in use for something else, too
        madvise(ctypes.c_void_p(place << bits), ctypes.c_size_t(1 << bits), collapse)


class Folders:
    """An import finder for a few packages, each in its own parent folder."""

    def __init__(self, folders: dict[str, str]) -> None:
        self.folders = folders

    def find_spec(
        self, name: str, path: object, target: object = None, /
    ) -> importlib.machinery.ModuleSpec | None:
        package = name.partition(".")[0]
        if package not in self.folders:
            return None
        return importlib.machinery.PathFinder.find_spec(name, path or [self.folders[package]])  # pyright: ignore


class Packed:
    """An import finder and loader for Python modules whose code is held in memory.

    The code of all modules is one memory mapping, so a fork copies none of it.
    """

    def __init__(self, modules: Iterable[tuple[str, bytes, bool]]) -> None:
        self.places: dict[str, tuple[int, int, bool]] = {}
        with open(os.memfd_create("modules"), "w+b") as file:
            for name, code, package in modules:
                start = file.tell()
                file.write(code)
                self.places[name] = start, start + len(code), package
            file.flush()
            # a private mapping: no program can change the code that the next one loads
            self.held = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)

    def find_spec(
        self, name: str, path: object, target: object = None, /
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self.places:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=self.places[name][2])  # pyright: ignore

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        start, end, _ = self.places[module.__name__]
        exec(_code(self.held[start:end], module.__name__), module.__dict__)


def _code(held: bytes, name: str) -> CodeType:
    """The code object of a module, from the content of its .pyc file or from its source."""
    if held[:4] == importlib.util.MAGIC_NUMBER:
        return marshal.loads(held[16:])
    return compile(held, f"<{name}>", "exec", dont_inherit=True)


def _modules(folder: str, prefix: str) -> Iterator[tuple[str, bytes, bool]]:
    """(name, code, whether it is a package) of every Python module in a folder and its packages."""
    if prefix:
        yield from _module(os.path.join(folder, "__init__.py"), prefix.rstrip("."), True)
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name, kind = os.path.splitext(entry.name)
        if name in _UNUSED or name == "__init__":
            continue
        if kind == ".py":
            yield from _module(entry.path, prefix + name, False)
        elif (
            not kind and entry.is_dir() and os.path.exists(os.path.join(entry.path, "__init__.py"))
        ):
            yield from _modules(entry.path, f"{prefix}{name}.")


def _module(path: str, name: str, package: bool) -> Iterator[tuple[str, bytes, bool]]:
    for place in (importlib.util.cache_from_source(path), path):
        with contextlib.suppress(OSError), open(place, "rb") as file:
            held = file.read()
            if place == path or held[:4] == importlib.util.MAGIC_NUMBER:
                yield name, held, package
                return


def _warm() -> None:
    """Do typical computations once, so that the libraries build the tables of their first use."""
    with contextlib.suppress(ImportError):
        import sympy

        x, y = sympy.symbols("x y")
        for act in (
            lambda: sympy.solve(x**2 - 3 * x + 1, x),
            lambda: sympy.solve([x + y - 3, x - y - 1], [x, y]),
            lambda: sympy.solveset(x**2 - 1, x, sympy.S.Reals),
            lambda: sympy.integrate(sympy.sin(x) * x, x),
            lambda: sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2),
            lambda: (
                sympy.latex(sympy.sqrt(x) / 2),
                sympy.pretty(sympy.sqrt(x) / 2),
                str(sympy.N(sympy.pi, 20)),
            ),
            lambda: (sympy.factorint(360), sympy.factor(x**2 - y**2), sympy.nsolve(x**2 - 2, 1)),
            lambda: sympy.Sum(x, (x, 1, y)).doit(),
            lambda: sympy.Sum(sympy.Rational(1, 3) ** x, (x, 0, sympy.oo)).doit(),
            lambda: sympy.integrate(1 / (1 + x**2), (x, 0, sympy.oo)),
            lambda: sympy.Matrix([[1, 2], [3, 4]]).eigenvals(),
        ):
            act()
