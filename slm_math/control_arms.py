"""Control arms of a training run: the same run from the same weights, with the same seeds, data,
order and number of steps, without what it is to learn from.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from slm_math.data.batches import run_seed
from slm_math.data.controls import has_images
from slm_math.eval_options import agent_evals
from slm_math.modules.grpo import GRPOModule
from slm_math.records.run_folder import (
    CONTROLS,
    LAST_IF_ANY,
    read_run,
    set_run_aside,
    traces_of_training,
)
from slm_math.resuming import is_first_rank
from slm_math.spelling import similar
from slm_math.stopping import say

OF_REWARDS = ("random_reward", "format_only")
ARMS = (*OF_REWARDS, "shuffled_gold", "blank_images")
_REWARDS, _DATA = "slm_math.rewards.controls", "slm_math.data.controls"


def chosen_arms(config: Namespace) -> list[str]:
    """The arms that a configuration of `fit` names. Evaluations then also begin before training.

    Raises ValueError for arms that there are not, or that cannot be arms of this run.
    """
    value = config.get("controls") or []
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
    if not names:
        return []
    possible = _possible(config)
    for name in names:
        if name not in ARMS:
            raise ValueError(
                f"controls: there is no arm {name}{similar(name, ARMS)} (known: {', '.join(ARMS)})"
            )
        if name not in possible:
            raise ValueError(
                f"controls: {name} needs a run with rewards, and this one has none; possible here: "
                f"{', '.join(possible)} (blank_images with images only)"
            )
    evals = agent_evals(config)
    if not evals:
        raise ValueError(
            "controls are compared by what AgentEval evaluates, and trainer.callbacks has none: "
            "add one, --trainer.callbacks+ AgentEval --trainer.callbacks.agents.NAME AGENT"
        )
    return list(dict.fromkeys(names))


def check_images(names: Sequence[str], source: Any) -> None:
    """Raises ValueError for the arm blank_images of a run on text."""
    if "blank_images" in names and not has_images(source):
        raise ValueError(
            f"controls: blank_images replaces images, and {source.name}/train has none: remove it"
        )


def _possible(config: Namespace) -> tuple[str, ...]:
    return ARMS if _rewarded(config) else ARMS[len(OF_REWARDS) :]


def _rewarded(config: Namespace) -> list[str]:
    """The roles whose rewards train them."""
    options = config.model.get("init_args") or Namespace()
    if not issubclass(_class_of(config.model), GRPOModule):
        return []
    rewards = options.get("rewards")
    if rewards is None:
        return [] if options.get("teacher") else ["solver"]
    weighted = [each for each in rewards if _option(each, "weight", 1.0)]
    return list(dict.fromkeys(str(_option(each, "role", "solver")) for each in weighted))


def _class_of(node: Any) -> type:
    module, _, name = node.class_path.rpartition(".")
    return getattr(import_module(module), name)  # it was imported when the config was parsed


def _option(node: Any, name: str, default: Any) -> Any:
    """An option of a reward: of the configuration, or of its class."""
    options = node.get("init_args") or {}
    return options.get(name, getattr(_class_of(node), name, default))


def make_arm(config: Namespace, arm: str) -> None:
    """Makes the configuration of a run that of one of its arms, in a folder below its own."""
    root = Path(config.trainer.default_root_dir)
    config.trainer.default_root_dir = str(arm_root(root, arm))
    config.controls = None
    config.ckpt_path = LAST_IF_ANY  # an arm that was interrupted goes on
    for callback in config.trainer.get("callbacks") or []:
        options = callback.get("init_args") if hasattr(callback, "get") else None
        if options and options.get("dirpath") is not None:  # which is the run's
            options["dirpath"] = None
    model, data = config.model, config.data
    if arm == "random_reward":
        roles = _rewarded(config)
        model["init_args"]["rewards"] = [_node(_REWARDS, "RandomReward", role=r) for r in roles]
    elif arm == "format_only":
        rewards = model.init_args.get("rewards")
        if rewards is None:
            rewards = [_node("slm_math.rewards", "Correct")]
        wrapped = [_node(_REWARDS, "FormatOnly", reward=reward) for reward in rewards]
        model["init_args"]["rewards"] = wrapped
    elif arm == "shuffled_gold":
        seed = run_seed(data.init_args.get("seed"))
        wrapped = _node(_DATA, "ShuffledGold", source=data.init_args.source, seed=seed)
        data["init_args"]["source"] = wrapped
    else:
        data["init_args"]["source"] = _node(_DATA, "BlankImages", source=data.init_args.source)


def _node(module: str, name: str, **options: Any) -> Namespace:
    return Namespace(class_path=f"{module}.{name}", init_args=Namespace(**options))


def arm_root(root: Path, arm: str) -> Path:
    """The folder of an arm."""
    return root / CONTROLS / arm


def begin_arm(root: Path, arm: str) -> None:
    """Frees what the run before held, and sets an arm of another run aside."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    wandb = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.finish()  # or the arm's log would go on in that of the run
    folder, run = arm_root(root, arm), read_run(root).get("run")
    foreign = read_run(folder).get("control", {}).get("run") != run
    if is_first_rank() and foreign and traces_of_training(folder):
        say(f"{folder} is the arm of another run: it is moved to {set_run_aside(folder)}")
