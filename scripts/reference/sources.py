"""Classes and functions as reference pages show them, read from source files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from reference.docstrings import Docstring, escaped, read_docstring
from slm_math.signatures import ROOT, Module, read


@dataclass(frozen=True)
class Option:
    """An option of a class or a command. `default` None means that it must be set."""

    name: str
    type: str
    default: str | None
    meaning: str = ""


@dataclass(frozen=True)
class Described:
    """A class or a function with all its options, and the names of all classes it builds on."""

    name: str
    doc: Docstring
    options: tuple[Option, ...]
    bases: tuple[str, ...] = ()


@cache
def tree(module: str) -> ast.Module:
    """The source of a module of this project."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_bytes())


def exported(package: str) -> list[str]:
    """The names in `__all__` of a package."""
    for node in tree(package).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [ast.literal_eval(each) for each in getattr(node.value, "elts", [])]
    return []


def module_doc(name: str) -> Docstring:
    """The docstring of a module."""
    return read_docstring(ast.get_docstring(tree(name)))


def find_class(path: str) -> tuple[Module, ast.ClassDef] | None:
    """Where the class at a dotted path is defined, through imports."""
    module, _, name = path.rpartition(".")
    file = read(module)
    for _ in range(8):
        if file is None:
            return None
        if name in file.classes:
            return file, file.classes[name]
        if name not in file.imported:
            return None
        module, name = file.imported[name]
        file = read(module)
    return None


@cache
def described(path: str) -> Described:
    """A class, with the options of its bases if it hands them on."""
    found = find_class(path)
    if found is None:
        raise ValueError(f"there is no class {path}")
    module, node = found
    names = [each.id for each in node.bases if isinstance(each, ast.Name)]
    above = [find_class(f"{module.name}.{name}") for name in names]
    bases = [described(f"{base[0].name}.{base[1].name}") for base in above if base]
    doc = read_docstring(ast.get_docstring(node))
    own = {option.name: option for option in _own_options(node, module.name)}
    inherited = {option.name: option for base in bases for option in base.options}
    if _init(node) is not None and not _has_kwargs(node):
        options = own
    elif _is_dataclass(node):  # the fields of bases come first
        options = inherited | own
    else:
        options = own | {name: inherited[name] for name in inherited if name not in own}
    meanings = {name: inherited[name].meaning for name in inherited} | doc.options
    return Described(
        node.name,
        doc,
        tuple(replace(o, meaning=o.meaning or meanings.get(o.name, "")) for o in options.values()),
        tuple(name for base in bases for name in (base.name, *base.bases)),
    )


@cache
def described_function(path: str) -> Described:
    """A function at `module:name`."""
    module, _, name = path.partition(":")
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            doc = read_docstring(ast.get_docstring(node))
            options = tuple(_arguments(node.args, doc, module))
            return Described(name, doc, options)
        if isinstance(node, ast.ImportFrom) and any(each.name == name for each in node.names):
            return described_function(f"{node.module}:{name}")
    raise ValueError(f"there is no function {path}")


def _own_options(node: ast.ClassDef, module: str) -> Iterator[Option]:
    doc = read_docstring(ast.get_docstring(node))
    init = _init(node)
    if init is not None:
        yield from _arguments(init.args, doc, module, skip=1)
    elif _is_dataclass(node):
        for each in node.body:
            if not isinstance(each, ast.AnnAssign) or not isinstance(each.target, ast.Name):
                continue
            kind = ast.unparse(each.annotation)
            if "ClassVar" not in kind and not each.target.id.startswith("_"):
                yield _option(each.target.id, each.annotation, each.value, doc, module)


def _arguments(
    arguments: ast.arguments, doc: Docstring, module: str, skip: int = 0
) -> Iterator[Option]:
    positional = arguments.args[skip:]
    first = len(positional) - len(arguments.defaults)
    values = [None] * first + list(arguments.defaults)
    for each, value in [
        *zip(positional, values),
        *zip(arguments.kwonlyargs, arguments.kw_defaults),
    ]:
        yield _option(each.arg, each.annotation, value, doc, module)


