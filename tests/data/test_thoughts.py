"""Supervised fine-tuning after a prompt that opens a thought says what happens to the solutions."""

from types import SimpleNamespace

import pytest

from slm_math.data.base import Source, Split
from slm_math.data.chat_data import ChatData
from slm_math.policy.chat import ChatFormat
from slm_math.policy.scratch import Scratch
from slm_math.types import Problem, Task


class Worked(Source):
    """Problems with the same solution."""

    name = "worked"

    def __init__(self, solution: str) -> None:
        self.solution = solution

    def tasks(self, split: Split) -> list[Task]:
        return [Task(Problem(f"{split}/{n}", f"{n} + 1?"), "7", self.solution) for n in range(3)]


def data_of(solution: str) -> ChatData:
    tokenizer = Scratch().tokenizer()
    opened = tokenizer.chat_template.replace("'<|assistant|>' }}", "'<|assistant|><think>\\n' }}")
    tokenizer.chat_template = opened
    data = ChatData(Worked(solution))
    policy = SimpleNamespace(context=lambda: None)
    module = SimpleNamespace(chat=ChatFormat(tokenizer), policy=policy, train_roles=("solver",))
    data.trainer = SimpleNamespace(lightning_module=module, is_global_zero=True)  # type: ignore
    return data


def test_solutions_without_thoughts_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(data_of("It is 7").tokenize("train")) == 3
    assert "3 solutions have none: they close it at once" in capsys.readouterr().out
    data_of("count</think>It is 7").tokenize("train")
    assert capsys.readouterr().out == ""


def test_a_solution_that_never_ends_its_thought_is_named() -> None:
    with pytest.raises(ValueError, match=r"(?s)worked/train, dialogue .*0 \+ 1.* has no </think>"):
        data_of("<think>count on").tokenize("train")
