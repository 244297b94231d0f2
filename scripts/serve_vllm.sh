#!/usr/bin/env bash
# Serve a model with vLLM's CPU build, as an OpenAI-compatible endpoint for OpenAIEngine.
#
#   scripts/serve_vllm.sh MODEL [MORE `vllm serve` ARGUMENTS...]
#
# Variables: VENV (where scripts/install_vllm_cpu.sh put it; .venv-vllm), HOST (127.0.0.1), PORT (8000),
# CONTEXT (2048 tokens), VLLM_CPU_KVCACHE_SPACE (GiB; 1). Stop it with Ctrl-C.
set -euo pipefail

model=${1:?usage: scripts/serve_vllm.sh MODEL [MORE ARGUMENTS...]}
shift

export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1} VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1}

# float32: the sampling log-probabilities then agree with transformers' to 1e-6. --enforce-eager: compiling costs
# 40 s and gains nothing at this size. --generation-config vllm: nothing but the request decides how to sample.
exec "${VENV:-.venv-vllm}/bin/vllm" serve "$model" --host "${HOST:-127.0.0.1}" --port "${PORT:-8000}" \
    --dtype float32 --enforce-eager --max-model-len "${CONTEXT:-2048}" --generation-config vllm "$@"
