"""What a training run started from, in its checkpoints: a run that goes on must start from the
same, although a checkpoint holds the trained weights only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from torch import Tensor

from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Policy
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.loading import config_hash, weights_hash
from slm_math.policy.role_paths import BASE

LORA = {
    "r": "r",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "targets",
    **{
        name: name
        for name in (
            *("use_rslora", "use_dora", "bias", "rank_pattern", "alpha_pattern"),
            *("target_parameters", "modules_to_save", "trainable_token_indices"),
            *("layers_to_transform", "exclude_modules"),
        )
    },
}
# what a checkpoint is taken for -> how the names begin of what that does not depend on
IGNORED: dict[str, tuple[str, ...]] = {
    "train": (),
    "evaluate": (
        *("weights of the adapter", "frozen ", "quantize", "chat template", "tokenizer"),
        "teacher",
    ),
    "export": ("weights of the adapter", "quantize", "teacher"),
}


def of_files(path: str, digest: str | None) -> dict[str, str | None]:
    """What a model's files are, for an identity: the hash is compared, and both are shown."""
    return {"hash": digest, "path": path}


def policy_identity(
    policy: Policy, loaded: LoadedPolicy, chat: ChatFormat, frozen: Mapping[str, str]
) -> dict[str, Any]:
    """What a policy is before it is trained: names to hashes and settings. Reads its files.

    `frozen` are the models of the roles that are not trained, see `PolicyModule`.
    """
    found: dict[str, Any] = {"quantize": policy.quantize}
    if policy.scratch is not None:
        settings = asdict(policy.scratch)
        if settings["vision"] == "none":  # as checkpoints of earlier versions say it
            del settings["vision"]
        found |= {f"scratch.{name}": value for name, value in settings.items()}
    elif policy.path is not None:
        found["weights of the base"] = of_files(policy.base, weights_hash(policy.base))
        found["config.json of the base"] = of_files(policy.base, config_hash(policy.base))
    if loaded.sight is not None:
        found |= {"vision": policy.vision, "image processor": loaded.sight.settings}
    for role in loaded.adapters:
        start = policy.start_of(role)
        if start is not None:
            of = f" of {role}" if isinstance(policy.path, dict) else ""
            own = weights_hash(start, with_base=False)
            found[f"weights of the adapter{of}"] = of_files(start, own)
    for role, path in frozen.items():
        found[f"frozen {role}"] = (
            path if path == BASE else of_files(path, weights_hash(path, with_base=False))
        )
    for role, name in loaded.adapters.items():
        config = loaded.model.peft_config[name].to_dict()
        for key, setting in LORA.items():
            value = _plain(config.get(key))
            if found.setdefault(f"lora.{setting}", value) != value:  # not the first adapter's
                found[f"lora.{role}.{setting}"] = value
    tokenizer = chat.tokenizer
    found["chat template"] = _digest(tokenizer.chat_template)
    found["tokenizer"] = _digest(sorted(tokenizer.get_vocab().items()))
    return found


def check_identity(
    saved: Mapping[str, Any] | None,
    now: Mapping[str, Any],
    purpose: Literal["train", "evaluate", "export"],
) -> None:
    """Raises ValueError if a checkpoint was made by a run that started from something else.

    Args:
        saved: the identity in the checkpoint; None in one that has none.
        now: the identity of the policy that takes the checkpoint.
        purpose: what the policy takes it for; an evaluation and an export depend on less.
    """
    if saved is None:
        return
    names = [name for name in {**saved, **now} if not _is_ignored(name, purpose)]
    whole = not any(name.startswith("lora.") for name in names) and now.get("vision") != "frozen"
    if purpose != "train" and whole:
        if purpose == "evaluate":
            return  # the checkpoint holds all weights
        names = [name for name in names if name != "weights of the base"]
    wrong = [
        f"{name} was {_shown(saved.get(name))}, is {_shown(now.get(name))}"
        for name in names
        if _compared(saved.get(name)) != _compared(now.get(name))
    ]
    if wrong:
        advice = (
            "what the run started from has changed since: --path names one that is as it was"
            if purpose == "export"
            else "set them to what they were, or start a new run"
        )
        raise ValueError(f"the checkpoint is of another policy: {'; '.join(wrong)}: {advice}")


def _compared(value: Any) -> Any:
    """What must be equal; checkpoints of earlier versions have hashes without paths."""
    return value["hash"] if _is_of_files(value) else value


def _shown(value: Any) -> str:
    return f"{value['path']} ({value['hash']})" if _is_of_files(value) else str(value)


def _is_of_files(value: Any) -> bool:
    """Settings of peft can be mappings, too."""
    return isinstance(value, Mapping) and set(value) == {"hash", "path"}


def _is_ignored(name: str, purpose: str) -> bool:
    return name.startswith(IGNORED[purpose]) or (
        purpose == "evaluate" and name.endswith(".dropout")
    )


def check_trained(saved: Mapping[str, Tensor], loaded: LoadedPolicy) -> None:
    """Raises ValueError for weights of another policy: loading is not strict, and would take
    nothing in silence.
    """
    named = dict(loaded.model.named_parameters())
    mine = {f"model.{name}": named[name].shape for name in loaded.trainable}
    kinds = {
        "missing": [name for name in mine if name not in saved],
        "unknown": [name for name in saved if name not in mine],
        "of another shape": [
            name for name in mine if name in saved and saved[name].shape != mine[name]
        ],
    }
    wrong = [
        f"{len(names)} {kind} ({', '.join(names[:2])})" for kind, names in kinds.items() if names
    ]
    if wrong:
        raise ValueError(
            f"the checkpoint is of another policy: of {len(mine)} trained weights, "
            f"{'; '.join(wrong)}: "
            "check policy.lora, policy.path, policy.scratch and train_roles"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, (set, list, tuple)):
        return sorted(value, key=str)
    return value


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()
