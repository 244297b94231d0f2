"""The configs that come with slm-math: found by name, listed, printed and copied."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path

from slm_math.spelling import similar

FOLDER = Path(__file__).parent / "configs"
_TEXT = re.compile(r"^\s*\{|:\s|\n")


@cache
def names() -> tuple[str, ...]:
    """The names of all configs, such as `sft/lora`, in the order of the alphabet."""
    files = (file.relative_to(FOLDER).with_suffix("") for file in FOLDER.rglob("*.yaml"))
    return tuple(sorted(file.as_posix() for file in files))


def is_text(config: str) -> bool:
    """Whether the value of `--config` is the text of a configuration, not the name of a file."""
    return _TEXT.search(config) is not None


def config_file(config: str) -> Path:
    """The file that `--config` means: an existing one, or else the config of slm-math with this
    name: `sft/lora`, also as `sft/lora.yaml` or `configs/sft/lora.yaml`.

    Raises ValueError if there is neither.
    """
    if Path(config).is_file():
        return Path(config)
    name = config.removeprefix("./").removeprefix("configs/").removesuffix(".yaml")
    if name in names():
        return FOLDER / f"{name}.yaml"
    if Path(config).is_dir():
        raise ValueError(f"--config {config} is a folder, not a YAML file")
    raise ValueError(f"config file does not exist: {config}{_nearest(name)}")


def _nearest(name: str) -> str:
    """Which configs may have been meant, by the whole name or its last part."""
    last = name.rpartition("/")[2]
    same = [each for each in names() if each.rpartition("/")[2] == last]
    if same:
        return f": did you mean {' or '.join(same)}?"
    return similar(name, set(names())) or " (slm-math configs lists those of slm-math)"


def first_line(name: str) -> str:
    """What a config says of itself: the comment in its first line."""
    with (FOLDER / f"{name}.yaml").open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def configs(name: str | None = None, copy: str | None = None) -> None:
    """Lists the configs that come with slm-math, with what each is for; prints one, or copies it:
    `slm-math configs`, `slm-math configs sft/lora`, `slm-math configs sft/lora --copy`.

    Args:
        name: a config, such as sft/lora.
        copy: write the config to this file; without a value, to a file of its own name here. An
            existing file stays as it is, and that is an error.
    """
    from rich.console import Console
    from rich.table import Table

    if name is None and copy:  # slm-math configs --copy sft/lora
        name, copy = copy, ""
    if name is None:
        if copy is not None:
            raise ValueError("name the config to copy: slm-math configs sft/lora --copy")
        table = Table(box=None, pad_edge=False, title="--config NAME; of several, later ones win")
        table.title_justify = "left"
        table.add_column("name", no_wrap=True)
        table.add_column("what it is for")
        for each in names():
            table.add_row(each, first_line(each))
        console = Console()
        console.print(table)
        console.print("slm-math configs NAME prints one; with --copy it is yours", highlight=False)
        return
    file = config_file(name)
    if copy is None:
        print(file.read_text(encoding="utf-8"), end="")
        return
    target = Path(copy or file.name)
    target = target / file.name if target.is_dir() else target
    if target.exists():
        raise ValueError(f"{target} exists: name another file, --copy FILE")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    print(f"wrote {target}: --config {target} takes it")