def _option(
    name: str, annotation: ast.expr | None, value: ast.expr | None, doc: Docstring, module: str
) -> Option:
    kind = "" if annotation is None else ast.unparse(_Aliases(module).visit(annotation))
    default = None if value is None else _default(value, module)
    meaning = doc.options.get(name, "")
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "Prompt":
        slots = " ".join(f"`{{{slot}}}`" for slot in ast.literal_eval(value.args[1]).split())
        meaning = f"{meaning} Slots: {slots}.".strip()
    return Option(name, kind, default, meaning)


class _Aliases(ast.NodeTransformer):
    """Replaces names of Literals by what they stand for."""

    def __init__(self, module: str) -> None:
        self.module = module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        value = constant(self.module, node.id)
        known = isinstance(value, ast.Subscript) and ast.unparse(value.value) == "Literal"
        return value if known and value is not None else node


@cache
def constant(module: str, name: str) -> ast.expr | None:
    """The value that a module of this project assigns to a name, through imports."""
    file = read(module)
    if file is None or not ROOT.joinpath(module.partition(".")[0]).is_dir():
        return None
    if name in file.imported:
        return constant(*file.imported[name])
    for node in tree(module).body if name in file.other else ():
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        if any(isinstance(each, ast.Name) and each.id == name for each in targets):
            return node.value  # type: ignore[union-attr]
    return None


def _default(value: ast.expr, module: str) -> str:
    """A default as configs write it."""
    if isinstance(value, ast.Name | ast.Attribute):
        owner, _, name = ast.unparse(value).rpartition(".")
        file = read(module)
        if owner and file is not None and owner in file.imported:
            module = ".".join(file.imported[owner])
        found = constant(module, name)
        return ast.unparse(value) if found is None else _default(found, module)
    if isinstance(value, ast.Call):
        name = ast.unparse(value.func)
        if name == "Prompt" and isinstance(value.args[0], ast.Constant):
            return str(value.args[0].value)
        if name == "field":
            made = next(each.value for each in value.keywords if each.arg == "default_factory")
            return {"dict": "{}", "list": "[]"}.get(ast.unparse(made), f"{ast.unparse(made)}()")
    if isinstance(value, ast.Tuple | ast.List):
        return f"[{', '.join(_default(each, module) for each in value.elts)}]"
    if isinstance(value, ast.Constant):
        if isinstance(value.value, bool) or value.value is None:
            return {True: "true", False: "false", None: "null"}[value.value]
        if isinstance(value.value, str):
            return value.value or '""'
    return ast.unparse(value)


def _init(node: ast.ClassDef) -> ast.FunctionDef | None:
    inits = (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    return next(inits, None)


def _has_kwargs(node: ast.ClassDef) -> bool:
    init = _init(node)
    return init is not None and init.args.kwarg is not None


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(each) for each in node.decorator_list)


def option_lines(options: tuple[Option, ...], links: dict[str, str]) -> list[str]:
    """A list item for each option: name, type, default, meaning, and links to the classes that
    its type names.
    """
    return [_option_line(option, links) for option in options]


def _option_line(option: Option, links: dict[str, str]) -> str:
    default = "required" if option.default is None else f"default `{option.default}`"
    kind = f"`{option.type}`, " if option.type else ""
    words = ast.walk(ast.parse(option.type, mode="eval")) if option.type else ()
    names = dict.fromkeys(node.id for node in words if isinstance(node, ast.Name))
    see = ", ".join(f"[{name}]({links[name]})" for name in names if name in links)
    meaning = f": {option.meaning}" if option.meaning else ""
    return f"- **{escaped(option.name)}** ({kind}{default}){meaning}{f' See {see}.' if see else ''}"
