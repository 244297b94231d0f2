"""What the scripts for SLURM ask `srun` for. SLURM itself was tried by hand (docs/clusters.md)."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# what a job of three nodes with two tasks each finds, of what sbatch sets
JOB = {
    "SLURM_JOB_NAME": "job",
    "SLURM_JOB_NODELIST": "n[1-3]",
    "SLURM_NNODES": "3",
    "SLURM_NTASKS": "6",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_GPUS_PER_NODE": "2",
    "SLURM_CPUS_PER_TASK": "8",
    "SLURM_ARRAY_TASK_ID": "1",
}


def steps(folder: Path, script: str, *options: str) -> list[list[str]]:
    """The words of each `srun` of a script, after the cores that it gives to a task."""
    # training ends at once, and the server with it: it waits until this one has begun
    waits = f'[[ "$*" != *MASTER_ADDR* ]] || until [ -s {folder}/steps ]; do sleep 0.01; done'
    stubs = {
        "srun": f'{waits}\necho "$SRUN_CPUS_PER_TASK" "$@" >>{folder}/steps',
        "scontrol": r"printf 'n1\nn2\nn3\n'",
        "activate": "",
    }
    for name, body in stubs.items():
        file = folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/bash\n{body}\n")
        file.chmod(0o755)
    own = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "SLM_MATH_VENV": str(folder)}
    command = ["bash", str(ROOT / "scripts" / script), *options]
    subprocess.run(command, env=JOB | own | {"MODEL": "the/model"}, cwd=ROOT, check=True)
    return [line.split() for line in (folder / "steps").read_text().splitlines()]


@pytest.mark.parametrize("options", [("--config", "x-sharded"), ("--model.optim.sharded=true",)])
def test_no_word_of_the_command_decides_on_a_strategy(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    """Lightning takes ddp for several devices, unless the configuration names another one."""
    (tmp_path / "sft").mkdir()
    (tmp_path / "grpo").mkdir()
    [tuned] = steps(tmp_path / "sft", "slurm_sft.sh", *options)
    trained = steps(tmp_path / "grpo", "slurm_grpo.sh", *options)[-1]
    for words in (tuned, trained):
        assert " ".join(options) in " ".join(words)
        assert not [word for word in words if "strategy" in word]


def test_array_trains_a_seed_for_each_number(tmp_path: Path) -> None:
    [words] = steps(tmp_path, "slurm_sft.sh", "--config", "sft/full")
    said = " ".join(words)
    assert "fit --seed_everything 1 --config sft/full" in said
    assert "--trainer.default_root_dir runs/job/seed-1" in said
    assert "--trainer.num_nodes 3 --trainer.devices 2" in said
    assert said.endswith("--ckpt_path last_if_any")


def test_one_node_serves_and_the_others_train(tmp_path: Path) -> None:
    both = steps(tmp_path, "slurm_grpo.sh", "--config", "grpo/solver")
    [served] = [words for words in both if "serve" in words]
    [trained] = [words for words in both if "fit" in words]
    assert {"--nodes=1", "--ntasks=1", "n1"} <= set(served)
    # SLURM_NTASKS, which srun reads, counts the tasks of all nodes
    assert {"--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "n2,n3"} <= set(trained)
    assert {"SLURM_NNODES=2", "MASTER_ADDR=n2"} <= set(trained)
    assert "--trainer.num_nodes 2 --trainer.devices 2" in " ".join(trained)
    assert "[http://n1:8000]" in trained


@pytest.mark.parametrize("script", ["slurm_sft.sh", "slurm_grpo.sh"])
def test_each_task_gets_its_cores(script: str, tmp_path: Path) -> None:
    assert {words[0] for words in steps(tmp_path, script)} == {"8"}
