"""Formulas: what is one, and what of it reaches a page."""

from __future__ import annotations

import time

import pytest

from slm_math.report.mathematics import formulas, mathml

CASES = {
    "a $x^2$ b": ["x^2"],
    r"\(a\) and \[b\] and $$c$$": ["a", "b", "c"],
    r"so \boxed{\frac{1}{2}}.": [r"\boxed{\frac{1}{2}}"],
    "5 apples at $3 cost $15.": [],
    "She has $5, he has $7 and they pay $12": [],
    "It is $20-$5=$15": [],
    r"costs \$5 and $x$": ["x"],
    r"$\text{the price is } 5$": [r"\text{the price is } 5"],
    r"$\$5$ each": [r"\$5"],
    r"of $\triangle ABC$ and $\angle DEF$": [r"\triangle ABC", r"\angle DEF"],
    "no end $x": [],
    r"no end \boxed{x": [],
    r"\begin{align*}a&=b\end{align*}": [r"\begin{align*}a&=b\end{align*}"],
    "$ x $": [],
    "$$ $$": [],
}


@pytest.mark.parametrize("text", CASES)
def test_formulas(text: str) -> None:
    found = list(formulas(text))
    assert [latex for _, latex, _ in found if latex] == CASES[text]
    assert "".join(source for source, _, _ in found) == text


def test_a_fraction_is_mathml() -> None:
    assert mathml(r"\frac{1}{2}") == (
        "<math "
        'display="inline"><mrow><mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac></mrow></math>'
    )


@pytest.mark.parametrize(
    "latex",
    [
        r"\href{javascript:alert(1)}{x}", r"\style{position:fixed}{x}", r"\class{item}{x}",
        r"\id{list}{x}",
        r"\text{<img src=x onerror=alert(1)>}", r"\text{&lt;script&gt;}",
        r"\color{red;x:url(//a)}{x}", "x<script>",
        r"\unicode{x3c}script>", r"\includegraphics{//a.b}", r"\mathchoice{<b>}{}{}{}",
    ],
)  # fmt: skip
def test_only_mathematics_passes(latex: str) -> None:
    made = mathml(latex) or ""
    for word in ("href", "style=", "class=", "id=", "<img", "<script", "<b>", "src=x ", "url("):
        assert word not in made.replace("&lt;", "(")


def test_definitions_are_shown_as_written() -> None:
    assert mathml(r"\def\a{\b\b}\def\b{\c\c}\a") is None
    assert mathml(r"\newcommand{\a}{x}\a") is None
    assert mathml(r"\delta\letter") is not None


@pytest.mark.parametrize("text", ["{" * 1400, "^" * 1400, r"\frac" * 300, r"\left(" * 240,
"$" * 20_000, "$a " * 6000,
                                  r"\boxed{" * 2500, "\\(" * 9000, r"\begin{align}" * 1500,
                                  "$a$" * 6000])  # fmt: skip
def test_no_formula_takes_long(text: str) -> None:
    start = time.process_time()
    mathml(text[:1400])
    assert "".join(source for source, _, _ in formulas(text)) == text
    assert time.process_time() - start < 30  # the slowest takes half a second
