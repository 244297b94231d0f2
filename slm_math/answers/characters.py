"""Spell the characters of a text in LaTeX: `α` as `\\alpha`, `x²` as `x^{2}`, `½` as a fraction."""

from __future__ import annotations

import re
import unicodedata

from slm_math.patterns import lazy_pattern

GREEK_LETTERS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "omicron",
    "pi",
    "rho",
    "varsigma",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
]
# capital letters with a command of their own; the others look like Latin letters
_GREEK_CAPITALS = dict(zip("ΓΔΘΛΞΠΣΥΦΨΩ", (
    "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega",
)))  # fmt: skip
_LOOKS_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧ", "ABEZHIKMNOPTX"))
_COMMANDS = {
    "×": "times", "✕": "times", "✖": "times", "⨯": "times", "⋅": "cdot", "·": "cdot", "∙": "cdot",
    "÷": "div", "±": "pm", "∓": "mp", "≤": "le", "⩽": "le", "≦": "le", "≥": "ge", "⩾": "ge",
    "≧": "ge", "≠": "ne", "≈": "approx", "≅": "cong", "≡": "equiv", "∞": "infty", "∪": "cup",
    "∩": "cap", "∈": "in", "∉": "notin", "∖": "setminus", "∅": "emptyset", "⌀": "emptyset",
    "∨": "lor", "∧": "land", "→": "to", "↦": "mapsto", "∑": "sum", "∏": "prod", "∫": "int",
    "∠": "angle", "△": "triangle", "∥": "parallel", "⊥": "perp", "ℓ": "ell", "ħ": "hbar",
    "ℏ": "hbar", "ϕ": "phi", "ϵ": "epsilon", "ϑ": "theta", "⌊": "lfloor", "⌋": "rfloor",
    "⌈": "lceil", "⌉": "rceil", "∴": "therefore", "⇒": "implies", "⟹": "implies",
    **{chr(0x03B1 + i): name for i, name in enumerate(GREEK_LETTERS)}, **_GREEK_CAPITALS,
}  # fmt: skip
_OTHERS = {
    **dict.fromkeys("−–—‐‑‒﹣", "-"), **{c: rf"\mathbb{{{n}}}" for c, n in zip("ℝℕℤℚℂ", "RNZQC")},
    **_LOOKS_LATIN, "ο": "o", "ς": r"\sigma ",
    "°": r"^{\circ}", "º": r"^{\circ}", "˚": r"^{\circ}", "℃": r"^{\circ}C", "℉": r"^{\circ}F",
    "“": '"', "”": '"', "’": "'", "‘": "'", "′": "'", "″": "''", "∕": "/", "∶": ":", "∗": "*",
    "、": ",", "،": ",", "。": ".", "؛": ";", "٫": ".", "٪": "%", "٬": ",",
    "✓": "", "✔": "", "∎": "", "■": "", "□": "",
    "〈": r"\langle ", "〉": r"\rangle ", "⟨": r"\langle ", "⟩": r"\rangle ",
    "〖": "[", "〗": "]", "【": "[", "】": "]",
    "￥": "¥", "＄": "＄", "…": r"\ldots ", "⋯": r"\ldots ",
}  # fmt: skip
_SPELLED = {**{char: f"\\{name} " for char, name in _COMMANDS.items()}, **_OTHERS}
_RAISED = "".join(
    chr(code)
    for first, last in ((0xA9, 0xFF), (0x2B0, 0x2FF), (0x1D2C, 0x1D6A), (0x2070, 0x207F))
    for code in range(first, last + 1)
    if unicodedata.decomposition(chr(code)).startswith("<super>") and chr(code) not in _SPELLED
)  # fmt: skip
_LOWERED = "".join(
    chr(code)
    for code in (*range(0x1D62, 0x1D6B), *range(0x2080, 0x209D), 0x2C7C)
    if unicodedata.decomposition(chr(code)).startswith("<sub>")
)
_ROOT_INDEX = {"√": "", "∛": "[3]", "∜": "[4]"}
_SLANTED = lazy_pattern(rf"([{_RAISED}]+|\d+)⁄([{_LOWERED}]+|\d+)")
_VULGAR = lazy_pattern(r"[¼-¾⅐-⅞↉]")
_CIRCLED = lazy_pattern(r"[①-⑳]+")
_INDEXED_ROOT = lazy_pattern(rf"(?<![\w)}}\]])([{_RAISED}]+)√")
_RAISED_RUN, _LOWERED_RUN = lazy_pattern(f"[{_RAISED}]+"), lazy_pattern(f"[{_LOWERED}]+")
_SQUARED_UNIT = lazy_pattern(r"[㎠-㎦㎜-㎟㏀-㏿㍱-㏟]")
_ROOT = lazy_pattern(
    r"√(\[\w+\])?\s*(?:\(((?:[^()]|\([^()]*\))*)\)|\{([^{}]*)\}|(\\frac\{\w+\}\{\w+\})"
    r"|([0-9]+(?:\.[0-9]+)?|[a-zA-Z]|\\[a-z]+))"
)
# The control character that a program reads from "\frac" if its text was unescaped once too often.
_ESCAPED = {"\x07": "\\a", "\x08": "\\b", "\x0b": "\\v", "\x0c": "\\f"}
_ESCAPED_COMMAND = lazy_pattern(
    r"[\x07\x08\x0b\x0c](?=[a-z])|\t(?=(?:ext|heta|imes|frac|riangle|au|an)(?![a-z]))"
    r"|\r(?=(?:ight|ho)(?![a-z]))"
)


