"""Workers that die are replaced: no result is lost, and no process is left."""

import os
import random
import signal
import textwrap
import threading
from pathlib import Path
from threading import Event

import pytest
from sandbox.watching import children, eventually, processes, workers

from slm_math.sandbox import Sandbox, SandboxError, worker
from slm_math.types import RunPython

pytestmark = pytest.mark.usefixtures("light")
SLEEP = "import time\nprint('asleep')\ntime.sleep(60)"


def test_a_canceled_program_stops_and_is_never_returned():
    with Sandbox(workers=1, wall_seconds=60) as sandbox:
        running, waiting, last = (
            sandbox.submit(RunPython(code)) for code in (SLEEP, SLEEP, "print('last')")
        )
        assert eventually(lambda: len(children(waiting=False)) == 1)
        sandbox.cancel(waiting)
        sandbox.cancel(running)
        sandbox.cancel(12345)
        [(ticket, result)] = sandbox.poll(20)
        assert (ticket, result.stdout) == (last, "last\n")
        assert sandbox.busy == 0


def test_many_programs_at_once_keep_their_own_results():
    with Sandbox(workers=3, wall_seconds=60) as sandbox:
        tickets = {sandbox.submit(RunPython(f"print({n} ** 2)")): n for n in range(30)}
        assert sandbox.busy == 30
        results = {}
        while sandbox.busy:
            results |= dict(sandbox.poll(30))
    assert {tickets[ticket]: int(result.stdout) for ticket, result in results.items()} == {
        n: n * n for n in range(30)
    }


def test_programs_progress_while_nobody_polls():
    with Sandbox(workers=1) as sandbox:
        ticket = sandbox.submit(RunPython("print(1)"))
        assert eventually(lambda: ticket in sandbox._done)
        assert [t for t, _ in sandbox.poll()] == [ticket]
        assert sandbox.poll(5) == []  # nothing is under way: no reason to wait


def test_a_waiting_caller_and_a_poller_do_not_take_each_others_results():
    with Sandbox(workers=1) as sandbox:
        ticket = sandbox.submit(RunPython("print('polled')"))
        assert sandbox.run("print('waited for')").stdout == "waited for\n"
        assert [(t, r.stdout) for t, r in sandbox.poll(20)] == [(ticket, "polled\n")]


