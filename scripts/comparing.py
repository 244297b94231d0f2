"""What the scripts share that train several ways and compare them: they run slm-math, skip what is
done, and show accuracies and paired differences of each seed and of all together.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from slm_math.evaluation.compare import adjusted, compare
from slm_math.metrics.summary import Summary, summarize
from slm_math.records.files import read_records
from slm_math.records.record import Record, TurnEvent

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart"

Rows: TypeAlias = Mapping[str, Sequence[Record]]  # the evaluation of each model, by its name
Pairs: TypeAlias = Sequence[tuple[str, str]]  # of models, the second to be compared with the first


def options(script: str, out: str) -> ArgumentParser:
    """The options that all have; `script` is the text that describes it."""
    parser = ArgumentParser(description=script.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n", type=int, default=300, help="held-out problems, of each seed")
    parser.add_argument("--out", type=Path, default=Path("runs") / out)
    return parser


def run(*arguments: object) -> None:
    """Runs `slm-math` with these arguments."""
    subprocess.run([sys.executable, "-m", "slm_math", *map(str, arguments)], check=True)


def train(root: Path, config: str, *arguments: object) -> Path:
    """The export of a training run, which is begun or resumed unless it came to its end: an export
    is written after every epoch.
    """
    done = root / "done"
    if not done.is_file():
        run(
            *("fit", f"--config={QUICKSTART / config}", *arguments),
            *(f"--trainer.default_root_dir={root}", "--trainer.callbacks=[ExportHF]"),
            "--ckpt_path=last_if_any",
        )
        done.touch()
    return root / "export"


def evaluate(out: Path, agent: str, *arguments: object) -> list[Record]:
    """The records of an agent, whose evaluation is begun or resumed unless it is finished."""
    folder = out / agent
    if not is_finished(folder):
        run("eval", *arguments, f"--out={out}")
    return read_records(folder / "records.jsonl")


def generate(out: Path, config: str, *arguments: object) -> Path:
    """The accepted rows of a cascade, which is begun or resumed if it is not finished."""
    if not is_finished(out):
        run("generate-cot", f"--config={QUICKSTART / config}", *arguments, f"--out={out}")
    return out / "rows.jsonl"


def is_finished(folder: Path) -> bool:
    """Whether an evaluation or a cascade came to its end: one that stops leaves a summary, too."""
    summary = folder / "summary.json"
    return summary.is_file() and not json.loads(summary.read_text(encoding="utf-8"))["partial"]


def arithmetic(n: int) -> str:
    """The source of the first n held-out problems, the same ones for every seed."""
    return f"--source={{class_path: Arithmetic, init_args: {{test: {n}}}}}"


def agent_of(config: str) -> str:
    """The agent that a training config trains, to be evaluated as it is trained."""
    return str(model_of(config)["agent"])


def model_of(config: str) -> dict[str, Any]:
    """The options of the model in a training config."""
    return yaml.safe_load((QUICKSTART / config).read_text(encoding="utf-8"))["model"]


def tokens_of(record: Record) -> int:
    """The tokens that models wrote in a sample."""
    return sum(event.tokens for event in record.events if isinstance(event, TurnEvent))


def trained_tokens(root: Path) -> int:
    """The tokens that the rollouts of a training have."""
    with (root / "rollouts.jsonl").open(encoding="utf-8") as file:
        return sum(event.get("tokens", 0) for line in file for event in json.loads(line)["events"])


def accuracy_differences(rows: Rows, pairs: Pairs) -> list[str]:
    """Of every pair (a, b) the difference of accuracy, b - a, with p corrected for all pairs."""
    tests = adjusted([compare({a: rows[a], b: rows[b]})[0] for a, b in pairs])
    return [f"{test.b} - {test.a}: {test.shown()} ({test.test})" for test in tests]


def show(
    seeds: Mapping[int, Rows],
    pairs: Pairs,
    figures: Callable[[Summary], str] = Summary.shown,
    differences: Callable[[Rows, Pairs], list[str]] = accuracy_differences,
) -> None:
    """Prints the figures of every model and the differences of the pairs: of each seed, and of all
    together, whose samples of one problem count as one observation.
    """
    pooled = {
        name: [
            replace(each, sample=1000 * seed + each.sample)
            for seed, rows in seeds.items()
            for each in rows[name]
        ]
        for name in next(iter(seeds.values()))
    }
    titled = [(f"seed {seed}", rows) for seed, rows in seeds.items()]
    if len(seeds) > 1:
        titled.append((f"seeds {', '.join(map(str, seeds))}", pooled))
    for title, rows in titled:
        print(f"\n{title}")
        for name, records in rows.items():
            print(f"{name:22} {figures(summarize(records))}, {len(records)} samples")
        for line in differences(rows, pairs):
            print(line)


def show_cpu() -> None:
    """Prints the processor time of all commands that ran."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\nCPU: {used.ru_utime + used.ru_stime:.0f} s")
