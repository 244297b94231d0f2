"""Which left side of an equation names its right side: `x`, `f(x)`, `V_{\\max}`, `\\angle ABC`."""

from __future__ import annotations

import re

from slm_math.answers.symbols import GREEK
from slm_math.answers.values import PRODUCT
from slm_math.patterns import lazy_pattern

_GREEK = rf"\\(?:{GREEK}|Delta)(?![a-zA-Z])"
_LETTER = rf"(?:[a-zA-Z]|{_GREEK})"
_INDEX = r"_(?:\w|\\[a-zA-Z]+(?: [A-Z]+)?|\{(?:[^{}]|\{[^{}]*\})*\})"
_NAME = rf"{_LETTER}(?: ?{_INDEX})?'*"
VARIABLE = lazy_pattern(_NAME)
_DECORATED = r"\\(?:overrightarrow|overline|vec|bar|hat|tilde|mathcal)\s*\{\s*[a-zA-Z]{1,3}\s*\}"
FUNCTION_OF = lazy_pattern(
    rf"({_LETTER}(?: ?{_INDEX})?(?:\^\{{-1\}})?'*)\s*\(((?:[a-zA-Z, ]|{_GREEK})+)\)"
)
_FUNCTION_AT = lazy_pattern(
    r"[fghFGHpqT](?:\^\{-1\})?'{0,2}\s*\([-0-9a-z+., ]*\)"
    r"|(?:\\Pr|\\text\{ ?[PE] ?\}|[PE])\s*[(\[].*[)\]]"
    r"|\\?(?:gcd|lcm|det|dim|deg|rank)\s*\(.*\)"
)
_LABEL = lazy_pattern(r"(?:[a-zA-Z]+[ -])*[a-zA-Z]+|\\text\{[a-zA-Z' -]+\}")
_NAMED = lazy_pattern(
    r"[A-Z]\^\{?(?:-1|T)\}?|\|(?:[A-Z]{1,2}|z)\||\[[A-Z]{3,4}\]"
    r"|m?\s*\\(?:angle|triangle|overline|vec)\s*\{?\s*[a-zA-Z]+\s*\}?|\([a-zA-Z](?:, ?[a-zA-Z])+\)"
    rf"|{_DECORATED}|\|\s*{_DECORATED}\s*\||\\Delta {_NAME}"
    rf"|{_LETTER}\([a-z]\){_INDEX}"
    # operations that an answer has carried out: a limit, a sum, an extremum, the sine of an angle
    r"|\\(?:lim|sum|prod|int)_.*"
    rf"|\\(?:max|min|sup|inf)(?:_\{{[^{{}}]*\}})?(?: ?{_NAME}(?:\([^()]*\))?)?"
    r"|\\(?:sin|cos|tan|cot|sec|csc) ?\(?(?:\\(?:theta|alpha|beta|gamma|phi|varphi)"
    r"|\\angle ?[A-Z]{1,3}|[A-Z])\)?"
)


def is_name(side: str) -> bool:
    """Whether a side names a value. Products such as ab and 2x, sums and powers are no names."""
    if any(form.fullmatch(side) for form in (VARIABLE, FUNCTION_OF, _FUNCTION_AT, _NAMED)):
        return True
    return bool(_LABEL.fullmatch(side)) and not PRODUCT.fullmatch(side)


def renamed(text: str, letters: dict[str, str]) -> str | None:
    """The text with other letters for its variables; None if this could change its meaning."""
    if "\\text" in text or any(f"{letter}_" in text for letter in letters):
        return None
    bare = re.sub(r"\\[a-zA-Z]+", " ", text)
    if any(new in bare for new in letters.values() if new not in letters):
        return None
    return re.sub(r"\\[a-zA-Z]+|[a-zA-Z]", lambda m: letters.get(m[0], m[0]), text)
