"""How fast `slm-math watch` and `slm-math report` open a large run in headless Chromium.

    python scripts/bench_watch.py [FOLDER]

Makes a run of 200 steps x 128 rollouts with an evaluation of 1,319 problems x 4 samples, in the
formats that `fit` writes, and opens it twice in each view.
"""

from __future__ import annotations

import csv
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from report.chromium import Browser  # noqa: E402

from slm_math.callbacks.rollout_log import texts  # noqa: E402
from slm_math.metrics.summary import summarize  # noqa: E402
from slm_math.records.encoding import json_line, to_json  # noqa: E402
from slm_math.records.files import write_json  # noqa: E402
from slm_math.records.record import ChatMessage, Record, TurnEvent  # noqa: E402
from slm_math.report import report  # noqa: E402
from slm_math.watching.run import WatchedRun  # noqa: E402
from slm_math.watching.serve import WatchServer  # noqa: E402

STEPS, PROBLEMS, SIZE = 200, 16, 8  # of training
TESTED, SAMPLES = 1319, 4
METRICS = ("loss", "reward", "accuracy", "kl", "entropy", "grad_norm", "lr", "length", "truncated")
SENTENCE = "Each of the {} boxes holds {} pencils, so that there are ${} \\times {} = {}$ in all. "


def sample(draw: random.Random, id: str, number: int, chance: float, **more: Any) -> Record:
    """A record of about 3 kB."""
    a, b = draw.randint(2, 99), draw.randint(2, 99)
    right = draw.random() < chance
    answer = str(a * b if right else a + b)
    problem = f"{a} boxes hold {b} pencils each. " + "A box is of wood. " * 12 + "How many pencils?"
    ask = f"Solve the problem step by step. Give the answer in \\boxed{{}}.\n\n{problem}"
    reply = SENTENCE.format(a, b, a, b, a * b) * 9 + f"The answer is $\\boxed{{{answer}}}$."
    turn = TurnEvent("solver", (ChatMessage("user", ask),), reply, tokens=draw.randint(150, 400))
    return Record(
        id=id, sample=number, problem=problem, gold=str(a * b), answer=answer, correct=right,
        reason="equal" if right else "different", method="box", lenient=right, events=(turn,),
        tags={"level": str(a % 5 + 1)}, **more,
    )  # fmt: skip


