"""Compile and run one program in its locked process, and report how it ended.

The program could forge the report, so nobody must trust it. The zygote loads this file, so that
every child has it; it uses the standard library alone.
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

OUT, ERR, REPORT, JOB, NOWHERE = 1, 2, 3, 4, 5  # open files of the child; file 0 is empty
READY = "\1"  # the first byte of a report: all walls stand, and the program begins
# the file names in the program's own frames
PROGRAM, EARLIER = "<program>", "<earlier block>"
MESSAGE, NAME = 400, 100  # characters of an error's message and of its class


def main() -> None:
    """Read the job, run it, write the report and end. Must be called in a locked process."""
    os.write(REPORT, READY.encode())
    failed, fields = False, (b"", b"", b"", b"")
    out = err = None
    try:
        job = marshal.loads(b"".join(iter(lambda: os.read(JOB, 1 << 20), b"")))
        os.close(JOB)
        sys.stdout = sys.__stdout__ = out = _stream(OUT)
        sys.stderr = sys.__stderr__ = err = _stream(ERR)
        value = execute(job["code"], job["earlier"])
        fields = (b"", b"", b"", value.encode("utf-8", "backslashreplace")[: job["most"]])
        _finish(out, err)
    except SystemExit as stop:
        failed, fields = _exit(stop)
    except BaseException as error:
        failed, fields = True, _described(error)
    try:
        _finish(out, err)
        os.write(REPORT, b"\0".join(field.replace(b"\0", b"\\0") for field in fields))
    except BaseException as error:  # the program closed its output, or no memory is left
        failed = True
        os.write(REPORT, type(error).__name__.encode("utf-8", "replace")[:NAME] + b"\0\0\0")
    os._exit(1 if failed else 0)


def _finish(*streams: io.TextIOWrapper | None) -> None:
    """Run the program's exit functions, then flush all output, as an interpreter does."""
    atexit._run_exitfuncs()
    # the program may have replaced the streams by its own
    for stream in (getattr(sys, "stdout", None), getattr(sys, "stderr", None)):
        if stream not in streams:
            with contextlib.suppress(Exception):
                stream.flush()  # type: ignore[union-attr]
    for stream in streams:
        if stream is not None:
            stream.flush()


def execute(code: str, earlier: list[str]) -> str:
    """Run a program as `__main__`, after the earlier blocks of its session.

    Returns the value of its last expression as text, "" if there is none. An error in an earlier
    block ends that block silently: it was reported when the block ran first.
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
            except BaseException:  # it was reported when the block ran first
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
    """The value of the last expression cannot be written as text; the argument is its line."""


def parsed(code: str, file: str = PROGRAM) -> tuple[CodeType, CodeType | None]:
    """The compiled program without its last expression, and that expression, if there is one.

    A program that is indented as a whole, or mixes tabs and blanks, is accepted.
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
    # without dont_inherit, the `from __future__` of this file would apply to the program
    body = compile(tree, file, "exec", dont_inherit=True)
    return body, None if last is None else compile(
        ast.Expression(last), file, "eval", dont_inherit=True
    )


def _stream(fd: int) -> io.TextIOWrapper:
    """A text stream that flushes every line, so that output before a timeout is not lost."""
    raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
    return io.TextIOWrapper(raw, "utf-8", errors="backslashreplace", line_buffering=True)


def _text(value: object) -> str:
    text = str(value)
    return text if type(text) is str else str.__str__(text)


def _exit(stop: SystemExit) -> tuple[bool, tuple[bytes, ...]]:
    """Whether a program failed by `exit()`: with a message or a status other than 0 it did."""
    try:
        if stop.code is None or (isinstance(stop.code, int) and stop.code == 0):
            return False, (b"", b"", b"", b"")
    except BaseException as error:
        return True, _described(error)
    return True, _described(stop)


def _described(error: BaseException) -> tuple[bytes, ...]:
    """The fields of a report on an error: its class, its line and the first line of its message.

    Never raises, also if an error of the program fails to produce its message.
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
    """The innermost line of the program itself in the traceback of an error; 0 if there is none."""
    line = 0
    if isinstance(error, SyntaxError) and error.filename == PROGRAM:
        line = error.lineno or 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == PROGRAM:
            line = trace.tb_lineno or line
        trace = trace.tb_next
    return line


def report(written: str) -> Mapping[str, Any]:
    """The fields of a report, which a child wrote after the ready mark. It may hold any text.

    Called on the other side, by the process that started the worker.
    """
    fields = written.split("\0")
    *texts, value = (fields + [""] * 4)[:4]
    name, line, message = map(_one_line, texts)
    number = int(line) if line.isdecimal() and line.isascii() and len(line) < 9 else 0
    name = name if name.isidentifier() else "Exception" if name else ""
    return {
        "whole": len(fields) == 4,
        "error_type": name[:NAME],
        "error_line": number,
        "message": message[:MESSAGE],
        "value": value,
    }


def _one_line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
