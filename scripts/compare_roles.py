"""Trains a solver and a verifier together and each of them alone, for the same steps, and compares
them with the model before, paired, on held-out problems.

    python scripts/compare_roles.py runs/quickstart/sft/export --seeds 0 1 2 --steps 30 --n 900

Called again, it skips what is done.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

from slm_math.evaluation.compare import compare, shown_p
from slm_math.metrics.summary import read_summary
from slm_math.records.files import read_records

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/quickstart/multi_agent.yaml"
SOLVER = "[{class_path: Correct, init_args: {credit: change}}]"
ALONE = {
    "solver": ("[solver]", "{verifier: base}", SOLVER),
    "verifier": ("[verifier]", "{solver: base}", "[VerifierDecision]"),
}
AGENT = (
    "{class_path: SolverVerifier, init_args: {rounds: 2, prompt: solve_plain, verify_prompt: "
    "verify_plain, verify_output_prompt: output_plain, retry_prompt: solve_plain, output_prompt: "
    "output_plain, retry_temperature: 1.0, fresh: true}}"
)


def run(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "slm_math", *map(str, arguments)], check=True)


def train(who: str, model: str, root: Path, options: argparse.Namespace) -> str:
    """Trains the pair, or one role beside the other as it is; returns the export."""
    own: list[str] = []
    if who in ALONE:
        roles, frozen, rewards = ALONE[who]
        own = [
            *(f"--model.train_roles={roles}", f"--model.frozen={frozen}"),
            f"--model.rewards={rewards}",
            "--model.optim.role_lr={}",  # and the rate that the role has in the pair
            f"--model.optim.lr={'2e-3' if who == 'verifier' else '1e-3'}",
        ]
    if not (root / "export").is_dir():
        run(
            *("fit", f"--config={CONFIG}", f"--model.policy.path={model}"),
            *(f"--trainer.default_root_dir={root}", f"--seed_everything={root.parent.name}"),
            *("--trainer.max_epochs=1", f"--trainer.limit_train_batches={options.steps}"),
            "--trainer.callbacks=[ExportHF]",
            *(f"--data.batch_size={options.batch_size}", *own),
        )
    return str(root / "export")


def evaluate(model: str, out: Path, n: int) -> Path:
    """The folder of the agent's records; `model` serves all roles, or is {role: folder}."""
    if not (out / "solver_verifier" / "summary.json").is_file():
        run(
            *("eval", f"--out={out}", f"--agents.solver_verifier={AGENT}", f"--limit={n}"),
            *(f"--model={model}", "--torch_threads=1"),
            f"--source={{class_path: Arithmetic, init_args: {{test: {n}}}}}",
            *("--inference.sampling.max_new_tokens=40", "--inference.slots=128"),
        )
    return out / "solver_verifier"


def sampled(root: Path) -> int:
    """Tokens that the rollouts of a training had."""
    lines = (root / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()
    turns = (event for line in lines for event in json.loads(line)["events"])
    return sum(event.get("tokens", 0) for event in turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="where all of them start: the export of an SFT run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--n", type=int, default=900, help="held-out problems")
    parser.add_argument("--out", type=Path, default=Path("runs/compare_roles"))
    options = parser.parse_args()
    base = evaluate(options.model, options.out / "before", options.n)
    for seed in options.seeds:
        root = options.out / str(seed)
        folders = {"before": base}
        for who in ("pair", "solver", "verifier"):
            export = train(who, options.model, root / who, options)
            folders[who] = evaluate(export, root / f"eval-{who}", options.n)
        records = {who: read_records(folder / "records.jsonl") for who, folder in folders.items()}
        print(f"\nseed {seed}, n = {options.n}")
        for who, folder in folders.items():
            found = read_summary(folder)[1].metrics
            tokens = "" if who == "before" else f"({sampled(root / who):,} tokens sampled)"
            names = ("accuracy", "low", "high", "verifier_accuracy", "verifier_balanced_accuracy")
            share, low, high, agree, balanced = (f"{100 * found[name]:.1f}" for name in names)
            print(
                f"{who:9} {share} [{low}, {high}], verdicts agree {agree}, balanced {balanced}",
                tokens,
            )
        for a, b in (("before", "pair"), ("solver", "pair"), ("verifier", "pair")):
            [one] = compare({a: records[a], b: records[b]})
            gain, low, high = (f"{100 * x:+.1f}" for x in (one.difference, one.low, one.high))
            print(f"{b} - {a}: {gain} [{low}, {high}], p = {shown_p(one.p)} ({one.test})")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\nCPU: {used.ru_utime + used.ru_stime:.0f} s")


if __name__ == "__main__":
    main()
