"""What tests of adapters share: networks whose adapters do something, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

IDS = torch.tensor([[7, 11, 4, 19, 23]])


@torch.no_grad()
def stir(parameters: Any) -> None:
    torch.manual_seed(3)
    for parameter in parameters:
        parameter += 0.1 * torch.randn_like(parameter)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(IDS).logits


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)
