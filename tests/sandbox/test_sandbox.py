"""The results that a program's caller and its model see."""

import resource

import pytest

from slm_math.sandbox import Sandbox
from slm_math.types import RunPython

FOREVER = "while True: pass"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1, wall_seconds=30) as box:
        yield box


@pytest.mark.parametrize(
    ("code", "stdout", "value"),
    [
        ("print(6 * 7)", "42\n", ""),
        ("x = 6\nx * 7", "", "42"),
        ("'a' * 3", "", "aaa"),
        ("def f():\n    print('once')\n    return 5\nf()", "once\n", "5"),
        ("None", "", ""),
        ("", "", ""),
        ("if __name__ == '__main__':\n    print('main')", "main\n", ""),
        ("print('√2 ≈ 1.41')", "√2 ≈ 1.41\n", ""),
        ("print('\\ud800')", "\\ud800\n", ""),
        ("print(1)\nexit()\nprint(2)", "1\n", ""),
        ("exit(0)", "", ""),
        ("x = 3\nsum(x for _ in range(2)) + (lambda: x)()", "", "9"),
        (
            "import sympy\nx = sympy.symbols('x')\nprint(sympy.solve(x**2 - 2))",
            "[-sqrt(2), sqrt(2)]\n",
            "",
        ),
        (
            "import sympy\nsympy.init_printing()\nsympy.pprint(sympy.sqrt(2) / 2)",
            "√2\n──\n2 \n",
            "",
        ),
        ("import numpy as np\nint(np.linalg.det(np.eye(3)))", "", "1"),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nP(2)", "", "P(x=2)"),
        ("import sympy.physics.mechanics\nimport xml.dom.minidom\nprint('late')", "late\n", ""),
        ("import sys\nprint('warned', file=sys.stderr)", "", ""),
        ("    x = 1\n    print(x)", "1\n", ""),
        ("if True:\n\tx = 1\n        \n\tprint(x)", "1\n", ""),
        ("if True:\n    x = 1\n\tprint(x)", "1\n", ""),
        ("class A: pass\nA()", "", "<__main__.A object>"),
        ("print(lambda: 0)", "<function <lambda>>\n", ""),
        (
            "import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\nprint('wrapped')",
            "wrapped\n",
            "",
        ),
        ("import atexit\natexit.register(print, 'bye')\nprint('hello')", "hello\nbye\n", ""),
        (
            "import inspect\ndef f():\n    return 3\ninspect.getsource(f)",
            "",
            "def f():\n    return 3\n",
        ),
        ("import locale\nlocale.setlocale(locale.LC_ALL, '')\nprint('é')", "é\n", ""),
        ("import sys\ndel sys.stdout, sys.stderr\n5", "", "5"),
        (
            "from typing import get_type_hints\nclass A:\n    x: int\nget_type_hints(A)['x']",
            "",
            "<class 'int'>",
        ),
    ],
)
def test_shows_what_a_program_prints_and_what_it_ends_with(sandbox, code, stdout, value):
    result = sandbox.run(code)
    assert (result.ok, result.stdout, result.value, result.error) == (True, stdout, value, "")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("a = 1\nb = 0\nprint(a / b)", "line 3: ZeroDivisionError: division by zero"),
        ("def f():\n    return [][1]\n\nf()", "line 2: IndexError: list index out of range"),
        ("x = 1\nx = = 2", "line 2: SyntaxError: invalid syntax"),
        ("for i in range(3):\n    print(i", "line 2: SyntaxError: '(' was never closed"),
        (
            "def f():",
            "line 1: IndentationError: expected an indented block after function definition on "
            "line 1",
        ),
        ("assert 1 == 2", "line 1: AssertionError"),
        ("{}['k']", "line 1: KeyError: 'k'"),
        ("int(input('n? '))", "line 1: EOFError: EOF when reading a line"),
        ("\nimport torch", "line 2: ModuleNotFoundError: No module named 'torch'"),
        ("raise SystemExit('no solution')", "line 1: SystemExit: no solution"),
        ("exit(3)", "line 1: SystemExit: 3"),
        ("import sympy\nsympy.sympify('1 +')", "line 2: SympifyError"),
        ("raise ValueError('one\\ntwo')", "line 1: ValueError: one"),
        ("raise ValueError('\\x1b[31mred\\u202e')", "line 1: ValueError: [31mred"),
        ("x = 1\n10 ** 5000", "line 2: ValueError: Exceeds the limit"),
        ("class E(Exception):\n    def __str__(self): raise OSError\nraise E", "line 3: E"),
        ("class E(Exception):\n    def __str__(self): raise SystemExit\nraise E", "line 3: E"),
        ("import os\nos._exit(3)", "Exit: the program ended with status 3 before its last line"),
        ("import os\nos._exit(0)", "Exit: the program ended with status 0 before its last line"),
        ("import ctypes\nctypes.string_at(0)", "Crash: the program crashed (SIGSEGV)"),
        (
            "open('data.csv')",
            "line 1: PermissionError: [Errno 1] Operation not permitted: 'data.csv'",
        ),
        (
            "import threading\nthreading.Thread(target=print).start()",
            "line 2: RuntimeError: can't start new thread",
        ),
    ],
)
def test_an_error_is_one_line_about_the_program(sandbox, code, error):
    result = sandbox.run(code)
    assert not result.ok
    assert error in result.error
    assert "\n" not in result.error
    assert result.error_type == error.removeprefix(f"line {result.error_line}: ").partition(":")[0]


