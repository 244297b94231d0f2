"""The generated word problems: right, split by their numbers, repeatable, and all there."""

from __future__ import annotations

import re

import pytest

from slm_math.data.arithmetic import ANSWERS_ONLY, FAMILIES, Arithmetic, corpus
from slm_math.data.arithmetic_families import Family, all_numbers, numbers_for, pose
from slm_math.data.draws import Draw
from slm_math.types import Chat, Task

SPLITS = ("train", "validation", "test")
EXPRESSION = {family.name: family.expression for family in FAMILIES}


@pytest.fixture(scope="module")
def source() -> Arithmetic:
    return Arithmetic(
        train=1300, validation=260, test=260, solve=900, code=300, check=300, drills=200
    )


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def value(task: Task) -> float:
    """The answer, from the numbers of the text and the family's expression, by Python's own
    arithmetic.
    """
    return eval(
        EXPRESSION[task.problem.tags["family"]], dict(zip("abc", numbers(task.problem.text)))
    )


def shown(chat: Chat) -> str:
    """The problem that a dialogue is about, without the marks of a code or a check request."""
    return re.sub(r"^(Code|Check): | Answer: \d+$", "", chat[0].text)


@pytest.mark.parametrize("split", SPLITS)
def test_gold_is_what_the_text_asks_for(source: Arithmetic, split: str) -> None:
    for task in source.tasks(split):
        assert float(task.gold) == value(task)


@pytest.mark.parametrize("split", SPLITS)
def test_worked_solutions_are_true_equations_that_end_in_the_gold_answer(
    source: Arithmetic, split: str
) -> None:
    for task in source.tasks(split):
        assert (task.solution is None) == (task.problem.tags["kind"] == ANSWERS_ONLY)
        if task.solution is None:
            continue
        *equations, last = task.solution.split("\n")
        assert last == f"#### {task.gold}"
        for equation in equations:
            left, right = equation.split("=")
            assert eval(left) == int(right)


@pytest.mark.parametrize("split", SPLITS)
def test_programs_and_verdicts_of_dialogues_are_true(source: Arithmetic, split: str) -> None:
    judged = 0
    for chat in source.dialogues(split):
        program = re.fullmatch(r"```python\nprint\((.*)\)\n```", chat[1].text)
        if not program:
            continue
        printed = str(eval(program[1]))
        if chat[0].text.startswith("Code: "):
            assert [m.text for m in chat[2:]] == [f"Output: {printed}", f"#### {printed}"]
        else:
            judged += 1
            assert program[1].endswith("==" + chat[0].text.rpartition(" ")[2])
            assert [m.text for m in chat[2:]] == [
                f"Output: {printed}",
                "CORRECT" if printed == "True" else "INCORRECT",
            ]
    assert judged > 10


def test_corrections_learn_the_second_attempt_alone_whether_the_first_was_right_or_not() -> None:
    rest = dict.fromkeys(("solve", "code", "check", "copies", "drills"), 0)
    chats = Arithmetic(correct=60, **rest).dialogues("train")
    right = 0
    for chat in chats:
        _, first, check, second = chat
        assert check.text == "Check and correct."
        assert [part.learn for part in (*first.content, *second.content)] == [False, True]
        right += first.text == second.text
    assert 15 < right < 45


def test_no_numbers_of_one_expression_are_in_two_splits(source: Arithmetic) -> None:
    seen: dict[tuple[str, tuple[int, ...]], str] = {}
    for split in SPLITS:
        for task in source.tasks(split):
            key = (
                EXPRESSION[task.problem.tags["family"]],
                tuple(sorted(numbers(task.problem.text))),
            )
            assert seen.setdefault(key, split) == split


def test_dialogues_of_train_hold_no_problem_of_another_split(source: Arithmetic) -> None:
    def steps(reply: str) -> tuple[int, ...]:
        """The numbers that a worked solution takes from the problem."""
        lines = reply.split("\n")[:-1]
        return tuple(
            sorted(numbers(lines[0].split("=")[0]) + [numbers(line)[1] for line in lines[1:]])
        )

    held_out = {
        (EXPRESSION[task.problem.tags["family"]], tuple(sorted(numbers(task.problem.text))))
        for split in ("validation", "test")
        for task in source.tasks(split)
    }
    checked = 0
    for chat in source.dialogues("train"):
        reply = chat[1].text
        if not re.fullmatch(r"(\d+[-+*/]\d+=\d+\n)+#### \d+", reply):
            continue
        operations = "".join(re.search(r"\d([-+*/])", line)[1] for line in reply.split("\n")[:-1])
        expression = "".join(map("".join, zip("ab", operations))) + "c"
        assert (expression, steps(reply)) not in held_out
        checked += 1
    assert checked > 500


