"""What requests took is counted once, and a budget ends the run."""

from contextlib import suppress
from dataclasses import replace

import pytest
from synthesis.echo import REQUEST, Echo, ask

from slm_math.rollout.executors import Executors
from slm_math.rollout.scheduler import Job, Scheduler
from slm_math.synthesis.cost import Budget, BudgetSpent, Price, Spent
from slm_math.types import Generate, Sampling, user


def test_what_was_spent_is_counted_once(open_journal):
    prices = {"solver": Price(1, 2), "default": Price(10, 10)}
    journal = open_journal(prices)
    engine = journal.before(Echo(), "solver")
    ask(engine)
    ask(engine)
    ask(engine, replace(REQUEST, role="verifier"))
    expected = {"solver": Spent(1, 10, 5, 20e-6), "verifier": Spent(1, 10, 5, 150e-6)}
    assert journal.spending.roles == expected
    # what was paid was paid at the prices of then
    assert open_journal({"default": Price(999, 999)}).spending.roles == expected


def test_what_a_server_does_not_count_is_estimated(open_journal):
    journal = open_journal({"default": Price(1, 1)})
    ask(journal.before(Echo(asked=0, counted=0), "solver"), replace(REQUEST, chat=user("x" * 400)))
    assert journal.spending.total == Spent(1, 100, 101, pytest.approx(201e-6), estimated=1)


def test_a_budget_in_money_needs_prices(open_journal):
    with pytest.raises(ValueError, match=r"prices\.solver\.input"):
        open_journal(budget=Budget(usd=1)).before(Echo(), "solver")


def test_nothing_is_sent_once_the_budget_is_spent(open_journal):
    journal = open_journal(budget=Budget(tokens=40))  # of 15 tokens each
    echo = Echo(slots=1)
    engine = journal.before(echo, "solver")
    for n in range(3):
        ask(engine, replace(REQUEST, key=(n,)))
    engine.submit(replace(REQUEST, key=(3,)))
    with pytest.raises(BudgetSpent) as spent:
        engine.poll()
    assert len(echo.asked) == 3
    said = "the budget of 40 tokens is spent: 3 requests took 45 tokens"
    assert str(spent.value).startswith(said)
    assert "\n" not in str(spent.value)


def numbered(n: int):
    """A request that is expected to take 2 tokens and at most 5, and takes 10 and 5."""
    return replace(REQUEST, sampling=Sampling(max_new_tokens=5), key=(n,))


def test_requests_under_way_are_awaited_and_kept(open_journal):
    journal = open_journal(budget=Budget(tokens=28))
    echo, other = Echo(slots=1), Echo("other", slots=1)
    engine, second = journal.before(echo, "solver"), journal.before(other, "verifier")
    tickets = [engine.submit(numbered(n)) for n in range(3)]
    second.submit(numbered(4))  # they are expected to take 28 tokens in all
    done = engine.poll() + engine.poll() + engine.poll()
    engine.submit(numbered(9))  # after the budget was spent
    assert [ticket for ticket, _ in done] == tickets
    assert engine.poll() == []  # takes what the other engine has under way
    assert len(second.poll()) == 1
    with pytest.raises(BudgetSpent):
        engine.poll()
    assert open_journal().spending.total.requests == 4


def test_no_more_is_sent_than_the_budget_is_expected_to_cover(open_journal):
    journal = open_journal(budget=Budget(tokens=30))
    echo = Echo(counted=2, asked=3)
    engine = journal.before(echo, "solver")
    tickets = [engine.submit(numbered(n)) for n in range(9)]
    assert len(echo.asked) == 4  # of at most 7 tokens each; they take 5
    assert [ticket for ticket, _ in engine.poll()] == tickets[:4]
    assert len(echo.asked) == 6  # 10 tokens are left, and of replies with 2 tokens 4 are expected
    assert [ticket for ticket, _ in engine.poll()] == tickets[4:6]
    assert journal.spending.total.tokens == 30
    with pytest.raises(BudgetSpent):
        engine.poll()
    assert len(echo.asked) == 6


def test_a_canceled_request_leaves_its_share_of_the_budget(open_journal):
    echo = Echo()
    engine = open_journal(budget=Budget(tokens=7)).before(echo, "solver")
    first, second = engine.submit(numbered(1)), engine.submit(numbered(2))
    echo.runs_in_poll = engine.runs_in_poll = True
    engine.cancel(first)
    assert engine.poll() == []
    assert [ticket for ticket, _ in engine.poll()] == [second]


def test_requests_wait_for_what_another_engine_takes(open_journal):
    journal = open_journal(budget=Budget(tokens=40))
    first, second = Echo("one", counted=1, asked=3), Echo("other")
    engine, waiting = journal.before(first, "solver"), journal.before(second, "verifier")
    for n in range(4):
        engine.submit(numbered(n))  # expected to take 7 each, and take 4
    big = replace(numbered(9), sampling=Sampling(max_new_tokens=20))
    ticket = waiting.submit(big)
    assert not second.asked
    assert waiting.poll() == []
    assert [ticket for ticket, _ in waiting.poll()] == [ticket]
    assert len(engine.poll()) == 4


def test_known_requests_are_answered_without_a_budget(open_journal):
    ask(open_journal().before(Echo(), "solver"))
    engine = open_journal(budget=Budget(tokens=0)).before(Echo(), "solver")
    assert ask(engine).text == "re: 2 + 2?"


def test_a_larger_budget_goes_on(open_journal):
    ask(open_journal(budget=Budget(tokens=15)).before(Echo(), "solver"))
    echo = Echo()
    engine = open_journal(budget=Budget(tokens=16)).before(echo, "solver")
    ask(engine)
    ask(engine, replace(REQUEST, key=(2,)))
    assert len(echo.asked) == 1
    assert engine.submit(replace(REQUEST, key=(3,)))
    with pytest.raises(BudgetSpent):
        engine.poll()


def test_workflows_that_need_nothing_more_end_before_the_budget_ends_the_run(open_journal):
    """Two questions each; the budget is spent when the first workflow has its second answer."""
    journal = open_journal(budget=Budget(tokens=75))

    def workflow(n):
        [first] = yield [Generate(user(f"first {n}"))]
        [second] = yield [Generate(user(f"second {n}"))]
        return first.text + second.text

    echo = Echo(slots=1)
    executors = Executors({"default": journal.before(echo, "default")}, {"default": Sampling()})
    jobs = (
        Job(workflow(n), owner="agent", about=str(n), key=(n,), roles=("solver",), subject=n)
        for n in range(10)
    )
    ended = []
    with pytest.raises(BudgetSpent):
        ended.extend(item.value for item in Scheduler(executors, window=3).run(jobs))
    assert len(echo.asked) <= 5 + 3  # what was paid for, and what was under way
    assert journal.spending.total.requests == len(echo.asked)
    assert len(ended) == sum(text.startswith("second") for text in echo.asked)


def test_the_budget_is_exceeded_by_no_more_than_what_is_under_way(open_journal):
    for slots in (1, 2, 7):
        journal = open_journal(budget=Budget(tokens=15 * 20 * slots))
        echo = Echo(slots=slots)
        engine = journal.before(echo, "solver")
        window = 5
        with suppress(BudgetSpent):
            n = 0
            while True:
                while engine.busy < window:
                    engine.submit(replace(REQUEST, key=(slots, n := n + 1)))
                engine.poll()
        limit = journal.budget.tokens
        assert limit <= journal.spending.total.tokens <= limit + 15 * window
