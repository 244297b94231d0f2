#!/usr/bin/env python3
"""Measure the processor time of an evaluation per problem: `slm-math eval` and lm-eval 0.4.13.

    python scripts/bench_eval.py MODEL --lm_eval PYTHON [--problems 16] [--repeats 5] [--json FILE]

MODEL is a folder (scripts/smollm2.py makes one), PYTHON an interpreter that has lm-eval beside the
same torch and transformers. Both sides answer the same problems in turn, each time in a process of
its own: the same weights in float32, the same prompts as text, greedily, with the same limit of new
tokens, the same end of a turn and the same number of requests at once, on one thread.

What is counted is the processor time of the process and of those that it started, after the
weights were loaded: rendering, tokenizing, decoding, grading and writing the results. lm-eval
imports much between the weights and the first pass, so the part from there on is shown, too.
Problems are from the test split of GSM8K if SLM_MATH_DATA names a folder with gsm8k/, else
generated ones.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SIDES = ("ours", "lm-eval")
RESAMPLES = 10_000


def problems(count: int) -> list[dict[str, str]]:
    """Questions with their reference answers."""
    data = os.environ.get("SLM_MATH_DATA")
    if data and (file := Path(data) / "gsm8k/test.jsonl").is_file():
        rows = [json.loads(line) for line in file.open(encoding="utf-8")][:count]
        return [
            {"question": row["question"], "answer": row["answer"].rpartition("####")[2].strip()}
            for row in rows
        ]
    from slm_math.data import Arithmetic

    tasks = Arithmetic(test=count).tasks("test")
    return [{"question": task.problem.text, "answer": str(task.gold)} for task in tasks]


def prompts(model: str, rows: list[dict[str, str]]) -> tuple[list[str], str]:
    """The prompts as `SingleShot` asks them, and the text that ends a turn."""
    from slm_math.policy.chat import ChatFormat
    from slm_math.policy.loading import load_tokenizer
    from slm_math.prompts import Prompt
    from slm_math.types import Problem

    chat = ChatFormat(load_tokenizer(model))
    problems = [Problem(str(n), row["question"]) for n, row in enumerate(rows)]
    return [chat.render(each.ask(Prompt("solve"))) for each in problems], chat.end_text


def used() -> float:
    """Seconds of processor time of this process and of those that it started and that ended."""
    own, others = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def watched() -> dict[str, float]:
    """Notes the processor time when the weights of a model were loaded, and at its first pass."""
    from transformers import PreTrainedModel

    noted: dict[str, float] = {}
    load = PreTrainedModel.from_pretrained.__func__

    def noting(cls: Any, *args: Any, **options: Any) -> Any:
        loaded = load(cls, *args, **options)
        noted["loaded"] = used()
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # with what was read of it
        first = model.get_input_embeddings().register_forward_pre_hook

        def begin(*_: Any) -> None:
            noted["first"] = used()
            hook.remove()

        hook = first(begin)
        return loaded

    PreTrainedModel.from_pretrained = classmethod(noting)  # type: ignore[method-assign]
    return noted


def phases(noted: dict[str, float], end: float, tokens: int) -> dict[str, float]:
    """Seconds of processor time up to the weights, from there to the first pass, and to the end."""
    return {
        "start": noted["loaded"],
        "before": noted["first"] - noted["loaded"],
        "decoding": end - noted["first"],
        "seconds": end - noted["loaded"],
        "tokens": tokens,
    }


def ours(work: dict[str, Any]) -> dict[str, float]:
    """Evaluates with `slm-math eval` in this process."""
    from slm_math.cli import run
    from slm_math.records.files import read_records

    noted = watched()
    out = Path(work["folder"]) / "out"
    table = f"{{class_path: Table, path: {work['rows']}, problem: question, validation: 0}}"
    sampling = f"{{temperature: 0.0, max_new_tokens: {work['new']}}}"
    run(
        [
            *("eval", "--split=train", "--agents.one=SingleShot", "--agents.one.prompt=solve"),
            f"--source={table}",
            *(f"--model={work['model']}", f"--out={out}", "--dtype=float32", "--torch_threads=1"),
            *("--inference.engine=transformers", f"--inference.slots={work['batch']}"),
            f"--inference.sampling={sampling}",
        ]
    )
    end = used()
    records = read_records(out / "one/records.jsonl")
    tokens = sum(record.tokens for record in records)
    return phases(noted, end, tokens)


def theirs(work: dict[str, Any]) -> dict[str, float]:
    """Evaluates with lm-eval in this process."""
    import torch

    torch.set_num_threads(1)
    import lm_eval  # type: ignore[import-not-found]
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-not-found]

    noted = watched()
    model = HFLM(pretrained=work["model"], dtype="float32", device="cpu", batch_size=work["batch"])
    task = {
        "task": "bench",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": work["rows"]}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {
            "until": [work["end"]],
            "do_sample": False,
            "max_gen_toks": work["new"],
        },
        "filter_list": [
            {
                "name": "flexible",
                "filter": [
                    {
                        "function": "regex",
                        "group_select": -1,
                        "regex_pattern": r"(-?[$0-9.,]{2,})|(-?[0-9]+)",
                    },
                    {"function": "take_first"},
                ],
            }
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    result = lm_eval.simple_evaluate(model=model, tasks=[task], log_samples=True, bootstrap_iters=0)
    (Path(work["folder"]) / "result.json").write_text(json.dumps(result, default=str))
    end = used()
    replies = [sample["resps"][0][0] for sample in result["samples"]["bench"]]
    tokens = sum(len(model.tokenizer(text)["input_ids"]) + 1 for text in replies)
    return phases(noted, end, tokens)


def measured(side: str, python: str, work: dict[str, Any]) -> dict[str, float]:
    """One evaluation by one side, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        options = json.dumps(work | {"folder": folder})
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": folder,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        command = [python, __file__, "--side", side, "--work", options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def ratio(first: list[float], second: list[float]) -> tuple[float, float, float]:
    """The ratio of two medians, and its 95 % bootstrap interval."""
    draw = random.Random(0)
    ratios = sorted(
        statistics.median(draw.choices(first, k=len(first)))
        / statistics.median(draw.choices(second, k=len(second)))
        for _ in range(RESAMPLES)
    )
    low, high = (ratios[int(share * RESAMPLES)] for share in (0.025, 0.975))
    return statistics.median(first) / statistics.median(second), low, high


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--lm_eval", default=sys.executable, help="an interpreter with lm-eval")
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8, help="requests at once")
    parser.add_argument("--new", type=int, default=64, help="the most new tokens of a reply")
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        result = {"ours": ours, "lm-eval": theirs}[options.side](json.loads(options.work))
        print(f"\n{json.dumps(result)}")
        return
    rows = problems(options.problems)
    texts, end = prompts(options.model, rows)
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "problems.jsonl"
        lines = [json.dumps(row | {"prompt": text}) for row, text in zip(rows, texts)]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        work = {
            "model": str(Path(options.model).absolute()),
            "rows": str(file),
            "end": end,
            "batch": options.batch,
            "new": options.new,
        }
        for number in range(options.repeats):
            for side in SIDES if number % 2 == 0 else SIDES[::-1]:
                python = sys.executable if side == "ours" else options.lm_eval
                runs[side].append(measured(side, python, work))
                print(f"{number + 1} of {options.repeats}, {side}: {runs[side][-1]}", flush=True)
    shown(runs, options)


