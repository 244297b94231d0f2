"""What a command needs that runs agents: its problems, and an engine for each role."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from slm_math.data.base import Source, Split, read_tasks
from slm_math.data.selection import select_problems
from slm_math.data.tags import read_tags
from slm_math.engines.base import Engine
from slm_math.engines.settings import Inference, choose_engine, vllm_slots
from slm_math.ranges import check_whole
from slm_math.types import Task


def chosen_problems(
    source: Source,
    split: Split,
    where: Mapping[str, Any] | None,
    shuffle: int | None,
    limit: int | None,
    tags: str | None = None,
    graded: bool = True,
) -> list[Task]:
    """The problems of a split that a command names, with the tags of a file; prints what the source
    has to say of the split.

    Raises ValueError if there are none.
    """
    check_whole("limit", limit, optional=True)
    measured = None if tags is None else read_tags(tags)
    tasks = read_tasks(source, split, graded)
    tasks = select_problems(
        tasks if measured is None else measured.put(tasks),
        where,
        shuffle=shuffle,
        limit=limit,
        measured=measured.names if measured else (),
    )
    if not tasks:
        raise ValueError(
            f"{source.name} has no problems in its {split} split"
            + (f" with {where}" if where else "")
            + " (a file is the train split, unless its name begins with test: --split train)"
        )
    if line := source.about(split):
        print(line)
    return tasks


def check_serving(
    roles: Collection[str],
    model: str | dict[str, str] | None,
    engines: Mapping[str, Engine],
    inference: Inference,
) -> str | dict[str, str] | None:
    """The model of all roles, or those of the roles that no engine serves; None without one.

    Raises ValueError for a role that nothing serves, and for engines, models and settings of roles
    that nobody asks.
    """
    names = ", ".join(sorted(roles))
    missing = set(roles) - set(engines)
    if model is None and "default" not in engines and missing:
        raise ValueError(f"nothing serves {', '.join(sorted(missing))}: give --model or --engines")
    unknown = set(engines) - set(roles) - {"default"}
    if unknown:
        raise ValueError(
            f"engines names {', '.join(sorted(unknown))}; the agents' roles are {names}"
        )
    inference.check_roles(sorted(roles))
    return None if model is None else _models(model, roles, engines)


def add_local(
    engines: dict[str, Engine],
    roles: Collection[str],
    models: str | dict[str, str] | None,
    inference: Inference,
    dtype: str,
    template: tuple[str | None, dict[str, Any] | None],
    torch_threads: int | None,
) -> None:
    """Adds the engine of a model, with a chat template and its variables: as "default", or for the
    roles that the model names, if there is an engine of all others.
    """
    if models is None:
        return
    from slm_math.policy.threads import set_threads

    set_threads(torch_threads, inference.deterministic)
    local = _local_engine(models, inference, dtype, template)
    engines |= dict.fromkeys(models if "default" in engines else ["default"], local)


def _models(
    model: str | dict[str, str], roles: Collection[str], serving: Collection[str]
) -> str | dict[str, str]:
    """The model of all roles, or those of the roles that no engine serves, checked.

    Raises ValueError where one is missing, or would serve no role.
    """
    from slm_math.policy.loading import check_path
    from slm_math.policy.role_paths import check_models

    models = check_models(model, "--model", check_path)
    asked = sorted(set(roles) - set(serving))
    if isinstance(models, str):
        if "default" in serving:
            raise ValueError(
                f"--model {models} and --engines.default both serve all other roles: remove one of "
                f"them (--model null), or name the model's roles (--model '{{{min(roles)}: "
                f"{models}}}')"
            )
        _check_used(models, asked)
        return models
    unknown = [] if isinstance(model, str) else sorted(set(models) - set(roles))
    if unknown:
        raise ValueError(
            f"--model names {', '.join(unknown)}; the agents' roles are {', '.join(sorted(roles))}"
        )
    both = [] if isinstance(model, str) else sorted(set(models) & set(serving))
    if both:
        raise ValueError(
            f"--model and --engines.{both[0]} both serve {both[0]}: remove it from one of them"
        )
    missing = [] if "default" in serving else [role for role in asked if role not in models]
    if missing:
        raise ValueError(
            f"--model names {', '.join(models)}, and nothing serves {', '.join(missing)}: add "
            f"{missing[0]}: ADAPTER to --model (or the base itself), or --engines.{missing[0]}"
        )
    used = {role: models[role] for role in asked if role in models}
    _check_used(model, used)
    return used


def _check_used(model: str | dict[str, str], roles: Collection[str]) -> None:
    """Raises ValueError for a model that serves no role."""
    if not roles:
        raise ValueError(
            f"--model {model} serves no role beside --engines: remove one of them (--model null)"
        )


def _local_engine(
    model: str | dict[str, str],
    inference: Inference,
    dtype: str,
    template: tuple[str | None, dict[str, Any] | None],
) -> Engine:
    """The engine that serves a model, in this process or on vLLM servers."""
    import torch

    from slm_math.engines.checkpoint import CheckpointEngine
    from slm_math.engines.vllm import VLLMEngine
    from slm_math.engines.vllm_servers import VLLMServers

    kind = choose_engine(inference.wanted_engine, inference.vllm)
    names = {"vllm": "vLLM, in this process", "servers": "vLLM servers"}
    print(f"engine: {names.get(kind, kind)}")
    slots = vllm_slots(inference)
    rendering: dict[str, Any] = {"chat_template": template[0], "chat_template_kwargs": template[1]}
    if kind == "servers":
        return VLLMServers(
            inference.vllm.servers,
            path=model,
            **rendering,
            concurrency=slots,
            timeout=inference.vllm.timeout,
            patience=inference.vllm.patience,
        )
    if kind == "vllm":
        vllm = inference.vllm
        return VLLMEngine(
            model, dtype, slots, memory=vllm.memory, context=vllm.context, **rendering
        )
    if dtype == "auto":
        dtype = "bfloat16" if torch.cuda.is_available() else "float32"
    return CheckpointEngine(model, dtype=dtype, slots=inference.slots, **rendering)
