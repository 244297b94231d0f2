"""Which answers are equivalent. The pairs follow the seven rules, one test each."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from slm_math.answers import equivalent, grade, pool

VALUES = [
    ("1,234", "1234"), ("0.750", r"\frac{3}{4}"), ("6/8", "0.75"), (r"\frac34", r"\dfrac{3}{4}"),
    ("-1/2", "-0.5"),
    ("7 3/4", r"\frac{31}{4}"), (r"1\frac45", r"\frac95"), ("1e3", "1000"), (r"3.0\times10^5",
    "300000"),
    (r"6.72 \times 10^{-5}", ".0000672"), (r"0.\overline{3}", r"\frac13"), ("72.00000000000001",
    "72"),
    ("0.3333333333333333", "1/3"), ("1.4142135623730951", r"\sqrt2"), (r"10,\!080", "10080"), ("5 "
        "thousand", "5000"),
    ("−5", "-5"), ("√2", r"\sqrt{2}"), (r"\sqrt{8}", r"2\sqrt2"), (r"\frac{1}{\sqrt3}",
    r"\frac{\sqrt{3}}{3}"),
    (r"11(\sqrt5+1)", r"11 \sqrt{5} + 11"), ("x(x-2)", "x^2-2x"), (r"\frac{1}{\tan x}", r"\cot x"),
    (r"\sin 77^\circ", r"\cos 13^\circ"), ("9i+6", "6+9i"), (r"x^{2}+3 x", r"3x+x^2"),
]  # fmt: skip
OTHER_VALUES = [
    ("0.333", r"\frac13"), ("3.14159", r"\pi"), ("10001", "10000"), ("200", "2"), ("2500", "25"),
    ("10^{-20}", "10^{-21}"), (r"\frac{1}{2^{98}}", r"\frac{1}{2^{99}}"), ("9999999999999999",
    "10000000000000000"),
    ("10000.0001", "10000"), ("1000000000000000.5", "1000000000000000"), ("-5", "5"), ("2k", "2n"),
    ("2k", "2"),
    ("5x", "5"), ("5 million", "5"), ("about 5", "5"), ("204_6", "204_5"), ("52", "52_8"), ("x^2",
    "x^3"),
    (r"\sqrt{x^2}", "x"), ("i", "-i"), ("", "5"),
]  # fmt: skip
FUNCTIONS = [
    ("2^{10}", "1024"), (r"\sqrt{16}", "4"), ("5!", "120"), (r"\log_2 8", "3"), (r"\binom{5}{2}",
    "10"),
    (r"\sin 30^\circ", r"\frac12"), (r"\log_{10} 1000", "3"), (r"\log_4 8", r"\frac32"),
]  # fmt: skip
UNITS = [
    (r"\$18.90", "18.90"), ("$18", r"\$18"), ("18 dollars per day", "18"), ("90", r"90^\circ"),
    ("3 cm", "3"),
    (r"864\text{ in}^2", r"864 \mbox{ inches}^2"), (r"5.4 \text{ cents}", "5.4"), ("50%", "50"),
    (r"50\%", "0.5"),
    (r"20.0\%", "20"), ("12 apples", "12"), (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}"),
]  # fmt: skip
OTHER_UNITS = [
    ("0.5", "50"), ("50", "0.5"), ("5 cm", "5 km"), ("5 m", "5"), ("9 p.m.", r"9\text{ a.m.}"),
    ("5 dozen", "5"),
    ("18 cents", r"\$18"), (r"30\%", r"30^\circ"),
]  # fmt: skip
STRUCTURES = [
    ("1,-2", "-2, 1"), (r"-2 \text{ and } 1", "1,-2"), (r"\{2,1\}", "1,2"),
    (r"1+\sqrt{19}, 1-\sqrt{19}", r"1 \pm \sqrt{19}"), ("(3, \\frac{\\pi}{2})", r"\left( 3, "
        r"\frac{\pi}{2} "
        r"\right)"),
    ("(0.5,1)", r"\left(\frac12, 1\right)"), (r"(-\infty,2)\cup(3,\infty)", r"(3,\infty) \cup "
        r"(-\infty,2)"),
    ("[-2,7]", r"-2\le x\le 7"), ("[-2,7]", r"x \in [-2,7]"), (r"-6 \le x", r"[-6,\infty)"),
    (r"\begin{bmatrix} -1/3 \\ 2 \end{bmatrix}", r"\begin{pmatrix} -\frac13 \\ 2 \end{pmatrix}"),
    ("0.5 or 1/2", "0.5"),
]  # fmt: skip
OTHER_STRUCTURES = [
    ("1,2,3", "1,2"), ("1,2", "1,2,3"), ("(2,1)", "(1,2)"), ("[1,2]", "(1,2)"), ("(1,2]", "[1,2)"),
    ("3 or 4", "3"),
    ("3, 4", "3"), ("1, 1, 2", "1, 2, 2"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}"), ("1,2",
    "(1,2)"),
    (r"(-\infty,2)\cup(3,\infty)", r"(-\infty,2)\cup[3,\infty)"), ("x < 7", r"(7,\infty)"),
]  # fmt: skip
RELATIONS = [
    ("x=5", "5"), ("5", "x=5"), ("x = 5", "x=5.0"), ("2x-y+3=0", "y=2x+3"),
    ("-10x+14y-22z-8=0", "5x - 7y + 11z + 4 = 0"), ("f(x)=2x", "2x"), ("x=1, x=-2", "1,-2"),
]  # fmt: skip
OTHER_RELATIONS = [
    ("2x+3", "y=2x+3"), ("y=2x+3", "2x+3"), ("x+y=5", "5"), ("2+3=5", "5"), ("x=6", "x=5"), ("y=5",
    "x=5"),
    ("y=2x", "y=3x"), ("0=0", "y=2x"), (r"x \ne 5", "5"), ("x > 5", "5"),
]  # fmt: skip
TEXTS = [
    ("even", r"\text{even}"), ("Evelyn.", r"\text{Evelyn}"), ("(B)", "B"), ("b", r"\text{(B)}"),
    (r"\text{B}", "(B)"),
    ("C, F, H", r"\text{C,F, H}"), ("June 20", r"\text{June 20}"), ("1:03 pm", r"\text{1:03 PM}"),
]  # fmt: skip
OTHER_TEXTS = [
    ("not even", "even"), ("odd", "even"), ("A", "B"), ("A, B", "A"), ("C,F", "C,F,H"), ("even or "
        "odd",
        "even"),
]  # fmt: skip
OPEN = [
    (r"17 \times 23", "391"), ("2+3", "5"), (r"\frac{2+3}{5}", "1"), (r"\sqrt{18}+\sqrt{8}",
    r"5\sqrt{2}"),
    (r"3 \times 4 x", "12x"), ("(2+3i)(1-i)", "5+i"), (r"\frac12 \cdot 4", "2"), ("2^3 + 1", "9"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "gold"), [*VALUES, *FUNCTIONS, *UNITS, *STRUCTURES, *RELATIONS, *TEXTS]
)
def test_the_same(answer: str, gold: str) -> None:
    assert equivalent(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [*OTHER_VALUES, *OTHER_UNITS, *OTHER_STRUCTURES, *OTHER_RELATIONS, *OTHER_TEXTS],
)
def test_not_the_same(answer: str, gold: str) -> None:
    assert not equivalent(answer, gold)


@pytest.mark.parametrize(("answer", "gold"), OPEN)
def test_an_operation_left_open_is_not_an_answer(answer: str, gold: str) -> None:
    assert not equivalent(answer, gold)


CHOICES = ("12 cm", "15 cm", r"\frac{3}{2} cm", "18 cm")


@pytest.mark.parametrize(
    "answer", ["B", "(B)", "b", "B.", "B. 15 cm", r"\text{(B)}", "15 cm", "15"]
)
def test_a_choice_is_named_by_letter_or_value(answer: str) -> None:
    assert equivalent(answer, "B", "mc", CHOICES)


@pytest.mark.parametrize(
    "answer", ["A", "A, B", "B or C", "B. 12 cm", "12 cm", "1.5 cm", "E", "none"]
)
def test_another_choice_is_wrong(answer: str) -> None:
    assert not equivalent(answer, "B", "mc", CHOICES)


def test_a_tolerance_is_absolute_and_explicit() -> None:
    assert equivalent("3.14", "3.14159", "num", tolerance=0.01)
    assert not equivalent("3.14", "3.14159", "num")
    assert not equivalent("3.16", "3.14159", "num", tolerance=0.01)
    with pytest.raises(ValueError, match="answer type 'number'"):
        equivalent("1", "1", "number")  # pyright: ignore[reportArgumentType]


HOSTILE = [
    "9^{9^{9^{9}}}", "2^{999999999}", "1" + "+1" * 450, "(" * 900, r"\frac" * 200,
    r"\int_0^\infty e^{-x^2} dx",
    r"\sum_{n=1}^{10^9} n", "100000!", r"\sqrt{" * 150, "(1+x)^{500}", "x^{99}" * 50, "[1," * 200,
    "5 " + "abc " * 240, "9" * 900, "e^{e^{e^{e^{10}}}}", "__import__('os').system('touch owned')",
    r"\text{" * 150,
    "|" * 300, r"\log_{2}(2^{-5000})", r"\log_{1.00000000000000000001}(2)", r"\log_{2}(x^{200})",
    r"\log 1" + "0" * 350,
    r"\{" * 245 + "1" + r"\}" * 245, "(1," * 150 + "1" + ")" * 150, "\ud800", r"\binom{10^{12}}{5}",
    r"((9^{999})^{999})^{999}", "- " * 400 + "1",
]  # fmt: skip


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> list[pool.Reply]:
    """The replies of the algebra process, with their seconds and steps."""
    replies: list[pool.Reply] = []
    real = pool.Pool.query

    def query(self: pool.Pool, *question: Any) -> pool.Reply:
        replies.append(real(self, *question))
        return replies[-1]

    monkeypatch.setattr(pool.Pool, "query", query)
    return replies


@pytest.mark.parametrize("gold", ["5", r"\sqrt{2}", "x^2+1", "(1,2)"])
def test_hostile_answers_are_wrong_and_cheap(gold: str, spent: list[pool.Reply]) -> None:
    start = time.process_time()
    assert not [answer for answer in HOSTILE if equivalent(answer, gold)]
    assert not [answer for answer in HOSTILE if equivalent(answer, gold, "num", tolerance="1%")]
    assert not [answer for answer in HOSTILE if equivalent(answer, gold, "mc", [answer, "7"])]
    # processor time: about 0.5 s here, and 4 s of algebra for all of the answers
    assert time.process_time() - start < 30
    assert sum(reply.seconds for reply in spent) < 60
    assert not [reply for reply in spent if reply.text in pool.FAILURES]


@pytest.mark.parametrize("answer", HOSTILE)
def test_hostile_references_are_no_errors(answer: str) -> None:
    assert not grade("\\boxed{5}", answer, answer).correct


def test_the_answers_of_four_threads_are_those_of_one() -> None:
    pairs = [*VALUES, *OTHER_VALUES, *STRUCTURES, *OPEN] * 2
    # other strings, so that no cache answers
    shifted = [(f" {answer} ", gold) for answer, gold in pairs]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda pair: equivalent(*pair), shifted)) == [
            equivalent(*pair) for pair in pairs
        ]


# beyond our own grammar, and beyond the guards: sympy multiplies for a minute
ENDLESS = r"\lfloor " + "+".join(f"(x+{n})^{{99999}}" for n in range(30)) + r"\rfloor"


def test_a_stuck_worker_is_stopped_and_replaced() -> None:
    workers = pool.Pool()
    limits = pool.Budget(seconds=0.3)
    assert workers.query(limits, "equal", ENDLESS, rf"{ENDLESS}+1")[0] in pool.FAILURES
    assert workers.query(pool.Budget(), "equal", r"\sqrt{8}", r"2\sqrt{2}")[0] == "yes"
    workers.close()


def test_a_dead_worker_is_replaced_and_asked_again() -> None:
    assert pool.query("equal", "x+x", "2x") == "yes"
    with pool._lock:
        assert pool._pool is not None
        worker = pool._pool.idle.get()
        assert worker is not None
        worker.process.kill()
        worker.process.wait()
        pool._pool.idle.put(worker)
    assert equivalent(r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}")
    assert pool.query("equal", "x+x", "2x") == "yes"


def test_decision_died_is_not_cached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(pool, "query", lambda *_: "died")
        assert grade(r"\boxed{\sqrt{7+2\sqrt{10}}}", r"\sqrt2+\sqrt5").reason == "died"
    assert grade(r"\boxed{\sqrt{7+2\sqrt{10}}}", r"\sqrt2+\sqrt5").correct


def test_missing_process_is_decision_died(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pool.subprocess,
        "Popen",
        lambda *_, **__: (_ for _ in ()).throw(OSError(24, "too many files")),
    )
    workers = pool.Pool()
    assert [workers.query(pool.Budget(), "equal", "x", "y")[0] for _ in range(5)] == ["died"] * 5


def test_time_limit_holds_if_the_caller_blocks_signals() -> None:
    code = r"""
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF, signal.SIGALRM})
        from slm_math.answers import pool
        pool.SECONDS = 1.0
        endless = r"\lfloor " + "+".join(f"(x+{n})^{{99999}}" for n in range(30)) + r"\rfloor"
        real = pool._Worker.query

        def query(worker, question):
            reply = real(worker, question)
            print(reply.split()[0], len(reply.split()))
            return reply

        pool._Worker.query = query
        with pool.budget():
            pool.query("equal", endless, rf"{endless}+1")
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    # the worker stopped itself and reported its time; the reply of a killed worker is one word
    assert run.stdout.split() == ["timeout", "3"]


