"""The process that owns a sandbox may be killed, fork, or be in an unusual state."""

import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sandbox import light
from sandbox.watching import children, eventually, processes, workers

from slm_math.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("light")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_a_killed_parent(how):
    code = (
        f"{light.CODE}\n"
        "from slm_math.sandbox import Sandbox\nSandbox(workers=1, wall_seconds=60).run('import "
        "time; time.sleep(60)')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    assert eventually(lambda: len(children(parent.pid, waiting=False)) == 1)
    assert eventually(lambda: len(children(parent.pid, waiting=True)) == 1)
    below = processes(parent.pid)
    parent.send_signal(how)
    parent.wait()
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


@pytest.mark.parametrize(
    "state",
    [
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
        pytest.param("import os; os.closerange(0, 3)", marks=pytest.mark.slow),
        pytest.param(
            "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))",
            marks=pytest.mark.slow,
        ),
        "import os; os.environ['TMPDIR'] = '/nowhere'; os.environ['PYTHONHOME'] = '/nowhere'; "
        "os.chdir('/proc')",
    ],
)
def test_a_parent_in_an_odd_state(state: str, tmp_path: Path) -> None:
    report = tmp_path / "report"
    code = (
        # what a worker loads may depend on the environment and on open files, not on signals
        f"{light.CODE if 'signal' in state else ''}\n"
        f"from slm_math.sandbox import Sandbox\n{state}\n"
        "with Sandbox(workers=1) as s:\n"
        "    text = s.run('import signal\\nsignal.setitimer(0, 0.01)\\ntry:\\n    "
        "signal.pause()\\nfinally: 1').error\n"
        f"    open({str(report)!r}, 'w').write(s.run('6 * 7').value + text)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert report.exists(), done.stderr
    assert report.read_text() == "42Crash: the program crashed (SIGALRM)"


def _in_a_fork(sandbox, channel):
    channel.put(sandbox.run("print('forked')").stdout)
    sandbox.close()


def test_a_forked_process_has_workers_of_its_own():
    with Sandbox(workers=1) as sandbox:
        assert sandbox.run("print('here')").ok
        context = multiprocessing.get_context("fork")
        channel = context.Queue()
        child = context.Process(target=_in_a_fork, args=(sandbox, channel))
        child.start()
        assert channel.get(timeout=60) == "forked\n"
        child.join()
        assert sandbox.run("print('still here')").ok


def test_a_thread_that_made_the_first_request_may_end():
    with Sandbox(workers=1) as sandbox:
        thread = threading.Thread(target=sandbox.start)
        thread.start()
        thread.join()
        [first] = workers()
        time.sleep(0.2)
        assert sandbox.run("print(1)").ok
        assert workers() == [first]
