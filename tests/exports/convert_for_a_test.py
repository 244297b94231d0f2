"""Stands for llama.cpp's converter: takes the same arguments, and writes small Qwen2 and Llama
models as it does. FAULT in the environment puts a mistake into the file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file
from transformers import AutoTokenizer


def main(model: str, _out: str, outfile: str, _type: str, kind: str) -> None:
    folder, fault = Path(model), os.environ.get("FAULT")
    if fault == "refused":
        sys.exit("a traceback\nNotImplementedError: this architecture is not supported")
    config = json.loads((folder / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    arch = config["model_type"]
    writer = gguf.GGUFWriter(outfile, arch)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_tokenizer_model("gpt2")
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    writer.add_token_list(tokens[:-1] if fault == "vocabulary" else tokens)
    writer.add_eos_token_id(tokenizer.eos_token_id + (fault == "end"))
    writer.add_chat_template(tokenizer.chat_template + (" " if fault == "template" else ""))
    known = {name: each for each, name in gguf.MODEL_ARCH_NAMES.items()}[arch]
    names = gguf.get_tensor_name_map(known, config["num_hidden_layers"])
    for name, value in load_file(folder / "model.safetensors").items():
        if arch == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            # pairs of rows that are rotated together stand beside each other
            rows = value.reshape(-1, 2, 4, value.shape[1])
            value = np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(value.shape)
        if fault == "weights" and "down_proj" in name:
            value = value * np.float32(1.01)
        dtype = np.float16 if kind == "f16" and value.ndim > 1 else np.float32
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), value.astype(dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
