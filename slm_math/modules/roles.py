"""Who learns and who stays as it is: the trained and the frozen roles of a policy, checked before a
model is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from slm_math.engines.base import Engine
from slm_math.modules.optim import Optim
from slm_math.policy.adapter_files import base_in, base_of
from slm_math.policy.config import Policy
from slm_math.policy.role_paths import BASE, paths_of, role_path, same_model
from slm_math.policy.tokenizers import load_tokenizers

RESERVED = {
    BASE: "the base of an export's adapters",
    "default": "the engine of all other roles",
}


def check_trained_roles(
    policy: Policy, train_roles: Sequence[str], frozen: Mapping[str, str]
) -> tuple[str, ...]:
    """The trained roles. Raises ValueError for roles named twice or unfit to name a folder, and for
    a policy that names a model for a role that nobody trains, or none for one that is trained.

    `frozen` is that of `check_frozen`.
    """
    roles = tuple(train_roles)
    if not roles or len(set(roles)) < len(roles):
        raise ValueError(f"train_roles must name each trained role once, got {list(roles)}")
    for role in (*roles, *frozen):
        _check_name(role)
    both = [role for role in roles if role in frozen]
    if both:
        raise ValueError(
            f"role {both[0]!r} is trained and frozen: remove it from train_roles or from frozen"
        )
    if not isinstance(policy.path, dict):
        return roles
    missing = [role for role in roles if role not in policy.path]
    if missing:
        raise ValueError(
            f"policy.path names {', '.join(policy.path)}, and no adapter for {missing[0]}, which "
            f"is trained: name one, or the base, {policy.base}, for a new adapter (policy.lora)"
        )
    for role, path in (policy.path | dict.fromkeys(policy.at_base, policy.base)).items():
        if role not in roles:
            _check_idle(policy, role, path, frozen.get(role))
    return roles


def _check_name(role: str) -> None:
    """Raises ValueError for a role that could not name a folder of an export, or an adapter."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", role) is None:
        raise ValueError(f"role {role!r}: a role is named with letters, digits, _ and - only")
    if role in RESERVED:
        raise ValueError(f"no role can be called {role}, which names {RESERVED[role]}: rename it")


def _check_idle(policy: Policy, role: str, path: str, frozen: str | None) -> None:
    """Raises ValueError for the path of a role that is not trained, unless it is frozen there."""
    what = BASE if base_of(path) is None else path
    named = f"policy.path names {'the base' if what == BASE else f'the adapter {path}'} for {role}"
    if frozen is None:
        raise ValueError(
            f"{named}, which would neither be trained nor used: add it to train_roles, or freeze "
            f"it (frozen: {{{role}: {what}}}), or leave it out of policy.path"
        )
    same = frozen == what or (BASE not in (frozen, what) and same_model(frozen, path))
    if not same:
        assert isinstance(policy.path, dict)
        rest = ", ".join(f"{name}: {one}" for name, one in policy.path.items() if name != role)
        raise ValueError(
            f"{named}, and frozen.{role} is {frozen}: remove {role} from frozen, or from "
            f"policy.path ({{{rest}}})"
        )


def check_frozen(policy: Policy, frozen: Mapping[str, str]) -> dict[str, str]:
    """role -> "base" or a checked adapter folder.

    Raises ValueError unless the policy's base can serve these roles while adapters of it are
    trained.
    """
    checked: dict[str, str] = {}
    for role, path in frozen.items():
        if not policy.has_adapters:
            base = "MODEL" if policy.path is None else policy.base
            raise ValueError(
                f"frozen.{role}: the policy trains all weights of its base, which would not stay "
                f"as it is: train adapters (policy.lora), or serve {role} by a copy (engines: "
                f"{{{role}: {{class_path: CheckpointEngine, path: {base}}}}})"
            )
        checked[role] = path if path == BASE else _frozen_path(policy, role, path)
    return checked


def check_rates(policy: Policy, optim: Optim, roles: Sequence[str]) -> None:
    """Raises ValueError for the learning rate of a role that is not trained, or that shares its
    weights with others.
    """
    unknown = sorted(set(optim.role_lr) - set(roles))
    if unknown:
        raise ValueError(
            f"optim.role_lr names {unknown[0]}, which is not trained; the trained roles are "
            f"{', '.join(roles)}: remove it"
        )
    if optim.role_lr and len(roles) > 1 and (policy.shared_adapter or not policy.has_adapters):
        what = "one adapter (policy.shared_adapter)" if policy.has_adapters else "all weights"
        raise ValueError(
            f"optim.role_lr names {', '.join(optim.role_lr)}, and {' and '.join(roles)} share "
            f"{what} and one rate: set optim.lr, and remove it (--model.optim.role_lr {{}})"
        )


