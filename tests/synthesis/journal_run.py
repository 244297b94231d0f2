"""A run with a journal, in a process that a test kills: URL JOURNAL PROBLEMS -> one line a problem.

It prints each problem's answer, and at the end what was spent.
"""

import json
import sys
from pathlib import Path

from slm_math.agents import SolverVerifier
from slm_math.engines.openai import OpenAIEngine
from slm_math.rollout.executors import Executors
from slm_math.rollout.scheduler import Job, Scheduler
from slm_math.synthesis.cost import Price
from slm_math.synthesis.journal import Journal
from slm_math.types import Problem, Sampling


def main() -> None:
    url, file, problems = sys.argv[1:]
    agent = SolverVerifier()
    journal = Journal(Path(file), {"default": Price(1, 2)})
    options = {"concurrency": 8, "timeout": 0.5, "retries": 20, "backoff": 0.01}
    own = OpenAIEngine(url, "m", send_seed=True, **options)
    engine = journal.before(own, "default")
    jobs = (
        Job(
            agent.solve(Problem(f"p/{n}", f"Question {n}: 2 + {n}?")),
            owner="agent",
            about=f"problem {n}",
            key=("test", n),
            roles=agent.roles,
            subject=n,
        )
        for n in range(int(problems))
    )
    scheduler = Scheduler(Executors({"default": engine}, {"default": Sampling()}), window=20)
    finished = {item.job.subject: item for item in scheduler.run(jobs)}
    engine.close()
    journal.close()
    for n, item in sorted(finished.items()):
        print(json.dumps([n, item.value, item.error]))
    spent = journal.spending.total
    print(
        json.dumps(
            [spent.requests, spent.prompt_tokens, spent.completion_tokens, round(spent.usd, 9)]
        )
    )


if __name__ == "__main__":
    main()
