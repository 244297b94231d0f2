"""What a shell offers at the Tab key."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slm_math.completing import SCRIPTS, complete


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ev", ["eval"]),
        ("fit --config sft/lo", ["sft/lora"]),
        ("fit --config=sft/lo", ["--config=sft/lora"]),
        ("fit --config = sft/lo", ["sft/lora"]),  # as bash divides it
        ("fit --model.optim.sche", ["--model.optim.schedule"]),
        ("fit --trainer.max_ep", ["--trainer.max_epochs"]),
        ("fit --model GR", ["GRPOModule"]),
        ("fit --model.optim.schedule cos", ["cosine"]),
        ("fit --model.agent SolverV", ["SolverVerifier"]),
        ("eval --split t", ["train", "test"]),
        ("eval --agents.x Maj", ["MajorityVote"]),
        ("eval --agents.x MajorityVote --agents.x.k", ["--agents.x.k"]),
        ("eval --source GSM", ["GSM8K"]),
        ("eval --inference.determ", ["--inference.deterministic"]),
        ("eval --inference.deterministic ", ["true", "false"]),
        ("build-data dra", ["drafts"]),
        ("configs sft/lo", ["sft/lora"]),
        ("completion z", ["zsh"]),
        ("eval --out runs/", []),
        ("report runs/", []),
        ("nothing --x", []),
        ("fit --tra", ["--trainer", "--trainer."]),
    ],
)
def test_words_are_completed(line: str, expected: list[str]) -> None:
    assert complete(line.split(" ")) == expected


def test_nothing_slow_is_imported() -> None:
    code = (
        "import sys; from slm_math.cli import run; run(['__complete', 'fit', '--model.ag'])\n"
        "slow = {'torch', 'lightning', 'transformers', 'sympy', 'numpy', 'jsonargparse', 'yaml'}\n"
        "assert not slow & sys.modules.keys()"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout == "--model.agent\n"


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash_completes(tmp_path: Path) -> None:
    """The function of the script, as bash calls it."""
    command = tmp_path / "slm-math"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m slm_math "$@"\n')
    command.chmod(0o755)
    script = f"""PATH={tmp_path}:$PATH
{SCRIPTS["bash"]}
COMP_WORDS=(slm-math fit --config quickstart/s) COMP_CWORD=3
_slm_math
printf '%s\\n' "${{COMPREPLY[@]}}"
complete -p slm-math
"""
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "quickstart/sft",
        "quickstart/student",
        "complete -o default -F _slm_math slm-math",
    ]
