"""What the files of an adapter say, before any model is loaded: its base, and whether it can be
loaded, trained and served.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from slm_math.policy.folders import expanded, is_folder_name, local_folder

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# settings of LoRA that are loaded, trained, saved and merged; others are refused when they are set
SUPPORTED = {
    *("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "lora_bias", "bias"),
    *("rank_pattern", "alpha_pattern", "init_lora_weights", "fan_in_fan_out"),
    *(
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "target_parameters",
    ),
    *("modules_to_save", "trainable_token_indices", "ensure_weight_tying"),
    # of initial values, which the saved weights replace
    *("eva_config", "loftq_config", "corda_config", "lora_ga_config"),
    # set by default, without effect on their own
    *("qalora_group_size", "megatron_core", "runtime_config"),
    # where the adapter comes from
    *("peft_type", "peft_version", "task_type", "auto_mapping", "inference_mode"),
    *("base_model_name_or_path", "revision"),
}
# initial values that leave the weights of the base as they are
PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")
# settings that vLLM does not apply, or applies wrongly
NOT_IN_VLLM = {
    *("use_dora", "modules_to_save", "trainable_token_indices", "lora_bias"),
    *("rank_pattern", "alpha_pattern", "target_parameters"),
}
SETS = ("target_modules", "exclude_modules")  # lists in the file
EMBEDDINGS = {"embed_tokens", "lm_head", "wte", "embed_in", "embed_out", "word_embeddings"}
MERGE = (
    "merge it into its base (peft's merge_and_unload, save_pretrained) and name the merged model"
)


def adapter_config(path: str) -> dict[str, Any] | None:
    """The config of an adapter; None if `path` is none, or was not downloaded."""
    folder = local_folder(path)
    file = folder / CONFIG if folder is not None else None
    if file is None or not file.is_file():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file} holds no adapter's config: it is not an object")
    return config


def base_of(path: str) -> str | None:
    """The path of the base model if `path` is an adapter, otherwise None.

    A relative folder is looked for from the working directory, then from the adapter's folder; one
    that begins with a dot, as in an export that holds its base, the other way round.
    """
    config = adapter_config(path)
    if config is None:
        return None
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ValueError(
            f"adapter {path} does not name its base: set base_model_name_or_path in its {CONFIG}"
        )
    base = expanded(base)
    folder = local_folder(path)
    if folder is None or not (folder / base).is_dir():
        return base
    if base.startswith(".") or not Path(base).is_dir():
        return str((folder / base).resolve())
    return base


def base_in(path: str) -> str:
    """The base of an adapter, or the model itself."""
    return base_of(path) or path


def rewrite_config(folder: Path, changes: Mapping[str, Any] | None = None) -> None:
    """Changes the config of an adapter that peft wrote, and sorts what peft keeps as sets: their
    order differs from process to process.
    """
    file = folder / CONFIG
    config = json.loads(file.read_text(encoding="utf-8")) | dict(changes or {})
    for name in SETS:
        if isinstance(config.get(name), list):
            config[name] = sorted(config[name])
    file.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def tokenizer_path(path: str) -> str:
    """Where a tokenizer is: with the adapter, or with its base if the adapter was saved alone."""
    folder, base = local_folder(path), base_of(path)
    if base is None or folder is None:
        return path
    own = any(any(folder.glob(name)) for name in ("tokenizer*", "vocab*", "*.model", "merges.txt"))
    return path if own else base


def processor_path(path: str) -> str:
    """Where an image processor is: with the adapter, or with its base."""
    folder, base = local_folder(path), base_of(path)
    own = folder is not None and (folder / "preprocessor_config.json").is_file()
    return path if base is None or own else base_in(path)


def check_adapter(path: str) -> None:
    """Raises ValueError for an adapter that cannot be loaded as it was trained."""
    config = adapter_config(path)
    if config is None:
        return
    _check_files(path)
    _check_base(path)
    kind, task = config.get("peft_type"), config.get("task_type")
    if kind != "LORA":
        raise ValueError(
            f"adapter {path} is of peft's kind {kind}, only LORA is supported: {MERGE}"
        )
    if task not in (None, "CAUSAL_LM"):
        raise ValueError(f"adapter {path} was made for the task {task}, not for CAUSAL_LM")
    others = sorted(key for key, value in config.items() if value and key not in SUPPORTED)
    if others:
        raise ValueError(
            f"adapter {path} sets {', '.join(others)} in its {CONFIG}, which is not supported: "
            f"{MERGE}"
        )
    start = config.get("init_lora_weights", True)
    if start not in PLAIN_STARTS:
        raise ValueError(
            f"adapter {path} was made with init_lora_weights {start!r}, which changes the weights "
            "of the base: save it as a plain adapter (save_pretrained with "
            f"path_initial_model_for_weight_conversion), or {MERGE}"
        )


def _check_files(path: str) -> None:
    folder = Path(expanded(path))
    if not folder.is_dir():  # a hub model, whose weights may come later
        return
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise ValueError(
            f"adapter {path} is incomplete: it has {CONFIG}, but no {WEIGHTS[0]}"
            + (
                f"; if the folder is that of a whole model, remove {CONFIG}"
                if (folder / "config.json").is_file()
                else ""
            )
        )
    whole = [*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")]
    if whole:
        raise ValueError(
            f"folder {path} holds a model ({whole[0].name}) and an adapter ({CONFIG}): move one of "
            "them to a folder of its own"
        )


def _check_base(path: str) -> None:
    base = base_of(path)
    assert base is not None
    named = f"the base of adapter {path}, {base} (base_model_name_or_path in its {CONFIG}),"
    folder = local_folder(base)
    if folder is None and is_folder_name(base):
        raise ValueError(
            f"{named} does not exist: a relative folder is looked for in the working directory "
            f"{Path.cwd()} and in the adapter's folder"
        )
    if folder is not None and (folder / CONFIG).is_file():
        raise ValueError(f"{named} is an adapter itself: merge it into its base first")
    if folder is not None and not (folder / "config.json").is_file():
        raise ValueError(f"{named} is not a model folder: it has no config.json")


def check_vllm_serves(paths: Iterable[str]) -> None:
    """Raises ValueError if vLLM does not serve an adapter among these models as it was trained."""
    for path in paths:
        check_vllm_applies(adapter_config(path) or {})


def check_vllm_applies(config: Mapping[str, Any]) -> None:
    """Raises ValueError if vLLM does not serve an adapter with this config as it was trained."""
    used = sorted(name for name in NOT_IN_VLLM if config.get(name))
    if config.get("bias", "none") != "none":
        used.append("bias")
    targets = config.get("target_modules") or ()
    names = [targets] if isinstance(targets, str) else targets
    used += sorted(name for name in names if name.rpartition(".")[2] in EMBEDDINGS)
    if used:
        raise ValueError(
            f"vLLM does not apply all of this adapter ({', '.join(used)}): use the transformers "
            "engine (engine: transformers, CheckpointEngine), or merge the adapter into its base"
        )