# sympy compares it term by term: a few of them take all steps that there are
LONG = r"\lfloor x\rfloor+" + "+".join(rf"\sqrt{{x+{k}}}" for k in range(1, 9))
LONG_TOO = "+".join(rf"\sqrt{{x+{k}}}" for k in range(8, 0, -1)) + r"+\lfloor x\rfloor"


def test_all_members_of_one_answer_share_its_steps(spent: list[pool.Reply]) -> None:
    answer = ", ".join(f"{k}+{LONG}" for k in range(9))
    gold = ", ".join(f"{k}+{LONG_TOO}" for k in range(9))
    assert grade(f"\\boxed{{({answer})}}", f"({gold})").reason == "too complex"
    assert len(spent) > 1
    assert 0.5 * pool.STEPS < sum(reply.steps for reply in spent) <= pool.STEPS
    spent.clear()
    choices = [f"{k}+{LONG_TOO}" for k in range(9)]
    assert not grade(f"\\boxed{{20+{LONG}}}", "A", None, "mc", choices).correct
    assert sum(reply.steps for reply in spent) <= pool.STEPS


def test_a_remembered_verdict_costs_the_steps_that_it_took(spent: list[pool.Reply]) -> None:
    """Otherwise the verdict on the last member would depend on what was graded before."""
    pair = LONG.replace("x", "t"), LONG_TOO.replace("x", "t")
    left = []
    for _ in range(2):
        with pool.budget():
            assert equivalent(*pair)
            left.append(pool.steps_left())
    assert len(spent) == 1
    assert left[0] == left[1] < pool.STEPS