def test_text_that_is_no_program_is_an_error(sandbox):
    # which error a NUL is depends on the version of Python
    assert sandbox.run("1\x000").error_type in ("SyntaxError", "ValueError")
    assert not sandbox.run("x = '\ud800").ok


def test_nothing_shown_names_a_folder_of_this_host(sandbox):
    code = (
        "import sympy, sys, os, traceback, warnings\n"
        "print(sympy.__file__, sys.path, sys.executable, sys.prefix, os.getcwd(), os.__file__, "
        "sys.argv)\n"
        "try:\n    sympy.sympify('1 +')\nexcept Exception:\n    "
        "traceback.print_exc(file=sys.stdout)\n"
        "warnings.warn('careful')\n"
        "print(dict(os.environ))\n"
        "from sympy import nothing"
    )
    result = sandbox.run(code)
    for text in (result.stdout, result.stderr, result.error):
        for place in (
            "/root",
            "/home",
            "/opt",
            "/work",
            "site-packages",
            "slm_math/sandbox",
            "python3",
        ):
            assert place not in text
    assert "cannot import name 'nothing' from 'sympy'" in result.error


def test_output_is_shown_with_the_error_or_the_value(sandbox):
    text = "so far\nline 2: ZeroDivisionError: division by zero"
    assert sandbox.run("print('so far')\n1 / 0").text == text
    assert sandbox.run("print('x =', 3)\n3 + 4").text == "x = 3\n7"


def test_the_same_program_gives_the_same_output(sandbox):
    code = (
        "import os, random, secrets, numpy, uuid, sympy.core.random as own\n"
        "print(random.random(), random.Random().random(), secrets.token_hex(), hash('a'), {'x', "
        "'y', 'z'})\n"
        "print(os.urandom(4), uuid.uuid4())\n"
        "random.seed()\n"
        "print(random.random(), numpy.random.rand(), numpy.random.default_rng().random(), "
        "own.random())"
    )
    first = sandbox.run(code)
    assert first.ok, first.error
    with Sandbox(workers=1, tier="C") as other:
        assert other.run(code).stdout == first.stdout


