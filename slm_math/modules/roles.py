"""Who learns and who stays as it is: the trained and the frozen roles of a policy, checked before a
model is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from slm_math.policy.adapter_files import base_in, base_of
from slm_math.policy.config import Policy
from slm_math.policy.role_paths import paths_of, role_path, same_model
from slm_math.policy.tokenizers import load_tokenizers


def check_trained_roles(
    policy: Policy, train_roles: Sequence[str], frozen: Mapping[str, str]
) -> tuple[str, ...]:
    """The trained roles. Raises ValueError for roles named twice, and for a policy that names an
    adapter for a role that nobody trains, or none for one that is trained.
    """
    roles = tuple(train_roles)
    if not roles or len(set(roles)) < len(roles):
        raise ValueError(f"train_roles must name each trained role once, got {list(roles)}")
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
    idle = [role for role in policy.path if role not in roles and role not in frozen]
    if idle:
        role, path = idle[0], policy.path[idle[0]]
        raise ValueError(
            f"policy.path names an adapter for {role}, which would neither be trained nor used: "
            f"add it to train_roles, or freeze it (frozen: {{{role}: {path}}}), or leave it out of "
            "policy.path"
        )
    return roles


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
        checked[role] = path if path == "base" else _frozen_path(policy, role, path)
    return checked


def _frozen_path(policy: Policy, role: str, path: str) -> str:
    path = role_path(path, role, f"frozen.{role}")
    same = policy.scratch is None and same_model(base_in(path), policy.base)
    if base_of(path) is None and same:
        return "base"
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
    paths = [path for path in frozen.values() if path != "base"]
    if paths:
        load_tokenizers([*paths_of(policy.path), *paths], policy.chat_template)


def check_frozen_engines(module: Any, engines: Collection[str], option: str) -> None:
    """Raises ValueError for a role that is frozen, and served by an engine, too."""
    both = [role for role in engines if role in module.frozen]
    if both:
        raise ValueError(
            f"role {both[0]!r} is served by frozen and by {option}: remove it from one of them"
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
