#!/usr/bin/env bash
# Sets everything up, then teaches a tiny model mathematics: SFT, then GRPO, agents evaluated on the way, a table at the
# end. No GPU, no account, no download of models or data.
#
#   scripts/quickstart.sh [SEED]
#
# CONTROLS=random_reward,format_only also trains these control arms of GRPO, a minute each (docs/controls.md).
# SLM_MATH_VENV=active uses the active environment; RUNS=DIR says where everything is written (default: runs/quickstart).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh ""  # without an argument it would see ours

seed=${1:-0}
source scripts/new_run.sh "${RUNS:-runs/quickstart}"
last=$begin
arms=${CONTROLS:-}
lap() { local now; now=$(date +%s); seconds="${seconds:+$seconds, }$1 $((now - last)) s"; last=$now; }
test_split() {
  slm-math eval --config configs/quickstart/eval.yaml --model "$runs/$1/export" --out "$runs/test/${1##*/}" \
    --seed "$seed" --source.seed "$seed"
}

echo "== SFT: a model with random weights learns from worked solutions"
slm-math fit --config configs/quickstart/sft.yaml --trainer.default_root_dir "$runs/sft" --seed_everything "$seed" \
  --model.policy.scratch.seed "$seed" --data.seed "$seed" --data.source.seed "$seed"
lap SFT

# the test split after SFT is evaluated on the other core meanwhile
test_split sft >"$runs/test-sft.log" 2>&1 &
tested=$!
trap 'kill "$tested" 2>/dev/null || true' EXIT

echo "== GRPO: problems with known answers but no worked solutions"
slm-math fit --config configs/quickstart/grpo.yaml --trainer.default_root_dir "$runs/grpo" --seed_everything "$seed" \
  --model.policy.path "$runs/sft/export" --model.seed "$seed" \
  --data.seed "$seed" --data.source.seed "$seed" ${arms:+--controls "$arms"}
lap GRPO

echo "== agents on the test split, which no training has seen"
test_split grpo
for arm in ${arms//,/ }; do test_split "grpo/controls/$arm"; done
wait "$tested" || { cat "$runs/test-sft.log" >&2; exit 1; }
lap evaluation

echo
slm-math results "$runs/test/sft" "$runs/test/grpo"
for arm in ${arms//,/ }; do slm-math results "$runs/test/$arm"; done
cat <<TXT
reasoning_forced is the control: a model that may not answer without reasoning. What GRPO gains over it after SFT is not
a matter of style. By kind of problem: slm-math results $runs/test/sft $runs/test/grpo --by kind

time: $seconds; in all $((last - begin)) s (installation not counted)
checkpoints: $runs/{sft,grpo}/checkpoints; models for transformers and vLLM: $runs/{sft,grpo}/export
transcripts: $runs/test/{sft,grpo}/<agent>/records.jsonl, and of every epoch under $runs/{sft,grpo}/eval
TXT
