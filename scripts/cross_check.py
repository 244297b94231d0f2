#!/usr/bin/env python3
"""Compare our grader with math-verify on pairs of answers that were labeled without a grader.

    python scripts/cross_check.py [--limit 150] [--all]

Reference answers of MATH are written in other forms (equal) and with small errors (different);
those of MATH-500 are also compared with themselves and with the answer to the next problem. sympy
makes and checks the values, one number or expression at a time, read by math-verify's LaTeX parser.
Lists, tuples, intervals, matrices and equations are split here, and the label follows from how a
pair was made. For the kinds in OTHER_RULES, math-verify's rules differ from ours by design. The
environment variable SLM_MATH_DATA names a folder with math500/test.jsonl and math/train.jsonl.
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
from functools import partial
from pathlib import Path

import sympy
from answer_forms import decimal, forms, near, one, same, structure, tex, tidy, value
from math_verify import parse, verify
from sympy import Symbol

from slm_math.answers import equivalent, gold_answer, grade
from slm_math.metrics.intervals import wilson

Pair = tuple[str, str, str, bool]  # kind, answer, reference, whether they are equal
Variants = Iterator[tuple[str, str, bool]]  # the same without the reference
OTHER_RULES = {
    "tuple: brackets", "tuple: bare", "list: ordered", "interval: inequality", "equation: one side",
    "degrees: exchanged", "money: exchanged", "unit: exchanged",
}  # fmt: skip


# Variants of each kind of answer


def spellings(text: str) -> Iterator[tuple[str, str]]:
    """The same answer, typed differently."""
    yield "dfrac", re.sub(r"\\t?frac", r"\\dfrac", text)
    yield (
        "unicode",
        text.replace("-", "−").replace("\\pi", "π").replace("\\infty", "∞").replace("\\cup", "∪"),
    )
    yield "braces", re.sub(r"\^(\d)(?!\d)", r"^{\1}", text)
    yield "times", re.sub(r"(?<![\d_^{.])(\d+) ?(?=\\sqrt|\\pi)", r"\1 \\cdot ", text)
    yield "thin space", re.sub(r"(?<=\d) ?(?=\\sqrt|\\pi)", r"\\,", text).replace(", ", ",\\; ")
    yield "delimiters", f"${text}$."
    yield "display", rf"\displaystyle {text}\!"
    if "\\left" not in text:
        yield (
            "sized",
            re.sub(
                r"[\])]", r"\\right\g<0>", re.sub(r"(?<!\\)[(\[](?!\d\])", r"\\left\g<0>", text)
            ),
        )
    if not re.search("text|mbox|,", text):
        yield "blanks", re.sub(r"(?<!\\)\s*([-+=])\s*", r" \1 ", text).strip()


def expressions(kind: str, text: str, parts: list, draw: random.Random) -> Variants:
    if (e := value(parts[0])) is not None:
        yield from ((f"form: {name}", other, True) for name, other in forms(e))
        yield from ((f"near: {name}", other, False) for name, other in near(e, draw))
        if e.is_number:
            yield "form: assigned", f"x = {text}", True


def marked(kind: str, text: str, parts: list, draw: random.Random) -> Variants:
    """A number with its degree sign, unit, currency or percent sign dropped, kept or exchanged."""
    if (e := value(parts[0])) is None or e.free_symbols or e.atoms(sympy.Function):
        return
    bare, off = (
        decimal(e, 12) if e.is_Rational and 100 % e.q == 0 else tex(e),
        tex(e + draw.choice((-1, 1, 10))),
    )
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
        yield from (
            ("text: choice", f"({bare})", True),
            ("text: letter", chr(ord(bare) + 1), False),
        )


def based(kind: str, text: str, parts: list, draw: random.Random) -> Variants:
    digits, base = parts
    yield from (
        ("base: braces", f"{digits}_{{{base}}}", True),
        ("base: text", rf"{digits}_{{\text{{{base}}}}}", True),
    )
    yield from (
        ("base: base", f"{digits}_{int(base) + 1}", False),
        ("base: digits", f"{digits}0_{base}", False),
    )


def members(kind: str, text: str, parts: list, draw: random.Random) -> Variants:
    """Lists, tuples, intervals, unions."""
    parts = [part.strip() for part in parts]
    opening, closing = (text[0], text[-1]) if kind in ("tuple", "interval") else ("", "")

    def whole(items: list[str]) -> str:
        return opening + (r" \cup " if kind == "union" else ", ").join(items) + closing

    turned, values = parts[1:] + parts[:1], [value(part) for part in parts]
    distinct = None not in values and not any(
        same(a, b) for i, a in enumerate(values) for b in values[:i]
    )
    if distinct or kind in ("list", "union"):
        yield f"{kind}: turned", whole(turned), kind in ("list", "union")
    if kind == "list" and distinct:
        yield from (
            ("list: set", rf"\{{{whole(turned)}\}}", True),
            ("list: ordered", f"({whole(parts)})", False),
        )
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
    below, above = (
        ("" if low == r"-\infty" else f"{low} {less} "),
        ("" if high == r"\infty" else f" {more} {high}"),
    )
    greater = {"<": " > ", r"\le": r" \ge "}
    if below or above:
        yield "interval: inequality", f"{below}x{above}", True
        turned = (
            (f"{high}{greater[more]}" if above else "")
            + "x"
            + (f"{greater[less]}{low}" if below else "")
        )
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
        lines = (
            " & ".join(cell if isinstance(cell, str) else tex(cell) for cell in row)
            for row in table
        )
        return rf"\begin{{{brackets}}} " + r" \\ ".join(lines) + rf" \end{{{brackets}}}"

    yield "matrix: brackets", whole(cells, "bmatrix"), True
    factor = sympy.ilcm(1, 1, *(cell.q for row in cells for cell in row if cell.is_Rational))
    if factor > 1:
        yield (
            "matrix: factor",
            rf"\frac{{1}}{{{factor}}} " + whole([[c * factor for c in r] for r in cells]),
            True,
        )
    for name, table in (
        ("transposed", [list(column) for column in zip(*cells)]),
        ("rows turned", cells[::-1]),
    ):
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
        yield from (
            ("equation: value", tex(right), True),
            ("equation: value wrong", tex(right + 1), False),
        )
        return
    name = sorted(left.free_symbols | right.free_symbols, key=str)[0]
    for kind, a, b, equal in (
        ("turned", right, left, True), ("doubled", 2 * left, 2 * right, True),
        ("negative", -left, -right, True),
        ("divided", left / 3, right / 3, True), ("one side zero", left - right, 0, True),
        ("constant", left, right + 1, False), ("sign", left, -right if right != 0 else 1, False),
        ("renamed", left.subs(name, Symbol("t")), right.subs(name, Symbol("t")), False),
    ):  # fmt: skip
        yield f"equation: {kind}", f"{tex(sympy.expand(a))} = {tex(sympy.expand(b))}", equal
    yield from (("equation: one side", side.strip(), False) for side in parts)


KINDS = {
    "expression": expressions, "degrees": marked, "unit": marked, "money": marked,
    "percent": marked, "text": texts, "base": based, "list": members, "tuple": members,
    "interval": members, "union": members, "matrix": matrices, "equation": equations,
}  # fmt: skip


def variants(gold: str, draw: random.Random) -> Iterator[Pair]:
    text = tidy(gold)
    kind, parts = structure(text)
    yield from (
        (f"typed: {name}", other, gold, True) for name, other in spellings(gold) if other != gold
    )
    for name, other, equal in KINDS[kind](kind, text, parts, draw):
        if not equal or other.replace(" ", "") != text.replace(" ", ""):
            yield name, other, gold, equal


def agree(a: str, b: str) -> bool:
    """Whether two answers are equal as text or as numbers, without units and `x =`."""
    kinds, (left, right) = zip(*(structure(re.sub(r"^x *= *", "", tidy(text))) for text in (a, b)))
    if left == right or len(left) != 1 or len(right) != 1 or {"text", "matrix"} & set(kinds):
        return left == right
    x, y = value(left[0]), value(right[0])
    return x is not None and y is not None and bool(same(x, y))


def collect(data: Path, limit: int, seed: int) -> list[Pair]:
    """All pairs, or at most `limit` of each kind, drawn at random."""
    draw, kinds = random.Random(seed), defaultdict(list)
    test = [json.loads(line)["answer"] for line in (data / "math500/test.jsonl").open()]
    train = [
        gold_answer(json.loads(line)["solution"]) for line in (data / "math/train.jsonl").open()
    ]
    for gold in dict.fromkeys(gold for gold in test + train if gold and len(gold) < 200):
        for pair in dict.fromkeys(variants(gold, draw)):
            kinds[pair[0]].append(pair)
    pairs = [
        pair
        for of_kind in kinds.values()
        for pair in (draw.sample(of_kind, min(limit or len(of_kind), len(of_kind))))
    ]
    pairs += [("itself", gold, gold, True) for gold in test]
    return pairs + [
        ("the next problem's", b, a, agree(a, b)) for a, b in zip(test, test[1:] + test[:1])
    ]


# The comparison


def theirs(answer: str, gold: str) -> bool:
    """math-verify's verdict. Its own time limits of 5 seconds work in the main thread.

    The box has no dollar signs around it, since math-verify would then miss answers with their own.
    """
    return verify(parse(f"${gold}$"), parse(rf"\boxed{{{answer}}}"))


def share(wrong: int, n: int) -> str:
    low, high = wilson(n - wrong, n)
    return (
        f"{n - wrong:,} of {n:,}, {100 * (n - wrong) / n:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=int, default=150, help="pairs per kind, 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--all", action="store_true", help="print every pair where the two graders differ"
    )
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    data = Path(os.environ.get("SLM_MATH_DATA", Path(__file__).parents[2] / "shared/data"))
    if not (data / "math500/test.jsonl").is_file() or not (data / "math/train.jsonl").is_file():
        sys.exit(
            f"no math500/test.jsonl and math/train.jsonl in {data}: set SLM_MATH_DATA to the "
            "folder of the data"
        )
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
    print(
        f"\n{'kind':<24}{'pairs':>7}{'ours: false +':>16}{'false -':>9}{'math-verify: false +':>23}{'false -':>9}"  # noqa: E501
    )
    for kind, n in sorted(counts.items()):
        errors = [n[f"{who} {sign}"] for who in ("ours", "math-verify") for sign in "+-"]
        print("{:<24}{:>7}{:>16}{:>9}{:>23}{:>9}".format(kind[:24], n["pairs"], *errors))
        if kind.startswith("all"):
            print(f"    {kind}, right: ours {share(sum(errors[:2]), n['pairs'])}; ", end="")
            print(f"math-verify {share(sum(errors[2:]), n['pairs'])}")


if __name__ == "__main__":
    main()
