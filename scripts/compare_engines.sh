#!/usr/bin/env bash
# Does it matter for learning which engine samples? GRPO of the quickstart's model with the transformers engine, with vLLM in
# the same process, and with `vllm serve`; three seeds each, and both engines with other random numbers,
# to see what chance does. Takes an environment with slm-math and vLLM (scripts/install_vllm_cpu.sh VENV -e ".[train]").
#
#   scripts/compare_engines.sh [OUT] [SFT...]     # SFT: models after SFT, one per seed (runs/quickstart/sft/export)
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/compare-engines}
shift || true
models=("${@:-runs/quickstart/sft/export}")
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
mkdir -p "$out"

run() { # LABEL SEED SAMPLING_SEED ENGINE [MORE]
  local folder=$out/$1/$2
  [ -e "$folder/export" ] && return
  slm-math fit --config configs/quickstart/grpo.yaml --trainer.default_root_dir "$folder" --seed_everything "$2" \
    --model.policy.path "${models[$2]}" --model.seed "$3" --model.objective.beta 0.04 \
    --data.seed "$2" --data.source.seed "$2" --model.inference.engine "$4" "${@:5}" \
    >"$out/$1-$2.log" 2>&1
}

for seed in "${!models[@]}"; do
  echo "seed $seed"
  run transformers "$seed" "$seed" transformers
  run again "$seed" "$((seed + 100))" transformers
  run vllm "$seed" "$seed" vllm
  run vllm-again "$seed" "$((seed + 100))" vllm
  if [ ! -e "$out/served/$seed/export" ]; then
    PORT=${PORT:-8077} WEIGHTS=file VENV=${VENV:-none} setsid scripts/serve_vllm.sh "${models[$seed]}" >"$out/serve-$seed.log" 2>&1 &
    server=$!
    trap 'kill -- -"$server" 2>/dev/null || true' EXIT
    run served "$seed" "$seed" auto --model.inference.vllm.servers "[http://127.0.0.1:${PORT:-8077}]"
    kill -- -"$server"
    wait "$server" 2>/dev/null || true
  fi
done
python scripts/compare_engines.py "$out"
