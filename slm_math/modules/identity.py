"""What a training run started from, in its checkpoints: a run that goes on must start from the
same, although a checkpoint holds the trained weights only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Policy
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.loading import config_hash, weights_hash

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
# what a checkpoint is taken for -> what that does not depend on
IGNORED = {
    "train": set(),
    "evaluate": {
        *("weights of the adapter", "quantize", "lora.dropout", "chat template", "tokenizer"),
    },
    "export": {"weights of the adapter", "quantize"},
}


def policy_identity(policy: Policy, loaded: LoadedPolicy, chat: ChatFormat) -> dict[str, Any]:
    """What a policy is before it is trained: names to hashes and settings. Reads its files."""
    found: dict[str, Any] = {"quantize": policy.quantize}
    if policy.scratch is not None:
        found |= {f"scratch.{name}": value for name, value in asdict(policy.scratch).items()}
    elif policy.path is not None:
        found["weights of the base"] = weights_hash(policy.base)
        found["config.json of the base"] = config_hash(policy.base)
        if policy.adapter:
            found["weights of the adapter"] = weights_hash(policy.path, with_base=False)
    if loaded.adapters:
        config = loaded.model.peft_config[next(iter(loaded.adapters.values()))].to_dict()
        found |= {f"lora.{name}": _plain(config.get(key)) for key, name in LORA.items()}
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
    ignored, both = set(IGNORED[purpose]), {**saved, **now}
    if purpose != "train" and not any(name.startswith("lora.") for name in both):
        if purpose == "evaluate":
            return  # the checkpoint holds all weights
        ignored.add("weights of the base")
    wrong = [
        f"{name} was {saved.get(name)}, is {now.get(name)}"
        for name in both
        if name not in ignored and saved.get(name) != now.get(name)
    ]
    if wrong:
        advice = (
            "what the run started from has changed since: --path names one that is as it was"
            if purpose == "export"
            else "set them to what they were, or start a new run"
        )
        raise ValueError(f"the checkpoint is of another policy: {'; '.join(wrong)}: {advice}")


def _plain(value: Any) -> Any:
    if isinstance(value, (set, list, tuple)):
        return sorted(value, key=str)
    return value


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()
