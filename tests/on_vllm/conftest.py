"""Engines of the real vLLM, and scripts/check_vllm.py, whose checks are held to their bars here."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="session")
def script() -> Any:
    """The script as a module: its `generation`, `weights`, `inside` and `servers`
    hold the checks.
    """
    sys.path.insert(0, str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("check_vllm", SCRIPTS / "check_vllm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def models(
    script: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Any, Any]]:
    """ "tied", "untied" -> folder, model, tokenizer."""
    root = tmp_path_factory.mktemp("models")
    return {
        name: (root / name, *script.tiny(root / name, name == "tied"))
        for name in ("tied", "untied")
    }


@pytest.fixture
def hold() -> Callable[[Iterator[Any]], None]:
    """Runs a check to its end, and fails with every figure that misses its bar."""

    def run(figures: Iterator[Any]) -> None:
        missed = [figure for figure in figures if not figure.passes]
        assert not missed, "\n".join(f"{f.what}: {f.error or f.value}, bar {f.bar}" for f in missed)

    return run


@pytest.fixture
def forget_rotary() -> Iterator[None]:
    """vLLM's models of one process share their rotary embeddings, which a failed update leaves
    without memory.
    """
    yield
    from vllm.model_executor.layers import rotary_embedding

    rotary_embedding._ROPE_DICT.clear()