def shown(runs: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> None:
    """Prints the table, and writes all measurements."""
    n = options.problems
    print(f"{n} problems, {options.batch} at once, at most {options.new} new tokens, "
          f"{options.repeats} repeats; medians")  # fmt: skip
    heads = ("to weights", "to 1st pass", "then", "new tokens", "per problem")
    print(f"{'CPU-s':8}" + "".join(f"{head:>14}" for head in heads))
    for side, own in runs.items():
        start, before, decoding, seconds, tokens = (
            statistics.median(run[name] for run in own)
            for name in ("start", "before", "decoding", "seconds", "tokens")
        )
        print(
            f"{side:8}{start:14.1f}{before:14.1f}{decoding:14.1f}{tokens:14.0f}{seconds / n:14.3f}"
        )
    result: dict[str, Any] = {"options": vars(options), "runs": runs}
    for name, top, bottom in (
        ("problem, after the weights were loaded", "seconds", None),
        ("problem, from the first pass on", "decoding", None),
        ("new token, from the first pass on", "decoding", "tokens"),
    ):
        first, second = (
            [run[top] / (run[bottom] if bottom else n) for run in runs[side]] for side in SIDES
        )
        middle, low, high = ratio(first, second)
        result[f"ratio per {name}"] = [middle, low, high]
        print(f"ours / lm-eval per {name}: {middle:.2f} [{low:.2f}, {high:.2f}]")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
