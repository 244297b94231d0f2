#!/usr/bin/env bash
# Sets everything up, then teaches a tiny model mathematics: SFT, then GRPO, agents evaluated on the way, a table at the
# end. No GPU, no account, no download of models or data.
#
#   scripts/quickstart.sh [SEED]
#
# SLM_MATH_VENV=active uses the active environment; RUNS=DIR says where everything is written (default: runs/quickstart).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh

seed=${1:-0}
runs=${RUNS:-runs/quickstart}
if [ -e "$runs" ]; then
  old=$runs.$(date +%Y%m%d-%H%M%S)
  mv "$runs" "$old"
  echo "the last run was moved to $old"
fi
export OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

begin=$(date +%s)
lap() { local now; now=$(date +%s); echo "$1: $((now - last)) s" | tee -a "$runs/seconds.txt"; last=$now; }
last=$begin
mkdir -p "$runs"

echo "== SFT: a model with random weights learns from worked solutions"
slm-math fit --config configs/quickstart/sft.yaml --trainer.default_root_dir "$runs/sft" --seed_everything "$seed" \
  --model.init_args.policy.scratch.seed "$seed" --data.init_args.seed "$seed" --data.init_args.source.init_args.seed "$seed"
lap SFT
echo "== GRPO: the model practises on problems of which only the answers are known"
slm-math fit --config configs/quickstart/grpo.yaml --trainer.default_root_dir "$runs/grpo" --seed_everything "$seed" \
  --model.init_args.policy.path "$runs/sft/export" --model.init_args.seed "$seed" \
  --data.init_args.seed "$seed" --data.init_args.source.init_args.seed "$seed"
lap GRPO
echo "== agents on the test split, which no training has seen"
for stage in sft grpo; do
  slm-math eval --config configs/quickstart/eval.yaml --policy "$runs/$stage/export" --out "$runs/test/$stage" \
    --seed "$seed" --source.init_args.seed "$seed"
done
lap evaluation

slm-math results "$runs/test/sft" "$runs/test/grpo" --by kind
echo
echo "seconds: $(tr '\n' ',' <"$runs/seconds.txt" | sed 's/,$//; s/,/, /g'); in all $(($(date +%s) - begin)) s"
echo "checkpoints: $runs/{sft,grpo}/checkpoints   models for transformers and vLLM: $runs/{sft,grpo}/export"
echo "transcripts: $runs/test/{sft,grpo}/<agent>/records.jsonl, and per epoch $runs/{sft,grpo}/eval"
