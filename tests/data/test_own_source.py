"""A data set of one's own with a mistake: the error names its class and the problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import chats, sft, trainer

from slm_math.agents import SingleShot
from slm_math.callbacks import AgentEval
from slm_math.callbacks.training_problems import training_problems
from slm_math.cli import run
from slm_math.data import ChatData, ProblemData, Source
from slm_math.data.base import Split, read_dialogues, read_tasks
from slm_math.types import Image, Problem, Task, assistant, user

RATIONALE = "Three nests have 3*4=<<3*4=12>>12 eggs.\n#### 12"
DIRTY = """
from slm_math.data import Source
from slm_math.types import Problem, Task

class Dirty(Source):
    name = "dirty"

    def __init__(self, gold: str = "12"):
        self.gold = gold

    def tasks(self, split):
        return [Task(Problem(f"dirty/{split}/3", "How many eggs?"), self.gold)]
"""


class Nests(Source):
    """A data set that returns what a test hands it."""

    name = "nests"

    def __init__(self, tasks: Any) -> None:
        self.values = tasks

    def tasks(self, split: Split) -> list[Task]:
        return self.values


class Talks(Source):
    """A data set with dialogues only."""

    name = "talks"

    def __init__(self, dialogues: Any) -> None:
        self.values = dialogues

    def dialogues(self, split: Split, prompt: str = "solve") -> list[Any]:
        return self.values


def nest(gold: Any = "12", **values: Any) -> Task:
    return Task(Problem("nests/7", "How many eggs?", **values), gold)


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        ([Task("How many eggs?", "12")], r"problem of item 0 is 'How many eggs\?' \(str\)"),
        ([nest(), ("How many eggs?", "12")], r"item 1 is .* \(tuple\); it must be Task\(Problem\("),
        ([{"question": "How many?", "answer": "12"}], r"item 0 is .* \(dict\)"),
        ([Problem("nests/7", "How many eggs?")], r"item 0 is .* \(Problem\)"),
        (None, r"returns None \(NoneType\); it must return a list of Task"),
        (nest(), r"returns Task.* \(Task\); it must return a list of Task"),
        ({"train": [nest()]}, r"returns .* \(dict\)"),
        ([Task(Problem(None, "How many?"), "12")], r"id of item 0 is None"),
        ([Task(Problem("nests/7", None), "12")], r"problem nests/7: its text is None"),
        ([Task(Problem("nests/7", " "), "12")], r"problem nests/7: its text is empty"),
        ([nest(answer_type="number")], r"nests/7: its answer type 'number' is not one of math, mc"),
        ([nest("A", answer_type="mc", choices="4 5")], r"nests/7: its choices are '4 5' \(str\)"),
        ([nest("A", answer_type="mc", choices=(4, 5))], r"its choices are \(4, 5\) \(tuple\)"),
        ([nest(images=("a.png",))], r"its images are .*, not a tuple of Image"),
        ([nest(tags=["easy"])], r"its tags are \['easy'\] \(list\)"),
        ([Task(nest().problem, "12", solution=float("nan"))], r"its solution is nan \(float\)"),
        ([Task(nest(answer_type="num").problem, "12", tolerance="a bit")], r"nests/7: tolerance"),
        ([nest(None)], r"problem nests/7: the gold is None"),
        ([nest("We add 8 to it. Then we halve.")], r"problem nests/7: the gold .* 2 sentences"),
        ([nest(), nest()], r"1 problem ids occur twice, for example nests/7"),
    ],
)
def test_a_mistake_is_named_with_class_and_problem(tasks: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^Nests\.tasks\('train'\):? ?.*{reason}"):
        read_tasks(Nests(tasks), "train")


def test_the_number_of_wrong_problems_is_told() -> None:
    tasks = [Task(Problem(f"nests/{n}", "How many?"), None if n % 2 else "4") for n in range(7)]
    with pytest.raises(ValueError, match=r"problem nests/1: the gold is None.*\(and 2 more"):
        read_tasks(Nests(tasks), "test")


def test_values_that_are_clear_are_read() -> None:
    """An integer as id, lists instead of tuples, a generator instead of a list, tags of numbers."""
    problem = Problem(7, "Which?", "mc", ["4", "5"], [Image("https://a.org/a.png")], {"level": 3})  # type: ignore
    [task] = read_tasks(Nests(task for task in [Task(problem, "B")]), "train")
    assert task.problem == Problem(
        "7", "Which?", "mc", ("4", "5"), (Image("https://a.org/a.png"),), {"level": "3"}
    )


def test_tasks_without_a_mistake_are_the_same_ones() -> None:
    task = nest("an even number", tags={"level": "3"})
    assert read_tasks(Nests([task]), "test")[0] is task


def test_grpo_reads_golds_when_data_loads() -> None:
    data = ProblemData(Nests([nest(RATIONALE), Task(Problem("nests/8", "How many?"), 9)]))
    data.setup("fit")
    assert [task.gold for task in data.tasks] == ["12", "9"]


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_grpo_refuses_golds_when_data_loads(stage: str) -> None:
    with pytest.raises(
        ValueError, match=r"Nests\.tasks\('.*'\): problem nests/7: the gold is True"
    ):
        ProblemData(Nests([nest(True)])).setup(stage)


def test_evaluation_during_training_reads_golds(tmp_path: Path) -> None:
    evaluation = AgentEval({"one": SingleShot()}, sources={"nests": Nests([nest(RATIONALE)])})
    run = trainer(tmp_path, limit_train_batches=1, callbacks=[evaluation])
    evaluation.setup(run, sft(), "validate")
    assert [task.gold for task in evaluation.tasks["nests"]] == ["12"]


def test_evaluation_during_training_refuses_golds_before_a_step(tmp_path: Path) -> None:
    evaluation = AgentEval({"one": SingleShot()}, sources={"nests": Nests([nest([12])])})
    run = trainer(tmp_path, callbacks=[evaluation])
    with pytest.raises(ValueError, match=r"Nests\.tasks\('validation'\): problem nests/7"):
        run.fit(sft(), chats())
    assert run.global_step == 0


def test_fine_tuning_names_the_problem_that_is_a_text(tmp_path: Path) -> None:
    data = ChatData(Nests([Task("How many eggs?", "12", "3*4=12")]), batch_size=1)
    with pytest.raises(ValueError, match=r"Nests\.tasks\('train'\): the problem of item 0 is"):
        trainer(tmp_path).fit(sft(), data)


def test_fine_tuning_needs_no_gold() -> None:
    source = Nests([Task(Problem("nests/7", "How many eggs?"), "", "3*4=12")])
    [chat] = read_dialogues(source, "train", "solve")
    assert chat[-1].text == "3*4=12"


@pytest.mark.parametrize(
    ("dialogues", "reason"),
    [
        ([user("Hi"), [{"role": "user", "content": "Hi"}]], r"dialogue 1 is .* \(list\)"),
        (["Hi"], r"dialogue 0 is 'Hi' \(str\); a dialogue is a tuple of messages"),
        (None, r"returns None"),
    ],
)
def test_a_wrong_dialogue_is_named(dialogues: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^Talks\.dialogues\('train'\).*{reason}"):
        read_dialogues(Talks(dialogues), "train", "solve")


def test_problems_of_dialogues_alone_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Talks has dialogues only: it defines no tasks"):
        read_tasks(Talks([]), "validation")


def test_dialogues_alone_can_be_compared_with_an_evaluation() -> None:
    data = ChatData(Talks([user("How many are 5 + 7?") + assistant("12")]))
    asked = [Problem("asked", "How many are 5 + 7?")]
    assert [problem.text for problem in training_problems(data, asked)] == ["How many are 5 + 7?"]


def test_dialogues_are_read_once_before_training(tmp_path: Path) -> None:
    class Counted(Talks):
        read: list[Split] = []  # noqa: RUF012

        def dialogues(self, split: Split, prompt: str = "solve") -> list[Any]:
            self.read.append(split)
            return super().dialogues(split, prompt)

    source = Counted([user("How many?") + assistant("12")] * 4)
    nests = Nests([nest(RATIONALE)])
    evaluation = AgentEval({"one": SingleShot()}, sources={"nests": nests}, every_n_epochs=9)
    trainer(tmp_path, max_steps=1, callbacks=[evaluation]).fit(sft(), ChatData(source, 2))
    assert source.read == ["train", "validation"]


def test_a_data_set_without_a_name_is_refused() -> None:
    class Unnamed(Source):
        def tasks(self, split: Split) -> list[Task]:
            return [nest()]

    with pytest.raises(ValueError, match=r"Unnamed has no name"):
        read_tasks(Unnamed(), "train")


def test_eval_refuses_a_gold_before_it_loads_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dirty_eggs.py").write_text(DIRTY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("slm_math.policy.loading.check_path", lambda path: path)
    source = ["--source=dirty_eggs.Dirty", "--source.gold=We count twice. It is even."]
    with pytest.raises(SystemExit) as stopped:
        run(["eval", "--agents.one=SingleShot", *source, "--model=none", f"--out={tmp_path}/out"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "Dirty.tasks('test'): problem dirty/test/3: the gold" in error
    assert "2 sentences" in error
    assert not (tmp_path / "out").exists()
