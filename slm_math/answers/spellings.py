"""Other spellings of LaTeX commands, of layout and of the functions of programs."""

from __future__ import annotations

import re
from collections.abc import Callable

from slm_math.patterns import lazy_pattern

Replacement = str | Callable[[re.Match[str]], str]

# A commutative term in Python's spelling whose `I` is the imaginary unit, as in `1 + 2*I`.
_PYTHON_COMPLEX = lazy_pattern(r"(?:[-+*/()\d.\s]|sqrt|\\(?:sqrt|pi)|pi)*")
_INTERVAL_ENDS = {"": "[]", ".open": "()", ".Lopen": "(]", ".Ropen": "[)"}
_ORDINAL_END = r"(?:\^\{%s\}|\^?\\text\{\s*%s\s*\}|\^\{\\text\{\s*%s\s*\}\}|\^?%s)(?![a-zA-Z])"


def _ordinal(suffix: str, after: str) -> tuple[str, str, str]:
    """12th, 12^{th} and 12^\\text{th} as 12, but not 12st."""
    return suffix, after + r"\s?" + _ORDINAL_END.replace("%s", suffix), ""


def _closed(text: str, at: int) -> int:
    """The position after the parenthesis that closes the one at `at`; -1 if there is none."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i + 1
    return -1


def _moduli(match: re.Match[str]) -> str:
    """`Abs(x - 1)` as `|x - 1|`, for the text from the first such call on."""
    text = match[0]
    while call := re.search(r"(?<![a-zA-Z\\])[aA]bs\(", text):
        end = _closed(text, call.end() - 1)
        if end < 0:
            break
        text = f"{text[: call.start()]}|{text[call.end() : end - 1]}|{text[end:]}"
    return text


def _rows(match: re.Match[str]) -> str:
    """`Matrix([[1, 2], [3, 4]])` as LaTeX."""
    rows = [row.replace(",", " & ") for row in re.findall(r"\[([^\[\]]*)\]", match[1])]
    column = r" \\ ".join(match[1].split(","))
    return r"\begin{pmatrix}" + (r" \\ ".join(rows) or column) + r"\end{pmatrix}"


def _imaginary(match: re.Match[str]) -> str:
    """The text with `i` for `I` if all else in it is a number in Python's spelling."""
    rest = match[0].replace("I", "")
    is_number = rest.strip() and _PYTHON_COMPLEX.fullmatch(rest)
    return match[0].replace("I", "i") if is_number else match[0]


def _interval(match: re.Match[str]) -> str:
    opening, closing = _INTERVAL_ENDS[match[1] or ""]
    return opening + match[2] + closing


