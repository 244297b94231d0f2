#!/usr/bin/env bash
# Sets everything up and passes the tests: lint, format, types, pytest. More arguments go to pytest
# (-n 0 runs one test after another).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh dev

cores=$(env -u OMP_NUM_THREADS nproc)  # nproc counts threads of that variable, not cores
# two spinning threads on busy cores are many times slower than one
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false

ruff check .
ruff format --check .
pyright
# a file stays on one core, as its tests share models; tests/conftest.py has the long ones come first
python -m pytest -n "$cores" --dist loadfile --no-loadscope-reorder \
  -m "not slow and not gpu and not vllm" "$@"
