"""Loads models and tokenizers from a folder or the hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from slm_math.data.hub import use_cache_if_away
from slm_math.policy.adapter_files import (
    base_in,
    base_of,
    check_adapter,
    processor_path,
    tokenizer_path,
)
from slm_math.policy.adapters import load_adapters
from slm_math.policy.architectures import (
    check_architecture,
    check_computation,
    own_attention,
    settle_packing,
)
from slm_math.policy.complete import (
    check_files,
    check_finite,
    check_tokenizer,
    check_weights,
    no_tokenizer,
)
from slm_math.policy.folders import (
    CERTIFICATE,
    check_exists,
    expanded,
    is_hub_name,
    local_folder,
    revision_of,
)
from slm_math.policy.sight import Sight, has_eyes, load_sight

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def check_path(path: str) -> str:
    """The path with `~` replaced.

    Raises ValueError if it is neither a model folder nor a possible hub id, if it is an adapter
    that cannot be loaded, or if a file of its weights, or of its base's, is damaged.
    """
    path = expanded(path)
    folder = Path(path)
    if folder.is_dir() and not _is_model(folder):
        raise ValueError(
            f"model folder {path} contains no config.json or adapter_config.json{_nearby(folder)}"
        )
    if folder.is_file():
        kind = "a trainer's checkpoint" if folder.suffix == ".ckpt" else "a file"
        raise ValueError(
            f"{path} is {kind}, and a model is a folder with config.json or adapter_config.json, "
            f"such as ExportHF and slm-math export write{_nearby(folder.parent)}"
        )
    check_exists(path)
    if is_hub_name(path):
        use_cache_if_away()
    check_adapter(path)
    for part in dict.fromkeys((path, base_in(path))):
        check_files(part, local_folder(part))
    return path


def check_model(path: str) -> str:
    """`check_path`, and a ValueError if the config of a model that is here, or of an adapter's
    base, says that it cannot be trained or decoded.
    """
    path = check_path(path)
    base = base_in(path)
    folder = local_folder(base)
    if folder is not None and (folder / "config.json").is_file():
        check_architecture(base, config_of(base))
    return path


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))


def _nearby(folder: Path) -> str:
    """A hint at model folders in a folder, or in the export of the run that it belongs to."""
    places = [folder, folder / "export", folder.parent / "export"]
    inside = [sub for place in places[:2] if place.is_dir() for sub in sorted(place.iterdir())]
    found = [str(place) for place in [*places, *inside] if _is_model(place)]
    return f": name {' or '.join(dict.fromkeys(found[:3]))}" if found else ""


def weights_hash(path: str, with_base: bool = True) -> str | None:
    """A hash of a model's weights, for an adapter including its base unless `with_base` is False;
    None without local files.
    """
    folder = local_folder(path)
    files = (
        []
        if folder is None
        else sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    )
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        stat = file.stat()
        digest.update(_file_hash(file, stat.st_mtime_ns, stat.st_size))
    base = base_of(path) if with_base else None
    if base is not None:
        digest.update((weights_hash(base) or base).encode())
    return digest.hexdigest() if files else None


@cache
def _file_hash(file: Path, changed: int, size: int) -> bytes:
    """The hash of a file, which is read again if it has changed."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").digest()


def config_hash(path: str) -> str | None:
    """A hash of what a model's config.json says about its network; None without one."""
    folder = local_folder(path)
    file = folder / "config.json" if folder is not None else None
    if file is None or not file.is_file():
        return None
    config = json.loads(file.read_text(encoding="utf-8"))
    for name in ("transformers_version", "_name_or_path", "use_cache", "torch_dtype", "dtype"):
        config.pop(name, None)
    text = json.dumps(config, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


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
        if file.name != CERTIFICATE:
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest() if files else None


def template_hash(template: str | None) -> str | None:
    """A hash of a chat template's file; None if the template is not a file."""
    file = Path(expanded(template)) if template else None
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

    path = base_in(path)
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
        return config, GenerationConfig.from_pretrained(base_in(path))
    except OSError:
        return config, None


def context_of(path: str) -> int | None:
    """A model's context in tokens; None if its config does not say."""
    return context_in(config_of(path))


def context_in(config: Any) -> int | None:
    """The most tokens that a model reads, by its config; None if that does not say."""
    text = config.get_text_config()
    names = ("max_position_embeddings", "max_seq_len")  # MPT has the second
    lengths = [getattr(text, name, None) for name in names]
    return min((length for length in lengths if length), default=None)


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a model. Raises ValueError if it is incomplete, or does not fit the model.

    If it has no padding token, the end-of-sequence token serves as one: masks are made from
    lengths, never from ids.
    """
    from transformers import AutoTokenizer

    path = tokenizer_path(check_path(path))
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


def sight_in(path: str, max_pixels: int | None = None) -> Sight | None:
    """The eyes of a model or of an adapter's base, by the files of the adapter if it has some; None
    if it has none that see here.
    """
    config = config_of(path)
    if not has_eyes(config):
        return None
    return load_sight(processor_path(path), config, load_tokenizer(path), max_pixels)


def load_model(
    path: str,
    dtype: torch.dtype = torch.float32,
    attention: str = "sdpa",
    sight: Sight | None = None,
    **options: Any,
) -> Any:
    """A causal language model in `dtype`, also if the checkpoint has another; `options` go to
    transformers. An adapter is loaded into its base. A model with eyes sees by `sight`, by default
    by the image processor of its files.

    Raises ValueError for an architecture that cannot be trained or decoded, and for weights that
    are missing, of another shape or not finite.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    path = check_path(path)
    base = base_of(path)
    if base is not None:
        loaded = load_model(base, dtype, attention, sight or sight_in(path), **options)
        with _quiet():
            return load_adapters(loaded, path).to(dtype)
    config = config_of(path)
    check_architecture(path, config)
    attention = own_attention(config, attention)
    auto = AutoModelForImageTextToText if has_eyes(config) else AutoModelForCausalLM
    try:
        with _quiet():
            loaded: Any = auto.from_pretrained(
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
    if getattr(model, "_hf_peft_config_loaded", False):  # its files are in the cache only now
        raise ValueError(
            f"hub model {path} is an adapter that had not been downloaded: it is now, run the "
            "same command again"
        )
    check_weights(path, info)
    model.sight = sight or sight_in(path)
    check_finite(path, model.named_parameters())
    # other kinds of attention need a GPU, and rounding in fewer bits would hide what is wrong
    if dtype == torch.float32 and attention in ("sdpa", "eager") and not options:
        check_computation(path, model)
    else:
        settle_packing(model, exact=False)
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
    if Path(path).is_dir():
        return ValueError(f"model folder {path} could not be loaded: {_first_line(error)}")
    return ValueError(
        f"model {path} could not be loaded: there is no folder {path} in {Path.cwd()}, and as a "
        f"hub model: {_first_line(error)} (`slm-math download --models {path}` downloads it ahead "
        "of time; a gated model needs HF_TOKEN in the environment)"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
