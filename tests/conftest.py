"""What every test shares: single-threaded numerics, the folder of real data where there is one, and
what is graded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Files that take half a minute on a busy core: they come first, so that all workers end at about
# the same time.
LONG = (
    "cli/test_configs.py",
    "modules/test_ranks.py",
    "test_readme.py",
    "sandbox/test_attacks.py",
    "answers/test_equivalence.py",
    "modules/test_serving.py",
    "engines/test_vllm_servers.py",
    "policy/test_reference.py",
    "modules/test_resume.py",
    "cli/test_evaluation_commands.py",
    "cli/test_fresh_process.py",
    "modules/test_grpo.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    rank = {folder / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(LONG)))


@pytest.fixture(autouse=True)
def no_real_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests have hubs of their own; whether there is a network makes no difference to them."""
    monkeypatch.setattr("slm_math.data.hub.hub_is_away", lambda endpoint: False)


@pytest.fixture
def graded_answers(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The answers that are graded during the test, in order."""
    from slm_math.answers import graded

    answers: list[str | None] = []
    grade_answer = graded.grade_answer

    def counted(answer: str | None, task: Any) -> Any:
        answers.append(answer)
        return grade_answer(answer, task)

    monkeypatch.setattr(graded, "grade_answer", counted)
    return answers


@pytest.fixture(scope="module")
def light_programs() -> Iterator[None]:
    """Sandboxes that start quickly: programs of small models need no libraries."""
    from sandbox.light import lighten

    with pytest.MonkeyPatch.context() as patch:
        lighten(patch)
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for cached images of the test's own, instead of the user's."""
    monkeypatch.setenv("SLM_MATH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder named by SLM_MATH_DATA (GSM8K, MATH, MATH-500, recorded solutions), or a skip."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SLM_MATH_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data: SLM_MATH_DATA is not set and {folder} does not exist")
    return folder
