#!/usr/bin/env bash
# Teaches a tiny model with eyes to count shapes, from random weights: SFT, then GRPO, evaluated with the images and with
# blank ones. No GPU, no account, no download of models or data.
#
#   scripts/quickstart_vision.sh [SEED]
#
# SLM_MATH_VENV=active uses the active environment; RUNS=DIR says where everything is written (default:
# runs/quickstart-vision).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh ""  # without an argument it would see ours

seed=${1:-0}
source scripts/new_run.sh "${RUNS:-runs/quickstart-vision}"
test_split() {
  slm-math eval --config configs/quickstart/vision_eval.yaml --model "$runs/$1/export" --out "$runs/test/$1" \
    --seed "$seed" --source.seed "$seed"
}

echo "== SFT: a model with random weights learns to read drawn scenes, and to count"
slm-math fit --config configs/quickstart/vision_sft.yaml --trainer.default_root_dir "$runs/sft" \
  --seed_everything "$seed" --model.policy.scratch.seed "$seed" --data.seed "$seed" --data.source.seed "$seed"

echo "== GRPO: questions with known answers but no worked solutions"
slm-math fit --config configs/quickstart/vision_grpo.yaml --trainer.default_root_dir "$runs/grpo" \
  --seed_everything "$seed" --model.policy.path "$runs/sft/export" --model.seed "$seed" \
  --data.seed "$seed" --data.source.seed "$seed"

echo "== the test split, with images and with blank ones"
test_split sft >"$runs/test-sft.log" 2>&1 &  # on the other core
tested=$!
trap 'kill "$tested" 2>/dev/null || true' EXIT
test_split grpo
wait "$tested" || { cat "$runs/test-sft.log" >&2; exit 1; }

echo
slm-math results "$runs/test/sft" "$runs/test/grpo" --by kind
slm-math compare "$runs/test/sft/single_shot" "$runs/test/grpo/single_shot" --flips 0
cat <<TXT
single_shot.blind sees blank images of the same size: what it knows is in the questions alone.

time: $(($(date +%s) - begin)) s in all (installation not counted)
models: $runs/{sft,grpo}/export; transcripts: $runs/test/{sft,grpo}/<agent>/records.jsonl
TXT
