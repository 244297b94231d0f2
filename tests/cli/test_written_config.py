"""The config.yaml that a run writes holds all its options, and runs again."""

import warnings
from pathlib import Path

import pytest
import yaml

from slm_math.cli import run

SMALL = [
    *("--model.policy.scratch.hidden", "32", "--model.policy.scratch.layers", "2"),
    *("--model.group_size", "2", "--model.inference.sampling.max_new_tokens", "4"),
    *("--data", "ProblemData", "--data.source", "Arithmetic", "--data.batch_size", "2"),
    *("--data.source.train", "8", "--data.source.validation", "4", "--data.source.test", "4"),
    *("--data.source.solve", "20", "--data.source.code", "4", "--data.source.check", "4"),
    *("--data.source.copies", "4", "--data.source.drills", "4"),
    *("--trainer.max_steps", "1", "--trainer.max_epochs", "1", "--torch_threads", "1"),
    *("--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"),
]

SEVERAL = [
    *("--model.agent", "SolverVerifier", "--model.train_roles", "[solver, verifier]"),
    *("--model.rewards", "[Correct, VerifierDecision]"),
]


@pytest.mark.parametrize(
    "given",
    [[], pytest.param(["--model.rewards+", "Format"], marks=pytest.mark.slow), SEVERAL],
    ids=["defaults", "rewards", "agent"],
)
def test_written_config_of_a_run_runs_again_without_a_warning(
    given: list[str], tmp_path: Path
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = ["fit", "--model", "GRPOModule", *SMALL, *given]
        run([*first, f"--trainer.default_root_dir={tmp_path / 'first'}"])
        [written] = tmp_path.glob("first/logs/*/config.yaml")
        run(["fit", f"--config={written}", f"--trainer.default_root_dir={tmp_path / 'again'}"])
    assert not [str(w.message) for w in caught if "serialize" in str(w.message)]
    [rewritten] = tmp_path.glob("again/logs/*/config.yaml")
    one, two = (yaml.safe_load(path.read_text()) for path in (written, rewritten))
    assert one["model"] == two["model"]
    assert (tmp_path / "again/rollouts.jsonl").is_file()
