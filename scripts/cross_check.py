#!/usr/bin/env python3
"""Compare our grader with math-verify on labelled pairs of answers whose truth neither grader decides.

    python scripts/cross_check.py [--limit 150] [--all]

Reference answers of MATH are written in other forms (equal) and slightly wrong (different); MATH-500's are also set
against themselves and against the next problem's. sympy makes and checks the values (through math-verify's LaTeX
reader, on one number or expression at a time); lists, tuples, intervals, matrices and equations are taken apart here,
and their truth follows from how a pair was made. Some kinds follow our rules where math-verify's are others by choice
(OTHER_RULES). The data are found through SLM_MATH_DATA, a folder with math500/test.jsonl and math/train.jsonl.
"""

import argparse
import json
import logging
import os
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from functools import cache, partial
from pathlib import Path

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
from math_verify import parse, verify
from sympy import I, Pow, Rational, Symbol

from slm_math.answers import equivalent, gold_answer, grade
from slm_math.answers.latex import split_top
from slm_math.evaluation.metrics import wilson

Pair = tuple[str, str, str, bool]  # kind, answer, reference, whether they are equal
Variants = Iterator[tuple[str, str, bool]]  # the same without the reference
MATRIX = re.compile(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", re.DOTALL)
MARK = re.compile(r"(.+?)(\s*\^\{?\\circ\}?|\s*\\text\s*\{[a-z ]+\}(?:\^[23])?|\\%)|(\\\$)\s*(.+)", re.DOTALL)
COMMA, CUP, ROW, CELL = re.compile(","), re.compile(r"\\cup"), re.compile(r"\\\\"), re.compile("&")
REWRITES = (
    sympy.expand, sympy.factor, sympy.together, sympy.radsimp, sympy.sqrtdenest, sympy.simplify, sympy.trigsimp,
    sympy.apart,
)  # fmt: skip
OTHER_RULES = {
    "tuple: brackets", "tuple: bare", "list: ordered", "interval: inequality", "equation: one side",
    "degrees: exchanged", "money: exchanged", "unit: exchanged",
}  # fmt: skip


# --- reading the reference answers


def tidy(text: str) -> str:
    """One spelling, so that the pieces of an answer can be told apart."""
    text = re.sub(r"\\left|\\right|\\!|(?<!\\)\\(?= )", "", text).replace("{,}", ",").replace("\\mbox", "\\text")
    text = re.sub(r"\\[dt]?frac *(\d) *(?=[\d{])", r"\\frac{\1}", re.sub(r"\\[dt]frac", r"\\frac", text))
    text = re.sub(r"(\\frac *\{[^{}]*\}) *(\d)", r"\1{\2}", re.sub(r"\\sqrt *(\d)", r"\\sqrt{\1}", text)).strip()
    return re.sub(r", ?", "", text) if re.fullmatch(r"(?:\\\$)?\d{1,3}(?:, ?\d{3})+(?:\.\d+)?", text) else text


def structure(text: str) -> tuple[str, list]:
    """What kind of answer a tidy text is, and the LaTeX of its parts."""
    if found := MATRIX.fullmatch(text):
        return "matrix", [split_top(row, CELL) for row in split_top(found[1], ROW) if row]
    if found := re.fullmatch(r"(\d+)_\{?(\d+)\}?", text):
        return "base", [found[1], found[2]]
    if found := re.fullmatch(r"(?:\\text\s*\{)?(\(?[A-Z]\)?|[A-Za-z ]{4,})\}?", text):
        return "text", [found[1]]
    if found := MARK.fullmatch(text):
        mark = found[2] or found[3]
        kind = {"\\%": "percent", "\\$": "money"}.get(mark, "degrees" if "circ" in mark else "unit")
        return kind, [found[1] or found[4]]
    if len(pieces := split_top(text, CUP)) > 1:
        return "union", pieces
    if text[:1] in "([" and text[-1:] in ")]" and "(" not in text[1:] and "," in text:
        pieces = split_top(text[1:-1], COMMA)
        return "interval" if len(pieces) == 2 and re.search(r"\\infty|[\[\]]", text) else "tuple", pieces
    if len(sides := text.split("=")) == 2:
        return "equation", sides
    pieces = split_top(text, COMMA)
    return ("list", pieces) if len(pieces) > 1 else ("expression", [text])


@cache
def value(latex: str) -> sympy.Expr | None:
    """The sympy expression; None when it is none that sympy writes back as it was meant."""
    try:
        e = latex2sympy(latex, is_real=False, conversion_config=ConversionConfig(lowercase_symbols=False))
        e = e.subs({s: {"i": I, "e": sympy.E}[s.name] for s in e.free_symbols if s.name in "ie"}).doit()
        e = e.xreplace({number: Rational(str(number)) for number in e.atoms(sympy.Float)})
        usable = isinstance(e, sympy.Expr) and e.is_finite is not False and not re.search(r"\\pm|\\\$|[_:]", latex)
        small = all(max(abs(n.p), n.q) < 10**30 for n in e.atoms(Rational))
        return e if usable and small and all(len(s.name) == 1 for s in e.free_symbols) else None
    except Exception:  # a reader of LaTeX may fail in any way
        return None


def same(a: sympy.Expr, b: sympy.Expr) -> bool | None:
    """Whether two expressions agree at three points to 25 digits; None where that cannot be told."""
    if a.free_symbols != b.free_symbols:
        return False
    for start in (Rational(83, 100), Rational(213, 91), Rational(31, 7)):
        point = {name: start + Rational(i, 3) for i, name in enumerate(sorted(a.free_symbols, key=str))}
        left, right = (sympy.N(side.subs(point), 40) for side in (a, b))
        if not (left.is_number and right.is_number) or left.has(sympy.nan, sympy.zoo):
            return None
        if abs(left - right) > 1e-25 * max(abs(left), abs(right)):
            return False
    return True


# --- one number or expression in other forms, and nearly right

tex = partial(sympy.latex, ln_notation=True)


def decimal(e: sympy.Expr, digits: int) -> str:
    text = format(Decimal(str(sympy.N(e, digits))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def forms(e: sympy.Expr) -> Iterator[tuple[str, str]]:
    """Equal spellings, by name."""
    for rewrite in REWRITES if not e.is_Rational else ():
        with suppress(NotImplementedError, sympy.PolynomialError):
            if (rewrite is not sympy.apart or len(e.free_symbols) == 1) and same(other := rewrite(e), e):
                yield rewrite.__name__, tex(other)
    if e.is_Add:
        yield "commuted", " + ".join(f"({tex(t)})" if tex(t).startswith("-") else tex(t) for t in reversed(e.args))
    if e.is_Mul and not any(f.is_Rational and f < 0 for f in e.args):
        yield "commuted", r" \cdot ".join(rf"\left({tex(f)}\right)" if f.is_Add else tex(f) for f in reversed(e.args))
    c, root = e.as_coeff_Mul()
    if c > 0 and c != 1 and (n := root**2).is_Integer and n > 1:  # c sqrt(n)
        yield "one radical", rf"\sqrt{{{tex(c * c * n)}}}"
        whole = Rational(c * n)
        yield "not rationalised", rf"\frac{{{whole.p}}}{{{whole.q if whole.q > 1 else ''}\sqrt{{{n}}}}}"
    if e.is_number and e.is_real and not e.is_Integer:
        yield "decimal", decimal(e, 15)
    if not e.is_Rational:
        return
    sign, p, q = "-" if e < 0 else "", abs(e.p), e.q
    yield "unreduced", rf"{sign}\frac{{{3 * p}}}{{{3 * q}}}"
    if q > 1:
        yield "slash", f"{sign}{p}/{q}"
        yield "mixed number", rf"{sign}{p // q}\frac{{{p % q}}}{{{q}}}" if p > q else rf"\frac{{{e.p}}}{{{q}}}"
        if 100 % q == 0:
            yield "percent", rf"{100 * e}\%"
    elif p >= 10_000:
        digits = str(p).rstrip("0")
        yield "thousands", sign + f"{p:,}".replace(",", ",\\!")
        yield "scientific", rf"{sign}{digits[0]}.{digits[1:] or 0} \times 10^{{{len(str(p)) - 1}}}"
    else:
        yield "decimal zero", f"{e}.0"


def near(e: sympy.Expr, draw: random.Random) -> list[tuple[str, str]]:
    """Different spellings, by name."""
    step = draw.choice((-1, 1))
    found = [("sign", -e), ("plus one", e + 1), ("factor", e * Rational(10) ** draw.choice((-2, -1, 1, 2)))]
    if e.is_Rational and e.q > 1:
        found += [("denominator", Rational(e.p, 3 if e.q == 2 else e.q + step)), ("upside down", 1 / e)]
        found.append(("numerator", Rational(e.p + step, e.q)))
    elif not e.is_Rational and (numbers := sorted(e.atoms(Rational), key=str)):
        found += [("coefficient", e.xreplace({n: n + step})) for n in draw.sample(numbers, min(2, len(numbers)))]
    if powers := sorted(e.atoms(Pow), key=str):
        found.append(("exponent", e.xreplace({(power := draw.choice(powers)): Pow(power.base, power.exp + step)})))
    if e.has(I):
        found.append(("conjugate", e.xreplace({I: -I})))
    if names := sorted(e.free_symbols, key=str):
        other = next(letter for letter in "ntzu" if Symbol(letter) not in names)
        found.append(("renamed", e.subs(names[0], Symbol(other))))
    spelled = [(name, tex(other)) for name, other in found]
    if e.is_number and e.is_real and not e.is_Integer:
        spelled.append(("rounded", decimal(e, 3)))
    return [(name, text) for name, text in spelled if (v := value(text)) is not None and same(v, e) is False]


def one(e: sympy.Expr | None, draw: random.Random) -> Iterator[tuple[str, bool, str]]:
    """One other form and one wrong value for a member of a structure, where there are any."""
    for name, equal, found in (("form", True, forms), ("wrong", False, partial(near, draw=draw))):
        if e is not None and (texts := [text for _, text in found(e)]):
            yield name, equal, draw.choice(texts)


# --- variants of each kind of answer


def spellings(text: str) -> Iterator[tuple[str, str]]:
    """The same answer, typed differently."""
    yield "dfrac", re.sub(r"\\t?frac", r"\\dfrac", text)
    yield "unicode", text.replace("-", "−").replace("\\pi", "π").replace("\\infty", "∞").replace("\\cup", "∪")
    yield "braces", re.sub(r"\^(\d)(?!\d)", r"^{\1}", text)
    yield "times", re.sub(r"(?<![\d_^{.])(\d+) ?(?=\\sqrt|\\pi)", r"\1 \\cdot ", text)
    yield "thin space", re.sub(r"(?<=\d) ?(?=\\sqrt|\\pi)", r"\\,", text).replace(", ", ",\\; ")
    yield "delimiters", f"${text}$."
    yield "display", rf"\displaystyle {text}\!"
    if "\\left" not in text:
        yield "sized", re.sub(r"[\])]", r"\\right\g<0>", re.sub(r"(?<!\\)[(\[](?!\d\])", r"\\left\g<0>", text))
    if not re.search("text|mbox|,", text):
        yield "blanks", re.sub(r"(?<!\\)\s*([-+=])\s*", r" \1 ", text).strip()


def expressions(kind: str, text: str, parts: list, draw: random.Random) -> Variants:
    if (e := value(parts[0])) is not None:
        yield from ((f"form: {name}", other, True) for name, other in forms(e))
        yield from ((f"near: {name}", other, False) for name, other in near(e, draw))
        if e.is_number:
            yield "form: assigned", f"x = {text}", True


def marked(kind: str, text: str, parts: list, draw: random.Random) -> Variants:
    """A number with a degree sign, a unit, a currency or a percent sign: dropped or kept, never exchanged."""
    if (e := value(parts[0])) is None or e.free_symbols or e.atoms(sympy.Function):
        return
    bare, off = decimal(e, 12) if e.is_Rational and 100 % e.q == 0 else tex(e), tex(e + draw.choice((-1, 1, 10)))
    put = partial(text.replace, parts[0])
    yield from ((f"{kind}: dropped", bare, True), (f"{kind}: kept", put(bare), True))
    yield from ((f"{kind}: number", off, False), (f"{kind}: number", put(off), False))
    if kind == "percent":
        yield "percent: as a share", decimal(e / 100, 12), True
    elif kind != "unit" or re.search("cm|inch|feet|meter|dollars|pounds", text):
        yield f"{kind}: exchanged", rf"{bare} \text{{ hours}}", False


def texts(kind: str, text: str, parts: list, draw: random.Random) -> Variants:
    bare = parts[0].strip("()")
    yield from (("text: bare", bare, True), ("text: marked", rf"\text{{{bare}}}", True))
    if len(bare) > 1:
        yield from (("text: case", bare.upper(), True), ("text: word", f"not {bare}", False))
    else:
        yield from (("text: choice", f"({bare})", True), ("text: letter", chr(ord(bare) + 1), False))


def based(kind: str, text: str, parts: list, draw: random.Random) -> Variants:
    digits, base = parts
    yield from (("base: braces", f"{digits}_{{{base}}}", True), ("base: text", rf"{digits}_{{\text{{{base}}}}}", True))
    yield from (("base: base", f"{digits}_{int(base) + 1}", False), ("base: digits", f"{digits}0_{base}", False))


def members(kind: str, text: str, parts: list, draw: random.Random) -> Variants:
    """Lists, tuples, intervals, unions."""
    parts = [part.strip() for part in parts]
    opening, closing = (text[0], text[-1]) if kind in ("tuple", "interval") else ("", "")

    def whole(items: list[str]) -> str:
        return opening + (r" \cup " if kind == "union" else ", ").join(items) + closing

    turned, values = parts[1:] + parts[:1], [value(part) for part in parts]
    distinct = None not in values and not any(same(a, b) for i, a in enumerate(values) for b in values[:i])
    if distinct or kind in ("list", "union"):
        yield f"{kind}: turned", whole(turned), kind in ("list", "union")
    if kind == "list" and distinct:
        yield from (("list: set", rf"\{{{whole(turned)}\}}", True), ("list: ordered", f"({whole(parts)})", False))
        yield "list: and", r" \text{ and } ".join(turned), True
        yield "list: assigned", r" \text{ or } ".join(f"x = {part}" for part in parts), True
    if kind == "tuple":
        bare = ", ".join(parts)
        yield from (("tuple: brackets", f"[{bare}]", False), ("tuple: bare", bare, False))
    if kind in ("tuple", "union") or (kind == "list" and distinct):
        yield f"{kind}: dropped", whole(parts[:-1]), False
    if kind == "interval":
        yield from intervals(*parts, opening, closing)
    for i, e in enumerate(values):
        for name, equal, other in one(e, draw):
            yield f"{kind}: member {name}", whole([*parts[:i], other, *parts[i + 1 :]]), equal


def intervals(low: str, high: str, opening: str, closing: str) -> Variants:
    less, more = ("<" if mark in "()" else r"\le" for mark in (opening, closing))
    below, above = ("" if low == r"-\infty" else f"{low} {less} "), ("" if high == r"\infty" else f" {more} {high}")
    greater = {"<": " > ", r"\le": r" \ge "}
    if below or above:
        yield "interval: inequality", f"{below}x{above}", True
        turned = (f"{high}{greater[more]}" if above else "") + "x" + (f"{greater[less]}{low}" if below else "")
        yield "interval: inequality", turned, True
    yield "interval: membership", rf"x \in {opening}{low}, {high}{closing}", True
    if below:
        yield "interval: end", f"{'[' if opening == '(' else '('}{low}, {high}{closing}", False
    if above:
        yield "interval: end", f"{opening}{low}, {high}{']' if closing == ')' else ')'}", False


def matrices(kind: str, text: str, parts: list, draw: random.Random) -> Variants:
    cells = [[value(cell.strip()) for cell in row] for row in parts]
    if any(cell is None for row in cells for cell in row):
        return

    def whole(table: list, brackets: str = "pmatrix") -> str:
        lines = (" & ".join(cell if isinstance(cell, str) else tex(cell) for cell in row) for row in table)
        return rf"\begin{{{brackets}}} " + r" \\ ".join(lines) + rf" \end{{{brackets}}}"

    yield "matrix: brackets", whole(cells, "bmatrix"), True
    factor = sympy.ilcm(1, 1, *(cell.q for row in cells for cell in row if cell.is_Rational))
    if factor > 1:
        yield "matrix: factor", rf"\frac{{1}}{{{factor}}} " + whole([[c * factor for c in r] for r in cells]), True
    for name, table in (("transposed", [list(column) for column in zip(*cells)]), ("rows turned", cells[::-1])):
        if table != cells:
            yield f"matrix: {name}", whole(table), False
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            for name, equal, other in one(cell, draw):
                table = [*cells[:i], [*row[:j], other, *row[j + 1 :]], *cells[i + 1 :]]
                yield f"matrix: cell {name}", whole(table), equal


def equations(kind: str, text: str, parts: list, draw: random.Random) -> Variants:
    left, right = value(parts[0]), value(parts[1])
    if left is None or right is None:
        return
    if left.is_Symbol and right.is_number:
        yield from (("equation: value", tex(right), True), ("equation: value wrong", tex(right + 1), False))
        return
    name = sorted(left.free_symbols | right.free_symbols, key=str)[0]
    for kind, a, b, equal in (
        ("turned", right, left, True), ("doubled", 2 * left, 2 * right, True), ("negative", -left, -right, True),
        ("divided", left / 3, right / 3, True), ("one side zero", left - right, 0, True),
        ("constant", left, right + 1, False), ("sign", left, -right if right != 0 else 1, False),
        ("renamed", left.subs(name, Symbol("t")), right.subs(name, Symbol("t")), False),
    ):  # fmt: skip
        yield f"equation: {kind}", f"{tex(sympy.expand(a))} = {tex(sympy.expand(b))}", equal
    yield from (("equation: one side", side.strip(), False) for side in parts)


KINDS = {
    "expression": expressions, "degrees": marked, "unit": marked, "money": marked, "percent": marked, "text": texts,
    "base": based, "list": members, "tuple": members, "interval": members, "union": members, "matrix": matrices,
    "equation": equations,
}  # fmt: skip


def variants(gold: str, draw: random.Random) -> Iterator[Pair]:
    text = tidy(gold)
    kind, parts = structure(text)
    yield from ((f"typed: {name}", other, gold, True) for name, other in spellings(gold) if other != gold)
    for name, other, equal in KINDS[kind](kind, text, parts, draw):
        if not equal or other.replace(" ", "") != text.replace(" ", ""):
            yield name, other, gold, equal


def agree(a: str, b: str) -> bool:
    """Whether the answers to two problems are equal: as text or as numbers, a unit or `x =` aside."""
    kinds, (left, right) = zip(*(structure(re.sub(r"^x *= *", "", tidy(text))) for text in (a, b)))
    if left == right or len(left) != 1 or len(right) != 1 or {"text", "matrix"} & set(kinds):
        return left == right
    x, y = value(left[0]), value(right[0])
    return x is not None and y is not None and bool(same(x, y))


def collect(data: Path, limit: int, seed: int) -> list[Pair]:
    """All pairs, or at most `limit` of each kind, drawn at random."""
    draw, kinds = random.Random(seed), defaultdict(list)
    test = [json.loads(line)["answer"] for line in (data / "math500/test.jsonl").open()]
    train = [gold_answer(json.loads(line)["solution"]) for line in (data / "math/train.jsonl").open()]
    for gold in dict.fromkeys(gold for gold in test + train if gold and len(gold) < 200):
        for pair in dict.fromkeys(variants(gold, draw)):
            kinds[pair[0]].append(pair)
    pairs = [pair for found in kinds.values() for pair in (draw.sample(found, min(limit or len(found), len(found))))]
    pairs += [("itself", gold, gold, True) for gold in test]
    return pairs + [("the next problem's", b, a, agree(a, b)) for a, b in zip(test, test[1:] + test[:1])]


# --- the comparison


def theirs(answer: str, gold: str) -> bool:
    """math-verify's verdict; its own limits of 5 seconds hold in the main thread.

    Dollars around the box would make it miss answers that have their own.
    """
    return verify(parse(f"${gold}$"), parse(rf"\boxed{{{answer}}}"))


def share(wrong: int, n: int) -> str:
    low, high = wilson(n - wrong, n)
    return f"{n - wrong:,} of {n:,}, {100 * (n - wrong) / n:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=150, help="pairs of a kind, 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="print every pair where the two graders differ")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    data = Path(os.environ.get("SLM_MATH_DATA", Path(__file__).parents[2] / "shared/data"))
    if not (data / "math500/test.jsonl").is_file() or not (data / "math/train.jsonl").is_file():
        sys.exit(f"no math500/test.jsonl and math/train.jsonl in {data}: set SLM_MATH_DATA to the folder of the data")
    counts: dict[str, Counter] = defaultdict(Counter)
    for kind, answer, gold, equal in collect(data, args.limit, args.seed):
        verdicts = {"ours": equivalent(answer, gold), "math-verify": theirs(answer, gold)}
        wrong = [who for who, verdict in verdicts.items() if verdict != equal]
        totals = ("all", "all, rules alike") if kind not in OTHER_RULES else ("all",)
        for name in (kind, *totals):
            counts[name].update(["pairs", *(f"{who} {'-' if equal else '+'}" for who in wrong)])
        if "ours" in wrong or (args.all and wrong):
            print(f"{' and '.join(wrong)} wrong, {kind}: {answer!r} for {gold!r} is {equal}")
        if grade(rf"So the answer is $\boxed{{{answer}}}$.", gold).correct != verdicts["ours"]:
            print(f"another verdict in a reply, {kind}: {answer!r} for {gold!r}")
    print(f"\n{'kind':<24}{'pairs':>7}{'ours: false +':>16}{'false -':>9}{'math-verify: false +':>23}{'false -':>9}")
    for kind, n in sorted(counts.items()):
        errors = [n[f"{who} {sign}"] for who in ("ours", "math-verify") for sign in "+-"]
        print("{:<24}{:>7}{:>16}{:>9}{:>23}{:>9}".format(kind[:24], n["pairs"], *errors))
        if kind.startswith("all"):
            print(f"    {kind}, right: ours {share(sum(errors[:2]), n['pairs'])}; ", end="")
            print(f"math-verify {share(sum(errors[2:]), n['pairs'])}")


if __name__ == "__main__":
    main()
