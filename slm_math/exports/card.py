"""The model card of an export: where it comes from, how well it solves problems, how to load it."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slm_math import __version__
from slm_math.config_files import load
from slm_math.exports.certificate import summary
from slm_math.metrics.summary import read_summary
from slm_math.policy.adapter_files import CONFIG
from slm_math.policy.config import Policy
from slm_math.policy.folders import is_hub_name
from slm_math.policy.role_paths import paths_of
from slm_math.records.eval_folders import evaluation_folders
from slm_math.records.files import read_manifest
from slm_math.records.run_folder import logs_of, read_run
from slm_math.visible import visible

CARD = "README.md"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$]|:(?=//))")
# settings of a run that a card names: the option, and what people call it
SETTINGS = {
    "model.class_path": "method",
    "data.init_args.source": "data",
    "data.init_args.batch_size": "batch size",
    "model.init_args.policy.init_args.lora": "adapter",
    "model.init_args.optim.init_args": "optimizer",
    "model.init_args.objective.init_args": "objective",
    "model.init_args.agent": "agent",
    "model.init_args.rewards": "rewards",
    "trainer.precision": "precision",
    "seed_everything": "seed",
}
_INNER = ("init_args", "class_path")


@dataclass(frozen=True)
class Origin:
    """Where an export comes from.

    Args:
        policy: the settings of the policy.
        roots: folders that may be the run's, the likeliest first.
        run: the run's id, None if it has none.
        epoch, step: how far the run had come.
        name: of the export, by default that of its folder.
    """

    policy: Policy
    roots: Sequence[Path] = ()
    run: str | None = None
    epoch: int = 0
    step: int = 0
    name: str = ""

    def root(self) -> Path | None:
        """The run's folder, if its manifest is of this run."""
        if self.run is None:
            return None
        return next((root for root in self.roots if read_run(root).get("run") == self.run), None)