def _frozen_path(policy: Policy, role: str, path: str) -> str:
    path = role_path(path, role, f"frozen.{role}")
    same = policy.scratch is None and same_model(base_in(path), policy.base)
    if base_of(path) is None and same:
        return BASE
    if not same:
        kind = "a model" if base_of(path) is None else f"an adapter of {base_in(path)}"
        own = "a model from scratch" if policy.scratch is not None else policy.base
        raise ValueError(
            f"frozen.{role}: {path} is {kind}, and the policy's base is {own}: name base or an "
            f"adapter of that, or serve {role} by a model of its own (engines: {{{role}: "
            f"{{class_path: CheckpointEngine, path: {path}}}}})"
        )
    return path


def check_tokenizers(policy: Policy, frozen: Mapping[str, str]) -> None:
    """Raises ValueError for a frozen adapter that was made with other tokens or another chat
    template than the policy's.
    """
    paths = [path for path in frozen.values() if path != BASE]
    if paths:
        load_tokenizers([*paths_of(policy.path), *paths], policy.chat_template)


def check_frozen_engines(module: Any, engines: Collection[str], option: str) -> None:
    """Raises ValueError for a role that is frozen, and served by an engine, too."""
    both = [role for role in engines if role in module.frozen]
    if both:
        raise ValueError(
            f"role {both[0]!r} is served by frozen and by {option}: remove it from one of them"
        )


def check_ranks(engines: Mapping[str, Engine], ranks: int, option: str) -> None:
    """Raises ValueError for an engine that must start in all processes that train at the same time,
    and would start in each with the first request for its role, which one may never have.
    """
    for role, engine in engines.items():
        if ranks > 1 and engine.needs_all_ranks:
            raise ValueError(
                f"{option}: role {role!r} is served by {engine.name} in the process that trains, "
                f"and of these there are {ranks}: start its model with scripts/serve_vllm.sh and "
                "use VLLMServers"
            )


def tell_unasked(module: Any, trainer: Any) -> None:
    """Says which frozen roles of a module nobody asks for: neither its agent, nor its rewards, nor
    the agents of the trainer's callbacks.
    """
    askers = [getattr(module, "agent", None), *getattr(module, "rewards", ())]
    for callback in trainer.callbacks:
        agents = getattr(callback, "agents", None)
        askers += agents.values() if isinstance(agents, Mapping) else ()
    asked = {role for asker in askers for role in getattr(asker, "roles", ())}
    unasked = [role for role in module.frozen if role not in asked]
    if unasked and trainer.is_global_zero:
        print(
            f"frozen names {', '.join(unasked)}, and no agent or reward of this run asks for "
            f"{'it' if len(unasked) == 1 else 'them'}",
            flush=True,
        )


def check_served(
    roles: Collection[str], owner: str, module: Any, engines: Collection[str] = ()
) -> None:
    """Raises ValueError for a role that neither the policy of a module under training serves,
    trained or frozen, nor an engine.

    Args:
        roles: the roles that are asked.
        owner: who asks, for the error.
        module: the `PolicyModule`.
        engines: the roles that other engines serve; "default" is all.
    """
    served = {*module.train_roles, *module.frozen, *engines}
    missing = [role for role in roles if role not in served]
    if missing and "default" not in served:
        raise ValueError(_unserved(owner, missing[0], module))


def _unserved(owner: str, role: str, module: Any) -> str:
    trained = module.train_roles
    choices = [f"train it (train_roles: [{', '.join([*trained, role])}])"]
    if module.policy.has_adapters:
        choices.append(f"freeze it (frozen: {{{role}: base}}, or {{{role}: ADAPTER}})")
    choices.append(
        f"serve it by another model (engines: {{{role}: {{class_path: CheckpointEngine, path: "
        "MODEL}})"
    )
    return (
        f"{owner} asks for role {role!r}, which is not trained and would not stay as it is if the "
        f"policy of {', '.join(trained)} served it: {'; '.join(choices[:-1])}; or {choices[-1]}"
    )
