#!/usr/bin/env bash
# GRPO under SLURM: the first node serves the model with vLLM, the others train. After preemption or the time limit
# SLURM starts the job again, and the run goes on from its last whole checkpoint.
#
#   MODEL=Qwen/Qwen2.5-1.5B-Instruct sbatch --nodes=3 scripts/slurm_grpo.sh --config grpo/solver --config grpo/dapo
#
# Whatever follows the script's name goes to `slm-math fit`. The run's folder must be on a file system that all nodes
# share. The control routes of the server need no key: keep its port within a private network.
#
# Variables: MODEL, RUN (runs/NAME-OF-THE-JOB), SLM_MATH_VENV (.venv, with the extras train and vllm), PORT (8000),
# WEIGHTS (nccl; `adapters` for LoRA), SEED (0).
#SBATCH --job-name=slm-math-grpo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
# five minutes before the end, so that the step under way can finish and be saved
#SBATCH --signal=SIGUSR1@300
set -euo pipefail
: "${MODEL:?name the model: MODEL=OWNER/NAME sbatch scripts/slurm_grpo.sh ...}"
[ "${SLURM_NNODES:?start this script with sbatch}" -ge 2 ] ||
  { echo "one node serves and the others train: --nodes=2 or more" >&2; exit 2; }

# shellcheck disable=SC1091
source "${SLM_MATH_VENV:-.venv}/bin/activate"
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
server=${nodes[0]} trainers=("${nodes[@]:1}")
tasks=$((${#trainers[@]} * SLURM_NTASKS_PER_NODE))  # srun would take the number of the whole job
address=http://$server:${PORT:-8000}
root=${RUN:-runs/$SLURM_JOB_NAME}

# srun does not ask for what sbatch was asked for (since SLURM 22.05): each task would get one core
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

# the signal before the end goes to all steps of a job, and the server has to serve until the last step of training ends
srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --gpus-per-node="$SLURM_GPUS_PER_NODE" -w "$server" --exact \
  env WEIGHTS="${WEIGHTS:-nccl}" HOST=0.0.0.0 VENV="${SLM_MATH_VENV:-.venv}" PORT="${PORT:-8000}" \
  bash -c 'trap "" USR1; exec scripts/serve_vllm.sh "$@"' serve "$MODEL" --data-parallel-size "$SLURM_GPUS_PER_NODE" &
serving=$!
trap 'kill "$serving" 2>/dev/null || true' EXIT

# Several tasks are ddp, unless an option or a config of the command names another strategy.
# no `exec`: the server has to end with the training
srun --kill-on-bad-exit=1 --nodes="${#trainers[@]}" --ntasks="$tasks" --ntasks-per-node="$SLURM_NTASKS_PER_NODE" \
  -w "$(IFS=,; echo "${trainers[*]}")" --exact \
  env SLURM_NNODES="${#trainers[@]}" MASTER_ADDR="${trainers[0]}" \
  slm-math fit --seed_everything "${SEED:-0}" "$@" \
  --model.policy.path "$MODEL" --model.inference.vllm.servers "[$address]" \
  --trainer.default_root_dir "$root" --trainer.num_nodes "${#trainers[@]}" \
  --trainer.devices "$SLURM_NTASKS_PER_NODE" --ckpt_path last_if_any
