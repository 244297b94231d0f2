"""Folders and files that `fit` can refuse before it imports what takes seconds: a model or data
that are not there, and a root that holds another run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slm_math.config_files import load
from slm_math.policy.folders import check_exists
from slm_math.records.run_folder import refuse_second_run, traces_of_training
from slm_math.records.run_lock import lock_run, unlock_run
from slm_math.shipped import FOLDER, names
from slm_math.signatures import signature

NOTHING = ("", "null", "~")  # in YAML
BENCHMARK_CLASSES = "slm_math.data.benchmarks"
_UNKNOWN = object()  # nothing is certain of a value
# options that show a configuration, that make a trial of it, and sections for single commands
_OTHERWISE = ("print_config", "help", "fast_dev_run", "fit", "validate", "test", "predict")


def refuse_paths(command: str, settings: Sequence[Any], begins: bool = True) -> None:
    """Raises ValueError or FileNotFoundError for the paths of a training command's settings (of
    `early`) that are certainly wrong, and if a run `begins`, for its root.
    """
    from_environment = any(name.startswith(f"SLM_MATH_{command.upper()}__") for name in os.environ)
    if from_environment or any(_mentions(settings, name) for name in _OTHERWISE):
        return
    model = _value(settings, "model.policy.path")
    for path in model.values() if isinstance(model, dict) else [model]:
        if isinstance(path, str) and path.lower() not in NOTHING:
            _check_model(path)
    _refuse_data(settings)
    if command == "fit" and begins:
        _refuse_root(settings)


def _check_model(path: str) -> None:
    """`check_exists`; of the export of a run that a config of ours makes, the error names it."""
    try:
        check_exists(path)
    except ValueError as error:
        makers = [name for name in names() if _root_of(name) == Path(path).parent]
        if Path(path).name != "export" or not makers:
            raise
        raise ValueError(
            f"model path {path} does not exist: `slm-math fit --config {makers[0]}` trains it "
            "first, or name another model with --model.policy.path"
        ) from error


def _root_of(name: str) -> Path | None:
    """The root of the runs of a config of ours, if it sets one."""
    trainer = (load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")) or {}).get("trainer")
    root = trainer.get("default_root_dir") if isinstance(trainer, dict) else None
    return Path(root) if isinstance(root, str) else None


def _refuse_data(settings: Sequence[Any]) -> None:
    """Files of one's own that are not there, of a data set of ours."""
    name = _value(settings, "data.source")
    name = name.get("class_path") if isinstance(name, dict) else name
    if isinstance(name, str):
        _refuse_test_set(name)
    paths = _value(settings, "data.source.path")
    paths = paths if isinstance(paths, list) else [paths]
    paths = [path for path in paths if isinstance(path, str) and path.lower() not in NOTHING]
    if all(Path(path).expanduser().exists() for path in paths):
        return
    if not isinstance(name, str) or signature(f"slm_math.data.{name}") is None:
        return
    from slm_math.data.published import existing_path

    for path in paths:
        existing_path(path)


def _refuse_test_set(name: str) -> None:
    """A benchmark that is only tested on; their classes alone have names in lower case."""
    short = name.rpartition(".")[2]
    if name not in (short, f"{BENCHMARK_CLASSES}.{short}") or not short.islower():
        return
    from slm_math.data.benchmarks import NAMED, refusal

    if short in NAMED and NAMED[short].facts.test_only:
        raise ValueError(f"data.source: {refusal(short, 'train')}")


def _refuse_root(settings: Sequence[Any]) -> None:
    """A root that holds another run, on the first rank: the others begin when it has begun."""
    ranks = (os.environ.get(name, "0") for name in ("LOCAL_RANK", "RANK", "NODE_RANK"))
    root = _value(settings, "trainer.default_root_dir")
    resumes = _mentions(settings, "ckpt_path")
    if resumes or not isinstance(root, str) or any(rank != "0" for rank in ranks):
        return
    folder = Path(root)
    if any(folder.glob("hpc_ckpt_*.ckpt")) or not traces_of_training(folder):
        return
    lock_run(folder)  # a run that goes on is another mistake
    try:
        refuse_second_run(folder)
    finally:
        unlock_run(folder)


def _mentions(settings: Sequence[Any], option: str) -> bool:
    """Whether an option is given."""
    for setting in settings:
        inside = setting.value if isinstance(setting.value, dict) else {}
        if option in (*setting.path, *inside):
            return True
    return False


def _value(settings: Sequence[Any], name: str) -> Any:
    """The last value of an option; unknown if there is none, or if what is around it was given
    again after it.
    """
    keys = name.split(".")
    value: Any = _UNKNOWN
    for setting in settings:
        path = list(setting.path)
        common = keys[: len(path)]
        if path == common:
            inside = _inside(setting.value, keys[len(path) :], value)
            # options of the trainer are set one by one
            value = value if inside is _UNKNOWN and path == ["trainer"] else inside
    return value


def _inside(given: Any, keys: Sequence[str], before: Any) -> Any:
    """The value at `keys` in what was given; what was `before` if that is certainly still there."""
    if not keys:
        return given
    if not isinstance(given, dict):
        return _UNKNOWN  # a class, or nothing
    inside = given.get("init_args")
    here = {str(key).removesuffix("+"): each for key, each in given.items()}
    here |= inside if isinstance(inside, dict) else {}
    if keys[0] in here:
        return _inside(here[keys[0]], keys[1:], before)
    # of a class, or of an object, the last options may be all that it has
    return before if keys[1:] and "class_path" not in given else _UNKNOWN
