"""Properties that hold for all answers, tested on generated ones."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from slm_math.answers import equivalent, extract, gold_answer, grade
from slm_math.answers.arithmetic import Undefined, approximate
from slm_math.answers.expressions import Node, Unread, read, spell
from slm_math.answers.latex import normalize

# SLM_MATH_FUZZ=50 runs fifty times as many examples, different ones in each run
TIMES = int(os.environ.get("SLM_MATH_FUZZ", "1"))
settings.register_profile(
    "answers",
    deadline=None,
    derandomize=TIMES == 1,
    max_examples=100 * TIMES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("answers")

numbers = st.builds(Fraction, st.integers(-10_000, 10_000), st.integers(1, 60))
letters = st.sampled_from(["x", "y", "n", r"\theta", r"\pi"])
leaves = st.one_of(
    st.integers(0, 99).map(str),
    st.integers(100, 5000).map(str),
    letters,
    numbers.map(lambda q: f"{float(abs(q)):.3f}"),
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", r" \cdot "]), inner).map(
            lambda t: f"({t[0]}{t[1]}{t[2]})"
        ),
        st.tuples(inner, inner).map(lambda t: rf"\frac{{{t[0]}}}{{{t[1]}}}"),
        inner.map(lambda e: rf"\sqrt{{{e}}}"),
        st.tuples(inner, st.integers(2, 4)).map(lambda t: f"({t[0]})^{{{t[1]}}}"),
        inner.map(lambda e: rf"\sin({e})"),
        inner.map(lambda e: rf"|{e}|"),
    ),
    max_leaves=5,
)
answers = st.one_of(
    expressions,
    st.lists(expressions, min_size=2, max_size=3).map(", ".join),
    st.lists(expressions, min_size=2, max_size=3).map(lambda items: f"({', '.join(items)})"),
    expressions.map(lambda e: f"y = {e}"),
    numbers.map(lambda q: rf"{float(q):g}\%"),
    numbers.map(lambda q: rf"{q.numerator} \text{{ cm}}"),
    st.sampled_from(
        [r"\text{even}", "(B)", r"(-\infty, 3]", r"\{1, 2\}", r"1 \pm \sqrt{2}", r"x \le 4"]
    ),
)
PIECES = r"""
    \boxed{ \fbox{ { } } ( ) [ ] $ $$ \( \) \[ \] \frac \sqrt \text{ \left( \right) \\ & \begin{pmatrix} \end{pmatrix} 1
    2 5 10 0 . , ; : = < > \le + - * / ^ _ ! | % ° x y a b i e \pi \infty \cup \pm \in \{ \} cm dollars and or not
    the answer is: #### <answer> </answer> <think> </think> <|im_end|> ```output ``` Question: √ ½ − × ² ٣ \u200f"""  # noqa: E501
pieces = st.sampled_from(PIECES.split())
noise = st.lists(st.one_of(pieces, st.text(max_size=3)), max_size=30).map(" ".join)


@given(answers)
def test_every_answer_is_itself(answer: str) -> None:
    assert equivalent(answer, answer)


@given(answers)
def test_an_answer_in_a_box_is_found(answer: str) -> None:
    extracted = extract(f"Then $2 + 2 = 4$, so the result is $\\boxed{{{answer}}}$.")
    assert (extracted.value, extracted.method) == (answer, "box")


@settings(max_examples=60 * TIMES)
@given(st.one_of(expressions, numbers.map(str)), st.one_of(expressions, numbers.map(str)))
def test_values_agree_both_ways_round(a: str, b: str) -> None:
    """Comparison is symmetric, except that only a reference may leave arithmetic undone."""
    forth, back = grade(f"\\boxed{{{a}}}", b), grade(f"\\boxed{{{b}}}", a)
    assume("unevaluated" not in (forth.reason, back.reason))
    assert forth.correct == back.correct


@settings(max_examples=60 * TIMES)
@given(answers)
def test_layout_changes_nothing(answer: str) -> None:
    spaced = (
        answer.replace("(", r"\left(")
        .replace(")", r"\right)")
        .replace("frac", "dfrac")
        .replace("+", r"\, +\; ")
    )
    assert equivalent(f" ${spaced}$. ", answer)
    assert equivalent(answer, spaced)


@given(numbers, numbers)
def test_rational_numbers_are_compared_exactly(a: Fraction, b: Fraction) -> None:
    fraction = rf"\frac{{{a.numerator}}}{{{a.denominator}}}"
    assert equivalent(fraction, str(b)) == (a == b)
    assert equivalent(str(a), fraction)


@given(st.integers(-(10**30), 10**30), st.integers(-3, 3))
def test_integers_have_no_tolerance(n: int, difference: int) -> None:
    assert equivalent(f"{n + difference:,}", str(n)) == (difference == 0)


def has_value(text: str) -> bool:
    tree = read(normalize(text))
    try:
        approximate(tree, dict.fromkeys(tree.names, 1.7))
    except Undefined:
        return False
    return True


def mirrored(tree: Node) -> Node:
    """The same value with the order of all sums and products reversed."""
    args = tuple(mirrored(arg) for arg in tree.args)
    return replace(tree, args=args[::-1] if tree.kind in ("sum", "product") else args)


@given(expressions)
# an unfamiliar form was slow in a fresh process
@example(r"(\sin(\frac{91.933}{y}) \cdot \sqrt{\frac{51}{23.400}})")
@example(r"\sqrt{(\sin(29) \cdot \sin(\pi))}")  # the noise of an exact zero
def test_the_order_of_terms_and_factors_changes_nothing(text: str) -> None:
    assume(has_value(text))
    other = spell(mirrored(read(normalize(text))))
    assert equivalent(other, text)
    assert equivalent(text, other)


@given(expressions)
@example(r"|\frac{1}{\sin(\pi)}|")  # infinity and one more are the same to an algebra system
@example(r"\sqrt{|\frac{1}{0}|}")
@example(r"|\frac{x}{0}|")
def test_one_more_is_something_else(text: str) -> None:
    assert not equivalent(f"{text} + 1", text)
    assert not equivalent(text, f"{text} + 1")


@given(st.integers(-300, 300), st.integers(-300, 300))
def test_a_modulus_is_neither_of_its_branches(a: int, b: int) -> None:
    assert not equivalent(f"|x-{a}|", f"x-{a}")
    assert not equivalent(f"|x-{a}|+|x-{b}|", f"2x-{a}-{b}")


@given(expressions)
def test_a_spelled_out_tree_reads_as_the_same_tree(text: str) -> None:
    try:
        tree = read(normalize(text))
    except Unread:
        assume(False)
    assert equivalent(spell(tree), text)


@settings(max_examples=300 * TIMES)
@given(noise, st.one_of(answers, noise))
def test_nothing_is_raised_and_time_is_bounded(reply: str, gold: str) -> None:
    start = time.process_time()
    verdict = grade(reply, gold, last_number=True)
    gold_answer(gold)
    assert isinstance(verdict.correct, bool)
    assert time.process_time() - start < 20  # far more than any takes, and no search without end


@settings(max_examples=150 * TIMES)
@given(noise, st.sampled_from(["A", "A, C", "12 cm"]), st.sampled_from(["mc", "num"]))
def test_other_types_raise_nothing_either(reply: str, gold: str, answer_type: str) -> None:
    tolerance = "5%" if answer_type == "num" else None
    verdict = grade(
        f"\\boxed{{{reply}}}", gold, None, answer_type, ["1", "2", r"\frac12"], tolerance
    )  # type: ignore
    assert verdict.answer is None or isinstance(verdict.answer, str)


@settings(max_examples=150 * TIMES)
@given(noise)
def test_the_span_holds_the_answer(reply: str) -> None:
    extracted = extract(reply, last_number=True)
    if extracted.value is not None and "," not in extracted.value:
        assert extracted.span is not None
        assert reply[slice(*extracted.span)].strip() == extracted.value.strip()


@pytest.mark.parametrize("fraction", ["dfrac", "tfrac", "cfrac"])
def test_kinds_of_fractions_are_one(fraction: str) -> None:
    assert equivalent(rf"\{fraction}{{1}}{{2}}", r"\frac12")


small = st.integers(0, 4)
counts = st.one_of(
    st.tuples(small, small).map(lambda t: rf"\binom{{n+{t[0]}}}{{k+{t[1]}}}"),
    small.map(lambda a: f"(n+{a})!"),
    st.tuples(small, small).map(lambda t: rf"\frac{{(n+{t[0]})!}}{{(n-{t[1]})!}}"),
    st.tuples(small, small).map(lambda t: rf"\sum_{{j=0}}^{{n+{t[0]}}} (j+{t[1]})^2"),
    st.tuples(small, small).map(lambda t: rf"\sum_{{j={t[0]}}}^{{n+4}} {t[1] + 2}^j"),
    small.map(lambda a: rf"\prod_{{j=1}}^{{n}} (j+{a})"),
)
CHANGES = {
    "one more": lambda text: f"{text}+1",
    "the other sign": lambda text: f"-{text}",
    "twice": lambda text: rf"2 \cdot {text}",
    "the next index": lambda text: text.replace("n+", "n+1+").replace("(n-", "(n-1-"),
    "another letter": lambda text: text.replace("n", "m").replace(r"\bim", r"\bin"),
}


@settings(max_examples=40 * TIMES)
@given(counts, st.sampled_from(sorted(CHANGES)))
def test_a_formula_that_counts_is_not_its_neighbor(text: str, change: str) -> None:
    other = CHANGES[change](text)
    assume(other != text)
    assert equivalent(text, text.replace("j", "i"))
    assert not equivalent(other, text)
    assert not equivalent(text, other)


@settings(max_examples=30 * TIMES)
@given(small, st.integers(1, 4), st.integers(1, 6))
def test_a_sum_over_a_range_may_be_shifted(first: int, power: int, shift: int) -> None:
    text = rf"\sum_{{j={first}}}^{{n}} j^{power}"
    shifted = rf"\sum_{{j={first + shift}}}^{{n+{shift}}} (j-{shift})^{power}"
    assert equivalent(shifted, text)
    assert not equivalent(shifted, text.replace("{n}", "{n+1}"))
