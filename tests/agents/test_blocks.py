"""Programs in the notations of many models, and what in a reply is no program."""

import pytest
from agents.driving import box, play, printed

from slm_math.agents import CodeAsAnswer, PythonTools, StepByStepCode
from slm_math.agents.coding import has_whole_program, program
from slm_math.types import Reply, RunPython, RunResult

FENCE = "```"


def codes(text: str) -> tuple[str, ...] | None:
    request = program(text)
    return request and (*request.earlier, request.code)


@pytest.mark.parametrize(
    "text",
    [
        "````python\nprint(9 - 4)\n````",
        "`````py\nprint(9 - 4)\n``````",
        "~~~~ python\nprint(9 - 4)\n~~~~",
        "```tool_code\nprint(9 - 4)\n```\n```tool_output\n5\n```",
        "```ipython\nprint(9 - 4)\n```",
        "```ipython3\nprint(9 - 4)\n```",
        "```Python\nprint(9 - 4)\n```",
        "```PYTHON3\nprint(9 - 4)\n```",
        "```{python}\nprint(9 - 4)\n```",
        "```{.python .numberLines}\nprint(9 - 4)\n```",
        '```python title="minus.py"\nprint(9 - 4)\n```',
        "```python:minus.py\nprint(9 - 4)\n```",
        "```python print(9 - 4)```",
        "I subtract: ```python print(9 - 4)``` and get the difference.",
        "````py print(9 - 4)````",
        "```python print(9 - 4)\n```",
        "```python\nprint(9 - 4)```",
        "```python\nprint(9 - 4) ```\nThat is it.",
        "```python\nprint(9 - 4)\n``` The output is 5.",
        "```python\nprint(9 - 4)\n```output\n5\n```",
        "1. First:\n   ~~~python\n   print(9 - 4)\n   ~~~",
        "```pycon\n>>> print(9 - 4)\n5\n```",
        "<code>print(9 - 4)</code>",
        '<code class="python">\nprint(9 - 4)\n</code>',
        "<code>\n```py\nprint(9 - 4)\n```\n</code>",
        "<python>\nprint(9 - 4)\n</python>",
        '<tool_call>\n{"name": "python", "arguments": {"code": "print(9 - 4)"}}\n</tool_call>',
        '<tool_call>{"name": "run", "arguments": "{\\"code\\": \\"print(9 - 4)\\"}"}</tool_call>',
    ],
)
def test_notations_of_a_program(text: str) -> None:
    assert codes(text) == ("print(9 - 4)",)
    assert has_whole_program(text)


@pytest.mark.parametrize(
    "text",
    ["<|python_tag|>print(9 - 4)", "<|python_tag|>print(9 - 4)<|eom_id|>", "```py print(9 - 4)"],
)
def test_a_program_without_an_end_extends_to_that_of_the_reply(text: str) -> None:
    assert codes(text) == ("print(9 - 4)",)
    assert not has_whole_program(text)


def test_a_long_fence_is_not_closed_by_a_short_one() -> None:
    text = "````python\nhead = '''\n```\n'''\nprint(head)\n````"
    assert codes(text) == ("head = '''\n```\n'''\nprint(head)",)


def test_a_fence_with_a_language_closes_a_program_and_opens_the_next() -> None:
    text = (
        "```python\nbase = 5\n```output\n```\nso\n```python\nside = 4\n```python\nprint(base)\n```"
    )
    assert codes(text) == ("base = 5", "side = 4", "print(base)")


@pytest.mark.parametrize(
    "text",
    [
        "The tag <code>sum</code> adds up.",
        "<code>sum</code> adds up.",
        "Write it in ```python blocks.",
        '<tool_call>{"name": "search", "arguments": {"query": "print(1)"}}</tool_call>',
        "<tool_call>{'code': broken</tool_call>",
        "```tool_output\n5\n```",
        "```pytb\nTraceback\n```",
    ],
)
def test_what_only_names_code_is_no_program(text: str) -> None:
    assert codes(text) is None


@pytest.mark.parametrize(
    "words",
    ["Output:", "**Output**", "Expected output:", "The result is:", "### Program output",
     "It prints", "I ran it. Result:", "The output of the program will be:"],
)  # fmt: skip
def test_a_block_without_a_language_after_output_is_no_program(words: str) -> None:
    shown = f"{words}\n\n{FENCE}\n5\n{FENCE}\n"
    assert codes(shown) is None
    assert codes(f"{FENCE}\nprint(9 - 4)\n{FENCE}\n{shown}") == ("print(9 - 4)",)
    assert play(CodeAsAnswer(), Reply(shown)).answer is None


