"""The settings of new adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slm_math.policy.adapters import quiet_peft
from slm_math.policy.targets import ALL_LINEAR, ATTENTION, names_of, target_names, warn_of_experts
from slm_math.ranges import check_number, check_whole


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021).

    Args:
        r: rank.
        alpha: scale; the update is multiplied by alpha / r.
        dropout: dropout in front of the adapters.
        targets: the layers that get an adapter: attention (the linear layers of attention),
            all-linear (all linear layers but the language-model head), or names of linear layers
            and embeddings, each of which must match.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: str | tuple[str, ...] = ATTENTION

    def __post_init__(self) -> None:
        check_whole("policy.lora.r", self.r)
        check_number("policy.lora.alpha", self.alpha, above=0)
        check_number("policy.lora.dropout", self.dropout, low=0, below=1)
        names = names_of(self.targets)
        if not all(names) or not names or (len(names) > 1 and {ATTENTION, ALL_LINEAR} & {*names}):
            raise ValueError(
                f"policy.lora.targets is {ATTENTION}, {ALL_LINEAR}, or a list of names of layers"
            )


def new_adapters(model: Any, lora: Lora, names: Sequence[str], with_eyes: bool = False) -> Any:
    """The model with a new adapter for each name; what makes features of images has none, unless
    `with_eyes`.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=target_names(model, lora.targets, with_eyes),
        task_type="CAUSAL_LM",
    )
    try:
        with quiet_peft():
            model = get_peft_model(model, config, adapter_name=names[0])
            for name in names[1:]:
                model.add_adapter(name, config)
    except ValueError as error:
        # peft adapts the weights of experts without dropout only
        hint = " (set policy.lora.dropout: 0)" if "lora_dropout" in str(error) else ""
        raise ValueError(f"policy.lora: {str(error).splitlines()[0]}{hint}") from error
    if names_of(lora.targets) == [ALL_LINEAR] and not config.target_parameters:
        warn_of_experts(model)
    return model
