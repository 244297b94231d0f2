"""One program in its locked process: compile, run, report. What is reported is the program's word, no more.

Loaded by the zygote, so that every child has it; standard library only.
"""

from __future__ import annotations

import ast
import io
import marshal
import os
import sys
import textwrap
from collections.abc import Mapping
from types import CodeType
from typing import Any

OUT, ERR, REPORT, JOB = 1, 2, 3, 4  # open files of the child; 0 is empty
READY = b"\1"  # the first byte of a report: every wall stands, what follows is the program's doing
PROGRAM, EARLIER = "<program>", "<earlier block>"  # the file names that the program's own frames carry
MESSAGE, NAME = 400, 100  # characters of an error's message and of its class


def main() -> None:
    """Read the job, run it, write the report, end. Called in a locked process."""
    job = marshal.loads(b"".join(iter(lambda: os.read(JOB, 1 << 20), b"")))
    os.close(JOB)
    out, err = _stream(OUT), _stream(ERR)
    sys.stdout = sys.__stdout__ = out
    sys.stderr = sys.__stderr__ = err
    os.write(REPORT, READY)
    failed, fields = False, ("", "", "", "")
    try:
        value = execute(job["code"], job["earlier"], err)
        fields = ("", "", "", "" if value is None else _text(value)[: job["characters"]])
        out.flush()
    except SystemExit as stop:
        failed, fields = _exit(stop)
    except BaseException as error:
        failed, fields = True, _described(error)
    try:
        out.flush()
        err.flush()
        os.write(REPORT, "\0".join(field.replace("\0", "\\0") for field in fields).encode("utf-8", "backslashreplace"))
    except BaseException as error:  # it closed its output, or has no memory left
        failed = True
        os.write(REPORT, type(error).__name__.encode("utf-8", "replace")[:NAME] + b"\0\0\0")
    os._exit(1 if failed else 0)


def execute(code: str, earlier: list[str], silent: io.TextIOWrapper) -> Any:
    """Run a program as `__main__` after the earlier blocks of its session; the value of a last expression, or None.

    An error in an earlier block was reported when that block ran; its names up to there exist.
    """
    body, last = parsed(code)  # a syntax error needs no replay
    main = sys.modules["__main__"] = type(sys)("__main__")
    names = main.__dict__
    names.update(exit=sys.exit, quit=sys.exit)
    shown = sys.stdout
    for block in earlier:
        sys.stdout = sys.stderr = io.StringIO()
        try:
            before, value = parsed(block, EARLIER)
            exec(before, names)
            if value is not None:
                eval(value, names)
        except (Exception, SystemExit):
            pass
        finally:
            sys.stdout, sys.stderr = shown, silent
    exec(body, names)
    return eval(last, names) if last is not None else None


def parsed(code: str, file: str = PROGRAM) -> tuple[CodeType, CodeType | None]:
    """The program, and apart from it the expression that it ends with; forgives an indented block and mixed tabs."""
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
    return body, None if last is None else compile(ast.Expression(last), file, "eval", dont_inherit=True)


def _stream(fd: int) -> io.TextIOWrapper:
    """Shows every line at once: what is printed before the end of the time is seen."""
    raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
    return io.TextIOWrapper(raw, "utf-8", errors="backslashreplace", line_buffering=True)


def _text(value: object) -> str:
    text = str(value)
    return text if type(text) is str else str.__str__(text)


def _exit(stop: SystemExit) -> tuple[bool, tuple[str, ...]]:
    """`exit()` ends a program well; a message or a status other than 0 is an error."""
    try:
        if stop.code is None or (isinstance(stop.code, int) and stop.code == 0):
            return False, ("", "", "", "")
    except BaseException as error:
        return True, _described(error)
    return True, _described(stop)


def _described(error: BaseException) -> tuple[str, ...]:
    """Class, line of the program and first line of the message. Never raises: a message may refuse to be made."""
    try:
        name, line = type.__dict__["__name__"].__get__(type(error))[:NAME], _line(error)
        name = "MemoryError" if isinstance(error, MemoryError) else name
    except BaseException:
        name, line = "Exception", 0
    try:
        message = error.msg if isinstance(error, SyntaxError) else _text(error)
        message = (message.strip().splitlines() or [""])[0][:MESSAGE]
    except BaseException:
        message = ""
    return name.replace("\n", " "), str(line), message, ""


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
    given = written.decode("utf-8", "replace").split("\0")
    fields = (given + [""] * 4)[:4]
    name, line, message = (" ".join(field.split()) for field in fields[:3])
    number = int(line) if line.isdecimal() and line.isascii() and len(line) < 9 else 0
    return {
        "whole": len(given) == 4,
        "error_type": name[:NAME],
        "error_line": number,
        "message": message[:MESSAGE],
        "value": fields[3],
    }
