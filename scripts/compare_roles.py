"""Trains a solver and a verifier together and each of them alone, for the same steps, and compares
them with the model before, paired, on held-out problems.

    python scripts/compare_roles.py runs/quickstart/sft/export --seeds 0 1 2 --steps 30

All seeds start from the same model and are evaluated on the same problems. Called again, it goes on
where it was.
"""

from __future__ import annotations

import argparse

from comparing import (
    QUICKSTART,
    agent_of,
    arithmetic,
    evaluate,
    options,
    show,
    show_cpu,
    train,
    trained_tokens,
)

from slm_math.metrics.summary import Summary
from slm_math.records.record import Record

CONFIG = "multi_agent.yaml"
ALONE = {  # what else the training of one role has; its rate is the one that it has in the pair
    "solver": (
        "--model.frozen={verifier: base}",
        "--model.rewards=[{class_path: Correct, init_args: {credit: change}}]",
        "--model.optim.lr=1e-3",
    ),
    "verifier": (
        "--model.frozen={solver: base}",
        "--model.rewards=[VerifierDecision]",
        "--model.optim.lr=2e-3",
    ),
}
PAIRS = (("before", "pair"), ("solver", "pair"), ("verifier", "pair"))


def trained(who: str, seed: int, chosen: argparse.Namespace) -> str:
    """The model of the pair, or that of one role with the other as it was before."""
    root = chosen.out / str(seed) / who
    own: tuple[str, ...] = ()
    if who in ALONE:
        own = (f"--model.train_roles=[{who}]", "--model.optim.role_lr={}", *ALONE[who])
    export = train(
        *(root, CONFIG, f"--model.policy.path={chosen.model}", f"--seed_everything={seed}"),
        *(f"--model.seed={seed}", f"--data.seed={seed}", f"--data.source.seed={seed}"),
        *("--trainer.max_epochs=1", f"--trainer.limit_train_batches={chosen.steps}", *own),
    )
    print(f"seed {seed}, {who}: {trained_tokens(root):,} tokens sampled", flush=True)
    return str(export)  # which knows the role that was frozen


def solved(model: str, name: str, chosen: argparse.Namespace) -> list[Record]:
    agent = "solver_verifier"
    return evaluate(
        *(chosen.out / name, agent, f"--agents.{agent}={agent_of(CONFIG)}", f"--model={model}"),
        *(arithmetic(chosen.n), "--torch_threads=1", "--inference.slots=128"),
        "--inference.sampling={temperature: 0.0, max_new_tokens: 40}",
    )


def figures(summary: Summary) -> str:
    agree, balanced = (
        100 * summary.metrics[f"verifier_{name}"] for name in ("accuracy", "balanced_accuracy")
    )
    return f"{summary.shown()}, verdicts {agree:.1f} right, balanced {balanced:.1f}"


def main() -> None:
    parser = options(__doc__ or "", "compare_roles")
    parser.add_argument("model", help=f"where all start: an export of {QUICKSTART.name}/sft.yaml")
    parser.add_argument("--steps", type=int, default=30)
    chosen = parser.parse_args()
    before = solved(chosen.model, "before", chosen)
    seeds = {}
    for seed in chosen.seeds:
        models = {who: trained(who, seed, chosen) for who in ("pair", *ALONE)}
        seeds[seed] = {"before": before} | {
            who: solved(model, f"{seed}/eval-{who}", chosen) for who, model in models.items()
        }
    show(seeds, PAIRS, figures)
    show_cpu()


if __name__ == "__main__":
    main()
