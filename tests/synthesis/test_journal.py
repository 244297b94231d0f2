"""Answered requests are answered from the file, and a budget ends the run."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest

from slm_math.engines.base import Engine, EngineError, Request
from slm_math.rollout.scheduler import Executors, Job, Scheduler
from slm_math.synthesis.cost import Budget, BudgetSpent, Price, Spent
from slm_math.synthesis.journal import Journal
from slm_math.types import Generate, Image, Reply, Sampling, Text, assistant, user


class Echo(Engine):
    """Repeats the question as soon as it is polled, `slots` requests at a time."""

    def __init__(self, name: str = "echo", slots: int = 100, **reply: object) -> None:
        self.name, self.slots, self.reply = name, slots, reply
        self.asked: list[str] = []
        self.canceled: list[int] = []
        self.closed = False
        self._open: dict[int, str] = {}

    def submit(self, request: Request) -> int:
        self.asked.append(request.chat[-1].text)
        self._open[len(self.asked)] = self.asked[-1]
        return len(self.asked)

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        done = list(self._open.items())[: self.slots]
        for ticket, _ in done:
            del self._open[ticket]
        counts = {"asked": 10, "counted": 5, "model": "m"} | self.reply
        return [
            (ticket, EngineError("no") if text == "bad" else Reply(f"re: {text}", **counts))
            for ticket, text in done
        ]

    def cancel(self, ticket: int) -> None:
        self.canceled.append(ticket)
        self._open.pop(ticket, None)

    @property
    def busy(self) -> int:
        return len(self._open)

    def identity(self) -> dict:
        return {"engine": self.name}

    def usage(self) -> dict:
        return {"steps": 3}

    def close(self) -> None:
        self.closed = True


REQUEST = Request(user("2 + 2?"), Sampling(), key=("cot", 0, "p/1", 1), role="solver")


@pytest.fixture
def open_journal(tmp_path):
    opened = []

    def start(prices=None, budget=None) -> Journal:
        for journal in opened:
            journal.close()
        opened.append(Journal(tmp_path / "journal.jsonl", prices or {}, budget))
        return opened[-1]

    yield start
    for journal in opened:
        journal.close()


def ask(engine: Engine, request: Request = REQUEST) -> Reply | EngineError:
    ticket = engine.submit(request)
    [(done, result)] = engine.poll()
    assert done == ticket
    assert engine.busy == 0
    return result


def test_an_answered_request_is_answered_from_the_file(open_journal):
    first, second = Echo(), Echo()
    reply = ask(open_journal().before(first, "solver"))
    assert ask(open_journal().before(second, "solver")) == reply
    assert reply == Reply("re: 2 + 2?", asked=10, counted=5, model="m")
    assert (first.asked, second.asked) == (["2 + 2?"], [])


def test_within_a_run_too(open_journal):
    echo = Echo()
    engine = open_journal().before(echo, "solver")
    assert ask(engine) == ask(engine)
    assert len(echo.asked) == 1


def test_what_is_known_comes_with_a_later_poll(open_journal):
    engine = open_journal().before(Echo(), "solver")
    ask(engine)
    ticket = engine.submit(REQUEST)
    assert engine.busy == 1
    assert [done for done, _ in engine.poll()] == [ticket]


def picture(folder, name: str, data: bytes) -> Request:
    path = folder / name
    path.write_bytes(data)
    return replace(REQUEST, chat=user("2 + 2?", [Image(str(path))]))


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, chat=user("2 + 3?")),
        replace(REQUEST, chat=user("2 + 2?") + assistant("4")),
        replace(REQUEST, key=("cot", 0, "p/1", 2)),
        replace(REQUEST, key=("cot", 0, "p/1", "1")),
        replace(REQUEST, role="verifier"),
        replace(REQUEST, sampling=Sampling(temperature=0.5)),
        replace(REQUEST, sampling=Sampling(stop=("a", "b"))),
        replace(REQUEST, resume=True),
    ],
)
def test_another_request_is_asked(open_journal, other):
    echo = Echo()
    engine = open_journal().before(echo, "solver")
    ask(engine)
    ask(engine, other)
    assert len(echo.asked) == 2


def test_another_engine_is_asked(open_journal):
    journal, other = open_journal(), Echo("other")
    ask(journal.before(Echo(), "solver"))
    ask(journal.before(other, "solver"))
    assert len(other.asked) == 1


def test_images_are_told_apart_by_what_they_show(open_journal, tmp_path):
    echo = Echo()
    engine = open_journal().before(echo, "solver")
    ask(engine, picture(tmp_path, "a.png", b"one"))
    ask(engine, picture(tmp_path, "b.png", b"one"))
    assert len(echo.asked) == 1
    ask(engine, picture(tmp_path, "a.png", b"two"))
    assert len(echo.asked) == 2


def test_it_does_not_matter_who_wrote_a_text(open_journal):
    echo = Echo()
    engine = open_journal().before(echo, "solver")
    for parts in ((Reply("ab"),), (Text("a"), Text("b", learn=False)), (Reply("a"), Text("b"))):
        ask(engine, replace(REQUEST, chat=user("?") + assistant(*parts)))
    assert len(echo.asked) == 1


def test_errors_are_asked_again(open_journal):
    bad = replace(REQUEST, chat=user("bad"))
    assert isinstance(ask(open_journal().before(Echo(), "solver"), bad), EngineError)
    echo = Echo()
    ask(open_journal().before(echo, "solver"), bad)
    assert echo.asked == ["bad"]


def test_token_ids_are_left_out_of_every_session(open_journal):
    echo = Echo(token_ids=(1, 2, 3), logprobs=(0.0, -1.0, -2.0), prompt_ids=(4, 5), counted=0)
    engine = open_journal().before(echo, "solver")
    reply = ask(engine)
    assert ask(engine) == reply == Reply("re: 2 + 2?", asked=2, counted=3, model="m")
    assert engine.refuse_training("solver")


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


def test_requests_under_way_are_awaited_and_kept(open_journal):
    journal = open_journal(budget=Budget(tokens=15))
    echo, other = Echo(slots=1), Echo("other", slots=1)
    engine, second = journal.before(echo, "solver"), journal.before(other, "verifier")
    tickets = [engine.submit(replace(REQUEST, key=(n,))) for n in range(3)]
    second.submit(REQUEST)
    done = engine.poll()
    engine.submit(replace(REQUEST, key=(9,)))  # after the budget was spent
    done += engine.poll() + engine.poll()
    assert [ticket for ticket, _ in done] == tickets
    assert engine.poll() == []  # the other engine has a request under way
    assert len(second.poll()) == 1
    with pytest.raises(BudgetSpent):
        engine.poll()
    assert open_journal().spending.total.requests == 4


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


def test_one_engine_for_several_roles(open_journal):
    journal, echo = open_journal(), Echo()
    one, other = journal.before(echo, "solver"), journal.before(echo, "verifier")
    tickets = {one.submit(REQUEST), other.submit(replace(REQUEST, role="verifier"))}
    assert {ticket for ticket, _ in one.poll() + other.poll()} == tickets


def test_a_canceled_request_is_never_returned_but_kept_if_it_was_answered(open_journal):
    journal, echo = open_journal(), Echo()
    engine = journal.before(echo, "solver")
    engine.cancel(engine.submit(REQUEST))
    assert engine.poll() == []
    assert journal.spending.total.requests == 1


def test_a_canceled_request_under_way_is_canceled(open_journal):
    echo = Echo(slots=0)
    engine = open_journal().before(echo, "solver")
    engine.cancel(engine.submit(REQUEST))
    assert echo.canceled == [1]
    assert engine.busy == 0


def test_the_rest_is_the_engines(open_journal):
    echo = Echo()
    engine = open_journal().before(echo, "solver")
    assert (engine.identity(), engine.usage()) == (echo.identity(), echo.usage())
    engine.close()
    assert echo.closed


def test_an_incomplete_last_line_is_removed(open_journal, tmp_path):
    engine = open_journal().before(Echo(), "solver")
    ask(engine)
    ask(engine, replace(REQUEST, key=(2,)))
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    echo = Echo()
    engine = open_journal().before(echo, "solver")
    ask(engine)
    ask(engine, replace(REQUEST, key=(2,)))
    assert len(echo.asked) == 1
    assert path.read_bytes() == whole


@pytest.mark.parametrize("rest", [b"", b'{"jour'])
def test_a_file_killed_at_its_beginning_is_a_new_one(open_journal, tmp_path, rest):
    (tmp_path / "journal.jsonl").write_bytes(rest)
    ask(open_journal().before(Echo(), "solver"))
    assert open_journal().spending.total.requests == 1


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"question": "?"}\n', "line 1"),
        (b'{"journal": 1}\n{"text": "?"}\n', "line 2"),
        (b'{"journal": 1}\n{"digest": "ab", "text": "?"}\n', "line 2"),
        (b'{"journal": 1}\n[1]\n', "line 2"),
        (b'{"journal": 1}\nnothing\n', "line 2"),
        (b'{"journal": 2}\n', "line 1"),
    ],
)
def test_another_file_is_refused_and_stays(open_journal, tmp_path, data, says):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"journal\.jsonl, {says}"):
        open_journal()
    assert path.read_bytes() == data


def test_a_file_has_one_writer(open_journal, tmp_path):
    journal = open_journal()
    with pytest.raises(ValueError, match="another process"):
        Journal(tmp_path / "journal.jsonl", {})
    journal.close()
    Journal(tmp_path / "journal.jsonl", {}).close()


def test_odd_texts_come_back(open_journal):
    text = 'a "quote"\n\u2028 \x00 \ud800 é 数'
    request = replace(REQUEST, chat=user(text))
    ask(open_journal().before(Echo(), "solver"), request)
    assert ask(open_journal().before(Echo(), "solver"), request).text == f"re: {text}"


def test_long_replies_come_back(open_journal):
    request = replace(REQUEST, chat=user("x" * 300_000))
    ask(open_journal().before(Echo(), "solver"), request)
    assert ask(open_journal().before(Echo(), "solver"), request).text == f"re: {'x' * 300_000}"


def test_the_file_holds_no_secrets_and_no_prompts(open_journal, tmp_path):
    ask(open_journal().before(Echo(), "solver"))
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert set(json.loads(lines[1])) == {
        *("digest", "role", "text", "finish", "asked", "tokens", "estimated", "usd"),
        *("seconds", "temperature", "model", "version", "prompt"),
    }


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