def spelled_out(text: str) -> str:
    """The text in ASCII as far as LaTeX has a spelling.

    Digits of all scripts become 0 to 9, invisible marks vanish, control characters become blanks.
    """
    if not text.isprintable():
        text = _ESCAPED_COMMAND.sub(
            lambda m: _ESCAPED.get(m[0], "\\t" if m[0] == "\t" else "\\r"), text
        )
    if text.isascii():
        return "".join(" " if unicodedata.category(char) == "Cc" else char for char in text)
    text = unicodedata.normalize("NFC", text)
    text = _SLANTED.sub(lambda m: f" \\frac{{{_flat(m[1])}}}{{{_flat(m[2])}}}", text)
    text = _VULGAR.sub(_vulgar, text)
    text = _CIRCLED.sub(lambda m: ", ".join(str(int(unicodedata.numeric(c))) for c in m[0]), text)
    text = _INDEXED_ROOT.sub(lambda m: f"√[{_flat(m[1])}]", text)
    text = _RAISED_RUN.sub(lambda m: f"^{{{_flat(m[0])}}}", text)
    text = _LOWERED_RUN.sub(lambda m: f"_{{{_flat(m[0])}}}", text)
    text = _SQUARED_UNIT.sub(
        lambda m: re.sub(r"(?<=[a-z])([23])", r"^\1", unicodedata.normalize("NFKC", m[0])), text
    )
    text = "".join(map(_one, text))
    for _ in range(text.count("√")):  # the innermost root comes last
        head, _, tail = text.rpartition("√")
        root = _ROOT.match("√" + tail)
        if root is None:
            text = head + "\\sqrt " + tail
            continue
        inside = next(filter(None, root.groups()[1:]), "")
        text = f"{head}\\sqrt{root[1] or ''}{{{inside}}}{('√' + tail)[root.end() :]}"
    return text


def _one(char: str) -> str:
    if char.isascii():
        return " " if unicodedata.category(char) == "Cc" else char
    if (spelled := _SPELLED.get(char)) is not None:
        return spelled
    if char in _ROOT_INDEX:
        return "√" + _ROOT_INDEX[char]
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category in ("Cf", "Cc"):
        return "" if category == "Cf" else " "
    plain = unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 and plain == char else "".join(map(_one, plain))


def _flat(text: str) -> str:
    """Raised or lowered characters on the line."""
    return unicodedata.normalize("NFKC", text).replace("−", "-")


def _vulgar(match: re.Match[str]) -> str:
    above, _, below = unicodedata.normalize("NFKC", match[0]).partition("⁄")
    return f" \\frac{{{above}}}{{{below}}}"
