"""An export as a GGUF file for llama.cpp: its own converter writes it, and it is read back."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slm_math.exports.processes import NO_GPU, run_python

CONVERTER = "convert_hf_to_gguf.py"
VARIABLE = "SLM_MATH_GGUF_CONVERTER"


def find_converter() -> Path:
    """llama.cpp's converter. Raises ValueError without it, or without what reads its files."""
    named = os.environ.get(VARIABLE)
    found = named or shutil.which(CONVERTER)
    if found is None or not Path(found).is_file():
        place = f"{VARIABLE} names {named}, which is no file" if named else "there is none on PATH"
        raise ValueError(
            f"--gguf needs {CONVERTER} of llama.cpp, and {place}: set {VARIABLE} to its path in a "
            "clone of llama.cpp"
        )
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(
            "--gguf needs the package gguf, which reads the file back: pip install gguf"
        )
    return Path(found).resolve()


def write_gguf(folder: Path, kind: str) -> str:
    """Writes `model-<kind>.gguf` into each model folder of an export, checks them, and says what
    they are. `kind` is f16 or f32.

    Raises ValueError for a model that llama.cpp's converter does not take, and for a file that is
    not the model.
    """
    converter = find_converter()
    parts = [
        path.parent for path in sorted([*folder.glob("config.json"), *folder.glob("*/config.json")])
    ]
    said = []
    for part in parts:
        file = part / f"model-{kind}.gguf"
        arguments = (converter, part, "--outfile", file, "--outtype", kind)
        done = run_python(arguments, NO_GPU)
        if done.returncode or not file.is_file():
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            lacks = lines[-1].startswith("ModuleNotFoundError")
            trouble = "needs a package that is not here" if lacks else "does not take this model"
            raise ValueError(f"llama.cpp's {CONVERTER} {trouble}: {lines[-1][:300]}")
        equal = check_gguf(file, part)
        said.append(f"{file.relative_to(folder)}: {equal} tensors, the vocabulary and the template")
    return "; ".join(said)


def check_gguf(file: Path, folder: Path) -> int:
    """The number of tensors of a GGUF file that hold the weights of a model folder, in its dtype;
    llama.cpp has rows of some in another order, and norms of some families with one added.

    Raises ValueError if the vocabulary, the chat template, the end of a turn or a tensor differs.
    """
    from gguf import GGUFReader
    from transformers import AutoTokenizer

    reader = GGUFReader(file)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    problems = list(_of_tokenizer(reader, tokenizer))
    equal, wrong = _of_weights(reader, folder)
    if wrong or not equal:
        problems.append(f"weights: {len(wrong)} tensors differ, such as {(*wrong, 'all')[0]}")
    if problems:
        raise ValueError(f"{file.name} is not the model of its folder: {'; '.join(problems)}")
    return equal


def _of_tokenizer(reader: Any, tokenizer: Any) -> Iterator[str]:
    template = _value(reader, "tokenizer.chat_template")
    if template != tokenizer.get_chat_template():
        yield "template: it has " + ("another one" if template else "none")
    end = _value(reader, "tokenizer.ggml.eos_token_id")
    if end != tokenizer.eos_token_id:
        yield f"tokens: a turn ends with {end}, and not with {tokenizer.eos_token_id}"
    tokens = _value(reader, "tokenizer.ggml.tokens") or []
    own = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    added = tokenizer.added_tokens_decoder  # the converter may write these as they are decoded
    other = [
        number
        for number, token in enumerate(own)
        if number >= len(tokens)
        or (tokens[number] != token and (number not in added or added[number].special))
    ]
    if other:
        yield f"tokens: {len(other)} of {len(own)} are others, the first has number {other[0]}"


def _value(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _of_weights(reader: Any, folder: Path) -> tuple[int, list[str]]:
    """How many tensors of the folder's files the GGUF file has, and the names of those that it
    lacks or that differ.
    """
    import gguf
    from safetensors import safe_open

    kind = _value(reader, "general.architecture")
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)
    names = gguf.get_tensor_name_map(arch, int(_value(reader, f"{kind}.block_count")))
    stored = {tensor.name: tensor.data for tensor in reader.tensors}
    equal, wrong = 0, []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  it is no dictionary
                there = names.get_name(name, try_suffixes=(".weight", ".bias"))
                data = stored.get(there) if there else None
                if data is not None and _same(opened.get_tensor(name).float().numpy(), data):
                    equal += 1
                else:
                    wrong.append(name)
    return equal, wrong


def _same(weights: Any, stored: Any) -> bool:
    """Whether numbers are those of a tensor, in its dtype."""
    import numpy as np

    for offset in (0, 1):
        shifted = (weights + offset).astype(stored.dtype)
        if shifted.shape == stored.shape and (
            np.array_equal(shifted, stored)
            or np.array_equal(np.sort(shifted, axis=None), np.sort(stored, axis=None))
        ):
            return True
    return False
