"""What `check-data` finds in single tasks, and between them."""

from __future__ import annotations

import pytest

from slm_math.data.findings import check_task, duplicates
from slm_math.types import Problem, Task


def kinds(text: str, gold: object, solution: str | None = None, **problem: object) -> list[str]:
    task = Task(Problem("p/0", text, **problem), gold, solution)  # type: ignore[arg-type]
    return [finding.kind for finding in check_task(task, "train", "Mine")]


@pytest.mark.parametrize(
    ("text", "gold", "solution"),
    [
        ("What is 3 + 4?", "7", "3 + 4 = 7, so the answer is \\boxed{7}."),
        ("The answer is an integer with 7 divisors below 12. Find 3 + 4.", "7", None),
        ("Write the solution of $x + 3 = 10$. Here 7 is a hint.", "7", None),
        ("Is 4 even? Answer yes or no.", "yes", None),
    ],
)
def test_nothing_is_wrong(text: str, gold: str, solution: str | None) -> None:
    assert kinds(text, gold, solution) == []


@pytest.mark.parametrize(
    ("text", "gold", "solution", "expected"),
    [
        ("", "7", None, "unreadable"),
        ("What is 3 + 4?", None, None, "unreadable"),
        ("What is 3 + 4?", "She has 7. Then she eats 3 of them.", None, "unreadable"),
        ("What is half of one?", r"\frac{1}{2", None, "refused"),
        ("What is 3 + 4?", "7", "So we get \\boxed{8}.", "other answer"),
        ("What is 3 + 4?", "7", "We add them up and are done here", "no answer"),
        ("What is 3 + 4? Answer: 7", "7", None, "given away"),
        ("What is 3 + 4? Hint: \\boxed{7}", "7", None, "given away"),
    ],
)
def test_what_is_wrong(text: str, gold: object, solution: str | None, expected: str) -> None:
    assert expected in kinds(text, gold, solution)


def test_golds_of_other_answer_types_are_accepted() -> None:
    choices = ("12 cm", "15 cm")
    assert kinds("How long?", "B", answer_type="mc", choices=choices) == []
    assert kinds("How long?", "3.5", answer_type="num") == []


def test_duplicates_within_and_across_splits() -> None:
    def task(id: str, text: str, gold: str) -> Task:
        return Task(Problem(id, text), gold)

    found = duplicates(
        {
            "train": [task("a", "One?", "1"), task("b", "one?", "1.0"), task("c", "Two?", "2")],
            "validation": [task("d", "TWO?", "3")],
            "test": [task("e", "One?", "1")],
        }
    )
    assert [(each.kind, each.split, each.id, each.other) for each in found] == [
        ("duplicate", "train", "b", "a"),
        ("contradiction", "validation", "d", "c"),
    ]
