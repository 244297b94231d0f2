"""A project with a package `callbacks` of its own, beside the callbacks of slm-math."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.configs import FULL
from cli.fresh import ROOT

from slm_math import signatures
from slm_math.callbacks import AgentEval, ExportHF
from slm_math.early import refuse
from slm_math.parsing import RENAMED
from slm_math.training import TrainingCLI

OWN = """
import lightning as L


class Hello(L.Callback):
    def __init__(self, name: str = "you"):
        self.name = name
"""
HELLO = ["--trainer.callbacks+=callbacks.Hello", "--trainer.callbacks.name=me"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, in which Python finds slm_math as an installation has it: no folder of the
    source tree is on the path, where `callbacks` would be found.
    """
    places = [place for place in sys.path if place and Path(place) != ROOT]
    monkeypatch.setattr(sys, "path", [*places, str(tmp_path)])  # as slm_math.cli appends it
    finders = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
    monkeypatch.setattr(sys, "meta_path", finders)
    monkeypatch.delitem(sys.modules, "callbacks", raising=False)
    monkeypatch.delenv("SLM_MATH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    signatures.read.cache_clear()
    yield tmp_path
    sys.modules.pop("callbacks", None)
    signatures.read.cache_clear()


def test_a_package_of_this_name_works_beside_ours(installed: Path) -> None:
    (installed / "callbacks").mkdir()
    (installed / "callbacks" / "__init__.py").write_text(OWN)
    refuse("fit", [*FULL, *HELLO], RENAMED)
    cli = TrainingCLI([*FULL, *HELLO, "--trainer.accelerator=cpu"], run=False)
    kinds = {type(each).__name__: each for each in cli.trainer.callbacks}
    assert kinds["Hello"].name == "me"
    assert isinstance(kinds["AgentEval"], AgentEval)
    assert isinstance(kinds["ExportHF"], ExportHF)


@pytest.mark.parametrize("package", ["", OWN])
@pytest.mark.parametrize("name", ["callbacks.ExportHF", "callbacks.export.ExportHF"])
def test_the_former_name_of_a_callback_says_what_to_write(
    name: str, package: str, installed: Path
) -> None:
    if package:
        (installed / "callbacks").mkdir()
        (installed / "callbacks" / "__init__.py").write_text(package)
    with pytest.raises(ValueError, match=f"no class {name} any more: write ExportHF"):
        refuse("fit", [*FULL, f"--trainer.callbacks+={name}"], RENAMED)


def test_a_class_of_ones_own_with_a_name_of_ours_is_meant(installed: Path) -> None:
    (installed / "callbacks").mkdir()
    (installed / "callbacks" / "__init__.py").write_text(OWN.replace("Hello", "ExportHF"))
    refuse("fit", [*FULL, "--trainer.callbacks+=callbacks.ExportHF"], RENAMED)