@pytest.mark.parametrize("words", ["Code:", "This program computes the result:", "Run:", ""])
def test_a_block_without_a_language_after_other_words_is_a_program(words: str) -> None:
    assert codes(f"{words}\n{FENCE}\nprint(9 - 4)\n{FENCE}") == ("print(9 - 4)",)


THOUGHTS = [
    "<think>\n{}\nThat may do.</think>\n",
    "{}\nNo template shows where it began.</think>\n",
    "<|channel|>analysis<|message|>{}\n<|end|><|start|>assistant<|channel|>final<|message|>",
]


@pytest.mark.parametrize("thought", THOUGHTS)
def test_programs_of_the_thinking_do_not_run_before_the_reply(thought: str) -> None:
    draft = thought.format(f"{FENCE}python\nwhile True: pass\n{FENCE}")
    reply = Reply(f"{draft}{FENCE}python\n# Problem: subtract\nprint(9 - 4)\n{FENCE}")
    driven = play(CodeAsAnswer(), reply, printed(5))
    assert driven.requests[1] == [RunPython("# Problem: subtract\nprint(9 - 4)")]


@pytest.mark.parametrize("thought", [*THOUGHTS, "<think>{}"])
def test_a_program_in_the_thinking_alone_does_not_run(thought: str) -> None:
    reply = Reply(thought.format(f"{FENCE}python\nprint(9 - 4)\n{FENCE}\n") + r"It is \boxed{5}.")
    assert play(CodeAsAnswer(), reply).steps == ["solver"]
    assert play(StepByStepCode(), reply).steps == ["solver"]


def test_tools_run_programs_in_thinking_that_goes_on_and_not_again_when_it_is_over() -> None:
    thinking = Reply(f"<think>Let me see.\n{FENCE}python\nx = 9\n{FENCE}\n")
    driven = play(PythonTools(), thinking, printed(""), box(9))
    assert driven.requests[1] == [RunPython("x = 9")]
    whole = Reply(f"{thinking.text}Good.</think>\n{FENCE}python\nprint(9 - 4)\n{FENCE}\n")
    assert play(PythonTools(), whole, printed(5), box(5)).requests[1] == [RunPython("print(9 - 4)")]


@pytest.mark.parametrize(
    ("text", "closing"),
    [("```python\nprint(9 - 4)", "\n```\n"), ("~~~py\nprint(9 - 4)\n", "~~~\n"),
     ("<|python_tag|>print(9 - 4)", "\n")],
)  # fmt: skip
def test_tools_run_a_program_in_which_the_reply_ended(text: str, closing: str) -> None:
    driven = play(PythonTools(), Reply(text), printed(5), box(5))
    assert driven.requests[1] == [RunPython("print(9 - 4)")]
    assert driven.chat(2)[-1].content[-1].text == f"{closing}```output\n5\n```\n"


MAIN = "def main():\n    print(9 - 4)\n    return 0\n\n"


@pytest.mark.parametrize(
    ("code", "stdout", "value", "answer"),
    [
        (MAIN + "main()", "5\n", "0", "5"),
        (MAIN + "main()  # go\n", "5\n", "0", "5"),
        ("x = 5\nprint(x)\nx == 6", "5\n", "False", "5"),
        ("x = 5\nprint(x)\nx == 5", "5\n", "True", "5"),
        ("[print(x) for x in (4, 5)]", "4\n5\n", "[None, None]", "5"),
        ("print(4), print(5)", "4\n5\n", "(None, None)", "5"),
        ("import sys\nsys.stdout.write('125\\n')", "125\n", "4", "125"),
        # the value is the answer
        ("print('working')\nmain()", "working\n", "5", "5"),
        ("print('working')\ncount()", "working\n", "0", "0"),
        ("main()", "", "0", "0"),
        ("9 > 4", "", "True", "True"),
        ("print('terms:', 3)\n[9, 4]", "terms: 3\n", "[9, 4]", "[9, 4]"),
    ],
)
def test_what_was_printed_beats_a_value_that_says_nothing(
    code: str, stdout: str, value: str, answer: str
) -> None:
    reply = Reply(f"{FENCE}python\n{code}\n{FENCE}")
    assert play(CodeAsAnswer(), reply, RunResult(True, stdout, value=value)).answer == answer


def test_a_program_right_after_the_name_of_the_final_channel_runs() -> None:
    request = program("analysisLet me see.assistantfinal```python\nprint(24)\n```")
    assert request is not None
    assert request.code.strip() == "print(24)"
