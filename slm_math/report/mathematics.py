"""Formulas in LaTeX as MathML that contains only mathematics."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import lru_cache
from xml.etree.ElementTree import Element

LONGEST = 1500  # characters of a formula; a longer one is shown as LaTeX
DEEPEST = 60  # levels of nested elements

ELEMENTS = frozenset(
    """math mrow mi mn mo mtext mspace mfrac msqrt mroot mstyle mpadded mphantom merror menclose
    msub msup msubsup munder mover munderover mmultiscripts mprescripts none mtable mtr mtd
    mlabeledtr""".split()  # noqa: SIM905
)
ATTRIBUTES = frozenset(
    """display displaystyle scriptlevel mathvariant stretchy fence separator form symmetric largeop
    movablelimits
    lspace rspace accent accentunder linethickness width height depth minsize maxsize notation
    columnalign rowspacing
    columnspacing columnlines rowlines frame""".split()  # noqa: SIM905
)
_VALUE = re.compile(r"[\w .%+-]{0,60}")
# macros that a text defines could expand without end
_DEFINES = re.compile(
    r"\\(?:[egx]?def|let|futurelet|(?:re)?new(?:command|environment)|providecommand)(?![a-zA-Z])"
)
_OPENS = re.compile(
    r"\$\$|\$|\\\(|\\\[|\\boxed\s*\{|\\begin\{(align|aligned|equation|gather|cases)(\*?)\}"
)
_DOLLARS = re.compile(r"\$((?:\\.|[^$\\])+)\$", re.DOTALL)
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_PROSE = re.compile(r"[A-Za-z]{3,} +[A-Za-z]{2,}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_TEXT = re.compile(r"\\(?:text|mbox|textbf|mathrm|operatorname)\s*\{[^{}]*\}")


def formulas(text: str) -> Iterator[tuple[str, str, bool]]:
    """(source, formula, display) of the parts of a text in order; the formula of plain text is "".

    Formulas are `$..$`, `$$..$$`, `\\(..\\)`, `\\[..\\]`, `\\boxed{..}` and the environments of
    amsmath. A dollar opens a formula as in Pandoc: no space after it, none before the closing
    dollar, and no digit after that. Prose between two prices is not a formula.
    """
    at = 0
    while opening := _OPENS.search(text, at):
        start = opening.start()
        if start and text[start - 1] == "\\" and text[start] == "$":  # a price, as LaTeX writes it
            yield text[at : opening.end()], "", False
            at = opening.end()
            continue
        whole = _formula(text, opening)
        end = start + len(whole[0]) if whole else opening.end()
        if whole is None:
            yield text[at:end], "", False
        else:
            yield text[at:start], "", False
            yield whole
        at = end
    yield text[at:], "", False


def _formula(text: str, opening: re.Match[str]) -> tuple[str, str, bool] | None:
    start, inside, mark = opening.start(), opening.end(), opening[0]
    if mark == "$":
        return _between_dollars(text, start)
    if mark.startswith("\\boxed"):
        depth = 1
        for brace in _BRACES.finditer(text, inside, inside + LONGEST):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if not depth:
                source = text[start : brace.end()]
                return source, source, False
        return None
    if mark.startswith("\\begin"):
        close = "\\end" + mark.removeprefix("\\begin")
        end = text.find(close, inside, inside + LONGEST)
        source = text[start : end + len(close)]
        return (source, source, True) if end >= 0 else None
    close = {"$$": "$$", "\\(": "\\)", "\\[": "\\]"}[mark]
    end = text.find(close, inside, inside + LONGEST)
    if end < 0 or not text[inside:end].strip():
        return None
    return text[start : end + len(close)], text[inside:end], mark != "\\("


def _between_dollars(text: str, start: int) -> tuple[str, str, bool] | None:
    match = _DOLLARS.match(text, start, start + LONGEST)
    if match is None or text[match.end() : match.end() + 1].isdigit():
        return None
    body = match[1]
    if (
        body != body.strip()
        or "\n\n" in body
        or _PROSE.search(_COMMAND.sub("", _TEXT.sub("", body)))
    ):
        return None
    return match[0], body, False


@lru_cache(maxsize=50_000)
def mathml(latex: str, display: bool = False) -> str | None:
    """A formula as MathML with only `ELEMENTS` and `ATTRIBUTES`; None for one that is too long or
    that the converter rejects.

    The LaTeX is a model's output: `\\href`, `\\style` and the like must not become links and styles
    of the page.
    """
    from latex2mathml.converter import convert_to_element

    if len(latex) > LONGEST or _DEFINES.search(latex):
        return None
    try:
        return rebuilt(convert_to_element(latex.strip(), display="block" if display else "inline"))
    except Exception:  # the converter may fail in any way on text that is not LaTeX
        return None


def rebuilt(element: Element, depth: int = 0) -> str:
    """An element of MathML as text. Elements that are not allowed are replaced by their content,
    other attributes are dropped.
    """
    if depth > DEEPEST:
        raise ValueError(f"a formula nests more than {DEEPEST} elements")
    inside = _text(element.text) + "".join(
        rebuilt(child, depth + 1) + _text(child.tail) for child in element
    )
    if element.tag not in ELEMENTS:
        return f"<mrow>{inside}</mrow>"
    attributes = "".join(
        f' {name}="{html.escape(value)}"'
        for name, value in element.attrib.items()
        if name in ATTRIBUTES and _VALUE.fullmatch(value)
    )
    return f"<{element.tag}{attributes}>{inside}</{element.tag}>"


def _text(text: str | None) -> str:
    """Escaped text; entities in it are resolved first."""
    return html.escape(html.unescape(text)) if text else ""
