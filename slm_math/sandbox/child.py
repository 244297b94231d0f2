"""One program in its locked process: compile, run, report. What is reported is the program's word,
no more.

Loaded by the zygote, so that every child has it; standard library only.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import io
import linecache
import marshal
import os
import sys
import textwrap
from collections.abc import Mapping
from types import CodeType
from typing import Any

OUT, ERR, REPORT, JOB, NOWHERE = 1, 2, 3, 4, 5  # open files of the child; 0 is empty
READY = b"\1"  # the first byte of a report: every wall stands, what follows is the program's doing
# the file names that the program's own frames carry
PROGRAM, EARLIER = "<program>", "<earlier block>"
MESSAGE, NAME = 400, 100  # characters of an error's message and of its class


def main() -> None:
    """Read the job, run it, write the report, end. Called in a locked process."""
    os.write(REPORT, READY)
    failed, fields = False, (b"", b"", b"", b"")
    out = err = None
    try:
        job = marshal.loads(b"".join(iter(lambda: os.read(JOB, 1 << 20), b"")))
        os.close(JOB)
        sys.stdout = sys.__stdout__ = out = _stream(OUT)
        sys.stderr = sys.__stderr__ = err = _stream(ERR)
        value = execute(job["code"], job["earlier"])
        fields = (b"", b"", b"", value.encode("utf-8", "backslashreplace")[: job["value"]])
        _finish(out, err)
    except SystemExit as stop:
        failed, fields = _exit(stop)
    except BaseException as error:
        failed, fields = True, _described(error)
    try:
        _finish(out, err)
        os.write(REPORT, b"\0".join(field.replace(b"\0", b"\\0") for field in fields))
    except BaseException as error:  # it closed its output, or has no memory left
        failed = True
        os.write(REPORT, type(error).__name__.encode("utf-8", "replace")[:NAME] + b"\0\0\0")
    os._exit(1 if failed else 0)


def _finish(*streams: io.TextIOWrapper | None) -> None:
    """What an interpreter does at its end: the program's own exit functions, then all output."""
    atexit._run_exitfuncs()
    # the program's own, perhaps
    for stream in (getattr(sys, "stdout", None), getattr(sys, "stderr", None)):
        if stream not in streams:
            with contextlib.suppress(Exception):
                stream.flush()  # type: ignore[union-attr]
    for stream in streams:
        if stream is not None:
            stream.flush()


def execute(code: str, earlier: list[str]) -> str:
    """Run a program as `__main__` after the earlier blocks of its session; the value of a last
    expression as text.

    An error in an earlier block was reported when that block ran; its names up to there exist.
    """
    body, last = parsed(code)  # a syntax error needs no replay
    main = sys.modules["__main__"] = type(sys)("__main__")
    names = main.__dict__
    names.update(exit=sys.exit, quit=sys.exit)
    # for inspect.getsource
    linecache.cache[PROGRAM] = len(code), None, code.splitlines(True), PROGRAM
    if earlier:
        shown = [os.dup(OUT), os.dup(ERR)]
        os.dup2(NOWHERE, OUT)
        os.dup2(NOWHERE, ERR)
        for block in earlier:
            try:
                before, value = parsed(block, EARLIER)
                exec(before, names)
                if value is not None:
                    eval(value, names)
            except BaseException:  # reported then
                pass
        for place, file in zip((OUT, ERR), shown):
            with contextlib.suppress(Exception):
                (sys.stdout if place == OUT else sys.stderr).flush()
            os.dup2(file, place)
            os.close(file)
    os.close(NOWHERE)
    exec(body, names)
    if last is None:
        return ""
    value = eval(last, names)
    if value is None:
        return ""
    try:
        return _text(value)
    except BaseException as error:
        error.with_traceback(None)
        raise Unshown(min(line for *_, line in last.co_lines() if line)) from error


class Unshown(Exception):
    """The last expression has a value that has no text; the argument is its line."""


def parsed(code: str, file: str = PROGRAM) -> tuple[CodeType, CodeType | None]:
    """The program, and apart from it the expression that it ends with; forgives an indented block
    and mixed tabs.
    """
    try:
        tree = ast.parse(code, file)
    except IndentationError:
        try:
            tree = ast.parse(textwrap.dedent(code.expandtabs(4)), file)
        except SyntaxError:
            tree = None
        if tree is None:
            raise
    last = None
    if tree.body and isinstance(end := tree.body[-1], ast.Expr):
        last = end.value
        tree.body.pop()
    # or this file's own `from __future__` would hold for the program
    body = compile(tree, file, "exec", dont_inherit=True)
    return body, None if last is None else compile(
        ast.Expression(last), file, "eval", dont_inherit=True
    )


def _stream(fd: int) -> io.TextIOWrapper:
    """Shows every line at once: what is printed before the end of the time is seen."""
    raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
    return io.TextIOWrapper(raw, "utf-8", errors="backslashreplace", line_buffering=True)


def _text(value: object) -> str:
    text = str(value)
    return text if type(text) is str else str.__str__(text)


def _exit(stop: SystemExit) -> tuple[bool, tuple[bytes, ...]]:
    """`exit()` ends a program well; a message or a status other than 0 is an error."""
    try:
        if stop.code is None or (isinstance(stop.code, int) and stop.code == 0):
            return False, (b"", b"", b"", b"")
    except BaseException as error:
        return True, _described(error)
    return True, _described(stop)


def _described(error: BaseException) -> tuple[bytes, ...]:
    """Class, line of the program and first line of the message. Never raises: a message may refuse
    to be made.
    """
    line = 0
    if isinstance(error, Unshown) and error.__cause__ is not None:
        line, error = error.args[0], error.__cause__
    try:
        name, line = type.__dict__["__name__"].__get__(type(error))[:NAME], line or _line(error)
        name = "MemoryError" if isinstance(error, MemoryError) else name
    except BaseException:
        name = "Exception"
    try:
        message = error.msg if isinstance(error, SyntaxError) else _text(error)
        message = (message.strip().splitlines() or [""])[0][:MESSAGE]
    except BaseException:
        message = ""
    return (
        str.encode(name, "utf-8", "replace"),
        str(line).encode(),
        message.encode("utf-8", "replace"),
        b"",
    )


def _line(error: BaseException) -> int:
    """The last line of the program itself on the way to the error; 0 when it was in none."""
    line = 0
    if isinstance(error, SyntaxError) and error.filename == PROGRAM:
        line = error.lineno or 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == PROGRAM:
            line = trace.tb_lineno or line
        trace = trace.tb_next
    return line


def report(written: bytes) -> Mapping[str, Any]:
    """Read what a child wrote after the ready mark, on the other side; it may be anything."""
    given = written.split(b"\0")
    *texts, value = (given + [b""] * 4)[:4]
    name, line, message = (_one_line(text.decode("utf-8", "replace")) for text in texts)
    number = int(line) if line.isdecimal() and line.isascii() and len(line) < 9 else 0
    name = name if name.isidentifier() else "Exception" if name else ""
    return {
        "whole": len(given) == 4,
        "error_type": name[:NAME],
        "error_line": number,
        "message": message[:MESSAGE],
        "value": value,
    }


def _one_line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
