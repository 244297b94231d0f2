"""The options that most runs set, which are the help of a command with very many options."""

from __future__ import annotations

import textwrap

from slm_math.command_table import COMMANDS, TRAINING, example, form

WIDTH, COLUMN = 80, 26  # characters of a line, and of the names in it
_CONFIG = {"config": "NAME|FILE: options from YAML; of several, later ones win"}
_SAMPLING = {
    "inference.sampling.max_new_tokens": "N: the most tokens of a reply",
    "inference.sampling.temperature": "T: 0 always takes the most likely token",
}
_OF_EVALUATION = {
    "eval.limit": "N: the problems of an evaluation, at most",
    "eval.samples": "N: samples of each of them",
    "ckpt_path": "last|FILE: the checkpoint to go on from",
    "trainer.default_root_dir": "FOLDER: where the run is, one for each run",
}
# command -> option -> what stands for its value, and what it does
EVERYDAY: dict[str, dict[str, str]] = {
    "fit": {
        **_CONFIG,
        "model.policy.path": "MODEL: what is trained, a folder or a name on the hub",
        "data.source": "CLASS: GSM8K, MATH, ...; files of your own: Table",
        "data.source.path": "FILE: the file or folder of a Table",
        "data.batch_size": "N: rows (SFT) or problems (GRPO) of a step",
        "data.limit": "N: trains on at most so many",
        "model.optim.lr": "RATE: the learning rate",
        "model.tokens_per_batch": "N: fewer need less memory, and change no result",
        "model.group_size": "N: samples of each problem (GRPO)",
        "model.agent": "CLASS: who solves the problems (GRPO)",
        "model.rewards+": "CLASS: one more reward (GRPO)",
        "model.inference.sampling.max_new_tokens": "N: the most tokens of a reply (GRPO)",
        "trainer.max_epochs": "N: how often it sees the data",
        "trainer.max_steps": "N: or how many steps it makes",
        "trainer.logger": "CLASS: TensorBoardLogger, WandbLogger, TrackioLogger",
        "eval.every_n_epochs": "N: how often agents are evaluated",
        "eval.twins": "FILE: unseen twins of the problems: what was memorized",
        "controls": "ARM: runs again with a reward or data that say nothing",
        **_OF_EVALUATION,
        "seed_everything": "N: the seed",
    },
    **dict.fromkeys(("validate", "test", "predict"), _CONFIG | _OF_EVALUATION),
    "eval": {
        **_CONFIG,
        "agents.NAME": "CLASS: an agent and what it is called here",
        "source": "CLASS: GSM8K, aime25, ...; files of your own: Table",
        "source.path": "FILE: the file or folder of a Table",
        "model": "MODEL: a folder, an adapter or a name on the hub",
        "engines.default": "CLASS: OpenAIEngine asks a server instead",
        "split": "test|validation|train",
        "limit": "N: at most so many problems",
        "samples": "N: samples of each problem",
        **_SAMPLING,
        "twins": "FILE: unseen twins of the problems: what was memorized",
        "by": "TAG: a table by the values of a tag as well",
        "out": "FOLDER: where the transcripts go",
    },
    "solve": {
        **_CONFIG,
        "model": "MODEL: a folder, an adapter or a name on the hub",
        "agent": "CLASS: who solves the problem",
        "gold": "ANSWER: says whether the answer is equal to it",
        "interactive": "chats, one problem after another",
        "image": "FILE ...: images of the problem",
        **_SAMPLING,
    },
}
# options whose class decides about others: `--model.help GRPOModule`
_CLASSES = {"fit": "--model.help GRPOModule", "eval": "--source.help Table"}


def everyday_help(command: str) -> str:
    """The example of a command, what it does, and its everyday options."""
    what = (TRAINING | {name: text for name, (_, text) in COMMANDS.items()})[command]
    options = {f"--{name}": text for name, text in EVERYDAY[command].items()}
    rows = [line for name, text in options.items() for line in _row(name, text)]
    more = {f"slm-math {command} --help all": "all options"}
    if command in _CLASSES:
        more[f"slm-math {command} {_CLASSES[command]}"] = "those of a class"
    more[f"{example(command).partition(' --')[0]} ... --print_config"] = "all values"
    wide = 2 + max(map(len, more))
    return "\n".join(
        [
            f"example: {example(command)}",
            f"\nusage: {form(command)}",
            f"\n{what[0].upper()}{what[1:]}.",
            "\nthe options that most runs set:",
            *rows,
            "",
            *(f"  {name:{wide}}{text}" for name, text in more.items()),
        ]
    )


def _row(name: str, text: str, width: int = COLUMN) -> list[str]:
    """An option in lines; a long name has a line of its own."""
    lines = textwrap.wrap(text, WIDTH - 2 - width)
    begin = [f"  {name}"] if len(name) > width - 2 else []
    first = "" if begin else name
    shown = [f"  {first:{width}}{lines[0]}", *(f"  {'':{width}}{line}" for line in lines[1:])]
    return [*begin, *shown]


def fitted(text: str, width: int = WIDTH) -> str:
    """A help text whose lines end at a width, where they have a blank to break at."""
    lines = []
    for line in text.split("\n"):
        indent = " " * min(len(line) - len(line.lstrip()) + 2, width // 2)
        lines += (
            textwrap.wrap(
                line,
                width,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
                drop_whitespace=True,
            )
            if len(line) > width
            else [line]
        )
    return "\n".join(lines)
