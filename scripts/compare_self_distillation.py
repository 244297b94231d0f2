"""A fresh model that learns solutions which a model wrote itself, against one that learns as many
of the embedded ones.

    python scripts/compare_self_distillation.py runs/quickstart/grpo/export --seeds 0 1 2

For each seed the teacher (an export of configs/quickstart/grpo.yaml) tries training problems until
its answer is right (configs/quickstart/cot.yaml). One model with random weights then learns these
rows by SFT, another as many worked solutions of the data set, both by
configs/quickstart/cot_sft.yaml. All are evaluated greedily on the same held-out problems. Called
again, it goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from comparing import (
    QUICKSTART,
    Rows,
    arithmetic,
    evaluate,
    generate,
    options,
    show,
    show_cpu,
    train,
)

from slm_math.data.cot import CoT
from slm_math.records.record import Record

AGENT = "--agents.single_shot={class_path: SingleShot, init_args: {prompt: solve_plain}}"
PAIRS = (("embedded", "generated"), ("teacher", "generated"))


def solve(out: Path, model: Path, n: int) -> list[Record]:
    return evaluate(
        *(out, "single_shot", AGENT, f"--model={model}", arithmetic(n), "--torch_threads=1"),
        *("--inference.slots=128", "--inference.sampling={temperature: 0.0, max_new_tokens: 40}"),
    )


def one_seed(seed: int, chosen: argparse.Namespace) -> Rows:
    """The evaluations of the teacher and of what learned generated and embedded rows."""
    out, learns = chosen.out / str(seed), f"--config={QUICKSTART / 'cot_sft.yaml'}"
    file = generate(
        *(out / "cot", "cot.yaml", f"--model={chosen.teacher}", f"--seed={seed}"),
        "--source=Arithmetic",
        *(f"--source.init_args.seed={seed}", f"--source.init_args.train={chosen.problems}"),
    )
    count = len(CoT(str(file)).tasks("train"))
    print(f"seed {seed}: {count:,} rows to learn", flush=True)
    embedded = {"seed": seed, "solve": count, "code": 0, "check": 0, "copies": 0, "drills": 0}
    named = ", ".join(f"{name}: {value}" for name, value in embedded.items())
    sources = {
        "generated": f"{{class_path: CoT, init_args: {{path: {file}}}}}",
        "embedded": f"{{class_path: Arithmetic, init_args: {{{named}}}}}",
    }
    seeds = [f"--seed_everything={seed}", f"--data.seed={seed}"]
    models = {
        name: train(
            *(out / name, "sft.yaml", learns, *seeds, f"--data.source={source}"),
            f"--model.policy.scratch.seed={seed}",
        )
        for name, source in sources.items()
    }
    models["teacher"] = chosen.teacher
    return {name: solve(out / f"test-{name}", model, chosen.n) for name, model in models.items()}


def main() -> None:
    parser = options(__doc__ or "", "compare_self_distillation")
    parser.add_argument("teacher", type=Path, help=f"an export of {QUICKSTART.name}/grpo.yaml")
    parser.add_argument("--problems", type=int, default=4000, help="training problems to try")
    chosen = parser.parse_args()
    show({seed: one_seed(seed, chosen) for seed in chosen.seeds}, PAIRS)
    show_cpu()


if __name__ == "__main__":
    main()
