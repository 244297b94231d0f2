"""How a message says that an extra is installed."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slm_math.extras import install


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        ({"url": "file://FOLDER/clone", "dir_info": {}}, "pip install 'FOLDER/clone[train]'"),
        ({"url": "file://FOLDER/my%20wheel.whl"}, "pip install 'FOLDER/my wheel.whl[train]'"),
        ({"url": "file://FOLDER/gone"}, "pip install '.[train]' in a clone of slm-math"),
        ({"url": "https://a.org/a.whl"}, "pip install '.[train]' in a clone of slm-math"),
        ({}, "pip install '.[train]' in a clone of slm-math"),
        (None, "pip install '.[train]' in a clone of slm-math"),
    ],
)
def test_the_command_installs_from_where_this_came_from(
    origin: dict[str, Any] | None, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clone").mkdir()
    (tmp_path / "my wheel.whl").touch()
    text = json.dumps(origin).replace("FOLDER", str(tmp_path)) if origin is not None else None
    installed = SimpleNamespace(read_text=lambda name: text)
    monkeypatch.setattr("slm_math.extras.distribution", lambda name: installed)
    assert install("train") == command.replace("FOLDER", str(tmp_path))


def test_no_message_names_a_package_that_is_not_this_project() -> None:
    """pip would look for slm-math alone at PyPI, and install whatever has this name."""
    root = Path(__file__).parents[1]
    files = [*(root / "slm_math").rglob("*.py"), *(root / "docs").rglob("*.md"), root / "README.md"]
    alone = ("pip install slm-math", "pip install 'slm-math", 'pip install "slm-math')
    found = [file for file in files if any(each in file.read_text("utf-8") for each in alone)]
    assert found == []
