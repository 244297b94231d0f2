"""Which known name a wrong one may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from slm_math.patterns import lazy_pattern

_NO_OPTION = lazy_pattern(r"there is no option ([^\s:]+)(?:: did you mean (.+)\?)?$")
# names of other tools -> the ends of the names of options here
ELSEWHERE: dict[str, tuple[str, ...]] = {
    "learning_rate": ("lr",),
    "epochs": ("max_epochs",),
    "num_epochs": ("max_epochs",),
    "num_train_epochs": ("max_epochs",),
    "per_device_train_batch_size": ("batch_size",),
    "gradient_accumulation_steps": ("tokens_per_batch",),
    "max_grad_norm": ("clip",),
    "max_tokens": ("max_new_tokens",),
    "max_seq_length": ("max_length",),
    "num_generations": ("group_size",),
    "kl_coef": ("beta",),
    "lora_r": ("lora.r",),
    "lora_alpha": ("lora.alpha",),
    "n": ("problems",),
    "seed": ("seed_everything",),
    "dataset": ("source",),
    "root": ("default_root_dir", "source.path"),
    "output_dir": ("out", "default_root_dir"),
    "out": ("default_root_dir",),
    "model_name": ("model", "policy.path"),
    "model_name_or_path": ("model", "policy.path"),
    "policy": ("model", "policy.path"),
}


def similar(name: str, known: Iterable[str]) -> str:
    """Which of the known names may have been meant, as the end of a sentence."""
    return meant(_close(name, set(known) - {name}, n=3, cutoff=0.6))


def meant(names: Iterable[str]) -> str:
    """A question as the end of a sentence; nothing without a name."""
    names = list(names)
    return f": did you mean {' or '.join(names)}?" if names else ""


def nearest_option(option: str, names: Iterable[str]) -> str:
    """Which of a command's options, by their whole names, may have been meant: those of the same
    last part or of another tool's name for it, or else those that begin so, or else those that are
    spelled alike. The nearest place comes first, and where there are options in the right place no
    others are named.
    """
    above, _, last = option.rpartition(".")
    # what every command has, and no signature
    names = {*names, *(() if above else ("help", "config"))} - {option}
    ends = (last, *ELSEWHERE.get(last, ()))
    found = [name for name in names if any(f".{name}".endswith(f".{end}") for end in ends)]
    found = found or [name for name in names if name.startswith(option)]
    if not found:
        parts = {name.rpartition(".")[2] for name in names}
        close = _close(last, parts, n=3, cutoff=0.75)
        found = [name for name in names if name.rpartition(".")[2] in close]
    found = found or _close(option, names, n=2, cutoff=0.75)

    def distance(name: str) -> tuple[int, float, int, str]:
        common = 0
        for mine, other in zip(option.split("."), name.split(".")[:-1]):
            common += mine == other
        alike = difflib.SequenceMatcher(None, last, name.rpartition(".")[2]).ratio()
        return -common, -alike, name.count("."), name

    found = sorted(found, key=distance)
    here = [name for name in found if above == name.rpartition(".")[0]]
    return meant((here or found)[:3])


def file_as_class(name: str) -> str:
    """What to write instead of a file where a class is named; nothing if it is no Python file."""
    if not name.endswith(".py"):
        return ""
    module = re.sub(r"[/\\]+", ".", name.removesuffix(".py").removeprefix("./")).strip(".")
    return f"{name} is a file: name a class in it, such as {module}.MyClass"


def with_dashes(message: str, arguments: Iterable[str]) -> str:
    """A message that there is no option, with options as a command line writes them if it is there
    that the option stands.
    """
    match = _NO_OPTION.match(message)
    names = (each.partition("=")[0].removesuffix("+") for each in arguments)
    given = [name.replace(".init_args", "") for name in names]
    if match is None or not any(f"{name}.".startswith(f"--{match[1]}.") for name in given):
        return message
    meant_ones = match[2].split(" or ") if match[2] else ()
    return f"there is no option --{match[1]}" + meant(f"--{name}" for name in meant_ones)


def _close(name: str, known: Iterable[str], n: int, cutoff: float) -> list[str]:
    """Known names that are spelled alike, whatever letters are capitals."""
    lower = {each.lower(): each for each in sorted(known)}
    return [lower[each] for each in difflib.get_close_matches(name.lower(), lower, n, cutoff)]