def write_card(folder: Path, origin: Origin, certificate: Mapping[str, Any] | None) -> None:
    """Writes the card, completely or not at all. All that comes from files or models is escaped."""
    root, name = origin.root(), origin.name or folder.name
    run = {} if root is None else read_run(root)
    lines = [*_front(folder, origin.policy), "", f"# {plain_text(root.name if root else name)}", ""]
    lines += ["A language model that solves problems of mathematics, trained with slm-math.", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {name} | {plain_text(value)} |" for name, value in _facts(origin, root, run)]
    lines += ["", "## Evaluation", "", *_evaluation(root, origin), "", "## Use", ""]
    lines += _use(folder, name, origin.policy)
    lines += ["", "## Certificate", "", *_certificate(certificate)]
    if run.get("command"):
        command = "slm-math " + shlex.join(map(str, run["command"]))
        lines += ["", "## Command", "", *_fenced("sh", visible(command, allowed=""))]
    new = folder / f".{CARD}.new"
    new.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(new, folder / CARD)


def plain_text(value: Any, most: int = 300) -> str:
    """A value as one line of Markdown that shows it as it is: no markup, no HTML, no control
    characters.
    """
    text = " ".join(visible(str(value), allowed="\n").split())
    text = text if len(text) <= most else text[: most - 4] + " ..."
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", text)


def _front(folder: Path, policy: Policy) -> list[str]:
    """The metadata that the hub reads."""
    adapters = any(folder.glob(f"**/{CONFIG}"))
    lines = ["---", f"library_name: {'peft' if adapters else 'transformers'}"]
    lines += ["pipeline_tag: text-generation", "tags: [slm-math, math]"]
    if policy.path is not None and is_hub_name(policy.base):
        lines.append(f"base_model: {json.dumps(policy.base)}")
    return [*lines, "---"]


def _facts(origin: Origin, root: Path | None, run: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    policy = origin.policy
    if policy.path is None:
        yield "base", "none, trained from random weights"
    else:
        yield "base", _shown(policy.base)
        starts = [path for path in paths_of(policy.path) if path != policy.base]
        if starts:
            yield "continues", ", ".join(map(_shown, starts))
    if policy.chat_template or policy.chat_template_kwargs:
        shown = _shown(policy.chat_template) if policy.chat_template else "the model's own"
        variables = f", with {policy.chat_template_kwargs}" if policy.chat_template_kwargs else ""
        yield "chat template", shown + variables
    yield "epoch, step", f"{origin.epoch}, {origin.step}"
    if root is None:
        return
    settings = _configuration(root)
    for option, name in SETTINGS.items():
        value = _at(settings, option)
        if value is not None and value != {}:
            yield name, _brief(value)
    environment = run.get("environment", {})
    yield "started", run.get("started")
    versions = environment.get("versions", {})
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    if environment.get("commit"):
        yield "commit", environment["commit"]


def _shown(path: str) -> str:
    """A model by its name; of a folder the last part, since the rest is of one machine only."""
    return path if is_hub_name(path) else f"the folder {Path(path).name}"


def _configuration(root: Path) -> Any:
    """The configuration of the run's last session; {} if there is none."""
    folders = [root, *(log.parent for log in logs_of(root))]
    files = [folder / "config.yaml" for folder in folders if (folder / "config.yaml").is_file()]
    return load(files[-1].read_text(encoding="utf-8"), str(files[-1])) if files else {}


def _at(data: Any, option: str) -> Any:
    """The value of an option; groups without a class have their options directly."""
    for name in option.split("."):
        if isinstance(data, dict) and name == "init_args" and name not in data:
            continue
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _brief(value: Any) -> str:
    """A setting in a few words: classes by name, paths by their last part."""
    if isinstance(value, dict):
        if "class_path" in value:
            inner = _brief(value.get("init_args") or {})
            return _brief(value["class_path"]) + (f" ({inner})" if inner else "")
        pairs = ((name, _brief(each)) for name, each in value.items() if each is not None)
        return ", ".join(f"{name} {each}" for name, each in pairs if name not in _INNER)
    if isinstance(value, list):
        return ", ".join(map(_brief, value))
    text = str(value)
    if re.fullmatch(r"[\w.]+\.[A-Z]\w*", text):  # a class
        return text.rpartition(".")[2]
    return Path(text).name if text.startswith(("/", "~")) else text


def _evaluation(root: Path | None, origin: Origin) -> list[str]:
    """The figures of the evaluations of these very weights."""
    rows, graders = [], set()
    for stage in sorted((root / "eval").glob("*")) if root is not None else ():
        for agent, folder in evaluation_folders(stage).items():
            manifest = read_manifest(folder)
            about = manifest.get("about", {})
            if about.get("run") != origin.run or about.get("step") != origin.step:
                continue
            data = f"{about.get('source')}, {about.get('split')}"
            shown = read_summary(folder)[1].shown()
            rows.append(f"| {plain_text(agent)} | {plain_text(data)} | {plain_text(shown)} |")
            graders.add(str(manifest.get("environment", {}).get("grader")))
    if not rows:
        return ["These weights were not evaluated in training."]
    head = ["| agent | problems | accuracy in %, 95 % interval, n |", "|---|---|---|"]
    note = f"Graded by grader version {plain_text(', '.join(sorted(graders)))}."
    return [*head, *dict.fromkeys(rows), "", note]


def _use(folder: Path, name: str, policy: Policy) -> list[str]:
    names = ("config.json", CONFIG)
    parts = sorted({path.parent for each in names for path in folder.glob(f"*/{each}")})
    name = f"{name}/{parts[0].name}" if parts else name
    adapter = any((place / CONFIG).is_file() for place in (folder, *parts))
    package, auto = ("peft", "AutoPeftModel") if adapter else ("transformers", "AutoModel")
    options = "".join(f", {key}={value!r}" for key, value in _variables(policy).items())
    code = [
        f"from {package} import {auto}ForCausalLM",
        "from transformers import AutoTokenizer",
        "",
        f"folder = {name!r}",
        f"model = {auto}ForCausalLM.from_pretrained(folder)",
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        'chat = [{"role": "user", "content": "What is 17 * 24?"}]',
        "inputs = tokenizer.apply_chat_template(",
        f"    chat, add_generation_prompt=True, return_tensors='pt', return_dict=True{options}",
        ")",
        "reply = model.generate(**inputs, max_new_tokens=256)[0, inputs['input_ids'].shape[1] :]",
        "print(tokenizer.decode(reply, skip_special_tokens=True))",
    ]
    several = [
        f"There is a model for each role: {', '.join(plain_text(p.name) for p in parts)}.",
        "",
    ]
    return [*(several if len(parts) > 1 else []), *_fenced("python", *code)]


def _variables(policy: Policy) -> dict[str, Any]:
    return {k: v for k, v in (policy.chat_template_kwargs or {}).items() if str(k).isidentifier()}


def _certificate(certificate: Mapping[str, Any] | None) -> list[str]:
    if certificate is None:
        return ["This export was not compared with the policy that was trained."]
    own = ", ".join(f"{name} {number}" for name, number in certificate["versions"].items())
    return [
        "A fresh process loaded these files with plain transformers (and peft, for adapters), and "
        "compared what they make of a few chats with what the policy made of them:",
        f"{plain_text(summary(dict(certificate)))}. Versions: {plain_text(own)}.",
        "",
        f"`slm-math check-export` of slm-math {__version__} compares them again, and tells "
        "whether a file has changed.",
    ]


def _fenced(language: str, *lines: str) -> list[str]:
    """A block of code, in a fence that is longer than any within."""
    longest = max((len(each) for line in lines for each in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence + language, *lines, fence]
