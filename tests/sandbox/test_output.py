"""Long output: its beginning and its end are kept, with the number of characters between them."""

import re

import pytest

from slm_math.agents import CodeAsAnswer, CodeFeedback
from slm_math.answers import extract
from slm_math.sandbox import Sandbox
from slm_math.sandbox.output import Kept
from slm_math.testing import drive
from slm_math.types import Problem, RunPython, RunResult

PROBLEM = Problem("hill/1", "How many steps lead up the hill?")
# 90,000 lines, a megabyte, and then the answer
LONG = "for step in range(90_000):\n    print('step', step, '.')\nprint('total: 90000')"
LENGTH = sum(len(f"step {step} .\n") for step in range(90_000)) + len("total: 90000\n")
LEFT_OUT = re.compile(r"\n\.\.\. \(left out: (\d+) characters\) \.\.\.\n")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1, cpu_seconds=30, wall_seconds=120) as box:
        yield box


@pytest.fixture(scope="module")
def long_result(sandbox) -> RunResult:
    return sandbox.run(LONG)


@pytest.mark.parametrize("name", ["stdout", "text"])
def test_beginning_and_end_of_long_output_are_shown_with_the_count_between(long_result, name):
    assert long_result.ok
    text = getattr(long_result, name)
    [gap] = LEFT_OUT.finditer(text)
    assert text.startswith("step 0 .\nstep 1 .\n")
    assert text.rstrip().endswith("step 89999 .\ntotal: 90000")
    shown = len(text) - len(gap[0])
    stripped = name == "text"  # without its last line break
    assert int(gap[1]) + shown == LENGTH - stripped


def test_the_answer_after_a_megabyte_of_output_counts(sandbox):
    def solved(agent, *more: str) -> str | None:
        replies = [f"```python\n{LONG.replace('total: ', '')}\n```", *more]
        driven = drive(agent, PROBLEM, replies[:1], partial=True)
        [request] = driven.requests[1]
        assert isinstance(request, RunPython)
        result = sandbox.run(request.code)
        driven = drive(agent, PROBLEM, replies, [result])
        if more:
            assert driven.shown(2).split("\n\n")[0].endswith("\n90000")
        return driven.answer

    assert solved(CodeAsAnswer()) == "90000"
    assert solved(CodeFeedback(), r"\boxed{90000}") == "90000"


def test_an_output_block_with_shortened_output_states_its_last_line(long_result):
    extracted = extract(f"I count.\n```output\n{long_result.text}\n```\n")
    assert (extracted.value, extracted.method) == ("90000", "output")


def test_messages_keep_their_last_lines(sandbox):
    result = sandbox.run(
        "import sys, traceback\n"
        "def down(n):\n    return down(n - 1) if n else [][9]\n"
        "for _ in range(50):\n"
        "    try: down(300)\n    except IndexError: traceback.print_exc()\n"
        "print('#' * 40_000, file=sys.stderr)\n"
        "try: down(5)\nexcept IndexError: traceback.print_exc()"
    )
    assert result.ok
    assert result.stderr.startswith("Traceback")
    assert LEFT_OUT.search(result.stderr)
    assert result.stderr.endswith("IndexError: list index out of range\n")


def test_a_long_value_has_a_beginning_and_an_end(sandbox):
    result = sandbox.run("list(range(30_000))")
    assert result.value.startswith("[0, 1, 2")
    assert result.value.endswith("29998, 29999]")
    assert LEFT_OUT.search(result.value)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 12, 25, 1000])
@pytest.mark.parametrize("piece", [1, 3, 7, 1000])
def test_what_is_kept_does_not_depend_on_the_pieces_in_which_it_comes(size, piece):
    data = bytes(65 + n % 26 for n in range(size))
    kept = Kept(11)
    for at in range(0, size, piece):
        kept.add(data[at : at + piece])
    expected = data.decode()
    if size > 11:
        expected = f"{expected[:6]}\n... (left out: {size - 11} characters) ...\n{expected[-5:]}"
    assert (kept.text, kept.size) == (expected, size)


@pytest.mark.parametrize("shift", range(5))
def test_a_divided_letter_is_left_out_and_counted(shift):
    text = "ab"[: shift % 3] + "€" * 40 + "🎲"[: shift // 3] + "c" * (shift % 2)
    kept = Kept(20, text.encode())
    [gap] = LEFT_OUT.finditer(kept.text)
    begin, end = kept.text[: gap.start()], kept.text[gap.end() :]
    assert (text.startswith(begin), text.endswith(end)) == (True, True)
    assert "\ufffd" not in kept.text
    assert len(begin) + int(gap[1]) + len(end) == len(text)