# (a text that the pattern needs, so that most patterns can be skipped, pattern, replacement),
# applied in this order
_TABLE: list[tuple[str, str, Replacement]] = [
    ("\\",
     r"(?<=\d)(?<!(?<!\d)0)(?:,(?:\s*\\[,;:])?\s*\\!\s*|\\[,;:](?=\d{3}(?!\d)))(?=\d{3})", ""),
    ("{,}", r"(?<=\d)(?<!(?<!\d)0)\{,\}(?=\d{3}(?!\d))", ""),
    ("{,}", r"(?<=\d)\{,\}(?=\d)", "."),  # other digits follow a decimal comma
    ("{:}", r"\{:\}", ":"),
    ("\\",
     r"\\(?:left|right|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|bigg|Bigg)(?![a-zA-Z])"
     r"\s*\.?(?=[^a-zA-Z]|$)", ""),
    ("\\",
     r"\\(?:(?:displaystyle|textstyle|limits|nolimits|mathstrut|hfill)(?![a-zA-Z])|!)", ""),
    ("\\", r"\\(?:[,;: ]|(?:quad|qquad|thinspace)(?![a-zA-Z]))", " "),
    ("~", r"~", " "),
    ("color", r"\\(?:text)?color\s*\{[a-zA-Z0-9!]*\}", ""),
    ("underline", r"\\underline(?=\s*\{)", ""),
    ("frac", r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    ("i}", r"\\(?:mathrm|text|rm|mathit|operatorname)\s*\{[\s~]*i\}", "i"),
    ("e}", r"\\mathrm\s*\{[\s~]*e\}", "e"),
    ("operatorname",
     r"\\operatorname\s*\{(sinh?|cosh?|tanh?|cot|sec|csc|cosec|c?tg|arcc?tg|ln|log|arcsin|arccos|arctan|exp|min|max|gcd)"
     r"\}", r"\\\1 "),
    ("text{", r"\\text\s*\{\s*(sin|cos|tan|cot|ln|log)\s*\}", r"\\\1 "),
    ("cosec", r"\\?(?<![a-zA-Z])cosec(?![a-zA-Z])", r"\\csc "),
    ("tg", r"\\(arc)?tg(?![a-zA-Z])", r"\\\1tan "),
    ("tg", r"\\(arc)?(?:c|cot)g(?![a-zA-Z])|\\(arc)?ctg(?![a-zA-Z])", r"\\\1\2cot "),
    ("\\", r"\\(?:tiny|small|large|Large|LARGE|huge|Huge)(?![a-zA-Z])", ""),
    ("over", r"\{([^{}]*)\\over(?![a-zA-Z])([^{}]*)\}", r"\\frac{\1}{\2}"),
    ("choose", r"\{([^{}]*)\\choose(?![a-zA-Z])([^{}]*)\}", r"\\binom{\1}{\2}"),
    ("binom", r"\\[dt]binom(?![a-zA-Z])", r"\\binom"),
    ("bigcup", r"\\bigcup(?![a-zA-Z])", r"\\cup"),
    ("U", r"(?<=[)\]]) ?U ?(?=[(\[])", r"\\cup "),
    ("\\",
     r"\\(?:mathbf|boldsymbol|vec|overrightarrow|hat|bm)\s*\{\s*([a-zA-Z])\s*\}", r"\\vec{\1}"),
    ("vec ", r"\\vec ([a-zA-Z])(?![a-zA-Z])", r"\\vec{\1}"),
    ("\\",
     r"\\(?:[mh]box|text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf)"
     r"|operatorname|boldsymbol|bm|emph|bf|rm)\s*\{", r"\\text{"),
    ("\\", r"\^\s*(?:\{\s*\\(?:circ|degree)\s*\}|\\(?:circ|degree)(?![a-zA-Z]))", "°"),
    ("degree", r"\\(?:text)?degree(?![a-zA-Z])", "°"),
    ("^", r"(?<=\d)\^(?:o(?![a-zA-Z])|\{o\})", "°"),
    ("°", r"°\s*(?:\\text\{\s*C\s*\}|C(?![a-zA-Z]))", r" \\text{celsius}"),
    ("°", r"°\s*(?:\\text\{\s*F\s*\}|F(?![a-zA-Z]))", r" \\text{fahrenheit}"),
    ("°", r"\\frac\s*\{([^{}]*)°\s*\}\s*\{([^{}]*)\}", r"\\frac{\1}{\2}°"),
    ("le", r"\\leqslant(?![a-zA-Z])|\\leqq?(?![a-zA-Z])", r"\\le "),
    ("ge", r"\\geqslant(?![a-zA-Z])|\\geqq?(?![a-zA-Z])", r"\\ge "),
    ("neq", r"\\neq(?![a-zA-Z])", r"\\ne "),
    ("<=", r"<=", r"\\le "),
    (">=", r">=", r"\\ge "),
    ("!=", r"!=", r"\\ne "),
    ("\\lt", r"\\lt(?![a-zA-Z])", "<"),
    ("\\gt", r"\\gt(?![a-zA-Z])", ">"),
    ("\\",
     r"\\l[vV]ert(?![a-zA-Z])|\\r[vV]ert(?![a-zA-Z])|\\[vV]ert(?![a-zA-Z])|\\mid(?![a-zA-Z])",
     "|"),
    ("brace", r"\\lbrace(?![a-zA-Z])", r"\\{"),
    ("brace", r"\\rbrace(?![a-zA-Z])", r"\\}"),
    ("varnothing", r"\\varnothing(?![a-zA-Z])", r"\\emptyset"),
    ("%", r"\\%", "%"),
    ("$", r"\\\$", "＄"),
    ("$", r"\$", " "),
    ("\\", r"\\[()\[\]]", " "),
    ("cbrt", r"(?<![a-zA-Z\\])cbrt\s*\(([^()]*)\)", r"\\sqrt[3]{\1}"),
    ("",
     r"(?<![a-zA-Z\\])(sqrt|sin|cos|tan|cot|sec|csc|ln|log|exp|arcsin|arccos|arctan)(?![a-zA-Z])",
     r"\\\1 "),
    ("sqrt", r"(?<![a-zA-Z\\])sqrt(?=[0-9])", r"\\sqrt "),
    ("10^", r"(?<=\d) ?[xX] ?(?=10\^)", r" \\cdot "),
    ("**", r"\*\*", "^"),
    ("pi", r"(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi "),
    # units, ordinals and marks around a value
    ("text", r"\\frac\s*\{([^{}]*[\d)])\s*\\text\{([^{}]*)\}\}\{([^{}\\]*)\}",
     r"\\frac{\1}{\3} \\text{\2}"),
    ("text", r"(?<![\d}])\\text\{\s*([-+]?\d[\d.,]*)\s*\}", r"\1"),
    _ordinal("st", r"(?<=(?<!1)1)"),
    _ordinal("nd", r"(?<=(?<!1)2)"),
    _ordinal("rd", r"(?<=(?<!1)3)"),
    _ordinal("th", r"(?:(?<=[04-9])|(?<=1[1-3]))"),
    ("checkmark", r"(?<=\S)\s*\\checkmark\s*$", ""),
    ("square", r"(?<=\S)\s*\\(?:black)?square\s*$", ""),
    ("Box", r"(?<=\S)\s*\\Box\s*$", ""),
    ("tag", r"\\tag\*?\s*\{[^{}]*\}", ""),
    ("(\\text", r"(?<=[\d}%])\s*\(\s*\\text\{([^{}\d]*)\}\s*\)\s*$", r" \\text{\1}"),
    ("US", r"(?<![a-zA-Z])US\s*(?=＄)", ""),
    # names and their indices
    ("prime", r"\^\s*(?:\{\s*\\prime\s*\}|\\prime(?![a-zA-Z]))", "'"),
    ("prime", r"\^\s*\{\s*\\prime\s*\\prime\s*\}", "''"),
    ("_", r"_\s*(?:\{\s*\\text\{\s*([a-zA-Z0-9]+)\s*\}\s*\}|\\text\{\s*([a-zA-Z0-9]+)\s*\})",
     r"_{\1\2}"),
    ("_", r"_\s*\{?\s*\\(?:mathrm|text|rm)\s+([a-zA-Z])\s*\}?", r"_{\1}"),
    ("_", r"_\s*(?:\{\s*\\(max|min|sup|inf)\s*\}|\\(max|min|sup|inf)(?![a-zA-Z]))", r"_{\1\2}"),
    # relations and sets in words
    ("appro", r"\\text\{\s*\(?\s*(?:or\s+)?(?:approximately|approx\.?)\s*([-\d.,]*)\s*\)?\s*\}",
     r"\\approx \1"),
    ("appro", r"(?<=\S)\s*\(\s*(?:\\approx|approx\.|approximately)([^()]*)\)", r" \\approx \1"),
    ("eq", r"\\(?:simeq|doteq|approxeq)(?![a-zA-Z])", r"\\approx "),
    ("union", r"(?<=[)\]}])\s*(?:\\text\{\s*union\s*\}|union)\s*(?=[(\[\\])", r" \\cup "),
    ("\\lor", r"\\lor(?![a-zA-Z])", r" \\text{ or } "),
    ("\\vee", r"\\vee(?![a-zA-Z])", r" \\text{ or } "),
    ("\\land", r"\\land(?![a-zA-Z])", r" \\text{ and } "),
    ("<", r"^\s*<([^<>]*,[^<>]*)>\s*$", r"\\langle \1\\rangle "),
    ("cis",
     r"\\(?:operatorname|text|mathrm|rm)\s*\{\s*cis\s*\}|(?<![a-zA-Z\\])cis(?![a-zA-Z])",
     r"\\cis "),
]  # fmt: skip
# the spelling of programs, which holds no commands
_PROGRAM_TABLE: list[tuple[str, str, Replacement]] = [
    ("&", r"\(([^()&|]*[<>=][^()&|]*)\)\s*&\s*\(([^()&|]*)\)", r"\1 \\text{ and } \2"),
    ("|", r"\(([^()&|]*[<>=][^()&|]*)\)\s*\|\s*\(([^()&|]*)\)", r"\1 \\text{ or } \2"),
    ("oo", r"(?<![a-zA-Z\\])oo(?![a-zA-Z])", r"\\infty "),
    ("I", r"^[^I]*I(?![a-zA-Z])[^a-zA-Z]*$", _imaginary),
    ("j", r"(?<=\d)j(?=\)?$)", "i"),
    ("bs(", r"^.*(?<![a-zA-Z\\])[aA]bs\(.*$", _moduli),
    ("a", r"(?<![a-zA-Z\\])a(sin|cos|tan)(?=\s*\()", r"\\arc\1 "),
    ("Matrix", r"^\s*Matrix\(\[(.*)\]\)\s*$", _rows),
    ("Interval", r"(?<![a-zA-Z\\])Interval(\.open|\.Lopen|\.Ropen)?\(([^()]*)\)", _interval),
    ("FiniteSet", r"(?<![a-zA-Z\\])FiniteSet\(([^()]*)\)", r"\\{\1\\}"),
    ("EmptySet", r"^\s*(?:S\.)?EmptySet(?:\(\))?\s*$", r"\\emptyset"),
    ("{", r"^\s*\{\s*([a-z]\w*: ?[^,:{}]+(?:, ?[a-z]\w*: ?[^,:{}]+)*)\}\s*$",
     lambda found: found[1].replace(":", "=")),
]  # fmt: skip


def _compiled(
    table: list[tuple[str, str, Replacement]],
) -> list[tuple[str, re.Pattern[str], Replacement]]:
    return [(needle, lazy_pattern(rule), replacement) for needle, rule, replacement in table]


SPELLINGS = _compiled(_TABLE)
PROGRAM_SPELLINGS = SPELLINGS + _compiled(_PROGRAM_TABLE)