def test_a_session_is_replayed(sandbox):
    blocks = (
        "import random\nx = 40\nprint('not again')",
        "x += 1\ny = random.random()\n1 / 0\nx = 0",
        "exit(3)",
    )
    result = sandbox.run("x += 1\nprint(x, y == random.Random(0).random())", blocks)
    assert (result.ok, result.stdout) == (True, "42 True\n")
    assert sandbox.run("x").error == "line 1: NameError: name 'x' is not defined"


@pytest.mark.parametrize(
    ("earlier", "code", "stdout"),
    [
        ("import sys\nsys.stdout.reconfigure(line_buffering=True)\nx = 41", "print(x + 1)", "42\n"),
        ("import sys\nout = sys.stdout\ndef say(*a): print(*a, file=out)", "say('kept')", "kept\n"),
        (
            "import os, sys\nos.write(1, b'again')\nsys.stdout.buffer.write(b'again')",
            "print('once')",
            "once\n",
        ),
        ("x = 1\nimport asyncio\nraise asyncio.CancelledError", "print(x)", "1\n"),
        ("x = 1\nraise KeyboardInterrupt", "print(x)", "1\n"),
        (
            "import logging, sys\nlogging.basicConfig(stream=sys.stdout, level=20)",
            "logging.info('i')",
            "INFO:root:i\n",
        ),
    ],
)
def test_an_earlier_block_does_what_it_did_the_first_time(sandbox, earlier, code, stdout):
    result = sandbox.run(code, [earlier])
    assert (result.stdout, result.error) == (stdout, "")


def test_an_error_in_an_earlier_function_has_the_line_that_called_it(sandbox):
    result = sandbox.run("a = 1\nf(0)", ["def f(x):\n\n\n    return 1 / x"])
    assert result.error == "line 2: ZeroDivisionError: division by zero"


def test_each_block_of_a_session_has_its_time(light):
    half = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    with Sandbox(workers=1, cpu_seconds=0.3, wall_seconds=60) as sandbox:
        assert sandbox.run("print(1)", [half, half]).ok
        late = sandbox.run(FOREVER, [half, half])
        assert late.error == "TimeoutError: the program took more than 0.9 s of processor time"


def test_the_blocks_of_one_request_share_its_time(light):
    with Sandbox(workers=1, cpu_seconds=0.4, wall_seconds=60) as sandbox:
        result = sandbox.run(FOREVER, [""] * 20, turns=1)
    assert result.error == "TimeoutError: the program took more than 0.4 s of processor time"


def test_what_a_model_sees_is_short(sandbox):
    text = sandbox.run("for i in range(2000): print(i)\n'end'").text
    assert len(text) < 2100
    assert text.startswith("0\n1\n")
    assert text.endswith("1998\n1999\nend")
    assert "characters) ..." in text


