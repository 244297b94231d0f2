"""Compiles the decoder layers of a policy for training (torch.compile).

All layers run the same code, which is compiled once for all of them and for any lengths: forward
and backward, and once more without gradients for the reference. Attention to packed rows stays as
it is, since no two micro-batches have the same segments. So does decoding: what is checked before
compiled code runs costs more than it saves for so few tokens (docs/measurements/speed.md).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slm_math.starting import starting

# versions of a layer's code: with gradients or without, precisions, rows packed or padded
VERSIONS = 64
_COMPILERS = {"darwin": "clang++", "win32": "cl"}


def check_compiler() -> None:
    """Raises ValueError if this machine lacks what torch.compile needs."""
    compiler = os.environ.get("CXX") or _COMPILERS.get(sys.platform, "g++")
    instead = "or leave it out (--model.policy.compile false), which computes the same"
    if shutil.which(compiler) is None:
        raise ValueError(
            f"policy.compile needs a C++ compiler, and there is no {compiler}: install one (Debian "
            f"and Ubuntu: apt install g++), name another in CXX, {instead}"
        )
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise ValueError(
            f"policy.compile needs the headers of Python, and there is no {headers / 'Python.h'}: "
            f"install them (Debian and Ubuntu: apt install python3-dev), {instead}"
        )
    if torch.cuda.is_available() and importlib.util.find_spec("triton") is None:
        raise ValueError(f"policy.compile needs Triton on a GPU: pip install triton, {instead}")


def check_compiles(path: str, config: Any) -> None:
    """Raises ValueError for a model whose layers transformers does not say to be compilable."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING as CAUSAL
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as SEEING

    own = [CAUSAL.get(type(config), None), SEEING.get(type(config), None)]
    own.append(CAUSAL.get(type(config.get_text_config(decoder=True)), None))
    if not any(getattr(each, "_can_compile_fullgraph", False) for each in own):
        raise ValueError(
            f"policy.compile: transformers cannot compile the layers of {path} "
            f"({config.model_type}): leave it out (--model.policy.compile false)"
        )


def compile_layers(base: Any) -> None:
    """Has the layers of a transformers model compiled when they first run; their names and weights
    stay as they are.
    """
    starting("the first step compiles the decoder layers, which takes about a minute")
    for layer in layers_of(base):
        # random numbers are those that would be drawn otherwise
        layer.compile(dynamic=True, options={"fallback_random": True})
    base.compiled = True


def layers_of(base: Any) -> list[nn.Module]:
    """The decoder layers of a transformers model. Raises ValueError if they are in no list."""
    number = base.config.get_text_config(decoder=True).num_hidden_layers
    for child in base.get_decoder().children():
        if isinstance(child, nn.ModuleList) and len(child) == number:
            return list(child)
    raise ValueError(f"policy.compile: {base.config.model_type} has its layers in no list")


def training_code(base: Any) -> AbstractContextManager[Any]:
    """For a forward pass of training or scoring: layers run compiled, if they are to be."""
    if not getattr(base, "compiled", False):
        return nullcontext()
    # what stands before and after attention is one piece each
    return torch._dynamo.config.patch(nested_graph_breaks=True, recompile_limit=VERSIONS)


def decoding_code(base: Any) -> AbstractContextManager[Any]:
    """For a forward pass with a cache: layers run as they are."""
    if not getattr(base, "compiled", False):
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
