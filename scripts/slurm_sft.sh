#!/usr/bin/env bash
# Fine-tunes under SLURM, one run per task of a job array, and goes on by itself after preemption or the time limit.
#
#   sbatch --array=0-2 scripts/slurm_sft.sh --config sft/lora                     three seeds, one GPU each
#   sbatch --array=0 --gpus-per-node=4 --ntasks-per-node=4 scripts/slurm_sft.sh --config sft/full
#
# The array's number is the seed, and the run's folder is $RUNS/seed-NUMBER. Whatever follows the script's name goes to
# `slm-math fit`. The folder must be on a file system that all nodes share.
#
# Variables: RUNS (runs/NAME-OF-THE-JOB), SLM_MATH_VENV (.venv), HF_HOME (of models and data; shared, too).
#SBATCH --job-name=slm-math-sft
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.out
# five minutes before the end, so that the step under way can finish and be saved
#SBATCH --signal=SIGUSR1@300
set -euo pipefail

# shellcheck disable=SC1091
source "${SLM_MATH_VENV:-.venv}/bin/activate"
seed=${SLURM_ARRAY_TASK_ID:-0}
root=${RUNS:-runs/$SLURM_JOB_NAME}/seed-$seed
tasks=${SLURM_NTASKS_PER_NODE:-1}

# srun does not ask for what sbatch was asked for (since SLURM 22.05): each task would get one core
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

# Several tasks are ddp, unless an option or a config of the command names another strategy. The first start begins a
# run, each later one goes on from the newest whole checkpoint.
exec srun --kill-on-bad-exit=1 slm-math fit --seed_everything "$seed" "$@" \
  --trainer.default_root_dir "$root" --trainer.num_nodes "${SLURM_NNODES:-1}" \
  --trainer.devices "$tasks" --ckpt_path last_if_any
