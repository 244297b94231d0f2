"""A tier is used only after its canary; if no tier works, the error says what to do."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from slm_math.sandbox import Sandbox, SandboxError, boundary, worker

pytestmark = pytest.mark.usefixtures("light")


def sabotaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Let workers run a copy of the boundary in which one line is replaced."""
    source = Path(boundary.__file__).parent
    for name in ("zygote", "boundary", "child", "preload"):
        text = (source / f"{name}.py").read_text(encoding="utf-8")
        if name == "boundary":
            assert old in text
            text = text.replace(old, new)
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    real = worker.Worker.__init__

    def elsewhere(self, command, environment, settings):
        moved = [
            str(tmp_path / "zygote.py") if word.endswith("zygote.py") else word for word in command
        ]
        real(self, moved, environment, settings)

    monkeypatch.setattr(worker.Worker, "__init__", elsewhere)


@pytest.mark.parametrize(
    ("old", "new", "could"),
    [
        (
            "    calls.install()\n",
            "",
            "read a file, write a file|fork|open a network socket",
        ),
        (
            '"getpid": (39, 172),',
            '"getpid": (39, 172), "socket": (41, 198),',
            "open a unix socket",
        ),
        ('"getpid": (39, 172),', '"getpid": (39, 172), "pipe2": (293, 59),', "make a pipe"),
        (
            '"getpid": (39, 172),',
            '"getpid": (39, 172), "memfd_create": (319, 279),',
            "memory outside",
        ),
        ("resource.RLIMIT_AS: memory,", "", "exceed its memory"),
        (
            "_unless_bits(huge | shared) + no_code",
            "_unless_bits(huge | shared)",
            "map executable memory",
        ),
        ("_unless_bits(huge | shared)", "_unless_bits(huge)", "share memory"),
        (
            '"getpid": (39, 172),',
            '"getpid": (39, 172), "keyctl": (250, 219),',
            "make system calls (250|219)",
        ),
        (
            '"getpid": (39, 172),',
            '"getpid": (39, 172), "readv": (310, 270),',
            "make system calls (310|270)",
        ),
        (
            "never_killed = _unless_equal(signal.SIGKILL)",
            "never_killed = b''",
            "killed from outside",
        ),
    ],
)
def test_a_wall_with_a_hole_is_found_before_the_first_program(
    tmp_path, monkeypatch, old, new, could
):
    sabotaged(tmp_path, monkeypatch, old, new)
    with Sandbox(workers=1, tier="C") as sandbox, pytest.raises(SandboxError, match=could):
        sandbox.run("print('never runs')")


def test_a_kernel_without_landlock_gets_tier_c(tmp_path, monkeypatch):
    sabotaged(
        tmp_path,
        monkeypatch,
        "create, add, restrict = 444, 445, 446",
        "create, add, restrict = 999, 999, 999",
    )
    with Sandbox(workers=1) as sandbox:
        assert sandbox.run("print(1)").ok
        assert sandbox.tier == "C"
    with (
        Sandbox(workers=1, tier="B") as sandbox,
        pytest.raises(SandboxError, match=r"tier B did not start.*not implemented"),
    ):
        sandbox.start()


def test_where_nothing_holds_the_refusal_names_the_ways_out(tmp_path, monkeypatch):
    sabotaged(
        tmp_path, monkeypatch, "seccomp, with_filter = 22, 2", "seccomp, with_filter = 22, 77"
    )
    with Sandbox(workers=1) as sandbox, pytest.raises(SandboxError) as refusal:
        sandbox.start()
    text = str(refusal.value)
    for part in (
        "A: ",
        "B: ",
        "C: ",
        "Invalid argument",
        "slm-math sandbox",
        "RemoteSandbox",
        'tier="unsafe"',
    ):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("system", "machine"), [("Darwin", "arm64"), ("Linux", "riscv64"), ("Windows", "AMD64")]
)
def test_other_systems_are_refused_at_once(monkeypatch, system, machine):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(
        SandboxError, match=rf"this is {system} on {machine}.*slm-math sandbox.*unsafe"
    ):
        Sandbox()


def test_the_unsafe_switch_is_loud_and_runs_programs():
    with pytest.warns(UserWarning, match="all rights of this user"):
        sandbox = Sandbox(workers=1, tier="unsafe", cpu_seconds=1, wall_seconds=60)
    with sandbox:
        result = sandbox.run("import os\nprint(os.getcwd() != '/')\n6 * 7", ["a = 1"])
        assert (result.stdout, result.value) == ("True\n", "42")
        assert sandbox.run("\n1 / 0").error == "line 2: ZeroDivisionError: division by zero"
        assert sandbox.run("while True: pass").timed_out
        assert sandbox.run("while True: print('x' * 999)").output_overflow


def test_without_walls_a_failure_of_the_machine_is_no_result_either(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.warns(UserWarning, match="all rights"):
        sandbox = Sandbox(workers=1, tier="unsafe")
    with (
        sandbox,
        pytest.raises(SandboxError, match="the interpreter ended before it ran the program"),
    ):
        sandbox.run("print(1)")


def test_a_package_that_is_not_here_is_named():
    with pytest.raises(
        SandboxError, match=r"'nowhere\.at\.all', but the package 'nowhere' is not installed"
    ):
        Sandbox(allow_imports=["nowhere.at.all"])
    with pytest.raises(
        SandboxError, match=r"allow_imports must be a list of packages, such as \[yaml\]"
    ):
        Sandbox(allow_imports="yaml")
    wanted = pytest.raises(SandboxError, match=r"No module named 'yaml\.nothing'")
    with Sandbox(workers=1, allow_imports=["yaml.nothing"]) as sandbox, wanted:
        sandbox.start()


def test_landlock_alone_hides_files_that_may_not_be_read():
    """With reading, the filter allows opening files, and Landlock decides which."""
    code = (
        "import sys\nfrom slm_math.sandbox import boundary\n"
        "try:\n    boundary.lock(1 << 32, landlock=True, reading=[sys.argv[1]])\n"
        "except OSError as error:\n    print('none', error)\n    sys.exit()\n"
        "print(open(sys.argv[1]).readline())\n"
        "for path in ('/etc/passwd', '/proc/self/environ', '/'):\n"
        "    try:\n        print('read', open(path) if path != '/' else "
        "__import__('os').listdir(path))\n"
        "    except PermissionError:\n        print('refused')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, __file__], capture_output=True, text=True, check=True
    )
    if done.stdout.startswith("none"):
        pytest.skip(f"no Landlock: {done.stdout}")
    assert done.stdout.split("\n", 2)[2].split() == ["refused"] * 3


def test_the_parents_death_is_noticed_even_when_it_came_first():
    with pytest.raises(OSError, match="has ended"):
        boundary_in_a_child(os.getpid() + 1)


def boundary_in_a_child(parent: int) -> None:
    """Call die_with in a forked process, so that this one keeps its settings; raises its error."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            boundary.die_with(parent)
        except OSError as error:
            os.write(write, str(error).encode())
        os._exit(0)
    os.close(write)
    with open(read) as file:
        message = file.read()
    os.waitpid(pid, 0)
    if message:
        raise OSError(message)
