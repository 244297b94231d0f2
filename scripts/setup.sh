#!/usr/bin/env bash
# Makes a virtual environment and installs slm-math into it. Sourced by the other scripts; leaves it active.
#
#   SLM_MATH_VENV=DIR       where the environment is made (default: .venv in the project)
#   SLM_MATH_VENV=active    use the environment that is active now
#   SLM_MATH_TORCH_INDEX    package index for torch on machines without an NVIDIA GPU (default: PyTorch's CPU index)
#   SLM_MATH_NEWEST=1       the newest versions that setup.cfg allows, not the tested ones of
#                           scripts/constraints.txt
#   PYTHON                  the interpreter to start from (default: python3; 3.11 or 3.12)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
extras=${1:-train}

if [ "${SLM_MATH_VENV:-}" = active ]; then
  python=$(command -v python3)
else
  venv=${SLM_MATH_VENV:-$root/.venv}
  if [ ! -x "$venv/bin/python" ]; then
    base=${PYTHON:-python3}
    "$base" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2])' ||
      { echo "slm-math needs Python 3.11 or newer; set PYTHON to one (found: $("$base" --version))" >&2; exit 1; }
    echo "making the environment $venv"
    "$base" -m venv "$venv"
  fi
  # shellcheck disable=SC1091
  source "$venv/bin/activate"
  python=$venv/bin/python
fi

pip() { "$python" -m pip --disable-pip-version-check --no-input "$@"; }

tested=$root/scripts/constraints.txt
if [ "${SLM_MATH_NEWEST:-}" = 1 ]; then
  torch="torch>=2.10,<2.14"
  versions=()
else
  torch="torch==2.13.0"
  versions=(--constraint "$tested")
fi

# torch first: asked for by range alone, pip takes the newest build, which on a machine without a GPU is gigabytes of
# CUDA that nothing uses
usable='import torch; v = tuple(map(int, torch.__version__.split("+")[0].split(".")[:2])); assert (2, 10) <= v < (2, 14)'
if ! "$python" -c "$usable" 2>/dev/null; then
  if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
    echo "installing $torch for this machine's GPU"
    pip install -q "${versions[@]}" "$torch"
  else
    index=${SLM_MATH_TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
    if "$python" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' "$index" 2>/dev/null; then
      echo "installing $torch (CPU build) from $index"
      pip install -q "${versions[@]}" --index-url "$index" --extra-index-url https://pypi.org/simple "$torch"
    else
      echo "installing $torch ($index does not answer; set SLM_MATH_TORCH_INDEX to name another CPU index)"
      pip install -q "${versions[@]}" "$torch"
    fi
  fi
fi

# the marker keeps a second run quick: nothing is installed again unless what decides about versions changed
stamp=$(cat "$root/setup.cfg" "$root/pyproject.toml" "$tested" | cksum | cut -d' ' -f1)-${extras}-${SLM_MATH_NEWEST:-0}
marker=$("$python" -c 'import sys; print(sys.prefix)')/.slm-math-installed
if [ "$(cat "$marker" 2>/dev/null)" != "$stamp" ]; then
  echo "installing slm-math[$extras] and what it needs (a few minutes the first time)"
  if [ "${SLM_MATH_NEWEST:-}" = 1 ]; then
    # what an earlier run installed is raised too; all but torch, which was chosen above
    kept=$(mktemp)
    "$python" -c 'from importlib.metadata import version; print("torch==" + version("torch"))' >"$kept"
    versions=(--upgrade --upgrade-strategy eager --constraint "$kept")
  fi
  pip install -q "${versions[@]}" -e "$root[$extras]"
  rm -f "${kept:-}"
  echo "$stamp" >"$marker"
fi
