"""Parse reference answers of MATH and write them in other forms, for `cross_check.py`."""

import random
import re
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from functools import cache, partial

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
from sympy import I, Pow, Rational, Symbol

from slm_math.answers.latex import split_top

MATRIX = re.compile(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", re.DOTALL)
MARK = re.compile(
    r"(.+?)(\s*\^\{?\\circ\}?|\s*\\text\s*\{[a-z ]+\}(?:\^[23])?|\\%)|(\\\$)\s*(.+)", re.DOTALL
)
COMMA, CUP, ROW, CELL = re.compile(","), re.compile(r"\\cup"), re.compile(r"\\\\"), re.compile("&")
REWRITES = (
    sympy.expand, sympy.factor, sympy.together, sympy.radsimp, sympy.sqrtdenest, sympy.simplify,
    sympy.trigsimp, sympy.apart,
)  # fmt: skip


# Reading the reference answers


def tidy(text: str) -> str:
    """Normalize the spelling of an answer, so that its parts can be found."""
    text = (
        re.sub(r"\\left|\\right|\\!|(?<!\\)\\(?= )", "", text)
        .replace("{,}", ",")
        .replace("\\mbox", "\\text")
    )
    text = re.sub(
        r"\\[dt]?frac *(\d) *(?=[\d{])", r"\\frac{\1}", re.sub(r"\\[dt]frac", r"\\frac", text)
    )
    text = re.sub(
        r"(\\frac *\{[^{}]*\}) *(\d)", r"\1{\2}", re.sub(r"\\sqrt *(\d)", r"\\sqrt{\1}", text)
    ).strip()
    return (
        re.sub(r", ?", "", text)
        if re.fullmatch(r"(?:\\\$)?\d{1,3}(?:, ?\d{3})+(?:\.\d+)?", text)
        else text
    )


def structure(text: str) -> tuple[str, list]:
    """The kind of a tidy answer, and the LaTeX of its parts."""
    if match := MATRIX.fullmatch(text):
        return "matrix", [split_top(row, CELL) for row in split_top(match[1], ROW) if row]
    if match := re.fullmatch(r"(\d+)_\{?(\d+)\}?", text):
        return "base", [match[1], match[2]]
    if match := re.fullmatch(r"(?:\\text\s*\{)?(\(?[A-Z]\)?|[A-Za-z ]{4,})\}?", text):
        return "text", [match[1]]
    if match := MARK.fullmatch(text):
        mark = match[2] or match[3]
        kind = {"\\%": "percent", "\\$": "money"}.get(mark, "degrees" if "circ" in mark else "unit")
        return kind, [match[1] or match[4]]
    if len(pieces := split_top(text, CUP)) > 1:
        return "union", pieces
    if text[:1] in "([" and text[-1:] in ")]" and "(" not in text[1:] and "," in text:
        pieces = split_top(text[1:-1], COMMA)
        is_interval = len(pieces) == 2 and re.search(r"\\infty|[\[\]]", text)
        return "interval" if is_interval else "tuple", pieces
    if len(sides := text.split("=")) == 2:
        return "equation", sides
    pieces = split_top(text, COMMA)
    return ("list", pieces) if len(pieces) > 1 else ("expression", [text])


@cache
def value(latex: str) -> sympy.Expr | None:
    """The sympy expression of LaTeX; None if sympy could not write it back unambiguously."""
    try:
        e = latex2sympy(
            latex, is_real=False, conversion_config=ConversionConfig(lowercase_symbols=False)
        )
        e = e.subs(
            {s: {"i": I, "e": sympy.E}[s.name] for s in e.free_symbols if s.name in "ie"}
        ).doit()
        e = e.xreplace({number: Rational(str(number)) for number in e.atoms(sympy.Float)})
        usable = (
            isinstance(e, sympy.Expr)
            and e.is_finite is not False
            and not re.search(r"\\pm|\\\$|[_:]", latex)
        )
        small = all(max(abs(n.p), n.q) < 10**30 for n in e.atoms(Rational))
        return e if usable and small and all(len(s.name) == 1 for s in e.free_symbols) else None
    except Exception:  # the LaTeX parser may fail in any way
        return None


def same(a: sympy.Expr, b: sympy.Expr) -> bool | None:
    """Whether two expressions agree at three points to 25 digits; None if this is not decidable."""
    if a.free_symbols != b.free_symbols:
        return False
    for start in (Rational(83, 100), Rational(213, 91), Rational(31, 7)):
        point = {
            name: start + Rational(i, 3) for i, name in enumerate(sorted(a.free_symbols, key=str))
        }
        left, right = (sympy.N(side.subs(point), 40) for side in (a, b))
        if not (left.is_number and right.is_number) or left.has(sympy.nan, sympy.zoo):
            return None
        if abs(left - right) > 1e-25 * max(abs(left), abs(right)):
            return False
    return True


# One number or expression in other forms, and in wrong forms that look similar

tex = partial(sympy.latex, ln_notation=True)


def decimal(e: sympy.Expr, digits: int) -> str:
    text = format(Decimal(str(sympy.N(e, digits))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def forms(e: sympy.Expr) -> Iterator[tuple[str, str]]:
    """Other spellings of an expression, as (name, LaTeX)."""
    for rewrite in REWRITES if not e.is_Rational else ():
        with suppress(NotImplementedError, sympy.PolynomialError):
            if (rewrite is not sympy.apart or len(e.free_symbols) == 1) and same(
                other := rewrite(e), e
            ):
                yield rewrite.__name__, tex(other)
    if e.is_Add:
        yield (
            "commuted",
            " + ".join(
                f"({tex(t)})" if tex(t).startswith("-") else tex(t) for t in reversed(e.args)
            ),
        )
    if e.is_Mul and not any(f.is_Rational and f < 0 for f in e.args):
        yield (
            "commuted",
            r" \cdot ".join(
                rf"\left({tex(f)}\right)" if f.is_Add else tex(f) for f in reversed(e.args)
            ),
        )
    c, root = e.as_coeff_Mul()
    if c > 0 and c != 1 and (n := root**2).is_Integer and n > 1:  # c sqrt(n)
        yield "one radical", rf"\sqrt{{{tex(c * c * n)}}}"
        whole = Rational(c * n)
        yield (
            "not rationalized",
            rf"\frac{{{whole.p}}}{{{whole.q if whole.q > 1 else ''}\sqrt{{{n}}}}}",
        )
    if e.is_number and e.is_real and not e.is_Integer:
        yield "decimal", decimal(e, 15)
    if not e.is_Rational:
        return
    sign, p, q = "-" if e < 0 else "", abs(e.p), e.q
    yield "unreduced", rf"{sign}\frac{{{3 * p}}}{{{3 * q}}}"
    if q > 1:
        yield "slash", f"{sign}{p}/{q}"
        yield (
            "mixed number",
            rf"{sign}{p // q}\frac{{{p % q}}}{{{q}}}" if p > q else rf"\frac{{{e.p}}}{{{q}}}",
        )
        if 100 % q == 0:
            yield "percent", rf"{100 * e}\%"
    elif p >= 10_000:
        digits = str(p).rstrip("0")
        yield "thousands", sign + f"{p:,}".replace(",", ",\\!")
        yield "scientific", rf"{sign}{digits[0]}.{digits[1:] or 0} \times 10^{{{len(str(p)) - 1}}}"
    else:
        yield "decimal zero", f"{e}.0"


def near(e: sympy.Expr, draw: random.Random) -> list[tuple[str, str]]:
    """Expressions that are similar but not equal, as (name, LaTeX)."""
    step = draw.choice((-1, 1))
    variants = [
        ("sign", -e),
        ("plus one", e + 1),
        ("factor", e * Rational(10) ** draw.choice((-2, -1, 1, 2))),
    ]
    if e.is_Rational and e.q > 1:
        variants += [
            ("denominator", Rational(e.p, 3 if e.q == 2 else e.q + step)),
            ("upside down", 1 / e),
        ]
        variants.append(("numerator", Rational(e.p + step, e.q)))
    elif not e.is_Rational and (numbers := sorted(e.atoms(Rational), key=str)):
        variants += [
            ("coefficient", e.xreplace({n: n + step}))
            for n in draw.sample(numbers, min(2, len(numbers)))
        ]
    if powers := sorted(e.atoms(Pow), key=str):
        power = draw.choice(powers)
        variants.append(("exponent", e.xreplace({power: Pow(power.base, power.exp + step)})))
    if e.has(I):
        variants.append(("conjugate", e.xreplace({I: -I})))
    if names := sorted(e.free_symbols, key=str):
        other = next(letter for letter in "ntzu" if Symbol(letter) not in names)
        variants.append(("renamed", e.subs(names[0], Symbol(other))))
    spelled = [(name, tex(variant)) for name, variant in variants]
    if e.is_number and e.is_real and not e.is_Integer:
        spelled.append(("rounded", decimal(e, 3)))
    return [
        (name, text)
        for name, text in spelled
        if (v := value(text)) is not None and same(v, e) is False
    ]


def one(e: sympy.Expr | None, draw: random.Random) -> Iterator[tuple[str, bool, str]]:
    """One equal form and one wrong value of a member of a structure, if there are any."""
    for name, equal, make in (("form", True, forms), ("wrong", False, partial(near, draw=draw))):
        if e is not None and (texts := [text for _, text in make(e)]):
            yield name, equal, draw.choice(texts)
