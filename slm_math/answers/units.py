"""Split units, currencies and counted things from a number.

An answer may drop or add a unit, but not exchange it for another.
"""

from __future__ import annotations

import re

from slm_math.answers.number_words import TENS, UNITS
from slm_math.patterns import lazy_pattern

_KNOWN = {
    "dollar": "＄ dollar dollars usd buck bucks 美元", "cent": "cent cents ¢",
    "euro": "€ euro euros eur 欧元", "pound": "£ gbp", "yen": "yen ¥ jpy",
    "yuan": "yuan rmb cny 元",
    "rupee": "₹ rupee rupees rs rs. inr", "won": "₩ won krw",
    "dime": "dime dimes", "nickel": "nickel nickels", "penny": "penny pennies",
    "degree": "° degree degrees 度", "radian": "radian radians rad",
    "metre": "m meter meters metre metres 米",
    "kilometre": "km kilometer kilometers kilometre kilometres 千米 公里", "decimetre": "dm",
    "centimetre": "cm centimeter centimeters centimetre centimetres 厘米",
    "millimetre": "mm millimeter millimeters", "nanometre": "nm",
    "inch": "in inch inches", "foot": "ft foot feet", "yard": "yd yds yard yards",
    "mile": "mi mile miles", "acre": "acre acres", "hectare": "hectare hectares",
    "gram": "g gm gram grams 克", "kilogram": "kg kilogram kilograms 千克 公斤",
    "milligram": "mg milligram milligrams", "ton": "ton tons", "tonne": "tonnes",
    "pound weight": "lb lbs pound pounds", "ounce": "oz ounce ounces",
    "litre": "l liter liters litre litres 升", "millilitre": "ml", "cup": "cup cups",
    "quart": "quart quarts qt", "gallon": "gallon gallons gal", "pint": "pint pints",
    "second": "s sec secs second seconds 秒", "millisecond": "ms",
    "minute": "min mins minute minutes 分钟", "hour": "h hr hrs hour hours 小时 时",
    "day": "day days 天", "week": "week weeks 周", "month": "month months 月",
    "year": "yr yrs year years 年",
    "decade": "decade decades", "century": "century centuries",
    "permille": "permille ‰",
    "am": "am a.m. a.m", "pm": "pm p.m. p.m",
    "mph": "mph", "kph": "kph kmh", "celsius": "celsius", "fahrenheit": "fahrenheit",
    "newton": "newton newtons", "joule": "joule joules", "watt": "watt watts",
    "unit": "unit units each of", "per": "per", "square": "square sq", "cubic": "cubic",
}  # fmt: skip
_RATES = {"mph": "mile per hour", "kph": "kilometre per hour"}
_CANONICAL = {
    spelling: unit for unit, spellings in _KNOWN.items() for spelling in spellings.split()
}
# A single letter is more often a variable than a unit; it is a unit only inside \text{}.
_PLAIN = frozenset(spelling for spelling in _CANONICAL if len(spelling) > 1 and spelling.isalpha())
_SCALES = {
    "hundred": 2,
    "thousand": 3,
    "million": 6,
    "billion": 9,
    "trillion": 12,
    "万": 4,
    "亿": 8,
}
# These words change a number's value or say that it is not the answer: they are never units.
_NOT_UNITS = (
    frozenset(
        """and or to plus minus times over divided more less fewer than about if when is are was but
    nor most least maximum minimum almost nearly within except excluding permille
    approximately roughly between through by below above short under beyond too low high
    not no none never incorrect wrong false negated negative opposite inverse reciprocal remainder
    least most than rejected extraneous excluded discarded impossible invalid fails refuted
    mil mille milles millones millions millon mio thou fold basis points douzaine douzaines docena
    docenas tausend millionen dutzend milliarden mila milioni тысяч тысячи миллионов
    half halves quarter third thirds fourth fifth double twice triple squared cubed
    dozen dozens score pair pairs gross grand lakh crore zillion myriad bn mn k
    tens
    hundred thousand million billion trillion quadrillion quintillion
    hundreds thousands millions billions trillions
    kilo mega giga tera hecto deca deci centi milli micro nano pico
    pi root sqrt base mod modulo factorial infinity
    alpha beta gamma delta theta phi lambda mu sigma omega rho epsilon""".split()  # noqa: SIM905
    )
    | {*UNITS[1:13], *TENS}
)
# sixths, twelfths, thousandths: they are parts of a number
_ORDINAL = lazy_pattern(
    r"(?:four|fif|six|seven|eigh|nin|ten|eleven|twelf|\w+teen|\w+tie|hundred|thousand|\w+illion)ths?"
)
# Chinese characters that count, compare or deny
# Measures and counters; other characters after a number may change it, as 的平方 (squared) does.
_CHINESE_UNIT = lazy_pattern(
    r"(?:平方|立方)?(?:毫|厘|分|千|公)?[米克里升斤吨]|[个個只隻人名位本条张块件支枝棵头匹辆次种岁歳页颗粒朵瓶杯盒箱袋台"
    r"间户组度元角]|[个個]?(?:人|苹果|学生|小时|月)|枚|匹|冊|円|年|月|日|号|点|개|명|원"
)
_FILLER = frozenset("total in all of the each a an".split())  # noqa: SIM905
_MARK = lazy_pattern(
    r"^(.*?[\d)}\]a-zA-Z.])\s*"
    r"([%°€£¢＄¥₹₩]|(?:\\text\{[^{}]*\}|percent(?:age)?|[a-zA-Z./]+|[一-鿿]+)"
    r"(?:\^(?:\{-?[123]\}|-?[123]))?)$",
    re.DOTALL,
)
# capital letters that multiply a number: thousand, million, billion, trillion
_MAGNITUDE = lazy_pattern(r"[KMBT]")
_TEXT = lazy_pattern(r"\\text\{([^{}]*)\}")
_NAME = lazy_pattern(r"[a-z.']+|[一-鿿]+|\^\{?-?[123]\}?|[/°‰]")
_READABLE = lazy_pattern(r"[a-zA-Z.,/'\-()°^{}123\s一-鿿]*")
_NUMBER_END = lazy_pattern(r"[\d)}]\s*$|\\pi\s*$|\d\.$")
_OF_ANGLE = lazy_pattern(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_CURRENCY = lazy_pattern(
    r"^([-+]?)\s*(?:([＄€£¥₹₩])"
    r"|(?:\\text\{\s*)?(USD|EUR|GBP|INR|JPY|CNY|RMB|Rs\.?)\s*\}?(?=[\s\d＄]))\s*＄?\s*([-+]?)"
)
_INNER_POWER = lazy_pattern(r"(?<=[a-zA-Z}])\^\{(-[1-3])\}")
# `\frac{km}{h}` after a number
_UNIT_FRACTION = lazy_pattern(
    r"(?<=[\d)}])\s*\\frac\{\s*(?:\\text\{)?\s*([a-zA-Z]+)\s*\}?\s*\}"
    r"\{\s*(?:\\text\{)?\s*([a-zA-Z]+)\s*\}?(\^\{?[23]\}?)?\s*\}?\s*\}$"
)


def split_units(text: str, gold: bool = False) -> tuple[str, bool, str]:
    """(bare number or expression, whether it is a percentage, its unit or "").

    A unit is spelled like "hour^-1 kilometre^1". Counted things ("12 apples") are split off like
    units. In a reference answer (`gold`), only known units are split off outside `\\text{}`.
    """
    names: list[str] = []
    percent = False
    if "\\" in text and ("^{-" in text or "\\frac" in text):
        text = _INNER_POWER.sub(r"^\1", text)
        text = _UNIT_FRACTION.sub(_rate, text)
    if currency := _CURRENCY.match(text):
        names.append(currency[2] or currency[3].lower())
        text = currency[1] + currency[4] + text[currency.end() :]
    scale = 0
    while match := _MARK.match(text):
        number, mark = match[1].rstrip(), match[2]
        if mark == "%" or re.fullmatch(r"(?:\\text\{\s*)?percent(?:age)?\s*\}?", mark):
            percent = True
        elif mark == "°" and _OF_ANGLE.search(number):
            break  # the degrees belong to the angle, not to its cosine
        elif mark in "°€£¢＄¥₹₩":
            names.insert(0, mark)
        elif mark.startswith("\\text"):
            words = _names(_TEXT.sub(r"\1", mark))
            if _MAGNITUDE.fullmatch(_TEXT.sub(r"\1", mark).strip()):
                break
            if words and words[0] in _SCALES and not scale and _NUMBER_END.search(number):
                scale = _SCALES[words.pop(0)]
            if not all(map(_may_be_unit, words)) or not _READABLE.fullmatch(mark[5:]):
                break
            names[:0] = words
        elif mark in _SCALES and not scale and _NUMBER_END.search(number):
            scale = _SCALES[mark]
        elif not _plain_unit(text, number, mark, gold):
            break
        else:
            names[:0] = _names(mark)
        text = number
    if scale:
        text = f"{text} \\cdot 10^{{{scale}}}"
    return text.strip(), percent, _signature(names) if names else ""


def _may_be_unit(word: str) -> bool:
    """Whether a word beside a number can be a unit or the name of a counted thing."""
    word = word.strip(".")
    if "'" in word:  # isn't
        return False
    known = word in _CANONICAL
    if not known and not word.isascii() and not _CHINESE_UNIT.fullmatch(word):
        return False
    return word not in _NOT_UNITS and (
        known
        or not word.isalpha()
        or not word.isascii()
        or (len(word) != 1 and not _ORDINAL.fullmatch(word))
    )


def _names(text: str) -> list[str]:
    """The words and marks of a unit, in lower case."""
    return [name.replace("{", "").replace("}", "") for name in _NAME.findall(text.lower())]


def _signature(names: list[str]) -> str:
    """The units with their powers, in a fixed order; unknown nouns in the singular.

    "km/h" and "kilometers per hour" have the same signature.
    """
    powers: dict[str, int] = {}
    sign, next_power, last = 1, 1, ""
    known = (_CANONICAL.get(name) or _CANONICAL.get(name.strip(".")) or name for name in names)
    for unit in " ".join(_RATES.get(unit, unit) for unit in known).split(" "):
        if unit in ("per", "/"):
            sign = -1
        elif unit in ("square", "cubic"):
            next_power = 2 if unit == "square" else 3
        elif unit.startswith("^"):
            if last in powers:
                powers[last] *= int(unit[1:])
        elif unit in _KNOWN and unit != "unit":
            powers[unit] = powers.get(unit, 0) + sign * next_power
            next_power, last = 1, unit
        else:
            next_power, last = 1, ""
            if unit.isalpha() and unit not in _FILLER and unit != "unit":
                powers.setdefault(unit.removesuffix("s"), 1)
    if "celsius" in powers or "fahrenheit" in powers:
        powers.pop("degree", None)
    return " ".join(f"{unit}^{power}" for unit, power in sorted(powers.items()))


def canonical(word: str) -> str:
    """The name of a known unit; "" for other words."""
    word = word.lower()
    return _CANONICAL.get(word) or _CANONICAL.get(word.strip(".")) or ""


def _rate(match: re.Match[str]) -> str:
    """`\\frac{km}{h}` as `\\text{km/h}` if both are units."""
    if not (canonical(match[1]) and canonical(match[2])):
        return match[0]
    power = (match[3] or "").strip("^{}")
    return rf" \text{{{match[1]}/{match[2]}{'^' + power if power else ''}}}"


def _plain_unit(text: str, number: str, mark: str, gold: bool) -> bool:
    """Whether the letters `mark` after a number are a unit although they are not in `\\text{}`.

    They are if they spell a known unit or, except in a reference, any lower-case word.
    """
    word = mark.split("^")[0].lower()
    parts = [part.strip(".") for part in word.split("/")]
    if not all(part.isalpha() and _may_be_unit(part) for part in parts):
        return False
    if not word.isascii():
        return bool(_NUMBER_END.search(number))
    separate = text[len(number) : len(number) + 1] == " "
    if parts[0] in _PLAIN or (len(parts) > 1 and _CANONICAL.keys() >= set(parts)):
        return bool(_NUMBER_END.search(number)) or separate
    return separate and not gold and len(word) >= 3 and mark[0].islower() and "^" not in mark
