"""Problems of reasoning-gym are graded as all others, and each is in one split."""

from importlib.util import find_spec

import pytest

from slm_math.answers import grade
from slm_math.data import ReasoningGym
from slm_math.data import reasoning as module
from slm_math.data.base import read_tasks
from slm_math.data.normalized import normalized

needs_package = pytest.mark.skipif(
    find_spec("reasoning_gym") is None, reason="needs the package reasoning-gym (extra: reasoning)"
)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install '.*\[reasoning\]'"):
        ReasoningGym()


def test_sets_that_cannot_be_graded_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"ReasoningGym.sets names sudoku; .* are basic_arithmetic"
    ):
        ReasoningGym(["gcd", "sudoku"])


@needs_package
@pytest.mark.parametrize("name", module.SETS)
def test_every_answer_is_accepted_by_the_grader(name: str) -> None:
    tasks = read_tasks(ReasoningGym([name], train=40, validation=1, test=1, seed=3), "train")
    assert len(tasks) == 40
    for task in tasks:
        assert grade(f"Therefore it is \\boxed{{{task.gold}}}.", task.gold).correct, task
        assert not grade("", task.gold).correct


@needs_package
def test_splits_share_no_problem_and_repeat_none() -> None:
    source = ReasoningGym(["gcd", "chain_sum"], train=300, validation=40, test=41, seed=1)
    splits = [source.tasks(split) for split in ("train", "validation", "test")]
    assert [len(tasks) for tasks in splits] == [300, 40, 41]
    texts = [normalized(task.problem.text) for tasks in splits for task in tasks]
    assert len(set(texts)) == len(texts)


@needs_package
def test_the_seed_decides_the_problems() -> None:
    def problems(seed: int) -> list[str]:
        source = ReasoningGym(["products"], train=10, validation=1, test=1, seed=seed)
        return [task.problem.text for task in source.tasks("train")]

    assert problems(1) == problems(1)
    assert not set(problems(1)) & set(problems(2))
