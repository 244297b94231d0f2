"""The options `--eval.*` of `fit`, `validate` and `test`: those of every AgentEval in
`trainer.callbacks`, whatever its place in the list.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from typing import Any, get_type_hints

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from slm_math.callbacks import AgentEval
from slm_math.engines.settings import Inference
from slm_math.types import Sampling

SAMPLING = "inference.sampling"


def add_eval_options(parser: LightningArgumentParser) -> None:
    """Adds an option for each one of AgentEval. One that is not given has no value, not a default:
    what the config says then stays.
    """
    hints = get_type_hints(AgentEval.__init__)
    options = {name: hints[name] for name in inspect.signature(AgentEval).parameters}
    del options["inference"], options["sampling"]
    # engine, slots and the like are those of the model, see AgentEval
    options |= {f"{SAMPLING}.{f.name}": get_type_hints(Sampling)[f.name] for f in fields(Sampling)}
    options["inference.roles"] = get_type_hints(Inference)["roles"]
    for name, kind in options.items():
        parser.add_argument(
            f"--eval.{name}",
            type=kind,
            default=argparse.SUPPRESS,
            help=f"{name} of every AgentEval in trainer.callbacks",
        )


def apply_eval_options(config: Namespace) -> None:
    """Moves the options below `eval` into every AgentEval of a configuration; agents and other
    mappings are merged by name.

    Raises ValueError if there is no AgentEval.
    """
    given = config.pop("eval", None)
    if not given:
        return
    evals = agent_evals(config)
    if not evals:
        first = next(_leaves(given, "eval"))
        raise ValueError(
            f"{first} is an option of the AgentEval in trainer.callbacks, and there is none: add "
            "one, --trainer.callbacks+ AgentEval --trainer.callbacks.agents.NAME AGENT"
        )
    for each in evals:
        each["init_args"] = _merged(each.get("init_args") or Namespace(), given)


def agent_evals(config: Namespace) -> list[Namespace]:
    """The AgentEvals of a configuration."""
    callbacks = config.get("trainer.callbacks") or []
    listed = callbacks if isinstance(callbacks, list) else [callbacks]
    return [each for each in listed if isinstance(each, Namespace) and _is_agent_eval(each)]


def _is_agent_eval(callback: Namespace) -> bool:
    module, _, name = callback.class_path.rpartition(".")
    cls = getattr(import_module(module), name)  # it was imported when the configuration was parsed
    return isinstance(cls, type) and issubclass(cls, AgentEval)


def _merged(old: Any, new: Any) -> Any:
    """`new` over `old`: mappings by name, and options of options one by one."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | new
    if not isinstance(old, Namespace) or not isinstance(new, Namespace) or "class_path" in new:
        return new
    changed = {key: _merged(old.get(key), value) for key, value in vars(new).items()}
    return Namespace(**(vars(old) | changed))


def _leaves(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Namespace) and "class_path" not in value:
        for key, inner in vars(value).items():
            yield from _leaves(inner, f"{path}.{key}")
    else:
        yield path
