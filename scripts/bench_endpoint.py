"""What a request to a chat endpoint costs this process, and how close it comes to the ideal rate.

    python scripts/bench_endpoint.py [--problems 2000] [--latency 1.0] [--concurrency 64]

A server in another process, whose processor time is not counted, answers every request after
`latency` seconds with a reply of 300 words. The problems go through the scheduler, the agent
`SingleShot`, a journal (`--no-journal`: without one) and `OpenAIEngine`. Ideal are `concurrency`
requests per `latency`. Processor time is that of all threads of this process, from the first
request to the last reply; memory is read after a tenth of the problems and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slm_math.agents import SingleShot
from slm_math.engines.base import Engine
from slm_math.engines.openai import OpenAIEngine
from slm_math.rollout.executors import Executors
from slm_math.rollout.scheduler import Job, Scheduler
from slm_math.synthesis.cost import Price
from slm_math.synthesis.journal import Journal
from slm_math.types import Problem, Sampling

TEXT = "word " * 300 + "\\boxed{4}"
QUESTION = "A train leaves at noon with 120 passengers, and 17 more board at each of 4 stops. " * 4


async def serve(ready: multiprocessing.Queue[int], latency: float) -> None:
    """Answers on keep-alive connections."""
    choice = {"message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 90, "completion_tokens": 310}
    body = json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = head.encode() + body

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                await asyncio.sleep(latency)
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=4096)
    ready.put(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _serve(ready: multiprocessing.Queue[int], latency: float) -> None:
    asyncio.run(serve(ready, latency))


@contextmanager
def server(latency: float) -> Iterator[str]:
    """The address of a server in another process."""
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    process = context.Process(target=_serve, args=(ready, latency), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ready.get(timeout=60)}/v1"
    finally:
        process.terminate()
        process.join()


def resident() -> float:
    """MiB of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(engine: Engine, problems: int) -> tuple[float, float, float, float]:
    """Seconds, processor seconds, MiB after a tenth of the problems and at the end."""
    agent = SingleShot()

    def jobs() -> Iterator[Job[str | None]]:
        for n in range(problems):
            workflow = agent.solve(Problem(f"p/{n}", f"{QUESTION} Question {n}."))
            yield Job(workflow, "agent", f"problem {n}", (0, n), roles=agent.roles)

    scheduler = Scheduler(Executors({"default": engine}, {"default": Sampling(temperature=0.7)}))
    early, start, used = 0.0, time.perf_counter(), time.process_time()
    for n, finished in enumerate(scheduler.run(jobs())):
        assert finished.value is not None, finished.error
        if n == problems // 10:
            early = resident()
    seconds, processor = time.perf_counter() - start, time.process_time() - used
    return seconds, processor, early, resident()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--no-journal", action="store_true")
    options = parser.parse_args()
    with server(options.latency) as url, tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.jsonl", {"default": Price(0.2, 0.5)})
        engine: Engine = OpenAIEngine(url, "m", concurrency=options.concurrency)
        if not options.no_journal:
            engine = journal.before(engine, "default")
        seconds, processor, early, late = measure(engine, options.problems)
        engine.close()
        journal.close()
    ideal = options.concurrency / options.latency
    rate = options.problems / seconds
    print(
        f"{options.problems} requests at {options.latency:g} s, {options.concurrency} at a time: "
        f"{rate:.1f} requests/s, {100 * rate / ideal:.1f} % of {ideal:.1f}; "
        f"{1000 * processor / options.problems:.2f} CPU-ms per request; "
        f"memory {early:.0f} MiB after a tenth, {late:.0f} MiB at the end"
    )


if __name__ == "__main__":
    main()
