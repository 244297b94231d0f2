"""Agents driven by hand, request by request."""

import pytest
from agents.driving import begin

from slm_math.agents import (
    CodeFeedback,
    MajorityVote,
    Session,
    SingleShot,
    SolverVerifier,
    parallel,
)
from slm_math.agents.coding import program
from slm_math.types import Generate, Reply, RunPython, RunResult


def replies(*texts):
    return [Reply(text) for text in texts]


def test_single_shot_reads_the_box() -> None:
    asked, answer = begin(SingleShot(), replies(r"3+4 is \boxed{7}"))
    assert answer == "7"
    assert "3 + 4" in asked[0][0].chat[0].text


def test_single_shot_without_answer_is_none() -> None:
    assert begin(SingleShot(), replies(""))[1] is None


def test_vote_counts_equivalent_answers_together() -> None:
    texts = [rf"\boxed{{{x}}}" for x in ("8", "0.5", r"\frac{1}{2}", "8", r"\frac12")]
    asked, answer = begin(MajorityVote(k=5), replies(*texts))
    assert len(asked[0]) == 5
    assert answer == "0.5"


def test_vote_of_silence_is_none() -> None:
    assert begin(MajorityVote(k=2), replies("no idea", ""))[1] is None


def test_code_feedback_shows_the_output_and_takes_what_is_written() -> None:
    code = "```python\nprint(3+4)\n```"
    asked, answer = begin(
        CodeFeedback(), replies(code), [RunResult(True, "7\n")], replies(r"\boxed{7}")
    )
    assert asked[1] == [RunPython("print(3+4)")]
    final = asked[2][0]
    assert isinstance(final, Generate)
    assert [message.role for message in final.chat] == ["user", "assistant", "user"]
    assert "7" in final.chat[2].text
    assert answer == "7"


def test_code_feedback_shows_an_error() -> None:
    failed = RunResult(False, "", "line 1: NameError: name 'x' is not defined")
    asked, _ = begin(CodeFeedback(), replies("```python\nprint(x)\n```"), [failed])
    assert "NameError" in asked[2][0].chat[2].text


def test_solver_verifier_stops_at_correct() -> None:
    asked, answer = begin(
        SolverVerifier(), replies(r"\boxed{7}"), replies("fine. VERDICT: CORRECT")
    )
    assert answer == "7"
    assert asked[1][0].role == "verifier"


def test_solver_verifier_sends_the_critique_back_and_retries_warm() -> None:
    asked, answer = begin(
        SolverVerifier(rounds=2),
        replies(r"\boxed{6}"),
        replies("off by one\nVERDICT: INCORRECT"),
        replies(r"\boxed{7}"),
    )
    assert "off by one" in asked[2][0].chat[-1].text
    assert asked[2][0].temperature == 0.7
    assert answer == "7"


def test_solver_verifier_stops_when_two_drafts_agree() -> None:
    script = [replies(r"\boxed{6}"), replies("VERDICT: INCORRECT"), replies(r"\boxed{6.0}")]
    assert begin(SolverVerifier(rounds=5), *script)[1] == "6.0"


def test_solver_verifier_without_an_answer_asks_no_verifier() -> None:
    asked, _ = begin(SolverVerifier(rounds=3), replies("hm"))
    assert asked[1][0].role == "solver"


def test_verifier_program_runs_and_its_output_goes_back() -> None:
    asked, answer = begin(
        SolverVerifier(), replies(r"\boxed{7}"), replies("```python\nprint(3+4)\n```"),
        [RunResult(True, "7")],
        replies("VERDICT: CORRECT"),
    )  # fmt: skip
    assert asked[2] == [RunPython("print(3+4)")]
    assert answer == "7"


def test_endless_incorrect_falls_back_to_the_last_answer() -> None:
    script = []
    for n in range(3):
        script += [replies(rf"\boxed{{{n}}}"), replies("VERDICT: INCORRECT")]
    assert begin(SolverVerifier(rounds=3), *script[:-1])[1] == "2"


def test_parallel_keeps_results_apart() -> None:
    class Both(SingleShot):
        def solve(self, problem):
            one, two = super().solve(problem), super().solve(problem)
            answers = yield from parallel([one, two])
            return "/".join(answers)

    assert begin(Both(), replies(r"\boxed{1}", r"\boxed{2}"))[1] == "1/2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python\na=1\n```\nthen\n```python\nprint(a)\n```", ("a=1", "print(a)")),
        (
            "```python\na=1\n```\n```bash\nls\n```\n```py\nb=2\n```\n```python\na+b\n```",
            ("a=1", "b=2", "a+b"),
        ),
        ("```python\nprint(1", ("print(1",)),
        ("```\nprint(1)\n```", ("print(1)",)),
        ("no code", None),
        ("1. do:\n   ```python\n   x = 1\n   print(x)\n   ```", ("x = 1\nprint(x)",)),
        ("```python3.11\nprint(4)\n```", ("print(4)",)),
        ("~~~py\nprint(5)\n~~~", ("print(5)",)),
        ("```bash\nls\n```", None),
        ("```python\nprint(3)\n```\nOutput:\n```\n3\n```", ("print(3)",)),
    ],
)
def test_program_of_a_reply(text: str, expected: tuple[str, ...] | None) -> None:
    assert program(text) == (expected and RunPython(expected[-1], expected[:-1], turns=1))


def test_a_session_brings_its_blocks_along() -> None:
    def talk():
        session = Session()
        for code in ("a = 1", "while True: pass", "print(a)"):
            yield from session.run(RunPython(code))

    steps = talk()
    assert next(steps) == [RunPython("a = 1")]
    assert steps.send([RunResult(True)]) == [RunPython("while True: pass", ("a = 1",))]
    # what was stopped would be stopped again
    assert steps.send([RunResult(False, timed_out=True)]) == [RunPython("print(a)", ("a = 1",))]


def test_a_session_forgets_a_stopped_request_with_all_its_blocks():
    def talk():
        session = Session()
        yield from session.run(RunPython("print(1)", ("while True: pass",), turns=1))
        yield from session.run(RunPython("print(2)", ("b = 2",), turns=1))
        yield from session.run(RunPython("print(3)"))

    steps = talk()
    assert next(steps) == [RunPython("print(1)", ("while True: pass",), turns=1)]
    assert steps.send([RunResult(False, timed_out=True)]) == [
        RunPython("print(2)", ("b = 2",), turns=1)
    ]
    # two requests so far: three blocks have twice the time of one
    assert steps.send([RunResult(True)]) == [RunPython("print(3)", ("b = 2", "print(2)"), turns=2)]
