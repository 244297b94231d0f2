"""A budget bounds the rows of batches, which are all under way at once."""

from pathlib import Path

import pytest
from engines.batch_endpoint import BatchServer

from slm_math.engines.base import Request
from slm_math.engines.batches import OpenAIBatches
from slm_math.synthesis.cost import Budget, BudgetSpent, Price
from slm_math.synthesis.journal import Journal
from slm_math.types import Sampling, user

QUESTION = "q" * 28  # 7 tokens, as the server counts them; its replies have 3, of at most 13


@pytest.mark.parametrize("budget", [Budget(tokens=105), Budget(usd=105e-6)])
def test_batches_fit_into_the_budget(budget: Budget, tmp_path: Path) -> None:
    server = BatchServer()
    batches = OpenAIBatches(server.url, "m", collect=0.05, every=0.02, backoff=0.01)
    journal = Journal(tmp_path / "journal.jsonl", {"default": Price(1, 1)}, budget)
    engine = journal.before(batches, "solver")
    answered: list[int] = []

    def run() -> None:
        while True:
            answered.extend(ticket for ticket, _ in engine.poll(10))

    try:
        for n in range(100):
            engine.submit(Request(user(QUESTION), Sampling(max_new_tokens=13), key=(n,)))
        with pytest.raises(BudgetSpent):
            run()
    finally:
        batches.close()
        journal.close()
        server.shutdown()
        server.server_close()
    rows = [len(server.rows(one["input_file_id"])) for one in server.batches.values()]
    # 5 rows of at most 20 tokens; then of 10 tokens, as those took; the last one exceeds it by half
    assert rows == [5, 5, 1]
    assert len(answered) == journal.spending.total.requests == 11
    assert journal.spending.total.tokens == 110
