"""Loads models and tokenizers from a folder or the hub."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from slm_math.policy.architectures import (
    check_architecture,
    check_computation,
    own_attention,
)
from slm_math.policy.complete import (
    check_finite,
    check_missing,
    check_tokenizer,
    check_weights,
    no_tokenizer,
)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def check_path(path: str) -> None:
    """Raises ValueError if `path` is neither a model folder nor a possible hub id."""
    folder = Path(path).expanduser()
    if folder.is_dir() and not _is_model(folder):
        raise ValueError(
            f"model folder {path} contains no config.json or adapter_config.json{_nearby(folder)}"
        )
    if folder.is_file():
        kind = "a trainer's checkpoint" if folder.suffix == ".ckpt" else "a file"
        raise ValueError(
            f"{path} is {kind}, and a model is a folder with config.json or adapter_config.json, "
            f"such as ExportHF writes{_nearby(folder.parent)}"
        )
    if not folder.is_dir() and (
        path.startswith((".", "/", "~")) or path.count("/") != 1 or folder.parent.is_dir()
    ):
        raise ValueError(f"model path {path} does not exist (a hub model is written owner/name)")


def check_model(path: str) -> None:
    """`check_path`, and a ValueError if the config of a model that is here, or of an adapter's
    base, says that it cannot be trained or decoded.
    """
    check_path(path)
    base = base_of(path) or path
    folder = local_folder(base)
    if folder is not None and (folder / "config.json").is_file():
        check_architecture(base, config_of(base))


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))


def _nearby(folder: Path) -> str:
    """A hint at model folders in a folder, or in the export of the run that it belongs to."""
    places = [folder, folder / "export", folder.parent / "export"]
    inside = [sub for place in places[:2] if place.is_dir() for sub in sorted(place.iterdir())]
    found = [str(place) for place in [*places, *inside] if _is_model(place)]
    return f": name {' or '.join(dict.fromkeys(found[:3]))}" if found else ""


def base_of(path: str) -> str | None:
    """The base model's path if `path` is a LoRA adapter folder, otherwise None."""
    config = Path(path).expanduser() / "adapter_config.json"
    if not config.is_file():
        return None
    return json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]


def local_folder(path: str) -> Path | None:
    """The folder with a model's files: `path`, or the folder of a hub model's revision in the
    cache; None if the model was not downloaded.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", "adapter_config.json"):
        cached = try_to_load_from_cache(path, name) if path.count("/") == 1 else None
        if isinstance(cached, str):
            return Path(cached).parent
    return None


def revision_of(path: str) -> str | None:
    """The commit of a hub model in the cache; None for a folder."""
    folder = local_folder(path)
    return folder.name if folder is not None and folder.parent.name == "snapshots" else None


def weights_hash(path: str) -> str | None:
    """A hash of a model's weights, for an adapter including its base; None without local files."""
    folder = local_folder(path)
    files = (
        []
        if folder is None
        else sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    )
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "blake2b").digest())
    base = base_of(path)
    if base is not None:
        digest.update((weights_hash(base) or base).encode())
    return digest.hexdigest() if files else None


def files_hash(path: str) -> str | None:
    """A hash of a model's other files: configs, tokenizer, chat template; None without local
    files.
    """
    folder = local_folder(path)
    names = ("*.json", "*.jinja", "*.txt", "*.model")
    files = (
        sorted(file for name in names for file in folder.glob(name)) if folder is not None else []
    )
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest() if files else None


def template_hash(template: str | None) -> str | None:
    """A hash of a chat template's file; None if the template is not a file."""
    file = Path(template) if template else None
    return (
        hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
        if file is not None and file.is_file()
        else None
    )


def files_of(path: str, template: str | None = None) -> dict[str, str | None]:
    """A model's revision on the hub and the hashes of its files, for manifests."""
    return {
        "revision": revision_of(path),
        "weights": weights_hash(path),
        "files": files_hash(path),
        "template": template_hash(template),
    }


def config_of(path: str) -> Any:
    """A model's config; for an adapter, that of its base."""
    from transformers import AutoConfig, __version__

    path = base_of(path) or path
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False)
    except OSError as error:
        raise _unloadable(path, error) from error
    except ValueError as error:
        raise ValueError(
            f"model {path}: transformers {__version__} cannot make its architecture from "
            f"config.json (code that comes with a model is never run): {_first_line(error)}"
        ) from error


def configs_of(path: str) -> tuple[Any, Any]:
    """A model's config and its generation config (None if there is none); for an adapter, those of
    its base.
    """
    from transformers import GenerationConfig

    config = config_of(path)
    try:
        return config, GenerationConfig.from_pretrained(base_of(path) or path)
    except OSError:
        return config, None


def context_of(path: str) -> int | None:
    """A model's context in tokens; None if its config does not say."""
    return getattr(config_of(path).get_text_config(), "max_position_embeddings", None)


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a model. Raises ValueError if it is incomplete, or does not fit the model.

    If it has no padding token, the end-of-sequence token serves as one: masks are made from
    lengths, never from ids.
    """
    from transformers import AutoTokenizer

    check_path(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except OSError as error:
        raise _unloadable(path, error) from error
    except ValueError as error:  # no file that transformers could make one from
        raise no_tokenizer(path, "its files are missing or incomplete") from error
    rows = getattr(config_of(path).get_text_config(), "vocab_size", None)
    check_tokenizer(path, tokenizer, local_folder(path), rows)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    path: str, dtype: torch.dtype = torch.float32, attention: str = "sdpa", **options: Any
) -> Any:
    """A causal language model in `dtype`, also if the checkpoint has another; `options` go to
    transformers. An adapter is loaded into its base.

    Raises ValueError for an architecture that cannot be trained or decoded, and for weights that
    are missing, of another shape or not finite.
    """
    from transformers import AutoModelForCausalLM

    check_path(path)
    base = base_of(path)
    if base is not None:
        model = load_model(base, dtype, attention, **options)
        with _quiet():
            info = model.load_adapter(str(Path(path).expanduser()))
        check_missing(path, info.missing_keys, "adapter")
        return model.to(dtype)
    config = config_of(path)
    check_architecture(path, config)
    attention = own_attention(config, attention)
    try:
        with _quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path,
                dtype=dtype,
                attn_implementation=attention,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told by the check, with a reason
                **options,
            )
    except OSError as error:
        raise _unloadable(path, error) from error
    except (ImportError, ValueError) as error:  # no such attention here, or a kind of weights
        raise ValueError(
            f"model {path} cannot be loaded with attention {attention}: "
            f"{_first_line(error).partition('. ')[0]}"
        ) from error
    model, info = loaded
    check_weights(path, info)
    check_finite(path, model.named_parameters())
    # other kinds of attention need a GPU, and rounding in fewer bits would hide what is wrong
    if dtype == torch.float32 and attention in ("sdpa", "eager") and not options:
        check_computation(path, model)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bar of transformers, which breaks the trainer's, and its tables."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _unloadable(path: str, error: OSError) -> ValueError:
    return ValueError(
        f"model {path} could not be loaded: {_first_line(error)} (`slm-math download "
        f"--models {path}` downloads it ahead of time; a gated model needs "
        "HF_TOKEN in the environment)"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def free_cores() -> int:
    """The number of idle cores, at least 1.

    Two threads that spin on one core are many times slower than a single thread.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if not hasattr(os, "getloadavg"):
        return cores
    return max(1, min(cores, round(cores - os.getloadavg()[0])))
