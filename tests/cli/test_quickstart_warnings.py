"""Who runs the quickstart reads no warning: neither of a library that changes nor of ours."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = "train: 8, validation: 4, test: 4, solve: 20, code: 20, check: 20, copies: 4, drills: 4"
OF_USERS = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
# what pytest and its configuration set, and what would silence somebody
NOT_OF_USERS = ("PYTHONWARNINGS", "PYTEST_", "TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY")


def slm_math(folder: Path, *commands: list[str]) -> str:
    """What commands say on stdout and stderr, in the environment that the quickstart makes.

    They run one after another in one process: its imports take longer than they do.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(NOT_OF_USERS)
    }
    code = (
        "import json, sys\nfrom slm_math.cli import run\n"
        "for command in json.loads(sys.argv[1]):\n    print(command[:2], flush=True)\n"
        "    run(command)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        cwd=folder,
        env=environment | OF_USERS | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_no_command_of_the_quickstart_warns(tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    source = f"{{class_path: Arithmetic, {SMALL}}}"
    fit = ["--trainer.limit_train_batches=2", f"--data.source={source}"]
    configs = {name: f"--config=configs/quickstart/{name}.yaml" for name in ("sft", "grpo", "eval")}
    training = slm_math(
        tmp_path,
        ["fit", configs["sft"], *fit, "--trainer.default_root_dir=runs/sft"],
        [
            "fit",
            configs["grpo"],
            *fit,
            "--trainer.default_root_dir=runs/grpo",
            "--trainer.max_epochs=1",
            "--data.batch_size=4",
            "--model.policy.path=runs/sft/export",
        ],
    )
    evaluation = slm_math(
        tmp_path,
        [
            "eval",
            configs["eval"],
            f"--source={source}",
            "--limit=2",
            "--inference.sampling.max_new_tokens=12",
            "--model=runs/grpo/export",
            "--out=runs/test",
        ],
        ["results", "runs/test"],
    )
    assert "solver_verifier" in evaluation.rpartition("['results'")[2]
    warned = [
        line
        for line in (training + evaluation).splitlines()
        if re.search("warn|deprecat", line, re.IGNORECASE)
        and "no program ran" not in line  # two steps teach no model to write programs
    ]
    assert not warned, "\n".join(warned)
