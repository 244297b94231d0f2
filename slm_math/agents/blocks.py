"""Blocks of code in a reply, in the notations of many models: Markdown fences and tags."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass, replace

_PYTHON = r"(?:i?py(?:thon)?[\d.]*|pycon|tool_code|code_interpreter)"
# How a block begins. `fence` is a fence of any language at the start of a line; one of Python may
# also stand at the end of a line (`late`) or hold its whole program (`inline`).
_OPENS = re.compile(
    rf"(?<![`~])(?P<inline>`{{3,}}+)[ \t]*{_PYTHON}[ \t]+"
    r"(?P<code>(?=[^\n`(=]*[(=])[^\n`]+)(?P=inline)"
    r"|^[ \t]*(?P<fence>`{3,}+|~{3,}+)(?P<info>[^`\n]*)$"
    rf"|(?<![`~])(?P<late>`{{3,}}+|~{{3,}}+)[ \t]*{_PYTHON}[ \t]*$"
    r"|<(?P<tag>i?python|py|tool_code|tool_call)>|^[ \t]*<(?P<code_tag>code)\b[^>\n]*>"
    r"|(?P<to_end><\|python_tag\|>)",
    re.IGNORECASE | re.MULTILINE,
)
_INFO = re.compile(r"[ \t]*(?P<brace>\{?)\.?(?P<language>[\w.+#-]*)(?P<rest>.*)")
_ATTRIBUTES = re.compile(r"""(?:\s*[\w-]+=(?:"[^"]*"|'[^']*'))*\s*""")
_CODE = re.compile(r"\s+(?:.*[(=]|import\s|from\s)")
# a fence that closes a block and has a language opens the next one
_OPENS_NEXT = re.compile(r"\{?\.?\w[\w.+#-]*\}?[ \t]*$", re.MULTILINE)
# After a line that consists of these words, a block without a language shows output.
_OUTPUT = re.compile(r"outputs?|results?|stdout|prints|printed|inputs?")
_BESIDE_OUTPUT = re.compile(
    r"the|this|its?|that|which|expected|sample|example|actual|correct|final|console|python|program"
    r"|code|script|is|are|was|will|would|be|of|from|for|when|run|running|executed|above|and|gives"
    r"|returns|produces"
)


@dataclass(frozen=True)
class Block:
    """A block of code.

    `language` is in lower case: "python" for all names of Python, "output" for what a program
    printed, "" if there is none. `closing` is the text that closes the block, and `end` its place
    in the text after it; an open block extends to the end of the text.
    """

    language: str
    code: str
    closing: str
    closed: bool
    end: int

    @property
    def may_be_program(self) -> bool:
        return self.language in ("python", "") and bool(self.code.strip())


def blocks(text: str, tags: bool = True) -> list[Block]:
    """The blocks of a text, in order: fences of at least three backticks or tildes, which as many
    or more close, and with `tags` what stands between <code>, <python>, <tool_code> or <tool_call>
    and its end, or after <|python_tag|>.
    """
    found: list[Block] = []
    position = 0
    while opening := _OPENS.search(text, position):
        position = opening.end()
        tag = opening["tag"] or opening["code_tag"] or opening["to_end"]
        if tag and tags:
            inside, position = _tagged(text, opening, tag.lower())
            found += inside
        elif not tag:
            found.append(block := _fenced(text, opening))
            position = block.end
            if block.closed and _OPENS_NEXT.match(text, position):
                position = text.rfind("\n", 0, position) + 1
    return found


def _fenced(text: str, opening: re.Match[str]) -> Block:
    if opening["inline"]:
        fence = opening["inline"]
        return _block("python", opening["code"], closing=fence, closed=True, end=opening.end())
    fence, first = opening["fence"] or opening["late"], ""
    info = _INFO.match(opening["info"] or "") if opening["fence"] else None
    language = "python" if info is None else _language(info["language"])
    if info is not None and language == "python" and not info["brace"]:
        rest = info["rest"]
        first = rest if _CODE.match(rest) and not _ATTRIBUTES.fullmatch(rest) else ""
    if language == "" and _follows_output(text, opening.start()):
        language = "output"
    run = f"{re.escape(fence[0])}{{{len(fence)},}}"
    closes = rf"^[ \t]*{run}"
    if language == "python":  # some models close a program at the end of its last line
        closes += rf"|(?<=[^\s`~'\"]){run}[ \t]*$|(?<=[^\s`~'\"])[ \t]{run}[ \t]*$"
    closing = re.compile(closes, re.MULTILINE).search(text, opening.end())
    end = closing.end() if closing else len(text)
    body = text[opening.end() : closing.start() if closing else end]
    return _block(language, first.lstrip() + body, fence, closed=closing is not None, end=end)


def _tagged(text: str, opening: re.Match[str], tag: str) -> tuple[list[Block], int]:
    """The blocks between two tags, and the end of the second one: those of fences between them, or
    one for all of it. Tags in a line of text name something, and are no program.
    """
    closing = re.compile(rf"</{re.escape(tag)}>([ \t]*$)?", re.IGNORECASE | re.MULTILINE).search(
        text, opening.end()
    )
    end = closing.end() if closing else len(text)
    body = text[opening.end() : closing.start() if closing else end]
    if inner := blocks(body, tags=False):
        return [replace(block, end=end) for block in inner], end
    if tag == "code" and (closing is None or closing[1] is None):
        return [], end
    code = _called(body) if tag == "tool_call" or body.lstrip().startswith("{") else body
    if code is None:
        return [], end
    closes = "" if opening["to_end"] else f"</{tag}>"
    language = "" if tag == "code" else "python"
    return [_block(language, code, closes, closed=closing is not None, end=end)], end


def _block(language: str, code: str, closing: str, *, closed: bool, end: int) -> Block:
    code = textwrap.dedent(code).strip("\n").rstrip()
    if language == "python" and code.lstrip().startswith(">>> "):  # a session with its output
        lines = code.splitlines()
        code = "\n".join(line[4:] for line in lines if line.startswith((">>> ", "... ")))
    return Block(language, code, closing, closed=closed, end=end)


def _language(word: str) -> str:
    return "python" if re.fullmatch(_PYTHON, word, re.IGNORECASE) else word.lower()


def _follows_output(text: str, position: int) -> bool:
    """Whether the last words before a position announce what a program printed."""
    before = text[max(position - 200, 0) : position].rstrip().rpartition("\n")[2]
    words = re.findall(r"\w+", re.split(r"[.!?:]\s", before)[-1].lower())
    others = [word for word in words if not _OUTPUT.fullmatch(word)]
    return len(others) < len(words) and all(map(_BESIDE_OUTPUT.fullmatch, others))


def _called(text: str) -> str | None:
    """The code in a call of a tool as JSON: {"name": "python", "arguments": {"code": "..."}}."""
    try:
        call = json.loads(text)
        for field in ("arguments", "parameters"):
            call = call.get(field, call)
            call = json.loads(call) if isinstance(call, str) else call
        code = call.get("code")
    except (ValueError, AttributeError, RecursionError):
        return None
    return code if isinstance(code, str) else None
