"""What a verifier is shown of a draft, and the verdicts that it is to imitate."""

import re
from pathlib import Path

import pytest
from data.drafts import row, tasks, written

from slm_math.data import Arithmetic, Drafts
from slm_math.data.base import Source, Split, read_dialogues
from slm_math.prompts import Prompt
from slm_math.types import Problem, Task


def told(source: Source, prompt: str = "verify_plain") -> list[tuple[str, ...]]:
    return [
        tuple(message.text for message in dialogue)
        for dialogue in read_dialogues(source, "train", prompt)
    ]


def test_dialogues_demonstrate_verdicts(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, False, gold="4"), row(2, True, gold="5")])
    assert told(Drafts(path, validation=0.0)) == [
        ("Check: What is 2 plus 3? Answer: 5", "VERDICT: CORRECT"),
        ("Check: What is 1 plus 3? Answer: 5", "VERDICT: INCORRECT"),
    ]


def test_a_worked_solution_of_the_problem_comes_before_the_verdict(tmp_path: Path) -> None:
    rows = [row(1, False, gold="4", solution="1+3=4"), row(2, True, gold="5", solution="2+3=5")]
    rows += [row(3, False, gold="6"), row(4, True, gold="7")]  # not imitated
    assert sorted(told(Drafts(written(tmp_path / "d.jsonl", rows), validation=0.0))) == [
        ("Check: What is 1 plus 3? Answer: 5", "1+3=4\nVERDICT: INCORRECT"),
        ("Check: What is 2 plus 3? Answer: 5", "2+3=5\nVERDICT: CORRECT"),
    ]


def test_worked_solutions_of_another_data_set_are_found_by_the_problem(tmp_path: Path) -> None:
    solved = [task for task in Arithmetic(train=20).tasks("train") if task.solution][:2]
    rows = [
        {"problem": task.problem.text, "draft": "I guess.", "answer": answer, "gold": task.gold}
        for task, answer in zip(solved, (solved[0].gold, "-1"))
    ]
    path = written(tmp_path / "d.jsonl", rows)
    replies = [reply for _, reply in told(Drafts(path, solutions=Solved()))]
    assert replies == [
        f"{solved[0].solution}\nVERDICT: CORRECT",
        f"{solved[1].solution}\nVERDICT: INCORRECT",
    ]


class Solved(Source):
    """The same problems, whose checks are those of any data set."""

    name = "solved"

    def tasks(self, split: Split) -> list[Task]:
        return Arithmetic(train=20).tasks(split)


def of_arithmetic(folder: Path, *answers: str, solved: bool = True) -> str:
    """A file with drafts of the first training problems, with or without worked solutions."""
    made = [task for task in Arithmetic(train=60).tasks("train") if bool(task.solution) == solved]
    rows = [
        {"problem": task.problem.text, "draft": "I guess.", "answer": answer or task.gold}
        | {"gold": task.gold}
        for task, answer in zip(made, answers)
    ]
    return written(folder / f"{solved}.jsonl", rows)


def test_a_data_set_shows_checks_of_its_own(tmp_path: Path) -> None:
    """Of Arithmetic: a program, as its own dialogues write it. "1.5" is not demonstrated on."""
    path = of_arithmetic(tmp_path, "", "-7", "", "1.5")
    source = Drafts(path, solutions=Arithmetic(train=60), validation=0.0)
    told = sorted(source.dialogues("train", "verify_plain"), key=lambda chat: chat[2].text)
    for chat, output in zip(told, ("False", "True", "True"), strict=True):
        program = re.fullmatch(r"```python\nprint\((.*)==(.*)\)\n```", chat[1].text)
        assert program
        assert program[2] == chat[0].text.rpartition(" ")[2]
        assert str(eval(f"{program[1]}=={program[2]}")) == output
        assert chat[2].text == f"Output: {output}"
        assert chat[3].text == {"True": "CORRECT", "False": "INCORRECT"}[output]


def test_a_control_sees_the_true_output_and_a_label_that_was_dealt(tmp_path: Path) -> None:
    path = of_arithmetic(tmp_path, *["", "-7"] * 15)
    source = Drafts(path, solutions=Arithmetic(train=60), validation=0.0, shuffle_labels=1)
    told = [(chat[2].text, chat[3].text) for chat in source.dialogues("train", "verify_plain")]
    assert len(set(told)) == 4  # each verdict after each output
    assert sum(output == "Output: True" for output, _ in told) == len(told) / 2


def test_the_verdicts_to_imitate_are_balanced(tmp_path: Path) -> None:
    """Also if most right drafts are of problems without a worked solution."""
    paths = [
        of_arithmetic(tmp_path, *[""] * 4, *["-7"] * 8),
        of_arithmetic(tmp_path, *[""] * 12, solved=False),
    ]
    drafts = Drafts(paths, solutions=Arithmetic(train=60), validation=0.0)
    verdicts = [chat[-1].text for chat in drafts.dialogues("train", "verify_plain")]
    assert sorted(verdicts) == ["CORRECT"] * 4 + ["INCORRECT"] * 4


def test_solutions_of_other_problems_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, False, gold="4"), row(2, True, gold="5")])
    with pytest.raises(ValueError, match="arithmetic has no worked solution of any of the 2 train"):
        told(Drafts(path, validation=0.0, solutions=Arithmetic(train=20)))


def test_a_prompt_that_shows_no_draft_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, False, gold="4"), row(2, True, gold="5")])
    with pytest.raises(ValueError, match=r"'solve' shows neither \{draft\} nor \{answer\}"):
        told(Drafts(path, validation=0.0), "solve")


def test_the_prompt_shows_what_a_problem_asks_about(tmp_path: Path) -> None:
    """Worked examples of few-shot prompts are asked like this, too."""
    [task, _] = tasks(
        written(tmp_path / "d.jsonl", [row(1, True, gold="4"), row(2, False, gold="5")])
    )
    [message] = task.problem.ask(Prompt("verify_plain", "problem draft answer"))
    assert message.text == "Check: What is 1 plus 3? Answer: 4"
    assert isinstance(task.problem, Problem)
