"""Data sets by name: the short name of one of ours, or the dotted path of one's own."""

from __future__ import annotations

from importlib import import_module

from slm_math import data
from slm_math.data.base import Source
from slm_math.data.benchmarks import NAMED
from slm_math.spelling import similar


def source_names() -> list[str]:
    """The names of the data sets in `slm_math.data`."""
    values = {name: getattr(data, name) for name in data.__all__ if not name.endswith("Data")}
    del values["Benchmark"]  # which has no problems of its own
    return sorted(name for name, value in values.items() if is_source(value))


def is_source(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Source) and value is not Source


def source_class(name: str) -> type[Source]:
    """The class of a data set: `GSM8K`, or `my_package.Mine`.

    Raises ValueError, with the known names, if there is none.
    """
    module, _, short = name.rpartition(".")
    try:
        value = getattr(import_module(module) if module else data, short, NAMED.get(name))
    except ImportError as error:
        raise ValueError(f"data set {name}: cannot import {module} ({error})") from error
    if not is_source(value):
        raise ValueError(
            f"{name} is not a data set{similar(short, [*source_names(), *NAMED])} (known: "
            f"{', '.join(source_names())}; benchmarks: {', '.join(NAMED)}; for a class of your "
            "own, its dotted path)"
        )
    return value