def rollouts(draw: random.Random) -> Iterator[bytes]:
    for step in range(STEPS):
        for _ in range(PROBLEMS):
            id, chance = f"gsm8k/train/{draw.randrange(7473)}", 0.2 + 0.6 * step / STEPS
            group = [sample(draw, id, number, chance) for number in range(SIZE)]
            mean = sum(one.correct for one in group) / SIZE
            for one in group:
                reward, advantage = float(one.correct), one.correct - mean
                one = one.with_training(
                    {"solver": {"correct": reward}}, {"solver": reward}, {"solver": advantage}
                )
                place = {"epoch": step // 100, "batch": step % 100, "step": step + 1}
                yield json_line(place | texts(one, "solver") | to_json(one))


def make(root: Path) -> None:
    draw = random.Random(0)
    now = "2026-01-01T00:00:00Z"
    write_json(root / "manifest.json", {"run": "00", "started": now, "policy": "made"})
    with (root / "rollouts.jsonl").open("wb") as file:
        file.writelines(rollouts(draw))
    log = root / "logs" / "version_0" / "metrics.csv"
    log.parent.mkdir(parents=True)
    with log.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["epoch", "step", *(f"train/{name}" for name in METRICS)])
        for step in range(STEPS):
            rows.writerow([step // 100, step, *(draw.random() for _ in METRICS)])
    folder = root / "eval" / "epoch-1" / "single_shot"
    records = [
        sample(draw, f"gsm8k/test/{problem}", number, 0.6)
        for number in range(SAMPLES)
        for problem in range(TESTED)
    ]
    identity = {"problems": TESTED, "samples": SAMPLES, "agent": {"class": "SingleShot"}}
    about = {"epoch": 1, "step": STEPS, "run": "00"}
    manifest = {"identity": identity, "about": about, "started": now, "partial": False}
    write_json(folder / "manifest.json", manifest | {"records": len(records)})
    write_json(folder / "summary.json", summarize(records).to_json() | {"partial": False})
    with (folder / "records.jsonl").open("wb") as file:
        file.writelines(map(json_line, records))


def opened(browser: Browser, address: str, there: str) -> float:
    """Seconds from the navigation until an expression holds."""
    browser.call("Page.navigate", url="about:blank")
    browser.call("Page.navigate", url=address)
    browser.until(f"location.href !== 'about:blank' && ({there})")
    return browser.value("performance.now()") / 1000


def scrolled(browser: Browser, place: str, row: str) -> float:
    """Seconds until rows are there at 20 places of a list, the mean."""
    start = time.perf_counter()
    for part in range(1, 21):
        browser.value(
            f"(e => {{ e.scrollTop = e.scrollHeight * {part / 20} - e.clientHeight }})"
            f"(document.getElementById('{place}'))"
        )
        browser.until(f"document.querySelectorAll('#{place} {row}').length > 5")
    return (time.perf_counter() - start) / 20


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(made) / "run"
        if not root.exists():
            root.mkdir()
            make(root)
        print(f"rollouts.jsonl: {(root / 'rollouts.jsonl').stat().st_size / 1e6:.0f} MB")
        watch(root, Path(made))
        start, cpu = time.perf_counter(), time.process_time()
        file = Path(made) / "report.html"
        report([str(root)], str(file), transcripts=TESTED * SAMPLES)
        seconds, used = time.perf_counter() - start, time.process_time() - cpu
        size = file.stat().st_size / 1e6
        print(f"report written: {size:.1f} MB, {seconds:.1f} s, {used:.1f} s of this process")
        with Browser(Path(made) / "other") as browser:
            there = "document.querySelectorAll('.item').length >= 100"
            for load in ("first", "second"):
                seconds = opened(browser, f"file://{made}/report.html", there)
                print(f"report, {load} load: {seconds:.2f} s")


def watch(root: Path, made: Path) -> None:
    begun = time.process_time()
    run = WatchedRun(root)
    whole = f"typeof ordered === 'object' && ordered.length === {STEPS}"
    views = {
        "": f"{whole} && document.querySelectorAll('#main-charts svg').length",
        "#view=steps": f"{whole} && document.querySelector('.group')",
        "#view=evaluations&name=epoch-1/single_shot": "document.querySelector('#sample-list .two')",
    }
    with WatchServer(run) as server, Browser(made / "profile") as browser:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        drawn = opened(browser, server.url, "document.querySelectorAll('#main-charts svg').length")
        print(f"watch, first load, first curves: {drawn:.2f} s")
        browser.until(whole)
        all_read = browser.value("performance.now()") / 1000
        cpu = time.process_time() - begun
        print(f"watch, first load, all steps: {all_read:.2f} s, {cpu:.2f} s of this process")
        for load in ("first", "second"):
            for view, there in views.items():
                before = run.steps.bytes_read
                seconds = opened(browser, f"{server.url}/{view}", there)
                read = run.steps.bytes_read - before
                print(f"watch, {load} load of /{view}: {seconds:.2f} s, {read} bytes read")
        print(f"scrolling samples: {scrolled(browser, 'sample-list', '.two'):.3f} s each")
        opened(browser, f"{server.url}/#view=steps", views["#view=steps"])
        print(f"scrolling steps: {scrolled(browser, 'step-list', '.place'):.3f} s each")
        foreign = {each for each in browser.requests if not each.startswith((server.url, "about:"))}
        print(json.dumps({"requests elsewhere": sorted(foreign), "errors": browser.errors}))
        server.shutdown()


if __name__ == "__main__":
    main()
