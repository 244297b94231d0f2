"""Trains a solver and a verifier together, the solver alone and the verifier alone, for the same
steps, and compares all of them with the model before, paired, on held-out problems.

    python scripts/compare_roles.py runs/quickstart/sft/export --seeds 0 1 2 --steps 30 --n 900

Every step that is done is skipped when the script is called again. It prints a table for each seed:
the accuracy of the agent with its 95 % interval, how its verdicts agree, the tokens that training
sampled, and the paired differences to the model before and to the solver alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

from slm_math.evaluation.compare import compare
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
    command = [sys.executable, "-m", "slm_math", *map(str, arguments)]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"failed: {' '.join(command)}")


def train(who: str, model: str, root: Path, options: argparse.Namespace) -> str:
    """Trains the pair, or one role beside the other one as it is; returns what to evaluate."""
    own: list[str] = []
    if who in ALONE:
        roles, frozen, rewards = ALONE[who]
        own = [
            f"--model.train_roles={roles}",
            f"--model.frozen={frozen}",
            f"--model.rewards={rewards}",
            # the rate that the role has in the pair
            "--model.optim.role_lr={}",
            f"--model.optim.lr={'2e-3' if who == 'verifier' else '1e-3'}",
        ]
    if not (root / "export").is_dir():
        run(
            *("fit", f"--config={CONFIG}", f"--model.policy.path={model}"),
            *(f"--trainer.default_root_dir={root}", f"--seed_everything={root.parent.name}"),
            *("--trainer.max_epochs=1", f"--trainer.limit_train_batches={options.steps}"),
            *("--trainer.callbacks=[ExportHF]", "--trainer.limit_val_batches=0"),
            *(f"--data.batch_size={options.batch_size}", *own),
        )
    return str(root / "export")


def evaluate(solver: str, verifier: str, out: Path, n: int) -> Path:
    """The folder of the agent's records; both roles come from the folders that are named."""
    if not (out / "solver_verifier" / "summary.json").is_file():
        run(
            *("eval", f"--out={out}", f"--agents.solver_verifier={AGENT}", f"--limit={n}"),
            *(f"--model.solver={solver}", f"--model.verifier={verifier}", "--torch_threads=1"),
            *(f"--source={{class_path: Arithmetic, init_args: {{test: {n}}}}}",),
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
    base = evaluate(options.model, options.model, options.out / "before", options.n)
    for seed in options.seeds:
        root = options.out / str(seed)
        folders = {"before": base}
        for who in ("pair", "solver", "verifier"):
            export = train(who, options.model, root / who, options)
            parts = [
                options.model if who in ALONE and who != role else export
                for role in ("solver", "verifier")
            ]
            folders[who] = evaluate(*parts, root / f"eval-{who}", options.n)
        records = {who: read_records(folder / "records.jsonl") for who, folder in folders.items()}
        print(f"\nseed {seed}, n = {options.n}")
        for who, folder in folders.items():
            found = read_summary(folder)[1].metrics
            print(
                f"{who:9} {100 * found['accuracy']:5.1f} [{100 * found['low']:.1f}, "
                f"{100 * found['high']:.1f}]  verdicts agree "
                f"{100 * found.get('verifier_accuracy', float('nan')):.1f}, balanced "
                f"{100 * found.get('verifier_balanced_accuracy', float('nan')):.1f}"
            )
        for one, other in (("before", "pair"), ("solver", "pair"), ("verifier", "pair")):
            print(f"{other} - {one}: {compare(records[one], records[other])}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\nCPU: {used.ru_utime + used.ru_stime:.0f} s")


if __name__ == "__main__":
    main()