def of_children() -> float:
    """The processor seconds of all processes that ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_program_gets_its_processor_time_and_no_more(light):
    stubborn = (
        "import signal\nfor n in (signal.SIGXCPU, signal.SIGPROF, signal.SIGALRM, "
        "signal.SIGTERM):\n"
        "    signal.signal(n, signal.SIG_IGN)\nsignal.setitimer(signal.ITIMER_PROF, 0)\nprint('so "
        "far')\n"
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    )
    before = of_children()
    with Sandbox(workers=1, cpu_seconds=0.3, wall_seconds=120) as sandbox:
        result = sandbox.run(stubborn)
    assert (result.ok, result.timed_out, result.error_type) == (False, True, "TimeoutError")
    assert result.text == "so far\nTimeoutError: the program took more than 0.3 s of processor time"
    assert of_children() - before < 20  # without the limit it takes 120


def test_a_sleeper_is_stopped_by_the_clock(light):
    """Three at a time, with a limit in which a busy machine, too, comes to `print`."""
    sleepers = (
        "import time\nprint('asleep')\ntime.sleep(600)",
        "import os, time\nos.closerange(0, 64)\ntime.sleep(600)",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    )
    with Sandbox(workers=3, wall_seconds=1.5) as sandbox:
        sandbox.start()
        tickets, results = [sandbox.submit(RunPython(code)) for code in sleepers], {}
        while sandbox.busy:
            results |= dict(sandbox.poll(60))
    first = results[tickets[0]]
    assert first.stdout == "asleep\n"
    assert first.error == "TimeoutError: the program took more than 1.5 s"
    assert [results[ticket].timed_out for ticket in tickets] == [True] * 3


def test_memory_is_limited(sandbox, light):
    result = sandbox.run("x = bytearray(2 << 30)")
    assert (result.error, result.out_of_memory) == ("line 1: MemoryError", True)
    assert sandbox.run("import numpy\nnumpy.ones((1 << 28,))").out_of_memory
    with Sandbox(workers=1, memory_mb=256) as small:
        assert small.run("x = bytearray(100 << 20); y = bytearray(100 << 20)").ok
        assert small.run("x = bytearray(200 << 20); y = bytearray(200 << 20)").out_of_memory


@pytest.mark.parametrize(
    "flood",
    [
        "while True: print('flood')",
        "'√' * 500_000",
        "print('x' * 10_000_000)",
        "while True: print('w', file=sys.stderr)",
        "warn = sys.stderr.write\nwhile True:\n    warn('careful ' * 99)",
        "while True:\n    print('o' * 200)\n    print('e' * 200, file=sys.stderr)",
        # the report that the child writes, and all of its files
        "while True: os.write(3, b'r' * 900)",
        "while True:\n    for fd in range(2, 20):\n"
        "        try: os.write(fd, b'x' * 65536)\n        except OSError: pass",
    ],
)
def test_a_flood_of_output_is_stopped_early_wherever_it_goes(flood, light):
    before = of_children()
    with Sandbox(workers=1, output_kb=4, cpu_seconds=20, wall_seconds=120) as sandbox:
        result = sandbox.run(f"import os, sys\n{flood}")
    assert (result.ok, result.output_overflow, result.timed_out) == (False, True, False)
    assert all(len(text) < 4096 + 60 for text in (result.stdout, result.stderr, result.value))
    assert result.error == "OutputError: the program was stopped after 320 KB of output"
    assert of_children() - before < 10


def test_a_program_that_does_not_fit_is_its_own_failure(light):
    with Sandbox(workers=1, memory_mb=64) as sandbox:
        assert sandbox.run("x = 1\n#" + "a" * (70 << 20)).out_of_memory


def test_a_program_may_be_long(sandbox):
    code = "x = 0\n" + "x += 1  # counting\n" * 50_000 + "print(x)"
    assert sandbox.run(code).stdout == "50000\n"


def test_allowed_packages_are_there_and_others_are_not():
    with Sandbox(workers=1, allow_imports=("yaml",)) as sandbox:
        assert sandbox.run("import yaml\nprint(yaml.safe_load('[1, 2]'))").stdout == "[1, 2]\n"
        assert sandbox.run("import pytest").error_type == "ModuleNotFoundError"
        for path in ("/etc/passwd", "/proc/self/environ"):
            assert "PermissionError" in sandbox.run(f"open({path!r})").error or sandbox.tier == "C"
        assert "PermissionError" in sandbox.run("open('/tmp/x', 'w')").error


@pytest.mark.parametrize(
    "bad",
    [
        {"workers": 0},
        {"cpu_seconds": 0},
        {"cpu_seconds": float("nan")},
        {"memory_mb": 0.5},
        {"output_kb": "1"},
        {"tier": "D"},
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match="sandbox"):
        Sandbox(**bad)


def test_a_request_brings_its_session_through_the_queue(sandbox):
    ticket = sandbox.submit(RunPython("print(a)", ("a = 5",)))
    assert [(t, r.stdout) for t, r in sandbox.poll(60)] == [(ticket, "5\n")]
