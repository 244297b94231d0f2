"""What a program may do in the sandbox, what it may not, and what its caller sees of it."""

import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slm_math.sandbox import Sandbox, SandboxError, driver, process
from slm_math.types import RunPython

pytestmark = pytest.mark.skipif(Sandbox.unavailable() is not None, reason=str(Sandbox.unavailable()))

FOREVER = "while True: pass"
SLEEP = "import time\nprint('asleep')\ntime.sleep(60)"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(wall_seconds=30) as box:
        yield box


def processes(parent: int | None = None) -> list[int]:
    """The programs under way whose parent is `parent` (default: this process)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            status = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if driver.__file__.encode() in command and int(status[1]) == (parent or os.getpid()) and status[0] != "Z":
            found.append(int(folder.name))
    return found


def eventually(condition, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        ("print(6 * 7)", "42\n"),
        ("x = 6\nx * 7", "42\n"),
        ("'a' * 3", "aaa\n"),
        ("def f():\n    print('once')\n    return 5\nf()", "once\n"),
        ("None", ""),
        ("", ""),
        ("if __name__ == '__main__':\n    print('main')", "main\n"),
        ("print('√2 ≈ 1.41')", "√2 ≈ 1.41\n"),
        ("print(1)\nexit()\nprint(2)", "1\n"),
        ("import sympy\nx = sympy.symbols('x')\nprint(sympy.solve(x**2 - 2))", "[-sqrt(2), sqrt(2)]\n"),
        ("import numpy as np\nprint(int(np.linalg.det(np.eye(3))))", "1\n"),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nP(2)", "P(x=2)\n"),
        ("import os\nprint(os.listdir('.'))", "[]\n"),
    ],
)
def test_shows_what_a_program_prints(sandbox, code, stdout):
    result = sandbox.run(code)
    assert (result.ok, result.stdout, result.error) == (True, stdout, "")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("a = 1\nb = 0\nprint(a / b)", "line 3: ZeroDivisionError: division by zero"),
        ("def f():\n    return [][1]\n\nf()", "line 2: IndexError: list index out of range"),
        ("x = 1\nx = = 2", "line 2: SyntaxError: invalid syntax"),
        ("assert 1 == 2", "line 1: AssertionError"),
        ("{}['k']", "line 1: KeyError: 'k'"),
        ("int(input('n? '))", "line 1: EOFError: EOF when reading a line"),
        ("\nimport torch", "line 2: ModuleNotFoundError: No module named 'torch'"),
        ("raise SystemExit('no solution')", "line 1: SystemExit: no solution"),
        ("import sympy\nsympy.sympify('1 +')", "line 2: SympifyError"),
        ("from sympy import nothing", "(sympy/__init__.py)"),
        ("raise ValueError('one\\ntwo')", "line 1: ValueError: one"),
        ("class E(Exception):\n    def __str__(self): raise OSError\nraise E", "OSError"),
        ("import os\nos._exit(3)", "the program ended with status 3"),
        ("import ctypes\nctypes.string_at(0)", "the program crashed (SIGSEGV)"),
    ],
)
def test_an_error_is_one_line_about_the_program(sandbox, code, error):
    result = sandbox.run(code)
    assert not result.ok
    assert error in result.error
    assert "\n" not in result.error
    assert "/" not in result.error.replace("sympy/__init__.py", "")


def test_output_before_an_error_is_kept(sandbox):
    result = sandbox.run("print('so far')\n1 / 0")
    assert result.text == "so far\nline 2: ZeroDivisionError: division by zero"


def test_the_same_program_gives_the_same_output(sandbox):
    code = (
        "import random, secrets, numpy\n"
        "print(random.random(), secrets.token_hex(), hash('a'), {'x', 'y', 'z'})\n"
        "print(numpy.random.rand(), numpy.random.default_rng().random())"
    )
    first = sandbox.run(code)
    assert first.ok
    assert sandbox.run(code).stdout == first.stdout


def test_a_program_gets_its_processor_time_and_no_more():
    with Sandbox(cpu_seconds=0.3) as sandbox:
        result = sandbox.run("print('so far')\n" + FOREVER)
    assert result.timed_out
    assert not result.ok
    assert result.text == "so far\nTimeoutError: the program took more than 0.3 s"


def test_a_program_that_switches_its_timer_off_is_stopped_all_the_same():
    code = "import signal\nsignal.setitimer(signal.ITIMER_PROF, 0)\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
    with Sandbox(cpu_seconds=0.3) as sandbox:
        result = sandbox.run(code + FOREVER)
    assert result.error == "the program was killed: it used too much time or memory"


def test_a_sleeper_is_stopped_by_the_clock():
    with Sandbox(wall_seconds=0.5) as sandbox:
        result = sandbox.run(SLEEP)
    assert (result.timed_out, result.stdout) == (True, "asleep\n")
    assert result.error == "TimeoutError: the program took more than 0.5 s"


def test_a_program_that_hides_its_output_is_stopped_by_the_clock():
    with Sandbox(wall_seconds=0.5) as sandbox:
        assert sandbox.run("import os, time\nos.closerange(0, 64)\ntime.sleep(60)").timed_out


def test_memory_is_limited(sandbox):
    assert sandbox.run("x = bytearray(2 << 30)").error == "line 1: MemoryError"
    with Sandbox(memory_mb=256) as small:
        assert not small.run("x = bytearray(200 << 20); y = bytearray(200 << 20)").ok


def test_a_flood_of_output_is_stopped_early():
    with Sandbox(output_kb=4, cpu_seconds=20, wall_seconds=20) as sandbox:
        result = sandbox.run("while True: print('flood')")
    assert (result.ok, result.truncated, len(result.stdout)) == (False, True, 4096)
    assert result.seconds < 10


def test_a_flood_into_the_error_channel_is_not_kept():
    flood = (
        "import os\nwhile True:\n    for fd in range(3, 20):\n"
        "        try: os.write(fd, b'x' * 65536)\n        except OSError: pass"
    )
    with Sandbox(cpu_seconds=0.5, wall_seconds=5) as sandbox:
        result = sandbox.run(flood)
    assert not result.ok
    assert len(result.error) <= 400


def test_the_environment_does_not_leak(sandbox, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "tell nobody")
    result = sandbox.run("import os\nprint(dict(os.environ))")
    assert result.ok
    assert "MY_SECRET" not in result.stdout
    assert "PATH" not in result.stdout


@pytest.mark.parametrize(
    "code",
    [
        "open('x.txt', 'w')",
        "import os\nos.mkdir('x')",
        "import os\nos.remove(VICTIM)",
        "open(VICTIM, 'r+')",
        "import os\nos.truncate(VICTIM, 0)",
        "import os\nos.chmod(VICTIM, 0o777)",
        "import os\nos.rename(VICTIM, VICTIM + 'x')",
        "import os\nos.symlink('a', 'b')",
        "import os\nos.kill(PARENT, 0)",
        "import os\nos.killpg(0, 9)",
        "import os\nos.fork()",
        "import os\nos.execv('/bin/true', ['true'])",
        "import subprocess\nsubprocess.run(['true'])",
        "import threading\nthreading.Thread(target=print).start()",
        "import socket\nsocket.socket()",
        "import os\nos.memfd_create('x')",
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (99, 99))",
        "import os\nos.setsid()",
    ],
)
def test_a_program_cannot_reach_out(sandbox, tmp_path, code):
    victim = tmp_path / "victim"
    victim.write_text("whole")
    result = sandbox.run(f"VICTIM, PARENT = {str(victim)!r}, {os.getpid()}\n{code}")
    assert not result.ok
    assert re.search("PermissionError|not permitted|can't start new thread|not allowed", result.error), result.error
    assert victim.read_text() == "whole"


@pytest.mark.parametrize("path", ["/etc/passwd", f"/proc/{os.getpid()}/environ", __file__])
def test_a_program_cannot_read_files(sandbox, path):
    if driver.LIBC.syscall(444, None, 0, 1) < 0:
        pytest.skip("this kernel has no Landlock")
    assert "PermissionError" in sandbox.run(f"print(open({path!r}).read())").error


@pytest.mark.parametrize("which", [0, 1], ids=["x86_64", "aarch64"])
def test_the_numbers_of_the_system_calls_are_the_kernel_headers(which):
    header = Path(("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h")[which])
    if not header.exists():
        pytest.skip("the kernel's headers are not installed")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    table = {name: numbers[which] for name, numbers in (driver.DENIED | driver.OPEN).items()}
    assert {name: str(number) for name, number in table.items() if number is not None} == {
        name: known[name] for name in table if name in known
    }


def test_a_cancelled_program_stops_and_is_never_returned():
    with Sandbox(workers=1) as sandbox:
        running, waiting, last = (sandbox.submit(RunPython(code)) for code in (SLEEP, SLEEP, "print('last')"))
        assert eventually(processes)
        sandbox.cancel(waiting)
        sandbox.cancel(running)
        sandbox.cancel(12345)
        [(ticket, result)] = sandbox.poll(20)
        assert (ticket, result.stdout) == (last, "last\n")
        assert sandbox.busy == 0
        assert not processes()


def test_many_programs_at_once_keep_their_own_results():
    with Sandbox(workers=3, wall_seconds=60) as sandbox:
        tickets = {sandbox.submit(RunPython(f"print({n} ** 2)")): n for n in range(40)}
        assert sandbox.busy == 40
        results = {}
        while sandbox.busy:
            results |= dict(sandbox.poll(30))
    assert {tickets[ticket]: int(result.stdout) for ticket, result in results.items()} == {n: n * n for n in range(40)}


def test_programs_progress_while_nobody_polls():
    with Sandbox() as sandbox:
        ticket = sandbox.submit(RunPython("print(1)"))
        assert eventually(lambda: ticket in sandbox._done)
        assert [t for t, _ in sandbox.poll()] == [ticket]
        assert sandbox.poll(5) == []  # nothing is under way: no reason to wait


def test_a_waiting_caller_and_a_poller_do_not_take_each_others_results():
    with Sandbox(workers=1) as sandbox:
        ticket = sandbox.submit(RunPython("print('polled')"))
        assert sandbox.run("print('waited for')").stdout == "waited for\n"
        assert [(t, r.stdout) for t, r in sandbox.poll(20)] == [(ticket, "polled\n")]


def test_closing_leaves_no_process():
    sandbox = Sandbox()
    for _ in range(4):
        sandbox.submit(RunPython(SLEEP))
    assert eventually(lambda: len(processes()) == 2)
    sandbox.close()
    assert not processes()
    assert sandbox.poll(5) == []
    with pytest.raises(SandboxError, match="closed"):
        sandbox.run("1")


def test_no_program_outlives_a_killed_parent():
    code = "from slm_math.sandbox import Sandbox\nSandbox(wall_seconds=60).run('import time; time.sleep(60)')"
    parent = subprocess.Popen([sys.executable, "-c", code])
    assert eventually(lambda: processes(parent.pid))
    [orphan] = processes(parent.pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert eventually(lambda: not Path(f"/proc/{orphan}").exists())


def test_a_start_that_fails_once_is_tried_again(tmp_path, monkeypatch):
    flaky = tmp_path / "flaky.py"
    flaky.write_text(
        f"import os, sys\nif not os.path.exists({str(tmp_path / 'mark')!r}):\n"
        f"    open({str(tmp_path / 'mark')!r}, 'w').close()\n    sys.exit('no memory')\n"
        f"sys.argv[0] = {driver.__file__!r}\nimport runpy\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    monkeypatch.setattr(process.driver, "__file__", str(flaky))
    with Sandbox() as sandbox:
        assert sandbox.run("print(1)").ok


def test_a_sandbox_that_cannot_start_never_blames_the_program(tmp_path, monkeypatch):
    broken = tmp_path / "broken.py"
    broken.write_text("raise OSError('seccomp: not allowed here')")
    monkeypatch.setattr(process.driver, "__file__", str(broken))
    with Sandbox() as sandbox:
        with pytest.raises(SandboxError, match="could not start a program: OSError: seccomp: not allowed here"):
            sandbox.run("print(1)")
        sandbox.submit(RunPython("print(1)"))
        with pytest.raises(SandboxError):
            sandbox.poll(20)
        assert sandbox.busy == 0


def test_other_systems_get_a_reason(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert (
        Sandbox.unavailable() == "running a model's programs needs Linux on x86-64 or arm64 (this is Darwin on arm64)"
    )
    with pytest.raises(SandboxError, match="needs Linux"):
        Sandbox()


@pytest.mark.parametrize("bad", [{"workers": 0}, {"cpu_seconds": 0}, {"memory_mb": -1}])
def test_a_limit_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match="sandbox"):
        Sandbox(**bad)
