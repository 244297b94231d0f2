"""Agents that use Python in their own way, driven by hand, and one in a real run."""

from pathlib import Path
from typing import Any

import pytest
from agents.driving import begin
from tiny import Even, grpo, problems, trainer

from slm_math.agents import CodeAsAnswer, PythonTools
from slm_math.rollout.rows import training_rows
from slm_math.types import Generate, Problem, Reply, RunPython, RunResult, Text

CODE = "```python\nprint(3+4)\n```\n"


def test_tools_put_the_output_where_the_program_was_and_go_on() -> None:
    first, last = Reply(f"Let me see.\n{CODE}"), Reply(r"So it is \boxed{7}.")
    asked, answer = begin(PythonTools(), [first], [RunResult(True, "7\n")], [last])
    [opening], [run], [resumed] = asked
    assert (opening.resume, opening.stop) == (False, ("\n```\n",))
    assert run == RunPython("print(3+4)")
    assert isinstance(resumed, Generate)
    assert resumed.resume
    assert resumed.chat[-1].content == (first, Text("```output\n7\n```\n", learn=False))
    assert answer == "7"


def test_tools_remember_what_earlier_programs_defined() -> None:
    two = "```python\nx + 1\n```"
    asked, _ = begin(
        PythonTools(), [Reply("```python\nx = 1\n```\n")], [RunResult(True)], [Reply(two)]
    )
    assert asked[-1] == [RunPython("x + 1", ("x = 1",), 2)]


def test_tools_show_errors_and_end_without_a_program() -> None:
    failed = RunResult(False, "", "line 1: NameError: name 'y' is not defined")
    asked, answer = begin(
        PythonTools(), [Reply("```python\ny\n```\n")], [failed], [Reply("I give up.")]
    )
    assert "NameError" in asked[-1][0].chat[-1].content[1].text
    assert answer is None


@pytest.mark.parametrize("text", ["", "no idea", "```python\nprint(3", "so ``` it is"])
def test_tools_run_only_what_was_closed(text: str) -> None:
    asked, answer = begin(PythonTools(), [Reply(text, finish="length")])
    assert (len(asked), answer) == (1, None)


def test_tools_run_so_many_programs_and_no_more() -> None:
    results: list[list[Any]] = []
    for _ in range(2):
        results += [[Reply(CODE)], [RunResult(True, "7")]]
    asked, answer = begin(PythonTools(runs=2), *results, [Reply(f"{CODE} \\boxed{{7}}")])
    assert sum(isinstance(request, RunPython) for [request] in asked) == 2
    assert asked[-1][0].stop is None
    assert answer == "7"


def test_tools_do_not_take_the_output_for_the_answer() -> None:
    _, answer = begin(PythonTools(), [Reply(CODE)], [RunResult(True, r"\boxed{8}")], [Reply("Hm.")])
    assert answer is None


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (RunResult(True, "so\n7\n"), "7"),
        (RunResult(True, "1\n", value="7"), "7"),
        (RunResult(True, "The answer is 7."), "7"),
        (RunResult(True, "even"), "even"),
        (RunResult(True, ""), None),
        (RunResult(False, "7\n", "line 2: ValueError"), None),
    ],
)
def test_what_a_program_prints_is_the_answer(result: RunResult, answer: str | None) -> None:
    assert begin(CodeAsAnswer(), [Reply(CODE)], [result])[1] == answer


def test_no_program_is_no_answer() -> None:
    assert begin(CodeAsAnswer(), [Reply(r"\boxed{7}")]) == ([begin(CodeAsAnswer())[0][0]], None)


def test_turn_with_programs_is_one_row_and_its_output_is_not_trained_on(tmp_path: Path) -> None:
    """A real run in which every first reply is taken to end in a program."""

    class Scripted(PythonTools):
        def solve(self, problem: Problem) -> Any:
            workflow = super().solve(problem)
            asked = next(workflow)
            while True:
                [result] = yield asked
                if isinstance(result, Reply) and not asked[0].resume:  # as if it had written one
                    result = Reply(**(vars(result) | {"text": f"{result.text}\n{CODE}"}))
                try:
                    asked = workflow.send([result])
                except StopIteration as end:
                    return end.value

    module = grpo(agent=Scripted(prompt="solve_plain"), rewards=[Even()], group_size=8)
    run = trainer(tmp_path, limit_train_batches=1)
    run.fit(module, problems(batch_size=2))
    assert all(len(rollout.trace.runs) == 1 for rollout in module.last_rollouts)
    rows = training_rows([module.last_rollouts[:8], module.last_rollouts[8:]], module.train_roles)
    assert [row.rollout for row in rows] == list(range(16))
    for row, rollout in zip(rows, module.last_rollouts):
        assert len(row.loss_positions) == sum(
            len(turn.reply.token_ids) for turn in rollout.trace.turns
        )
    assert run.callback_metrics["train/programs_ran"] == 1
    assert run.callback_metrics["train/logp_diff_max"] < 1e-4
