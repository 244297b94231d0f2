"""What a release needs: versions that agree, and a wheel that has everything."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import slm_math

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
PARTS = ("slm_math", "callbacks", "configs", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == slm_math.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.+?)\]", changes, re.MULTILINE)[0] == slm_math.__version__


def test_the_folders_of_the_project_are_inside_of_the_package() -> None:
    for name in ("callbacks", "configs"):
        assert (ROOT / "slm_math" / name).samefile(ROOT / name)


def test_a_wheel_has_all_modules_configs_and_prompts(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, source / part, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / part, source / part)
    build = [sys.executable, "-c", BUILD, str(out)]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = out.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        f"{place}{file.relative_to(ROOT)}"
        for folder, place in (
            ("slm_math", ""),
            ("callbacks", "slm_math/"),
            ("configs", "slm_math/"),
        )
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".py", ".typed", ".yaml", ".txt", ".jinja", ".css", ".js")
    }
    assert len(expected) > 200
    assert inside == expected
