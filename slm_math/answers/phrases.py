"""Answers in words: dates, times of day, number words and fixed phrases in one spelling each."""

from __future__ import annotations

from slm_math.patterns import lazy_pattern

_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_SHORT_MONTHS = {name[:3]: name for name in _MONTHS} | {"sept": "september"}
_SHORT_DAYS = {name[:n]: name for name in _DAYS for n in (3, 4, 5)}
_MONTH = "|".join((*_MONTHS, *_SHORT_MONTHS))
_DATE = lazy_pattern(
    rf"(?:(?P<month>{_MONTH}) (?:the )?(?P<day>\d{{1,2}})"
    rf"|(?P<day_2>\d{{1,2}}) (?:of )?(?P<month_2>{_MONTH}))(?:,? (?P<year>\d{{4}}))?"
)
_CLOCK = lazy_pattern(r"(\d{1,2})(?::([0-5]\d))?(?: ?([ap])m)?")
_ARTICLE = lazy_pattern(r"(?:an?|the|on) (?=\w{2})")
_QUOTES = lazy_pattern(r"^[`'\"]+|[`'\"]+$")
_SAME_PHRASES = (
    ("no solution", "no solutions", "no real solution", "no real solutions", "there is no solution",
     "there are no solutions", "empty set"),
    ("does not exist", "dne", "it does not exist"),
    ("cannot be determined", "it cannot be determined", "can not be determined"),
    ("none", "none of these", "none of the above"),
    ("infinitely many", "infinitely many solutions"),
)  # fmt: skip
_SPOKEN = {phrase: phrases[0] for phrases in _SAME_PHRASES for phrase in phrases}
NO_SOLUTION = "no solution"


def phrase(text: str) -> str:
    """One spelling of a text in lower case without full stops."""
    text = _QUOTES.sub("", text)
    text = _ARTICLE.sub("", text, count=1) if _ARTICLE.match(text) else text
    if date := _DATE.fullmatch(text):
        month = date["month"] or date["month_2"]
        parts = (_SHORT_MONTHS.get(month, month), (date["day"] or date["day_2"]).lstrip("0"))
        return " ".join(filter(None, (*parts, date["year"])))
    answer, _, rest = text.partition(", ")
    if answer in ("yes", "no") and not {"yes", "no"} & set(rest.split()):
        return answer
    text = _SHORT_DAYS.get(text, text).replace("non-", "non")
    return _SPOKEN.get(text, text)


def is_one_phrase(text: str) -> bool:
    """Whether a comma in a text separates no members of a list: a date, "No, it is not"."""
    text = text.casefold().replace(".", "").strip()
    return bool(_DATE.fullmatch(text)) or text.partition(", ")[0] in ("yes", "no")


def same_time(answer: str, gold: str) -> bool:
    """Whether two texts are the same time of day, such as "7:00 pm" and "7 pm".

    "pm" may be left out: 3:30 is 3:30 pm, but it is not 15:30.
    """
    a, g = _CLOCK.fullmatch(answer), _CLOCK.fullmatch(gold)
    if not a or not g or not all(clock[2] or clock[3] for clock in (a, g)):
        return False
    hours = [int(clock[1]) for clock in (a, g)]
    halves = [clock[3] for clock in (a, g)]
    if any(hour > 23 or (half and not 1 <= hour <= 12) for hour, half in zip(hours, halves)):
        return False
    if any(halves):  # the hours of the other half of the day have two spellings
        for i in (0, 1):
            if hours[i] > 12 or (hours[i] == 0 and not halves[i]):
                halves[i] = "p" if hours[i] > 12 else "a"
        hours = [hour % 12 for hour in hours]
    minutes = [int(clock[2] or 0) for clock in (a, g)]
    return hours[0] == hours[1] and minutes[0] == minutes[1] and (
        None in halves or halves[0] == halves[1]
    )  # fmt: skip
