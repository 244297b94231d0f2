"""A child is forked ahead of its program: it gains nothing by that, and loses nothing."""

import os
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from sandbox.watching import children, eventually, open_files, parent_of, processes, workers

from slm_math.sandbox import Sandbox, zygote
from slm_math.types import RunPython

pytestmark = pytest.mark.usefixtures("light")
SLEEP = "import time\nprint('asleep')\ntime.sleep(60)"


@pytest.fixture
def sandbox():
    # in which pids are those of this process
    with Sandbox(workers=1, wall_seconds=60, tier="C") as box:
        box.start()
        yield box


def waiting() -> int:
    """The one child that waits, and has come to that."""
    found: list[int] = []

    def waits() -> bool:
        found[:] = children(waiting=True)
        return len(found) == 1 and set(open_files(found[0])) == {0, 5, zygote.LINK}

    assert eventually(waits)
    return found[0]


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: rest.strip() for name, _, rest in (line.partition(":") for line in lines)}


def limits(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): line[26:].split() for line in lines}


def test_every_program_runs_in_the_child_that_waited(sandbox) -> None:
    for _ in range(3):
        child = waiting()
        assert int(sandbox.run("import os\nprint(os.getpid())").stdout) == child


def test_two_programs_never_share_a_child(sandbox) -> None:
    seen = {sandbox.run("import os\nprint(os.getpid())").stdout for _ in range(20)}
    assert len(seen) == 20


def test_the_child_ahead_holds_no_file_of_the_program_that_runs(sandbox) -> None:
    sandbox.submit(RunPython(SLEEP))
    assert eventually(lambda: len(children(waiting=False)) == 1)
    [running], ahead = children(waiting=False), waiting()
    own = {name for number, name in open_files(running).items() if number > 0}
    for other in (ahead, *workers()):
        assert not own & {name for name in open_files(other).values() if "/dev/null" not in name}
    assert open_files(ahead)[5] == "/dev/null"


def test_walls_stand_while_a_child_waits_and_the_filter_before_its_program(sandbox) -> None:
    sandbox.submit(RunPython(SLEEP))
    # first the program, else the child that waits is the one that takes it a moment later
    assert eventually(lambda: [status(pid)["Seccomp"] for pid in children(waiting=False)] == ["2"])
    [running], ahead = children(waiting=False), waiting()
    for pid in (ahead, running):
        assert status(pid)["NoNewPrivs"] == "1"
        assert {status(pid)[name].strip("0") for name in ("CapEff", "CapPrm", "CapInh")} == {""}
    theirs, ours = limits(running), limits(ahead)
    assert theirs.pop("Max cpu time")[:2] == ["62", "64"]  # the limits come with the program
    ours.pop("Max cpu time")
    assert ours == theirs
    assert ours["Max processes"][:2] == ["0", "0"]


def test_the_clock_starts_when_the_program_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1000.0, 1003.0])  # the program comes, and has ended
    monkeypatch.setattr(zygote, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    class Waited:
        """A child that was forked long ago, and ends as soon as it has its program."""

        pid, ended, used = os.getpid(), False, 0.0

        def begin(self, message: bytes, files: list[int]) -> None:
            self.ended = True

        def finish(self) -> tuple[int, float]:
            return 0, 0.0

    loop = zygote.Loop(socket.socket(), Waited)
    loop.waiting = Waited()
    with loop.link:
        _, _, seconds, why = zygote.ENDED.unpack(loop._one(zygote.JOB.pack(60, 60), []))
    assert (seconds, why) == (3.0, zygote.BY_ITSELF)


def test_processor_time_before_the_program_does_not_count() -> None:
    class Spent:
        """A child that used five seconds before its program came."""

        pid, ended, used, killed = os.getpid(), False, 5.0, False

        def kill(self) -> None:
            self.killed = True

    def why(before: float) -> bytes:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            ours.send(zygote.STOP)
            child = Spent()
            try:
                return zygote.watch(
                    theirs, child, time.monotonic(), cpu_seconds=1, seconds=60, before=before
                )
            finally:
                assert child.killed

    assert (why(before=5.0), why(before=0.0)) == (zygote.BY_REQUEST, zygote.BY_CPU)


def test_a_waiting_child_that_the_machine_kills_is_replaced(sandbox) -> None:
    worker = workers()
    os.kill(waiting(), signal.SIGKILL)
    assert eventually(lambda: not children(waiting=True))
    assert sandbox.run("print(1)").stdout == "1\n"
    assert workers() == worker
    assert parent_of(waiting()) == worker[0]


def test_a_worker_that_vanishes_takes_its_waiting_child_along(sandbox) -> None:
    [worker], child = workers(), waiting()
    os.kill(worker, signal.SIGKILL)
    assert eventually(lambda: not Path(f"/proc/{child}").exists())
    assert sandbox.run("print(1)").stdout == "1\n"
    assert waiting() != child


@pytest.mark.parametrize("busy", [False, True])
def test_closing_leaves_no_waiting_child(busy) -> None:
    sandbox = Sandbox(workers=2, wall_seconds=60, tier="C")
    for _ in range(2):
        sandbox.submit(RunPython(SLEEP if busy else "print(1)"))
    assert eventually(lambda: len(children(waiting=True)) == 2)
    below = processes()
    sandbox.close()
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]


def test_a_worker_leaves_no_zombies(sandbox) -> None:
    for n in range(10):
        sandbox.run(f"print({n})")
    child, [worker] = waiting(), workers()
    below = [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if parent_of(int(folder.name)) == worker
    ]
    assert below == [child]