def test_many_threads_may_ask_at_once():
    results = {}
    with Sandbox(workers=2) as sandbox:
        threads = [
            threading.Thread(
                target=lambda n=n: results.update({n: sandbox.run(f"print({n})").stdout})
            )
            for n in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {n: f"{n}\n" for n in range(12)}


def test_two_programs_at_once_cannot_wake_each_other():
    """Two programs map the same page of libc: a futex on it that is not private would be shared."""
    futex = """
        import ctypes, sys
        libc = ctypes.CDLL(None, use_errno=True)
        word = ctypes.cast(libc.getpid, ctypes.c_void_p).value & ~3
        number = 202 if "x86_64" in sys.implementation._multiarch else 98
        value = ctypes.c_uint32.from_address(word).value
        wait = (ctypes.c_long * 2)(2, 0)
        def call(operation, argument, *rest):
            result = libc.syscall(number, ctypes.c_void_p(word), operation, ctypes.c_uint32(argument), *rest)
            return result, ctypes.get_errno()
    """  # noqa: E501
    head = textwrap.dedent(futex)
    with Sandbox(workers=2, wall_seconds=20) as sandbox:
        sandbox.start()
        waiting = sandbox.submit(RunPython(head + "print(call(0, value, wait, None, 0))"))
        waking = sandbox.submit(
            RunPython(head + "import time\ntime.sleep(0.5)\nprint(call(1, 9, None, None, 0))")
        )
        results = {}
        while sandbox.busy:
            results |= dict(sandbox.poll(30))
    assert results[waiting].stdout == "(-1, 1)\n", results[waiting]
    assert results[waking].stdout == "(-1, 1)\n", results[waking]


def test_a_closed_sandbox_starts_again_with_its_settings():
    sandbox = Sandbox(workers=1, cpu_seconds=7, tier="C")
    sandbox.start()
    sandbox.close()
    sandbox.start()
    assert sandbox.run("6 * 7").value == "42"
    assert (sandbox.limits.cpu_seconds, sandbox.tier) == (7, "C")
    sandbox.close()


def test_closing_leaves_no_process():
    sandbox = Sandbox(wall_seconds=60)
    for _ in range(4):
        sandbox.submit(RunPython(SLEEP))
    assert eventually(lambda: len(children(waiting=False)) == 2)
    assert eventually(lambda: len(children(waiting=True)) == 2)
    assert len(processes()) == 6
    sandbox.close()
    assert not processes()
    assert sandbox.poll(5) == []
    with pytest.raises(SandboxError, match="closed"):
        sandbox.run("1")


def test_a_worker_that_vanishes_is_replaced_and_its_program_repeated():
    with Sandbox(workers=1, wall_seconds=60) as sandbox:
        sandbox.start()
        [first] = workers()
        os.kill(first, signal.SIGKILL)  # idle
        assert sandbox.run("print(1)").stdout == "1\n"
        [second] = workers()
        ticket = sandbox.submit(RunPython("import time\ntime.sleep(1)\nprint('whole')"))
        assert eventually(lambda: len(children(waiting=False)) == 1)
        os.kill(second, signal.SIGKILL)  # at work
        assert [(t, r.stdout) for t, r in sandbox.poll(30)] == [(ticket, "whole\n")]


def the_child() -> int:
    """The process of SLEEP: a child of a worker that sleeps, as a canary never does."""
    seen: list[set[int]] = []

    def asleep(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
        except OSError:
            return False

    def always_asleep() -> bool:
        seen.append({pid for pid in children(waiting=False) if asleep(pid)})
        return len(seen[-1]) == 1 and len(seen) > 5 and all(seen[-1] == s for s in seen[-5:])

    assert eventually(always_asleep), "no program runs"
    return seen[-1].pop()


def test_a_child_that_the_machine_kills_is_repeated_then_called_out_of_memory():
    with Sandbox(workers=1, wall_seconds=60) as sandbox:
        sandbox.start()
        ticket = sandbox.submit(RunPython(SLEEP))
        for _ in range(3):
            child = the_child()
            os.kill(child, signal.SIGKILL)
            assert eventually(lambda child=child: not Path(f"/proc/{child}").exists())
        [(done, result)] = sandbox.poll(30)
        assert done == ticket
        assert (result.ok, result.out_of_memory, result.timed_out) == (False, True, False)
        assert sandbox.run("print(2)").ok


def test_what_fails_before_the_walls_stand_is_the_machines_failure(monkeypatch):
    real, calls = worker.Worker.run, []

    def broken(self, job, *rest):
        if job["code"] != "print('mine')":
            return real(self, job, *rest)
        calls.append(job)
        raise worker.Lost("OSError: prctl: Invalid argument")

    monkeypatch.setattr(worker.Worker, "run", broken)
    with Sandbox(workers=1, tier="C") as sandbox:
        with pytest.raises(SandboxError, match="in 3 attempts: OSError: prctl"):
            sandbox.run("print('mine')")
        assert len(calls) == 3
        sandbox.submit(RunPython("print('mine')"))
        other = sandbox.submit(RunPython("print('yours')"))
        seen = []
        while sandbox.busy:
            try:
                seen += [ticket for ticket, _ in sandbox.poll(30)]
            except SandboxError:
                seen.append("failed")
        assert sorted(map(str, seen)) == sorted([str(other), "failed"])


def test_a_cancel_that_comes_before_the_program_is_sent(monkeypatch):
    real, begun, canceled, outcomes = worker.Worker.run, Event(), Event(), []

    def late(self, job, *rest):
        if job["code"] != SLEEP:
            return real(self, job, *rest)
        begun.set()
        canceled.wait(60)
        try:
            outcomes.append(real(self, job, *rest))
        except worker.Stopped as stopped:
            outcomes.append(stopped)
            raise
        return outcomes[-1]

    monkeypatch.setattr(worker.Worker, "run", late)
    with Sandbox(workers=1, wall_seconds=60) as sandbox:
        sandbox.start()
        ticket = sandbox.submit(RunPython(SLEEP))
        assert begun.wait(60)
        sandbox.cancel(ticket)
        canceled.set()
        assert sandbox.run("print(1)").ok
    assert [type(outcome) for outcome in outcomes] == [worker.Stopped]  # it never ran


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


def memory(pid: int) -> int:
    """The resident memory of a process in KiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4


@pytest.mark.slow
def test_ten_thousand_programs_in_a_row_leave_nothing_behind():
    """While random workers are killed, no result is lost and no file, process or memory leaks."""
    draw = random.Random(0)
    with Sandbox(workers=2, wall_seconds=60) as sandbox:
        sandbox.start()
        lost, results, waiting = 0, {}, {}
        for n in range(10_000):
            waiting[sandbox.submit(RunPython(f"print({n} * 3)"))] = n
            if n % 250 == 125 and (running := processes()):
                os.kill(draw.choice(running), signal.SIGKILL)
                lost += 1
            while sandbox.busy > 8:
                results |= {waiting[ticket]: result.stdout for ticket, result in sandbox.poll(30)}
            if n == 2_000:
                before = files(), memory(os.getpid())
        while sandbox.busy:
            results |= {waiting[ticket]: result.stdout for ticket, result in sandbox.poll(30)}
        assert files() <= before[0] + 4  # links to workers that live now
        assert memory(os.getpid()) < before[1] + 30_000
        assert all(memory(pid) < 200_000 for pid in processes())
        zombies = [
            p for p in Path("/proc").glob("[0-9]*/stat") if f" Z {os.getpid()} " in p.read_text()
        ]
        assert not zombies
    assert results == {n: f"{n * 3}\n" for n in range(10_000)}
    assert lost >= 30
    assert not processes()
