"""Problems of reasoning-gym are graded as all others, and each is in one split."""

import re
from importlib.util import find_spec

import pytest

from slm_math.answers import grade
from slm_math.data import ReasoningGym
from slm_math.data import reasoning as module
from slm_math.data.base import read_tasks
from slm_math.data.normalized import normalized
from slm_math.data.twins import twins_of

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


@needs_package
def test_a_twin_is_of_the_same_set_and_template_and_nowhere_else() -> None:
    source = ReasoningGym(train=160, validation=32, test=64, seed=2)
    tasks = source.tasks("test")
    found = twins_of(tasks, source, "test", True)  # refuses twins with the text or answer
    parents = {task.problem.id: task for task in tasks}
    everything = {
        normalized(task.problem.text)
        for split in ("train", "validation", "test")
        for task in source.tasks(split)
    }
    assert len(found) == len(tasks)
    assert len({twin.problem.text for twin in found}) == len(found)
    for twin in found:
        parent = parents[twin.problem.tags["twin_of"]]
        assert twin.problem.tags["set"] == parent.problem.tags["set"]
        assert normalized(twin.problem.text) not in everything
        assert twin.gold != parent.gold
    assert source.twins("train") == []
    assert twins_of(tasks, source, "test", True) == found


@needs_package
def test_twins_of_templates_are_made_by_the_same_generator() -> None:
    source = ReasoningGym(["gsm_symbolic"], train=1, validation=1, test=40)
    gym = pytest.importorskip("reasoning_gym")
    for twin in source.twins("test"):
        template = twin.problem.tags["template"]
        seed = (2 * 100_000_000) + 50_000_000
        pool = gym.create_dataset("gsm_symbolic", seed=seed, size=20_000)
        made = next(n for n in range(20_000) if pool.task_indices[n] == int(template[13:])
                    and pool[n]["question"] == twin.problem.text)  # fmt: skip
        assert pool[made]["answer"] == twin.gold
    assert len(source.twins("test")) == 40


@needs_package
def test_sets_without_templates_have_twins_with_the_same_words() -> None:
    source = ReasoningGym(["gcd", "products"], train=1, validation=1, test=20)
    parents = {task.problem.id: task.problem.text for task in source.tasks("test")}
    for twin in source.twins("test"):
        own, theirs = twin.problem.text, parents[twin.problem.tags["twin_of"]]
        assert re.sub("[0-9]+", "#", own) == re.sub("[0-9]+", "#", theirs)
