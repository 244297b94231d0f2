"""On-policy distillation against SFT on the teacher's texts, at the same number of tokens.

    python scripts/compare_distillation.py runs/quickstart/grpo/export --seeds 0 1 2

For each seed a small student starts with a short SFT (configs/quickstart/student.yaml). One copy
then learns on-policy from the teacher (configs/quickstart/distill.yaml); the other by SFT on texts
that the teacher samples for the same training problems, until it has seen as many sampled tokens,
with the same optimizer, schedule and batch.
All are evaluated on the same held-out problems, greedily and by four samples at temperature 1.
Called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from comparing import (
    QUICKSTART,
    Rows,
    arithmetic,
    evaluate,
    model_of,
    options,
    show,
    show_cpu,
    tokens_of,
    train,
    trained_tokens,
)

from slm_math.records.record import Record, TurnEvent

AGENT = "--agents.single_shot={class_path: SingleShot, init_args: {prompt: solve_plain}}"
PAIRS = (("start", "distilled"), ("start", "SFT"), ("SFT", "distilled"))
WAYS = {
    "greedy": ("--inference.sampling.temperature=0.0",),
    "sampled": ("--inference.sampling.temperature=1.0", "--samples=4"),
}


def write_texts(records: Sequence[Record], budget: int, file: Path) -> int:
    """Writes what the teacher said as CoT, until `budget` tokens are reached; returns their
    number.
    """
    lines, spent = [], 0
    for record in records:
        if spent >= budget:
            break
        [text] = [event.reply for event in record.events if isinstance(event, TurnEvent)]
        if text.strip():
            said = {"question": record.problem, "ground_truth": record.gold, "solution": text}
            lines.append(said)
        spent += tokens_of(record)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return spent


def solve(out: Path, model: Path, *arguments: object) -> list[Record]:
    return evaluate(
        *(out, "single_shot", AGENT, f"--model={model}", "--torch_threads=1"),
        *("--inference.slots=128", "--inference.sampling.max_new_tokens=40", *arguments),
    )


def one_seed(seed: int, chosen: argparse.Namespace) -> dict[str, Rows]:
    """By way of decoding, the evaluations of the start, of SFT and of distillation."""
    out, student = chosen.out / str(seed), f"--config={QUICKSTART / 'student.yaml'}"
    seeds = [f"--seed_everything={seed}", f"--data.seed={seed}"]
    source = f"--data.source.seed={seed}"
    start = train(
        out / "start", "sft.yaml", student, *seeds, source, f"--model.policy.scratch.seed={seed}"
    )
    distilled = train(
        *(out / "distilled", "distill.yaml", *seeds, source, f"--model.seed={seed}"),
        *(f"--model.policy.path={start}", f"--model.teacher.path={chosen.teacher}"),
    )
    budget = trained_tokens(out / "distilled")
    texts = solve(
        *(out / "texts", chosen.teacher, "--split=train", "--samples=2"),
        f"--source={{class_path: Arithmetic, init_args: {{seed: {seed}}}}}",
        "--inference.sampling.temperature=1.0",
    )
    spent = write_texts(texts, budget, out / "texts.jsonl")
    print(f"seed {seed}: {budget:,} tokens of the student, {spent:,} of the teacher", flush=True)
    # weight_decay: distill.yaml leaves it out, the configuration below does not
    optim = {"weight_decay": 0.0} | model_of("distill.yaml")["optim"]
    sft = train(
        *(out / "sft", "sft.yaml", student, *seeds, "--data.shuffle=true"),
        f"--data.source={{class_path: CoT, init_args: {{path: {out / 'texts.jsonl'}}}}}",
        f"--model.policy={{scratch: null, path: {start}}}",
        *(f"--model.optim={json.dumps(optim)}", "--data.prompt_weight=0.0"),
        "--trainer.limit_train_batches=1.0",
    )
    models = {"start": start, "SFT": sft, "distilled": distilled}
    return {
        way: {
            name: solve(out / f"{way}-{name}", model, arithmetic(chosen.n), *decoded)
            for name, model in models.items()
        }
        for way, decoded in WAYS.items()
    }


def main() -> None:
    parser = options(__doc__ or "", "compare_distillation")
    parser.add_argument("teacher", type=Path, help=f"an export of {QUICKSTART.name}/grpo.yaml")
    chosen = parser.parse_args()
    seeds = {seed: one_seed(seed, chosen) for seed in chosen.seeds}
    for way in WAYS:
        print(f"\n== {way}")
        show({seed: ways[way] for seed, ways in seeds.items()}, PAIRS)
    show_cpu()


if __name__ == "__main__":
    main()