def test_answers_only_families_are_never_demonstrated(source: Arithmetic) -> None:
    words = ("fewer", "puts", "times as many", "every day", "shared", "How many more")
    assert not [
        chat for chat in source.dialogues("train") if any(word in shown(chat) for word in words)
    ]


@pytest.mark.parametrize("split", SPLITS)
def test_every_family_is_in_every_split_evenly(source: Arithmetic, split: str) -> None:
    counts = dict.fromkeys(EXPRESSION, 0)
    for task in source.tasks(split):
        counts[task.problem.tags["family"]] += 1
    assert set(counts.values()) == {len(source.tasks(split)) // len(FAMILIES)}


def test_the_seed_fixes_everything_and_matters(source: Arithmetic) -> None:
    again = Arithmetic(
        train=1300, validation=260, test=260, solve=900, code=300, check=300, drills=200
    )
    other = Arithmetic(
        seed=1, train=1300, validation=260, test=260, solve=900, code=300, check=300, drills=200
    )
    assert again.tasks("test") == source.tasks("test") != other.tasks("test")
    assert again.dialogues("train") == source.dialogues("train") != other.dialogues("train")


def test_ids_name_the_split_and_are_unique(source: Arithmetic) -> None:
    ids = [task.problem.id for split in SPLITS for task in source.tasks(split)]
    assert len(set(ids)) == len(ids)
    assert source.tasks("test")[17].problem.id == "arithmetic/test/17"


def test_corpus_is_fixed_and_knows_every_family() -> None:
    text = "\n".join(corpus())
    assert text == "\n".join(corpus())
    assert all(
        word in text for word in ("fewer", "shared", "CORRECT", "INCORRECT", "```python", "####")
    )


LARGEST = {"validation": 341, "test": 302}


@pytest.mark.parametrize("split", LARGEST)
@pytest.mark.parametrize("more", [1, 9, 10**9])
def test_a_split_with_more_problems_than_there_are_is_refused(split: str, more: int) -> None:
    """The error names the split, the number that was asked for, and the largest one."""
    wanted = LARGEST[split] + more
    with pytest.raises(
        ValueError, match=rf"at most {LARGEST[split]} {split} .*{split} is {wanted}$"
    ):
        Arithmetic(**{split: wanted})


@pytest.mark.parametrize("seed", [0, 5])
def test_the_largest_splits_hold_different_numbers_only(seed: int) -> None:
    source = Arithmetic(seed, **LARGEST)
    for split, size in LARGEST.items():
        tasks = source.tasks(split)
        posed = {(task.problem.tags["family"], *numbers(task.problem.text)) for task in tasks}
        assert len(posed) == len(tasks) == size


def test_training_problems_may_repeat() -> None:
    assert len(Arithmetic(train=2_600).tasks("train")) == 2_600  # one family has 175


def test_problems_of_a_seed_stay_what_they_were() -> None:
    [first, *_, last] = Arithmetic(test=301).tasks("test")
    assert (first.problem.text, first.gold) == (
        "In 3 boxes are 3 stickers each. Teo takes all and finds 5 more. How many stickers has Teo "
        "now?",
        "14",
    )
    assert (last.problem.text, last.gold) == (
        "Cleo has 7 stickers. Sven has that in each of 9 trays and drops 6. How many stickers has "
        "Sven now?",
        "57",
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_numbers_are_drawn_from_the_ones_that_are_counted(family: Family) -> None:
    draw, counted = Draw(3), set(all_numbers(family))
    assert {numbers_for(draw, family) for _ in range(500)} <= counted


def test_a_family_without_problems_in_a_split_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slm_math.data.arithmetic_families.MOST_DRAWS", 500)
    with pytest.raises(ValueError, match="'fewer' has no problem in the nowhere split"):
        pose(Draw(0), FAMILIES[7], "nowhere")
