"""What every test shares: single-threaded numerics, and the folder of real data
where there is one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder named by SLM_MATH_DATA (GSM8K, MATH, MATH-500, recorded solutions), or a skip."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SLM_MATH_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data: SLM_MATH_DATA is not set and {folder} does not exist")
    return folder
