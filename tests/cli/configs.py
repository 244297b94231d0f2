"""What tests of configs share: where they are, and what a command would run with."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from slm_math.cli import run

CONFIGS = Path(__file__).parents[2] / "configs"
FULL = [f"--config={CONFIGS / name}" for name in ("sft/full.yaml", "fast.yaml")]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The configuration that a command would run with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run([*arguments, "--print_config"])
    assert stop.value.code in (0, None)
    return yaml.safe_load(capsys.readouterr().out)
