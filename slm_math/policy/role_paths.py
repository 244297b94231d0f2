"""A model for each role: adapters of one base, named by role or by the folder of their export."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from slm_math.policy.adapter_files import CONFIG, adapter_config, base_in
from slm_math.policy.folders import expanded, local_folder
from slm_math.policy.loading import check_model, config_hash, files_of, weights_hash

BASE = "base"  # a role without an adapter, and the folder of the base in an export of several roles
ROLES = "roles.json"  # in such an export: the roles of its run that speak with the base


def exported_roles(path: str) -> dict[str, str]:
    """role -> the folder of its adapter, or its base. {} if `path` is no export of several roles.

    Such an export is not a model itself. It holds several adapters, or one adapter together with
    the base or with the file `ROLES`.

    Raises ValueError for a `ROLES` that no export wrote.
    """
    folder = Path(expanded(path))
    if not folder.is_dir() or any((folder / name).is_file() for name in ("config.json", CONFIG)):
        return {}
    found = {sub.name: str(sub) for sub in sorted(folder.iterdir()) if (sub / CONFIG).is_file()}
    with_base = (folder / BASE / "config.json").is_file()
    at_base = _roles_at_base(folder / ROLES) if found else []
    if len(found) + with_base + len(at_base) < 2:
        return {}
    return found | {role: base_in(next(iter(found.values()))) for role in at_base}


def _roles_at_base(file: Path) -> list[str]:
    if not file.is_file():
        return []
    try:
        roles = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(roles, dict) or any(value != BASE for value in roles.values()):
        raise ValueError(f'{file} must name roles that speak with the base: {{"verifier": "base"}}')
    return sorted(roles)


def write_roles_at_base(folder: Path, roles: Collection[str]) -> None:
    """Says in the folder of an export which roles speak with its base."""
    if roles:
        text = json.dumps(dict.fromkeys(sorted(roles), BASE), indent=2)
        (folder / ROLES).write_text(text, encoding="utf-8")


def check_models(
    path: str | Mapping[str, str], what: str, check: Callable[[str], str] = check_model
) -> str | dict[str, str]:
    """The path of a model, checked by `check`; for a mapping, or the export of several roles,
    role -> path. `what` names the option in errors.

    Raises ValueError for models that are not of one base.
    """
    if isinstance(path, str):
        roles = exported_roles(path)
        return check_models(roles, what, check) if roles else check(path)
    if not path:
        raise ValueError(f"{what} names no role: write {{solver: ADAPTER, verifier: ADAPTER}}")
    checked = {role: role_path(one, role, f"{what}.{role}", check) for role, one in path.items()}
    check_one_base(checked, what)
    return checked


def role_path(path: str, role: str, what: str, check: Callable[[str], str] = check_model) -> str:
    """The checked model of one role: `path`, or the role's own in an export of several."""
    if not isinstance(path, str) or not path:
        raise ValueError(f"{what} must name a model or an adapter, got {path!r}")
    roles = exported_roles(path)
    if roles and role not in roles:
        raise ValueError(f"{what}: {path} holds the adapters of {', '.join(roles)}, none of {role}")
    return check(roles.get(role, path))


def check_one_base(paths: Mapping[str, str], what: str) -> None:
    """Raises ValueError unless all models are one base, or adapters that leave it as it is."""
    (first, start), *others = paths.items()
    for role, path in others:
        if not same_model(base_in(start), base_in(path)):
            raise ValueError(
                f"{what} names models of two bases: {base_in(start)} for {first} ({start}), and "
                f"{base_in(path)} for {role} ({path}). Adapters of one base share it; serve a role "
                f"by another model with engines ({{{role}: {{class_path: CheckpointEngine, path: "
                f"{path}}}}})"
            )

    for role, path in paths.items():
        if others and has_biases(path):
            raise ValueError(
                f"{what}.{role}: adapter {path} trains biases of its base, which several roles "
                f"cannot have for themselves: merge it into its base first"
            )


def has_biases(path: str) -> bool:
    """Whether an adapter changes biases, which are weights of its base."""
    config = adapter_config(path)
    return config is not None and config.get("bias", "none") != "none"


def same_model(one: str, other: str) -> bool:
    """Whether two paths are of one model: the same folder, or a copy of it."""
    folders = [local_folder(path) for path in (one, other)]
    if one == other or folders[0] is None or folders[1] is None:
        return one == other
    if folders[0].resolve() == folders[1].resolve():
        return True
    weights = weights_hash(one)
    return (
        config_hash(one) == config_hash(other)
        and weights is not None
        and weights == weights_hash(other)
    )


def paths_of(path: str | Mapping[str, str] | None) -> list[str]:
    """All paths that a setting such as `policy.path` names."""
    if path is None:
        return []
    return [path] if isinstance(path, str) else list(dict.fromkeys(path.values()))


def files_of_roles(path: str | Mapping[str, str], template: str | None = None) -> dict[str, Any]:
    """`files_of` a model; of several, each value by role."""
    if isinstance(path, str):
        return files_of(path, template)
    files = {role: files_of(one, template) for role, one in path.items()}
    names = next(iter(files.values()))
    return {name: {role: of_role[name] for role, of_role in files.items()} for name in names}
