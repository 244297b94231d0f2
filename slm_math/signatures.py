"""The classes that configs name and their options, read from source files: what would take seconds
to import is known in milliseconds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = "slm_math"


@dataclass(frozen=True)
class Module:
    """A source file: its classes and functions, and where its imported names are from."""

    name: str
    classes: dict[str, ast.ClassDef]
    functions: dict[str, ast.FunctionDef]
    imported: dict[str, tuple[str, str]]  # name -> module, name there
    other: frozenset[str]  # variables and modules
    literals: dict[str, ast.expr]  # names of Literal[...]


@dataclass(frozen=True)
class Option:
    """An option of a class, and how its source describes the type."""

    annotation: ast.expr | None
    module: Module


@dataclass(frozen=True)
class Signature:
    """A class and its options. `is_open`: it may have others, since not all of it was found."""

    name: str
    module: str
    options: dict[str, Option] = field(hash=False, compare=False)
    bases: frozenset[str] = frozenset()  # names of all classes that it builds on
    is_open: bool = False


def signature(path: str) -> Signature | None:
    """The class at a dotted path of this project or an installed package; None if its source has no
    such class.
    """
    module, _, name = path.rpartition(".")
    found = _defined(module, name)
    return _signature(*found) if found else None


def has_name(path: str) -> bool:
    """Whether a module at a dotted path has such a name, whatever it is."""
    name, _, last = path.rpartition(".")
    module = read(name)
    if module is None:
        return False
    places = (module.classes, module.functions, module.imported, module.other)
    return any(last in place for place in places)


@cache
def read(name: str) -> Module | None:
    """A module by its dotted name; None if there is no file."""
    file = _file(name)
    if file is None:
        return None
    classes: dict[str, ast.ClassDef] = {}
    functions: dict[str, ast.FunctionDef] = {}
    imported: dict[str, tuple[str, str]] = {}
    other: set[str] = set()
    literals: dict[str, ast.expr] = {}
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in _statements(ast.parse(file.read_bytes()).body):
        if isinstance(node, ast.ClassDef):
            classes[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                parents = package.split(".")
                kept = parents[: len(parents) - node.level + 1]
                source = ".".join([*kept, *filter(None, [source])])
            imported |= {alias.asname or alias.name: (source, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            other |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef):
            functions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {each.id for each in targets if isinstance(each, ast.Name)}
            other |= names
            if node.value is not None and _is_literal(node.value):
                literals |= dict.fromkeys(names, node.value)
    others = frozenset(other)
    return Module(name, classes, functions, imported=imported, other=others, literals=literals)


def _is_literal(node: ast.expr) -> bool:
    return isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal"


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, also those under `if` and `try`."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _statements([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            yield from _statements([*node.body, *node.orelse, *node.finalbody])


def _file(name: str) -> Path | None:
    top, *rest = name.split(".")
    if not all(part.isidentifier() for part in (top, *rest)):
        return None
    if top == OURS:
        base = ROOT / top
    else:
        spec = find_spec(top)  # of a top-level package, which imports nothing
        if spec is None or spec.origin is None or not spec.submodule_search_locations:
            return None
        base = Path(spec.origin).parent
    path = base.joinpath(*rest)
    files = (path / "__init__.py", path.with_suffix(".py") if rest else path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def _defined(module: str, name: str, depth: int = 0) -> tuple[Module, ast.ClassDef] | None:
    """Where a class is defined that a module defines or imports."""
    found = read(module)
    if found is None or depth > 8:
        return None
    if name in found.classes:
        return found, found.classes[name]
    if name in found.imported:
        return _defined(*found.imported[name], depth + 1)
    return None


def resolved(name: str, module: Module) -> Signature | None:
    """The class that a name stands for in a module."""
    found = _defined(module.name, name)
    return _signature(*found) if found else None


_SIGNATURES: dict[tuple[str, str], Signature] = {}


def _signature(module: Module, node: ast.ClassDef) -> Signature:
    key = (module.name, node.name)
    if key not in _SIGNATURES:
        _SIGNATURES[key] = Signature(node.name, module.name, {}, is_open=True)  # in a circle
        _SIGNATURES[key] = _made(module, node)
    return _SIGNATURES[key]


def _made(module: Module, node: ast.ClassDef) -> Signature:
    names = [base.id if isinstance(base, ast.Name) else None for base in node.bases]
    found = [resolved(name, module) if name else None for name in names]
    bases = [base for base in found if base is not None]
    above = {name for base in bases for name in (base.name, *base.bases)}
    inherited: dict[str, Option] = {}
    for base in reversed(bases):
        inherited |= base.options
    is_open = any(
        base is None or base.is_open for base, name in zip(found, names) if name not in _PLAIN
    )
    init = next((each for each in node.body if _is_init(each)), None)
    options: dict[str, Option] = {}
    if isinstance(init, ast.FunctionDef):
        options = {
            argument.arg: Option(argument.annotation, module)
            for argument in [*init.args.args[1:], *init.args.kwonlyargs]
        }
        if init.args.kwarg or init.args.vararg:
            options = inherited | options
        else:
            is_open = False
    elif any("dataclass" in ast.dump(each) for each in node.decorator_list):
        options = inherited | {
            each.target.id: Option(each.annotation, module)
            for each in node.body
            if isinstance(each, ast.AnnAssign)
            and isinstance(each.target, ast.Name)
            and "ClassVar" not in ast.dump(each.annotation)
        }
    else:
        options = inherited
    return Signature(node.name, module.name, options, bases=frozenset(above), is_open=is_open)


_PLAIN = ("Protocol", "ABC", "Generic", "NamedTuple", "object")


def _is_init(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def function_options(path: str) -> dict[str, Option]:
    """The parameters of the function at a dotted path, by name; none if there is no such source."""
    name, _, last = path.rpartition(".")
    module = read(name)
    while module is not None and last not in module.functions and last in module.imported:
        name, last = module.imported[last]
        module = read(name)
    if module is None or last not in module.functions:
        return {}
    arguments = module.functions[last].args
    return {
        each.arg: Option(each.annotation, module)
        for each in [*arguments.args, *arguments.kwonlyargs]
    }


def choices_of(option: Option) -> list[str]:
    """The values of the Literals in the type of an option, also of one that has a name."""
    found: list[str] = []
    for node in ast.walk(option.annotation) if option.annotation else ():
        literal: ast.expr | None = None
        if isinstance(node, ast.expr) and _is_literal(node):
            literal = node
        elif isinstance(node, ast.Name):
            place, name = option.module.imported.get(node.id, (option.module.name, node.id))
            module = read(place) if place.startswith(OURS) else None
            literal = module.literals.get(name) if module else None
        if literal is not None:
            constants = (each for each in ast.walk(literal) if isinstance(each, ast.Constant))
            found += [str(each.value) for each in constants]
    return found


def parameters(path: str, method: str) -> set[str] | None:
    """The parameters of a method of the class at a dotted path; None if its source has none."""
    module, _, name = path.rpartition(".")
    found = _defined(module, name)
    for node in found[1].body if found else ():
        if isinstance(node, ast.FunctionDef) and node.name == method:
            if node.args.kwarg or node.args.vararg:
                return None
            return {each.arg for each in [*node.args.args[1:], *node.args.kwonlyargs]}
    return None


@dataclass(frozen=True)
class Slot:
    """What an option takes: objects of classes, one or (`each`: list, dict) several of them."""

    classes: tuple[Signature, ...] = ()
    each: str = ""
    only_classes: bool = False


_CONTAINERS = {"dict": "dict", "Mapping": "dict", "list": "list", "Sequence": "list"}


def slot_of(option: Option) -> Slot:
    """What an option takes, by the annotation of its source: a class, or a list or dict of objects
    of one; nothing is known of other unions.
    """
    annotation = option.annotation
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    each = ""
    kinds = [kind for kind in _union(annotation) if not _is_none(kind)]
    if len(kinds) == 1 and isinstance(kinds[0], ast.Subscript):
        each = _CONTAINERS.get(getattr(kinds[0].value, "id", ""), "")
        inner = kinds[0].slice
        if not each:
            return Slot()
        last = inner.elts[-1] if isinstance(inner, ast.Tuple) and each == "dict" else inner
        kinds = _union(last)
    classes = [
        resolved(kind.id, option.module) if isinstance(kind, ast.Name) else None for kind in kinds
    ]
    found = tuple(cls for cls in classes if cls is not None and cls.module.startswith(OURS))
    return Slot(found, each, only_classes=len(found) == len(kinds) > 0) if found else Slot()


def _union(annotation: ast.expr | None) -> list[ast.expr]:
    if isinstance(annotation, ast.BinOp):
        return [*_union(annotation.left), *_union(annotation.right)]
    return [annotation] if annotation is not None else []


def _is_none(annotation: ast.expr) -> bool:
    return isinstance(annotation, ast.Constant) and annotation.value is None
