"""Normalize the LaTeX of an answer: no layout, one command per symbol, no math delimiters."""

from __future__ import annotations

import re
import unicodedata

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-",
        "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "÷": r"\div ", "±": r"\pm ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "π": r"\pi ", "θ": r"\theta ", "∞": r"\infty ",
        "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∖": r"\setminus ", "∅": r"\emptyset ",
        "ℝ": r"\mathbb{R}", "°": r"^{\circ}", "º": r"^{\circ}", "˚": r"^{\circ}",
        "²": "^{2}", "³": "^{3}", "⁴": "^{4}",
        **{chr(0x2080 + digit): f"_{digit}" for digit in range(10)},
        "½": r" \frac{1}{2}", "⅓": r" \frac{1}{3}", "⅔": r" \frac{2}{3}",
        "¼": r" \frac{1}{4}", "¾": r" \frac{3}{4}",
        "，": ",", "（": "(", "）": ")", "＝": "=", "＋": "+", "－": "-", "．": ".", "／": "/",
        "＜": "<", "＞": ">", "％": "%", "：": ":", "“": '"', "”": '"', "’": "'", "‘": "'",
        "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2061": "", "\u200b": "",
    }
)  # fmt: skip
_UNICODE_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|\{([^{}]*)\}|([0-9]+(?:\.[0-9]+)?|[a-zA-Z]))")
# (a text that the pattern needs, so that most patterns can be skipped, pattern, replacement),
# applied in this order
_SPELLINGS: list[tuple[str, re.Pattern[str], str]] = [
    (needle, re.compile(pattern), replacement)
    for needle, pattern, replacement in [
        ("\\", r"(?<=\d)(?:,(?:\s*\\[,;:])?\s*\\!\s*|\\[,;:](?=\d{3}(?!\d)))(?=\d{3})", ""),
        ("{,}", r"(?<=\d)\{,\}(?=\d{3})", ""),
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
         r"\\operatorname\s*\{(sinh?|cosh?|tanh?|cot|sec|csc|cosec|ln|log|arcsin|arccos|arctan)\}",
         r"\\\1 "),
        ("cis", r"\\(?:operatorname|text|mathrm|rm)\s*\{\s*cis\s*\}", r"\\cis "),
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
        ("le", r"\\leqslant(?![a-zA-Z])|\\leq(?![a-zA-Z])", r"\\le "),
        ("ge", r"\\geqslant(?![a-zA-Z])|\\geq(?![a-zA-Z])", r"\\ge "),
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
         r"(?<![a-zA-Z\\])(sqrt|sin|cos|tan|cot|sec|csc|ln|log|arcsin|arccos|arctan)(?![a-zA-Z])",
         r"\\\1 "),
        ("sqrt", r"(?<![a-zA-Z\\])sqrt(?=[0-9])", r"\\sqrt "),
        ("10^", r"(?<=\d) ?[xX] ?(?=10\^)", r" \\cdot "),
        ("**", r"\*\*", "^"),
        ("pi", r"(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi "),
    ]
]  # fmt: skip
_SQRT = re.compile(r"\\sqrt\s*([0-9a-zA-Z])")
_BLANKS = re.compile(r"\s+")
_OUTER_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_ROW_END = "\x00"  # stands for the two backslashes that end a row of a matrix
_ROW_SPACE = re.compile(r"\x00\s*\[\s*-?[0-9.]+\s*(?:pt|em|ex|cm|mm|in)\s*\]")
_OPEN, _CLOSE = "([{", ")]}"


def normalize(text: str) -> str:
    """The canonical spelling of a short answer; `＄` marks currency and `°` marks degrees."""
    if not text.isascii() or not text.isprintable():
        text = _visible(text)
    text = text.strip(" *`\n\t").replace("\\\\", _ROW_END)
    if _ROW_END in text:
        text = _ROW_SPACE.sub(_ROW_END, text)
    if text.count("$") == 1:  # a delimiter would have a partner
        text = text.replace("\\$", "$").replace("$", "＄")
    if not text.isascii():
        text = _UNICODE_ROOT.sub(
            lambda m: r"\sqrt{" + (m[1] or m[2] or m[3] or "") + "}", text
        ).translate(_UNICODE)
    for needle, pattern, replacement in _SPELLINGS:
        if needle in text:
            text = pattern.sub(replacement, text)
    if "\\" in text:
        text = _braced_arguments(_OUTER_BOX.sub("{", text))
    text = _BLANKS.sub(" ", text.replace(_ROW_END, "\\\\")).strip(' *`"')
    while len(text) > 1 and text[-1] in ".,;:" and not text.endswith((".m.", "\\;")):
        text = text[:-1].rstrip()
    return strip_braces(text)


def _visible(text: str) -> str:
    """The text without invisible marks, with the digits of all scripts as 0 to 9.

    Control characters become blanks.
    """
    visible = []
    for char in unicodedata.normalize("NFC", text):
        category = unicodedata.category(char)
        if category == "Nd":
            visible.append(str(unicodedata.decimal(char)))
        elif category == "Cc":
            visible.append(" ")
        elif category != "Cf":
            visible.append(char)
    return "".join(visible)


def _braced_arguments(text: str) -> str:
    r"""The text with braces around each argument of `\frac43`, `\frac 5{19}` and `\sqrt3`."""
    *heads, tail = _SQRT.sub(r"\\sqrt{\1}", text).split("\\frac")
    for head in reversed(heads):
        first, middle = _argument(tail, 0)
        second, end = _argument(tail, middle)
        tail = head + "\\frac" + (first + second + tail[end:] if first and second else tail)
    return tail


def _argument(text: str, at: int) -> tuple[str, int]:
    """The next LaTeX argument, in braces, and the position after it; ("", at) if there is none."""
    while at < len(text) and text[at] == " ":
        at += 1
    if at >= len(text):
        return "", at
    if text[at] == "{":
        close = closing(text, at)
        return (text[at : close + 1], close + 1) if close else ("", at)
    command = re.match(r"\\(?:pi|theta|alpha|beta)(?![a-zA-Z])|[0-9a-zA-Z]", text[at : at + 8])
    return ("{" + command.group() + "}", at + command.end()) if command else ("", at)


def closing(text: str, at: int) -> int | None:
    """The position of the bracket that closes the one at `at`; None if there is none.

    Any kind of bracket closes any other, as in half-open intervals.
    """
    depth = 0
    for i in range(at, len(text)):
        if text[i] in _OPEN:
            depth += 1
        elif text[i] in _CLOSE:
            depth -= 1
            if depth == 0:
                return i
    return None


def strip_braces(text: str) -> str:
    """The text without grouping braces around the whole of it."""
    while (
        len(text) > 1 and text[0] == "{" and text[-1] == "}" and closing(text, 0) == len(text) - 1
    ):
        text = text[1:-1].strip()
    return text


def split_top(text: str, separators: re.Pattern[str]) -> list[str]:
    """The pieces between separators that stand outside all brackets."""
    return split_with(text, separators)[0]


def split_with(text: str, separators: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The pieces between separators outside all brackets, and these separators."""
    depth, last, skip = 0, 0, 0
    pieces: list[str] = []
    between: list[str] = []
    for i, char in enumerate(text):
        if i < skip:
            continue
        if char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth -= 1
        elif depth == 0 and (separator := separators.match(text, i)) and separator.end() > i:
            pieces.append(text[last:i].strip())
            between.append(separator.group())
            last = skip = separator.end()
    pieces.append(text[last:].strip())
    return pieces, between
