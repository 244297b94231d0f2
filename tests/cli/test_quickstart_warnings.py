"""Who runs the quickstart reads no warning: neither of a library that changes nor of ours. (The
default run looks at its first command, in test_fresh_process.py.)
"""

from pathlib import Path

import pytest
from cli.fresh import ROOT, SOURCE, fit, slm_math, warnings


@pytest.mark.slow
def test_no_command_of_the_quickstart_warns(tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    start = "--model.policy.path=runs/sft/export"
    training = slm_math(
        tmp_path, fit("sft"), fit("grpo", start, "--trainer.max_epochs=1", "--data.batch_size=4")
    )
    evaluation = [
        *("eval", "--config=configs/quickstart/eval.yaml", f"--source={SOURCE}", "--limit=2"),
        *("--inference.sampling.max_new_tokens=12", "--model=runs/grpo/export", "--out=runs/test"),
    ]
    evaluated, results = slm_math(tmp_path, evaluation, ["results", "runs/test"])
    assert "solver_verifier" in results
    warned = warnings("".join([*training, evaluated, results]))
    assert not warned, "\n".join(warned)
