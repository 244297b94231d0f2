r"""The spelling of variables: letters and Greek letters with an index and primes.

An index is the same in any spelling: `k_B`, `k_{B}`, `k_{\mathrm{B}}`, `v_{max}` and `v_\max`.
"""

from __future__ import annotations

import re

from slm_math.patterns import lazy_pattern

GREEK = (
    r"(?:alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|vartheta|iota|kappa|lambda|mu|nu"
    r"|xi|rho|varrho|sigma|tau|upsilon|phi|varphi|chi|psi|omega|hbar|ell"
    r"|Gamma|Theta|Lambda|Xi|Sigma|Upsilon|Phi|Psi|Omega)"
)
_BASE = rf"(?:[a-zA-Z]|\\{GREEK}(?![a-zA-Z]))"
_COMMAND = r"\\[a-zA-Z]+(?![a-zA-Z])"
_WORD = r"\\text\{[a-zA-Z0-9 ]*\}"
_INDEX = (
    rf"\s*_\s*(?:[0-9a-zA-Z]|{_WORD}|\\(?!text|frac|sqrt){_COMMAND[2:]}"
    rf"|\{{(?:[-+0-9a-zA-Z, ]|{_WORD}|\\(?!text|frac|sqrt){_COMMAND[2:]})+\}})"
)
_PRIMES = r"\s*\^\s*(?:\\prime(?![a-zA-Z])|\{\s*(?:\\prime(?![a-zA-Z])\s*)+\})"
# a difference such as \Delta x is one symbol: \Delta x \cdot y is not x \Delta y
SYMBOL = rf"(?:\\Delta(?![a-zA-Z])(?:\s*{_BASE})?|{_BASE})'*(?:{_INDEX})?(?:'+|{_PRIMES})?"
_PARTS = lazy_pattern(
    rf"(\\Delta(?![a-zA-Z]))?\s*({_BASE})?('*)({_INDEX})?((?:'+|{_PRIMES})?)", re.DOTALL
)
_BOUND = ("\\iota ", "\\upsilon ")  # letters that nobody uses
_LAYOUT = lazy_pattern(r"\\(?:text|(?:math)?(?:rm|it|bf|sf))(?![a-zA-Z])|[\\{} _]")
# {g}_{k} is g_{k}, but \frac{x}{g}_{k} is not
_BRACED = lazy_pattern(rf"(?<![}}\]a-zA-Z_^])\{{\s*({_BASE})\s*\}}(?=\s*_)")
_INDEX_LAST = lazy_pattern(rf"({_BASE})\s*(\^\s*(?:[0-9]|\{{[^{{}}]*\}}))({_INDEX})")


def tidied(text: str) -> str:
    r"""The text with each index right after its letter.

    `g_{k}` stands for `{g}_{k}`, and `v_0^2` for `v^2_0`.
    """
    if "_" not in text:
        return text
    return _INDEX_LAST.sub(r"\1\3\2", _BRACED.sub(r"\1", text))


def name(symbol: str) -> str:
    r"""The canonical name of a symbol, such as `k_B`, `\omega_L'` or `\Delta x`."""
    match = _PARTS.fullmatch(symbol)
    assert match is not None
    base = " ".join(filter(None, match.group(1, 2)))
    index = _LAYOUT.sub("", match[4] or "")
    primes = (match[3] + match[5]).count("'") + match[5].count("\\prime")
    return base + (f"_{index}" if index else "") + "'" * primes


def spelled(name: str) -> str:
    r"""LaTeX for a canonical name: a long index is put in braces."""
    if name[0] == "#":  # bound by a sum
        return _BOUND[int(name[1:])]
    base, _, index = name.partition("_")
    bare = index.rstrip("'")
    return f"{base}_{{{bare}}}{index[len(bare) :]}" if len(bare) > 1 else name


def indexed_by(name: str, letter: str) -> bool:
    """Whether the index of a name depends on a letter, as that of `a_k` does on k."""
    return letter.lstrip("\\") in name.partition("_")[2]
