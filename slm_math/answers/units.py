"""Units, currencies and counted things beside a number: dropped or added freely, but never exchanged."""

from __future__ import annotations

import re

_KNOWN = {
    "dollar": "＄ dollar dollars usd buck bucks", "cent": "cent cents ¢", "euro": "€ euro euros", "pound": "£",
    "degree": "° degree degrees", "radian": "radian radians rad",
    "centimetre": "cm centimeter centimeters centimetre centimetres", "metre": "m meter meters metre metres",
    "millimetre": "mm millimeter millimeters", "kilometre": "km kilometer kilometers kilometre kilometres",
    "inch": "in inch inches", "foot": "ft foot feet", "yard": "yd yds yard yards", "mile": "mi mile miles",
    "gram": "g gm gram grams", "kilogram": "kg kilogram kilograms", "pound weight": "lb lbs pound pounds",
    "ounce": "oz ounce ounces", "ton": "ton tons", "litre": "l liter liters litre litres", "millilitre": "ml",
    "second": "s sec second seconds", "minute": "min mins minute minutes", "hour": "h hr hrs hour hours",
    "day": "day days", "week": "week weeks", "month": "month months", "year": "yr year years",
    "mph": "mph", "am": "am a.m. a.m", "pm": "pm p.m. p.m", "unit": "unit units sq square cubic per each of",
}  # fmt: skip
_CANONICAL = {spelling: unit for unit, spellings in _KNOWN.items() for spelling in spellings.split()}
# One letter is a variable more often than a metre; it is a unit only inside \text{}.
_PLAIN = frozenset(spelling for spelling in _CANONICAL if len(spelling) > 1)
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
# Words that change a number's value, or say that it is not the answer: never units.
_NOT_UNITS = frozenset(
    """and or to plus minus times over divided more less fewer than about not half quarter third thirds fourth fifth
    dozen dozens score pair pairs double twice triple remainder if when is are was but nor approximately roughly between
    through by squared cubed hundred thousand million billion trillion hundreds thousands millions billions
    tenth tenths hundredth hundredths pi root sqrt base mod modulo factorial infinity""".split()  # noqa: SIM905
)
_MARK = re.compile(
    r"^(.*?[\d)}\]a-zA-Z.])\s*([%°€£¢]|(?:\\text\{[^{}]*\}|percent|[a-zA-Z./]+)(?:\^\{?[23]\}?)?)$", re.DOTALL
)
_WORD = re.compile(r"[a-zA-Z]+(?:\.[a-zA-Z]\.?)?|[/.,\-()'°＄%]|\s+|\^\{?[23]\}?")
_NUMBER_END = re.compile(r"[\d)}]\s*$|\\pi\s*$|\d\.$")
_OF_ANGLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_CURRENCY = re.compile(r"^([-+]?)\s*([＄€£])\s*([-+]?)")


def split_units(text: str, gold: bool = False) -> tuple[str, bool, frozenset[str]]:
    """(the bare number or expression, whether it is a percentage, the known units)."""
    units: set[str] = set()
    percent = False
    if currency := _CURRENCY.match(text):
        units.add(_CANONICAL[currency[2]])
        text = currency[1] + currency[3] + text[currency.end() :]
    scale = 0
    while found := _MARK.match(text):
        rest, mark = found[1].rstrip(), found[2]
        if mark == "%" or re.fullmatch(r"(?:\\text\{\s*)?percent\s*\}?", mark):
            percent = True
        elif mark == "°" and _OF_ANGLE.search(rest):
            break  # the degrees belong to the angle, not to its cosine
        elif mark in _CANONICAL and not mark.isalpha():
            units.add(_CANONICAL[mark])
        elif mark.startswith("\\text"):
            named = _named(mark[6:].partition("}")[0])
            if named is None:
                break
            units |= named
        elif mark in _SCALES and not scale and _NUMBER_END.search(rest):
            scale = _SCALES[mark]
        elif not _plain_unit(text, rest, mark, gold):
            break
        else:
            units |= _named(mark.split("^")[0]) or set()
        text = rest
    if scale:
        text = f"{text} \\cdot 10^{{{scale}}}"
    return text.strip(), percent, frozenset(units - {"unit"})


def _named(inside: str) -> set[str] | None:
    """The known units among the words of a `\\text{}`; None when it is not a unit at all."""
    tokens = inside.split()
    if not tokens or any(token.strip(".,").lower() in _NOT_UNITS for token in tokens):
        return None
    if not all(re.fullmatch(r"[a-zA-Z.,/'\-()°^{}23]+", token) for token in tokens):
        return None
    spelled = (token.lower() if token.lower() in _CANONICAL else token.strip(".,").lower() for token in tokens)
    return {_CANONICAL[word] for word in spelled if word in _CANONICAL}


def _plain_unit(text: str, rest: str, mark: str, gold: bool) -> bool:
    """Whether unmarked letters after a number are a unit: a known one, or (not in a reference) a lower-case word."""
    word = mark.split("^")[0].lower().strip("./")
    if word in _NOT_UNITS or not word or not word.replace(".", "").replace("/", "").isalpha():
        return False
    if word in _PLAIN and (_NUMBER_END.search(rest) or text[len(rest)] == " "):
        return True
    separate = text[len(rest) : len(rest) + 1] == " "
    return separate and not gold and len(word) >= 3 and mark[0].islower() and "^" not in mark
