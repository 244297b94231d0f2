"""Commands in a process of their own, as a user starts them: nothing was imported before."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OF_USERS = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
# what pytest and its configuration set, and what would silence somebody
NOT_OF_USERS = ("PYTHONWARNINGS", "PYTEST_", "TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY")
CODE = """
import json, sys
from slm_math.cli import run
for command in json.loads(sys.argv[1]):
    print("=====", flush=True)
    try:
        run(command)
    except SystemExit as stop:
        assert not stop.code, stop.code
"""


def slm_math(folder: Path, *commands: list[str]) -> list[str]:
    """What each command says on stdout and stderr, in the environment that the quickstart makes.

    They run one after another in one process: its imports take longer than they do.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(NOT_OF_USERS)
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(commands)],
        cwd=folder,
        env=environment | OF_USERS | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.split("=====\n")[1:]


def warnings(said: str) -> list[str]:
    """The lines that warn of something: of a library that changes, or of ours."""
    return [
        line
        for line in said.splitlines()
        if re.search("warn|deprecat", line, re.IGNORECASE)
        and "no program ran" not in line  # two steps teach no model to write programs
    ]


SMALL = "train: 8, validation: 4, test: 4, solve: 20, code: 20, check: 20, copies: 4, drills: 4"
SOURCE = f"{{class_path: Arithmetic, {SMALL}}}"


def fit(method: str, *more: str) -> list[str]:
    """A training of the quickstart, made small."""
    return [
        *("fit", f"--config=configs/quickstart/{method}.yaml", "--trainer.limit_train_batches=2"),
        *(f"--data.source={SOURCE}", f"--trainer.default_root_dir=runs/{method}", *more),
    ]
