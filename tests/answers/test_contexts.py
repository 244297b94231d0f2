"""Verdicts are the same in threads, processes and event loops; no answer is ever executed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from slm_math.answers import equivalence, grade, pool

CASES = [
    # these three are for the algebra process
    (r"So \boxed{\frac{1}{1+\sqrt{2}}}", r"\sqrt{2}-1", True),
    (r"\boxed{\sin(2x)}", r"2\sin x\cos x", True),
    (r"\boxed{\sin(3x)}", r"2\sin x\cos x", False),
    ("The answer is 1,234.", "1234", True),
    (r"\boxed{3 \text{ or } 4}", "4", False),
    (r"\boxed{(1,2]}", r"1 < x \le 2", True),
    (r"\boxed{10^{10^{10}}}", "5", False),
] * 3
WANTED = [right for _, _, right in CASES]


def verdicts(_: int = 0) -> list[bool]:
    equivalence._same.cache_clear()  # every context decides for itself
    return [grade(reply, gold).correct for reply, gold, _ in CASES]


def test_in_eight_threads() -> None:
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(verdicts, range(8))) == [WANTED] * 8


def test_in_asyncio() -> None:
    async def both() -> list[list[bool]]:
        return [verdicts(), await asyncio.to_thread(verdicts)]

    assert asyncio.run(both()) == [WANTED, WANTED]


@pytest.mark.parametrize("method", [pytest.param("fork", marks=pytest.mark.slow), "spawn"])
def test_in_worker_processes(method: str) -> None:
    # the parent's own algebra process is running when the workers start
    assert verdicts() == WANTED
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as workers:
        assert list(workers.map(verdicts, range(2))) == [WANTED] * 2


def _daemon(queue: multiprocessing.Queue) -> None:
    queue.put(verdicts())


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_in_a_daemonic_process_which_may_have_no_children_of_its_own() -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_daemon, args=(queue,), daemon=True)
    process.start()
    assert queue.get(timeout=60) == WANTED
    process.join(10)


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_in_a_dataloader() -> None:
    from torch.utils.data import DataLoader

    rows = [(i, CASES[i][0], CASES[i][1]) for i in range(len(CASES))]
    loader = DataLoader(rows, batch_size=7, num_workers=1, collate_fn=_graded)  # type: ignore[arg-type]
    assert [mark for batch in loader for mark in batch] == WANTED


def _graded(rows: list[tuple[int, str, str]]) -> list[bool]:
    return [grade(reply, gold).correct for _, reply, gold in rows]


def test_without_the_main_threads_signals() -> None:
    """A grader that used SIGALRM for timeouts would fail here, as the caller owns the handler."""
    code = """
        import signal, threading
        signal.signal(signal.SIGALRM, lambda *_: None)
        before = signal.getsignal(signal.SIGALRM)
        from slm_math.answers import equivalent
        found = []
        thread = threading.Thread(target=lambda: found.append(equivalent(r"\\sqrt{3+2\\sqrt{2}}", r"1+\\sqrt{2}")))
        thread.start(); thread.join()
        print(found, signal.getsignal(signal.SIGALRM) is before)
    """  # noqa: E501
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[True] True"


CANARIES = [
    "__import__('os').system('touch {}')", "open('{}','w').write('1')", "exec(\"open('{}','w')\")",
    r"\text{{__import__('os').system('touch {}')}}", "[x for x in [open('{}','w')]]",
    "S('__import__(\"os\").mkdir(\"{}\")')",
    "$(touch {})", "`touch {}`", "{{{{ open('{}','w') }}}}", r"\frac{{open('{}','w')}}{{1}}",
    "lambda: open('{}','w')",
    r"\input{{|touch {}}}", r"\immediate\write18{{touch {}}}", "5; import os; os.mkdir('{}')",
]  # fmt: skip


@pytest.mark.parametrize("answer_type", ["math", "mc", "num"])
def test_no_answer_is_ever_executed(tmp_path: Path, answer_type: str) -> None:
    marker = tmp_path / "owned"
    for canary in CANARIES:
        attack = canary.format(marker)
        for reply, gold in [
            (f"\\boxed{{{attack}}}", "5"),
            (attack, r"\sqrt{2}"),
            ("\\boxed{5}", attack),
        ]:
            assert not grade(
                reply,
                gold,
                attack,
                answer_type,
                [attack, "5"],
                0.1 if answer_type == "num" else None,
            ).correct  # type: ignore
        pool.query("equal", attack, attack + "+1")  # past all guards
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine not in ("x86_64", "aarch64"),
    reason="no filter here",
)
@pytest.mark.parametrize(
    "attempt",
    [
        "open('x', 'w')",
        "socket.socket()",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), 0)",
    ],
)
def test_the_algebra_process_has_no_rights(attempt: str, tmp_path: Path) -> None:
    code = f"""
        import os, socket
        from slm_math.answers import algebra
        algebra.confine(2048)
        try:
            {attempt}
            print("done")
        except PermissionError:
            print("refused")
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert run.stdout.strip() == "refused"


def test_a_file_of_the_working_folder_is_not_imported_by_the_algebra_process(
    tmp_path: Path,
) -> None:
    (tmp_path / "sympy.py").write_text("raise SystemExit('imported')")
    code = (
        r"from slm_math.answers import equivalent; print(equivalent(r'\sqrt{3+2\sqrt{2}}', "
        r"r'1+\sqrt{2}'))"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert run.stdout.strip() == "True"