@pytest.mark.slow
def test_every_worker_counts_the_same_steps() -> None:
    """A worker beside busy neighbors is only slower: the steps decide, and they are the same."""
    question = "equal", r"\frac{\sqrt{x^2+y}}{\sin z}", r"\sqrt{x^2+y}\csc z"
    first, second = pool.Pool(), pool.Pool()
    counted = [workers.query(pool.Budget(), *question).steps for workers in (first, second, first)]
    assert len(set(counted)) == 1
    enough, few = pool.Budget(counted[0]), pool.Budget(counted[0] - 1)
    assert first.query(enough, *question).text == second.query(enough, *question).text == "yes"
    assert first.query(few, *question).text == second.query(few, *question).text == "steps"
    first.close()
    second.close()


def test_too_few_seconds_are_no_verdict_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = r"\sqrt{u^2+2u+1}+v", r"v+\sqrt{1+2u+u^2}"
    with monkeypatch.context() as slow:
        slow.setattr(pool.Pool, "query", lambda *_: pool.Reply("timeout", pool.SECONDS))
        assert grade(rf"\boxed{{{pair[0]}}}", pair[1]).reason == "timeout"
    assert grade(rf"\boxed{{{pair[0]}}}", pair[1]).correct


def test_too_few_steps_are_a_verdict_for_good(spent: list[pool.Reply]) -> None:
    pair = f"{LONG}+{LONG.replace('x', 'w')}", f"{LONG_TOO.replace('x', 'w')}+{LONG_TOO}"
    assert [grade(rf"\boxed{{{pair[0]}}}", pair[1]).reason for _ in range(2)] == ["too complex"] * 2
    assert [reply.text for reply in spent] == ["steps"]


def test_importing_the_grader_does_not_import_sympy() -> None:
    code = (
        "import sys, slm_math.answers; print([m for m in ('sympy', 'torch', 'math_verify') if m in "
        "sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
