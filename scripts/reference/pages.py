"""The text of each reference page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from reference.docstrings import escaped
from reference.sources import (
    Described,
    described,
    described_function,
    exported,
    find_class,
    option_lines,
)
from slm_math.command_table import COMMANDS, TRAINING, example, form
from slm_math.metrics.meanings import GROUPS
from slm_math.signatures import ROOT, read

CALLBACKS = "slm_math.callbacks" if read("slm_math.callbacks") else "callbacks"
CONFIGS = next(each for each in (ROOT / "slm_math" / "configs", ROOT / "configs") if each.is_dir())
NOTE = "<!-- Written by scripts/build_reference.py from the code: change that, not this page. -->"
# what `fit` builds, and what its options are made of
MODULES = ("slm_math.modules.sft.SFTModule", "slm_math.modules.grpo.GRPOModule")
SETTINGS = (
    "slm_math.policy.config.Policy",
    "slm_math.policy.lora.Lora",
    "slm_math.policy.scratch.Scratch",
    "slm_math.modules.optim.Optim",
    "slm_math.losses.objective.Objective",
    "slm_math.losses.advantages.Advantage",
    "slm_math.modules.teacher.Teacher",
)
SYNTHESIS = (
    *(
        f"slm_math.synthesis.accept.{name}"
        for name in ("Right", "CodeVerified", "Above", "Majority")
    ),
    "slm_math.synthesis.tries.Try",
    "slm_math.synthesis.cost.Price",
    "slm_math.synthesis.cost.Budget",
)
SAMPLING = (
    "slm_math.engines.settings.Inference",
    "slm_math.types.Sampling",
    "slm_math.engines.settings.RoleSampling",
    "slm_math.engines.settings.Vllm",
)
DATA_MODULES = ("slm_math.data.chat_data.ChatData", "slm_math.data.problem_data.ProblemData")
SANDBOXES = ("Sandbox", "RemoteSandbox")


def classes_of(package: str, base: str | None = None) -> list[str]:
    """The dotted paths of the classes that a package exports, those below `base` only, which is
    left out.
    """
    paths = [f"{package}.{name}" for name in exported(package)]
    found = [path for path in paths if find_class(path)]
    return [path for path in found if base is None or base in described(path).bases]


def engine_paths() -> list[str]:
    return [path for path in classes_of("slm_math.short_names") if not path.endswith(SANDBOXES)]


def sandbox_paths() -> list[str]:
    return [path for path in classes_of("slm_math.short_names") if path.endswith(SANDBOXES)]


def links_from(page: str) -> dict[str, str]:
    """Class -> where it is documented, as links on a page are written."""
    places = {
        "cli": (*MODULES, *SETTINGS, *SYNTHESIS),
        "agents": classes_of("slm_math.agents", "Agent"),
        "rewards": ("Reward",),
        "engines": (*SAMPLING, *engine_paths(), *sandbox_paths()),
        "data": ("Source", *DATA_MODULES),
    }
    links: dict[str, str] = {"Agent": "agents.md", "Engine": "engines.md"}
    for name, paths in places.items():
        for path in paths:
            last = path.rpartition(".")[2]
            links[last] = f"{'' if name == page else f'{name}.md'}#{last.lower()}"
    # the page itself is no link
    return {name: link for name, link in links.items() if link != f"{page}.md"}


def section(each: Described, page: str, level: str = "##") -> list[str]:
    """A class: heading, text, options."""
    lines = [f"{level} {each.name}", ""]
    lines += [each.doc.summary, ""] if each.doc.summary else []
    lines += [each.doc.text, ""] if each.doc.text else []
    links = {name: link for name, link in links_from(page).items() if name != each.name}
    options = option_lines(each.options, links)
    return lines + ([*options, ""] if options else [])


def without(each: Described, names: Iterable[str]) -> Described:
    return replace(each, options=tuple(o for o in each.options if o.name not in set(names)))


def page(title: str, *lines: str) -> str:
    text = "\n".join([f"# {title}", "", NOTE, "", *lines])
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def cli() -> str:
    lines = [
        "`slm-math COMMAND --help` prints the options of a command on the terminal. "
        "`--config FILE` may be given several times: later files and options win.",
        "",
        "| command | what it does |",
        "|---|---|",
        *(f"| [`{name}`](#{name}) | {text} |" for name, (_, text) in COMMANDS.items()),
        *(f"| [`{name}`](#training) | {text} |" for name, text in TRAINING.items()),
        "",
    ]
    for name, (function, text) in COMMANDS.items():
        each = described_function(function)
        lines += [f"## {name}", "", f"    {form(name)}", "", f"    {example(name)}"]
        lines += ["", each.doc.summary or f"{text[0].upper()}{text[1:]}.", ""]
        lines += [each.doc.text, ""] if each.doc.text else []
        lines += [*option_lines(each.options, links_from("cli")), ""]
        for path in SYNTHESIS if name == "generate-cot" else ():
            lines += section(described(path), "cli", level="###")
    commands = ", ".join(f"`slm-math {name}`" for name in TRAINING)
    lines += [
        "## Training",
        "",
        f"{commands} build a trainer, a model, and data:",
        "",
        "- `--model`: [SFTModule](#sftmodule) or [GRPOModule](#grpomodule) (below);",
        "- `--data`: [ChatData](data.md#chatdata) or [ProblemData](data.md#problemdata);",
        "- `--trainer`: Lightning's `Trainer`, with the [callbacks](callbacks.md) of this project;",
        "- `--ckpt_path`: `last`, `last_if_any`, or a checkpoint, to resume from;",
        "- `--seed_everything`, `--torch_threads`: the run's seed, and CPU threads of torch.",
        "",
    ]
    for path in (*MODULES, *SETTINGS):
        lines += section(described(path), "cli", level="###")
    return page("Commands and their options", *lines)


def agents() -> str:
    lines = [
        "The options of each agent are its fields: `--agents.NAME SolverVerifier "
        "--agents.NAME.rounds 3` in an evaluation, `--model.agent` in training. A prompt is the "
        "name of a template, or a text with slots. [Agents](../agents.md) says how to choose an "
        "agent, and how to write one.",
        "",
    ]
    for path in classes_of("slm_math.agents", "Agent"):
        lines += section(described(path), "agents")
    return page("Agents", *lines)


def rewards() -> str:
    base = described("slm_math.rewards.Reward")
    common = [option.name for option in base.options]
    lines = [
        "`--model.rewards+ '{class_path: Correct, wrong: -1}'` adds a reward. "
        "[Rewards](../rewards.md) has formulas, credits, and how to write one.",
        "",
        *section(base, "rewards"),
        "These options are those of every reward; below are those of single ones.",
        "",
    ]
    for path in classes_of("slm_math.rewards", "Reward"):
        lines += section(without(described(path), common), "rewards")
    return page("Rewards", *lines)


def engines() -> str:
    lines = [
        "An engine answers the requests of one role: `--engines.verifier OpenAIEngine` in an "
        "evaluation, `--model.engines` in training. The policy is served as `inference` says.",
        "",
    ]
    for path in SAMPLING:
        lines += section(described(path), "engines")
    lines += ["## Engines of roles", ""]
    for path in engine_paths():
        lines += section(described(path), "engines", level="###")
    lines += [
        "## Sandboxes",
        "",
        "Where programs of agents run ([the sandbox](../sandbox.md)).",
        "",
    ]
    for path in sandbox_paths():
        lines += section(described(path), "engines", level="###")
    return page("Engines, sampling and sandboxes", *lines)


def callbacks() -> str:
    lines = [
        f"In a config: `class_path: {CALLBACKS}.AgentEval`, or the short name; on the command "
        "line `--trainer.callbacks+ RolloutTable`. `RolloutLog`, `Status`, `StopReason`, "
        "`Watchdog`, `Progress` and `Checkpoints` are part of every run.",
        "",
    ]
    for path in classes_of(CALLBACKS):
        lines += section(described(path), "callbacks")
    return page("Callbacks", *lines)


def data() -> str:
    lines = [
        "`--source GSM8K` names a data set in an evaluation, `--data.source GSM8K` in training. "
        "[Data](../data.md) has the formats of files, and a data set of your own.",
        "",
        "## Data modules",
        "",
    ]
    for path in DATA_MODULES:
        lines += section(described(path), "data", level="###")
    lines += ["## Data sets", "", *section(described("slm_math.data.Source"), "data", level="###")]
    for path in classes_of("slm_math.data", "Source"):
        lines += section(described(path), "data", level="###")
    return page("Data", *lines)


def configs() -> str:
    lines = [
        'One file per idea. A file that says "over X" is an overlay: '
        "`--config X --config OVERLAY`, the later one wins.",
        "",
    ]
    folders = sorted({path.parent for path in CONFIGS.rglob("*.yaml")})
    for folder in folders:
        lines += [f"## {folder.relative_to(CONFIGS.parent).as_posix()}", ""]
        for path in sorted(folder.glob("*.yaml")):
            lines += [f"### {path.name}", "", *_comment(path.read_text(encoding="utf-8")), ""]
    return page("Configs", *lines)


def _comment(text: str) -> list[str]:
    """The comment at the beginning of a config; its indented lines are commands."""
    lines: list[str] = []
    for row in text.splitlines():
        if not row.startswith("#"):
            break
        words = row[1:].strip()
        if row.startswith("#   "):
            lines += ["", f"    {words}", ""]
        elif lines and lines[-1]:
            lines[-1] += f" {escaped(words)}"
        else:
            lines.append(escaped(words))
    return lines


def metrics() -> str:
    lines = [
        "Names in angle brackets stand for a value: `length/<role>` is logged as `length/solver`. "
        "Shares are between 0 and 1. Unless a section says otherwise, they are of samples, and a "
        "metric is in `summary.json`, is logged by `AgentEval` as `eval/<agent>/NAME` (with "
        "`sources` as `eval/<set>/<agent>/NAME`), and, where it applies to rollouts, by GRPO as "
        "`train/NAME`. [Evaluation](../evaluation.md) says how intervals are computed.",
        "",
    ]
    for title, (text, meanings) in GROUPS.items():
        lines += [f"## {title}", "", text, ""]
        lines += [f"- `{name}`: {escaped(meaning)}" for name, meaning in meanings.items()]
        lines.append("")
    return page("Metrics", *lines)


PAGES: dict[str, Callable[[], str]] = {
    "cli": cli,
    "agents": agents,
    "rewards": rewards,
    "engines": engines,
    "callbacks": callbacks,
    "data": data,
    "configs": configs,
    "metrics": metrics,
}
